"""Index the pictures of a source with a finished run, and search what was indexed.

    tupelo index runs/photos photos/
    tupelo search runs/photos query.jpg

Expected time: that of reading and embedding the pictures; 100,000 rows of 128 numbers are written
in seconds, and an approximate index over them is built in about a minute on 2 CPU cores.
Expected result: a folder `runs/photos/index` that needs neither the pictures nor their source.
"""

import fnmatch
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tupelo.data import BadItem
from tupelo.data.official.places import folder_of, is_named
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.recipes.using import Opened, read_like
from tupelo.search import Found, Index, Items, Row, contact_sheet, items_of

FOLDER = "index"  # of a run
TABLES = (".csv", ".tsv", ".parquet", ".zip")
SHEET_ROWS, SHEET_COLUMNS = 40, 50  # queries and neighbours of each on one contact sheet


@dataclass(frozen=True)
class Queries:
    """What is searched for: rows, or items of the index by their paths.

    Attributes:
        names: one each.
        labels: one each, "" where not known.
        pictures: small picture files, None where there is none.
        vectors: `(n, d)`, or None: the names are paths of items.
        bad: what could not be read.
    """

    names: Sequence[str]
    labels: Sequence[str]
    pictures: Sequence[bytes | None]
    vectors: Any
    bad: tuple[BadItem, ...] = ()


def items_from(
    opened: Opened,
    source: str,
    *,
    thumbnails: bool = True,
    columns: dict[str, str] | None = None,
    allow_bad: float = 0.01,
    reading: Progress | None = None,
    embedding: Callable[[int, int], None] | None = None,
) -> tuple[Items, tuple[BadItem, ...]]:
    """All pictures of a source, embedded, and what was left out.

    An item's path is that of its file as it is found from here, `photos/cat/1.jpg` for the source
    `photos/`, so that pictures of several sources can stand in one index.

    Args:
        opened: the run.
        source: as for `data.images`; labels are not needed.
        thumbnails: see `tupelo.search.build`.
        columns: see `data.images`.
        allow_bad: see `data.images`.
        reading: see `data.images`.
        embedding: see `tupelo.embed`.
    """
    data = read_like(
        opened, source, labelled=False, columns=columns, allow_bad=allow_bad, progress=reading
    )
    items = items_of(opened.trained, data.train, thumbnails=thumbnails, progress=embedding)
    return replace(items, paths=_from_here(source, items.paths)), data.bad


def pictures(
    opened: Opened,
    queries: Sequence[str],
    *,
    allow_bad: float = 0.01,
    reading: Progress | None = None,
    embedding: Callable[[int, int], None] | None = None,
) -> Queries:
    """Queries that are pictures: files, folders of files, or sources with labels.

    Raises:
        DataError: a file cannot be read.
    """
    files = [query for query in queries if not _is_source(query)]
    parts: list[Items] = []
    bad: list[BadItem] = []
    if files:
        parts.append(items_of(opened.trained, opened.trained.prepare(files), progress=embedding))
    for source in queries:
        if _is_source(source):
            items, left_out = items_from(
                opened, source, allow_bad=allow_bad, reading=reading, embedding=embedding
            )
            parts.append(items)
            bad += left_out
    return Queries(
        [path for part in parts for path in part.paths],
        [label for part in parts for label in part.labels or [""] * len(part.paths)],
        [picture for part in parts for picture in part.thumbnails],
        np.concatenate([part.vectors for part in parts]),
        tuple(bad),
    )


def vectors(path: Path) -> Queries:
    """Queries from a file of rows: `.npy`, or `.npz` as `tupelo embed` writes it.

    Raises:
        InputError: it cannot be read, or holds no matrix; an `.npz` has it under `z`.
    """
    try:
        with path.open("rb") as file:  # closed also where it is no archive
            loaded = np.load(file, allow_pickle=False)
            held = {"z": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"--vectors {path} cannot be read as .npy or .npz: {error}") from error
    if "z" not in held or held["z"].ndim not in (1, 2):
        raise InputError(
            f"--vectors {path} must hold a matrix (rows, width), in an .npz under the name z; got "
            f"{', '.join(f'{name} {array.shape}' for name, array in held.items()) or 'nothing'}"
        )
    z = np.atleast_2d(held["z"])
    names = [str(each) for each in held.get("paths", [])]
    labels = [str(each) for each in held.get("labels", [])]
    return Queries(
        names if len(names) == len(z) else [f"row {row}" for row in range(len(z))],
        labels if len(labels) == len(z) else [""] * len(z),
        [None] * len(z),
        z,
    )


def stored(index: Index, paths: Sequence[str]) -> Queries:
    """Queries that are items of the index.

    Raises:
        InputError: there is no such item.
    """
    return Queries(paths, index.labels(paths), index.thumbnails(paths), None)


def search(
    index: Index, queries: Queries, k: int, *, where: str | None = None, exact: bool | None = None
) -> list[Found]:
    """One answer for each query; see `Index.search`."""
    if queries.vectors is None:
        return index.like(queries.names, k, where=where, exact=exact)
    return index.search(queries.vectors, k, where=where, exact=exact)


def sheet(index: Index, queries: Queries, found: Sequence[Found]) -> Image.Image:
    """The contact sheet: the first `SHEET_ROWS` queries, `SHEET_COLUMNS` neighbours of each."""
    nearest = [each.first(SHEET_COLUMNS) for each in found[:SHEET_ROWS]]
    shown = zip(queries.names, queries.labels, queries.pictures, nearest, strict=False)
    return contact_sheet(
        [
            Row(name, label, picture, near, index.thumbnails(near.paths))
            for name, label, picture, near in shown
        ]
    )


def matching(index: Index, patterns: Sequence[str]) -> list[str]:
    """Paths of the items that match one of the shell patterns; a path stands for itself.

    Raises:
        InputError: a pattern matches none.
    """
    chosen: dict[str, None] = {}
    paths = index.paths()
    for pattern in patterns:
        found = [pattern] if pattern in paths else fnmatch.filter(paths, pattern)
        if not found:
            such = ", ".join(map(repr, paths[:3])) or "none"
            raise InputError(f"no item's path matches {pattern!r}; the first ones are {such}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _is_source(query: str) -> bool:
    return is_named(query) or Path(query).is_dir() or Path(query).suffix.lower() in TABLES


def _from_here(source: str, names: Sequence[str]) -> list[str]:
    """
    >>> _from_here("./photos/", ["cat/1.jpg"])
    ['photos/cat/1.jpg']
    """
    place = Path(os.path.normpath(folder_of(source)))
    if place.is_file() and place.suffix.lower() != ".zip":  # a manifest or a picture
        place = place.parent
    return [(place / name).as_posix() for name in names]
