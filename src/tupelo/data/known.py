"""Known data sets by name, read from a folder of your own; nothing is downloaded."""

import os
from pathlib import Path
from typing import Literal

from tupelo.data.images import ImageData, images
from tupelo.data.pictures import Progress
from tupelo.data.splits import Split
from tupelo.errors import DataError, InputError

NAMES = (
    "mnist",
    "fashion_mnist",
    "omniglot",
    "cars196",
    "cub200_half",
    "tiny_imagenet_fewshot",
    "lfw",
    "orl_faces",
)


def known(
    name: str,
    *,
    root: str | Path | None = None,
    split: Split = None,
    size: int | tuple[int, int] | None = None,
    channels: Literal["auto", 1, 3] = "auto",
    labels: str = "class",
    validation: float | int = 0.15,
    test: float | int = 0.15,
    seed: int = 0,
    progress: Progress | None = None,
) -> ImageData:
    """A known data set with the split its field uses, validation taken out of training.

    | name | split by default |
    |---|---|
    | mnist, fashion_mnist | official 60,000 / 10,000, the same classes; "classes" for new ones |
    | omniglot | 30 background / 20 evaluation alphabets |
    | cars196 | classes 1-98 / 99-196 |
    | cub200_half | classes up to 100 / above |
    | tiny_imagenet_fewshot | 120 / 30 / 50 classes |
    | lfw, orl_faces | none of their own: seeded, by person |

    Args:
        name: one of the table.
        root: folder that holds a folder of that name; default the environment's TUPELO_DATA.
        split, size, channels, labels, validation, test, seed, progress: as in `images`.

    Raises:
        InputError: the name is not in the table.
        DataError: no root is known, or the data set is not in it.
    """
    if name not in NAMES:
        raise InputError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    root = os.environ.get("TUPELO_DATA") if root is None else root
    if root is None:
        raise DataError(
            f"no folder to read {name} from: give root=, or set TUPELO_DATA to the folder that "
            f"holds {name}/"
        )
    folder = Path(root) / name
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; put the files of {name} there")
    return images(
        folder,
        split=split,
        size=size,
        channels=channels,
        labels=labels,
        validation=validation,
        test=test,
        seed=seed,
        progress=progress,
    )
