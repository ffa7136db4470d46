"""Stanford Online Products: Ebay_train.txt, Ebay_test.txt, folders of pictures by kind."""

from pathlib import Path

from tupelo.data.listing import Listing
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Layout,
    Row,
    first_place,
    listing_of,
    read_table,
)

LISTS = {"Ebay_train.txt": "train", "Ebay_test.txt": "test"}


def rows(root: Path) -> list[Row]:
    """The published lists: image_id class_id super_class_id path, one header line.

    Raises:
        DataError: a list is missing or damaged.
    """
    return [
        Row(path, f"{int(number):05} {path.split('_final')[0]}", part)
        for name, part in LISTS.items()
        for _, number, _, path in read_table(root / name, 4, skip=1)
    ]


def _find(folder: Path) -> Path | None:
    return first_place(folder, ("Stanford_Online_Products",), "Ebay_train.txt")


def _read(root: Path, asked: Asked) -> Listing:
    return listing_of(root, rows(root))


def _audit(root: Path) -> Audit:
    found = rows(root)
    return Audit(found, searched=tuple(sorted({row.path.split("/")[0] for row in found})))


LAYOUT = Layout(("sop",), _find, _read, _audit, lambda root: tuple(LISTS))
