"""Manifests: a CSV or Parquet table with one row a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from tupelo.data.decode import BadPicture, Box
from tupelo.data.imageset import number_labels
from tupelo.data.listing import GIVEN_NAMES, BadItem, Listing
from tupelo.data.pictures import FilePictures, FolderFiles, ZipFiles
from tupelo.errors import DataError, InputError, MissingExtra

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
_REQUIRED = ("path", "label")
_BOX = ("x", "y", "w", "h")
_FIELDS = (*_REQUIRED, "split", "group", *_BOX)
_TAG_MARK = "|"


def find_manifest(
    files: FolderFiles | ZipFiles, names: Sequence[str], columns: Mapping[str, str]
) -> str | None:
    """The only table at the top of a folder or zip that has the columns of a manifest."""
    parts = [PurePosixPath(name).parts for name in names]
    top = min(map(len, parts), default=0)
    found = []
    for name, part in zip(names, parts, strict=True):
        if len(part) == top and PurePosixPath(name).suffix.lower() in TABLE_SUFFIXES:
            try:
                header = _table(files.read(name), name)
            except (DataError, BadPicture):
                continue
            if all(columns.get(field, field) in header for field in _REQUIRED):
                found.append(name)
    if len(found) > 1:
        raise DataError(
            f"several tables could be the manifest: {', '.join(found)}; keep one, or give its path"
        )
    return found[0] if found else None


def read_manifest(files: FolderFiles | ZipFiles, name: str, columns: Mapping[str, str]) -> Listing:
    """Read a table with columns path and label, and where present split, group and x, y, w, h.

    Paths are relative to the table. A label may be several tags joined by `|`; if any is, all
    pictures are labelled by tags. A box is left, top, width, height in pixels of the upright
    picture; a row without one uses the whole picture.

    Args:
        files: where the table and its pictures lie.
        name: of the table.
        columns: your column name for any of path, label, split, group, x, y, w, h.

    Raises:
        InputError: `columns` names a field that does not exist.
        DataError: the table cannot be read, a column is missing, or a split is unknown.
        MissingExtra: a Parquet table without pyarrow.
    """
    unknown = sorted(set(columns) - set(_FIELDS))
    if unknown:
        raise InputError(f"columns names {unknown}; fields are {', '.join(_FIELDS)}")
    try:
        table = _table(files.read(name), name)
    except BadPicture as error:
        raise DataError(f"manifest {name}: {error}") from error
    called = {field: columns.get(field, field) for field in _FIELDS}
    missing = [called[field] for field in (*_REQUIRED, *columns) if called[field] not in table]
    if missing:
        raise DataError(
            f"manifest {name} has no column {', '.join(dict.fromkeys(missing))}; it has "
            f"{', '.join(table)}; name yours with columns={{'{_REQUIRED[0]}': ...}}"
        )
    some = [column in table for column in (called[field] for field in _BOX)]
    if any(some) and not all(some):
        raise DataError(f"manifest {name} must have all of the box columns x, y, w, h, or none")
    folder = PurePosixPath(name).parent
    bad: list[BadItem] = []
    keep: list[int] = []
    boxes: list[Box | None] = []
    for row, (path, label) in enumerate(
        zip(table[called["path"]], table[called["label"]], strict=True)
    ):
        try:
            box = _box([table[called[field]][row] for field in _BOX]) if all(some) else None
            if not path:
                raise BadPicture(f"no path in row {row + 1}")
            if not label.strip(f"{_TAG_MARK} "):
                raise BadPicture("no label")
        except BadPicture as error:
            bad.append(BadItem(path, str(error)))
            continue
        keep.append(row)
        boxes.append(box)
    if not keep:
        raise DataError(f"manifest {name} has no row with a path and a label")
    names = [(folder / table[called["path"]][row]).as_posix() for row in keep]
    labels, class_names = _labels([table[called["label"]][row] for row in keep])
    groups = given = None
    if called["group"] in table:
        groups = _groups([table[called["group"]][row] for row in keep])
    if called["split"] in table:
        given = _given([table[called["split"]][row] for row in keep], name)
    return Listing(
        FilePictures(files, names, boxes if all(some) else None),
        names,
        labels,
        class_names,
        groups=groups,
        given=given,
        bad=tuple(bad),
    )


def _table(data: bytes, name: str) -> dict[str, list[str]]:
    """Columns of text; missing values are empty."""
    if name.lower().endswith(".parquet"):
        return _parquet(data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"manifest {name} must be UTF-8 text: {error}; save it so") from error
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(rows, [])
        body = [row for row in rows if row]
    except csv.Error as error:
        raise DataError(f"manifest {name}, line {rows.line_num}: {error}") from error
    header = [column.strip() for column in header]
    for row in body:
        if len(row) != len(header):
            raise DataError(
                f"manifest {name}: a row has {len(row)} fields where the header has "
                f"{len(header)}: {row[:4]}; quote fields that hold a comma"
            )
    return {column: [row[place] for row in body] for place, column in enumerate(header)}


def _parquet(data: bytes, name: str) -> dict[str, list[str]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"reading {name} needs pyarrow: pip install tupelo[tables]") from error
    try:
        table = parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"manifest {name} cannot be read as Parquet: {error}") from error
    return {
        column: ["" if value is None else str(value) for value in table[column].to_pylist()]
        for column in table.column_names
    }


def _box(values: list[str]) -> Box | None:
    if not any(values):
        return None
    try:
        left, top, width, height = map(float, values)
    except ValueError as error:
        raise BadPicture(f"box is not four numbers: {values}") from error
    if not (np.isfinite([left, top]).all() and width > 0 and height > 0):
        raise BadPicture(f"box needs a positive width and height: {values}")
    return left, top, width, height


def _labels(values: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if not any(_TAG_MARK in value for value in values):
        return number_labels([value.strip() for value in values])
    return number_labels(
        [{tag.strip() for tag in value.split(_TAG_MARK) if tag.strip()} for value in values]
    )


def _groups(values: list[str]) -> np.ndarray:
    """Group numbers; an empty field is no group, -1."""
    names, numbers = np.unique(np.array(values), return_inverse=True)
    numbers = numbers.astype(np.int64)
    return np.where(names[numbers] == "", -1, numbers)


def _given(values: list[str], name: str) -> np.ndarray:
    words = [value.strip().lower() for value in values]
    unknown = sorted(set(words) - GIVEN_NAMES.keys())
    if unknown:
        raise DataError(
            f"manifest {name}: split must be train, validation or test (or query and gallery), "
            f"found {unknown[:3]}"
        )
    return np.array([GIVEN_NAMES[word] for word in words], dtype=np.int64)
