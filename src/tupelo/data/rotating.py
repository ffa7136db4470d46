"""Rotated pictures as classes of their own."""

import numpy as np
import torch

from tupelo.data.imageset import ImageSet
from tupelo.data.pictures import Held
from tupelo.errors import InputError

TURNS = 4


def rotated(dataset: ImageSet) -> ImageSet:
    """Four times the classes: pictures as they are, and turned by 90, 180 and 270 degrees.

    A turned character is another character; few-shot learners of Omniglot are trained with these
    further classes since Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks",
    ICML 2016. Class c turned r times is class r n + c of the n classes, and named "NAME@90". A
    picture and its turns keep one group, where there are groups, but are items of their own.

    Args:
        dataset: of square pictures held in memory, with class labels.

    Raises:
        InputError: pictures are not square or not held in memory, or labels are tags.

    >>> pixels = np.zeros((4, 8, 8), dtype=np.uint8)
    >>> turned = rotated(ImageSet.from_arrays(pixels, ["a", "a", "b", "b"]))
    >>> len(turned), turned.class_names
    (16, ('a', 'b', 'a@90', 'b@90', 'a@180', 'b@180', 'a@270', 'b@270'))
    """
    height, width = dataset.size
    if height != width:
        raise InputError(
            f"rotated needs square pictures, got {height} x {width}; read the data set with size="
            f"{max(height, width)}"
        )
    if not dataset.in_memory:
        raise InputError(
            "rotated needs pictures held in memory, and these are decoded on demand; read the data "
            "set in a smaller size"
        )
    if dataset.labels.ndim != 1:
        raise InputError("rotated makes classes of classes, but this data set has tags as labels")
    upright = dataset.take(np.arange(len(dataset)))
    turns = np.arange(TURNS).repeat(len(dataset))
    degrees = ["", "@90", "@180", "@270"]
    return ImageSet(
        Held(torch.cat([upright.rot90(turn, (2, 3)) for turn in range(TURNS)])),
        rows=np.arange(TURNS * len(dataset)),
        labels=np.tile(dataset.labels, TURNS) + turns * dataset.n_classes,
        class_names=[name + turn for turn in degrees for name in dataset.class_names],
        items=np.tile(dataset.items, TURNS) * TURNS + turns,
        paths=[path + turn for turn in degrees for path in dataset.paths],
        groups=None if dataset.groups is None else np.tile(dataset.groups, TURNS),
        size=dataset.size,
        channels=dataset.channels,
        resize=dataset.resize,
    )
