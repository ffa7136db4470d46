"""The compiled layer MOML.

What is done by eigenvalues or by an inverse, which is rare, is left to NumPy: the loop stops and
says why, and goes on behind that triplet.
"""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online import kernels
from tupelo.tabular.online.kernels import LARGEST, LEAST
from tupelo.tabular.online.layers import DRIFT, RENEW_EVERY
from tupelo.tabular.online.loops import (
    DONE,
    INFINITE,
    INVERSE_WAITING,
    INVERT,
    PROJECT,
    STEPS,
    SUMS,
    UPDATES,
    WAITING,
    dot,
    pass_on,
    through_layer,
)
from tupelo.tabular.online.matmul import add_outer, renew_and_times, times, times_transposed

moml_rate = compiled()(kernels.moml_rate)
bracket_factors = compiled()(kernels.bracket_factors)


@compiled(fastmath=SUMS)
def parallelogram(W, uu, vv, uv):
    """uu * vv - uv * uv of the first two rows, also where they are nearly parallel."""
    longer, shorter, most = (0, 1, uu) if uu > vv else (1, 0, vv)
    if most == 0.0:
        return 0.0
    share, rest = uv / most, 0.0
    for k in range(W.shape[1]):
        rest += (W[shorter, k] - share * W[longer, k]) ** 2
    return most * rest


@compiled(fastmath=SUMS)
def has_drifted(B, K, changes, counts, W, d):
    """Apply what waits; whether K is no more the inverse of L, as row 4 of W shows."""
    add_outer(B, d, changes[0], changes[1], 2)
    add_outer(K, d, changes[2], changes[3], 2)
    counts[WAITING], counts[INVERSE_WAITING] = 0, 0
    times(W, 4, 1, B, d, W, 0)
    times_transposed(W, 0, 1, K, d, W, 1)
    apart = 0.0
    for k in range(d):
        apart += (W[1, k] - W[4, k]) ** 2
    return apart > DRIFT**2 * dot(W, 4, W, 4)


@compiled(fastmath=SUMS)
def moml_layer(B, K, changes, counts, rows, pair, start, m, S, W, options, d, passed_on):
    """Learn from triplets start .. m of a group and, unless it is the last layer, pass them on.

    Returns:
        How it ended, at which triplet, and the rate of the step to be projected.
    """
    width = rows.shape[1]
    Q, P, R, U = changes[0], changes[1], changes[2], changes[3]
    for t in range(start, m):
        x, a, b = 3 * t, 3 * t + 1, 3 * t + 2
        due, much = False, False
        through_layer(B, Q, P, counts, rows, t, passed_on, S, d)
        z = options.margin + dot(S, 1, S, 1) - dot(S, 2, S, 2)
        if not abs(z) < np.inf:
            return INFINITE, t, 0.0
        alpha, beta, c = dot(rows, a, rows, a), dot(rows, b, rows, b), dot(rows, a, rows, b)
        if z > 0.0:
            gamma = options.gamma_pairs if pair[t] else options.gamma
            gamma = moml_rate(z, alpha, beta, c, gamma, options.passive_aggressive)
            if counts[INVERSE_WAITING] != 0:
                renew_and_times(K, d, R, U, rows, a, 2, W, 0)
                counts[INVERSE_WAITING] = 0
            else:
                times(rows, a, 2, K, d, W, 0)
            uu, vv, uv = dot(W, 0, W, 0), dot(W, 1, W, 1), dot(W, 0, W, 1)
            square = parallelogram(W, uu, vv, uv)
            least, c11, c12, c22, d11, d12, d22 = bracket_factors(uu, vv, uv, square, gamma)
            counts[UPDATES] += 1
            if not least >= LEAST:
                return PROJECT, t, gamma
            times_transposed(W, 0, 2, K, d, W, 2)
            size = 0.0
            for k in range(width):
                u, v = W[0, k], W[1, k]
                P[0, k], P[1, k] = c11 * u + c12 * v, c12 * u + c22 * v
                U[0, k], U[1, k] = d11 * u + d12 * v, d12 * u + d22 * v
                Q[0, k], Q[1, k] = rows[a, k], rows[b, k]
                R[0, k], R[1, k] = W[2, k], W[3, k]
                W[4, k] = rows[x, k]
                size += abs(P[0, k]) + abs(P[1, k]) + abs(W[2, k]) + abs(W[3, k])
            if not size * (size + alpha + beta) < np.inf:
                return INFINITE, t, 0.0
            counts[WAITING], counts[INVERSE_WAITING] = 1, 1
            counts[STEPS] += 1
            much = gamma * vv > LARGEST
            due = much or counts[STEPS] % RENEW_EVERY == 0
        if passed_on:
            pass_on(Q, P, counts, rows, t, S, alpha, beta, c)
        if due and (has_drifted(B, K, changes, counts, W, d) or much):
            return INVERT, t, 0.0
    return DONE, -1, 0.0
