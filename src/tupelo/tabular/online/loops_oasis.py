"""The compiled loop of OASIS."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online.loops import DONE, INFINITE, SUMS, dot


@compiled(fastmath=SUMS)
def learn_oasis(W, group, m, apart, aggressiveness, counts):
    """Passive-aggressive steps on the triplets of a group; `apart` is room for a row.

    Returns:
        How it ended, and at which triplet.
    """
    rows, d = group.rows, W.shape[0]
    for t in range(m):
        x, p, q = 3 * t, 3 * t + 1, 3 * t + 2
        for k in range(d):
            apart[0, k] = rows[p, k] - rows[q, k]
        score = 0.0
        for i in range(d):
            score += rows[x, i] * dot(W, i, apart, 0)
        loss = 1.0 - score
        if not abs(loss) < np.inf:
            return INFINITE, t
        if loss > 0.0:
            square = dot(rows, x, rows, x) * dot(apart, 0, apart, 0)
            rate = loss / square if loss < aggressiveness * square else aggressiveness
            if not rate * square < np.inf:
                return INFINITE, t
            counts[0] += 1
            for i in range(d):
                weight = rate * rows[x, i]
                for k in range(d):
                    W[i, k] += weight * apart[0, k]
    return DONE, -1
