"""What a run writes down: `metrics.csv`, and TensorBoard where it is installed."""

import csv
import io
import logging
import math
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tupelo.errors import MissingExtra, TrainingDiverged
from tupelo.types import LossValue

logger = logging.getLogger(__name__)

Row = dict[str, float | int]


class _Taken(NamedTuple):
    step: int
    names: tuple[str, ...]
    values: Tensor  # total, parts, norm of the gradients; not yet looked at
    statistics: dict[str, float]


class Window:
    """The steps since the last row: their losses stay on the device until they are needed.

    Looking at a number makes the host wait for the device, so finiteness is checked, and means
    are taken, for all steps of the window at once. On a CPU nothing is to be waited for, and
    `fit` checks every step before it changes a weight.
    """

    def __init__(self):
        self._new: list[_Taken] = []
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._images = 0
        self._started = time.perf_counter()

    def add(self, step: int, value: LossValue, norm: Tensor, images: int) -> None:
        """Take in a step."""
        scalars = [value.total, *value.parts.values(), norm]
        values = torch.stack([scalar.detach().float().reshape(()) for scalar in scalars])
        self._new.append(_Taken(step, tuple(value.parts), values, value.statistics))
        self._images += images

    def check(self) -> None:
        """Look at all new steps.

        Raises:
            TrainingDiverged: a loss or gradient is NaN or infinite; names its parts and step.
        """
        if not self._new:
            return
        new, self._new = self._new, []
        widths = [len(taken.values) for taken in new]
        seen = torch.cat([taken.values for taken in new]).cpu().split(widths)
        for taken, values in zip(new, seen, strict=True):
            self._accept(taken, *values.tolist())

    def _accept(self, taken: _Taken, total: float, *rest: float) -> None:
        *parts, norm = rest
        bad = [n for n, v in zip(taken.names, parts, strict=True) if not math.isfinite(v)]
        if bad or not math.isfinite(total):
            raise TrainingDiverged(
                f"the loss became {total} at step {taken.step}, in "
                f"{', '.join(bad) or 'the total'}; the last good checkpoint is kept: lower lr, "
                "set clip_norm, or lengthen warmup_steps"
            )
        if not math.isfinite(norm):
            raise TrainingDiverged(
                f"a gradient became {norm} at step {taken.step}, while the loss was {total:g}; "
                "the last good checkpoint is kept: lower lr, set clip_norm, or use "
                "precision='float32'"
            )
        named = dict(zip(taken.names, parts, strict=True))
        for name, number in {"loss": total, **named, "gradient": norm, **taken.statistics}.items():
            self._sums[name] = self._sums.get(name, 0.0) + number
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> Row:
        """Means over the window and images per second; {} when it is empty."""
        self.check()
        row = {name: total / self._counts[name] for name, total in self._sums.items()}
        if row:
            seconds = time.perf_counter() - self._started
            row["images_per_second"] = self._images / max(seconds, 1e-9)
        return row


class Log:
    """`metrics.csv`: a row at each logging interval and after each epoch, and TensorBoard.

    Losing a log must not lose a run: when a row cannot be written, a warning is logged and
    training goes on; the rows are kept and written with the next one that can be.

    Args:
        folder: of the run; None writes nothing.
        keep: rows of an earlier part of the run to keep; later ones are dropped.
        tensorboard: see `Settings.tensorboard`.

    Raises:
        MissingExtra: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path | None, *, keep: int = 0, tensorboard: bool | None = None):
        self._path = None if folder is None else folder / "metrics.csv"
        self.rows: list[Row] = [] if self._path is None else read_rows(self._path)[:keep]
        self._columns = _columns(self.rows)
        self._behind = True  # the file is not yet what `rows` is
        self._board = _board(folder, tensorboard, self.rows)

    def write(self, row: Row) -> None:
        """Append a row."""
        self.rows.append(row)
        if self._path is not None:
            try:
                self._append(self._path, row)
            except OSError as error:
                self._behind = True
                logger.warning("cannot write %s (%s); training goes on", self._path, error)
        if self._board is not None:
            for name, number in row.items():
                self._board.add_scalar(name, number, int(row["step"]))

    def close(self) -> None:
        """Finish writing."""
        if self._board is not None:
            self._board.close()

    def _append(self, path: Path, row: Row) -> None:
        columns = list(dict.fromkeys([*self._columns, *row]))
        if columns != self._columns or self._behind:
            self._columns = columns
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".writing")
            unfinished.write_text(_text(self.rows, columns, header=True))
            unfinished.replace(path)
            self._behind = False
        else:
            with path.open("a", newline="") as file:
                file.write(_text([row], columns, header=False))


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a `metrics.csv`, empty cells left out; a row cut short ends the reading.

    >>> read_rows("nowhere.csv")
    []
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="") as file:
        for cells in csv.DictReader(file):
            if None in cells or None in cells.values():
                break
            rows.append({name: _number(cell) for name, cell in cells.items() if cell != ""})
    return rows


def _number(cell: str) -> float | int:
    try:  # as it was written, so that a resumed run writes the same file
        return int(cell)
    except ValueError:
        return float(cell)


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _text(rows: list[Row], columns: list[str], *, header: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _board(folder: Path | None, wanted: bool | None, rows: list[Row]):
    if wanted is False or folder is None:
        return None
    if find_spec("tensorboard") is None:
        if wanted:
            raise MissingExtra(
                "tensorboard=True needs the package tensorboard: pip install 'tupelo[logs]'"
            )
        return None
    from torch.utils.tensorboard import SummaryWriter

    last = int(rows[-1]["step"]) + 1 if rows else 0
    return SummaryWriter(str(folder / "tensorboard"), purge_step=last)
