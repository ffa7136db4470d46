"""The compiled layers that learn from pairs: LEGO and RDML."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online import kernels
from tupelo.tabular.online.kernels import LEAST
from tupelo.tabular.online.layers import RENEW_EVERY
from tupelo.tabular.online.loops import (
    DONE,
    INFINITE,
    STEPS,
    SUMS,
    UNSTABLE,
    UPDATES,
    activate,
    dot,
)
from tupelo.tabular.online.loops_moml import keep_inverse, project
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
                scale = (lego_factor(length, target, gamma) - 1.0) / length
                times_transposed(S, 0, 1, B, d, Q, 0)
                for k in range(width):
                    P[0, k] = scale * S[0, k]
                add_outer(B, d, Q, P, 1)
                changed = 1
        counts[UPDATES] += changed
        if passed_on:
            times(rows, 3 * t, 3, B, d, S, 0)
            for i in range(3):
                for k in range(width):
                    rows[3 * t + i, k] = S[i, k]
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
def rdml_layer(B, K, changes, counts, rows, pair, m, S, W, options, d, passed_on):
    """Learn from a group of triplets and, unless it is the last layer, pass it on.

    Returns:
        How it ended, and at which triplet.
    """
    width = rows.shape[1]
    Q, P, R, U = changes[0], changes[1], changes[2], changes[3]
    for t in range(m):
        changed = 0
        for side in range(1, 3):
            at, sign = 3 * t + side, 1.0 if side == 1 else -1.0
            gamma = options.gamma_pairs if pair[t] else options.gamma
            times(rows, at, 1, B, d, S, 0)
            distance = dot(S, 0, S, 0)
            if not distance < np.inf:
                return INFINITE, t
            if sign * (1.0 - distance) < options.margin:
                times(rows, at, 1, K, d, W, 0)
                kk = dot(W, 0, W, 0)
                if not kk < np.inf:
                    return INFINITE, t
                least, to_l, to_k = rdml_factors(kk, sign * gamma)
                changed = 1
                if not least >= LEAST:
                    if not project(B, K, d, rows, -sign * gamma, 0.0, at, at):
                        return INFINITE, t
                    counts[UNSTABLE] += 1
                else:
                    times_transposed(W, 0, 1, K, d, R, 0)
                    for k in range(width):
                        Q[0, k], Q[1, k] = rows[at, k], 0.0
                        P[0, k], P[1, k] = to_l * W[0, k], 0.0
                        U[0, k], U[1, k] = to_k * W[0, k], 0.0
                        R[1, k] = 0.0
                        W[4, k] = rows[3 * t, k]
                    counts[STEPS] += 1
                    if counts[STEPS] % RENEW_EVERY == 0:
                        keep_inverse(B, K, changes, counts, W, d)
                    else:
                        add_outer(B, d, Q, P, 1)
                        add_outer(K, d, R, U, 1)
        counts[UPDATES] += changed
        if passed_on:
            times(rows, 3 * t, 3, B, d, S, 0)
            for i in range(3):
                for k in range(width):
                    rows[3 * t + i, k] = S[i, k]
    return DONE, -1


@compiled()
def forward_rdml(layers, group, m, S, W, options, d, activation):
    """As `forward_opml`.

    Returns:
        How it ended, and at which triplet.
    """
    last = layers.maps.shape[0] - 1
    for i in range(last + 1):
        ended, t = rdml_layer(
            *(layers.maps[i], layers.inverses[i], layers.changes[i], layers.counts[i]),
            *(group.rows, group.pair, m, S, W, options, d, i < last),
        )
        if ended != DONE:
            return ended, t
        if i < last:
            activate(group.rows, m, d, activation)
    return DONE, -1
