"""Exact solves: brute force, the presolve, monotony, certificates, limits and interruption."""

import os
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest

from mio_cells import clouds, fewest_errors
from tupelo.errors import InputError
from tupelo.tabular.generated import rings
from tupelo.tabular.optimal import rounds
from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.model import evaluate
from tupelo.tabular.optimal.rounds import optimise
from tupelo.tabular.optimal.soft import SoftModel, alternate, margin_of
from tupelo.tabular.optimal.solvers import Solution

EXACT = {"kappa": None, "distortion": 0.0, "mip_gap": 0.0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2])
def test_theorem_1_against_brute_force(seed, k):
    X, y = clouds(seed)
    atoms = make_atoms("diag", X, y)
    found = optimise(atoms, X, y, k=k, **EXACT)
    assert found.status == "optimal"
    assert found.certificate == np.inf
    assert found.errors.sum() == fewest_errors(atoms, X, y, k=k)
    assert np.isclose(found.objective, found.errors.mean())
    assert np.isclose(found.bound, found.objective)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3])
def test_the_majority_model_against_brute_force(seed, k):
    X, y = clouds(seed)
    atoms = make_atoms("diag", X, y)
    found = optimise(atoms, X, y, k=k, majority=True, **EXACT)
    assert found.errors.sum() == fewest_errors(atoms, X, y, k=k, majority=True)


@pytest.mark.parametrize("kappa", [None, 2.0])
@pytest.mark.parametrize(
    ("k", "majority", "radius_weight"), [(1, False, 0.0), (2, False, 0.1), (3, True, 0.0)]
)
def test_the_presolve_changes_no_optimum(kappa, k, majority, radius_weight):
    for seed in range(2):
        X, y = clouds(seed + 10, n=11, d=2, classes=2 + seed)
        y[5] = 1 - y[5] if y[5] < 2 else y[5]
        X[5] = X[4]
        atoms = make_atoms("l1+l2" if seed else "diag", X, y)
        costs = np.where(y == 0, 2.0, 1.0)
        both = [
            optimise(
                atoms,
                X,
                y,
                k=k,
                majority=majority,
                radius_weight=radius_weight,
                costs=costs,
                kappa=kappa,
                mip_gap=0.0,
                max_rounds=1,
                reduce=reduce,
            )
            for reduce in (True, False)
        ]
        assert both[0].history[0].status == both[1].history[0].status == "optimal"
        assert both[0].objective == pytest.approx(both[1].objective, abs=2e-5)
        assert both[0].history[0].rows < both[1].history[0].rows


@pytest.mark.parametrize("solver", ["scipy", "scip"])
def test_solvers_agree(solver):
    for seed in range(2):
        X, y = clouds(seed, n=24, d=3)
        atoms = make_atoms("diag", X, y)
        two = [optimise(atoms, X, y, kappa=2.0, solver=s, max_rounds=1) for s in (solver, "highs")]
        assert [one.history[0].status for one in two] == ["optimal", "optimal"]
        assert two[0].objective == pytest.approx(two[1].objective, abs=1e-4)


def test_the_objective_falls_from_round_to_round_until_a_certificate():
    X, y = clouds(3, n=40, d=5, spread=1.0)
    atoms = make_atoms("diag", X, y)
    found = optimise(atoms, X, y, kappa=1.3, max_rounds=20)
    objectives = [evaluate(atoms, atoms.start, X, y, distortion=0.01).objective]
    objectives += [one.objective for one in found.history]
    assert len(objectives) > 3
    assert all(a > b for a, b in pairwise(objectives[:-1]))
    assert [one.improved for one in found.history] == [True] * (found.rounds - 1) + [False]
    assert found.status == "optimal"
    assert found.certificate == 1.3
    assert found.bound <= found.objective
    assert found.gap < 1e-3
    true = evaluate(atoms, found.weights, X, y, distortion=0.01)
    assert found.objective == true.objective
    assert np.array_equal(found.errors, true.errors)
    # no random weights within the factor are better
    rng = np.random.default_rng(0)
    for _ in range(300):
        w = found.weights * 1.3 ** rng.uniform(-1, 1, 5)
        w /= w.sum()
        ratio = w / np.maximum(found.weights, 1e-12)
        if np.all((ratio <= 1.3) & (ratio >= 1 / 1.3)):
            assert evaluate(atoms, w, X, y, distortion=0.01).objective >= found.bound - 1e-9


def test_escalation_widens_the_certificate():
    X, y = clouds(1, n=24, d=3)
    atoms = make_atoms("diag", X, y)
    near = optimise(atoms, X, y, kappa=1.1, max_rounds=30)
    far = optimise(atoms, X, y, kappa=1.1, escalate=True, max_rounds=30)
    assert (near.certificate, far.certificate) == (1.1, 4.0)
    assert far.objective <= near.objective
    assert {one.kappa for one in far.history} == {1.1, 2.0, 4.0}


def test_rounds_used_up_leave_no_certificate():
    X, y = clouds(3, n=40, d=5, spread=1.0)
    atoms = make_atoms("diag", X, y)
    found = optimise(atoms, X, y, kappa=1.3, max_rounds=1)
    assert (found.status, found.certificate, found.rounds) == ("rounds", None, 1)
    none = optimise(atoms, X, y, max_rounds=0)
    assert np.array_equal(none.weights, atoms.start)
    assert (none.status, none.bound, none.gap) == ("rounds", -np.inf, np.inf)


def test_it_begins_with_the_better_of_start_and_euclid():
    X, y = clouds(0, n=20)
    X = X[:, ::-1].copy()  # the first feature is noise
    atoms = make_atoms("diag", X, y)
    kept = [
        optimise(atoms, X, y, np.array(w), max_rounds=0).weights[0] for w in ([0.0, 5.0], [1.0, 0])
    ]
    assert kept == [0.0, 0.5]


def test_euclid_is_recovered_by_distortion_and_by_a_narrow_region():
    X, y = clouds(0, n=24, d=3)
    atoms = make_atoms("diag", X, y)
    assert not np.allclose(optimise(atoms, X, y).weights, atoms.start, atol=0.02)
    heavy = optimise(atoms, X, y, distortion=1e3)
    assert np.allclose(heavy.weights, atoms.start, atol=1e-6)
    narrow = optimise(atoms, X, y, kappa=1 + 1e-4, max_rounds=1)
    assert np.allclose(narrow.weights, atoms.start, atol=1e-4)


def test_the_rings_end_without_errors():
    """The example of the documentation: Euclid, the alternating linear program, exact solves."""
    for seed in range(3):
        X, y = rings(60, np.random.default_rng(seed))
        X = (X - X.mean(0)) / X.std(0)
        atoms = make_atoms("diag", X, y)
        euclid = evaluate(atoms, atoms.start, X, y).errors.sum()
        soft = alternate(SoftModel(atoms, X, y, 1, 0.01, margin_of(atoms, X, y, 1.0)), atoms.start)
        found = optimise(atoms, X, y, soft.w)
        assert euclid > 3
        assert found.errors.sum() == 0
        assert found.weights[:2].sum() > 0.5


def test_a_duplicated_feature_leaves_errors_and_distances_as_they_are():
    X, y = clouds(2, n=24, d=2)
    one, two = (optimise(make_atoms("diag", T, y), T, y, **EXACT) for T in (X, np.hstack([X, X])))
    assert one.errors.sum() == two.errors.sum()
    single, double = (
        optimise(make_atoms("diag", T, y), T, y, kappa=None, distortion=0.05)
        for T in (X, np.hstack([X, X]))
    )
    assert single.objective == pytest.approx(double.objective, abs=1e-4)
    assert np.allclose(double.weights[:2] + double.weights[2:], single.weights, atol=1e-3)


def test_duplicates_of_other_classes_and_lonely_classes_are_errors():
    X, y = clouds(0, n=20)
    X[3], y[17] = X[2], 5
    atoms = make_atoms("diag", X, y)
    for reduce in (True, False):
        found = optimise(atoms, X, y, kappa=None, reduce=reduce)
        assert found.errors[[2, 3, 17]].all()
        assert found.radii[17] == np.inf
        assert found.neighbors[17, 0] == -1
    assert found.history[0].free < 20


def test_classes_all_too_small_leave_nothing_to_solve():
    X, y = clouds(0, n=4, classes=4)
    found = optimise(make_atoms("diag", X, y), X, y)
    assert found.errors.all()
    assert np.isclose(found.objective, 1.0)
    assert (found.status, found.gap) == ("optimal", 0.0)


def test_a_time_limit_returns_the_start_with_an_honest_status():
    X, y = clouds(0, n=60, d=6)
    atoms = make_atoms("diag", X, y)
    w = np.random.default_rng(0).dirichlet(np.ones(6))
    start = min(evaluate(atoms, v, X, y, distortion=0.01).objective for v in (w, atoms.start))
    found = optimise(atoms, X, y, w, kappa=None, time_limit=1e-3)
    assert found.status == "time_limit"
    assert found.certificate is None
    assert found.objective <= start
    assert found.bound <= found.objective
    assert found.gap > 0.1


def test_a_limit_after_a_certificate_keeps_it(monkeypatch):
    X, y = clouds(1, n=24, d=3)
    atoms = make_atoms("diag", X, y)
    real = rounds.solve

    def solve(program, solver, **options):
        """Regions above 1.1 are too much for it."""
        wide = program.ub[0] / max(program.lb[0], 1e-9) > 1.3
        if not wide:
            return real(program, solver, **options)
        return Solution(options["start"], 1.0, 0.0, 1.0, "time_limit", 1.0)

    monkeypatch.setattr(rounds, "solve", solve)
    found = optimise(atoms, X, y, kappa=1.1, escalate=True, max_rounds=30)
    assert (found.status, found.certificate) == ("time_limit", 1.1)
    assert found.gap < 1e-3


def test_an_optimum_within_tolerances_only_certifies_nothing(monkeypatch):
    X, y = clouds(1, n=24, d=3)
    atoms = make_atoms("diag", X, y)

    def solve(program, solver, **options):
        """Says that there are no errors, with weights under which there are."""
        x = options["start"]
        return Solution(x, 0.0, 0.0, 0.0, "optimal", 0.0)

    monkeypatch.setattr(rounds, "solve", solve)
    found = optimise(atoms, X, y)
    assert (found.status, found.certificate, found.rounds) == ("tolerance", None, 1)
    assert found.gap > 0.1
    assert found.errors.any()


def test_a_solver_without_answer_leaves_the_start(monkeypatch):
    X, y = clouds(1, n=24, d=3)
    atoms = make_atoms("diag", X, y)
    nothing = Solution(None, np.inf, -np.inf, np.inf, "error", 0.0)
    monkeypatch.setattr(rounds, "solve", lambda *args, **options: nothing)
    found = optimise(atoms, X, y)
    assert np.array_equal(found.weights, atoms.start)
    assert (found.status, found.certificate, found.gap) == ("error", None, np.inf)


@pytest.mark.parametrize("solver", ["highs", "scip"])
def test_ctrl_c_during_a_solve_keeps_the_best(solver):
    X, y = clouds(0, n=60, d=8)
    atoms = make_atoms("diag", X, y)
    start = evaluate(atoms, atoms.start, X, y, distortion=0.01).objective
    fired = threading.Event()

    def progress(state):
        if state.seconds > 0.2 and not fired.is_set():
            fired.set()
            os.kill(os.getpid(), signal.SIGINT)

    found = optimise(atoms, X, y, kappa=None, time_limit=60, solver=solver, progress=progress)
    assert found.status == "interrupted"
    assert found.objective <= start
    assert found.bound <= found.objective
    assert found.seconds < 55


def test_ctrl_c_between_solves_keeps_the_best(monkeypatch):
    X, y = clouds(3, n=40, d=5, spread=1.0)
    atoms = make_atoms("diag", X, y)
    real, calls = rounds.presolve, []

    def presolve(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(rounds, "presolve", presolve)
    found = optimise(atoms, X, y, kappa=1.3, max_rounds=20)
    assert (found.status, found.rounds) == ("interrupted", 2)
    assert found.objective == found.history[-1].objective


def test_progress_is_of_the_whole_objective():
    X, y = clouds(0, n=80, d=8)
    y[0] = 2  # an error whatever the weights
    atoms = make_atoms("diag", X, y)
    seen = []
    found = optimise(atoms, X, y, kappa=None, max_rounds=2, time_limit=1.0, progress=seen.append)
    assert seen
    assert {state.round for state in seen} <= {1, 2}
    first = [state for state in seen if state.round == 1]
    assert all(state.objective >= 1 / 80 for state in seen)
    assert first[-1].bound <= found.history[0].objective + 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1; got 0"),
        ({"k": 2, "majority": True}, "k must be odd for a majority; got 2"),
        ({"rho": -0.1}, "rho must be at least 0; got -0.1"),
        ({"epsilon": 0.0}, "epsilon must be above 0; got 0.0"),
        ({"distortion": -1.0}, "distortion must be at least 0; got -1.0"),
        ({"radius_weight": -1.0}, "radius_weight must be at least 0; got -1.0"),
        ({"kappa": 1.0}, "kappa must be above 1, or None for no region; got 1.0"),
        ({"costs": np.zeros(8)}, "costs must be above 0"),
        ({"time_limit": 0}, "time_limit must be positive seconds"),
        ({"solver": "cplex"}, "solver must be one of highs, scipy, scip; got 'cplex'"),
    ],
)
def test_refusals(options, message):
    X, y = clouds(0, n=8)
    with pytest.raises(InputError, match=message):
        optimise(make_atoms("diag", X, y), X, y, **options)


def test_one_class_is_refused():
    X, y = clouds(0, n=8)
    with pytest.raises(InputError, match="y must hold at least 2 classes, got 1"):
        optimise(make_atoms("diag", X, y), X, np.zeros(8, int))
