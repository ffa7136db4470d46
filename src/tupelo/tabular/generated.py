"""Tables that need no download: one that can be listed in full, and two drawn at random."""

from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.tabular.inputs import check_number

WAVES = ((11, 15), (11, 7), (15, 7))  # peaks of the two waves that a class mixes
WAVE_POINTS = 21
RADII = (1.0, 3.0)


def balance_scale() -> tuple[Float[ndarray, "625 4"], ndarray]:
    """All states of a balance with weights and distances from 1 to 5, exactly the UCI set.

    Features are left weight, left distance, right weight, right distance; the class is the side
    that goes down, "L" or "R", or "B": balanced.

    Source: Siegler, "Three aspects of cognitive development", Cognitive Psychology 8, 1976.

    Returns:
        X: (625, 4), in the order of the UCI file.
        y: its labels: 288 "L", 49 "B", 288 "R".

    >>> X, y = balance_scale()
    >>> X[1], y[1]
    (array([1., 1., 1., 2.]), np.str_('R'))
    """
    X = np.array(list(product(range(1, 6), repeat=4)), dtype=np.float64)
    down = np.sign(X[:, 0] * X[:, 1] - X[:, 2] * X[:, 3]).astype(int)
    return X, np.array(["B", "L", "R"])[down]  # -1 is the last


def waveform(
    n: int, rng: np.random.Generator, *, noise_features: int = 19
) -> tuple[Float[ndarray, "n d"], Int[ndarray, " n"]]:
    """Mixtures of two of three triangular waves, with noise of variance 1, and features of noise.

    Source: Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984, section
    2.6. The UCI set "waveform, version 2" is a sample of 5,000 rows.

    Args:
        n: rows.
        rng: draws them.
        noise_features: behind the 21 points of the wave.

    Returns:
        X: (n, 21 + noise_features).
        y: 0, 1 or 2.

    Raises:
        InputError: n < 1 or noise_features < 0.

    >>> X, y = waveform(5000, np.random.default_rng(0))
    >>> X.shape
    (5000, 40)
    """
    check_number("n", n, at_least=1, whole=True)
    check_number("noise_features", noise_features, at_least=0, whole=True)
    y = rng.integers(3, size=n)
    points = np.arange(1, WAVE_POINTS + 1)
    waves = np.maximum(6.0 - np.abs(points - np.array(WAVES)[:, :, None]), 0.0)  # (3, 2, 21)
    share = rng.random((n, 1))
    clean = share * waves[y, 0] + (1.0 - share) * waves[y, 1]
    X = rng.normal(size=(n, WAVE_POINTS + noise_features))
    X[:, :WAVE_POINTS] += clean
    return X, y


def rings(
    n: int, rng: np.random.Generator, *, noise_features: int = 2
) -> tuple[Float[ndarray, "n d"], Int[ndarray, " n"]]:
    """Two rings around one centre in two dimensions, and features of noise three times as wide.

    No plane separates the classes, and Euclidean neighbours are decided by the noise: a metric
    that ignores those features makes every nearest neighbour right.

    Args:
        n: rows, half of them on each ring.
        rng: draws them.
        noise_features: behind the two of the rings, of standard deviation 3.

    Returns:
        X: (n, 2 + noise_features).
        y: 0 for the inner ring, 1 for the outer.

    Raises:
        InputError: n < 4 or noise_features < 0.

    >>> X, y = rings(60, np.random.default_rng(0))
    >>> X.shape, np.bincount(y)
    ((60, 4), array([30, 30]))
    """
    check_number("n", n, at_least=4, whole=True)
    check_number("noise_features", noise_features, at_least=0, whole=True)
    y = np.arange(n) % 2
    # one angle in each of as many sectors as a ring has rows: no ring has a wide gap
    angle = 2.0 * np.pi * (np.arange(n) // 2 + rng.random(n)) / ((n + 1) // 2)
    radius = np.array(RADII)[y] + rng.normal(scale=0.1, size=n)
    ring = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.hstack([ring, rng.normal(scale=3.0, size=(n, noise_features))]), y
