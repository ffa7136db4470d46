"""`tupelo faces evaluate` on made-up protocols, with a run and with files of features."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data.decode import Frame

from .conftest import said, tupelo
from .protocols import write_protocols


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
    write_protocols(tmp_path)
    place = tmp_path / "aligned_images_DB"
    for score in ("mean", "pairs"):
        result = tupelo("faces", "evaluate", "ytf", run, "--pictures", place, "--frames", 1,
                        "--score", score)  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "12 pairs in 2 folds, 12 videos" in said(result)
        told = json.loads((run / "evaluated" / "ytf.json").read_text())
        assert (told["frames"], told["score"]) == (12, score)
    wrong = tupelo("faces", "evaluate", "ytf", run, "--pictures", place, "--score", "max")
    assert wrong.exit_code == 2
    assert "--score must be mean or pairs, got max" in said(wrong)


def test_ijba(tmp_path):
    write_protocols(tmp_path)
    with np.load(tmp_path / "templates.npz") as held:
        names = held["paths"]
    rng = np.random.default_rng(0)
    z = np.repeat(rng.normal(size=(6, 8)), 3, axis=0) + rng.normal(scale=0.3, size=(18, 8))
    np.savez(tmp_path / "t.npz", z=z, paths=names)
    result = tupelo("faces", "evaluate", "ijba", "--features", tmp_path / "t.npz", "--tables",
                    tmp_path / "ijba", "--undetected", tmp_path / "none.txt", "--max-rank", 3,
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
        (["ytf", *features], "give --splits, the list of pairs, or --pictures"),
        (["ytf", run, "--splits", "splits.txt"], "RUN needs --pictures, the folder or zip"),
        (["ijba", *features, "--tables", tmp_path / "empty"], "holds no split of IJB-A"),
        (["ijba", *features, "--tables", tmp_path, "--crop"], "--crop cuts whole pictures, so it"),
    ]:  # fmt: skip
        result = tupelo("faces", "evaluate", *words)
        assert result.exit_code == 2, (words, result.output)
        assert message in said(result), (words, said(result))
    monkeypatch.setenv("TUPELO_DATA", str(tmp_path))
    assert "is not there; give --pictures" in said(tupelo("faces", "evaluate", "lfw", run))
