"""Solver adapters: the same answers, honest statuses, and nothing lost when stopped."""

import math
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from scipy.sparse import csr_array

from tupelo.errors import InputError, MissingExtra
from tupelo.tabular.optimal import solvers
from tupelo.tabular.optimal.solvers import Incremental, Program, solve

SOLVERS = ("highs", "scipy", "scip")


def knapsack(n, m, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.integers(1, 100, (m, n)).astype(float)
    cost, limits = -rng.integers(1, 100, n).astype(float), A.sum(1) / 2
    infinite, one = np.full(m, -np.inf), np.ones(n)
    return Program(cost, csr_array(A), infinite, limits, 0 * one, one, one)


def brute_force(program):
    points = np.array(list(product([0.0, 1.0], repeat=len(program.c))))
    inside = np.all(points @ program.rows.toarray().T <= program.upper, axis=1)
    return (points[inside] @ program.c).min()


@contextmanager
def pressed_ctrl_c(*delays):
    """SIGINT to this process after these seconds, unless the block has ended before."""
    timers = [threading.Timer(d, os.kill, (os.getpid(), signal.SIGINT)) for d in delays]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def line(program):
    """Maximise x + y below a line: the linear program of a knapsack's first two columns."""
    return Program(
        program.c[:2],
        csr_array(program.rows.toarray()[:1, :2]),
        program.lower[:1],
        program.upper[:1],
        program.lb[:2],
        program.ub[:2],
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("seed", range(3))
def test_optimum_is_that_of_brute_force(solver, seed):
    program = knapsack(12, 3, seed)
    found = solve(program, solver)
    assert found.status == "optimal"
    assert found.objective == pytest.approx(brute_force(program))
    assert found.bound == pytest.approx(found.objective, rel=1e-4)
    assert found.gap <= 1e-4
    assert program.violation(found.x) < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_with_two_sides_equalities_and_free_variables(solver):
    rows = csr_array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, 1.0]])
    program = Program(
        np.array([0.0, 1.0, 2.0]),
        rows,
        np.array([2.0, -1.0, -np.inf]),
        np.array([2.0, 1.0, np.inf]),
        np.array([-np.inf, -np.inf, -1.0]),
        np.full(3, np.inf),
    )
    found = solve(program, solver)
    assert found.status == "optimal"
    assert np.allclose(found.x, [1.5, 0.5, -1.0])
    assert found.bound == pytest.approx(-1.5)
    assert found.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("whole", [None, np.ones(1)])
def test_infeasible_and_unbounded_programs_say_so(solver, whole):
    none, infinite = np.ones(1)[:0], np.full(1, np.inf)
    one = np.ones(1)
    impossible = Program(one, csr_array([[1.0]]), 2 * one, infinite, 0 * one, one, whole)
    found = solve(impossible, solver)
    assert (found.status, found.x, found.gap) == ("infeasible", None, math.inf)
    assert found.objective == math.inf
    endless = Program(-one, csr_array((0, 1)), none, none, 0 * one, infinite, whole)
    found = solve(endless, solver)
    assert found.status in ("unbounded", "infeasible", "error")
    assert found.gap == math.inf


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_time_limit_returns_the_best_found_with_its_bound(solver):
    program = knapsack(100, 30)
    found = solve(program, solver, start=np.zeros(100), time_limit=0.4)
    assert found.status == "time_limit"
    assert found.seconds < 5
    assert found.bound < found.objective <= 0
    assert found.gap == pytest.approx(
        (found.objective - found.bound) / max(-found.objective, 1e-10)
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_is_kept_where_nothing_better_is_found(solver):
    program = knapsack(100, 30)
    good = solve(program, "highs", time_limit=1.0).x
    found = solve(program, solver, start=good, time_limit=1e-3)
    assert found.status == "time_limit"
    assert found.objective <= program.c @ good + 1e-9
    assert program.violation(found.x) < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_impossible_start_is_ignored(solver):
    program = knapsack(10, 2)
    assert solve(program, solver, start=np.ones(10)).objective == pytest.approx(
        brute_force(program)
    )


@pytest.mark.parametrize("solver", ["highs", "scip"])
def test_progress_tells_objective_and_bound_in_the_calling_thread(solver):
    told, threads = [], set()

    def progress(state):
        told.append(state)
        threads.add(threading.current_thread())

    found = solve(knapsack(100, 30), solver, time_limit=1.0, progress=progress)
    assert threads == {threading.current_thread()}
    last = told[-1]
    assert last.bound <= found.bound + 1e-6
    assert found.objective <= last.objective
    assert 0 < last.seconds <= found.seconds + 0.1  # two clocks
    assert last.gap == solvers.relative_gap(last.objective, last.bound)


@pytest.mark.parametrize("solver", ["highs", "scip"])
def test_an_error_in_progress_stops_the_solver_and_is_raised(solver):
    def progress(state):
        raise RuntimeError("screen is gone")

    with pytest.raises(RuntimeError, match="screen is gone"):
        solve(knapsack(100, 30), solver, time_limit=20, progress=progress)


@pytest.mark.parametrize("solver", SOLVERS)
def test_ctrl_c_keeps_the_best_found(solver):
    program = knapsack(100, 30)
    with pressed_ctrl_c(0.7):
        found = solve(program, solver, start=np.zeros(100), time_limit=3)
    assert found.status == "interrupted"
    assert found.seconds < 2.5
    assert program.violation(found.x) < 1e-6
    if solver != "scipy":  # scipy's cannot be asked what it has
        assert found.objective < -1000
        assert math.isfinite(found.bound)


def test_a_second_ctrl_c_leaves_a_solver_behind_that_does_not_listen(monkeypatch):
    released = threading.Event()

    def deaf(job):
        released.wait(10)
        return job.solution(None, -math.inf, "optimal")

    monkeypatch.setitem(solvers._SOLVERS, "scipy", deaf)
    with pressed_ctrl_c(0.2, 0.5):
        found = solve(knapsack(5, 1), "scipy", start=np.zeros(5))
    released.set()
    assert found.status == "interrupted"
    assert np.array_equal(found.x, np.zeros(5))
    assert 0.4 < found.seconds < 5


def test_errors_of_a_solver_are_raised_in_the_calling_thread(monkeypatch):
    def broken(job):
        raise MemoryError("no room")

    monkeypatch.setitem(solvers._SOLVERS, "highs", broken)
    with pytest.raises(MemoryError, match="no room"):
        solve(knapsack(5, 1))


@pytest.mark.parametrize("solver", SOLVERS)
def test_incremental_equals_a_cold_solve_after_every_addition(solver):
    rng = np.random.default_rng(0)
    n = 8
    program = Program(
        -rng.random(n),
        csr_array(rng.random((3, n))),
        np.full(3, -np.inf),
        np.ones(3),
        np.zeros(n),
        np.ones(n),
    )
    growing = Incremental(program, solver)
    for step in range(5):
        found = growing.solve()
        cold = solve(growing.program, "scipy")
        assert growing.program.rows.shape[0] == 3 + 2 * step
        assert found.status == "optimal"
        assert found.objective == pytest.approx(cold.objective, rel=1e-6)
        growing.add_rows(csr_array(rng.random((2, n))), np.full(2, -np.inf), np.full(2, 0.9))
    assert program.rows.shape[0] == 3, "the caller's program stays as it was"


def test_incremental_goes_on_from_the_last_basis():
    rng = np.random.default_rng(0)
    m, n = 200, 80
    program = Program(
        -rng.random(n),
        csr_array(rng.random((m, n))),
        np.full(m, -np.inf),
        np.ones(m),
        np.zeros(n),
        np.ones(n),
    )
    growing = Incremental(program)
    x = growing.solve().x
    first = growing._highs.getInfo().simplex_iteration_count
    row = rng.random((1, n))
    growing.add_rows(csr_array(row), np.full(1, -np.inf), 0.99 * row @ x)
    growing.solve()
    assert growing._highs.getInfo().simplex_iteration_count < first / 2


def test_every_solve_of_a_growing_program_has_the_whole_time():
    growing = Incremental(line(knapsack(5, 1)), time_limit=0.05)
    for _ in range(30):
        assert growing.solve().status == "optimal"
        threading.Event().wait(0.01)


def test_incremental_refuses_integers():
    with pytest.raises(InputError, match="no integer variables; use solve"):
        Incremental(knapsack(5, 1))


def test_refusals():
    program = knapsack(5, 1)
    with pytest.raises(InputError, match="solver must be one of highs, scipy, scip; got 'gurobi'"):
        solve(program, "gurobi")
    with pytest.raises(InputError, match="time_limit must be positive seconds, or None; got 0"):
        solve(program, time_limit=0)


@pytest.mark.parametrize(("solver", "module"), [("highs", "highspy"), ("scip", "pyscipopt")])
def test_a_missing_solver_names_its_extra(solver, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"highs": "tabular", "scip": "scip"}[solver]
    with pytest.raises(MissingExtra, match=rf"pip install 'tupelo\[{extra}\]', or use solver="):
        solve(knapsack(5, 1), solver)


def test_importing_loads_no_solver():
    code = (
        "import sys, tupelo.tabular.optimal.solvers, tupelo.tabular.optimal.atoms;"
        "print([m for m in ('highspy', 'pyscipopt', 'torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
