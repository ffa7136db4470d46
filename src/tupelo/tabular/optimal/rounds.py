"""Successive exact solves: Model E around the best weights so far, until none near is better.

The whole simplex is too much for solvers beyond small tables. "Minimal distortion" suggests the
cure: weights within a factor kappa of a centre. There the presolve settles most points, and small
models are solved to proven optimality. The centre then moves to the optimum. Where it stays, no
metric within the factor kappa, in every weight at once, is better: the certificate.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tupelo.errors import InputError
from tupelo.tabular.optimal.atoms import Atoms
from tupelo.tabular.optimal.model import CountModel, Evaluated, count_model, evaluate, wanted
from tupelo.tabular.optimal.presolve import presolve, trust_region, unreduced, whole_simplex
from tupelo.tabular.optimal.solvers import (
    Progress,
    Solution,
    check_solver,
    check_time_limit,
    relative_gap,
    solve,
)

log = logging.getLogger(__name__)

IMPROVED = 1e-6  # of the objective; less is no improvement
EXACT = 1e-5  # an optimum whose true objective is this much worse holds only within tolerances
WIDER = (2.0, 4.0)  # factors tried one after the other once none nearer is better


@dataclass(frozen=True)
class Round:
    """One exact solve.

    Attributes:
        kappa: factor around the centre, None for the whole simplex.
        objective: true objective of the weights that it found.
        bound: no weights of its region are better.
        gap: relative, between both.
        status: of the solver.
        seconds: of presolve and solve.
        free: points that the presolve left to the solver.
        rows: of the program.
        binaries: of the program.
        improved: whether the weights replaced the centre.
    """

    kappa: float | int | None
    objective: float
    bound: float
    gap: float
    status: str
    seconds: float
    free: int
    rows: int
    binaries: int
    improved: bool


@dataclass(frozen=True)
class Optimised:
    """The best metric found, and what is proven about it.

    Attributes:
        weights: `(A,)` on the simplex.
        errors: `(n,)` bool, from the weights alone (Theorem 1).
        radii: `(n,)` of the local clusters, see `Evaluated`.
        neighbors: `(n, need)` nearest of the same class, -1 where there are too few.
        objective: true objective, from the weights alone.
        bound: lower bound on the objective of all weights in the region of the certificate, or,
            without one, of the last solve; proven for an epsilon 0.5 % larger.
        gap: relative, between both.
        status: "optimal": the certificate's region was the last one asked about. "rounds":
            `max_rounds` ended while weights still improved. "time_limit", "interrupted", "error":
            what ended the last solve. "tolerance": the solver's optimum holds only within its
            tolerances, and counts errors that it should not; a larger epsilon helps.
        certificate: largest kappa for which it is proven that no weights within that factor are
            better (by more than 1e-6 and the gap of the solver); inf for the whole simplex, None
            where nothing is proven. It holds for the training points and this family of atoms.
        rounds: solves.
        seconds: in all.
        history: of the rounds.
    """

    weights: np.ndarray
    errors: np.ndarray
    radii: np.ndarray
    neighbors: np.ndarray
    objective: float
    bound: float
    gap: float
    status: str
    certificate: float | None
    rounds: int
    seconds: float
    history: tuple[Round, ...]


def optimise(
    atoms: Atoms,
    X: np.ndarray,
    codes: np.ndarray,
    w_start: np.ndarray | None = None,
    *,
    k: int = 1,
    rho: float | int = 0.1,
    epsilon: float = 1e-3,
    distortion: float | int = 0.01,
    radius_weight: float | int = 0.0,
    costs: np.ndarray | None = None,
    kappa: float | int | None = 1.5,
    escalate: bool = False,
    max_rounds: int = 4,
    time_limit: float | int | None = 60.0,
    mip_gap: float | int = 1e-4,
    solver: str = "highs",
    majority: bool = False,
    reduce: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Optimised:
    """Minimise Model E by exact solves around the best weights so far.

    The first centre is the better of `w_start` and `atoms.start`. A centre lies in its own region,
    so the objective never rises; what a solver returns within its tolerances is evaluated again
    from the weights alone.

    Args:
        atoms: of the distance.
        X: `(n, d)` points as the atoms know them (standardised).
        codes: `(n,)` classes as integers.
        w_start: `(A,)` weights on the simplex to begin with, for example of the alternating
            linear program; None: only `atoms.start`.
        k: neighbours.
        rho: the nearest of other classes is farther than the radius by this share, >= 0.
        epsilon: and by this much, > 0. Keep it at 1e-3 or more, far above solvers' tolerances.
        distortion: lam >= 0, price of moving w from `atoms.start`.
        radius_weight: mu >= 0, price of the mean radius.
        costs: `(n,)` c_i > 0 of an error; None: one each.
        kappa: > 1, factor of the region; None: the whole simplex.
        escalate: where no weights within kappa are better, go on with 2 and then 4.
        max_rounds: solves at most.
        time_limit: seconds of each solve.
        mip_gap: relative gap at which a solve counts as optimal.
        solver: see `solvers.solve`.
        majority: count errors of the majority of k (odd) neighbours.
        reduce: presolve; False solves the model as written, for comparison.
        progress: called with the state of the solve in progress.

    Raises:
        InputError: a parameter outside its range.
        MissingExtra: a solver that is not installed.

    Example:
        >>> from tupelo.tabular.optimal.atoms import make_atoms
        >>> rng = np.random.default_rng(0)
        >>> X = np.column_stack([np.repeat([-1.0, 1.0], 10), 3 * rng.normal(size=20)])
        >>> codes = np.repeat([0, 1], 10)
        >>> atoms = make_atoms("diag", X, codes)
        >>> found = optimise(atoms, X, codes, kappa=None, solver="scipy")
        >>> int(found.errors.sum()), found.status, found.certificate
        (0, 'optimal', inf)
    """
    _check(codes, k, rho, epsilon, distortion, radius_weight, costs, kappa, majority)
    check_solver(solver)
    check_time_limit(time_limit)
    began = time.perf_counter()
    shared = {
        "k": k,
        "rho": rho,
        "epsilon": epsilon,
        "costs": costs,
        "distortion": distortion,
        "radius_weight": radius_weight,
        "majority": majority,
    }

    def solved(centre: np.ndarray, factor: float | int | None, number: int) -> _Solved:
        """An exact solve around the centre."""
        started = time.perf_counter()
        region = whole_simplex(centre) if factor is None else trust_region(centre, factor)
        need, allowed = wanted(k, majority)
        if reduce:
            points = presolve(
                atoms, X, codes, region, need=need, allowed=allowed, rho=rho, epsilon=epsilon
            )
        else:
            points = unreduced(atoms, X, codes, need=need, allowed=allowed)
        model = count_model(atoms, X, points, region, **shared, tight=reduce)
        solution = solve(
            model.program,
            solver,
            start=model.completion(centre),
            time_limit=time_limit,
            mip_gap=mip_gap,
            progress=_told(progress, model.offset, number),
        )
        w = centre if solution.x is None else model.weights(solution.x)
        there = evaluate(atoms, w, X, codes, **shared)
        return _Solved(model, solution, w, there, time.perf_counter() - started)

    best, found = atoms.start, evaluate(atoms, atoms.start, X, codes, **shared)
    if w_start is not None:
        given = np.maximum(w_start, 0.0) / np.maximum(w_start, 0.0).sum()
        there = evaluate(atoms, given, X, codes, **shared)
        if there.objective <= found.objective:
            best, found = given, there
    factors = [kappa, *(f for f in WIDER if escalate and kappa is not None and f > kappa)]
    history: list[Round] = []
    status, certificate, bound = "rounds", None, -np.inf
    while factors and len(history) < max_rounds:
        factor = factors[0]
        try:
            one = solved(best, factor, len(history) + 1)
        except KeyboardInterrupt:  # outside the solver, which keeps what it has
            status = "interrupted"
            break
        improved = one.there.objective < found.objective - IMPROVED
        if improved:
            best, found = one.w, one.there
        lowest = one.solution.bound + one.model.offset
        history.append(one.as_round(factor, found.objective, improved))
        log.info("round %d: %s", len(history), history[-1])
        status = one.solution.status
        if improved and factor is not None:  # over the whole simplex one solve says all
            certificate, bound = None, lowest
            if status in ("interrupted", "error"):
                break
            status = "rounds"
            continue
        if status != "optimal":
            if certificate is None:
                bound = lowest
            break
        if found.objective - lowest > mip_gap * abs(found.objective) + EXACT:
            bound = lowest if certificate is None else bound
            status = "tolerance"
            break
        certificate, bound = np.inf if factor is None else float(factor), lowest
        factors = factors[1:]
    if certificate is not None and status == "rounds":
        status = "optimal"
    bound = min(bound, found.objective)
    return Optimised(
        best,
        found.errors,
        found.radii,
        found.neighbors,
        found.objective,
        bound,
        relative_gap(found.objective, bound),
        status,
        certificate,
        len(history),
        time.perf_counter() - began,
        tuple(history),
    )


@dataclass(frozen=True)
class _Solved:
    """A program, what the solver made of it, and what its weights are worth."""

    model: CountModel
    solution: Solution
    w: np.ndarray
    there: Evaluated
    seconds: float

    def as_round(self, kappa, objective: float, improved: bool) -> Round:
        """For the history; the gap is to the best objective by now."""
        bound = min(self.solution.bound + self.model.offset, objective)
        whole = self.model.program.integrality
        return Round(
            kappa,
            self.there.objective,
            bound,
            relative_gap(objective, bound),
            self.solution.status,
            self.seconds,
            self.model.free,
            len(self.model.program.lower),
            0 if whole is None else int(whole.sum()),
            improved,
        )


def _told(
    progress: Callable[[Progress], None] | None, offset: float, number: int
) -> Callable[[Progress], None] | None:
    """Progress of the whole objective instead of the program's part of it."""
    if progress is None:
        return None
    return lambda state: progress(
        replace(state, objective=state.objective + offset, bound=state.bound + offset, round=number)
    )


def _check(codes, k, rho, epsilon, distortion, radius_weight, costs, kappa, majority) -> None:
    for name, value, good, rule in (
        ("k", k, k >= 1, "be at least 1"),
        ("k", k, not majority or k % 2 == 1, "be odd for a majority"),
        ("rho", rho, rho >= 0, "be at least 0"),
        ("epsilon", epsilon, epsilon > 0, "be above 0"),
        ("distortion", distortion, distortion >= 0, "be at least 0"),
        ("radius_weight", radius_weight, radius_weight >= 0, "be at least 0"),
        ("kappa", kappa, kappa is None or kappa > 1, "be above 1, or None for no region"),
        ("costs", costs, costs is None or np.all(costs > 0), "be above 0"),
    ):
        if not good:
            raise InputError(f"{name} must {rule}; got {value}")
    if len(np.unique(codes)) < 2:
        raise InputError("y must hold at least 2 classes, got 1")
