"""Known data sets by name, read from a folder of your own; nothing is downloaded."""

import logging
from pathlib import Path
from typing import Literal

from tupelo.data.images import ImageData, list_source, open_listing
from tupelo.data.official.catalogue import NAMES
from tupelo.data.official.layout import Asked
from tupelo.data.official.places import find
from tupelo.data.pictures import Progress
from tupelo.data.splits import Split

__all__ = ["NAMES", "known"]
log = logging.getLogger(__name__)


def known(
    name: str,
    *,
    root: str | Path | None = None,
    split: Split = None,
    size: int | tuple[int, int] | None = None,
    channels: Literal["auto", 1, 3] = "auto",
    labels: str = "class",
    boxes: bool = False,
    variant: str | None = None,
    validation: float | int = 0.15,
    test: float | int = 0.15,
    seed: int = 0,
    progress: Progress | None = None,
) -> ImageData:
    """A known data set with the split its field uses, validation taken out of training.

    | name | split by default |
    |---|---|
    | cub200 | classes 1-100 / 101-200 |
    | cars196 | classes 1-98 / 99-196 |
    | sop | the published lists of products |
    | inshop | the published list: training, queries and their gallery |
    | vehicleid | published lists; one random picture a vehicle is the gallery |
    | market1501 | published folders: training, queries and their gallery |
    | omniglot | 30 background / 20 evaluation alphabets |
    | miniimagenet | published lists, 64 / 16 / 20 classes |
    | mnist, fashion_mnist | official 60,000 / 10,000, the same classes; "classes" for new ones |
    | lfw, orl_faces | none of their own: seeded, by person |
    | cub200_half | classes up to 100 / above |
    | tiny_imagenet_fewshot | 120 / 30 / 50 classes |

    The official layout is read where it is there, else a compact form under the same name; which
    of them, and what is not comparable with papers, is logged and in `ImageData.notes`. Published
    lists keep their exact copies. `tupelo datasets` lists, checks and prepares them.

    Args:
        name: one of the table.
        root: folder that holds a folder of that name; default the environment's TUPELO_DATA.
        boxes: cut the pictures of cub200 and cars196 to their published boxes.
        variant: "small" (default), "medium" or "large" list of vehicleid; "original", "funneled"
            or "deepfunneled" pictures of lfw, default the best aligned that is there.
        seed: of the draws, here also of vehicleid's gallery.
        split, size, channels, labels, validation, test, progress: as in `images`.

    Raises:
        InputError: the name is not in the table, or it has no such labels, boxes or variant.
        DataError: no root is known, the data set is not in it, or files of it are missing.
    """
    place = find(name, root)
    form = "a compact form or another layout" if place.layout is None else "the official layout"
    log.info("%s: reading %s in %s", name, form, place.folder)
    return open_listing(
        list_source(place.folder, asked=Asked(labels, boxes, variant, seed)),
        place.folder,
        split=split,
        size=size,
        channels=channels,
        validation=validation,
        test=test,
        seed=seed,
        progress=progress,
    )
