"""Compiled loops behind `retrieval` and `nearest`; imported late, for numba is slow to load.

One function, `similarity`, defines the score of a pair. Everything else works with the scores of a
fast product, whose distance from `similarity` is bounded: what the bound decides is counted at
once, the rest is scored again with `similarity`. So the fast product never shows in a result.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tupelo.compiled import compiled

GROUP = 64  # scores compared between two branches


class Side(NamedTuple):
    """Queries or gallery: unit rows, and what the fast product knows of each.

    The fast score `v` of query `i` and item `j` is `product * scale[i] * scale[j]`, and differs
    from `similarity` by at most `rel * |v| + error[i] * norm[j] + norm[i] * error[j]`.
    """

    rows: np.ndarray  # (n, d) float32
    item: np.ndarray  # (n,) int64: identity; equal identities are never compared
    norm: np.ndarray  # (n,) float64
    error: np.ndarray  # (n,) float64
    scale: np.ndarray  # (n,) float32


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
    index: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  (t,) int64: gallery row
    beaten: np.ndarray  # (t,) int64
    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  (q,) int64: R
    alive: np.ndarray  # (q,) int64: thresholds whose rank can still matter
    fresh: np.ndarray  # (q,) int64: items counted since the last pruning
    limit: np.ndarray  # (q,) int64: largest rank that matters, but for the first threshold


@intrinsic
def _vector_dot(typing, x, y, n):
    """Sum of `x[i] * y[i]`, i < n, a multiple of 16: running sums of every 16th, then a tree.

    Written in LLVM's vectors because the compiler must not reorder a sum by itself, and without
    vectors it takes three times as long.
    """
    signature = types.float64(types.CPointer(types.float32), types.CPointer(types.float32), n)

    def generate(context, builder, signature, args):
        integer = ir.IntType(64)
        single = ir.VectorType(ir.FloatType(), 8)
        double = ir.VectorType(ir.DoubleType(), 8)
        zero = ir.Constant(double, [0.0] * 8)
        halves = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]

        def load(pointer, at):
            place = builder.bitcast(builder.gep(pointer, [at]), single.as_pointer())
            return builder.fpext(builder.load(place, align=4), double)

        start, step = ir.Constant(integer, 0), ir.Constant(integer, 16)
        with cgutils.for_range_slice(builder, start, args[2], step) as (i, _):
            for half, total in enumerate(halves):
                at = builder.add(i, ir.Constant(integer, 8 * half))
                product = builder.fmul(load(args[0], at), load(args[1], at))
                builder.store(builder.fadd(builder.load(total), product), total)
        vector = builder.fadd(*(builder.load(total) for total in halves))
        sums = [builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(8)]
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [builder.fadd(sums[i], sums[i + half]) for i in range(half)]
        return sums[0]

    return signature, generate


@compiled()
def similarity(x, y):
    """The score of a pair: float64 dot product of float32 rows in one fixed order.

    Products of two float32 are exact in float64, so only the order of the sum matters.
    """
    d = x.shape[0]
    even = d - d % 16
    total = _vector_dot(x.ctypes, y.ctypes, even)  # pyright: ignore[reportCallIssue]
    for i in range(even, d):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@compiled()
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


@compiled()
def above(score, lo, hi, value):
    """First position of the descending `score[lo:hi]` that does not exceed `value`."""
    n = hi - lo
    while n > 0:  # without branches: what comes is unpredictable
        half = (n + 1) >> 1
        lo += half * (score[lo + half - 1] > value)
        n -= half
    return lo


@compiled()
def not_below(score, lo, hi, value):
    """First position of the descending `score[lo:hi]` that is below `value`."""
    n = hi - lo
    while n > 0:
        half = (n + 1) >> 1
        lo += half * (score[lo + half - 1] >= value)
        n -= half
    return lo


@compiled()
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


@compiled()
def survivors(row, scale, bar, start, stop, keep):
    """Write to `keep` the positions `start <= j < stop` that reach `bar`; return their number."""
    n = 0
    whole = stop - (stop - start) % GROUP
    for group in range(start, whole, GROUP):
        # Slices of constant length: what else the compiler would not vectorise.
        products = row[group : group + GROUP]
        scales = scale[group : group + GROUP]
        hit = np.int32(0)
        for j in range(GROUP):
            hit |= np.int32(np.float32(products[j]) * scales[j] >= bar)
        if hit:
            for j in range(GROUP):
                if np.float32(products[j]) * scales[j] >= bar:
                    keep[n] = group + j
                    n += 1
    for j in range(whole, stop):
        if np.float32(row[j]) * scale[j] >= bar:
            keep[n] = j
            n += 1
    return n


@compiled()
def next_stop(start, first, width):
    """Where to look at the bar again: soon at first, when little has been counted; then rarely."""
    step = max(GROUP, (first + start) >> 1)
    return min(width, start + step - step % GROUP)


@compiled()
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


@compiled()
def lowest(least, worst, rel, scale):
    """The smallest product, scaled for the item, whose similarity may reach `least`."""
    value = least - worst
    value = value / (1.0 + rel) if value > 0.0 else value / (1.0 - rel)
    value /= scale
    return np.float32(value - abs(value) * 1e-6 - 1e-37)


@compiled()
def band(product, rel, queries, i, gallery, g):
    """The fast score of a pair, and how far the similarity may be from it."""
    value = np.float64(np.float32(product) * gallery.scale[g]) * queries.scale[i]
    error = queries.error[i] * gallery.norm[g] + queries.norm[i] * gallery.error[g]
    return value, error + rel * abs(value)


@compiled()
def count_tile(tile, first, rel, worst, queries, gallery, wanted, ranks, keep, place):
    """Count the items of one tile against the thresholds of every query of the block.

    `tile` (q, w) holds fast products with the gallery rows from `first` on; `worst` (q,) bounds
    the error over the gallery; `keep` and `place` are scratch of length w.
    """
    width = tile.shape[1]
    scale = gallery.scale[first : first + width]
    for i in range(tile.shape[0]):
        if ranks.alive[i] == 0:
            continue
        start = 0
        while start < width:
            stop = next_stop(start, first, width)
            base = ranks.offset[i]
            least = ranks.score[base + ranks.alive[i] - 1]
            bar = lowest(least, worst[i], rel, queries.scale[i])
            n = survivors(tile[i], scale, bar, start, stop, keep)
            if n > 0:
                found = keep[:n]
                count_survivors(
                    tile[i], first, rel, i, queries, gallery, wanted, ranks, found, place
                )
            start = stop


@compiled()
def count_survivors(row, first, rel, i, queries, gallery, wanted, ranks, keep, place):
    """Count the items at positions `keep` of a row against the thresholds of query `i`."""
    score = ranks.score
    base = ranks.offset[i]
    end = base + ranks.alive[i]
    item = queries.item[i]
    undecided = 0
    for m in range(keep.shape[0]):
        g = first + keep[m]
        if gallery.item[g] == item:
            continue
        value, error = band(row[keep[m]], rel, queries, i, gallery, g)
        best = above(score, base, end, value + error)
        if best == end:
            continue
        ranks.fresh[i] += 1
        if score[best] < value - error:
            ranks.beaten[best] += 1
            continue
        # A relevant item always comes here: its own threshold lies inside its band.
        if contains(wanted.members, wanted.start[i], wanted.stop[i], g):
            continue
        sure = not_below(score, best, end, value - error)
        if sure < end:
            ranks.beaten[sure] += 1
        keep[undecided] = keep[m]
        place[undecided] = sure
        undecided += 1
    # Pruning first spares scoring again what beats only dead thresholds.
    if ranks.fresh[i] * 4 >= ranks.alive[i]:
        prune(ranks, i)
    for m in range(undecided):
        g = first + keep[m]
        sure = place[m]
        value, error = band(row[keep[m]], rel, queries, i, gallery, g)
        if value + error < score[base + ranks.alive[i] - 1]:
            continue
        exact = similarity(queries.rows[i], gallery.rows[g])
        beats = above(score, base, sure, exact)
        while beats < sure and score[beats] == exact and ranks.index[beats] < g:
            beats += 1
        if beats < sure:
            ranks.beaten[beats] += 1
            if sure < end:
                ranks.beaten[sure] -= 1


@compiled()
def summarise(ranks, ks, first_rank, hits, r_precision, average_precision):
    """Turn the counts of a block into ranks and metrics; queries without relevant items get 0."""
    for i in range(ranks.count.shape[0]):
        base = ranks.offset[i]
        relevant = ranks.count[i]
        better = 0
        within = 0
        total = 0.0
        first_rank[i] = 0
        hits[i] = 0
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


@compiled()
def keep_nearest(tile, first, rel, worst, queries, gallery, best, index, filled, keep):
    """Insert the items of one tile into the sorted lists `best`, `index` (q, k) of each query.

    `filled` (q,) counts the entries in use; the other arguments are those of `count_tile`.
    """
    k = best.shape[1]
    width = tile.shape[1]
    scale = gallery.scale[first : first + width]
    for i in range(tile.shape[0]):
        start = 0
        while start < width:
            stop = next_stop(start, first, width)
            bar = np.float32(-np.inf)
            if filled[i] == k:
                bar = lowest(best[i, k - 1], worst[i], rel, queries.scale[i])
            for m in range(survivors(tile[i], scale, bar, start, stop, keep)):
                g = first + keep[m]
                if gallery.item[g] == queries.item[i]:
                    continue
                if filled[i] == k:
                    value, error = band(tile[i, keep[m]], rel, queries, i, gallery, g)
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
            start = stop
