"""Directions worth a rank-one atom: principal components, and discriminants near and far."""

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from sklearn.utils import check_random_state

NEIGHBOURS = 5  # of each kind, for local discriminants
RIDGE = 1e-3  # of the mean variance, added before a matrix is inverted


def discriminants(
    X: np.ndarray, y: np.ndarray, random_state: int | np.random.RandomState | None = None
) -> np.ndarray:
    """Unit rows: d principal components, then discriminants.

    The discriminants are those of the classes' means (one fewer than classes), d of the
    differences to near points of other classes against differences to near points of the own, and
    the first one around each of 2d points drawn at random.

    Args:
        X: `(n, d)` points, standardised.
        y: `(n,)` classes.
        random_state: draws the points.
    """
    d = X.shape[1]
    rng = check_random_state(random_state)
    _, codes = np.unique(y, return_inverse=True)
    centred = X - X.mean(0)
    found = [eigh(centred.T @ centred)[1].T[::-1]]
    means = np.stack([X[codes == c].mean(0) for c in range(codes.max() + 1)])
    within = X - means[codes]
    between = means[codes] - X.mean(0)
    number = min(len(means) - 1, d)
    if number:
        found.append(_best(between, within, number))
        other, own = _near_differences(X, codes)
        found.append(_best(other.reshape(-1, d), own.reshape(-1, d), d))
        drawn = rng.permutation(len(X))[: 2 * d]
        size = max(3 * d, 20)
        distance = cdist(X[drawn], X, "sqeuclidean")
        for near in np.argsort(distance, axis=1, kind="stable")[:, :size]:
            found.append(_best(other[near].reshape(-1, d), own[near].reshape(-1, d), 1))
    rows = np.concatenate(found)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _near_differences(X: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(n, NEIGHBOURS, d)` differences to near points of other classes and of the own, else 0."""
    distance = cdist(X, X, "sqeuclidean")
    same = codes[:, None] == codes
    found = []
    for allowed in (~same, same & ~np.eye(len(X), dtype=bool)):
        masked = np.where(allowed, distance, np.inf)
        near = np.argsort(masked, axis=1, kind="stable")[:, :NEIGHBOURS]
        valid = np.take_along_axis(allowed, near, 1)
        found.append((X[near] - X[:, None]) * valid[..., None])
    return found[0], found[1]


def _best(apart: np.ndarray, together: np.ndarray, number: int) -> np.ndarray:
    """Rows with the largest ratio of spread in `apart` to spread in `together`."""
    d = apart.shape[1]
    floor = together.T @ together / len(together)
    floor += np.eye(d) * (RIDGE * np.trace(floor) / d + 1e-9)
    vectors = eigh(apart.T @ apart / len(apart), floor)[1]
    return vectors.T[::-1][:number]
