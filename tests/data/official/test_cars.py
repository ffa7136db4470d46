import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tupelo.data import images, known
from tupelo.errors import DataError, InputError

from .conftest import CAR_NAMES, annotations, cars_in_halves


def test_classes_up_to_98_train(made):
    data = known("cars196", root=made("cars196").root)
    assert data.test.class_names == ("099 Car 99 of it", "196 Car 196 of it")
    assert {name[:3] for name in data.train.class_names + data.val.class_names} == {
        "001", "002", "097", "098",
    }  # fmt: skip
    assert data.test.paths[0] == "car_ims/000013.jpg"
    assert len(data.test) == 6


def test_halves_of_the_challenge_are_pooled(made):
    data = known("cars196", root=made("cars196", writer=cars_in_halves).root)
    assert data.test.class_names == ("099 Car 99 of it", "196 Car 196 of it")
    assert {path.split("/")[0] for path in data.test.paths} == {"cars_train", "cars_test"}
    assert len(data.test) == 8


def test_a_copy_that_nests_the_halves(made):
    tree = made("cars196", writer=cars_in_halves)
    for half in ("cars_train", "cars_test"):
        (tree.folder / half).rename(tree.folder / "moved")
        (tree.folder / half).mkdir()
        (tree.folder / "moved").rename(tree.folder / half / half)
    data = known("cars196", root=tree.root)
    assert data.test.paths[0].startswith("cars_train/cars_train/")
    assert len(data.test) == 8


def test_the_list_whose_pictures_are_here_is_read(made):
    tree = made("cars196")
    cars_in_halves(tree.folder)
    assert known("cars196", root=tree.root).test.paths[0].startswith("car_ims/")
    shutil.rmtree(tree.folder / "car_ims")
    assert known("cars196", root=tree.root).test.paths[0].startswith("cars_train/")
    (tree.folder / "devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(DataError, match=r"cars_annos.mat names the pictures of car_ims/, which is"):
        known("cars196", root=tree.root)


def test_boxes_count_pixels_from_one_and_hold_both_ends(made):
    tree = made("cars196")
    data = images(tree.folder, split="none")
    whole, cut = data.train, known("cars196", root=tree.root, boxes=True).test
    assert whole.size == (10, 12)
    assert cut.size == (4, 6)
    path = cut.paths[0]
    expected = np.asarray(Image.open(tree.folder / path).crop((2, 3, 8, 7))).transpose(2, 0, 1)
    assert np.array_equal((cut.batch([0]).images[0] * 255).round().numpy(), expected)


def test_test_pictures_need_their_classes(made):
    tree = made("cars196", writer=cars_in_halves)
    labelled = tree.folder / "cars_test_annos_withlabels.mat"
    without = np.array([("00001.jpg", 1)], dtype=[("fname", object), ("bbox_x1", object)])
    savemat(labelled, {"annotations": without})
    with pytest.raises(
        DataError, match=r"have no .*class; test pictures need cars_test_annos_with"
    ):
        images(tree.folder)
    labelled.unlink()
    with pytest.raises(DataError, match=r"withlabels.mat is missing; it is part of the annot"):
        images(tree.folder)


def test_damaged_annotations(made):
    tree = made("cars196")
    (tree.folder / "cars_annos.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DataError, match=r"cars_annos.mat is damaged or no MATLAB file"):
        images(tree.folder)


def test_one_picture_is_a_table_too(made):
    tree = made("cars196")
    rows = annotations([("car_ims/000001.jpg", 3, 4, 8, 7, 5)], "relative_im_path")
    savemat(tree.folder / "cars_annos.mat", {"annotations": rows, "class_names": CAR_NAMES})
    with pytest.raises(DataError, match=r"the train part must hold at least 2 classes"):
        images(tree.folder, validation=0)


def test_variants_it_has_not(made):
    with pytest.raises(InputError, match="cars196 has none"):
        known("cars196", root=made("cars196").root, variant="x")
