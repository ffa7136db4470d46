"""What the commands index and ask, called from Python; the commands are in tests/cli."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models, search
from tupelo.errors import InputError
from tupelo.recipes import indexing, using


@pytest.fixture
def opened(tmp_path):
    torch.manual_seed(0)
    frame = {"height": 16, "width": 16, "channels": 3, "resize": "crop"}
    made = models.embedder("convnet", dim=8, size=16, channels=3)
    return using.open_run(models.save(made, tmp_path / "run", about={"pictures": frame}))


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_paths_lead_from_here_to_the_files(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("shop/red/a.png", "shop/red/b.png", "shop/blue/a.png", "loose/c.png")
    for number, name in enumerate(names):
        write(tmp_path / name, number)
    items, bad = indexing.items_from(opened, "./shop/../shop")
    assert sorted(items.paths) == ["shop/blue/a.png", "shop/red/a.png", "shop/red/b.png"]
    assert dict(zip(items.paths, items.labels, strict=True))["shop/red/b.png"] == "red"
    assert [each.path for each in bad] == []
    with (tmp_path / "shop/list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["red/a.png", "x"], ["blue/a.png", "y"]])
    listed, _ = indexing.items_from(opened, "shop/list.csv")
    assert list(listed.paths) == ["shop/red/a.png", "shop/blue/a.png"]
    loose, _ = indexing.items_from(opened, "loose")
    assert (list(loose.paths), list(loose.labels)) == (["loose/c.png"], [""])


def test_thumbnails_are_small_jpegs(opened, tmp_path):
    write(tmp_path / "a/x.png", 0)
    items, _ = indexing.items_from(opened, str(tmp_path / "a"))
    assert items.thumbnails[0][:2] == b"\xff\xd8"
    assert indexing.items_from(opened, str(tmp_path / "a"), thumbnails=False)[0].thumbnails == ()


def test_pictures_files_and_folders_are_asked_together(opened, tmp_path):
    for name in ("q/red/a.png", "q/blue/b.png", "one.png"):
        write(tmp_path / name, len(name))
    given = [str(tmp_path / "q"), str(tmp_path / "one.png")]
    asked = indexing.pictures(opened, given)
    assert asked.names[0] == str(tmp_path / "one.png")  # files first
    assert sorted(asked.labels) == ["", "blue", "red"]
    assert asked.vectors.shape == (3, 8)
    index = search.build(tmp_path / "index", indexing.items_from(opened, given[0])[0])
    found = indexing.search(index, asked, 1)
    assert [each.labels[0] for each in found[1:]] == list(asked.labels[1:])
    assert indexing.sheet(index, asked, found).height > 3 * 112


def test_rows_of_a_file_that_could_run_code_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot be read as .npy or .npz"):
        indexing.vectors(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", z=np.ones((2, 3)), paths=np.array(["x"]))
    assert indexing.vectors(tmp_path / "b.npz").names == ["row 0", "row 1"]


def test_a_pattern_without_items_is_refused(tmp_path):
    index = search.build(tmp_path / "i", search.Items(np.eye(2), ["a/1.png", "b/1.png"]))
    assert indexing.matching(index, ["*/1.png", "a/*"]) == ["a/1.png", "b/1.png"]
    with pytest.raises(InputError, match=r"no item's path matches 'c/.*'; the first ones are 'a/1"):
        indexing.matching(index, ["a/*", "c/*"])
