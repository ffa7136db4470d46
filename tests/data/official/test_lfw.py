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


def line(row):
    return f"P{row}\t1\t2" if row % 4 < 2 else f"P{row}\t1\tQ{row}\t1"


def test_folds(tmp_path):
    path = tmp_path / "pairs.txt"
    write(path, "\n".join(["3\t2", *map(line, range(12))]) + "\n")
    found = lfw.folds(path)
    assert found.folds.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert found.same.tolist() == [True, True, False, False] * 3
    one, other = found.pairs[6]
    assert (found.names[one], found.names[other]) == ("P6/P6_0001.jpg", "Q6/Q6_0001.jpg")
    assert found.n_folds == 3
    write(path, "\n".join(["6", *(line(row) for row in (0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11))]))
    assert lfw.folds(path).n_folds == 1


def test_folds_of_other_sizes_are_refused(tmp_path):
    path = tmp_path / "pairs.txt"
    write(path, "\n".join(["3\t2", *map(line, range(11))]))
    with pytest.raises(
        DataError, match="must hold 12 pairs, 3 folds of 2 matched and 2 mismatched"
    ):
        lfw.folds(path)
    write(path, "\n".join(["3\t2", *map(line, (1, 2, 3, 4)), *map(line, range(4, 12))]))
    assert lfw.folds(path).n_folds == 3  # in another order, but with the sizes stated
    write(path, "\n".join(["3\t2", *map(line, (0, 1, 4, 2)), *map(line, range(4, 12))]))
    with pytest.raises(DataError, match="fold 1 must hold 2 pairs of the same person and 2 of dif"):
        lfw.folds(path)
    write(path, "\n".join(map(line, range(12))))
    with pytest.raises(DataError, match=r"line 1 must state the number of folds .* it is 'P0 1 2'"):
        lfw.folds(path)
    write(path, "")
    with pytest.raises(DataError, match="line 1 must state"):
        lfw.folds(path)
