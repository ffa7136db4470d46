"""Files of features: a row of numbers for each picture, by its name."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tupelo.data.listing import is_picture
from tupelo.errors import DataError, MissingExtra

SUFFIXES = (".npz", ".parquet", ".csv")


@dataclass(frozen=True)
class Features:
    """Rows by name.

    Attributes:
        names: of pictures, each once.
        rows: as they stand in the file, finite and none of them zero.
    """

    names: tuple[str, ...]
    rows: Float[np.ndarray, "n d"]


def read_features(path: Path) -> Features:
    """Features of pictures, as `tupelo embed` writes them, or from elsewhere.

    - `.npz`: arrays `paths` (n,) of text and `z` (n, d) of numbers;
    - `.parquet`: a column `path`, and a column `z` of lists of equal length;
    - `.csv`: a heading, a column `path`, and a column for each number; a column `label` is passed
      over.

    Nothing is unpickled.

    Raises:
        DataError: the file is missing or damaged, or lacks one of these; names are given twice; a
            row is NaN, infinite or zero.
        MissingExtra: Parquet without pyarrow.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"features must be a file .npz, .parquet or .csv, got {path}")
    if not path.is_file():
        raise DataError(f"{path} is missing; tupelo embed RUN SOURCE --out {path.name} writes it")
    names, rows = {".npz": _of_npz, ".parquet": _of_parquet, ".csv": _of_csv}[path.suffix](path)
    if rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) != len(names) or not rows.size:
        raise DataError(
            f"{path} must hold a row of numbers for each name, got {len(names)} names and "
            f"{rows.dtype} of shape {rows.shape}"
        )
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise DataError(
            f"{path} holds {len(twice)} names twice, first {twice[0]}; keep one of each"
        )
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        what = "zero" if norms[bad[0]] == 0 else "NaN or infinite"
        raise DataError(
            f"{path}: {len(bad)} of {len(rows)} rows are NaN, infinite or zero, first that of "
            f"{names[bad[0]]} ({what}); embed these pictures again, or leave them out"
        )
    return Features(tuple(names), rows)


def match(wanted: Sequence[str], names: Sequence[str], where: str) -> Int[np.ndarray, " n"]:
    """The place of each wanted picture among names that may begin with other folders.

    As many of the last parts of a path are compared as are wanted; endings of pictures are not.

    Raises:
        DataError: one is missing, or several could be meant.

    >>> match(["a/1.jpg"], ["faces/b/1.png", "faces/a/1.png"], "here").tolist()
    [1]
    """
    tables: dict[int, dict[str, int]] = {}
    places, lost = [], []
    for want in wanted:
        depth = len(PurePosixPath(want).parts)
        if depth not in tables:
            tables[depth] = _by_tail(names, depth)
        place = tables[depth].get(_tail(want, depth))
        if place is None:
            lost.append(want)
        elif place < 0:
            raise DataError(
                f"{where} holds several pictures that could be {want}; give a folder or file with "
                "one of each"
            )
        else:
            places.append(place)
    if lost:
        raise DataError(
            f"{where} lacks {len(lost)} of {len(wanted)} pictures of the protocol, first "
            f"{lost[0]}; a name must end as the protocol writes it"
        )
    return np.array(places, np.int64)


def _by_tail(names: Sequence[str], depth: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        tail = _tail(name, depth)
        found[tail] = -1 if tail in found else place
    return found


def _tail(name: str, depth: int) -> str:
    path = PurePosixPath(name)
    last = path.stem if is_picture(name) else path.name
    return "/".join((*path.parts[-depth:-1], last))


def _of_npz(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            names, rows = held["paths"], held["z"]
    except KeyError as error:
        raise DataError(
            f"{path} has no array {error.args[0].split()[0]}; features are the arrays paths and z, "
            "as tupelo embed writes them"
        ) from error
    except Exception as error:  # zipfile and numpy raise anything on damaged bytes
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    return [str(name) for name in np.atleast_1d(names)], rows


def _of_parquet(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            f"reading {path.suffix} needs pyarrow: pip install 'tupelo[tables]'; .npz needs nothing"
        ) from error
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    absent = [name for name in ("path", "z") if name not in table.column_names]
    if absent:
        raise DataError(
            f"{path} has no column {', '.join(absent)}; features are the columns path and z"
        )
    return table["path"].to_pylist(), _matrix(table["z"].to_pylist(), path)


def _of_csv(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} must be UTF-8 text: {error}") from error
    lines = csv.reader(text.splitlines())
    heading = [name.strip() for name in next(lines, [])]
    if "path" not in heading:
        raise DataError(f"{path} has no column path; features are path and a column a number")
    at = heading.index("path")
    numbers = [place for place, name in enumerate(heading) if name not in ("path", "label")]
    names, rows = [], []
    for row in lines:
        if not row:
            continue
        try:
            rows.append([float(row[place]) for place in numbers])
            names.append(row[at])
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {lines.line_num} must have a path and {len(numbers)} numbers, it is "
                f"{','.join(row)[:60]!r}"
            ) from error
    return names, _matrix(rows, path)


def _matrix(rows: list[Any], path: Path) -> np.ndarray:
    try:
        return np.array(rows, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} must hold rows of equally many numbers: {error}") from error
