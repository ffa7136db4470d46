"""miniImageNet, split of Ravi and Larochelle: train.csv, val.csv, test.csv and images/."""

import csv
import io
import re
from pathlib import Path

from tupelo.data.listing import Listing
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Layout,
    Row,
    first_place,
    listing_of,
    read_text,
)
from tupelo.errors import DataError

LISTS = {"train.csv": "train", "val.csv": "validation", "test.csv": "test"}
_HEADER = ["filename", "label"]
# WordNet numbers as classes: other tables with these columns are somebody's own.
_MARK = re.compile(r"filename,label\s+[^,\s]+,n\d{8}\b")


def rows(root: Path) -> list[Row]:
    """The published lists, with the official validation classes.

    Raises:
        DataError: a list is missing or has other columns.
    """
    found = []
    for name, part in LISTS.items():
        table = csv.reader(io.StringIO(read_text(root / name), newline=""))
        header = next(table, [])
        if header != _HEADER:
            raise DataError(
                f"{root / name} must begin with filename,label, it begins with {header}; it is "
                "not the list of Ravi and Larochelle"
            )
        found += [Row(f"images/{line[0]}", line[1], part) for line in table if len(line) >= 2]
    return found


def _find(folder: Path) -> Path | None:
    below = ("miniImageNet", "mini-imagenet", "miniImagenet")
    for name in LISTS:
        place = first_place(folder, below, name, "images")
        if place is not None and _MARK.match(read_text(place / name)):
            return place
    return None


def _read(root: Path, asked: Asked) -> Listing:
    return listing_of(root, rows(root))


def _audit(root: Path) -> Audit:
    return Audit(rows(root), searched=("images",))


LAYOUT = Layout(("miniimagenet",), _find, _read, _audit, lambda root: tuple(LISTS))
