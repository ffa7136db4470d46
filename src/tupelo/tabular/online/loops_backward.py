"""The compiled gradient step of the whole stack."""

import numpy as np

from tupelo.compiled import compiled
from tupelo.tabular.online.activations import RELU, SIGMOID, TANH
from tupelo.tabular.online.loops import DONE, INFINITE, SUMS, UPDATES, act
from tupelo.tabular.online.matmul import add_outer, times, times_transposed


@compiled()
def differences(rows, t, to):
    """Triplet t of rows x, p, q as the one triplet x, x - p, x - q that a layer takes."""
    for k in range(to.shape[1]):
        to[0, k] = rows[3 * t, k]
        to[1, k] = rows[3 * t, k] - rows[3 * t + 1, k]
        to[2, k] = rows[3 * t, k] - rows[3 * t + 2, k]


@compiled()
def slope(s, h, activation):
    """Derivative of the activation at s, where its value is h."""
    if activation == RELU:
        return 1.0 if s > 0.0 else 0.0
    if activation == TANH:
        return 1.0 - h * h
    if activation == SIGMOID:
        return h * (1.0 - h)
    return 1.0


@compiled(fastmath=SUMS)
def hinge(outputs, margin):
    """margin + |x - p|^2 - |x - q|^2 of three rows."""
    near, far = 0.0, 0.0
    for k in range(outputs.shape[1]):
        near += (outputs[0, k] - outputs[1, k]) ** 2
        far += (outputs[0, k] - outputs[2, k]) ** 2
    return margin + near - far


@compiled(fastmath=SUMS)
def backward(layers, rows, first, m, inputs, outputs, back, step, counting, options, d, activation):
    """Gradient steps on triplets first .. first + m of rows x, p, q; nothing may wait.

    Args:
        inputs, outputs: (n, 3, w), room for what goes through the layers.
        back, step: (3, w), room for gradients.
        counting: add active hinges to the counts.

    Returns:
        How it ended, and at which triplet.
    """
    n, width = layers.maps.shape[0], rows.shape[1]
    rate = options.eta
    for t in range(first, first + m):
        for r in range(3):
            for k in range(width):
                inputs[0, r, k] = rows[3 * t + r, k]
        active = np.zeros(n, np.bool_)
        for i in range(n):
            times(inputs[i], 0, 3, layers.maps[i], d, outputs[i], 0)
            z = hinge(outputs[i], options.margin)
            if not abs(z) < np.inf:
                return INFINITE, t
            active[i] = z > 0.0
            if counting and active[i]:
                layers.counts[i, UPDATES] += 1
            if i + 1 < n:
                for r in range(3):
                    for k in range(d):
                        inputs[i + 1, r, k] = act(outputs[i, r, k], activation)
        for k in range(width):
            to_p = outputs[n - 1, 0, k] - outputs[n - 1, 1, k]
            to_q = outputs[n - 1, 0, k] - outputs[n - 1, 2, k]
            weight = 1.0 if active[n - 1] else 0.0
            back[0, k], back[1, k], back[2, k] = (
                weight * (to_p - to_q),
                -weight * to_p,
                weight * to_q,
            )
        for i in range(n - 1, -1, -1):
            weight = 2.0 * options.local_weight if active[i] else 0.0
            size = 0.0
            for k in range(width):
                to_p = outputs[i, 0, k] - outputs[i, 1, k]
                to_q = outputs[i, 0, k] - outputs[i, 2, k]
                step[0, k] = -rate * (back[0, k] + weight * (to_p - to_q))
                step[1, k] = -rate * (back[1, k] - weight * to_p)
                step[2, k] = -rate * (back[2, k] + weight * to_q)
                size += abs(step[0, k]) + abs(step[1, k]) + abs(step[2, k])
            for r in range(3):
                for k in range(width):
                    size += abs(inputs[i, r, k])
            if not size * size < np.inf:
                return INFINITE, t
            B = layers.maps[i]
            if i > 0:
                # before the layer changes; `back` of the layer below
                times_transposed(back, 0, 3, B, d, outputs[i], 0)
                for r in range(3):
                    for k in range(d):
                        back[r, k] = outputs[i, r, k] * slope(
                            outputs[i - 1, r, k], inputs[i, r, k], activation
                        )
            if options.weight_decay != 0.0:
                kept = 1.0 - rate * options.weight_decay
                for p in range(B.shape[0]):
                    for k in range(d):
                        for j in range(B.shape[2]):
                            B[p, k, j] *= kept
            add_outer(B, d, inputs[i], step, 3)
    return DONE, -1
