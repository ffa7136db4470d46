"""Compiled loops over a stream; imported late, for numba is slow to load.

A stream is cut into groups of triplets, and a layer takes a whole group before the next layer does,
since in a forward pass no layer needs what a later one learns. Where a group ends, and where a call
of `partial_fit` ends, changes no bit: every sum has an order of its own, and the one change of a
matrix that waits to be applied (see `matmul`) is part of the state.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from tupelo.compiled import compiled
from tupelo.tabular.online.activations import RELU, SIGMOID, TANH
from tupelo.tabular.online.matmul import renew_and_times, times
from tupelo.tabular.online.triplets import BEFORE, KNOWN, PREVIOUS, SAMPLES, SEED, TRIPLETS

# Sums may be reordered, so that they become vector instructions, and always are in the same way.
# NaN and infinity keep their meaning: they are looked for.
SUMS = {"reassoc", "contract", "nsz"}
DONE, INFINITE, TOO_LARGE, PROJECT, INVERT = range(5)
# Places in `Layers.counts`.
WAITING, INVERSE_WAITING, UPDATES, UNSTABLE, STEPS, CHANGED = range(6)


class Layers(NamedTuple):
    """All layers of a stack.

    With `Q, P, R, U = changes[i]`, `L.T` of layer i is `maps[i]`, plus `Q.T @ P` if that waits;
    K is `inverses[i]`, plus `R.T @ U` if that waits.
    """

    maps: ndarray  # (n, w / 8, w, 8)
    inverses: ndarray  # the same, or of length 0
    changes: ndarray  # (n, 4, 2, w)
    counts: ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  (n, 6) int64


class Group(NamedTuple):
    """Triplets as a layer takes them, three rows each: x, x - p, x - q; or x, p, q."""

    rows: ndarray  # (3 g, w)
    pair: ndarray  # (g,) bool


@compiled(fastmath=SUMS)
def dot(A, i, B, j):
    """Inner product of two rows; to cut them out first would cost more than a short sum."""
    total = 0.0
    for k in range(A.shape[1]):
        total += A[i, k] * B[j, k]
    return total


@compiled(fastmath=SUMS)
def first_bad(X, unit):
    """First row with a number that is not finite, and first one of zeros if they matter; or -1."""
    for i in range(X.shape[0]):
        total = 0.0
        for k in range(X.shape[1]):
            total += abs(X[i, k])
        if not total < np.inf:
            for k in range(X.shape[1]):
                if not abs(X[i, k]) < np.inf:
                    return i, -1
        if unit and total == 0.0:
            return -1, i
    return -1, -1


@compiled(fastmath=SUMS)
def store_row(X, i, rows, to, unit):
    """Copy row i of X to its place, divided by its length if so wanted."""
    d = X.shape[1]
    for k in range(d):
        rows[to, k] = X[i, k]
    for k in range(d, rows.shape[1]):
        rows[to, k] = 0.0
    if unit:
        square = dot(rows, to, rows, to)
        if not 1e-300 < square < 1e300:
            largest = 0.0
            for k in range(d):
                largest = max(largest, abs(rows[to, k]))
            for k in range(d):
                rows[to, k] /= largest
            square = dot(rows, to, rows, to)
        length = np.sqrt(square)
        for k in range(d):
            rows[to, k] /= length


@compiled()
def mixed(seed, position):
    """64 random bits, as `triplets.mixed`."""
    z = (np.uint64(seed) ^ np.uint64(position + 1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def collect(X, codes, start, latest, counts, negative, cold_start, unit, differences, group):
    """Form triplets from row `start` on until the group is full, as `triplets.Memory.pair_up`.

    Returns:
        The next row, and how many triplets there are.
    """
    rows, m, width = group.rows, 0, latest.shape[1]
    for i in range(start, X.shape[0]):
        if m == group.pair.shape[0]:
            return i, m
        code = codes[i]
        known, previous, before = counts[KNOWN], counts[PREVIOUS], counts[BEFORE]
        at = 3 * m
        store_row(X, i, rows, at, unit)
        if code < known and (known > 1 or cold_start):
            pair = known == 1
            other = previous
            if previous == code and not pair:
                if negative == 1:
                    other = before
                elif negative == 2:
                    drawn = mixed(counts[SEED], counts[SAMPLES]) % np.uint64(known - 1)
                    other = np.int64(drawn)
                    other += other >= code
                else:
                    other = known - 1 if code != known - 1 else known - 2
            for k in range(width):
                x = rows[at, k]
                p, q = latest[code, k], x if pair else latest[other, k]
                rows[at + 1, k] = x - p if differences else p
                rows[at + 2, k] = x - q if differences else q
            group.pair[m] = pair
            counts[TRIPLETS] += not pair
            m += 1
        counts[KNOWN] = max(known, code + 1)
        if code != previous:
            counts[BEFORE], counts[PREVIOUS] = previous, code
        counts[SAMPLES] += 1
        for k in range(width):
            latest[code, k] = rows[at, k]
    return X.shape[0], m


@compiled()
def through_layer(B, Q, P, counts, rows, t, passed_on, S, d):
    """`S[1], S[2]` = (x - p) L^T, (x - q) L^T, and `S[0]` = x L^T if it is passed on."""
    first, m, to = (3 * t, 3, 0) if passed_on else (3 * t + 1, 2, 1)
    if counts[WAITING] != 0:
        renew_and_times(B, d, Q, P, rows, first, m, S, to)
        counts[WAITING] = 0
    else:
        times(rows, first, m, B, d, S, to)


@compiled(fastmath=SUMS)
def pass_on(Q, P, counts, rows, t, S, alpha, beta, c):
    """The triplet as the changed layer maps it: `S` plus what the waiting change adds."""
    if counts[WAITING] != 0:
        ax, bx = dot(Q, 0, rows, 3 * t), dot(Q, 1, rows, 3 * t)
        for k in range(S.shape[1]):
            rows[3 * t, k] = S[0, k] + ax * P[0, k] + bx * P[1, k]
            rows[3 * t + 1, k] = S[1, k] + alpha * P[0, k] + c * P[1, k]
            rows[3 * t + 2, k] = S[2, k] + c * P[0, k] + beta * P[1, k]
    else:
        for k in range(S.shape[1]):
            rows[3 * t, k] = S[0, k]
            rows[3 * t + 1, k] = S[1, k]
            rows[3 * t + 2, k] = S[2, k]


@compiled()
def map_triplet(B, rows, t, S, d):
    """A triplet as a layer maps it where no change waits."""
    times(rows, 3 * t, 3, B, d, S, 0)
    for i in range(3):
        for k in range(S.shape[1]):
            rows[3 * t + i, k] = S[i, k]


@compiled()
def act(s, activation):
    """The activation of one number."""
    if activation == RELU:
        return max(s, 0.0)
    if activation == TANH:
        return np.tanh(s)
    if activation == SIGMOID:
        small = np.exp(-abs(s))
        return (1.0 if s >= 0.0 else small) / (1.0 + small)
    return s


@compiled()
def activate(rows, m, d, activation):
    """From outputs of a layer to the inputs of the next, differences in both."""
    for t in range(m):
        for k in range(d):
            x = rows[3 * t, k]
            p = act(x - rows[3 * t + 1, k], activation)
            q = act(x - rows[3 * t + 2, k], activation)
            x = act(x, activation)
            rows[3 * t, k], rows[3 * t + 1, k], rows[3 * t + 2, k] = x, x - p, x - q
