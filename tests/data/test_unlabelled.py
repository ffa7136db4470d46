"""Pictures that are only embedded: one file, a folder without class folders, all as one part."""

import numpy as np
import pytest

from tupelo.data import images
from tupelo.errors import DataError, InputError

from .conftest import png


@pytest.fixture
def loose(tmp_path):
    folder = tmp_path / "loose"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_of_loose_pictures_has_one_nameless_class(loose):
    data = images(loose, labels="any", split="none")
    assert data.train.paths == ("0.png", "1.png", "2.png")
    assert data.train.class_names == ("",)
    assert data.train.labels.tolist() == [0, 0, 0]
    assert data.validation is data.test is data.gallery is None


def test_one_picture(loose):
    data = images(loose / "1.png", labels="any", split="none")
    assert data.train.paths == ("1.png",)
    assert data.train.batch([0]).images.shape == (1, 3, 10, 12)


def test_class_folders_are_classes_also_for_any(tree):
    data = images(tree({"a": 1, "b": 2}), labels="any", split="none")
    assert data.train.class_names == ("a", "b")
    assert np.bincount(data.train.labels).tolist() == [1, 2]


def test_training_still_needs_class_folders(loose):
    with pytest.raises(DataError, match="holds no class folders with pictures"):
        images(loose)
    with pytest.raises(DataError, match=r"1\.png is not a folder"):
        images(loose / "1.png")


def test_any_is_no_way_around_an_unknown_source(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"a\.txt is not a folder"):
        images(tmp_path / "a.txt", labels="any")
    with pytest.raises(InputError, match="labels='words' is for Omniglot only"):
        images(tmp_path, labels="words")


def test_the_form_of_the_pictures_is_told_and_kept(tree):
    data = images(tree({"a": 2, "b": 2}), split="none", size=(8, 6), resize="pad", channels=1)
    assert tuple(data.train.frame) == (8, 6, 1, "pad")
    assert data.train.subset([0, 3]).frame == data.train.frame
    assert data.train.relabelled(["x", "y", "x", "y"]).frame == data.train.frame
