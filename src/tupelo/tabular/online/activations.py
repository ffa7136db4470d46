"""What stands between two layers: the function, its slope, and the number of its compiled form."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray


class Activation(NamedTuple):
    """A function of every number.

    Attributes:
        value: of s.
        slope: derivative, of s and the value there.
        code: what the compiled loops call it.
    """

    value: Callable[[ndarray], ndarray]
    slope: Callable[[ndarray, ndarray], ndarray]
    code: int


def sigmoid(s: ndarray) -> ndarray:
    """1 / (1 + exp(-s)), without overflow.

    >>> sigmoid(np.array([-1e4, 0.0])).tolist()
    [0.0, 0.5]
    """
    small = np.exp(-np.abs(s))
    return np.where(s >= 0.0, 1.0, small) / (1.0 + small)


RELU, TANH, SIGMOID, IDENTITY = range(4)
ACTIVATIONS = {
    "relu": Activation(
        lambda s: np.maximum(s, 0.0), lambda s, h: (s > 0.0).astype(np.float64), RELU
    ),
    "tanh": Activation(np.tanh, lambda s, h: 1.0 - h * h, TANH),
    "sigmoid": Activation(sigmoid, lambda s, h: h * (1.0 - h), SIGMOID),
    "identity": Activation(lambda s: s, lambda s, h: np.ones_like(s), IDENTITY),
}
