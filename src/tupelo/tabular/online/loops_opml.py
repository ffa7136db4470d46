"""The compiled layer OPML."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online import kernels
from tupelo.tabular.online.kernels import SAFE
from tupelo.tabular.online.loops import (
    DONE,
    INFINITE,
    SUMS,
    TOO_LARGE,
    UNSTABLE,
    UPDATES,
    WAITING,
    activate,
    dot,
    pass_on,
    through_layer,
)

opml_factors = compiled()(kernels.opml_factors)
opml_exact_rate = compiled()(kernels.opml_exact_rate)


@compiled(fastmath=SUMS)
def opml_layer(B, Q, P, counts, rows, pair, m, S, options, d, passed_on):
    """Learn from a group of triplets and, unless it is the last layer, pass it on.

    Returns:
        How it ended, and at which triplet.
    """
    width = rows.shape[1]
    for t in range(m):
        a, b = 3 * t + 1, 3 * t + 2
        through_layer(B, Q, P, counts, rows, t, passed_on, S, d)
        uu, vv = dot(S, 1, S, 1), dot(S, 2, S, 2)
        z = options.margin + uu - vv
        if not abs(z) < np.inf:
            return INFINITE, t
        alpha, beta, c = dot(rows, a, rows, a), dot(rows, b, rows, b), dot(rows, a, rows, b)
        if z > 0.0:
            gamma = options.gamma_pairs if pair[t] else options.gamma
            if gamma * beta >= 1.0 - SAFE:
                if not options.shrink:
                    return TOO_LARGE, t
                gamma = (1.0 - SAFE) / beta
                counts[UNSTABLE] += 1
            if options.exact:
                uv = dot(S, 1, S, 2)
                gamma = opml_exact_rate(uu, vv, uv, alpha, beta, c, gamma, options.margin)
            pu, mixed, qv = opml_factors(alpha, beta, c, gamma)
            size = 0.0
            for k in range(width):
                p = -pu * S[1, k] - mixed * S[2, k]
                q = -mixed * S[1, k] - qv * S[2, k]
                P[0, k], P[1, k], Q[0, k], Q[1, k] = p, q, rows[a, k], rows[b, k]
                size += abs(p) + abs(q)
            if not size * (1.0 + alpha + beta) < np.inf:
                return INFINITE, t
            counts[WAITING] = 1
            counts[UPDATES] += 1
        if passed_on:
            pass_on(Q, P, counts, rows, t, S, alpha, beta, c)
    return DONE, -1


@compiled()
def forward_opml(layers, group, m, S, options, d, activation):
    """Every layer learns from a group of triplets as the changed ones before it pass it on.

    Returns:
        How it ended, and at which triplet.
    """
    last = layers.maps.shape[0] - 1
    for i in range(last + 1):
        ended, t = opml_layer(
            *(layers.maps[i], layers.changes[i, 0], layers.changes[i, 1], layers.counts[i]),
            *(group.rows, group.pair, m, S, options, d, i < last),
        )
        if ended != DONE:
            return ended, t
        if i < last:
            activate(group.rows, m, d, activation)
    return DONE, -1
