"""What every official layout is read into: rows of files with class and part."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tupelo.data.decode import Box
from tupelo.data.imageset import number_labels
from tupelo.data.listing import GALLERY, GIVEN_NAMES, TEST, TRAIN, VALIDATION, Listing
from tupelo.data.pictures import FilePictures, FolderFiles
from tupelo.errors import DataError, InputError


class Asked(NamedTuple):
    """How a known data set is to be read.

    Args:
        labels: "class", or another labelling the layout has.
        boxes: pictures are cut to the published bounding boxes.
        variant: which of several published lists or versions; None: the usual one.
        seed: of what a protocol draws at random.
    """

    labels: str = "class"
    boxes: bool = False
    variant: str | None = None
    seed: int = 0


class Row(NamedTuple):
    """A picture as the lists of a data set name it; `path` is relative to the layout."""

    path: str
    label: str
    part: str
    box: Box | None = None
    group: str = ""


class Finding(NamedTuple):
    """What a check found: in one file, in a list, or in a count; `wrong` if it must be mended."""

    kind: str
    path: str
    message: str
    advice: str = ""
    wrong: bool = True


class Audit(NamedTuple):
    """What a layout should hold.

    Args:
        rows: the files its lists name, of all variants, with the part they are counted in.
        findings: what is wrong with the lists themselves.
        searched: folders in which each file should be in a list.
        counts: pictures and classes by part, where pictures are not files of their own.
    """

    rows: Sequence[Row] = ()
    findings: Sequence[Finding] = ()
    searched: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, int]] = {}


@dataclass(frozen=True)
class Layout:
    """One way a data set lies in a folder.

    Args:
        names: of the data sets published so.
        find: the folder it begins in, at or below a given one, by its mark; else None.
        read: its listing.
        audit: what a check compares with the disk.
        lists: files beside the pictures that must be there.
        labels: labellings it has.
        variants: lists or versions it has.
        boxes: whether it has bounding boxes.
    """

    names: tuple[str, ...]
    find: Callable[[Path], Path | None]
    read: Callable[[Path, Asked], Listing]
    audit: Callable[[Path], Audit]
    lists: Callable[[Path], tuple[str, ...]] = field(default=lambda root: ())
    labels: tuple[str, ...] = ("class",)
    variants: tuple[str, ...] = ()
    boxes: bool = False


def check_asked(layout: Layout, asked: Asked) -> None:
    """Refuse what a layout does not have.

    Raises:
        InputError: labels, variant or boxes it does not have.
    """
    name = layout.names[0]
    if asked.labels not in layout.labels:
        choices = " or ".join(f'"{each}"' for each in layout.labels)
        if len(layout.labels) == 1:
            raise InputError(f'labels={asked.labels!r} is for Omniglot only; leave it "class"')
        raise InputError(f"labels must be {choices} for {name}, got {asked.labels!r}")
    if asked.variant is not None and asked.variant not in layout.variants:
        has = f"has {', '.join(layout.variants)}" if layout.variants else "has none"
        raise InputError(f"variant={asked.variant!r} is not known: {name} {has}")
    if asked.boxes and not layout.boxes:
        raise InputError(f"boxes=True needs published bounding boxes, which {name} has not")


@contextmanager
def lists_explained(root: Path) -> Iterator[None]:
    """Whatever damaged lists lead to becomes a `DataError` that says so."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{root}: a list of the data set is damaged or of another version: {error!r}; unpack "
            "its archive again"
        ) from error
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error}") from error


def first_place(folder: Path, below: Sequence[str], *marks: str) -> Path | None:
    """`folder`, or the first of the folders `below` it, that holds all of `marks`."""
    for place in (folder, *(folder / name for name in below)):
        if all((place / mark).exists() for mark in marks):
            return place
    return None


def read_table(path: Path, n_fields: int, *, skip: int = 0) -> list[list[str]]:
    """Lines of `n_fields` fields, the last of which may hold blanks.

    Raises:
        DataError: the file is missing, or a line has fewer fields.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines()[skip:], start=skip + 1):
        fields = line.split(maxsplit=n_fields - 1)
        if not fields:
            continue
        if len(fields) < n_fields:
            raise DataError(
                f"{path}, line {number} must have {n_fields} fields, it is {line!r}; the file is "
                "damaged or another one: unpack it again"
            )
        rows.append([*fields[:-1], fields[-1].strip()])
    return rows


def read_text(path: Path) -> str:
    """The text of a list file.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; unpack the archive it is part of again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def counts_of(listing: Listing) -> dict[str, tuple[int, int]]:
    """Pictures and classes of each part a listing gives; "all" where it gives none."""
    if listing.given is None:
        return {"all": (len(listing.labels), len(np.unique(listing.labels)))}
    counts = {}
    words = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "gallery": GALLERY}
    for word, part in words.items():
        chosen = listing.labels[listing.given == part]
        if len(chosen):
            counts[word] = (len(chosen), len(np.unique(chosen)))
    return counts


def listing_of(root: Path, rows: Sequence[Row], notes: Sequence[str] = ()) -> Listing:
    """The listing of rows whose part is one of training, validation, test, query or gallery.

    Raises:
        DataError: there is no such row.
    """
    rows = [row for row in rows if row.part in GIVEN_NAMES]
    if not rows:
        raise DataError(f"{root}: its lists name no picture; unpack the data set again")
    names = [row.path for row in rows]
    labels, class_names = number_labels([row.label for row in rows])
    groups = None
    if any(row.group for row in rows):
        groups = np.unique([row.group for row in rows], return_inverse=True)[1].astype(np.int64)
    boxes = [row.box for row in rows]
    return Listing(
        FilePictures(FolderFiles(root), names, boxes if any(boxes) else None),
        names,
        labels,
        class_names,
        groups=groups,
        given=np.array([GIVEN_NAMES[row.part] for row in rows], dtype=np.int64),
        notes=tuple(notes),
        copies=True,
    )
