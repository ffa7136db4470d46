"""The ramp model: the hinge of the soft model, but no point costs more than giving it up.

    min  1/n sum c_i (xi_i / m + C e_i) + lam sum_a |w_a - w0_a|
    s.t. sum_j z_ij = k,  D_w(i, j) <= r_i                     where z_ij = 1
         D_w(i, l) >= r_i + m - xi_i                           where e_i = 0

So a point costs min(C, its hinge / m), and outliers stop to pull. The neighbours are chosen in the
program, together with w: an exact mixed-integer program in a region around the best weights so
far, which moves with them, as Model E in `rounds`. The soft solution is the first centre; expect
a slightly better objective for ten to a hundred times the seconds.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_array

from tupelo.tabular.optimal.atoms import Atoms
from tupelo.tabular.optimal.presolve import Region, trust_region, whole_simplex
from tupelo.tabular.optimal.soft import SoftModel, pairs_of
from tupelo.tabular.optimal.solvers import Program, Progress, relative_gap, solve

log = logging.getLogger(__name__)

IMPROVED = 1e-6  # of the objective; less is no improvement


@dataclass(frozen=True)
class Ramp:
    """The best weights found, and what is proven about them.

    Attributes:
        w: (A,) on the simplex.
        objective: with the nearest neighbours under w.
        history: objective at the start and after each round that improved it.
        bound: below which no weights of the last region lie.
        gap: relative, between both.
        status: "optimal": no weights of the last region are better; "rounds": all are used up;
            "time_limit", "interrupted", "error": how the last solve ended.
        certificate: kappa, where no weights within that factor are better; inf: none at all;
            None: nothing is proven.
        rounds: solves.
    """

    w: Float[ndarray, " A"]
    objective: float
    history: tuple[float, ...]
    bound: float
    gap: float
    status: str
    certificate: float | None
    rounds: int


def ramp_objective(model: SoftModel, w: Float[ndarray, " A"], cost: float) -> float:
    """The objective with the nearest neighbours under w; points without neighbours cost C."""
    slack = model.slack(w, pairs_of(model.near(w)))
    slack = np.where(np.isfinite(slack), slack, np.inf)
    paid = np.clip(slack / model.margin, 0.0, cost) * model.cost(len(slack))
    return float(paid.mean() + model.distortion * np.abs(w - model.family.start).sum())


def ramp(
    model: SoftModel,
    start: Float[ndarray, " A"],
    *,
    cost: float = 2.0,
    kappa: float | None = 1.5,
    rounds: int = 4,
    time_limit: float | None = 60.0,
    mip_gap: float = 1e-4,
    solver: str = "highs",
    progress: Callable[[Progress], None] | None = None,
) -> Ramp:
    """Exact solves around the best weights so far, until none near is better.

    Args:
        model: as for `alternate`, of `Atoms` and without groups.
        start: weights to begin with, for example of `alternate`.
        cost: C, > 0, of giving up a point, in margins.
        kappa: > 1, factor of the region; None: the whole simplex.
        rounds: solves at most.
        time_limit: seconds of each solve.
        mip_gap: relative gap at which a solve counts as optimal.
        solver: see `solvers.solve`.
        progress: called with the state of the solve in progress.
    """
    best, objective = start, ramp_objective(model, start, cost)
    history, done = [objective], 0
    status, certificate, bound = "rounds", None, -np.inf
    try:
        while done < rounds:
            region = whole_simplex(best) if kappa is None else trust_region(best, kappa)
            built = _Built(model, region, cost)
            told = None if progress is None else _told(progress, built.offset, done + 1)
            solution = solve(
                built.program,
                solver,
                start=built.completion(best),
                time_limit=time_limit,
                mip_gap=mip_gap,
                progress=told,
            )
            done += 1
            w = best
            if solution.x is not None:
                w = np.maximum(solution.x[: len(start)], 0.0)
                w = w / w.sum()
            found = ramp_objective(model, w, cost)
            log.info("round %d: objective %.6g, %s", done, found, solution.status)
            improved = found < objective - IMPROVED
            if improved:
                best, objective = w, found
                history.append(objective)
            bound = min(solution.bound + built.offset, objective)
            proven = solution.status == "optimal"
            if proven and (not improved or kappa is None):
                status, certificate = "optimal", float("inf") if kappa is None else float(kappa)
                break
            if not improved or solution.status == "interrupted":
                status = solution.status
                break
    except KeyboardInterrupt:
        status = "interrupted"
    gap = relative_gap(objective, bound)
    return Ramp(best, objective, tuple(history), bound, gap, status, certificate, done)


def _told(
    progress: Callable[[Progress], None], offset: float, number: int
) -> Callable[[Progress], None]:
    """Progress of the whole objective instead of the program's part of it."""
    return lambda state: progress(
        replace(state, objective=state.objective + offset, bound=state.bound + offset, round=number)
    )


@dataclass(frozen=True)
class _Anchor:
    """What is left to decide of one point: candidates, rivals, and where its variables are."""

    phi_own: ndarray
    phi_other: ndarray
    radius: int
    slack: int
    error: int
    chosen: slice  # empty where all candidates are needed


class _Built:
    """The program for weights of one region.

    Of each point only those are kept that can be a neighbour, or the nearest other, for some
    weights of the region; points whose cost is the same for all weights leave the program.
    """

    def __init__(self, model: SoftModel, region: Region, cost: float):
        self.model, self.cost = model, cost
        assert isinstance(model.family, Atoms)  # noqa: S101
        self.offset = 0.0
        self.anchors: list[_Anchor] = []
        self._entries: list[tuple[ndarray, ndarray, ndarray]] = []
        self._row_lower: list[ndarray] = []
        self._row_upper: list[ndarray] = []
        self._count = 0
        size = len(model.family)
        self._lower, self._upper = [region.lo, np.zeros(size)], [region.hi, np.ones(size)]
        self._price = [np.zeros(size), np.full(size, model.distortion)]
        self._whole = [np.zeros(2 * size)]
        self._columns = 2 * size
        self._weights_rows(size)
        projected = model.family.project(model.X)
        share = model.cost(len(model.X)) / len(model.X)
        for i in range(len(model.X)):
            self._point(i, projected, region, float(share[i]))
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        self.program = Program(
            np.concatenate(self._price),
            coo_array((value, (row, column)), shape=(self._count, self._columns)).tocsr(),
            np.concatenate(self._row_lower),
            np.concatenate(self._row_upper),
            np.concatenate(self._lower),
            np.concatenate(self._upper),
            np.concatenate(self._whole),
        )

    def completion(self, w: Float[ndarray, " A"]) -> Float[ndarray, " N"]:
        """The best values of all variables for these weights."""
        model, size = self.model, len(w)
        x = np.zeros(len(self.program.c))
        x[:size] = w
        x[size : 2 * size] = np.abs(w - model.family.start)
        for anchor in self.anchors:
            own = anchor.phi_own @ w
            order = np.argsort(own, kind="stable")[: model.k]
            x[anchor.radius] = own[order[-1]]
            slack = own[order[-1]] + model.margin - (anchor.phi_other @ w).min()
            if self.program.ub[anchor.error] > 0 and slack > self.cost * model.margin:
                x[anchor.error] = 1.0
            else:
                x[anchor.slack] = max(0.0, slack)
            if anchor.chosen.stop > anchor.chosen.start:
                x[anchor.chosen][order] = 1.0
        return x

    def _weights_rows(self, size: int) -> None:
        each, one = np.arange(size), np.ones(size)
        rows = self._rows(np.ones(1), np.ones(1))
        self._entries.append((np.repeat(rows, size), each, one))
        for sign in (1.0, -1.0):
            rows = self._rows(np.full(size, -np.inf), sign * self.model.family.start)
            self._entries += [(rows, each, sign * one), (rows, each + size, -one)]

    def _point(self, i: int, projected: ndarray, region: Region, share: float) -> None:
        model, y = self.model, self.model.y
        assert isinstance(model.family, Atoms)  # noqa: S101
        own = np.flatnonzero(y == y[i])
        own, other = own[own != i], np.flatnonzero(y != y[i])
        if len(own) < model.k:
            self.offset += share * self.cost
            return
        phi_own = model.family.of_projected(projected[own] - projected[i])
        phi_other = model.family.of_projected(projected[other] - projected[i])
        low, high = np.asarray(region.smallest(phi_own)), np.asarray(region.largest(phi_own))
        other_low = np.asarray(region.smallest(phi_other))
        other_high = np.asarray(region.largest(phi_other))
        radius_low = np.partition(low, model.k - 1)[model.k - 1]
        radius_high = np.partition(high, model.k - 1)[model.k - 1]
        at_most = radius_high + model.margin - other_low.min()
        at_least = radius_low + model.margin - other_high.min()
        if at_most <= 0:
            return
        if at_least >= self.cost * model.margin:
            self.offset += share * self.cost
            return
        near = low <= radius_high
        rival = other_low <= min(other_high.min(), radius_high + model.margin)
        picks = int(near.sum()) if near.sum() > model.k else 0
        first = self._columns
        anchor = _Anchor(
            phi_own[near], phi_other[rival], first, first + 1, first + 2,
            slice(first + 3, first + 3 + picks),
        )  # fmt: skip
        self.anchors.append(anchor)
        self._columns += 3 + picks
        may_leave = float(at_most > self.cost * model.margin)
        self._lower.append(np.concatenate([[radius_low], np.zeros(2 + picks)]))
        self._upper.append(np.concatenate([[radius_high, np.inf, may_leave], np.ones(picks)]))
        self._price.append(
            np.concatenate([[0.0, share / model.margin, share * self.cost], np.zeros(picks)])
        )
        self._whole.append(np.concatenate([[0.0, 0.0], np.ones(1 + picks)]))
        self._point_rows(anchor, high[near] - radius_low, radius_high - other_low[rival])

    def _point_rows(self, anchor: _Anchor, spare: ndarray, reach: ndarray) -> None:
        """`spare`: by how much a neighbour not chosen may lie outside; `reach`: a rival inside."""
        margin, picks = self.model.margin, anchor.chosen.stop - anchor.chosen.start
        rows = self._dense(anchor.phi_own, -np.inf, spare if picks else 0.0)
        self._add(rows, anchor.radius, -1.0)
        if picks:
            chosen = np.arange(anchor.chosen.start, anchor.chosen.stop)
            self._entries.append((rows, chosen, spare))
            row = self._rows(np.full(1, float(self.model.k)), np.full(1, float(self.model.k)))
            self._entries.append((np.repeat(row, picks), chosen, np.ones(picks)))
        rows = self._dense(anchor.phi_other, margin, np.inf)
        self._add(rows, anchor.radius, -1.0)
        self._add(rows, anchor.slack, 1.0)
        self._add(rows, anchor.error, np.maximum(reach + margin, 0.0))

    def _rows(self, lower: ndarray, upper: ndarray) -> Int[ndarray, " r"]:
        """Numbers of new rows."""
        self._row_lower.append(lower)
        self._row_upper.append(upper)
        self._count += len(lower)
        return np.arange(self._count - len(lower), self._count)

    def _dense(self, phi: ndarray, lower, upper) -> Int[ndarray, " r"]:
        """New rows with phi on the weights."""
        full = np.ones(len(phi))
        rows = self._rows(lower * full, upper * full)
        at, column = np.nonzero(phi)
        self._entries.append((rows[at], column, phi[at, column]))
        return rows

    def _add(self, rows: ndarray, column: int, value) -> None:
        """One more column in these rows."""
        full = np.ones(len(rows))
        self._entries.append((rows, np.full(len(rows), column), value * full))
