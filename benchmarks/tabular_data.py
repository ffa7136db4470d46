"""Tables of the grid: where they come from, how they are divided, what is drawn of large ones."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tupelo.recipes.table_learners import sample
from tupelo.recipes.tables import Labelled, labelled, read
from tupelo.tabular import Columns, balance_scale, waveform

TARGET = "class"
AT_MOST = 4_000  # rows of a set; of larger ones so many are drawn, with every class its share
MANY = 1_000  # rows from which three splits are enough
PROTOCOL = ("iris", "wine", "ionosphere", "balance", "breast", "pima", "waveform")
"""Sets of the published protocol that are here; balance and waveform are generated."""
FILES = {"breast": "breast_cancer_wisconsin"}


@dataclass(frozen=True)
class Split:
    """Rows that are learned from and rows that are classified, as features."""

    X: np.ndarray
    y: np.ndarray
    new: np.ndarray
    labels: np.ndarray

    def lifted(self) -> "Split":
        """With a constant feature as long as a row is on average, as `tupelo tabular` adds it."""
        length = np.sqrt(np.square(self.X).sum(axis=1).mean())
        X, new = (np.insert(rows, rows.shape[1], length, axis=1) for rows in (self.X, self.new))
        return Split(X, self.y, new, self.labels)


def folder() -> Path:
    """Where the tables lie."""
    return Path(os.environ["TUPELO_DATA"]) / "uci"


def names() -> list[str]:
    """All tables, the smallest first."""
    paths = sorted(folder().glob("*.csv*"), key=lambda path: (rows_of(name_of(path)), path.name))
    return [name_of(path) for path in paths]


def name_of(path: Path) -> str:
    """`letter.csv.gz` is letter."""
    return path.name.partition(".")[0]


@lru_cache(maxsize=64)
def table(name: str) -> Labelled:
    """A table as a user reads it."""
    (path,) = folder().glob(f"{name}.csv*")
    return labelled(read(path), TARGET)


def rows_of(name: str) -> int:
    """Of the file."""
    return len(table(name).y)


def width_of(name: str) -> int:
    """Features that its columns become."""
    return len(Columns.of(table(name).table.columns).features)


def raw(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features as they are, of the sets of the published protocol; rows with gaps are left out."""
    if name == "balance":
        return balance_scale()
    if name == "waveform":
        return waveform(5_000, np.random.default_rng(0))
    data = table(FILES.get(name, name))
    X = np.stack(list(data.table.columns.values()), axis=1)
    whole = ~np.isnan(X).any(axis=1)
    return X[whole], data.y[whole]


def halves(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves of the rows, each with half of every class."""
    rng = np.random.default_rng(seed)
    first = []
    for label in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == label))
        # of an odd class now this half gets one more, now the other
        first.append(places[: (len(places) + int(rng.integers(2))) // 2])
    marks = np.zeros(len(y), dtype=bool)
    marks[np.concatenate(first)] = True
    return np.flatnonzero(marks), np.flatnonzero(~marks)


def seeds(name: str) -> range:
    """Splits of a set."""
    return range(5 if rows_of(name) <= MANY else 3)


def split(name: str, seed: int) -> Split:
    """One split of a table: features standardised by the half that is learned from.

    Classes of which one half has no row stay as they are: their rows are classified wrong.
    """
    data = table(name)
    drawn = sample(data.y, AT_MOST, seed)
    y = data.y[drawn]
    seen, new = halves(y, seed)
    known = data.table.rows(drawn[seen])
    columns = Columns.of(known.columns)
    asked = data.table.rows(drawn[new])
    return Split(columns.encode(known.columns), y[seen], columns.encode(asked.columns), y[new])
