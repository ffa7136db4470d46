"""Distances that are linear in their parameters: D_w(x, z) = sum over atoms of w_a phi_a(x - z).

Every atom is a power of one direction, phi_a(delta) = |u_a . delta|^p_a / scale_a, where scale_a is
the mean of the power over all pairs of the training points. So each atom has mean one, and weights
on the simplex share a distance of mean one among them. Powers of two alone make D a squared
Mahalanobis distance, with M = sum of w_a / scale_a u_a u_a^T: positive semidefinite for every
w >= 0, without a constraint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from tupelo.errors import InputError

LARGEST = 2000  # atoms of a family that has several a feature; programs beyond are out of reach


@dataclass(frozen=True)
class Atoms:
    """A family of A atoms, fixed to the spread of its training points.

    Attributes:
        name: of the family.
        rows: `(A, d)` one direction u_a an atom.
        powers: `(A,)` 1, 2 or 4.
        scale: `(A,)` mean of |u_a . delta|^p_a over all pairs, > 0.
        start: `(A,)` w0 on the simplex: uniform over the squared axes, which is the Euclidean
            metric on standardised features; where there are none, uniform.

    Example:
        >>> atoms = make_atoms("diag", np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([0, 1]))
        >>> atoms.of(np.array([1.0, 1.0]))
        array([1.  , 0.25])
    """

    name: str
    rows: np.ndarray
    powers: np.ndarray
    scale: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.scale)

    @property
    def quadratic(self) -> bool:
        """Whether D is a squared Mahalanobis distance."""
        return bool(np.all(self.powers == 2))

    @property
    def directions(self) -> np.ndarray | None:
        """`(A, d)` rows u_a of quadratic atoms, else None."""
        return self.rows if self.quadratic else None

    def project(self, X: np.ndarray) -> np.ndarray:
        """`(..., A)` every u_a . x; differences of these are what `of_projected` takes."""
        X = np.asarray(X)
        if self._axes is None:
            return X @ self.rows.T
        # rows stay contiguous, so that later sums round as after the product
        return np.take(X, self._axes, axis=-1)

    @cached_property
    def _axes(self) -> np.ndarray | None:
        """`(A,)` features of atoms along single features: looking them up costs no product."""
        axes = self.rows.argmax(1)
        return axes if np.array_equal(self.rows, np.eye(self.rows.shape[1])[axes]) else None

    def of_projected(self, difference: np.ndarray) -> np.ndarray:
        """The atoms of `project(x) - project(z)`, which costs O(A) a pair instead of O(A d)."""
        phi = np.abs(difference)
        for power in (2, 4):
            at = self.powers == power
            if at.all():
                phi = phi**power
            elif at.any():
                phi[..., at] **= power
        return phi / self.scale

    def of(self, delta: np.ndarray) -> np.ndarray:
        """`(..., A)` phi_a >= 0 of differences `(..., d)`."""
        return self.of_projected(self.project(delta))

    def distances(self, w: np.ndarray, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """`(n, m)` D_w between rows of X and rows of Z, without an `(n, m, A)` array."""
        w = np.asarray(w, np.float64)
        total = np.zeros((len(X), len(Z)))
        for power in np.unique(self.powers):
            at = (self.powers == power) & (w > 0)
            if not at.any():
                continue
            factors = (w[at] / self.scale[at]) ** (1 / power)
            maps = factors[:, None] * self.rows[at]
            if power == 2 and len(maps) > 2 * maps.shape[1]:
                maps = _root(maps.T @ maps)
            total += _SUMS[int(power)](X @ maps.T, Z @ maps.T)
        return total

    def components(self, w: np.ndarray) -> np.ndarray:
        """`(A', d)` factor L with D_w(x, z) = |L (x - z)|^2; rows without weight are left out.

        Raises:
            InputError: atoms that are not quadratic.
        """
        self._check_quadratic()
        used = w > 0
        return np.sqrt(w[used] / self.scale[used])[:, None] * self.rows[used]

    def matrix(self, w: np.ndarray) -> np.ndarray:
        """`(d, d)` M with D_w(x, z) = (x - z)^T M (x - z).

        Raises:
            InputError: atoms that are not quadratic.
        """
        L = self.components(w)
        return L.T @ L

    def _check_quadratic(self) -> None:
        if not self.quadratic:
            raise InputError(
                f'atoms "{self.name}" are not quadratic: their distance has no matrix and no '
                "linear map; use pair_distance or get_metric"
            )


def make_atoms(
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    random_state: int | np.random.RandomState | None = None,
) -> Atoms:
    """The atoms of one family for these training points.

    Directions in which the points do not vary, and repeated directions, are left out.

    Args:
        name: "diag": delta_r^2, a weight a feature. "dd": also (delta_r +- delta_s)^2 / 2, exactly
            the diagonally dominant matrices. "rank1": squares along the axes, principal
            components, and directions of (local) discriminants. "l1": |delta_r|. "l1+l2": both
            orders. "l2+l4": delta_r^2 and delta_r^4 (a dissimilarity, no metric).
        X: `(n, d)` training points, standardised where `start` is to be the Euclidean metric.
        y: `(n,)` classes; only "rank1" reads them.
        random_state: of the points around which "rank1" looks for local discriminants.

    Raises:
        InputError: an unknown name; more than 2000 atoms of "dd" or "rank1"; points that are all
            the same.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(20, 3))
        >>> [len(make_atoms(name, X, np.arange(20) % 2)) for name in ("diag", "dd", "l1+l2")]
        [3, 9, 6]
    """
    if name not in FAMILIES:
        raise InputError(f"atoms must be one of {', '.join(FAMILIES)}; got {name!r}")
    X = np.asarray(X, np.float64)
    _check_number(name, X.shape[1])
    rows, powers = FAMILIES[name](X, np.asarray(y), random_state)
    scale = np.empty(len(rows))
    for power in np.unique(powers):
        at = powers == power
        scale[at] = _PAIR_MEANS[int(power)](X @ rows[at].T)
    kept = scale > 1e-12 * max(scale.max(initial=0.0), np.finfo(float).tiny)
    if not kept.any():
        raise InputError("X must hold points that differ; all features are constant")
    rows, powers, scale = rows[kept], powers[kept], scale[kept]
    euclid = (powers == 2) & (np.count_nonzero(rows, axis=1) == 1)
    start = (euclid if euclid.any() else np.ones(len(rows))).astype(np.float64)
    return Atoms(name, rows, powers, scale, start / start.sum())


def dominant_weights(M: np.ndarray, atoms: Atoms) -> np.ndarray:
    """The weights w >= 0 of "dd" atoms with `atoms.matrix(w)` = M, without the simplex.

    Source: Barker and Carlson: M = sum over r < s of |M_rs| (e_r +- e_s)(e_r +- e_s)^T plus the
    diagonal's excess over its row.

    Raises:
        InputError: M is not diagonally dominant with nonnegative diagonal.
    """
    off = np.abs(M) - np.diag(np.diag(np.abs(M)))
    excess = np.diag(M) - off.sum(1)
    if np.any(excess < -1e-12 * np.abs(M).max()):
        raise InputError("M must be diagonally dominant with a nonnegative diagonal")
    w = np.zeros(len(atoms))
    for a, row in enumerate(atoms.rows):
        at = np.flatnonzero(row)
        if len(at) == 1:
            w[a] = max(excess[at[0]], 0.0)
        else:
            r, s = at
            w[a] = 2 * max(M[r, s] * np.sign(row[r] * row[s]), 0.0)  # rows carry 1/sqrt(2) each
    return w * atoms.scale


def _check_number(name: str, d: int) -> None:
    number = {"dd": d * d, "rank1": 7 * d}.get(name, 0)
    if number > LARGEST:
        raise InputError(
            f'atoms "{name}" of {d} features are {number}, more than {LARGEST}; use "diag"'
            + (' or "rank1"' if name == "dd" else "")
        )


def _diag(X, y, random_state):
    d = X.shape[1]
    return np.eye(d), np.full(d, 2)


def _dd(X, y, random_state):
    d = X.shape[1]
    r, s = np.triu_indices(d, 1)
    pairs = np.zeros((2, len(r), d))
    at = np.arange(len(r))
    pairs[:, at, r] = np.sqrt(0.5)
    pairs[0, at, s] = np.sqrt(0.5)
    pairs[1, at, s] = -np.sqrt(0.5)
    return np.concatenate([np.eye(d), *pairs]), np.full(d * d, 2)


def _rank1(X, y, random_state):
    from tupelo.tabular.optimal.dictionary import discriminants

    found = _distinct(np.concatenate([np.eye(X.shape[1]), discriminants(X, y, random_state)]))
    return found, np.full(len(found), 2)


def _l1(X, y, random_state):
    d = X.shape[1]
    return np.eye(d), np.full(d, 1)


def _l1_l2(X, y, random_state):
    d = X.shape[1]
    return np.tile(np.eye(d), (2, 1)), np.repeat([1, 2], d)


def _l2_l4(X, y, random_state):
    d = X.shape[1]
    return np.tile(np.eye(d), (2, 1)), np.repeat([2, 4], d)


FAMILIES: dict[str, Callable] = {
    "diag": _diag,
    "dd": _dd,
    "rank1": _rank1,
    "l1": _l1,
    "l1+l2": _l1_l2,
    "l2+l4": _l2_l4,
}


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Without rows parallel to an earlier one."""
    parallel = np.abs(rows @ rows.T) > 1 - 1e-9
    return rows[~np.tril(parallel, -1).any(1)]


def _root(M: np.ndarray) -> np.ndarray:
    """`(d, d)` L with L^T L = M."""
    values, vectors = eigh(M)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def _mean_absolute(P: np.ndarray) -> np.ndarray:
    """Mean of |p_i - p_j| over all pairs i < j of each column, from the sorted column."""
    n = len(P)
    rank = 2 * np.arange(n) - n + 1
    return rank @ np.sort(P, axis=0) * 2 / (n * (n - 1))


def _mean_square(P: np.ndarray) -> np.ndarray:
    return 2 * P.var(axis=0, ddof=1)


def _mean_fourth(P: np.ndarray) -> np.ndarray:
    n = len(P)
    centred = P - P.mean(0)
    return (2 * np.mean(centred**4, 0) + 6 * np.mean(centred**2, 0) ** 2) * n / (n - 1)


_PAIR_MEANS = {1: _mean_absolute, 2: _mean_square, 4: _mean_fourth}
_SUMS = {
    1: lambda P, Q: cdist(P, Q, "cityblock"),
    2: lambda P, Q: cdist(P, Q, "sqeuclidean"),
    4: lambda P, Q: cdist(P, Q, "minkowski", p=4) ** 4,
}
