"""Nearest points of one's own class and of other classes, under weights of atoms."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

TILE_NUMBERS = 4_000_000  # of distances or atoms at once: 32 MB


@runtime_checkable
class Family(Protocol):
    """Distances D_w(x, z) = w . phi(x - z): `Atoms`, or the entries of a full matrix.

    Attributes:
        start: the weights (A,) of the Euclidean distance.
        quadratic: whether D_w is a quadratic form, which `matrix` gives.
    """

    @property
    def start(self) -> ndarray: ...

    @property
    def quadratic(self) -> bool: ...

    def of(self, delta: ndarray) -> ndarray:
        """phi (..., A) of differences (..., d)."""
        ...

    def distances(self, w: ndarray, X: ndarray, Z: ndarray) -> ndarray:
        """D_w (n, m) of all rows of X with all of Z."""
        ...

    def matrix(self, w: ndarray) -> ndarray:
        """M (d, d) of a quadratic form."""
        ...

    def components(self, w: ndarray) -> ndarray:
        """L (m, d) with L^T L = M."""
        ...


@dataclass(frozen=True)
class Nearest:
    """Nearest points of each point under one metric, nearest first, and their distances D.

    Attributes:
        own: (n, k) points of the same class, -1 where there are no more.
        own_distance: (n, k), infinite where there are no more.
        other: (n, s) points of other classes, -1 where there are no more.
        other_distance: (n, s), infinite where there are no more.
    """

    own: Int[ndarray, "n k"]
    own_distance: Float[ndarray, "n k"]
    other: Int[ndarray, "n s"]
    other_distance: Float[ndarray, "n s"]

    @property
    def radius(self) -> Float[ndarray, " n"]:
        """d_i: distance of the k-th nearest of the same class."""
        return self.own_distance[:, -1]

    @property
    def gap(self) -> Float[ndarray, " n"]:
        """q_i: distance of the nearest of another class."""
        return self.other_distance[:, 0]


def nearest(
    family: Family,
    w: Float[ndarray, " A"],
    X: Float[ndarray, "n d"],
    y: Int[ndarray, " n"],
    *,
    k: int = 1,
    others: int = 1,
    groups: Int[ndarray, " n"] | None = None,
) -> Nearest:
    """The k nearest of the same class and the nearest of other classes, of every point.

    Distances are computed in tiles, so memory grows with n only.

    Args:
        family: of distances.
        w: its weights.
        X: rows as they are compared.
        y: numbers of the classes.
        k: nearest of the same class.
        others: nearest of other classes.
        groups: points of one group are not neighbours of each other; each point is its own
            group where none are given.
    """
    n = len(X)
    group = np.arange(n) if groups is None else groups
    own, other = np.full((n, k), -1), np.full((n, others), -1)
    step = max(1, TILE_NUMBERS // n)
    for begin in range(0, n, step):
        rows = slice(begin, begin + step)
        distances = family.distances(w, X[rows], X)
        same = y[rows, None] == y
        _smallest(np.where(same & (group[rows, None] != group), distances, np.inf), own[rows])
        _smallest(np.where(same, np.inf, distances), other[rows])
    own, own_distance = _ordered(own, pair_distances(family, w, X, np.arange(n)[:, None], own))
    left = np.arange(n)[:, None]
    other, other_distance = _ordered(other, pair_distances(family, w, X, left, other))
    return Nearest(own, own_distance, other, other_distance)


def pair_distances(
    family: Family,
    w: Float[ndarray, " A"],
    X: Float[ndarray, "n d"],
    left: Int[ndarray, "m _"],
    right: Int[ndarray, "m c"],
) -> Float[ndarray, "m c"]:
    """D_w of pairs of points, from their differences; infinite where `right` is -1."""
    found = np.empty(right.shape)
    features = X.shape[1]
    through_matrix = family.quadratic and len(w) > features
    M = family.matrix(w) if through_matrix else None
    step = max(1, TILE_NUMBERS // (right.shape[1] * max(features, 0 if through_matrix else len(w))))
    for begin in range(0, len(right), step):
        rows = slice(begin, begin + step)
        delta = X[left[rows]] - X[right[rows]]
        if M is None:
            found[rows] = family.of(delta) @ w
        else:
            found[rows] = np.einsum("mcd,mcd->mc", delta @ M, delta)
    return np.where(right < 0, np.inf, found)


@dataclass(frozen=True)
class Pairs:
    """Nearest pairs of each anchor, a point or a group of points: one end is in the anchor.

    Attributes:
        own_left, own_right: (g, k) ends of pairs of one class, nearest first; the right one lies
            outside the anchor and is -1 where there are no more.
        other_left, other_right: (g, s) of two classes.
    """

    own_left: Int[ndarray, "g k"]
    own_right: Int[ndarray, "g k"]
    other_left: Int[ndarray, "g s"]
    other_right: Int[ndarray, "g s"]


def pairs_of(near: Nearest, groups: Int[ndarray, " n"] | None = None) -> Pairs:
    """The nearest pairs of each point, or of each group (numbers from 0 without holes)."""
    points = np.arange(len(near.own))[:, None]
    found = []
    for right, distance in ((near.own, near.own_distance), (near.other, near.other_distance)):
        left = np.broadcast_to(points, right.shape)
        if groups is None:
            found += [left, right]
            continue
        count = right.shape[1]
        of = np.repeat(groups, count)
        order = np.lexsort((distance.reshape(-1), of))
        first = np.searchsorted(of[order], np.arange(groups.max() + 1))
        chosen = order[first[:, None] + np.arange(count)]  # every member has `count` pairs
        found += [left.reshape(-1)[chosen], right.reshape(-1)[chosen]]
    return Pairs(*found)


def _smallest(distances: ndarray, found: ndarray) -> None:
    """Write the columns of the smallest distances of each row; infinite ones stay -1."""
    count = min(found.shape[1], distances.shape[1])
    if count == 1:
        columns = distances.argmin(axis=1)[:, None]
    else:
        columns = np.argpartition(distances, count - 1, axis=1)[:, :count]
    finite = np.isfinite(np.take_along_axis(distances, columns, axis=1))
    found[:, :count] = np.where(finite, columns, -1)


def _ordered(found: ndarray, distance: ndarray) -> tuple[ndarray, ndarray]:
    """By distance and then by index."""
    order = np.lexsort((found, distance), axis=1)
    ordered = np.take_along_axis(found, order, axis=1)
    return ordered, np.take_along_axis(distance, order, axis=1)
