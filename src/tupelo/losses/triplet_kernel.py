"""The compiled loop behind `triplet_sums`."""

from typing import no_type_check

import numpy as np
from numba import prange

from tupelo.compiled import compiled

# Sorting n negatives costs about as much as counting them for this many positives (measured).
SORT_FROM_POSITIVES = 192


@no_type_check
@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def triplet_rows(distance, positive, negative, margin, sums, active, slope):
    """Fill sums (b,), active (b,) and the slope of each row's sum by each distance (b, c)."""
    for i in prange(len(distance)):
        at_positive = np.flatnonzero(positive[i])
        at_negative = np.flatnonzero(negative[i])
        far = distance[i][at_negative]
        reached = np.zeros(len(far), distance.dtype)
        total, count = 0.0, 0
        if len(at_positive) < SORT_FROM_POSITIVES:
            for j in at_positive:
                bound = distance[i, j] + margin
                part, hits = distance.dtype.type(0), distance.dtype.type(0)
                for k in range(len(far)):
                    hinge = bound - far[k]
                    hit = distance.dtype.type(hinge > 0)
                    part += hinge * hit
                    hits += hit
                    reached[k] += hit
                slope[i, j] = hits
                total += part
                count += int(hits)
        else:
            order = np.argsort(far)
            bounds = np.sort(distance[i][at_positive])[::-1] + margin
            ranked = far[order]
            prefix = np.empty(len(far) + 1, np.float64)
            prefix[0] = 0.0
            for k in range(len(far)):
                prefix[k + 1] = prefix[k] + ranked[k]
            for j in at_positive:
                bound = distance[i, j] + margin
                below = np.searchsorted(ranked, bound)
                slope[i, j] = below
                total += below * bound - prefix[below]
                count += below
            m = len(bounds)
            for k in range(len(far)):
                while m > 0 and not bounds[m - 1] > ranked[k]:
                    m -= 1
                reached[order[k]] = m
        for k in range(len(far)):
            slope[i, at_negative[k]] = -reached[k]
        sums[i] = total
        active[i] = count
