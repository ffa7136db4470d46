import shutil

import pytest

from tupelo.data import images, known
from tupelo.errors import DataError, InputError


def test_alphabets_are_groups(made):
    data = known("omniglot", root=made("omniglot").root, validation=0.3)
    assert {name.split("/")[0] for name in data.test.class_names} == {"Ge", "Oj"}
    assert len({name.split("/")[0] for name in data.val.class_names}) == 1
    assert data.test.n_classes == 4
    assert len(data.test) == 80
    assert data.test.channels == 1
    assert data.test.class_names[0] == "Ge/character01"
    assert data.test.paths[0] == "images_evaluation/Ge/character01/0001_01.png"


def test_alphabets_as_labels(made):
    data = known("omniglot", root=made("omniglot").root, labels="alphabet", validation=0)
    assert data.train.class_names == ("Greek", "Latin", "Runes")
    assert data.test.class_names == ("Ge", "Oj")
    with pytest.raises(InputError, match='labels must be "class" or "alphabet" for omniglot'):
        images(made("omniglot").folder, labels="drawer")


def test_one_half_alone_is_refused(made):
    tree = made("omniglot", "omniglot-py")
    shutil.rmtree(tree.folder / "images_evaluation")
    with pytest.raises(DataError, match=r"unpack images_evaluation.zip of Omniglot beside"):
        known("omniglot", root=tree.root)
