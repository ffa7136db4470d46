import pickle

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet
from tupelo.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "channels"),
    [(PIXELS[..., 0], 1), (PIXELS, 3), (PIXELS.transpose(0, 3, 1, 2), 3), (PIXELS[..., :1], 1)],
)
def test_every_layout_of_an_array(images, channels):
    pictures = ImageSet.from_arrays(images, [3, 3, 7, 7, 9, 9])
    assert pictures.channels == channels
    assert pictures.size == (5, 4)
    expected = PIXELS.transpose(0, 3, 1, 2)[[4, 1], :channels] / np.float32(255)
    assert np.allclose(pictures.batch([4, 1]).images.numpy(), expected)


def test_no_copy_of_channels_first():
    images = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    pictures = ImageSet.from_arrays(images, [0] * 6)
    images[0] = 255
    assert pictures.batch([0]).images.min() == 1
    assert pictures.memory_bytes == images.nbytes


def test_labels_of_every_kind():
    assert ImageSet.from_arrays(PIXELS, [10, 9, 10, 9, 2, 2]).class_names == ("2", "9", "10")
    named = ImageSet.from_arrays(PIXELS, list("babacc"))
    assert named.labels.tolist() == [1, 0, 1, 0, 2, 2]
    assert named.labels.dtype == np.int64
    tagged = ImageSet.from_arrays(PIXELS, [{"x"}, {"x", "y"}, set(), {"z"}, {"y"}, {"y"}])
    assert tagged.class_names == ("x", "y", "z")
    assert tagged.labels.sum(axis=0).tolist() == [2, 3, 1]
    hot = ImageSet.from_arrays(PIXELS, np.eye(6, dtype=bool))
    assert hot.n_classes == 6
    assert hot.batch([2]).labels.dtype == torch.bool


def test_subset_renumbers_classes_and_keeps_identities():
    pictures = ImageSet.from_arrays(PIXELS, list("aabbcc"), groups=np.arange(6))
    some = pictures.subset([5, 2, 4])
    assert some.class_names == ("b", "c")
    assert some.labels.tolist() == [1, 0, 1]
    assert some.items.tolist() == [5, 2, 4] == some.groups.tolist()
    assert some.paths == ("5", "2", "4")
    assert some.batch([1]).images.equal(pictures.batch([2]).images)
    assert some.subset([1]).batch([0]).items.tolist() == [2]
    tagged = ImageSet.from_arrays(PIXELS, [{"x"}, {"y"}, {"y"}, {"z"}, {"z"}, {"z"}])
    assert tagged.subset([1, 3]).class_names == ("y", "z")


def test_relabelled():
    pictures = ImageSet.from_arrays(PIXELS, list("aabbcc"))
    other = pictures.relabelled([0, 1, 0, 1, 0, 1])
    assert other.n_classes == 2
    assert other.batch([3]).images.equal(pictures.batch([3]).images)
    with pytest.raises(InputError, match="labels must have one entry a picture, got 2 for 6"):
        pictures.relabelled([0, 1])


def test_augmentation_gets_the_generator():
    pictures = ImageSet.from_arrays(PIXELS, list("aabbcc"))

    def shift(images, generator):
        return images + torch.rand(1, generator=generator)

    one = pictures.batch([0], augment=shift, generator=torch.Generator().manual_seed(1))
    two = pictures.batch([0], augment=shift, generator=torch.Generator().manual_seed(1))
    assert one.images.equal(two.images)
    with pytest.raises(InputError, match=r"augment needs generator, a torch.Generator"):
        pictures.batch([0], augment=shift)


def test_repr_tells_what_it_is():
    pictures = ImageSet.from_arrays(PIXELS, list("aabbcc"))
    assert repr(pictures) == "ImageSet(6 pictures, 3 classes, 3 x 5 x 4)"


def test_pickles():
    pictures = ImageSet.from_arrays(PIXELS, list("aabbcc"))
    again = pickle.loads(pickle.dumps(pictures))
    assert again.batch([1]).images.equal(pictures.batch([1]).images)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS[..., :2], [0] * 6, r"images must be uint8 \(n, h, w\).* got shape \(6, 5, 4, 2\)"),
        (PIXELS, [0] * 5, "one entry a picture, got 6, 5 and 6"),
        (PIXELS, np.zeros(6), r"labels must be whole numbers or strings \(n,\).* got float64"),
    ],
)
def test_refusals(images, labels, message):
    with pytest.raises(InputError, match=message):
        ImageSet.from_arrays(images, labels)
