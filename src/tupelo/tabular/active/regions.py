"""Regions worth a label: balls of the learned metric around outliers and between classes.

After Kumaran et al., "Active metric learning for supervised classification" (arXiv 1803.10647),
whose abstract says that regions to sample are indicated by boundary and outlier points; radii and
scores are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial.distance import cdist

SINGULAR = 1e-10  # of the largest eigenvalue: below, a direction has no length


@dataclass(frozen=True)
class Ruler:
    """D(x, z) = sum over rows of |maps (x - z)|^powers, on raw rows.

    Attributes:
        maps: (a, d), one row an atom with weight, scaled by it.
        powers: (a,) 1, 2 or 4; all 2 where D is a squared Mahalanobis distance.
    """

    maps: Float[ndarray, "a d"]
    powers: Int[ndarray, " a"]

    @property
    def quadratic(self) -> bool:
        """Whether a ball is an ellipsoid."""
        return bool((self.powers == 2).all())

    def from_point(
        self, X: Float[ndarray, "n d"], centre: Float[ndarray, " d"]
    ) -> Float[ndarray, " n"]:
        """D of rows from one point."""
        return (np.abs((X - centre) @ self.maps.T) ** self.powers).sum(axis=1)

    def to_rows(self, X: Float[ndarray, "n d"], Z: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
        """D of all rows with all others."""
        left, right = X @ self.maps.T, Z @ self.maps.T
        if self.quadratic:
            return cdist(left, right, "sqeuclidean")
        total = np.zeros((len(X), len(Z)))
        for column, power in enumerate(self.powers):
            total += np.abs(left[:, column, None] - right[None, :, column]) ** power
        return total

    def extent(self, radius: float) -> Float[ndarray, " d"]:
        """How far a ball D <= radius^2 reaches along each feature; infinite if without end."""
        if self.quadratic:
            return radius * np.sqrt(_inverse_diagonal(self.maps.T @ self.maps))
        # atoms of other powers lie along features, so each feature may be followed alone
        reach = np.full(self.maps.shape[1], np.inf)
        for feature in np.flatnonzero(np.abs(self.maps).sum(axis=0) > 0):
            slopes = np.abs(self.maps[:, feature])
            reach[feature] = _reach(slopes, self.powers, radius**2)
        return reach


@dataclass(frozen=True)
class Region:
    """A ball of the learned metric where a label would tell most, in raw features.

    Attributes:
        kind: "outlier" or "boundary".
        points: the labelled rows that it comes from, one or two.
        centre: (d,).
        radius: in the learned distance (the square root of D).
        score: of a boundary, the gap over the local spacing, halved if resolved; of an outlier,
            infinite: outliers come first.
        resolved: a labelled row lies inside that the region does not come from.
        lower, upper: (d,) the box around it, within the observed ranges.
        unbounded: (d,) features along which the ball itself has no end.
        reason: a sentence.
        ruler: the learned distance.
    """

    kind: str
    points: tuple[int, ...]
    centre: Float[ndarray, " d"]
    radius: float
    score: float
    resolved: bool
    lower: Float[ndarray, " d"]
    upper: Float[ndarray, " d"]
    unbounded: Bool[ndarray, " d"]
    reason: str
    ruler: Ruler

    @property
    def matrix(self) -> Float[ndarray, "d d"] | None:
        """M of the ellipsoid (x - centre)^T M (x - centre) <= radius^2; None where it is none."""
        return self.ruler.maps.T @ self.ruler.maps if self.ruler.quadratic else None

    def contains(self, X: Float[ndarray, "n d"]) -> Bool[ndarray, " n"]:
        """Which raw rows lie in the ball."""
        distance = self.ruler.from_point(np.asarray(X, dtype=np.float64), self.centre)
        return distance <= self.radius**2 * (1 + 1e-12)

    def __str__(self) -> str:
        return f"{self.kind} region around rows {', '.join(map(str, self.points))}: {self.reason}"


@dataclass(frozen=True)
class Labelled:
    """Labelled rows with what the metric says about their neighbours.

    Attributes:
        X: raw rows.
        labels: as the user gave them.
        radius: d_i, distance D to the k-th nearest of the same class, infinite without one.
        gap: q_i, distance D to the nearest of another class.
        other: that point.
        outliers: points with d_i >= q_i.
        boundary_pairs: mutual nearest of other classes.
    """

    X: Float[ndarray, "n d"]
    labels: ndarray
    radius: Float[ndarray, " n"]
    gap: Float[ndarray, " n"]
    other: Int[ndarray, " n"]
    outliers: Int[ndarray, " o"]
    boundary_pairs: Int[ndarray, "p 2"]


def regions(ruler: Ruler, known: Labelled) -> list[Region]:
    """Regions of all outliers, most isolated first, then of all boundary pairs by score.

    An outlier i has the ball around it of radius sqrt(min(d_i, 4 q_i)), sqrt(q_i) where no other
    row has its class. A boundary pair (i, l) has the ball that has both on its surface (its Gabriel
    ball): the decision boundary crosses it. Its score is sqrt(q_i / min(d_i, d_l)).
    """
    ranges = known.X.min(axis=0), known.X.max(axis=0)
    isolated = _ratio(known.radius, known.gap)[known.outliers]
    order = known.outliers[np.argsort(-isolated, kind="stable")]
    found = [_outlier(ruler, known, int(i), ranges) for i in order]
    pairs = [_boundary(ruler, known, int(i), int(j), ranges) for i, j in known.boundary_pairs]
    return [*found, *sorted(pairs, key=lambda region: -region.score)]


def _outlier(ruler: Ruler, known: Labelled, i: int, ranges: Sequence[ndarray]) -> Region:
    own, gap = float(known.radius[i]), float(known.gap[i])
    label, other = known.labels[i], known.labels[known.other[i]]
    if np.isfinite(own):
        square = min(own, 4 * gap)
        said = (
            f"row {i} of class {label} is nearer to class {other} ({np.sqrt(gap):.3g}) than to its "
            f"own ({np.sqrt(own):.3g})"
        )
    else:
        square = gap
        said = f"row {i} has too few others of its class {label} to compare it with"
    reason = f"{said}; a label near it confirms or refutes its own."
    return _region(ruler, known, "outlier", (i,), known.X[i], square, np.inf, reason, ranges)


def _boundary(ruler: Ruler, known: Labelled, i: int, j: int, ranges: Sequence[ndarray]) -> Region:
    centre = (known.X[i] + known.X[j]) / 2
    square = float(ruler.from_point(known.X[[i]], centre)[0])
    spacing = min(known.radius[i], known.radius[j])
    score = float(np.sqrt(_ratio(known.gap[[i]], np.array([spacing]))[0]))
    reason = (
        f"rows {i} of class {known.labels[i]} and {j} of class {known.labels[j]} are each other's "
        f"nearest of another class, so the boundary runs between them; their distance is "
        f"{score:.3g} times the local spacing."
    )
    return _region(ruler, known, "boundary", (i, j), centre, square, score, reason, ranges)


def _region(
    ruler: Ruler,
    known: Labelled,
    kind: str,
    points: tuple[int, ...],
    centre: ndarray,
    square: float,
    score: float,
    reason: str,
    ranges: Sequence[ndarray],
) -> Region:
    radius = float(np.sqrt(square))
    inside = ruler.from_point(known.X, centre) < square * (1 - 1e-9)
    inside[list(points)] = False
    resolved = bool(inside.any())
    reach = ruler.extent(radius)
    return Region(
        kind=kind,
        points=points,
        centre=centre,
        radius=radius,
        score=score / 2 if resolved else score,
        resolved=resolved,
        lower=np.maximum(centre - reach, ranges[0]),
        upper=np.minimum(centre + reach, ranges[1]),
        unbounded=~np.isfinite(reach),
        reason=reason + " Another labelled row lies there already." * resolved,
        ruler=ruler,
    )


def _ratio(over: ndarray, under: ndarray) -> ndarray:
    with np.errstate(over="ignore"):  # infinitely isolated
        return over / np.maximum(under, np.finfo(np.float64).tiny)


def _inverse_diagonal(M: ndarray) -> ndarray:
    """Diagonal of the inverse; infinite along features that reach into the null space."""
    scale = np.sqrt(np.diag(M))
    known = scale > 0  # features without weight have no length of their own
    found = np.full(len(M), np.inf)
    units = scale[known]
    values, vectors = np.linalg.eigh(M[np.ix_(known, known)] / np.outer(units, units))
    long = values > SINGULAR * values[-1] if len(values) else values > 0
    inverse = (vectors[:, long] ** 2 / values[long]).sum(axis=1) / units**2
    endless = (vectors[:, ~long] ** 2).sum(axis=1) > SINGULAR
    found[known] = np.where(endless, np.inf, inverse)
    return found


def _reach(slopes: ndarray, powers: ndarray, square: float) -> float:
    """The step along one feature at which D is `square`, by halving."""
    if square == 0:
        return 0.0
    high = min((square ** (1 / p) / s for s, p in zip(slopes, powers, strict=True) if s > 0))
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if ((slopes * middle) ** powers).sum() > square:
            high = middle
        else:
            low = middle
    return high
