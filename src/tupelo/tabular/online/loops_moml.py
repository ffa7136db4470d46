"""The compiled layer MOML."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online import kernels
from tupelo.tabular.online.kernels import FLOOR, LEAST
from tupelo.tabular.online.layers import DRIFT, RENEW_EVERY
from tupelo.tabular.online.loops import (
    DONE,
    INFINITE,
    INVERSE_WAITING,
    STEPS,
    SUMS,
    UNSTABLE,
    UPDATES,
    WAITING,
    activate,
    dot,
    pass_on,
    through_layer,
)
from tupelo.tabular.online.matmul import (
    PANEL,
    add_outer,
    renew_and_times,
    times,
    times_transposed,
)

moml_rate = compiled()(kernels.moml_rate)
bracket_factors = compiled()(kernels.bracket_factors)


@compiled()
def unpacked(B, d, transposed):
    """A stored matrix, or its transpose, as a square."""
    full = np.empty((d, d))
    for i in range(d):
        for j in range(d):
            number = B[j // PANEL, i, j % PANEL]
            if transposed:
                full[j, i] = number
            else:
                full[i, j] = number
    return full


@compiled()
def pack(full, B, transposed):
    """Store a square matrix, or its transpose."""
    d = full.shape[0]
    for i in range(d):
        for j in range(d):
            B[j // PANEL, i, j % PANEL] = full[j, i] if transposed else full[i, j]


@compiled()
def project(B, K, d, rows, sign_a, sign_b, a, b):
    """M = L^T L + sign_a a a^T + sign_b b b^T, raised to a floor; L its root, K the inverse of L.

    Returns:
        Whether all is finite.
    """
    L = unpacked(B, d, True)
    M = L.T @ L
    for i in range(d):
        for j in range(d):
            M[i, j] += sign_a * rows[a, i] * rows[a, j] + sign_b * rows[b, i] * rows[b, j]
    total = np.sum(np.abs(M))
    if not total < np.inf:
        return False
    values, vectors = np.linalg.eigh(M)
    root = np.sqrt(np.maximum(values, FLOOR * values[-1]))
    pack((vectors * root) @ vectors.T, B, True)
    pack((vectors / root) @ vectors.T, K, False)
    return True


@compiled(fastmath=SUMS)
def keep_inverse(B, K, changes, counts, W, d):
    """Apply what waits; K anew if it has drifted from the inverse of L, as row 4 of W shows."""
    add_outer(B, d, changes[0], changes[1], 2)
    add_outer(K, d, changes[2], changes[3], 2)
    counts[WAITING], counts[INVERSE_WAITING] = 0, 0
    times(W, 4, 1, B, d, W, 0)
    times_transposed(W, 0, 1, K, d, W, 1)
    apart = 0.0
    for k in range(d):
        apart += (W[1, k] - W[4, k]) ** 2
    if apart > DRIFT**2 * dot(W, 4, W, 4):
        pack(np.linalg.inv(unpacked(B, d, True)), K, False)


@compiled(fastmath=SUMS)
def moml_layer(B, K, changes, counts, rows, pair, m, S, W, options, d, passed_on):
    """Learn from a group of triplets and, unless it is the last layer, pass it on.

    Returns:
        How it ended, and at which triplet.
    """
    width = rows.shape[1]
    Q, P, R, U = changes[0], changes[1], changes[2], changes[3]
    for t in range(m):
        x, a, b = 3 * t, 3 * t + 1, 3 * t + 2
        due = False
        through_layer(B, Q, P, counts, rows, t, passed_on, S, d)
        z = options.margin + dot(S, 1, S, 1) - dot(S, 2, S, 2)
        if not abs(z) < np.inf:
            return INFINITE, t
        alpha, beta, c = dot(rows, a, rows, a), dot(rows, b, rows, b), dot(rows, a, rows, b)
        if z > 0.0:
            gamma = options.gamma_pairs if pair[t] else options.gamma
            gamma = moml_rate(z, alpha, beta, c, gamma, options.passive_aggressive)
            if counts[INVERSE_WAITING] != 0:
                renew_and_times(K, d, R, U, rows, a, 2, W, 0)
                counts[INVERSE_WAITING] = 0
            else:
                times(rows, a, 2, K, d, W, 0)
            least, c11, c12, c22, d11, d12, d22 = bracket_factors(
                dot(W, 0, W, 0), dot(W, 1, W, 1), dot(W, 0, W, 1), gamma
            )
            counts[UPDATES] += 1
            if not least >= LEAST:
                if not project(B, K, d, rows, -gamma, gamma, a, b):
                    return INFINITE, t
                counts[UNSTABLE] += 1
                if passed_on:
                    times(rows, x, 3, B, d, S, 0)
            else:
                times_transposed(W, 0, 2, K, d, W, 2)
                size = 0.0
                for k in range(width):
                    u, v = W[0, k], W[1, k]
                    P[0, k], P[1, k] = c11 * u + c12 * v, c12 * u + c22 * v
                    U[0, k], U[1, k] = d11 * u + d12 * v, d12 * u + d22 * v
                    Q[0, k], Q[1, k] = rows[a, k], rows[b, k]
                    R[0, k], R[1, k] = W[2, k], W[3, k]
                    size += abs(P[0, k]) + abs(P[1, k]) + abs(W[2, k]) + abs(W[3, k])
                if not size * (size + alpha + beta) < np.inf:
                    return INFINITE, t
                counts[WAITING], counts[INVERSE_WAITING] = 1, 1
                counts[STEPS] += 1
                due = counts[STEPS] % RENEW_EVERY == 0
                for k in range(width):
                    W[4, k] = rows[x, k]
        if passed_on:
            pass_on(Q, P, counts, rows, t, S, alpha, beta, c)
        if due:
            keep_inverse(B, K, changes, counts, W, d)
    return DONE, -1


@compiled()
def forward_moml(layers, group, m, S, W, options, d, activation):
    """As `forward_opml`.

    Returns:
        How it ended, and at which triplet.
    """
    last = layers.maps.shape[0] - 1
    for i in range(last + 1):
        ended, t = moml_layer(
            *(layers.maps[i], layers.inverses[i], layers.changes[i], layers.counts[i]),
            *(group.rows, group.pair, m, S, W, options, d, i < last),
        )
        if ended != DONE:
            return ended, t
        if i < last:
            activate(group.rows, m, d, activation)
    return DONE, -1
