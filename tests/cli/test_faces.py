"""`tupelo faces evaluate` on made-up protocols, with a run and with files of features."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data.decode import Frame

from .conftest import said, tupelo


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "faces"
    about = {"pictures": Frame(16, 16, 3)._asdict()}
    models.save(models.embedder("convnet", dim=8, size=16), folder / "model", about=about)
    return folder


@pytest.fixture(scope="module")
def lfw(tmp_path_factory):
    """Eight people of three pictures, a list of two folds and one of one fold."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = []
    for fold in range(2):
        people = [f"P{fold}{number}" for number in range(4)]
        for person in people:
            (root / "lfw" / person).mkdir(parents=True)
            colour = rng.integers(0, 200, 3)
            for number in (1, 2, 3):
                pixels = (colour + rng.integers(0, 55, (16, 16, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(root / "lfw" / person / f"{person}_000{number}.jpg")
        lines += [f"{person}\t1\t{number}" for person in people for number in (2, 3)]
        lines += [
            f"{a}\t{n}\t{b}\t1"
            for n in (1, 2)
            for a, b in zip(people, people[1:] + people[:1], strict=True)
        ]
    (root / "lfw" / "pairs.txt").write_text("\n".join(["2\t8", *lines]) + "\n")
    (root / "lfw" / "dev.txt").write_text("\n".join(["8", *lines[:16]]) + "\n")
    (root / "lfw" / "other.txt").write_text("\n".join(["8", *lines[16:]]) + "\n")
    return root


def test_lfw_of_a_run(run, lfw, monkeypatch):
    monkeypatch.setenv("TUPELO_DATA", str(lfw))
    result = tupelo("faces", "evaluate", "lfw", run)
    assert result.exit_code == 0, result.output
    told = json.loads((run / "evaluated" / "lfw.json").read_text())
    assert f"{100 * told['accuracy']:.2f} ± {100 * told['standard_error']:.2f} %" in said(result)
    assert "32 pairs in 2 folds, 24 pictures" in said(result)
    assert "not measurable at FAR 0.01" in said(result)
    assert (told["flip"], told["center"], told["folds"]) == (True, False, 2)
    assert "LFW verification" in (run / "evaluated" / "lfw.html").read_text()
    other = tupelo("faces", "evaluate", "lfw", run, "--no-flip", "--center", "--json", "--out",
                   run / "b.json")  # fmt: skip
    assert other.exit_code == 0, other.output
    told = json.loads((run / "b.json").read_text())
    assert (told["flip"], told["center"]) == (False, True)


def test_features_of_tupelo_embed_will_do(run, lfw, tmp_path):
    file = tmp_path / "faces.npz"
    assert tupelo("embed", run, lfw / "lfw", "--out", file).exit_code == 0
    place = lfw / "lfw"
    options = ["--pairs", place / "pairs.txt"]
    result = tupelo("faces", "evaluate", "lfw", "--features", file, *options)
    assert result.exit_code == 0, result.output
    again = tupelo("faces", "evaluate", "lfw", run, "--pictures", place, "--no-flip", "--out",
                   tmp_path / "run.json", *options)  # fmt: skip
    assert again.exit_code == 0, again.output
    one, other = (
        json.loads((tmp_path / name).read_text()) for name in ("faces-lfw.json", "run.json")
    )
    assert one["per_fold"] == other["per_fold"]
    assert one["auc"] == pytest.approx(other["auc"])
    assert (tmp_path / "faces-lfw.html").is_file()
    dev = tupelo("faces", "evaluate", "lfw", "--features", file, "--pairs", place / "dev.txt",
                 "--threshold-pairs", place / "other.txt")  # fmt: skip
    assert dev.exit_code == 0, dev.output
    assert "at threshold" in said(dev)
    alone = tupelo("faces", "evaluate", "lfw", "--features", file, "--pairs", place / "dev.txt")
    assert "the threshold was chosen on these very pairs" in said(alone)


def test_ytf(run, tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for fold in (1, 2):
        for person in range(3):
            for video in (0, 1):
                folder = tmp_path / "db" / f"P{fold}{person}" / str(video)
                folder.mkdir(parents=True)
                for frame in range(4):
                    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"0.{frame}.jpg")
            lines.append(f"{fold}, P{fold}{person}/0, P{fold}{person}/1, 1")
            lines.append(f"{fold}, P{fold}{person}/0, P{fold}{(person + 1) % 3}/1, 0")
    (tmp_path / "splits.txt").write_text("\n".join(lines) + "\n")
    for score in ("mean", "pairs"):
        result = tupelo("faces", "evaluate", "ytf", run, "--pictures", tmp_path / "db", "--frames",
                        3, "--score", score)  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "12 pairs in 2 folds, 12 videos" in said(result)
        told = json.loads((run / "evaluated" / "ytf.json").read_text())
        assert (told["frames"], told["score"]) == (36, score)
    wrong = tupelo("faces", "evaluate", "ytf", run, "--pictures", tmp_path / "db", "--score", "max")
    assert wrong.exit_code == 2
    assert "--score must be mean or pairs, got max" in said(wrong)


def test_ijba(tmp_path):
    rng = np.random.default_rng(0)
    heading = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID"
    names, gallery, probes = [], [], []
    for subject in range(6):
        for template in range(3):
            name = f"img/{subject}{template}.jpg"
            names.append(name)
            line = f"{10 * subject + template},{subject},{name},{len(names)}"
            if template:
                probes.append(line)
            elif subject < 4:
                gallery.append(line)
    place = tmp_path / "tables" / "split1"
    place.mkdir(parents=True)
    (place / "search_gallery_1.csv").write_text("\n".join([heading, *gallery]))
    (place / "search_probe_1.csv").write_text("\n".join([heading, *probes]))
    (place / "verify_metadata_1.csv").write_text("\n".join([heading, *gallery, *probes]))
    (place / "verify_comparisons_1.csv").write_text("0,1\n0,11\n1,12\n10,12\n1,22\n")
    z = np.repeat(rng.normal(size=(6, 8)), 3, axis=0) + rng.normal(scale=0.3, size=(18, 8))
    np.savez(tmp_path / "t.npz", z=z, paths=np.array(names))
    (tmp_path / "none.txt").write_text("img/51.jpg\n")
    result = tupelo("faces", "evaluate", "ijba", "--features", tmp_path / "t.npz", "--tables",
                    tmp_path / "tables", "--undetected", tmp_path / "none.txt", "--max-rank", 3,
                    "--score", "softmax")  # fmt: skip
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "1:1 1 splits, 5 pairs of templates" in text
    assert "TAR at FAR 0.1 not measurable" in text
    assert "(rank 3 at most)" in text
    assert "failures to enrol: 2 templates" in text
    told = json.loads((tmp_path / "t-ijba.json").read_text())
    assert told["identification"]["cmc"]["1"]["mean"] == 1.0
    assert "IJB-A" in (tmp_path / "t-ijba.html").read_text()


def test_refusals_are_one_panel_with_exit_code_2(run, lfw, tmp_path, monkeypatch):
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    np.savez(tmp_path / "f.npz", z=np.eye(2), paths=np.array(["a", "b"]))
    features = ["--features", tmp_path / "f.npz"]
    pairs = ["--pairs", lfw / "lfw" / "pairs.txt"]
    (tmp_path / "empty").mkdir()
    for words, message in [
        (["lfw"], "give RUN or --features FILE, one of them"),
        (["lfw", run, *features], "give RUN or --features FILE, one of them"),
        (["lfw", run], "give --pictures, or set TUPELO_DATA to the folder that holds lfw/"),
        (["lfw", *features], "give --pairs, or set TUPELO_DATA"),
        (["lfw", *features, *pairs], "lacks 24 of 24 pictures of the protocol"),
        (["lfw", *features, *pairs, "--out", tmp_path], "--out must be a file, got the folder"),
        (["lfw", *features, *pairs, "--out", "a.html"], "must be two files, got a.html for both"),
        (["lfw", run, "--pictures", tmp_path], "no pairs.txt lies beside"),
        (["ytf", *features], "--features needs --splits, the list of pairs"),
        (["ytf", run, "--splits", "splits.txt"], "RUN needs --pictures, the folder or zip"),
        (["ijba", *features, "--tables", tmp_path / "empty"], "holds no split of IJB-A"),
        (["ijba", *features, "--tables", tmp_path, "--crop"], "--crop cuts whole pictures, so it"),
    ]:  # fmt: skip
        result = tupelo("faces", "evaluate", *words)
        assert result.exit_code == 2, (words, result.output)
        assert message in said(result), (words, said(result))
    monkeypatch.setenv("TUPELO_DATA", str(tmp_path))
    assert "is not there; give --pictures" in said(tupelo("faces", "evaluate", "lfw", run))
