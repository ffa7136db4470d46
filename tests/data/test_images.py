import csv
import os
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from tupelo.data import images
from tupelo.data.images import write_bad_items
from tupelo.data.listing import BadItem
from tupelo.errors import DataError, InputError

from .conftest import encode, noise, png

SIX = dict.fromkeys("abcdef", 4)


def parts(data):
    return [part for part in (data.train, data.val, data.test) if part is not None]


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def zipped(root, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root.parent))
    return target


def test_a_folder_of_class_folders(tree):
    data = images(tree(SIX))
    assert [len(part) for part in parts(data)] == [8, 8, 8]
    names = [set(part.class_names) for part in parts(data)]
    assert set.union(*names) == set("abcdef")
    assert sum(map(len, names)) == 6, "no class in two parts"
    for part in parts(data):
        assert part.size == (10, 12)
        assert part.channels == 3
        assert part.in_memory
        assert np.unique(part.labels).tolist() == list(range(part.n_classes))
        assert all(
            path.startswith(f"{part.class_names[label]}/")
            for path, label in zip(part.paths, part.labels, strict=True)
        )
    items = np.concatenate([part.items for part in parts(data)])
    assert len(set(items.tolist())) == 24
    assert data.bad == ()


def test_pixels_belong_to_their_paths(tree):
    root = tree(SIX)
    data = images(root)
    for part in parts(data):
        batch = part.batch([3, 0])
        for row, picture in zip([3, 0], batch.images, strict=True):
            expected = np.asarray(Image.open(root / part.paths[row])).transpose(2, 0, 1)
            assert np.array_equal((picture * 255).round().numpy(), expected)
        assert batch.items.tolist() == [part.items[3], part.items[0]]


def test_a_zip_reads_as_its_folder(tree, tmp_path):
    root = tree(SIX)
    folder, archive = images(root), images(zipped(root, tmp_path / "set.zip"))
    for one, two in zip(parts(folder), parts(archive), strict=True):
        assert one.class_names == two.class_names
        assert two.paths == tuple(f"set/{path}" for path in one.paths)
        assert one.batch(range(8)).images.equal(two.batch(range(8)).images)


def test_on_demand_reads_as_memory(tree, tmp_path):
    root = tree(SIX)
    held = images(root)
    for source in (root, zipped(root, tmp_path / "set.zip")):
        lazy = images(source, memory_bytes=0)
        assert not lazy.train.in_memory
        assert lazy.train.memory_bytes == 0
        assert lazy.train.batch([5, 1]).images.equal(held.train.batch([5, 1]).images)


def test_a_file_that_vanishes_names_itself(tree):
    root = tree(SIX)
    data = images(root, memory_bytes=0)
    (root / data.train.paths[2]).unlink()
    with pytest.raises(DataError, match=rf"{data.train.paths[2]} could be read.*file not found"):
        data.train.batch([0, 2])


def test_unicode_nested_hidden_empty_and_single(tree):
    root = tree({"größe/innen": 2, "日本 x": 3, "single": 1, "größe": 2, "c": 3, "d": 3, "e": 3})
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (root / "c" / ".DS_Store").write_bytes(b"x")
    (root / "README.md").write_text("about")
    data = images(root, validation=0, test=0, split="items")
    assert data.val is None
    assert data.test is None
    assert data.train.class_names == ("c", "d", "e", "größe", "single", "日本 x")
    assert np.bincount(data.train.labels).tolist() == [3, 3, 3, 4, 1, 3]
    assert data.bad == ()


def test_links_are_followed_and_loops_are_not(tree):
    root = tree(SIX)
    (root / "linked").symlink_to(tree(dict.fromkeys("x", 3), where="else", start=90) / "x")
    (root / "a" / "loop").symlink_to(root)
    data = images(root, split="items", validation=0, test=0)
    assert "linked" in data.train.class_names
    assert len(data.train) == 27


def test_one_outer_folder_is_stepped_into(tree):
    data = images(tree(SIX, where="outer/inner").parent)
    assert sum(part.n_classes for part in parts(data)) == 6


def test_picture_beside_the_class_folders_is_reported(tree):
    root = tree(dict.fromkeys("abcdef", 20))
    (root / "stray.png").write_bytes(png(999))
    assert images(root).bad == (BadItem("stray.png", "not in a class folder"),)


def test_train_and_test_folders_are_the_given_split(tree):
    root = tree(SIX, where="set/train")
    tree(dict.fromkeys("xyz", 3), where="set/Test", start=100)
    data = images(root.parent)
    assert data.test.class_names == ("x", "y", "z")
    assert data.val.n_classes == 2
    assert data.train.n_classes == 4


def test_given_validation_folder_is_kept(tree):
    root = tree(SIX, where="set/train").parent
    tree(SIX, where="set/val", start=100)
    data = images(root)
    assert data.test is None
    assert data.train.class_names == data.val.class_names == tuple("abcdef")


def test_query_and_gallery_folders(tree):
    root = tree(SIX, where="set/train").parent
    tree(dict.fromkeys("xyz", 2), where="set/query", start=100)
    tree(dict.fromkeys("wxyz", 3), where="set/gallery", start=200)
    data = images(root)
    assert data.test.class_names == ("x", "y", "z")
    assert data.gallery.class_names == ("w", "x", "y", "z")
    assert len(data.gallery) == 12
    assert {path.split("/")[0] for path in data.gallery.paths} == {"gallery"}
    assert set(data.gallery.items).isdisjoint(data.test.items)
    assert data.train.n_classes + data.val.n_classes == 6


# Bad files.


def spoil(root):
    """One of each kind of bad file in class a."""
    good = (root / "b" / "000.png").read_bytes()
    folder = root / "a"
    (folder / "bomb.png").write_bytes(encode(Image.new("1", (20_000, 20_000))))
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    (folder / "empty.png").write_bytes(b"")
    (folder / "foreign.png").write_bytes(good)
    (folder / "notes.txt").write_text("no picture")
    (folder / "truncated.jpg").write_bytes(encode(noise(7, (64, 64)), "JPEG")[:900])
    (folder / "half.png").write_bytes(png(8, (64, 64))[:2000])
    return {
        "a/bomb.png": "too large: ",
        "a/copy.png": "duplicate: same content as a/000.png",
        "a/empty.png": "empty file",
        "b/000.png": "duplicate with another label: same content as a/foreign.png, which is kept "
        "as a; here b",
        "a/notes.txt": "not an image: ",
        "a/truncated.jpg": "damaged: ",
        "a/half.png": "damaged: ",
    }


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_every_kind_of_bad_file_is_found(tree, tmp_path, form, memory_bytes):
    root = tree(SIX)
    expected = spoil(root)
    source = root if form == "folder" else zipped(root, tmp_path / "set.zip")
    filters = list(warnings.filters)
    data = images(source, allow_bad=0.5, size=8, memory_bytes=memory_bytes)
    assert warnings.filters == filters
    found = {item.path.removeprefix("set/"): item.reason for item in data.bad}
    assert found.keys() == expected.keys()
    for path, reason in expected.items():
        assert found[path].replace("set/", "").startswith(reason)
    assert sum(map(len, parts(data))) == 24  # 24 + 7 - 7
    assert {"a/empty.png", "b/000.png"}.isdisjoint(data.train.paths)


def test_too_many_bad_files_stop(tree, tmp_path):
    root = tree(SIX)
    spoil(root)
    report = tmp_path / "bad_items.csv"
    with pytest.raises(DataError) as caught:
        images(root, bad_items=report)
    message = str(caught.value)
    assert "7 of 31 pictures cannot be used (" in message
    assert "2 damaged" in message
    assert "1 empty file" in message
    assert f"all of them are listed in {report}" in message
    assert "allow_bad=0.23" in message
    assert len(read(report)) == 8
    with pytest.raises(DataError, match=r"pass bad_items='bad_items.csv' to have all of them"):
        images(root)
    images(root, allow_bad=0.23)


def test_nothing_usable(tree):
    root = tree({"a": 0, "b": 0})
    (root / "a" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1 pictures cannot be used"):
        images(root, allow_bad=1.0)


def test_bad_items_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "bad_items.csv"
    write_bad_items([BadItem("ä,\n.png", "empty file")], path)
    assert read(path) == [
        ["path", "reason"],
        ["ä,\n.png", "empty file"],
    ]
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_bad_items([], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_bad_of_data(tree, tmp_path):
    root = tree(SIX)
    spoil(root)
    data = images(root, allow_bad=1.0, size=8)
    data.write_bad(tmp_path / "bad.csv")
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 8


# Form of the pictures.


def test_size_of_mixed_pictures_is_224(tree):
    root = tree(SIX)
    (root / "a" / "large.png").write_bytes(png(500, (30, 20)))
    assert images(root).train.size == (224, 224)
    assert images(root, size=16).train.size == (16, 16)
    assert images(root, size=(8, 6)).train.batch([0]).images.shape == (1, 3, 8, 6)


def test_channels(tree):
    root = tree(SIX)
    for seed, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(png(seed, mode="L"))
    assert images(root).train.channels == 1
    assert images(root, channels=3).train.channels == 3
    (root / "a" / "000.png").write_bytes(png(900))
    assert images(root).train.channels == 3


def test_progress_is_told(tree):
    told = []
    images(tree(SIX), progress=lambda *call: told.append(call))
    assert {stage for stage, _, _ in told} == {"looking", "decoding"}
    assert ("looking", 24, 24) in told
    assert ("decoding", 24, 24) in told


# Refusals.


def test_refusals(tree, tmp_path):
    root = tree(SIX)
    with pytest.raises(DataError, match="nowhere does not exist"):
        images(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"allow_bad must be a share in \[0, 1\], got 2"):
        images(root, allow_bad=2.0)
    with pytest.raises(InputError, match="size must be at least 1 pixel each way, got 0 x 0"):
        images(root, size=0)
    with pytest.raises(InputError, match="labels='alphabet' is for Omniglot only"):
        images(root, labels="alphabet")
    (tmp_path / "x.dat").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x.dat is not a folder, a .zip"):
        images(tmp_path / "x.dat")
    (tmp_path / "x.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x.zip cannot be read as a zip"):
        images(tmp_path / "x.zip")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"holds no class folders with pictures.*found no files"):
        images(tmp_path / "void")


def test_damaged_member_of_a_zip(tree, tmp_path):
    path = zipped(tree(SIX), tmp_path / "set.zip")
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") + 30
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    bad = images(path, allow_bad=0.1).bad
    assert [item.reason[:13] for item in bad] == ["damaged: Bad "]


def test_a_member_that_declares_too_much_is_not_read(tree, tmp_path, monkeypatch):
    path = zipped(tree(SIX), tmp_path / "set.zip")
    monkeypatch.setattr("tupelo.data.pictures.MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match=r"24 of 24 pictures cannot be used.*too large"):
        images(path)
    with pytest.raises(DataError, match=r"24 of 24 pictures cannot be used.*too large"):
        images(tmp_path / "set")
