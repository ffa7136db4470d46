"""The compiled loops behind `presolve`: knapsacks over a box in the simplex."""

import numpy as np

from tupelo.compiled import compiled

TIED = 1e-9  # distances closer than this are equal, so that rounding makes no circles of dominance


@compiled()
def largest(g, lo, room, rest, work):
    """Maximum of g.w over lo <= w <= lo + room with sum one; rest = 1 - sum of lo.

    The largest entries are filled up first; which those are is found as in quickselect, by parting
    the entries around one of them, in the `(2, A)` scratch space `work`.
    """
    value, space = work[0], work[1]
    total = 0.0
    for a in range(len(g)):
        total += g[a] * lo[a]
        value[a] = g[a]
        space[a] = room[a]
    left, right = 0, len(g)
    while left < right and rest > 0:
        first, middle, last = value[left], value[(left + right) // 2], value[right - 1]
        pivot = max(min(first, middle), min(max(first, middle), last))
        # [left, above) > pivot, [above, at) == pivot, [below, right) < pivot
        above, at, below = left, left, right
        larger, equal, worth = 0.0, 0.0, 0.0
        while at < below:
            if value[at] > pivot:
                larger += space[at]
                worth += value[at] * space[at]
                value[at], value[above] = value[above], value[at]
                space[at], space[above] = space[above], space[at]
                above += 1
                at += 1
            elif value[at] < pivot:
                below -= 1
                value[at], value[below] = value[below], value[at]
                space[at], space[below] = space[below], space[at]
            else:
                equal += space[at]
                at += 1
        if larger > rest:
            right = above
        elif larger + equal >= rest:
            return total + worth + pivot * (rest - larger)
        else:
            total += worth + pivot * equal
            rest -= larger + equal
            left = below
    return total


@compiled()
def _extremes(phi, lo, room, rest, work):
    """Smallest and largest value of each row."""
    low, high = np.empty(len(phi)), np.empty(len(phi))
    for j in range(len(phi)):
        high[j] = largest(phi[j], lo, room, rest, work)
        low[j] = -largest(-phi[j], lo, room, rest, work)
    return low, high


@compiled()
def _smallest(values, rank):
    """The value of this rank, counted from 1; infinite where there are fewer."""
    if len(values) < rank:
        return np.inf
    return np.sort(values)[rank - 1]


@compiled()
def _drop_dominated(keep, phi, lo, room, rest, work, at_centre, low, high, number, compared):
    """Drop rows that have `number` others which are never farther."""
    held = np.flatnonzero(keep)
    held = held[np.argsort(at_centre[held], kind="mergesort")]
    for position in range(len(held)):
        j = held[position]
        dominators = 0
        for b in held[:compared]:
            if b == j or at_centre[b] > at_centre[j] or low[b] > low[j] or high[b] > high[j]:
                continue
            if largest(phi[b] - phi[j], lo, room, rest, work) > 0:
                continue
            # of rows that are equal on the region, the first dominates
            if b > j and largest(phi[j] - phi[b], lo, room, rest, work) <= TIED:
                continue
            dominators += 1
            if dominators >= number:
                keep[j] = False
                break


@compiled()
def reduce_lists(phi_own, phi_other, lo, hi, centre, need, allowed, rho, epsilon, compared):
    """See `presolve`: settled, rows kept of both lists, high of own, low of other, radii."""
    rest = 1.0 - lo.sum()
    room = hi - lo
    work = np.empty((2, len(lo)))
    own_low, own_high = _extremes(phi_own, lo, room, rest, work)
    other_low, other_high = _extremes(phi_other, lo, room, rest, work)
    own_centre, other_centre = phi_own @ centre, phi_other @ centre
    radius_low, radius_high = _smallest(own_low, need), _smallest(own_high, need)
    keep_own = np.zeros(len(phi_own), np.bool_)
    keep_other = np.zeros(len(phi_other), np.bool_)
    if len(phi_own) < need:
        return 1, keep_own, keep_other, own_high, other_low, 0.0, 0.0
    keep_own = own_low <= radius_high
    # farther than all rivals that are needed to make an error, or than any radius reaches
    reach = min(_smallest(other_high, allowed + 1), (1 + rho) * radius_high + epsilon)
    keep_other = other_low <= reach
    surely, possibly = 0, 0
    for j in np.flatnonzero(keep_own):
        maybe_nearer, always_nearer = 0, 0
        factor = 1 + rho
        for m in np.flatnonzero(keep_other):
            if factor * own_high[j] + epsilon <= other_low[m]:
                continue
            beaten_at_centre = factor * own_centre[j] + epsilon > other_centre[m]
            if factor * own_low[j] + epsilon > other_high[m]:
                always_nearer += 1
                maybe_nearer += 1
                continue
            g = factor * phi_own[j] - phi_other[m]
            if beaten_at_centre:
                maybe_nearer += 1
                if -largest(-g, lo, room, rest, work) + epsilon > 0:
                    always_nearer += 1
            elif largest(g, lo, room, rest, work) + epsilon > 0:
                maybe_nearer += 1
        if maybe_nearer <= allowed:
            surely += 1
        if always_nearer <= allowed:
            possibly += 1
        else:
            keep_own[j] = False
    if surely >= need:
        return 0, keep_own, keep_other, own_high, other_low, radius_low, radius_high
    if possibly < need:
        return 1, keep_own, keep_other, own_high, other_low, radius_low, radius_high
    _drop_dominated(
        keep_own, phi_own, lo, room, rest, work, own_centre, own_low, own_high, need, compared
    )
    _drop_dominated(
        keep_other,
        phi_other,
        lo,
        room,
        rest,
        work,
        other_centre,
        other_low,
        other_high,
        allowed + 1,
        compared,
    )
    return -1, keep_own, keep_other, own_high, other_low, radius_low, radius_high
