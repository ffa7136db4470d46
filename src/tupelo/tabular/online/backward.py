"""One gradient step of the whole stack, in plain NumPy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tupelo.tabular.online.activations import Activation
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import Layer

Triplet = Float[ndarray, "3 d"]  # x, positive, negative


def hinge_slope(s: Triplet) -> Triplet:
    """Derivative of |s_x - s_p|^2 - |s_x - s_q|^2 by the three."""
    to_p, to_q = s[0] - s[1], s[0] - s[2]
    return 2.0 * np.stack([to_p - to_q, -to_p, to_q])


def gradients(
    maps: Sequence[Float[ndarray, "d d"]], activation: Activation, rows: Triplet, options: Options
) -> tuple[list[Float[ndarray, "d d"]], list[bool]]:
    """Gradients of 1/2 [z]+ + sum_i w [z_i]+ + decay/2 sum_i |L_i|^2, and which z_i are above 0.

    z is the hinge of the output, z_i that of layer i on its own inputs, which are taken as given:
    no gradient of z_i reaches an earlier layer.

    Raises:
        FloatingPointError: a hinge is infinite or NaN.
    """
    inputs, outputs, active = [rows], [], []
    for linear in maps:
        s = inputs[-1] @ linear.T
        z = options.margin + ((s[0] - s[1]) ** 2).sum() - ((s[0] - s[2]) ** 2).sum()
        if not abs(z) < np.inf:
            raise FloatingPointError
        active.append(bool(z > 0.0))
        outputs.append(s)
        inputs.append(activation.value(s))
    back = 0.5 * hinge_slope(outputs[-1]) * active[-1]
    found = []
    for i in range(len(maps) - 1, -1, -1):
        local = options.local_weight * hinge_slope(outputs[i]) * active[i]
        found.append((back + local).T @ inputs[i] + options.weight_decay * maps[i])
        if i:
            back = back @ maps[i] * activation.slope(outputs[i - 1], inputs[i])
    return found[::-1], active


def backward_step(
    layers: Sequence[Layer], activation: Activation, rows: Triplet, options: Options
) -> list[bool]:
    """L_i <- L_i - eta gradient_i, all from the same forward pass; which hinges were active.

    Raises:
        FloatingPointError: a layer would become infinite or NaN.
    """
    found, active = gradients([layer.L for layer in layers], activation, rows, options)
    steps = [options.eta * gradient for gradient in found]
    if not all(np.isfinite(step).all() for step in steps):
        raise FloatingPointError
    for layer, step in zip(layers, steps, strict=True):
        layer.L -= step
    return active
