"""`tupelo datasets`, as a user types it, on small made-up trees."""

import csv
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tupelo.cli import app

needs_data = pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set")


def tupelo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    """Output as one line, without the borders of panels."""
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def omniglot(tmp_path) -> Path:
    """A folder of data sets with an Omniglot of a few characters."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for half, alphabet in (("images_background", "Greek"), ("images_evaluation", "Oj")):
        for character in ("character01", "character02"):
            folder = root / "omniglot" / half / alphabet / character
            folder.mkdir(parents=True)
            for drawer in range(1, 21):
                pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{drawer:04}.png")
    return root


def test_list_shows_all_and_what_is_here(omniglot, monkeypatch):
    result = tupelo("datasets", "list", "--root", omniglot)
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.split()}
    for name in ("cub200", "cars196", "sop", "inshop", "vehicleid", "market1501", "lfw", "mnist"):
        assert lines[name].rstrip().endswith(" -")
    assert lines["omniglot"].split()[1:] == [
        "32,460",
        "1,623",
        "train",
        "/",
        "test",
        "MIT",
        "official",
    ]
    assert lines["inshop"].split()[1:3] == ["52,712", "7,982"]
    assert lines["vehicleid"].split()[1:4] == ["110,178", "+", "15,534"]
    assert lines["mnist"].split()[1:3] == ["70,000", "10"]
    monkeypatch.setenv("TUPELO_DATA", str(omniglot))
    assert tupelo("datasets", "list").output == result.output


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "cub200",
            [
                "train 5,864 100", "test 5,924 100", "Recall@1, 2, 4, 8", "bounding_boxes.txt",
                "tupelo datasets prepare cub200 --download", "CNS-TR-2011-001",
                "non-commercial research", 'tp.data.known("cub200")', "train 3,428 58",
            ],
        ),
        ("vehicleid", ["13,134 (or 113,346 of 13,164)", "not offered as plain files", "seed"]),
        ("inshop", ["gallery 12,612 3,985", "Eval/list_eval_partition.txt", "an agreement"]),
    ],
)  # fmt: skip
def test_info_tells_everything(name, texts):
    result = tupelo("datasets", "info", name)
    assert result.exit_code == 0, result.output
    for text in texts:
        assert text in said(result)


def test_an_unknown_name():
    result = tupelo("datasets", "info", "imagenet")
    assert result.exit_code == 2
    assert "name must be one of cub200, cars196" in said(result)


def test_check_explains_file_by_file(omniglot, tmp_path):
    (omniglot / "omniglot/images_evaluation/Oj/character01/0003.png").unlink()
    (omniglot / "omniglot/images_evaluation/Oj/character02/0004.png").write_bytes(b"")
    out = tmp_path / "found.csv"
    result = tupelo("datasets", "check", "omniglot", "--root", omniglot, "--out", out)
    assert result.exit_code == 1
    text = said(result)
    assert "omniglot, official, in" in text
    assert "train 40 40 2 19,280 of 964" in text
    assert "test 39 38 2 13,180 of 659" in text
    assert "test: the list names 39 pictures, 38 are here; 1 missing or empty" in text
    assert "images_evaluation/Oj/character01: 19 drawings, 20 belong to each character" in text
    assert "images_evaluation/Oj/character02/0004.png: has no content" in text
    assert (
        f"unpack the archive again: tupelo datasets prepare omniglot --root {omniglot}"[:60] in text
    )
    assert "not in order: 5 findings" in text
    with out.open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 5


def test_only_the_first_twenty_are_shown(omniglot):
    for path in (omniglot / "omniglot/images_background/Greek").rglob("*.png"):
        path.write_bytes(b"")
    result = tupelo("datasets", "check", "omniglot", "--root", omniglot)
    assert result.exit_code == 1
    assert said(result).count("has no content") == 17
    assert "23 more; --out FILE lists all" in said(result)


def test_check_without_anything(tmp_path):
    result = tupelo("datasets", "check", "market1501", "--root", tmp_path)
    assert result.exit_code == 1
    assert "Market-1501 is not recognised in" in said(result)
    assert "tupelo datasets info market1501 says what it looks like" in said(result)


def test_prepare_unpacks_and_checks(omniglot):
    for half in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(omniglot / f"{half}.zip", "w") as archive:
            archive.writestr(f"{half}/x/y/z.png", b"")
    result = tupelo("datasets", "prepare", "omniglot", "--root", omniglot)
    assert result.exit_code == 2, "these are not the published archives"
    assert "is not the published file: its md5 is" in said(result)  # a long path is broken


def test_prepare_says_where_to_get_it(tmp_path):
    result = tupelo("datasets", "prepare", "inshop", "--root", tmp_path)
    assert result.exit_code == 1
    text = said(result)
    assert "is got from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion" in text
    assert "terms non-commercial research and education only; an agreement must be sent" in text
    assert "put img.zip into" in text
    assert "put list_eval_partition.txt into" in text
    assert "--download" not in text
    result = tupelo("datasets", "prepare", "inshop", "--root", tmp_path, "--download")
    assert result.exit_code == 2
    assert "is not offered as plain files; get it from" in said(result)


def test_training_reads_a_known_source(omniglot, tmp_path, monkeypatch):
    monkeypatch.setenv("TUPELO_DATA", str(omniglot))
    result = tupelo(
        "train", "known:omniglot", "--out", tmp_path / "run", "--steps", "1", "--classes", "2",
        "--per-class", "2", "--dim", "4", "--validation", "0", "--no-tensorboard",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "test 40 2 20" in said(result)


def test_a_gallery_is_shown_and_searched(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder = tmp_path / "market1501"
    for place, people, number in (
        ("bounding_box_train", ("0002", "0007", "0010"), 4),
        ("query", ("0001", "0003"), 1),
        ("bounding_box_test", ("0000", "0001", "0003"), 2),
    ):
        (folder / place).mkdir(parents=True)
        for person in people:
            for camera in range(1, number + 1):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                name = f"{person}_c{camera}s1_000451_0{len(place) % 7}.jpg"
                Image.fromarray(pixels).save(folder / place / name)
    result = tupelo(
        "train", folder, "--out", tmp_path / "run", "--steps", "1", "--classes", "2",
        "--per-class", "2", "--dim", "4", "--validation", "0", "--no-tensorboard",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "gallery 6 4 1 to 2" in text
    assert "each picture searches the 6 of the gallery" in text
    assert "note Market-1501: 0 junk boxes are left out, 2 distractors are in the gallery" in text


@needs_data
@pytest.mark.data
def test_real_data_by_its_names():
    for name in ("mnist", "cub200", "orl_faces"):
        result = tupelo("datasets", "check", name)
        assert result.exit_code == 0, result.output
        assert "in order" in result.output
