"""Model E: the least distorted metric under which the fewest points are errors.

A point is no error when its k nearest points of the same class are all nearer than any point of
another class, by the factor 1 + rho and by epsilon. Which those k are is decided inside the
program: it is given no target neighbours, pairs or triplets. The formulation is ours, in the
spirit of Kumaran et al. (1803.10647), whose equations we could not read.

    min  (1/n) sum_i c_i e_i + lam sum_a |w_a - w0_a| + (mu/n) sum_i r_i
    s.t. sum over j of z_ij >= k (1 - e_i)
         D_w(i, j) <= r_i                             where z_ij = 1 and e_i = 0
         D_w(i, l) >= (1 + rho) r_i + epsilon         for l of other classes, where e_i = 0

For fixed w the best e_i is known without a solver (Theorem 1): 0 where q_i >= (1 + rho) d_i +
epsilon, with d_i the k-th nearest of the class and q_i the nearest of the others. `evaluate` uses
only this, never the z and e that a solver returns within its tolerances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tupelo.tabular.optimal.atoms import Atoms
from tupelo.tabular.optimal.neighbours import nearest
from tupelo.tabular.optimal.presolve import Point, Region
from tupelo.tabular.optimal.rows import Columns, Rows
from tupelo.tabular.optimal.solvers import Program

# The program asks for this much more than epsilon, relatively, so that an optimum whose rows hold
# with equality up to the solver's tolerance still passes `evaluate`, which is strict.
STRICTER = 5e-3
START_SLACK = 5e-7  # rows of a start value may be violated by this much
# A point is written in pairs where that takes at most so many times the rows of a radius: bounds
# are tighter, and HiGHS is several times faster (docs/mio.md).
PAIRS_PER_ROW = 2.0


@dataclass(frozen=True)
class Evaluated:
    """The true objective of Model E at given weights.

    Attributes:
        objective: with distortion and radii.
        errors: `(n,)` bool, points without a pure local cluster.
        radii: `(n,)` d_i, distance of the last neighbour wanted; infinite where there are too few.
        gaps: `(n,)` q_i, distance of the nearest point of another class (of the first one not
            tolerated, in the majority variant).
        neighbors: `(n, need)` the nearest of the same class, -1 where there are too few.
    """

    objective: float
    errors: np.ndarray
    radii: np.ndarray
    gaps: np.ndarray
    neighbors: np.ndarray


def wanted(k: int, majority: bool) -> tuple[int, int]:
    """How many of the own class a radius must hold, and how many others it may.

    Majority of k neighbours (k odd): (k + 1) / 2 of the own class and at most (k - 1) / 2 others.
    For two classes that is exact; for more it is enough, not necessary.
    """
    return ((k + 1) // 2, k // 2) if majority else (k, 0)


def evaluate(
    atoms: Atoms,
    w: np.ndarray,
    X: np.ndarray,
    codes: np.ndarray,
    *,
    k: int = 1,
    rho: float | int = 0.1,
    epsilon: float = 1e-3,
    costs: np.ndarray | None = None,
    distortion: float | int = 0.0,
    radius_weight: float | int = 0.0,
    majority: bool = False,
) -> Evaluated:
    """The objective of Model E and who is an error, from the weights alone (Theorem 1).

    Args:
        atoms: of the distance.
        w: `(A,)` weights.
        X: `(n, d)` points as the atoms know them (standardised).
        codes: `(n,)` classes as integers.
        k: neighbours.
        rho: relative distance of other classes.
        epsilon: absolute distance of other classes.
        costs: `(n,)` c_i of an error; None: one each.
        distortion: lam, of the distance of w from `atoms.start`.
        radius_weight: mu, of the radii. A point that could be served pays the cheaper of
            mu times its radius and its cost.
        majority: count errors of the majority of k (odd) instead.

    Example:
        >>> from tupelo.tabular.optimal.atoms import make_atoms
        >>> X, codes = np.array([[0.0], [1.0], [3.0], [4.2]]), np.array([0, 0, 1, 1])
        >>> atoms = make_atoms("diag", X, codes)
        >>> evaluate(atoms, atoms.start, X, codes).errors
        array([False, False, False, False])
    """
    need, allowed = wanted(k, majority)
    near = nearest(atoms, w, X, codes, k=need, others=allowed + 1)
    radii, gaps = near.own_distance[:, -1], near.other_distance[:, -1]
    finite = np.isfinite(radii)
    errors = ~finite
    errors[finite] = ~(gaps[finite] >= (1 + rho) * radii[finite] + epsilon)
    cost = np.ones(len(X)) if costs is None else costs
    paid = np.where(errors, cost, np.minimum(cost, radius_weight * np.where(finite, radii, 0.0)))
    moved = float(np.abs(w - atoms.start).sum())
    objective = float(paid.mean()) + distortion * moved
    return Evaluated(objective, errors, radii, gaps, near.own)


@dataclass(frozen=True)
class CountModel:
    """Model E as a program, and how its variables are read.

    Attributes:
        program: what the solver minimises.
        offset: cost of the points that are errors whatever the weights, to add to its objective.
        free: points whose error the program decides.
    """

    program: Program
    offset: float
    free: int
    _start: np.ndarray
    _distorted: bool
    _blocks: tuple["_Block", ...]
    _rho: float
    _epsilon: float

    def weights(self, x: np.ndarray) -> np.ndarray:
        """`(A,)` weights of a solution, exactly on the simplex."""
        w = np.maximum(x[: len(self._start)], 0.0)
        return w / w.sum()

    def completion(self, w: np.ndarray) -> np.ndarray:
        """The best values of all variables for these weights: a start value.

        The objective is that of `evaluate` but for the offset, unless rows hold by less than the
        program's stricter epsilon.
        """
        A = len(w)
        x = np.zeros(len(self.program.c))
        x[:A] = w
        if self._distorted:
            x[A : 2 * A] = np.abs(w - self._start)
        for block in self._blocks:
            block.complete(x, w, self._rho, self._epsilon, self.program.c)
        return x


@dataclass(frozen=True)
class _Block:
    """One point in the program: its distances' atoms, and where its variables are."""

    point: Point
    need: int
    allowed: int
    phi_own: np.ndarray
    phi_other: np.ndarray
    error: int
    radius: int  # the same as `error` where there is no radius
    chosen: np.ndarray  # z, none where all candidates are needed
    tolerated: np.ndarray  # q, none where none may be inside

    def complete(self, x, w, rho, epsilon, costs) -> None:
        """Fill in the variables of this point."""
        own = self.phi_own @ w
        order = np.argsort(own, kind="stable")[: self.need]
        radius = own[order[-1]]
        inside = self.phi_other @ w < (1 + rho) * radius + epsilon - START_SLACK
        served = np.count_nonzero(inside) <= self.allowed
        with_radius = self.radius != self.error
        if not served or (with_radius and costs[self.radius] * radius > costs[self.error]):
            x[self.error] = 1.0
            return
        if with_radius:
            x[self.radius] = radius
        if len(self.chosen):
            x[self.chosen[order]] = 1.0
        if len(self.tolerated):
            x[self.tolerated[inside]] = 1.0


def count_model(
    atoms: Atoms,
    X: np.ndarray,
    points: Sequence[Point],
    region: Region,
    *,
    k: int,
    rho: float | int,
    epsilon: float,
    costs: np.ndarray | None = None,
    distortion: float | int = 0.0,
    radius_weight: float | int = 0.0,
    majority: bool = False,
    tight: bool = True,
    pairs_per_row: float = PAIRS_PER_ROW,
) -> CountModel:
    """Model E over a region of weights.

    Points with few candidates and rivals are written without a radius: a chosen j says of every
    rival l that D(l) >= (1 + rho) D(j) + epsilon.

    Args:
        atoms: of the distance.
        X: `(n, d)` points.
        points: what is left to decide of each, from `presolve` over the same region with the same
            need, or from `unreduced`.
        region: of the weights.
        k: neighbours.
        rho: relative distance of other classes.
        epsilon: absolute distance of other classes; the program asks for 0.5 % more.
        costs: `(n,)` of errors; None: one each.
        distortion: lam.
        radius_weight: mu.
        majority: the variant of `wanted`.
        tight: with the rows and coefficients that follow from `presolve`; False: the model as it
            stands above, with the one large coefficient that it needs.
        pairs_per_row: points are written in pairs where that takes at most so many times the rows
            of a radius.
    """
    need, allowed = wanted(k, majority)
    n, A = len(X), len(atoms)
    cost = (np.ones(n) if costs is None else costs) / n
    epsilon = epsilon * (1 + STRICTER)
    projected = atoms.project(X)
    rows, columns = Rows(), Columns()
    columns.new(A, 0.0, region.lo, region.hi)
    rows.add(rows.one(1.0, 1.0), np.arange(A), 1.0)
    if distortion > 0:
        moved = columns.new(A, distortion, 0.0, 1.0)
        for sign in (1.0, -1.0):
            each = rows.dense(np.diag(np.full(A, sign)), 0, -np.inf, sign * atoms.start)
            rows.add(each, moved, -1.0)
    offset, blocks = 0.0, []
    for point in points:
        i, free = point.index, point.settled == -1
        if point.settled == 1:
            offset += cost[i]
            continue
        if not free and radius_weight == 0:
            continue
        phi_own = atoms.of_projected(projected[point.own] - projected[i])
        phi_other = atoms.of_projected(projected[point.other] - projected[i])
        pairs = None
        if not free:  # only its radius matters
            phi_other = phi_other[:0]
        elif tight and radius_weight == 0 and allowed == 0:
            pairs = _pairs(region, phi_own, phi_other, rho, epsilon, pairs_per_row)
        # a settled point may still leave, where its radius can cost more than its error
        may_fail = free or radius_weight / n * point.radius_high > cost[i]
        error = columns.new(1, cost[i], 0.0, float(may_fail), whole=True)
        radius = error
        if pairs is None:
            radius = columns.new(1, radius_weight / n, 0.0, point.radius_high)
        picks = len(phi_own) if len(phi_own) > need else 0
        spare = len(phi_other) if allowed else 0
        block = _Block(
            point,
            need,
            allowed,
            phi_own,
            phi_other,
            int(error[0]),
            int(radius[0]),
            columns.new(picks, 0.0, 0.0, 1.0, whole=True),
            columns.new(spare, 0.0, 0.0, 1.0, whole=True),
        )
        blocks.append(block)
        if pairs is None:
            _write_radius(rows, block, rho, epsilon, tight)
        else:
            _write_pairs(rows, block, pairs, rho, epsilon)
    c, lb, ub, whole = columns.all()
    program = Program(c, rows.matrix(len(c)), *rows.bounds(), lb, ub, whole)
    found = sum(block.point.settled == -1 for block in blocks)
    return CountModel(
        program, offset, found, atoms.start, distortion > 0, tuple(blocks), float(rho), epsilon
    )


def _pairs(region, phi_own, phi_other, rho, epsilon, pairs_per_row) -> np.ndarray | None:
    """Smallest D(l) - (1 + rho) D(j) of every pair, or None where a radius needs fewer rows."""
    size = len(phi_own) + len(phi_other) + 3
    if len(phi_own) * len(phi_other) > 10 * pairs_per_row * size:
        return None
    least = region.smallest(phi_other[None] - (1 + rho) * phi_own[:, None])
    return least if np.count_nonzero(least < epsilon) <= pairs_per_row * size else None


def _write_pairs(rows: Rows, block: _Block, least: np.ndarray, rho, epsilon) -> None:
    """A chosen candidate is nearer than every rival; `least` is the smallest difference."""
    e, z, need = block.error, block.chosen, block.need
    j, m = np.nonzero(least < epsilon)  # the others are nearer anyway
    difference = block.phi_other[m] - (1 + rho) * block.phi_own[j]
    if len(z):
        each = rows.dense(difference, 0, least[j, m], np.inf)
        rows.add(each, z[j], least[j, m] - epsilon)
        rows.add(row := rows.one(need, need), z, 1.0)
        rows.add(row, e, need)
        if need > 1:
            for one in z:
                rows.add(row := rows.one(-np.inf, 1.0), one, 1.0)
                rows.add(row, e, 1.0)
    else:  # every candidate is needed: z = 1 - e
        each = rows.dense(difference, 0, epsilon, np.inf)
        rows.add(each, e, epsilon - least[j, m])


def _write_radius(rows: Rows, block: _Block, rho, epsilon, tight: bool) -> None:
    """Chosen candidates within a radius, rivals beyond it."""
    point, need = block.point, block.need
    r, e, z, q = block.radius, block.error, block.chosen, block.tolerated
    floor = point.radius_low if tight else 0.0
    if len(z):
        slack = point.own_high - floor
        each = rows.dense(block.phi_own, 0, -np.inf, slack)
        rows.add(each, z, slack)
        rows.add(each, r, -1.0)
        rows.add(each, e, -floor)
        rows.add(row := rows.one(need, np.inf), z, 1.0)
        rows.add(row, e, need)
    else:  # every candidate is needed: z = 1 - e
        each = rows.dense(block.phi_own, 0, -np.inf, 0.0)
        rows.add(each, r, -1.0)
        rows.add(each, e, -point.own_high)
    if tight:
        for bound, lower, upper in (
            (point.radius_low, point.radius_low, np.inf),
            (point.radius_high, -np.inf, point.radius_high),
        ):
            rows.add(row := rows.one(lower, upper), r, 1.0)
            rows.add(row, e, bound)
    if len(block.phi_other):
        each = rows.dense(block.phi_other, 0, epsilon, np.inf)
        rows.add(each, r, -(1.0 + rho))
        # where e = 1 the row says D >= its smallest value, which is 0 where it is not known
        rows.add(each, e, epsilon - point.other_low)
        if len(q):
            reach = (1 + rho) * point.radius_high + epsilon
            rows.add(each, q, np.maximum(reach - point.other_low, 0.0))
            rows.add(rows.one(-np.inf, block.allowed), q, 1.0)
