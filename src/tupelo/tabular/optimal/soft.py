"""The soft model: a hinge for every point, by alternating linear programs.

    min  1/n sum c_i xi_i / m + distortion sum_a t_a
    s.t. xi_i >= D_w(i, j) + m - D_w(i, l)   for j among the k neighbours of i, l of other classes
         xi_i >= 0,  t_a >= |w_a - w0_a|,  w on the simplex

For fixed neighbours this is a linear program. Choosing them again as the nearest under its solution
lowers the objective or leaves it, so rounds of both end, at a metric that is optimal for the
neighbours that are nearest under it. No neighbour is given from outside.

The program has n (k + others) rows, dense in w, of which few matter. So points are put into blocks
with one variable each, the mean of their xi, and the rows of a block are added up: at each w the
block needs one row, made of the farthest neighbour and the nearest other of its members. Rows are
added where a w violates them until none is violated, which proves w optimal; there are a few
thousand of them where the full program has millions. (Joachims, "Training linear SVMs in linear
time", KDD 2006, solves SVMs with one block.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import csr_array, eye_array, hstack, vstack

from tupelo.tabular.optimal.neighbours import (
    Family,
    Nearest,
    Pairs,
    nearest,
    pair_distances,
    pairs_of,
)
from tupelo.tabular.optimal.solvers import Incremental, Program

BLOCKS = 100  # measured: fewer need more rounds, more make each program slower
CANDIDATES = 32  # nearest others of a point that are looked at before all are
TOLERANCE = 1e-7  # relative gap at which a linear program counts as solved
LEAST_DECREASE = 1e-9  # relative, of a round that counts
MOST_TURNS = 1000  # linear programs for the same neighbours
REAL = 1e-9  # of the margin: smaller differences are rounding
SMALL = 0.1  # objectives below are compared as if they were this large


@runtime_checkable
class Domain(Protocol):
    """Where weights lie: lower <= w <= upper, mass . w = 1, and what `cuts` tells.

    Attributes:
        lower, upper: (A,) bounds.
        mass: (A,).
        tolerance: relative gap to which programs are solved.
    """

    lower: ndarray
    upper: ndarray
    mass: ndarray
    tolerance: float

    def cuts(self, w: ndarray) -> ndarray:
        """Rows g (c, A) with g . w >= 0 for all that is allowed, and violated by w."""
        ...

    def repaired(self, w: ndarray) -> ndarray:
        """The same weights (A,), or near ones that are allowed."""
        ...


class Simplex:
    """The domain of weights of atoms: w >= 0 with sum 1.

    Args:
        size: number A of atoms.
    """

    tolerance = TOLERANCE

    def __init__(self, size: int):
        self.lower, self.upper, self.mass = np.zeros(size), np.ones(size), np.ones(size)

    def cuts(self, w: Float[ndarray, " A"]) -> Float[ndarray, "c A"]:
        """None."""
        return np.empty((0, len(w)))

    def repaired(self, w: Float[ndarray, " A"]) -> Float[ndarray, " A"]:
        """Weights with the rounding of a solver taken off."""
        w = np.where(w > 1e-12, w, 0.0)
        return w / w.sum()


@dataclass(frozen=True)
class SoftModel:
    """What is minimised.

    Attributes:
        family: of distances.
        X: rows as they are compared.
        y: numbers of the classes.
        k: neighbours of the same class.
        distortion: weight of the distance of w from the Euclidean w0.
        margin: m, > 0, in units of D; see `margin_of`.
        costs: (n,) c_i, or of groups; None: all 1.
        groups: (n,) numbers of local clusters that take the place of points as anchors, whose
            distances are those of their nearest members: the next round of agglomeration.
    """

    family: Family
    X: Float[ndarray, "n d"]
    y: Int[ndarray, " n"]
    k: int
    distortion: float
    margin: float
    costs: Float[ndarray, " g"] | None = None
    groups: Int[ndarray, " n"] | None = None

    def near(self, w: Float[ndarray, " A"], others: int = 1) -> Nearest:
        """Nearest points under w."""
        return nearest(self.family, w, self.X, self.y, k=self.k, others=others, groups=self.groups)

    def objective(self, w: Float[ndarray, " A"]) -> float:
        """The objective with the nearest neighbours under w."""
        return self.of_pairs(w, pairs_of(self.near(w), self.groups))

    def of_pairs(self, w: Float[ndarray, " A"], pairs: Pairs) -> float:
        """The objective with these neighbours, where the others are all that matter."""
        return self.of_slack(w, self.slack(w, pairs))

    def of_slack(self, w: Float[ndarray, " A"], slack: Float[ndarray, " g"]) -> float:
        """The objective where the largest violations are these."""
        hinge = self.cost(len(slack)) * np.maximum(slack, 0.0) / self.margin
        return float(hinge.mean() + self.distortion * np.abs(w - self.family.start).sum())

    def slack(self, w: Float[ndarray, " A"], pairs: Pairs) -> Float[ndarray, " g"]:
        """max_j D(i, j) + m - min_l D(i, l); -inf where there are no k neighbours or no others."""
        own, other = self.distances(w, pairs)
        far, near = own.max(axis=1), other.min(axis=1)
        return np.where(np.isfinite(far), far, -np.inf) + self.margin - near

    def distances(self, w: Float[ndarray, " A"], pairs: Pairs) -> tuple[ndarray, ndarray]:
        """D_w of the pairs of one class and of those of two classes."""
        return (
            pair_distances(self.family, w, self.X, pairs.own_left, pairs.own_right),
            pair_distances(self.family, w, self.X, pairs.other_left, pairs.other_right),
        )

    def cost(self, anchors: int) -> Float[ndarray, " g"]:
        """c_i of each anchor."""
        return np.ones(anchors) if self.costs is None else self.costs


def margin_of(
    family: Family, X: Float[ndarray, "n d"], y: Int[ndarray, " n"], margin: float
) -> float:
    """m: `margin` times the median distance D to the nearest other class, under w0.

    Where more than half of the points coincide with another class, the median of the rest; 1
    where all do.
    """
    gaps = nearest(family, family.start, X, y).gap
    middle = float(np.median(gaps))
    if middle > 0:
        return margin * middle
    apart = gaps[gaps > 0]
    return margin * float(np.median(apart)) if len(apart) else margin


@dataclass(frozen=True)
class SoftProgress:
    """How far the alternation is.

    Attributes:
        seconds: since it began.
        rounds: that are done.
        objective: of the best weights for the neighbours of this round.
        bound: below which none lies for these neighbours.
    """

    seconds: float
    rounds: int
    objective: float
    bound: float


@dataclass(frozen=True)
class Soft:
    """What the alternation found.

    Attributes:
        w: the weights.
        objective: with the nearest neighbours under w.
        history: objective before the first round and after each; it never grows.
        status: "converged": w is optimal for the neighbours that are nearest under it; "rounds",
            "time_limit", "interrupted": the best until then.
        bound: of the last linear program: no weights are below it with the same neighbours.
        rounds: that improved the objective.
        rows: of the last linear program.
        seconds: wall time.
    """

    w: Float[ndarray, " A"]
    objective: float
    history: tuple[float, ...]
    status: str
    bound: float
    rounds: int
    rows: int
    seconds: float


Shown = Callable[[SoftProgress], None]


def alternate(
    model: SoftModel,
    start: Float[ndarray, " A"],
    *,
    rounds: int = 10,
    domain: Domain | None = None,
    solver: str = "highs",
    time_limit: float | None = None,
    progress: Shown | None = None,
) -> Soft:
    """Nearest neighbours under w, the best w for these neighbours, and again.

    Args:
        model: what is minimised.
        start: weights to begin with.
        rounds: at most so many.
        domain: where weights lie; None: on the simplex.
        solver: of linear programs.
        time_limit: seconds for all.
        progress: is called after each linear program.
    """
    clock = _Clock(time_limit)
    domain = domain or Simplex(len(start))
    looked_at = min(CANDIDATES, len(model.X))
    w, pairs = start, pairs_of(model.near(start, looked_at), model.groups)
    objective, status = model.of_pairs(w, pairs), "rounds"
    history, bound, rows = [objective], -np.inf, 0
    try:
        for done in range(rounds):
            told = None if progress is None else _Told(progress, clock, done)
            solved = _fixed(model, w, pairs, domain, solver, clock, told)
            near = pairs_of(model.near(solved.w, looked_at), model.groups)
            found = model.of_pairs(solved.w, near)
            better = objective - found > LEAST_DECREASE * max(abs(objective), SMALL)
            if better:
                w, pairs, objective = solved.w, near, found
                bound, rows = solved.bound, solved.rows
                history.append(objective)
            if solved.status != "converged" or not better:
                status = solved.status
                break
    except KeyboardInterrupt:
        status = "interrupted"
    return Soft(
        w, objective, tuple(history), status, bound, len(history) - 1, rows, clock.seconds()
    )


class _Clock:
    def __init__(self, limit: float | None):
        self.limit = limit
        self.began = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def left(self) -> float | None:
        return None if self.limit is None else self.limit - self.seconds()


@dataclass(frozen=True)
class _Told:
    """Carries what a linear program says to whoever asked for progress."""

    progress: Shown
    clock: _Clock
    rounds: int

    def __call__(self, objective: float, bound: float) -> None:
        self.progress(SoftProgress(self.clock.seconds(), self.rounds, objective, bound))


@dataclass(frozen=True)
class _Solved:
    w: ndarray
    bound: float
    rows: int
    status: str


def _fixed(
    model: SoftModel,
    start: ndarray,
    pairs: Pairs,
    domain: Domain,
    solver: str,
    clock: _Clock,
    told: _Told | None,
) -> _Solved:
    """The best weights for the neighbours in `pairs`, those that are nearest under `start`."""
    blocks = _Blocks(model, pairs)
    growing = Incremental(_program(model, domain, blocks), solver)
    best, least, bound = start, np.inf, -np.inf
    query, vertex, status, stuck = start, None, "rounds", False
    try:
        for turn in range(MOST_TURNS):
            objective = blocks.add_rows(growing, query)
            if objective < least:
                best, least = query, objective
            allowed = domain.tolerance * max(abs(least), SMALL)
            if vertex is not None and (stuck or least - bound <= allowed):
                # of equally good weights those at a vertex, where most are zero
                if blocks.objective(vertex) - least <= allowed:
                    best = vertex
                if not blocks.look_at_all(best):
                    status = "converged"
                    break
                least = blocks.add_rows(growing, best)
            if told is not None:
                told(least, bound)
            growing.time_limit = clock.left()
            if growing.time_limit is not None and growing.time_limit <= 0:
                status = "time_limit"
                break
            solution = growing.solve()
            if solution.x is None or solution.status != "optimal":
                status = solution.status
                break
            bound = max(bound, solution.bound)
            found = solution.x[: len(start)]
            cuts = domain.cuts(found)
            if len(cuts):
                growing.add_rows(*_rows(cuts, len(solution.x)))
            before, vertex = vertex, domain.repaired(found)
            # where the rows at a vertex do not move it, the gap left is the solver's tolerance
            stuck = query is before and bool(np.abs(vertex - before).max() < REAL)
            # rows of points halfway to the best are less extreme than those of vertices alone
            query = vertex if turn % 2 else (vertex + best) / 2
    except KeyboardInterrupt:
        status = "interrupted"
    return _Solved(best, bound, len(growing.program.lower), status)


def _program(model: SoftModel, domain: Domain, blocks: "_Blocks") -> Program:
    """Columns w, t and one a block; rows of the distortion and of the mass."""
    size, count = len(domain.mass), len(blocks.shares)
    columns = 2 * size + count
    one = eye_array(size)
    both = hstack([vstack([-one, one]), vstack([one, one]), csr_array((2 * size, count))])
    mass = csr_array(np.concatenate([domain.mass, np.zeros(columns - size)])[None])
    start = model.family.start
    return Program(
        c=np.concatenate([np.zeros(size), np.full(size, model.distortion), blocks.shares]),
        rows=csr_array(vstack([both, mass])),
        lower=np.concatenate([-start, start, [1.0]]),
        upper=np.concatenate([np.full(2 * size, np.inf), [1.0]]),
        lb=np.concatenate([domain.lower, np.zeros(columns - size)]),
        ub=np.concatenate([domain.upper, np.full(columns - size, np.inf)]),
    )


def _rows(weights: ndarray, columns: int) -> tuple[csr_array, ndarray, ndarray]:
    """Rows that only weights have part in, >= 0."""
    count = len(weights)
    rows = csr_array(hstack([csr_array(weights), csr_array((count, columns - weights.shape[1]))]))
    return rows, np.zeros(count), np.full(count, np.inf)


class _Blocks:
    """Anchors in blocks, with the pairs of each that may matter.

    Args:
        model: what is minimised.
        pairs: the fixed neighbours, and others to look at.
    """

    def __init__(self, model: SoftModel, pairs: Pairs):
        self.model = model
        self.pairs = pairs
        anchors = len(pairs.own_left)
        self.block = np.arange(anchors) % BLOCKS
        sizes = np.bincount(self.block)
        self.shares = sizes / anchors
        self.factor = model.cost(anchors) / sizes[self.block]
        self.has_all = (pairs.own_right >= 0).all(axis=1) & (pairs.other_right[:, 0] >= 0)

    def objective(self, w: ndarray) -> float:
        """Of these neighbours and the others looked at."""
        return self.model.of_pairs(w, self.pairs)

    def add_rows(self, growing: Incremental, w: ndarray) -> float:
        """Add the row of each block that its members give at w; the objective there."""
        model, pairs = self.model, self.pairs
        own, other = model.distances(w, pairs)
        far, near = own.argmax(axis=1), other.argmin(axis=1)
        every = np.arange(len(own))
        slack = np.where(self.has_all, own[every, far] + model.margin - other[every, near], -np.inf)
        at = np.flatnonzero(slack > 0)
        phi = [
            model.family.of(model.X[left[at, column[at]]] - model.X[right[at, column[at]]])
            for left, right, column in (
                (pairs.own_left, pairs.own_right, far),
                (pairs.other_left, pairs.other_right, near),
            )
        ]
        shape = (len(self.shares), len(at))
        mean = csr_array((self.factor[at], (self.block[at], np.arange(len(at)))), shape=shape)
        used = np.unique(self.block[at])
        weights = (mean @ ((phi[1] - phi[0]) / model.margin))[used]
        xi = csr_array((np.ones(len(used)), (np.arange(len(used)), used)), (len(used), shape[0]))
        rows = hstack([csr_array(weights), csr_array(weights.shape), xi])
        growing.add_rows(
            csr_array(rows), (mean @ np.ones(len(at)))[used], np.full(len(used), np.inf)
        )
        return model.of_slack(w, slack)

    def look_at_all(self, w: ndarray) -> bool:
        """Whether others are nearer at w than those looked at; they are looked at from now on."""
        model, pairs = self.model, self.pairs
        own, other = model.distances(w, pairs)
        found = pairs_of(model.near(w), model.groups)
        nearest_now = model.distances(w, found)[1][:, 0]
        # a sum of products in another shape rounds in another way
        nearer = nearest_now < other.min(axis=1) - REAL * model.margin
        missed = nearer & self.has_all & (own.max(axis=1) + model.margin > nearest_now)
        if not missed.any():
            return False
        self.pairs = Pairs(
            pairs.own_left,
            pairs.own_right,
            np.hstack([pairs.other_left, found.other_left]),
            np.hstack([pairs.other_right, found.other_right]),
        )
        return True
