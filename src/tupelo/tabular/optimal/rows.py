"""Rows and columns of a program, collected block by block."""

import numpy as np
from scipy.sparse import csr_array


class Rows:
    """Sparse rows with two bounds each.

    Example:
        >>> rows = Rows()
        >>> both = rows.dense(np.array([[1.0, 2.0], [0.0, 1.0]]), 0, 0.0, np.inf)
        >>> rows.add(both, 2, -1.0)
        >>> rows.matrix(3).toarray()
        array([[ 1.,  2., -1.],
               [ 0.,  1., -1.]])
    """

    def __init__(self):
        self._entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._lower: list[np.ndarray] = []
        self._upper: list[np.ndarray] = []
        self._count = 0

    def one(self, lower, upper) -> np.ndarray:
        """The number of a new row without entries, as an array of one."""
        return self._new(1, lower, upper)

    def dense(self, values: np.ndarray, first: int, lower, upper) -> np.ndarray:
        """The numbers of new rows with these entries from column `first` on."""
        rows = self._new(len(values), lower, upper)
        at, column = np.nonzero(values)
        self._entries.append((rows[at], column + first, values[at, column]))
        return rows

    def add(self, rows: np.ndarray, columns, values) -> None:
        """Entries; a single row, column or value is repeated."""
        rows, columns, values = np.broadcast_arrays(rows, columns, np.float64(values))
        self._entries.append((rows, columns, values))

    def matrix(self, width: int) -> csr_array:
        """All rows."""
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        return csr_array((value, (row, column)), shape=(self._count, width))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of all rows."""
        return np.concatenate(self._lower), np.concatenate(self._upper)

    def _new(self, count: int, lower, upper) -> np.ndarray:
        self._lower.append(np.broadcast_to(np.float64(lower), count))
        self._upper.append(np.broadcast_to(np.float64(upper), count))
        self._count += count
        return np.arange(self._count - count, self._count)


class Columns:
    """Variables: costs, bounds, and which are whole numbers.

    Example:
        >>> columns = Columns()
        >>> columns.new(2, 1.0, 0.0, np.inf), columns.new(1, 0.0, 0.0, 1.0, whole=True)
        (array([0, 1]), array([2]))
    """

    def __init__(self):
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._count = 0

    def new(self, count: int, cost, lower, upper, *, whole: bool = False) -> np.ndarray:
        """The numbers of new variables."""
        values = (cost, lower, upper, float(whole))
        self._parts.append(tuple(np.broadcast_to(np.float64(v), count) for v in values))
        self._count += count
        return np.arange(self._count - count, self._count)

    def all(self) -> tuple[np.ndarray, ...]:
        """Costs, lower and upper bounds, and 1 for whole variables."""
        return tuple(np.concatenate(part) for part in zip(*self._parts, strict=True))
