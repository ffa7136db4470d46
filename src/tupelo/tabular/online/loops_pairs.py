"""The compiled layers that learn from pairs: LEGO and RDML."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online import kernels
from tupelo.tabular.online.kernels import LARGEST, LEAST
from tupelo.tabular.online.layers import RENEW_EVERY
from tupelo.tabular.online.loops import (
    CHANGED,
    DONE,
    INFINITE,
    INVERT,
    PROJECT,
    STEPS,
    SUMS,
    UPDATES,
    activate,
    dot,
    map_triplet,
)
from tupelo.tabular.online.loops_moml import has_drifted
from tupelo.tabular.online.matmul import add_outer, times, times_transposed

lego_factor = compiled()(kernels.lego_factor)
rdml_factors = compiled()(kernels.rdml_factors)


@compiled(fastmath=SUMS)
def lego_layer(B, Q, P, counts, rows, pair, m, S, options, d, passed_on):
    """Learn from a group of triplets and, unless it is the last layer, pass it on.

    Returns:
        How it ended, and at which triplet.
    """
    width = rows.shape[1]
    for t in range(m):
        changed = 0
        gamma = options.gamma_pairs if pair[t] else options.gamma
        for side in range(1, 3):
            times(rows, 3 * t + side, 1, B, d, S, 0)
            length = dot(S, 0, S, 0)
            if not length < np.inf:
                return INFINITE, t
            if length > 0.0:
                target = options.near if side == 1 else options.far
                factor = lego_factor(length, target, gamma)
                if not factor < np.inf:
                    return INFINITE, t
                scale = (factor - 1.0) / length
                times_transposed(S, 0, 1, B, d, Q, 0)
                for k in range(width):
                    P[0, k] = scale * S[0, k]
                add_outer(B, d, Q, P, 1)
                changed = 1
        counts[UPDATES] += changed
        if passed_on:
            map_triplet(B, rows, t, S, d)
    return DONE, -1


@compiled()
def forward_lego(layers, group, m, S, options, d, activation):
    """As `forward_opml`.

    Returns:
        How it ended, and at which triplet.
    """
    last = layers.maps.shape[0] - 1
    for i in range(last + 1):
        ended, t = lego_layer(
            *(layers.maps[i], layers.changes[i, 0], layers.changes[i, 1], layers.counts[i]),
            *(group.rows, group.pair, m, S, options, d, i < last),
        )
        if ended != DONE:
            return ended, t
        if i < last:
            activate(group.rows, m, d, activation)
    return DONE, -1


@compiled(fastmath=SUMS)
def rdml_layer(B, K, changes, counts, rows, pair, start, m, S, W, options, d, passed_on):
    """Learn from pairs start .. 2 m of a group and, unless it is the last layer, pass them on.

    Pair 2 t is x with p of triplet t, pair 2 t + 1 is x with q.

    Returns:
        How it ended, at which pair, and the rate of the step to be projected.
    """
    width = rows.shape[1]
    Q, P, R, U = changes[0], changes[1], changes[2], changes[3]
    for h in range(start, 2 * m):
        t, side = h // 2, h % 2
        at, sign = 3 * t + 1 + side, 1.0 - 2.0 * side
        if side == 0:
            counts[CHANGED] = 0
        rate = sign * (options.gamma_pairs if pair[t] else options.gamma)
        times(rows, at, 1, B, d, S, 0)
        distance = dot(S, 0, S, 0)
        if not distance < np.inf:
            return INFINITE, h, 0.0
        if sign * (1.0 - distance) < options.margin:
            times(rows, at, 1, K, d, W, 0)
            kk = dot(W, 0, W, 0)
            if not kk < np.inf:
                return INFINITE, h, 0.0
            counts[UPDATES] += 1 - counts[CHANGED]
            counts[CHANGED] = 1
            least, to_l, to_k = rdml_factors(kk, rate)
            if not least >= LEAST:
                return PROJECT, h, rate
            times_transposed(W, 0, 1, K, d, R, 0)
            for k in range(width):
                Q[0, k], Q[1, k] = rows[at, k], 0.0
                P[0, k], P[1, k] = to_l * W[0, k], 0.0
                U[0, k], U[1, k] = to_k * W[0, k], 0.0
                R[1, k], W[4, k] = 0.0, rows[3 * t, k]
            counts[STEPS] += 1
            much = least > LARGEST
            if much or counts[STEPS] % RENEW_EVERY == 0:
                if has_drifted(B, K, changes, counts, W, d) or much:
                    return INVERT, h, 0.0
            else:
                add_outer(B, d, Q, P, 1)
                add_outer(K, d, R, U, 1)
        if passed_on and side == 1:
            map_triplet(B, rows, t, S, d)
    return DONE, -1, 0.0
