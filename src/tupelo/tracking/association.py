"""Who is who: tracks and detections assigned to each other by any cost.

A cost is a function of tracks and detections whose answer is a matrix `(n, m)`, infinite where a
pair is not possible. `assigned` knows nothing of boxes or looks.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment

IMPOSSIBLE = 1e5  # above any sum of possible costs


def assigned(
    cost: Float64[np.ndarray, "n m"],
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """The most possible pairs, and of such assignments the cheapest.

    Equal to the Hungarian method on the matrix with a large number in place of infinity, whose
    impossible pairs are dropped. Pairs that are possible with nobody else need no search, so it
    runs on the others alone.

    Args:
        cost: infinite where a pair is not possible; possible costs are small against 1e5.

    Returns:
        Rows and columns of the pairs, by row.

    >>> assigned(np.array([[0.1, np.inf], [0.2, 0.5]]))
    (array([0, 1]), array([0, 1]))
    """
    possible: Bool[np.ndarray, "n m"] = np.isfinite(cost)
    rows, columns = np.nonzero(possible)
    if not len(rows):
        return rows, columns
    of_row, of_column = np.bincount(rows), np.bincount(columns)
    alone = (of_row[rows] == 1) & (of_column[columns] == 1)
    if alone.all():
        return rows, columns
    some, others = np.unique(rows[~alone]), np.unique(columns[~alone])
    part = cost[np.ix_(some, others)]
    first, second = linear_sum_assignment(np.where(np.isfinite(part), part, IMPOSSIBLE))
    fine = np.isfinite(part[first, second])
    rows = np.concatenate([rows[alone], some[first[fine]]])
    columns = np.concatenate([columns[alone], others[second[fine]]])
    order = np.argsort(rows)
    return rows[order], columns[order]


def in_cascade(
    cost: Float64[np.ndarray, "n m"], misses: Int64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Assigned in turn: tracks that were missed for fewer frames choose first.

    Args:
        cost: as of `assigned`.
        misses: frames since each track was last seen.
    """
    rows, columns = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    free = np.ones(cost.shape[1], dtype=bool)
    for miss in np.unique(misses):
        group, left = np.flatnonzero(misses == miss), np.flatnonzero(free)
        first, second = assigned(cost[np.ix_(group, left)])
        rows = np.concatenate([rows, group[first]])
        columns = np.concatenate([columns, left[second]])
        free[left[second]] = False
    order = np.argsort(rows)
    return rows[order], columns[order]
