"""One function for mixed-integer and linear programs, whichever solver does the work.

The solver works in a thread of its own; the calling thread waits, shows progress, and on Ctrl-C
tells it to stop. So what was found until then is returned, never lost. A start value that satisfies
the program is kept as the answer wherever the solver has nothing better.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix, vstack

from tupelo.errors import InputError, MissingExtra

POLL_SECONDS = 0.1
INTEGRALITY = 1e-7  # an integer may be off by this much, a row too
FEASIBILITY = 1e-8  # of linear programs
ACCEPTED = 1e-6  # largest violation at which a start value counts as a solution


@dataclass
class Program:
    """Minimise c.x subject to lower <= rows x <= upper and lb <= x <= ub.

    Attributes:
        c: `(N,)` costs.
        rows: `(R, N)` sparse rows.
        lower: `(R,)`, -inf where there is none.
        upper: `(R,)`, inf where there is none.
        lb: `(N,)` bounds of the variables.
        ub: `(N,)`.
        integrality: `(N,)` 1 for integer variables, 0 for continuous; None: all are continuous.
    """

    c: np.ndarray
    rows: csr_array | csr_matrix
    lower: np.ndarray
    upper: np.ndarray
    lb: np.ndarray
    ub: np.ndarray
    integrality: np.ndarray | None = None

    def violation(self, x: np.ndarray) -> float:
        """Largest violation of a row, a bound or integrality by x; 0 where it is a solution."""
        value = self.rows @ x
        gaps = [self.lower - value, value - self.upper, self.lb - x, x - self.ub]
        if self.integrality is not None:
            gaps.append(np.abs(x - np.round(x)) * (self.integrality > 0))
        return max(0.0, *(gap.max(initial=0.0) for gap in gaps))


@dataclass(frozen=True)
class Progress:
    """How far a solve is.

    Attributes:
        seconds: since it began.
        objective: of the best found, inf where nothing is.
        bound: below which no solution lies.
        nodes: of the search tree looked at.
        round: of a method that solves several programs.
    """

    seconds: float
    objective: float
    bound: float
    nodes: int
    round: int = 1

    @property
    def gap(self) -> float:
        """Relative distance from the bound to the objective; inf where nothing was found."""
        return relative_gap(self.objective, self.bound)


@dataclass(frozen=True)
class Solution:
    """What a solve found.

    Attributes:
        x: `(N,)` the best found, or None.
        objective: c.x, inf without x.
        bound: no solution is below it, -inf where the solver has none.
        gap: (objective - bound) / |objective|, inf where either is missing.
        status: "optimal" (within the gap asked for), "time_limit", "interrupted" (Ctrl-C),
            "infeasible" (HiGHS: or unbounded, where it cannot tell), "unbounded" or "error".
        seconds: wall time.
    """

    x: np.ndarray | None
    objective: float
    bound: float
    gap: float
    status: str
    seconds: float


Shown = Callable[[Progress], None]


def solve(
    program: Program,
    solver: str = "highs",
    *,
    start: np.ndarray | None = None,
    time_limit: float | int | None = None,
    mip_gap: float | int = 1e-4,
    progress: Shown | None = None,
) -> Solution:
    """Solve a program; never raises for what the solver cannot do, but says so in the status.

    Args:
        program: what to minimise.
        solver: "highs" (`pip install 'tupelo[tabular]'`), "scipy" (the HiGHS inside scipy: no
            extra, its own tolerance of 1e-6; Ctrl-C returns the start and leaves the
            solve behind until its time limit), or "scip" (`pip install 'tupelo[scip]'`).
        start: `(N,)` a solution to begin with; what comes back is never worse. One that violates
            the program by more than 1e-6 is not used.
        time_limit: seconds; None: no limit.
        mip_gap: relative gap at which a solution counts as optimal.
        progress: is called in this thread ten times a second; of "scipy" it learns the time only.

    Raises:
        InputError: an unknown solver, or a time limit that is not positive.
        MissingExtra: a solver that is not installed.

    Example:
        >>> from scipy.sparse import csr_array
        >>> one, infinite = np.ones(2), np.full(1, np.inf)
        >>> rows = csr_array([[2.0, 2.0]])
        >>> program = Program(-one, rows, -infinite, np.array([3.0]), 0 * one, one, one)
        >>> solve(program, "scipy").objective
        -1.0
    """
    check_solver(solver)
    check_time_limit(time_limit)
    if start is not None and program.violation(start) > ACCEPTED:
        start = None
    job = _Job(program, start, time_limit, mip_gap)
    work = _SOLVERS[solver]
    return _never_worse(_attend(lambda: work(job), job, progress), job)


class Incremental:
    """A linear program that takes more rows between solves and goes on from the last basis.

    Only "highs" goes on; the others solve the whole program again.

    Args:
        program: without integers.
        solver: as in `solve`.
        time_limit: seconds for every solve.

    Example:
        >>> from scipy.sparse import csr_array
        >>> one = np.ones(2)
        >>> program = Program(-one, csr_array((0, 2)), one[:0], one[:0], 0 * one, one)
        >>> growing = Incremental(program, "scipy")
        >>> growing.solve().objective
        -2.0
        >>> growing.add_rows(csr_array([[1.0, 1.0]]), -np.full(1, np.inf), np.ones(1))
        >>> growing.solve().objective
        -1.0
    """

    def __init__(
        self, program: Program, solver: str = "highs", *, time_limit: float | int | None = None
    ):
        check_solver(solver)
        check_time_limit(time_limit)
        if program.integrality is not None and np.any(program.integrality):
            raise InputError("program must have no integer variables; use solve")
        self.program = replace(program)
        self.solver = solver
        self.time_limit = time_limit
        self._highs: Any = _highs_of(program) if solver == "highs" else None

    def add_rows(self, rows: csr_array | csr_matrix, lower: np.ndarray, upper: np.ndarray) -> None:
        """Add rows at the end."""
        rows = csr_array(rows)
        program = self.program
        program.rows = csr_array(vstack([program.rows, rows], format="csr"))
        program.lower = np.concatenate([program.lower, lower])
        program.upper = np.concatenate([program.upper, upper])
        if self._highs is not None:
            self._highs.addRows(
                len(lower),
                np.asarray(lower, np.float64),
                np.asarray(upper, np.float64),
                rows.nnz,
                rows.indptr.astype(np.int32),
                rows.indices.astype(np.int32),
                rows.data.astype(np.float64),
            )

    def solve(self, progress: Shown | None = None) -> Solution:
        """Solve with all rows added until now."""
        job = _Job(self.program, None, self.time_limit, 0.0)
        if self._highs is None:
            work = _SOLVERS[self.solver]
            return _attend(lambda: work(job), job, progress)
        return _attend(lambda: _run_highs(self._highs, job), job, progress)


def check_solver(solver: str) -> None:
    """Refuse an unknown solver, and one that is not installed.

    Raises:
        InputError: not "highs", "scipy" or "scip".
        MissingExtra: its package is missing.
    """
    if solver not in _SOLVERS:
        raise InputError(f"solver must be one of {', '.join(_SOLVERS)}; got {solver!r}")
    try:
        if solver == "highs":
            import highspy  # noqa: F401
        elif solver == "scip":
            import pyscipopt  # noqa: F401
    except ImportError as error:
        extra = {"highs": "tabular", "scip": "scip"}[solver]
        raise MissingExtra(
            f'solver="{solver}" needs a package that is not installed: '
            f"pip install 'tupelo[{extra}]', or use solver=\"scipy\""
        ) from error


def check_time_limit(time_limit: float | int | None) -> None:
    """Refuse a limit that is not positive.

    Raises:
        InputError: time_limit <= 0 or NaN.
    """
    if time_limit is not None and not time_limit > 0:
        raise InputError(f"time_limit must be positive seconds, or None; got {time_limit}")


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / |objective|, inf where either is infinite."""
    if not (math.isfinite(objective) and math.isfinite(bound)):
        return math.inf
    return max(0.0, objective - bound) / max(abs(objective), 1e-10)


@dataclass
class _Job:
    """One solve: what is asked, and what both threads know."""

    program: Program
    start: np.ndarray | None
    time_limit: float | int | None
    mip_gap: float | int
    began: float = field(default_factory=time.perf_counter)
    stop: threading.Event = field(default_factory=threading.Event)
    halt: Callable[[], None] | None = None  # also called once when told to stop
    can_stop: bool = True
    latest: Progress = field(init=False)

    def __post_init__(self) -> None:
        known = math.inf if self.start is None else float(self.program.c @ self.start)
        self.latest = Progress(0.0, known, -math.inf, 0)

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def tell(self, objective: float, bound: float, nodes: int) -> None:
        self.latest = Progress(self.seconds(), objective, bound, nodes)

    def solution(self, x: np.ndarray | None, bound: float, status: str) -> Solution:
        objective = math.inf if x is None else float(self.program.c @ x)
        # rounding of a bound that was proven equal must not pass the objective
        bound = min(bound, objective) if status == "optimal" else bound
        gap = relative_gap(objective, bound)
        return Solution(x, objective, bound, gap, status, self.seconds())


def _attend(work: Callable[[], Solution], job: _Job, progress: Shown | None) -> Solution:
    """Run the work in a thread; a first Ctrl-C stops the solver, a second leaves it behind."""
    finished = threading.Event()
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["solution"] = work()
        except BaseException as error:  # noqa: BLE001  raised again in the calling thread
            outcome["error"] = error
        finally:
            finished.set()

    threading.Thread(target=target, daemon=True, name="tupelo-solver").start()
    while True:
        try:
            while not finished.wait(POLL_SECONDS):
                if progress is not None:
                    progress(replace(job.latest, seconds=job.seconds()))
            break
        except KeyboardInterrupt:
            again = job.stop.is_set()
            _halt(job)
            if again or not job.can_stop:
                return job.solution(None, -math.inf, "interrupted")
        except BaseException:  # of `progress`
            _halt(job)
            finished.wait()
            raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["solution"]


def _halt(job: _Job) -> None:
    job.stop.set()
    if job.halt is not None:
        job.halt()


def _never_worse(found: Solution, job: _Job) -> Solution:
    """The start, where the solver has nothing or something worse."""
    if job.start is None or found.status in ("infeasible", "unbounded"):
        return found
    objective = float(job.program.c @ job.start)
    if found.x is not None and found.objective <= objective:
        return found
    gap = relative_gap(objective, found.bound)
    return replace(found, x=job.start, objective=objective, gap=gap)


def _highs_of(program: Program) -> Any:
    import highspy

    highs: Any = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("parallel", "off"),  # gains little on few cores; repeated solves are then identical
        ("mip_feasibility_tolerance", INTEGRALITY),
        ("primal_feasibility_tolerance", FEASIBILITY),
        ("dual_feasibility_tolerance", FEASIBILITY),
    ):
        highs.setOptionValue(name, value)
    rows = csr_array(program.rows)
    integrality = np.zeros(len(program.c)) if program.integrality is None else program.integrality
    numbers = (program.c, program.lb, program.ub, program.lower, program.upper)
    cost, lb, ub, lower, upper = (np.asarray(a, np.float64) for a in numbers)
    highs.passModel(
        len(cost),
        len(lower),
        rows.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        cost,
        lb,
        ub,
        lower,
        upper,
        rows.indptr.astype(np.int32),
        rows.indices.astype(np.int32),
        rows.data.astype(np.float64),
        np.asarray(integrality, np.int32),
    )
    return highs


def _with_highs(job: _Job) -> Solution:
    import highspy

    highs = _highs_of(job.program)
    highs.setOptionValue("mip_rel_gap", job.mip_gap)
    if job.start is not None:
        start = highspy.HighsSolution()
        start.col_value = job.start.tolist()
        highs.setSolution(start)
    return _run_highs(highs, job)


def _run_highs(highs: Any, job: _Job) -> Solution:
    import highspy

    kinds, states = highspy.cb.HighsCallbackType, highspy.HighsModelStatus
    mixed = job.program.integrality is not None and bool(np.any(job.program.integrality))

    def called(kind, message, found, answer, _) -> None:
        if kind == kinds.kCallbackMipInterrupt:
            job.tell(found.mip_primal_bound, found.mip_dual_bound, found.mip_node_count)
        if job.stop.is_set():
            answer.user_interrupt = True

    highs.setCallback(called, None)
    watched = [kinds.kCallbackSimplexInterrupt, kinds.kCallbackIpmInterrupt]
    if mixed:
        watched.append(kinds.kCallbackMipInterrupt)
    for kind in watched:
        highs.startCallback(kind)
    if job.time_limit is not None:  # its clock goes on from solve to solve
        highs.setOptionValue("time_limit", highs.getRunTime() + job.time_limit)
    highs.run()
    highs.setCallback(None, None)
    info, status = highs.getInfo(), highs.getModelStatus()
    name = {
        states.kOptimal: "optimal",
        states.kModelEmpty: "optimal",
        states.kTimeLimit: "time_limit",
        states.kInterrupt: "interrupted",
        states.kInfeasible: "infeasible",
        states.kUnboundedOrInfeasible: "infeasible",
        states.kUnbounded: "unbounded",
    }.get(status, "error")
    feasible = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    x = np.array(highs.getSolution().col_value) if feasible else None
    bound = -math.inf
    if mixed:
        bound = info.mip_dual_bound
    elif name == "optimal":
        bound = info.objective_function_value
    return job.solution(x, bound, name)


def _with_scipy(job: _Job) -> Solution:
    from scipy.optimize import Bounds, LinearConstraint, milp

    job.can_stop = False
    program: Any = job.program  # scipy's annotations know only numbers
    rows = [LinearConstraint(program.rows, program.lower, program.upper)]
    result = milp(
        program.c,
        integrality=program.integrality,
        bounds=Bounds(program.lb, program.ub),
        constraints=rows if len(program.lower) else None,
        options={"mip_rel_gap": job.mip_gap}
        | ({} if job.time_limit is None else {"time_limit": job.time_limit}),
    )
    name = {0: "optimal", 1: "time_limit", 2: "infeasible", 3: "unbounded"}.get(
        result.status, "error"
    )
    bound = -math.inf
    if result.get("mip_dual_bound") is not None:
        bound = result.mip_dual_bound
    elif name == "optimal":
        bound = result.fun
    return job.solution(result.x, bound, name)


def _with_scip(job: _Job) -> Solution:
    from pyscipopt import Eventhdlr, Model, scip

    make: Any = scip.ExprCons

    program = job.program
    model: Any = Model()
    model.hideOutput()
    # Python's own handler of Ctrl-C stays in place
    for name, value in (
        ("misc/catchctrlc", False),
        ("numerics/feastol", INTEGRALITY),
        ("limits/gap", job.mip_gap),
    ):
        model.setParam(name, value)
    if job.time_limit is not None:
        model.setParam("limits/time", job.time_limit)
    whole = np.zeros(len(program.c)) if program.integrality is None else program.integrality
    columns = []
    for i, lb, ub, cost in zip(whole, program.lb, program.ub, program.c, strict=True):
        kind = "I" if i else "C"
        columns.append(model.addVar(vtype=kind, lb=_or_none(lb), ub=_or_none(ub), obj=cost))
    terms = [scip.Term(column) for column in columns]
    rows = csr_array(program.rows)
    for r in range(len(program.lower)):
        entries = slice(rows.indptr[r], rows.indptr[r + 1])
        at, values = rows.indices[entries], rows.data[entries]
        row = scip.Expr({terms[j]: float(v) for j, v in zip(at, values, strict=True)})
        lower, upper = _or_none(program.lower[r]), _or_none(program.upper[r])
        if lower is not None or upper is not None:
            model.addCons(make(row, lower, upper))
    if job.start is not None:
        start = model.createSol()
        for column, value in zip(columns, job.start, strict=True):
            model.setSolVal(start, column, value)
        model.addSol(start)

    class Told(Eventhdlr):
        def eventinit(self):
            self.model.catchEvent(scip.PY_SCIP_EVENTTYPE.NODESOLVED, self)
            self.model.catchEvent(scip.PY_SCIP_EVENTTYPE.BESTSOLFOUND, self)
            self.model.catchEvent(scip.PY_SCIP_EVENTTYPE.FIRSTLPSOLVED, self)

        def eventexit(self):
            self.model.dropEvent(scip.PY_SCIP_EVENTTYPE.NODESOLVED, self)
            self.model.dropEvent(scip.PY_SCIP_EVENTTYPE.BESTSOLFOUND, self)
            self.model.dropEvent(scip.PY_SCIP_EVENTTYPE.FIRSTLPSOLVED, self)

        def eventexec(self, event):
            best, bound = self.model.getPrimalbound(), self.model.getDualbound()
            job.tell(_unbounded(best), _unbounded(bound), self.model.getNNodes())
            if job.stop.is_set():
                self.model.interruptSolve()

    model.includeEventhdlr(Told(), "told", "bounds for the calling thread")
    job.halt = model.interruptSolve
    if job.stop.is_set():  # while the model was built
        return job.solution(None, -math.inf, "interrupted")
    model.optimizeNogil()
    job.halt = None
    name = {
        "optimal": "optimal",
        "gaplimit": "optimal",
        "timelimit": "time_limit",
        "userinterrupt": "interrupted",
        "infeasible": "infeasible",
        "inforunbd": "infeasible",
        "unbounded": "unbounded",
    }.get(model.getStatus(), "error")
    x = None
    if model.getNSols() and name not in ("infeasible", "unbounded"):
        best = model.getBestSol()
        x = np.array([best[column] for column in columns])
    return job.solution(x, _unbounded(model.getDualbound()), name)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _unbounded(value: float) -> float:
    """SCIP writes infinity as 1e20."""
    return math.copysign(math.inf, value) if abs(value) >= 1e20 else value


_SOLVERS: dict[str, Callable[[_Job], Solution]] = {
    "highs": _with_highs,
    "scipy": _with_scipy,
    "scip": _with_scip,
}
