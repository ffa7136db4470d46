"""The layouts that data sets of the field are published in."""

from pathlib import Path

from tupelo.data.listing import Listing
from tupelo.data.official import (
    cars,
    cub,
    inshop,
    lfw,
    market,
    miniimagenet,
    mnist,
    omniglot,
    sop,
    vehicleid,
)
from tupelo.data.official.layout import Asked, Layout, check_asked, lists_explained

LAYOUTS: tuple[Layout, ...] = (
    cub.LAYOUT,
    cars.LAYOUT,
    sop.LAYOUT,
    inshop.LAYOUT,
    vehicleid.LAYOUT,
    market.LAYOUT,
    omniglot.LAYOUT,
    miniimagenet.LAYOUT,
    lfw.LAYOUT,
    mnist.LAYOUT,
)
BY_NAME = {name: layout for layout in LAYOUTS for name in layout.names}


def recognise(source: Path, asked: Asked) -> Listing | None:
    """The listing of an official layout that begins in a folder or just below it, or None.

    One idx file stands for the folder it is in.

    Raises:
        DataError: a list of it is missing or damaged, or the folder cannot be read.
        InputError: something is asked that it does not have.
    """
    idx = source.is_file() and source.name.removesuffix(".gz") in mnist.FILES
    folder = source.parent if idx else source
    if not folder.is_dir():
        return None
    for layout in LAYOUTS:
        with lists_explained(folder):
            root = layout.find(folder)
        if root is not None:
            check_asked(layout, asked)
            with lists_explained(root):
                return layout.read(root, asked)
    return None
