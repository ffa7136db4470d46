import shutil

import pytest

from tupelo.data import images, known
from tupelo.data.official import lfw
from tupelo.errors import DataError, InputError

from .conftest import write


def test_people_are_classes_split_by_seed(made):
    data = known("lfw", root=made("lfw").root)
    assert [part.n_classes for part in (data.train, data.val, data.test)] == [2, 2, 2]
    assert data.train.paths[0].startswith("lfw_funneled/")
    names = set(data.train.class_names) | set(data.val.class_names) | set(data.test.class_names)
    assert "Ann_Ace" in names


def test_versions(made):
    tree = made("lfw")
    shutil.copytree(tree.folder / "lfw_funneled", tree.folder / "lfw")
    shutil.rmtree(tree.folder / "lfw" / "Ann_Ace")
    whole = {"split": "none", "root": tree.root}
    assert len(known("lfw", **whole).train) == 13
    assert len(known("lfw", variant="original", **whole).train) == 10
    with pytest.raises(DataError, match="holds no deepfunneled LFW: expected one of lfw, lfw_fun"):
        known("lfw", variant="deepfunneled", **whole)
    with pytest.raises(InputError, match="lfw has original, funneled, deepfunneled"):
        known("lfw", variant="frontal", **whole)


def test_people_directly_in_the_folder(made):
    tree = made("lfw")
    (tree.folder / "lfw_funneled").rename(tree.root / "lfw-people")
    (tree.root / "lfw").rename(tree.root / "lists")
    (tree.root / "lfw-people").rename(tree.root / "lfw")
    data = known("lfw", root=tree.root, split="none")
    assert data.train.paths[0] == "Ann_Ace/Ann_Ace_0001.jpg"
    assert images(tree.root / "lfw", split="none").train.paths[0] == "Ann_Ace/Ann_Ace_0001.jpg"


def test_pairs(made):
    folder = made("lfw").folder
    assert lfw.pairs(folder / "pairs.txt") == [
        ("Ann_Ace/Ann_Ace_0001.jpg", "Ann_Ace/Ann_Ace_0003.jpg", True),
        ("Ann_Ace/Ann_Ace_0002.jpg", "Bob_Bee/Bob_Bee_0001.jpg", False),
    ]
    write(folder / "pairs.txt", "1 1\nAnn_Ace x 3\n")
    with pytest.raises(DataError, match=r"pairs.txt, line 2 is no pair: 'Ann_Ace x 3'"):
        lfw.pairs(folder / "pairs.txt")
