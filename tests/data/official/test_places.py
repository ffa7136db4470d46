from pathlib import Path

import pytest

from tupelo.data import images, known
from tupelo.data.official.places import folder_of, locate
from tupelo.errors import DataError, InputError

from .conftest import write


def test_a_known_source(made, monkeypatch):
    tree = made("cub200")
    monkeypatch.setenv("TUPELO_DATA", str(tree.root))
    assert images("known:cub200").test.class_names == ("101.Emu", "200.Fox")
    with pytest.raises(
        DataError, match=r"source sop does not exist; .* TUPELO_DATA is \"known:sop"
    ):
        images("sop")
    with pytest.raises(InputError, match=r"name must be one of cub200, .*, got 'cub'"):
        images("known:cub")
    with pytest.raises(DataError, match=r"sop is not in .*: expected its folder there as sop/, St"):
        images("known:sop")
    monkeypatch.delenv("TUPELO_DATA")
    with pytest.raises(DataError, match="no folder to read sop from: give root=, or set TUPELO"):
        images("known:sop")


def test_the_folder_that_names_are_relative_to(made, monkeypatch, tmp_path):
    tree = made("cub200", where="birds/CUB_200_2011")
    monkeypatch.setenv("TUPELO_DATA", str(tmp_path / "birds"))
    for source in ("known:cub200", tmp_path / "birds", tree.folder):
        assert folder_of(source) == tree.folder
        assert (folder_of(source) / images(source, validation=0).test.paths[0]).is_file()
    assert folder_of(tree.folder / "images") == tree.folder / "images"
    assert folder_of("nowhere/list.csv") == Path("nowhere/list.csv")


def test_a_tree_without_its_mark_is_not_read_as_something_else(made):
    tree = made("cub200")
    (tree.folder / "image_class_labels.txt").unlink()
    with pytest.raises(DataError, match=r"holds no layout of cub200 that is known: `tupelo datase"):
        known("cub200", root=tree.root)


def test_the_official_layout_comes_before_a_compact_form(made):
    tree = made("cub200")
    write(tree.root / "cub200_half" / "cub200_100classes_72.zip", b"never read")
    assert locate("cub200", tree.root).folder == tree.folder
    assert locate("cub200_half", tree.root).layout is None
    assert locate("sop", tree.root) is None


def test_boxes_and_variants_need_an_official_layout(made):
    tree = made("cub200")
    (tree.root / "cub200").rename(tree.root / "elsewhere")
    (tree.root / "elsewhere" / "image_class_labels.txt").unlink()
    write(tree.root / "cub200_half" / "cub200_100classes_72.zip", b"no zip")
    with pytest.raises(InputError, match=r"boxes and variant are for official layouts; .*_half is"):
        known("cub200", root=tree.root, boxes=True)
