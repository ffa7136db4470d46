"""The compiled loop behind `triplet_sums`."""

import numpy as np

from tupelo.compiled import compiled

# Sorting n negatives costs about as much as counting them for this many positives (measured).
SORT_FROM_POSITIVES = 768


@compiled(fastmath={"reassoc", "contract", "nsz"})
def triplet_rows(distance, positive, negative, margin, sums, active, slope):
    """Fill sums (b,), active (b,) and the slope of each row's sum by each distance (b, c)."""
    n = distance.shape[1]
    zero, one = distance.dtype.type(0), distance.dtype.type(1)
    for i in range(len(distance)):
        far = np.empty(n, distance.dtype)
        row = slope[i]
        for k in range(n):
            # finite, so that times 0 it is 0
            far[k] = distance[i, k] if negative[i, k] else distance.dtype.type(1e30)
            row[k] = zero
        at_positive = np.flatnonzero(positive[i])
        total, count = 0.0, 0
        if len(at_positive) < SORT_FROM_POSITIVES:
            for j in at_positive:
                bound = distance[i, j] + margin
                part, hits = zero, zero
                for k in range(n):  # without branches, so that it becomes vector instructions
                    gap = bound - far[k]
                    hit = one if gap > zero else zero
                    part += hit * gap
                    hits += hit
                    row[k] -= hit
                row[j] = hits
                total += part
                count += int(hits)
        else:
            order = np.argsort(far)[: np.count_nonzero(negative[i])]
            bounds = np.sort(distance[i][at_positive])[::-1] + margin
            ranked = far[order]
            prefix = np.empty(len(order) + 1, np.float64)
            prefix[0] = 0.0
            for k in range(len(order)):
                prefix[k + 1] = prefix[k] + ranked[k]
            for j in at_positive:
                bound = distance[i, j] + margin
                below = np.searchsorted(ranked, bound)
                row[j] = below
                total += below * bound - prefix[below]
                count += below
            m = len(bounds)
            for k in range(len(order)):
                while m > 0 and not bounds[m - 1] > ranked[k]:
                    m -= 1
                row[order[k]] = -m
        sums[i] = total
        active[i] = count
