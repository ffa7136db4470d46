import numpy as np
import pytest

from tupelo.data import ImageSet, rotated
from tupelo.errors import InputError


@pytest.fixture
def pictures():
    pixels = np.random.default_rng(0).integers(256, size=(6, 5, 5), dtype=np.uint8)
    return ImageSet.from_arrays(
        pixels, ["b", "a", "b", "c", "a", "c"], groups=np.array([3, 4, 5, 6, 7, 8])
    )


def test_every_picture_comes_in_four_turns(pictures):
    turned = rotated(pictures)
    assert len(turned) == 24
    assert turned.n_classes == 12
    upright = pictures.take(np.arange(6)).numpy()
    for turn in range(4):
        rows = np.arange(6) + 6 * turn
        expected = np.rot90(upright, turn, (2, 3))
        assert np.array_equal(turned.take(rows).numpy(), expected)
        assert (turned.labels[rows] == pictures.labels + 3 * turn).all()
    assert turned.class_names[:4] == ("a", "b", "c", "a@90")
    assert turned.paths[23] == "5@270"


def test_items_are_their_own_and_groups_are_shared(pictures):
    turned = rotated(pictures.subset([1, 2, 4]))
    assert len(set(turned.items.tolist())) == 12
    assert turned.groups is not None
    assert set(turned.groups.tolist()) == {4, 5, 7}


def test_subsets_of_turned_pictures(pictures):
    some = rotated(pictures).subset([7, 20])
    assert some.class_names == ("b@270", "a@90") or some.class_names == ("a@90", "b@270")
    assert some.batch([0]).images.shape == (1, 1, 5, 5)


def test_refusals(pictures):
    wide = ImageSet.from_arrays(np.zeros((2, 4, 6), np.uint8), [0, 1])
    with pytest.raises(
        InputError, match="square pictures, got 4 x 6; read the data set with size=6"
    ):
        rotated(wide)
    with pytest.raises(InputError, match="this data set has tags as labels"):
        rotated(pictures.relabelled([{"x"}] * 6))


def test_pictures_on_disk_are_refused(pictures, monkeypatch):
    monkeypatch.setattr(ImageSet, "in_memory", property(lambda _: False))
    with pytest.raises(InputError, match="held in memory, and these are decoded on demand"):
        rotated(pictures)
