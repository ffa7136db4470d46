import shutil

import numpy as np
import pytest

from tupelo.data import images, known
from tupelo.data.official.market import cameras
from tupelo.errors import DataError, InputError

from .conftest import write


def test_junk_is_dropped_and_distractors_stay(made):
    data = known("market1501", root=made("market1501").root, validation=0)
    assert data.train.class_names == ("0002", "0007", "0010")
    assert data.test.class_names == ("0001", "0003")
    assert data.gallery.class_names == ("0000 0000_c6s3_094992_02", "0001", "0003")
    assert np.bincount(data.gallery.labels).tolist() == [1, 2, 2]
    assert not any("-1_" in path or "Thumbs" in path for path in data.gallery.paths)
    assert data.bad == ()
    assert "1 junk boxes are left out, 1 distractors are in the gallery" in data.notes[0]


def test_distractors_match_nobody_where_all_are_pooled(made):
    tree = made("market1501")
    for name in ("0000_c1s1_000001_00.jpg", "0000_c2s1_000001_00.jpg"):
        write(tree.folder / "bounding_box_test" / name)
    pooled = images(tree.folder, split="none").train
    counts = dict(zip(pooled.class_names, np.bincount(pooled.labels), strict=True))
    assert [n for name, n in counts.items() if name.startswith("0000")] == [1, 1, 1]


def test_the_person_whose_files_end_twice_is_read(made):
    # as in the published archive, where that is all of person 1488
    tree = made("market1501")
    for folder in ("query", "bounding_box_test"):
        for path in list((tree.folder / folder).glob("0003_*")):
            path.rename(path.with_name(path.name + ".jpg"))
    data = known("market1501", root=tree.root, validation=0)
    assert data.test.class_names == ("0001", "0003")
    assert np.bincount(data.gallery.labels).tolist() == [1, 2, 2]
    assert cameras(data.test.paths).tolist() == [1, 1]


def test_cameras_are_in_the_paths(made):
    data = known("market1501", root=made("market1501").root, validation=0)
    assert cameras(data.test.paths).tolist() == [1, 1]
    assert cameras(data.gallery.paths).tolist() == [6, 2, 4, 2, 4]
    with pytest.raises(InputError, match=r"named PPPP_cXsY_FFFFFF_DD.jpg, got a/b.png"):
        cameras(["a/b.png"])


def test_another_data_set_of_these_folders(made):
    tree = made("market1501")
    for path in (tree.folder / "query").iterdir():
        path.rename(path.with_name("0001_c2_f0046182.jpg"))
    with pytest.raises(DataError, match=r"query holds no picture named .*, but 0001_c2_f0046182"):
        known("market1501", root=tree.root)


def test_a_folder_is_missing(made):
    tree = made("market1501")
    shutil.rmtree(tree.folder / "query")
    with pytest.raises(DataError, match=r"query is missing; unpack the archive of Market-1501"):
        known("market1501", root=tree.root)
