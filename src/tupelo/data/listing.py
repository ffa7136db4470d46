"""What a source names before any picture is read: files, labels, groups, a given split."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from tupelo.data.imageset import number_labels
from tupelo.data.pictures import FilePictures, FolderFiles, Pictures, ZipFiles
from tupelo.errors import DataError

log = logging.getLogger(__name__)
TRAIN, VALIDATION, TEST, GALLERY = 0, 1, 2, 3
PART_NAMES = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
# What a source may call its own parts: test pictures are queries where there is a gallery.
GIVEN_NAMES = {**PART_NAMES, "query": TEST, "queries": TEST, "gallery": GALLERY}
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
class BadItem:
    """A picture left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """Pictures with their labels, as a source states them.

    Args:
        pictures: reads them by row.
        names: one a picture.
        labels: class numbers int64 `(n,)`, or tags bool `(n, tags)`.
        class_names: one a class, in the order of the numbers.
        groups: int64 `(n,)`; pictures of one group stay on one side of a split; -1 for none.
        given: int64 `(n,)`, 0 train, 1 validation, 2 test, 3 gallery, as the source itself splits;
            with a gallery the test pictures are the queries that search it.
        bad: entries found unusable while listing.
        notes: what a reader of results must know of this source.
        copies: exact copies belong to the source's own protocol and are kept.
    """

    pictures: Pictures
    names: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]
    groups: np.ndarray | None = None
    given: np.ndarray | None = None
    bad: Sequence[BadItem] = field(default_factory=tuple)
    notes: tuple[str, ...] = ()
    copies: bool = False


def walk(root: Path) -> list[str]:
    """Relative names of all files below `root`, sorted; links are followed, loops are not.

    What must not be looked into is left out, which is logged.
    """
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, onerror=_untold, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116
        key = (status.st_dev, status.st_ino)
        if key in seen:
            subfolders.clear()
            continue
        seen.add(key)
        place = Path(folder).relative_to(root)
        names += [(place / file).as_posix() for file in files]
    return sorted(names)


def _untold(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        log.warning("%s is left out: %s", error.filename, error.strerror)


def zip_names(files: ZipFiles) -> list[str]:
    """Names of all members that are files, sorted."""
    return sorted(info.filename for info in files.archive().infolist() if not info.is_dir())


def visible(names: Sequence[str]) -> list[str]:
    """Names without hidden files and what operating systems strew."""
    return [name for name in names if not any(map(_is_litter, PurePosixPath(name).parts))]


def list_tree(files: FolderFiles | ZipFiles, names: Sequence[str], where: str) -> Listing:
    """Read class sub-folders, or part folders (train, validation, test, query, gallery) of these.

    A single outer folder is stepped into. Files deeper than the class folder belong to it.

    Raises:
        DataError: no class folder holds a file.
    """
    parts = [PurePosixPath(name).parts for name in names]
    depth = 0
    while parts and min(map(len, parts)) > depth + 2 and len({part[depth] for part in parts}) == 1:
        depth += 1
    heads = {part[depth].lower() for part in parts if len(part) > depth + 1}
    split = "train" in {_part_word(head) for head in heads} and heads <= GIVEN_NAMES.keys()
    if split:
        split = all(len(part) > depth + 2 for part in parts if len(part) > depth + 1)
    level = depth + 1 if split else depth
    inside = [row for row, part in enumerate(parts) if len(part) > level + 1]
    if not inside:
        raise DataError(
            f"{where} holds no class folders with pictures: expected one sub-folder a class, a CSV "
            "or Parquet manifest given by its own path, or one of the known data sets; found "
            f"{_sample(names)}"
        )
    stray = set(range(len(parts))) - set(inside)
    bad = [
        BadItem(names[row], "not in a class folder")
        for row in sorted(stray)
        if is_picture(names[row])
    ]
    labels, class_names = number_labels([parts[row][level] for row in inside])
    given = None
    if split:
        given = np.array([GIVEN_NAMES[parts[row][depth].lower()] for row in inside], dtype=np.int64)
    chosen = [names[row] for row in inside]
    return Listing(
        FilePictures(files, chosen), chosen, labels, class_names, given=given, bad=tuple(bad)
    )


def list_flat(files: FolderFiles | ZipFiles, names: Sequence[str]) -> Listing:
    """Pictures without labels: all of one class, whose name is empty."""
    return Listing(FilePictures(files, names), names, np.zeros(len(names), np.int64), ("",))


def is_picture(name: str) -> bool:
    """Whether the ending of a file's name is one of a picture."""
    return PurePosixPath(name).suffix.lower() in Image.registered_extensions()


def class_counts(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Pictures of each class or tag, int64 `(n_classes,)`."""
    if labels.ndim == 2:
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(labels, minlength=n_classes).astype(np.int64)


def count_kinds(bad: Sequence[BadItem]) -> str:
    """The kinds of reasons with their counts, most frequent first."""
    kinds = Counter(item.reason.split(":")[0] for item in bad)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _part_word(head: str) -> str:
    return "train" if PART_NAMES.get(head) == TRAIN else head


def _is_litter(part: str) -> bool:
    return part.startswith(".") or part.lower() in _LITTER


def _sample(names: Sequence[str]) -> str:
    if not names:
        return "no files"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
