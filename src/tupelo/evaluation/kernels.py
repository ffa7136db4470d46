"""Compiled loops behind `retrieval` and `nearest`; imported late, for numba is slow to load.

One function, `similarity`, defines the score of a pair. Everything else works with the scores of a
fast product, whose distance from `similarity` is bounded: what the bound decides is counted at
once, the rest is scored again with `similarity`. So the fast product never shows in a result.
"""

import inspect
from typing import NamedTuple

import numpy as np
from numba import njit

GROUP = 32  # scores compared between two branches


def compiled(function):
    """Compile on first call, without the GIL; keep the machine code on disk where possible."""
    function = inspect.unwrap(function)  # run-time type checkers wrap what they import
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no folder that it may write
        return njit(nogil=True, error_model="numpy")(function)


class Side(NamedTuple):
    """Queries or gallery: unit rows, and what the fast product knows of each.

    The fast score `v` of query `i` and item `j` is `product * scale[i]`, and differs from
    `similarity` by at most `rel * |v| + error[i] * norm[j] + norm[i] * error[j]`.
    """

    rows: np.ndarray  # (n, d) float32
    item: np.ndarray  # (n,) int64: identity; equal identities are never compared
    norm: np.ndarray  # (n,) float64
    error: np.ndarray  # (n,) float64
    scale: np.ndarray  # (n,) float64; of the gallery: unused


class Wanted(NamedTuple):
    """The relevant gallery rows of query `i`: `members[start[i]:stop[i]]`, ascending."""

    start: np.ndarray  # (q,) int64
    stop: np.ndarray  # (q,) int64
    members: np.ndarray  # int64


class Ranks(NamedTuple):
    """Counting state of a block of queries; query `i` owns the slots from `offset[i]` on.

    `score` holds the similarities of its relevant items, best first: the thresholds. `beaten[j]`
    counts the other items that beat threshold `j` but not threshold `j - 1`.
    """

    offset: np.ndarray  # (q,) int64
    score: np.ndarray  # (t,) float64
    index: np.ndarray  # (t,) int64: gallery row
    beaten: np.ndarray  # (t,) int64
    count: np.ndarray  # (q,) int64: R, thresholds of the query
    alive: np.ndarray  # (q,) int64: thresholds whose rank can still matter
    fresh: np.ndarray  # (q,) int64: items counted since the last pruning
    limit: np.ndarray  # (q,) int64: largest rank that matters, but for the first threshold


@compiled
def similarity(x, y):
    """Float64 dot product in a fixed order: eight running sums, then a tree.

    Products of two float32 are exact in float64, so fused multiply-adds change nothing.
    """
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    d = x.shape[0]
    even = d - d % 8
    for i in range(0, even, 8):
        a0 += np.float64(x[i]) * np.float64(y[i])
        a1 += np.float64(x[i + 1]) * np.float64(y[i + 1])
        a2 += np.float64(x[i + 2]) * np.float64(y[i + 2])
        a3 += np.float64(x[i + 3]) * np.float64(y[i + 3])
        a4 += np.float64(x[i + 4]) * np.float64(y[i + 4])
        a5 += np.float64(x[i + 5]) * np.float64(y[i + 5])
        a6 += np.float64(x[i + 6]) * np.float64(y[i + 6])
        a7 += np.float64(x[i + 7]) * np.float64(y[i + 7])
    for i in range(even, d):
        a0 += np.float64(x[i]) * np.float64(y[i])
    return ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))


@compiled
def score_relevant(queries, gallery, wanted, ranks, largest_k):
    """Fill the thresholds of a block: similarities of the relevant items, best first."""
    for i in range(queries.rows.shape[0]):
        base = ranks.offset[i]
        n = 0
        for m in range(wanted.start[i], wanted.stop[i]):
            g = wanted.members[m]
            if gallery.item[g] != queries.item[i]:
                ranks.score[base + n] = similarity(queries.rows[i], gallery.rows[g])
                ranks.index[base + n] = g
                n += 1
        # A stable sort of ascending indices leaves ties in gallery order.
        order = np.argsort(-ranks.score[base : base + n], kind="mergesort")
        ranks.score[base : base + n] = ranks.score[base : base + n][order]
        ranks.index[base : base + n] = ranks.index[base : base + n][order]
        ranks.beaten[base : base + n] = 0
        ranks.count[i] = n
        ranks.alive[i] = n
        ranks.fresh[i] = 0
        ranks.limit[i] = max(n, largest_k)


@compiled
def above(score, lo, hi, value):
    """How many of the descending `score[lo:hi]` exceed `value`, as a position."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if score[mid] > value:
            lo = mid + 1
        else:
            hi = mid
    return lo


@compiled
def not_below(score, lo, hi, value):
    """As `above`, counting equality as exceeding."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if score[mid] >= value:
            lo = mid + 1
        else:
            hi = mid
    return lo


@compiled
def contains(members, lo, hi, value):
    """Whether the ascending `members[lo:hi]` hold `value`."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if members[mid] < value:
            lo = mid + 1
        elif members[mid] > value:
            hi = mid
        else:
            return True
    return False


@compiled
def survivors(row, bar, keep):
    """Write to `keep` the positions in `row` of scores that reach `bar`; return their number."""
    n = 0
    width = row.shape[0]
    for group in range(0, width, GROUP):
        stop = min(group + GROUP, width)
        hits = 0
        for j in range(group, stop):
            hits += row[j] >= bar
        if hits > 0:
            for j in range(group, stop):
                if row[j] >= bar:
                    keep[n] = j
                    n += 1
    return n


@compiled
def prune(ranks, i):
    """Drop the thresholds whose rank is already past the limit; the first always stays."""
    base = ranks.offset[i]
    better = ranks.beaten[base]
    for j in range(1, ranks.alive[i]):
        better += ranks.beaten[base + j]
        if j + 1 + better > ranks.limit[i]:
            ranks.alive[i] = j
            break
    ranks.fresh[i] = 0


@compiled
def lowest_product(least, worst, rel, scale, unit):
    """The smallest fast product whose similarity may reach `least`, a little less for rounding."""
    value = least - worst
    value = value / (1.0 + rel) if value > 0.0 else value / (1.0 - rel)
    value /= scale
    return value - abs(value) * 1e-6 - unit


@compiled
def count_tile(tile, first, rel, unit, worst, queries, gallery, wanted, ranks, keep, place):
    """Count the items of one tile against the thresholds of every query of the block.

    `tile` (q, w) holds fast products with gallery rows `first ...`; `worst` (q,) bounds the
    error over the gallery; `keep` and `place` are scratch of length w.
    """
    bar = np.empty(1, tile.dtype)
    score = ranks.score
    for i in range(tile.shape[0]):
        if ranks.alive[i] == 0:
            continue
        base = ranks.offset[i]
        end = base + ranks.alive[i]
        bar[0] = lowest_product(score[end - 1], worst[i], rel, queries.scale[i], unit)
        row = tile[i]
        undecided = 0
        for m in range(survivors(row, bar[0], keep)):
            g = first + keep[m]
            if gallery.item[g] == queries.item[i]:
                continue
            value = row[keep[m]] * queries.scale[i]
            error = rel * abs(value) + (
                queries.error[i] * gallery.norm[g] + queries.norm[i] * gallery.error[g]
            )
            best = above(score, base, end, value + error)
            if best == end:
                continue
            sure = not_below(score, best, end, value - error)
            if sure > best:
                # A relevant item always lands here: its own threshold is inside its band.
                if contains(wanted.members, wanted.start[i], wanted.stop[i], g):
                    continue
                keep[undecided] = keep[m]
                place[undecided] = sure
                undecided += 1
            if sure < end:
                ranks.beaten[sure] += 1
            ranks.fresh[i] += 1
        # Pruning first spares scoring again what beats only dead thresholds.
        if ranks.fresh[i] * 4 >= ranks.alive[i]:
            prune(ranks, i)
        alive_end = base + ranks.alive[i]
        for m in range(undecided):
            g = first + keep[m]
            sure = place[m]
            value = row[keep[m]] * queries.scale[i]
            error = rel * abs(value) + (
                queries.error[i] * gallery.norm[g] + queries.norm[i] * gallery.error[g]
            )
            if value + error < score[alive_end - 1]:
                continue
            exact = similarity(queries.rows[i], gallery.rows[g])
            beats = above(score, base, sure, exact)
            while beats < sure and score[beats] == exact and ranks.index[beats] < g:
                beats += 1
            if beats < sure:
                ranks.beaten[beats] += 1
                if sure < end:
                    ranks.beaten[sure] -= 1


@compiled
def summarise(ranks, ks, first_rank, hits, r_precision, average_precision):
    """Turn the counts of a block into ranks and metrics; queries without relevant items get 0."""
    for i in range(ranks.count.shape[0]):
        base = ranks.offset[i]
        relevant = ranks.count[i]
        better = 0
        within = 0
        total = 0.0
        first_rank[i] = 0
        for j in range(ranks.alive[i]):
            better += ranks.beaten[base + j]
            rank = j + 1 + better
            if j == 0:
                first_rank[i] = rank
            if rank <= relevant:
                within += 1
                total += (j + 1) / rank
            for c in range(ks.shape[0]):
                hits[i, c] += rank <= ks[c]
        r_precision[i] = within / relevant if relevant else 0.0
        average_precision[i] = total / relevant if relevant else 0.0


@compiled
def keep_nearest(tile, first, rel, unit, worst, queries, gallery, best, index, filled, keep):
    """Insert the items of one tile into the sorted lists `best`, `index` (q, k) of each query.

    `filled` (q,) counts the entries in use; the other arguments are those of `count_tile`.
    """
    bar = np.empty(1, tile.dtype)
    k = best.shape[1]
    for i in range(tile.shape[0]):
        row = tile[i]
        if filled[i] < k:
            number = row.shape[0]
            for j in range(number):
                keep[j] = j
        else:
            bar[0] = lowest_product(best[i, k - 1], worst[i], rel, queries.scale[i], unit)
            number = survivors(row, bar[0], keep)
        for m in range(number):
            g = first + keep[m]
            if gallery.item[g] == queries.item[i]:
                continue
            if filled[i] == k:
                value = row[keep[m]] * queries.scale[i]
                error = rel * abs(value) + (
                    queries.error[i] * gallery.norm[g] + queries.norm[i] * gallery.error[g]
                )
                if value + error <= best[i, k - 1]:
                    continue
            exact = similarity(queries.rows[i], gallery.rows[g])
            at = not_below(best[i], 0, filled[i], exact)
            if at == k:
                continue
            last = min(filled[i], k - 1)
            for j in range(last, at, -1):
                best[i, j] = best[i, j - 1]
                index[i, j] = index[i, j - 1]
            best[i, at] = exact
            index[i, at] = g
            filled[i] = last + 1
