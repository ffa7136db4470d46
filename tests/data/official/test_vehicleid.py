import numpy as np
import pytest

from tupelo.data import images, known
from tupelo.data.official.places import locate
from tupelo.data.official.vehicleid import rows
from tupelo.errors import DataError, InputError


@pytest.mark.parametrize(("variant", "vehicles"), [(None, 3), ("medium", 4), ("large", 6)])
def test_one_picture_of_each_vehicle_is_the_gallery(made, variant, vehicles):
    data = known("vehicleid", root=made("vehicleid").root, variant=variant)
    assert data.test.class_names == data.gallery.class_names
    assert np.bincount(data.gallery.labels).tolist() == [1] * vehicles
    assert np.bincount(data.test.labels).tolist() == [3] * vehicles
    assert set(data.test.paths).isdisjoint(data.gallery.paths)
    assert (len(data.train) + len(data.val), data.train.n_classes + data.val.n_classes) == (15, 5)
    assert f"{variant or 'small'} test list" in data.notes[0]


def test_the_draw_is_seeded(made):
    root = made("vehicleid").root
    draws = [known("vehicleid", root=root, variant="large", seed=s).gallery.paths for s in range(5)]
    assert draws[0] == known("vehicleid", root=root, variant="large", seed=0).gallery.paths
    assert len(set(draws)) > 1
    assert (
        images(root / "vehicleid", seed=3).gallery.paths
        == known("vehicleid", root=root, seed=3).gallery.paths
    )


def test_every_picture_is_drawn_at_some_seed(made):
    folder = made("vehicleid").folder
    drawn = {row.path for s in range(60) for row in rows(folder, seed=s) if row.part == "gallery"}
    assert len(drawn) == 12


def test_a_variant_by_the_source(made, monkeypatch):
    monkeypatch.setenv("TUPELO_DATA", str(made("vehicleid").root))
    assert images("known:vehicleid:medium").gallery.n_classes == 4
    with pytest.raises(InputError, match="variant='huge' is not known: vehicleid has small, medi"):
        images("known:vehicleid:huge")


def test_other_sets_of_vehicles_are_not_taken_for_it(made):
    tree = made("vehicleid")
    (tree.folder / "image").rename(tree.folder / "Pic")
    assert locate("vehicleid", tree.root) is not None
    (tree.folder / "train_test_split" / "test_list_800.txt").unlink()
    assert locate("vehicleid", tree.root) is None


def test_a_missing_list(made):
    tree = made("vehicleid")
    (tree.folder / "train_test_split" / "test_list_1600.txt").unlink()
    assert known("vehicleid", root=tree.root).gallery.n_classes == 3
    with pytest.raises(DataError, match=r"test_list_1600.txt is missing"):
        known("vehicleid", root=tree.root, variant="medium")
