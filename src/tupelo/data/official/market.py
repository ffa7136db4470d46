"""Market-1501: bounding_box_train, query, bounding_box_test; names PPPP_cXsY_FFFFFF_DD.jpg."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int64

from tupelo.data.listing import Listing, visible
from tupelo.data.official.layout import Asked, Audit, Finding, Layout, Row, first_place, listing_of
from tupelo.errors import DataError, InputError

FOLDERS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
JUNK, DISTRACTOR = "-1", "0000"
# all pictures of person 1488 are named .jpg.jpg in the published archive
_NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg(\.jpg)?", re.IGNORECASE)


def cameras(paths: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The camera of each picture, from the name of its file: `ImageSet.paths` keeps them all.

    A person in the same camera must not count as found again; a protocol that leaves such pairs
    out needs this beside the labels.

    Raises:
        InputError: a name is not one of Market-1501.

    >>> cameras(["query/0002_c1s1_000451_03.jpg", "0002_c4s2_000451_03.jpg"]).tolist()
    [1, 4]
    """
    matches = [_NAME.fullmatch(PurePosixPath(path).name) for path in paths]
    if None in matches:
        raise InputError(
            f"paths must be named PPPP_cXsY_FFFFFF_DD.jpg, got {paths[matches.index(None)]}"
        )
    return np.array([int(match[2]) for match in matches if match], dtype=np.int64)


def rows(root: Path) -> list[Row]:
    """Training people, queries and the gallery; boxes marked -1 have the part "junk".

    Distractors, marked 0000, are in the gallery. Files that are no pictures of the scheme are
    left out.

    Raises:
        DataError: a folder is missing.
    """
    return _walk(root)[0]


def _walk(root: Path) -> tuple[list[Row], list[str]]:
    found, strange = [], []
    for folder, part in FOLDERS.items():
        if not (root / folder).is_dir():
            raise DataError(f"{root / folder} is missing; unpack the archive of Market-1501 again")
        names = visible(sorted(path.name for path in (root / folder).iterdir()))
        if names and not any(map(_NAME.fullmatch, names)):
            raise DataError(
                f"{root / folder} holds no picture named PPPP_cXsY_FFFFFF_DD.jpg, but {names[0]}: "
                "it is another data set than Market-1501; give a manifest with its identities"
            )
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                strange.append(f"{folder}/{name}")
                continue
            kind = "junk" if match[1] == JUNK else part
            found.append(Row(f"{folder}/{name}", match[1], kind))
    return found, strange


def _find(folder: Path) -> Path | None:
    below = ("Market-1501-v15.09.15", "Market-1501", "market1501")
    return first_place(folder, below, *FOLDERS) or first_place(folder, below, "bounding_box_train")


def _read(root: Path, asked: Asked) -> Listing:
    found = rows(root)
    junk = sum(row.part == "junk" for row in found)
    distractors = sum(row.label == DISTRACTOR for row in found)
    # They match nobody, each other neither, also where a split pools all pictures.
    found = [
        row._replace(label=f"{DISTRACTOR} {PurePosixPath(row.path).stem}")
        if row.label == DISTRACTOR
        else row
        for row in found
    ]
    note = (
        f"Market-1501: {junk:,} junk boxes are left out, {distractors:,} distractors are in the "
        "gallery; pairs of one camera are not left out, as its own protocol does"
    )
    return listing_of(root, found, [note])


def _audit(root: Path) -> Audit:
    found, strange = _walk(root)
    findings = [
        Finding("unlisted", name, "its name is not PPPP_cXsY_FFFFFF_DD.jpg: not read", wrong=False)
        for name in strange
    ]
    return Audit(found, findings)


LAYOUT = Layout(("market1501",), _find, _read, _audit)
