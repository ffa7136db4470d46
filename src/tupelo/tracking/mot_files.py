"""MOTChallenge's files: detections, truth, results and `seqinfo.ini`.

Pixels are counted from 1 in files and from 0 in memory; nothing else converts between the two.
Names may end in `.txt` or `.txt.gz`.
"""

import configparser
import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from tupelo.errors import DataError, InputError

UNKNOWN = -1  # class or visibility that a file does not tell
FIRST_PIXEL = np.array([1.0, 1.0, 0.0, 0.0])
LARGEST = 2**53  # whole number that float64 holds
SMALLEST = 0.0001  # width that four decimals can hold


class _Kind(NamedTuple):
    """Numbers of columns a file may have, with which of them it has classes or visibility."""

    told: str
    columns: tuple[int, ...]
    with_classes: tuple[int, ...] = ()
    with_visibility: tuple[int, ...] = ()


DETECTIONS = _Kind("det.txt has 7 or 10 columns", (7, 10))
TRUTH = _Kind("gt.txt has 9 columns, or 10 in MOT15", (9, 10), (9,), (9,))
RESULT = _Kind("a result has 7 to 10 columns", (7, 8, 9, 10), (8, 9, 10))


@dataclass(frozen=True, eq=False)
class MotRows:
    """Boxes of a file, ordered by frame; those of a frame as they stand there.

    Attributes:
        frames: number of the frame, from 1.
        ids: -1 in detections.
        boxes: rows x, y, w, h: the top left corner, in pixels from 0, and the size.
        confidence: of detections and results; of truth the flag, 0 where a box is not scored.
        classes: 1 for a pedestrian; -1 where the file has none.
        visibility: of truth, in [0, 1]; -1 where the file has none.
    """

    frames: Int64[np.ndarray, " n"]
    ids: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]
    confidence: Float64[np.ndarray, " n"]
    classes: Int64[np.ndarray, " n"]
    visibility: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Boxes."""
        return len(self.frames)

    def take(self, rows: Shaped[np.ndarray, " k"]) -> "MotRows":
        """Some of them: places or a mask."""
        parts = (self.frames, self.ids, self.boxes, self.confidence, self.classes, self.visibility)
        return MotRows(*(part[rows] for part in parts))


@dataclass(frozen=True)
class SequenceInfo:
    """What `seqinfo.ini` says.

    Attributes:
        name: of the sequence.
        folder: of its pictures, below that of the sequence.
        frame_rate: frames a second.
        length: frames.
        width: of a picture, in pixels; `height` likewise.
        extension: of pictures, with the dot.
    """

    name: str
    folder: str
    frame_rate: float
    length: int
    width: int
    height: int
    extension: str


@dataclass(frozen=True, eq=False)
class Sequence:
    """A sequence in MOTChallenge's layout.

    Attributes:
        info: of `seqinfo.ini`.
        detections: of `det/det.txt`.
        truth: of `gt/gt.txt`; None where there is none.
        pictures: folder of its pictures, which need not be there.
    """

    info: SequenceInfo
    detections: MotRows
    truth: MotRows | None
    pictures: Path

    def frame_path(self, number: int) -> Path:
        """Where the picture of a frame is looked for.

        Raises:
            InputError: no number of a frame.
        """
        if not 1 <= number <= self.info.length:
            raise InputError(
                f"number must be 1 to {self.info.length}, the frames of {self.info.name}, got "
                f"{number}"
            )
        return self.pictures / f"{number:06d}{self.info.extension}"


def read_detections(path: str | Path) -> MotRows:
    """Read `det.txt`: frame, -1, x, y, w, h, confidence, and three more columns or none.

    Raises:
        DataError: see `read_results`; an id may stand in a frame as often as it likes.
    """
    return _rows(Path(path), DETECTIONS)


def read_truth(path: str | Path) -> MotRows:
    """Read `gt.txt`: frame, id, x, y, w, h, flag, class, visibility; or ten columns of MOT15.

    MOT15 has no classes; its last three columns are a place in the world, which is not read.

    Raises:
        DataError: see `read_results`.
    """
    path = Path(path)
    rows = _rows(path, TRUTH)
    _check_once(path, rows)
    return rows


def read_results(path: str | Path) -> MotRows:
    """Read a result: frame, id, x, y, w, h, confidence, then up to three columns: class, two more.

    Raises:
        DataError: it is not there, or no text; a line has another number of columns, no numbers,
            NaN, a width or height of 0 or less, a frame below 1, a negative id; an id stands twice
            in a frame. File and line are named.
    """
    path = Path(path)
    rows = _rows(path, RESULT)
    negative = np.flatnonzero(rows.ids < 0)
    if len(negative):
        place = negative[0]
        raise DataError(
            f"{path}: ids of a result must be 0 or more, frame {rows.frames[place]} has "
            f"{rows.ids[place]}; are these detections?"
        )
    _check_once(path, rows)
    return rows


def write_results(path: str | Path, rows: MotRows) -> None:
    """Write a result in ten columns, whole or not at all.

    Args:
        path: ends in .txt, or in .txt.gz to be compressed.
        rows: any order; classes and visibility are not written.

    Raises:
        InputError: a frame below 1, a box that is not finite or smaller than 0.0001, a confidence
            that is not finite, an id twice in a frame.
    """
    path = Path(path)
    numbers = np.column_stack([rows.boxes, rows.confidence])
    bad = ~np.isfinite(numbers).all(axis=1) | (rows.frames < 1)
    bad |= ~(rows.boxes[:, 2:] >= SMALLEST).all(axis=1)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"rows must have frames from 1, finite numbers, and w and h of {SMALLEST} or more; row "
            f"{place} has frame {rows.frames[place]}, id {rows.ids[place]}, box "
            f"{rows.boxes[place].tolist()}, confidence {rows.confidence[place]}"
        )
    if (found := _twice(rows)) is not None:
        frame, name = found
        raise InputError(
            f"an id may stand once in a frame, and frame {frame} has id {name} more than once"
        )
    order = np.argsort(rows.frames, kind="stable")
    boxes = rows.boxes[order] + FIRST_PIXEL
    columns = (rows.frames[order], rows.ids[order], *boxes.T, rows.confidence[order])
    text = "".join(
        f"{frame},{name},{x:.4f},{y:.4f},{w:.4f},{h:.4f},{confidence:.4f},-1,-1,-1\n"
        for frame, name, x, y, w, h, confidence in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )
    data = text.encode("ascii")
    if path.name.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_info(path: str | Path) -> SequenceInfo:
    """Read `seqinfo.ini`.

    `imDir` and `imExt` may be missing and are then `img1` and `.jpg`.

    Raises:
        DataError: it is not there, has no section `[Sequence]`, misses a value, or a value is none.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(path), str(path))
        section = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        raise DataError(f"{path} must have a section [Sequence]: {error}") from error
    needed = ("name", "frameRate", "seqLength", "imWidth", "imHeight")
    if missing := [key for key in needed if key not in section]:
        raise DataError(f"{path} must state {', '.join(needed)}, misses {', '.join(missing)}")
    numbers = {key: _number(path, key, section[key]) for key in needed[1:]}
    for key in needed[2:]:
        if numbers[key] != int(numbers[key]):
            raise DataError(f"{path}: {key} must be a whole number, got {section[key]}")
    return SequenceInfo(
        section["name"],
        section.get("imDir", "img1"),
        numbers["frameRate"],
        int(numbers["seqLength"]),
        int(numbers["imWidth"]),
        int(numbers["imHeight"]),
        section.get("imExt", ".jpg"),
    )


def read_sequence(folder: str | Path) -> Sequence:
    """Read `seqinfo.ini`, `det/det.txt` and, where it is, `gt/gt.txt` of a sequence.

    Raises:
        DataError: one cannot be read, or has frames after the last.
    """
    folder = Path(folder)
    info = read_info(folder / "seqinfo.ini")
    detections = read_detections(either(folder / "det" / "det.txt"))
    place = either(folder / "gt" / "gt.txt")
    truth = read_truth(place) if place.is_file() else None
    for name, rows in (("det/det.txt", detections), ("gt/gt.txt", truth)):
        if rows is not None:
            check_length(folder / name, rows, info.length)
    return Sequence(info, detections, truth, folder / info.folder)


def find_sequences(root: str | Path) -> list[Path]:
    """Folders of all sequences: of the root itself, below it, or below its splits.

    Returns:
        Folders that hold a `seqinfo.ini`, in order of their names.

    Raises:
        DataError: there is none.
    """
    root = Path(root)
    for pattern in ("seqinfo.ini", "*/seqinfo.ini", "*/*/seqinfo.ini"):
        if found := sorted(path.parent for path in root.glob(pattern)):
            return found
    raise DataError(
        f"{root} must hold sequences, folders with seqinfo.ini and det/det.txt, directly or below "
        "train/ and test/; found none"
    )


def check_length(path: Path, rows: MotRows, length: int) -> None:
    """No frame comes after the last.

    Raises:
        DataError: one does.
    """
    if len(rows) and rows.frames[-1] > length:
        raise DataError(
            f"{path} has frame {rows.frames[-1]}, and the sequence ends at {length}; does the file "
            "belong to it?"
        )


def either(path: Path) -> Path:
    """The file, or where only its compressed form is there, that."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def _rows(path: Path, kind: _Kind) -> MotRows:
    """Parse, check and order a file."""
    table, lines = _table(path, kind)
    width = table.shape[1]
    classed = width in kind.with_classes
    size = table[:, 4:6]
    _check(path, lines, table, ~np.isfinite(table).all(axis=1), "numbers must be finite")
    _check(path, lines, table, ~(size > 0).all(axis=1), "w and h (columns 5, 6) must be above 0")
    _check(path, lines, table, table[:, 0] < 1, "frames (column 1) count from 1")
    for column, name in ((0, "frame"), (1, "id"), *([(7, "class")] if classed else [])):
        values = table[:, column]
        broken = (np.abs(values) > LARGEST) | (values != np.floor(values))
        told = f"the {name} (column {column + 1}) must be a whole number"
        _check(path, lines, table, broken, told)
    table = table[np.argsort(table[:, 0], kind="stable")]
    unknown = np.full(len(table), UNKNOWN)
    seen = width in kind.with_visibility
    return MotRows(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2:6] - FIRST_PIXEL,
        table[:, 6].copy(),
        table[:, 7].astype(np.int64) if classed else unknown,
        table[:, 8].copy() if seen else unknown.astype(np.float64),
    )


def _table(path: Path, kind: _Kind) -> tuple[Float64[np.ndarray, "n c"], Int64[np.ndarray, " n"]]:
    """Numbers of all lines that are not empty, and which lines they are, from 1."""
    lines = _text(path).split("\n")
    full = [number for number, line in enumerate(lines, 1) if line and not line.isspace()]
    rows = lines if len(full) == len(lines) else [lines[number - 1] for number in full]
    if not rows:
        return np.zeros((0, kind.columns[0])), np.zeros(0, np.int64)
    try:
        table = np.loadtxt(rows, delimiter=",", comments=None, ndmin=2, dtype=np.float64)
        if table.shape[1] not in kind.columns:
            raise ValueError
    except ValueError:
        raise DataError(_first_fault(path, kind, full, rows)) from None
    return table, np.array(full)


def _first_fault(path: Path, kind: _Kind, numbers: list[int], rows: list[str]) -> str:
    width = rows[0].count(",") + 1
    for number, row in zip(numbers, rows, strict=True):
        cells = row.split(",")
        where = f"{path}, line {number}"
        if len(cells) not in kind.columns:
            return (
                f"{where}: {len(cells)} columns, and {kind.told}, separated by commas: {row[:60]!r}"
            )
        if len(cells) != width:
            return f"{where}: {len(cells)} columns, and the lines before have {width}: {row[:60]!r}"
        for column, cell in enumerate(cells, 1):
            try:
                if "_" in cell:  # float("1_0") is 10
                    raise ValueError
                float(cell)
            except ValueError:
                return f"{where}: column {column} must be a number, got {cell.strip()[:40]!r}"
    return f"{path} cannot be read as numbers"


def _check(
    path: Path,
    lines: Int64[np.ndarray, " n"],
    table: Float64[np.ndarray, "n c"],
    bad: Any,
    told: str,
) -> None:
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        values = ",".join(f"{value:g}" for value in table[first])
        raise DataError(
            f"{path}, line {lines[first]}: {told}, got {values} ({int(bad.sum())} such lines)"
        )


def _check_once(path: Path, rows: MotRows) -> None:
    if (found := _twice(rows)) is not None:
        frame, name = found
        raise DataError(
            f"{path}: an id may stand once in a frame, and frame {frame} has id {name} more than "
            "once"
        )


def _twice(rows: MotRows) -> tuple[int, int] | None:
    """The first frame and id that stand more than once."""
    order = np.lexsort((rows.ids, rows.frames))
    frames, ids = rows.frames[order], rows.ids[order]
    again = np.flatnonzero((np.diff(frames) == 0) & (np.diff(ids) == 0))
    return (int(frames[again[0]]), int(ids[again[0]])) if len(again) else None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.name.endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be text: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _number(path: Path, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise DataError(f"{path}: {key} must be a number above 0, got {value!r}")
    return number
