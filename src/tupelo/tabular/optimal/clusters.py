"""Local clusters, outliers and boundary pairs: what a metric says about its training points."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tupelo.tabular.optimal.neighbours import Family, Nearest, nearest


@dataclass(frozen=True)
class Structure:
    """How classes fall into local clusters under one metric.

    Attributes:
        nearest: the k nearest of the same class and the nearest other of each point.
        errors: (n,) points whose k nearest of the same class are not all nearer than any other
            class, by the factor 1 + rho and epsilon.
        clusters: (n,) number of each point's local cluster, in the order of first points.
        outliers: points whose k-th nearest of the same class is not nearer than the nearest other.
        boundary_pairs: (p, 2) points i < l of different classes, each the other's nearest of
            another class.
    """

    nearest: Nearest
    errors: Bool[ndarray, " n"]
    clusters: Int[ndarray, " n"]
    outliers: Int[ndarray, " o"]
    boundary_pairs: Int[ndarray, "p 2"]


def structure(
    family: Family,
    w: Float[ndarray, " A"],
    X: Float[ndarray, "n d"],
    y: Int[ndarray, " n"],
    *,
    k: int = 1,
    rho: float = 0.1,
    epsilon: float = 1e-3,
) -> Structure:
    """Errors, local clusters, outliers and boundary pairs under the weights w.

    Args:
        family: of distances.
        w: its weights.
        X: rows as they are compared.
        y: numbers of the classes.
        k: members of the same class that make a local cluster.
        rho: others must be farther than the radius by this share, >= 0.
        epsilon: and by this much.
    """
    near = nearest(family, w, X, y, k=k)
    errors = error_points(near.radius, near.gap, rho, epsilon)
    outliers = np.flatnonzero(~(near.radius < near.gap))
    return Structure(near, errors, clusters_of(near, errors), outliers, boundary_pairs(near))


def error_points(
    radius: Float[ndarray, " n"], gap: Float[ndarray, " n"], rho: float, epsilon: float
) -> Bool[ndarray, " n"]:
    """Points whose gap is not beyond their radius by the factor 1 + rho and epsilon."""
    finite = np.isfinite(radius)
    return ~(finite & (gap >= (1 + rho) * np.where(finite, radius, 0.0) + epsilon))


def clusters_of(near: Nearest, errors: Bool[ndarray, " n"]) -> Int[ndarray, " n"]:
    """Components of the graph that joins each point without error to its k nearest of its class.

    With k = 1 this is the first round of single-linkage clustering, without the points whose
    nearest neighbour has another class.
    """
    n, k = near.own.shape
    left = np.repeat(np.flatnonzero(~errors), k)
    right = near.own[~errors].reshape(-1)
    edges = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    found = connected_components(edges, directed=False)[1].astype(np.int64)
    first = np.unique(found, return_index=True)[1]
    return np.argsort(np.argsort(first))[found]


def boundary_pairs(near: Nearest) -> Int[ndarray, "p 2"]:
    """Points i < l that are each other's nearest of another class."""
    other = near.other[:, 0]
    i = np.flatnonzero(other >= 0)
    mutual = (other[other[i]] == i) & (i < other[i])
    return np.stack([i[mutual], other[i[mutual]]], axis=1)
