"""What can be decided about neighbours before a solver is asked, exactly.

All weights that a solve may choose lie in a region: lo <= w <= hi on the simplex. Over it the
largest and the smallest value of a linear form g.w is a continuous knapsack: begin at lo and hand
out what is left of the unit mass to the largest (smallest) entries of g. So it is known of every
pair how near and how far it can get, and of two pairs whether one is nearer under all weights.
That takes most candidates and rivals of a point out of the model, settles points whose error no
longer depends on w, and gives the rest tight coefficients. No optimum is lost.
"""

from dataclasses import dataclass

import numpy as np

from tupelo.tabular.optimal.atoms import Atoms

NEGLIGIBLE = 1e-3  # of the uniform weight: below, a factor of it would hold a weight near zero
COMPARED = 400  # nearest points against which each is tested for dominance


@dataclass(frozen=True)
class Region:
    """Weights lo <= w <= hi with sum one, and one of them.

    Attributes:
        lo: `(A,)`.
        hi: `(A,)`.
        centre: `(A,)` a member.
    """

    lo: np.ndarray
    hi: np.ndarray
    centre: np.ndarray

    def largest(self, g: np.ndarray) -> np.ndarray:
        """`(...)` maximum of g.w over the region, for g `(..., A)`.

        Example:
            >>> region = trust_region(np.array([0.5, 0.5]), 2.0)
            >>> region.largest(np.array([1.0, 0.0]))
            array(0.75)
        """
        order = np.argsort(-g, axis=-1, kind="stable")
        room = (self.hi - self.lo)[order]
        before = np.cumsum(room, axis=-1) - room
        given = np.clip(1 - self.lo.sum() - before, 0, room)
        more = np.sum(given * np.take_along_axis(g, order, -1), axis=-1)
        return np.asarray(g @ self.lo + more)

    def smallest(self, g: np.ndarray) -> np.ndarray:
        """`(...)` minimum of g.w over the region, for g `(..., A)`."""
        return np.asarray(-self.largest(-g))


def whole_simplex(centre: np.ndarray) -> Region:
    """All weights."""
    return Region(np.zeros(len(centre)), np.ones(len(centre)), centre)


def trust_region(centre: np.ndarray, kappa: float | int) -> Region:
    """Weights within a factor kappa of the centre, each; those near zero may leave it a little.

    A weight below f = 1e-3 / A lies in [0, kappa f].
    """
    floor = NEGLIGIBLE / len(centre)
    small = centre < floor
    lo = np.where(small, 0.0, centre / kappa)
    hi = np.where(small, kappa * floor, np.minimum(1.0, kappa * centre))
    return Region(lo, hi, centre)


@dataclass(frozen=True)
class Point:
    """What is left to decide of one point.

    Attributes:
        index: of the point.
        settled: 0: it is never an error, 1: it always is, -1: that depends on w.
        own: points of its class that may be among its neighbours.
        own_high: largest distance to each.
        other: points of other classes that may come too near.
        other_low: smallest distance to each.
        radius_low: smallest radius that holds enough neighbours under any weights.
        radius_high: radius that is enough under all weights.
    """

    index: int
    settled: int
    own: np.ndarray
    own_high: np.ndarray
    other: np.ndarray
    other_low: np.ndarray
    radius_low: float
    radius_high: float


def presolve(
    atoms: Atoms,
    X: np.ndarray,
    codes: np.ndarray,
    region: Region,
    *,
    need: int,
    allowed: int = 0,
    rho: float | int,
    epsilon: float,
) -> list[Point]:
    """Reduce every point's lists to what can matter for some weights of the region.

    A point is no error when some radius r holds `need` points of its class, and all but `allowed`
    points of other classes are at (1 + rho) r + epsilon or farther.

    Args:
        atoms: of the distance.
        X: `(n, d)` points.
        codes: `(n,)` classes as integers.
        region: of the weights.
        need: neighbours wanted.
        allowed: points of other classes tolerated inside.
        rho: relative distance of the others, >= 0.
        epsilon: absolute distance of the others, > 0.
    """
    from tupelo.tabular.optimal.knapsack import reduce_lists  # compiled: loaded when needed

    projected = atoms.project(X)
    found = []
    for i in range(len(X)):
        own = np.flatnonzero(codes == codes[i])
        own = own[own != i]
        other = np.flatnonzero(codes != codes[i])
        phi_own = atoms.of_projected(projected[own] - projected[i])
        phi_other = atoms.of_projected(projected[other] - projected[i])
        settled, keep_own, keep_other, high, low, radius_low, radius_high = reduce_lists(
            phi_own,
            phi_other,
            region.lo,
            region.hi,
            region.centre,
            need,
            allowed,
            float(rho),
            epsilon,
            COMPARED,
        )
        found.append(
            Point(
                i,
                settled,
                own[keep_own],
                high[keep_own],
                other[keep_other],
                low[keep_other],
                radius_low,
                radius_high,
            )
        )
    return found


def unreduced(
    atoms: Atoms, X: np.ndarray, codes: np.ndarray, *, need: int, allowed: int = 0
) -> list[Point]:
    """Every list whole, with coefficients that hold for all weights of the simplex."""
    projected = atoms.project(X)
    found = []
    for i in range(len(X)):
        own = np.flatnonzero(codes == codes[i])
        own = own[own != i]
        other = np.flatnonzero(codes != codes[i])
        high = atoms.of_projected(projected[own] - projected[i]).max(1, initial=0.0)
        settled = 1 if len(own) < need else 0 if len(other) <= allowed else -1
        reach = high.max(initial=0.0)
        found.append(Point(i, settled, own, high, other, np.zeros(len(other)), 0.0, reach))
    return found
