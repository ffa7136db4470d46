"""Tables as files: CSV, gzipped CSV and Parquet, whose columns are numbers or text."""

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.errors import DataError, InputError, MissingExtra
from tupelo.tabular.columns import near

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
"""Cells of a CSV that hold nothing, in any case."""
SEPARATORS = ",;\t"
FEW_NUMBERS = 10  # of a target with fractions: more are measurements
MANY_CLASSES = 50  # of a target of whole numbers


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        name: of its file.
        columns: by name, in order; float64 with NaN where nothing is, or texts with None there.
    """

    name: str
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Rows."""
        return len(next(iter(self.columns.values())))

    def rows(self, places: np.ndarray) -> "Table":
        """These rows."""
        return Table(self.name, {name: values[places] for name, values in self.columns.items()})

    def without(self, names: Sequence[str]) -> "Table":
        """All columns but these.

        Raises:
            InputError: there is no such column, or none would be left.
        """
        for name in names:
            self.check(name, "--drop")
        left = {name: values for name, values in self.columns.items() if name not in names}
        if not left:
            raise InputError(f"{self.name} has no column left to learn from beside the target")
        return Table(self.name, left)

    def as_texts(self, names: Sequence[str]) -> "Table":
        """These columns of numbers taken as names of categories.

        Raises:
            InputError: there is no such column.
        """
        changed = dict(self.columns)
        for name in names:
            self.check(name, "--category")
            changed[name] = texts_of(self.columns[name])
        return Table(self.name, changed)

    def check(self, name: str, argument: str) -> None:
        """A column is there.

        Raises:
            InputError: it is not; close names are given, or all.
        """
        if name not in self.columns:
            hint = near(name, list(self.columns)) or f"; it has {', '.join(self.columns)}"
            raise InputError(f"{argument} {name}: {self.name} has no such column{hint}")


@dataclass(frozen=True)
class Labelled:
    """Rows with a class, and what they are described by.

    Attributes:
        table: the features' columns.
        y: classes as texts, (n,).
        target: name of the column they come from.
        places: of these rows in the file, from 0.
        unlabelled: rows whose class is missing, with their places.
        notes: what was left out.
    """

    table: Table
    y: np.ndarray
    target: str
    places: np.ndarray
    unlabelled: Table
    unlabelled_places: np.ndarray
    notes: tuple[str, ...]


def read(path: str | Path) -> Table:
    """Read a table whole.

    A column of a CSV is one of numbers where every cell that is not missing reads as a number.
    Cells that hold nothing, `?`, `NA`, `N/A`, `NaN` or `null` are missing.

    Args:
        path: ends in .csv, .tsv, .txt or one of these and .gz, or in .parquet.

    Raises:
        InputError: no such file, or another ending.
        DataError: the file cannot be read, has no rows, rows of unequal length, two columns of
            one name, or an infinite number.
        MissingExtra: Parquet without pyarrow.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is no file; give a table that ends in .csv, .csv.gz or .parquet")
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    if plain.endswith((".csv", ".tsv", ".txt")):
        columns = _from_text(path, gzipped=plain != name)
    elif name.endswith((".parquet", ".pq")):
        columns = _from_parquet(path)
    else:
        raise InputError(f"{path} must end in .csv, .tsv, .txt, one of these with .gz, or .parquet")
    table = Table(path.name, columns)
    if not columns or not len(table):
        raise DataError(f"{path} has no rows below its header")
    return table


def labelled(
    table: Table, target: str, *, drop: Sequence[str] = (), categories: Sequence[str] = ()
) -> Labelled:
    """Divide a table into classes and what they are to be told by.

    Args:
        table: as it was read.
        target: the column with the class of each row.
        drop: columns to leave out, such as identifiers.
        categories: columns of numbers that are names.

    Raises:
        InputError: an unknown column (close names are given), a target of measurements, fewer
            than two classes, or a class with one row.
    """
    table.check(target, "--target")
    if target in drop:
        raise InputError(f"--drop {target} is the target itself")
    given = table.columns[target]
    _check_classes(table, target, given)
    rest = table.without([target, *dict.fromkeys(drop)]).as_texts(categories)
    labels = texts_of(given)
    there = np.array([label is not None for label in labels])
    y = labels[there].astype(str)
    classes = np.unique(y).tolist()
    if len(classes) < 2:
        found = f"all are {classes[0]!r}" if len(classes) else "all are missing"
        raise InputError(
            f"--target {target} must hold at least two classes, {found}; a metric is learned from "
            "rows that differ in class"
        )
    notes = []
    if not there.all():
        notes.append(f"{(~there).sum():,} rows without {target} are not learned from")
    return Labelled(
        rest.rows(np.flatnonzero(there)),
        y,
        target,
        np.flatnonzero(there),
        rest.rows(np.flatnonzero(~there)),
        np.flatnonzero(~there),
        tuple(notes),
    )


def check_pairs_of_each(data: Labelled) -> None:
    """Every class has two rows, so that each row has a neighbour to be near to.

    Raises:
        InputError: a class has one row.
    """
    classes, counts = np.unique(data.y, return_counts=True)
    single = classes[counts < 2]
    if len(single):
        shown = ", ".join(map(repr, single[:5].tolist())) + ", ..." * (len(single) > 5)
        raise InputError(
            f"--target {data.target}: class{'es' * (len(single) > 1)} {shown} "
            f"{'have' if len(single) > 1 else 'has'} one row, and a row can only be near to "
            "another of its class; add rows, merge the class with another, or leave its row out"
        )


def texts_of(values: np.ndarray) -> np.ndarray:
    """Values as texts, whole numbers without a point; None where nothing is.

    >>> texts_of(np.array([1.0, np.nan, 2.5])).tolist()
    ['1', None, '2.5']
    """
    if values.dtype == object:
        return values
    return np.array([None if np.isnan(each) else _text(each) for each in values], dtype=object)


def _text(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def _check_classes(table: Table, target: str, given: np.ndarray) -> None:
    """A target of numbers is one of classes."""
    if given.dtype == object:
        return
    there = given[~np.isnan(given)]
    kinds = np.unique(there)
    fractions = (kinds != np.round(kinds)).any()
    limit = FEW_NUMBERS if fractions else max(MANY_CLASSES, len(there) / 10)
    if len(kinds) > limit:
        raise InputError(
            f"--target {target} holds {len(kinds)} different numbers in {len(there)} rows: these "
            "are measurements, to be predicted by regression; name a column of classes, or make "
            "a few classes of it, such as low and high"
        )


def _from_text(path: Path, *, gzipped: bool) -> dict[str, np.ndarray]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if gzipped else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text: {error}; save it so") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        body = [row for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    _check_header(path, header)
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(row)} cells where the header has {len(header)}: "
                f"{row[:4]}; quote cells that hold {separator!r}"
            )
    return {
        name: _parsed(path, name, [row[place].strip() for row in body])
        for place, name in enumerate(header)
    }


def _check_header(path: Path, header: Sequence[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns called {twice[0]!r}; rename one")
    if "" in header:
        raise DataError(f"{path}: column {header.index('') + 1} has no name; name or delete it")


def _parsed(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """Numbers where all cells are, texts otherwise."""
    given = [None if cell.lower() in MISSING else cell for cell in cells]
    try:
        if any("_" in cell for cell in given if cell is not None):  # float("1_0") is 10
            raise ValueError
        numbers = np.array([np.nan if cell is None else float(cell) for cell in given])
    except ValueError:
        return np.array(given, dtype=object)
    _check_finite(path, name, numbers)
    return numbers


def _check_finite(path: Path, name: str, numbers: np.ndarray) -> None:
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise DataError(f"{path}: column {name} must be finite, row {row + 2} is {numbers[row]}")


def _from_parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            f"reading {path.name} needs pyarrow: pip install 'tupelo[tables]'"
        ) from error
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    _check_header(path, table.column_names)
    return {name: _from_arrow(path, name, table[name]) for name in table.column_names}


def _from_arrow(path: Path, name: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    values = column.to_pylist()
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        _check_finite(path, name, numbers)
        return numbers
    if types.is_null(kind):
        return np.full(len(values), np.nan)
    # of dates and lists their text, which is refused where it is another in every row
    texts = [None if value is None else str(value).strip() for value in values]
    return np.array([text or None for text in texts], dtype=object)
