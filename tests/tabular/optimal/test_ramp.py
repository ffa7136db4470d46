"""The ramp model against loops and against a grid over the simplex."""

import numpy as np
import pytest

from tupelo.tabular.optimal import ramp as ramps
from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.ramp import ramp, ramp_objective
from tupelo.tabular.optimal.soft import SoftModel, alternate, margin_of
from tupelo.tabular.optimal.solvers import Program, solve


def model_of(seed=0, n=10, d=2, k=1, atoms="diag", distortion=0.01, costs=None):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, d))
    X[:, 0] += 2.0 * y
    X[0] += 4.0  # an outlier
    X = (X - X.mean(0)) / X.std(0)
    family = make_atoms(atoms, X, y, 0)
    return SoftModel(family, X, y, k, distortion, margin_of(family, X, y, 1.0), costs)


def by_loops(model, w, cost):
    total = 0.0
    for i in range(len(model.X)):
        distance = model.family.of(model.X[i] - model.X) @ w
        own = sorted(
            distance[j] for j in range(len(distance)) if j != i and model.y[j] == model.y[i]
        )
        gap = min(distance[model.y != model.y[i]])
        hinge = max(0.0, own[model.k - 1] + model.margin - gap) / model.margin
        total += min(hinge, cost) * (1 if model.costs is None else model.costs[i])
    moved = np.abs(w - model.family.start).sum()
    return total / len(model.X) + model.distortion * moved


@pytest.mark.parametrize("k", [1, 2])
def test_the_objective_equals_loops(k):
    model = model_of(k=k, d=3)
    for seed in range(5):
        w = np.random.default_rng(seed).dirichlet(np.ones(3))
        assert ramp_objective(model, w, 1.5) == pytest.approx(by_loops(model, w, 1.5))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_on_the_whole_simplex_it_is_the_best_of_a_grid(k, seed):
    model = model_of(seed, k=k)
    found = ramp(model, model.family.start, kappa=None, mip_gap=1e-7)
    grid = np.linspace(0, 1, 101)
    best = min(by_loops(model, np.array([one, 1 - one]), 2.0) for one in grid)
    assert found.status == "optimal"
    assert found.certificate == np.inf
    assert found.objective <= best + 1e-6
    assert found.objective == pytest.approx(best, abs=5e-3)
    assert found.objective == pytest.approx(by_loops(model, found.w, 2.0))
    assert found.bound == pytest.approx(found.objective, abs=1e-5)


@pytest.mark.parametrize("k", [1, 2])
def test_programs_agree_with_the_objective_at_given_weights(k):
    model = model_of(k=k, d=3, n=20)
    for w in np.random.default_rng(1).dirichlet(np.ones(3), size=4):
        region = ramps.trust_region(w, 2.0)
        built = ramps._Built(model, region, 2.0)
        x = built.completion(w)
        program = built.program
        assert program.violation(x) < 1e-9
        assert program.c @ x + built.offset == pytest.approx(by_loops(model, w, 2.0))
        # no other values of the variables are better for these weights
        lb, ub = program.lb.copy(), program.ub.copy()
        lb[:3] = ub[:3] = w
        fixed = Program(
            program.c, program.rows, program.lower, program.upper, lb, ub, program.integrality
        )
        best = solve(fixed, "scipy", mip_gap=1e-9).objective
        assert best + built.offset == pytest.approx(by_loops(model, w, 2.0), abs=1e-6)


def test_rounds_never_get_worse_and_end_with_a_certificate():
    model = model_of(n=16, d=3)
    soft = alternate(model, model.family.start)
    found = ramp(model, soft.w, rounds=30)
    assert found.status == "optimal"
    assert found.certificate == 1.5
    assert all(a > b for a, b in zip(found.history, found.history[1:], strict=False))
    assert found.objective <= ramp_objective(model, soft.w, 2.0)
    assert found.w.sum() == pytest.approx(1)


def test_an_outlier_pulls_less_than_under_the_hinge():
    model = model_of(n=16, d=3)
    hinge = alternate(model, model.family.start, rounds=30)
    found = ramp(model, hinge.w, cost=1.0, rounds=10)
    assert by_loops(model, found.w, 1.0) < by_loops(model, hinge.w, 1.0)


def test_costs_and_classes_that_are_too_small():
    model = model_of(n=9, costs=np.linspace(0.5, 2.0, 9))
    w = np.array([0.3, 0.7])
    assert ramp_objective(model, w, 2.0) == pytest.approx(by_loops(model, w, 2.0))
    found = ramp(model, model.family.start, kappa=None)
    assert found.objective == pytest.approx(by_loops(model, found.w, 2.0))
    y = model.y.copy()
    y[3] = 5
    alone = SoftModel(model.family, model.X, y, 1, 0.0, model.margin)
    lonely = ramp(alone, model.family.start, kappa=None)
    assert lonely.objective >= 2.0 / 9
    assert lonely.status == "optimal"


def test_a_time_limit_and_an_interrupt_keep_the_start(monkeypatch):
    model = model_of(n=40, d=4, k=2)
    found = ramp(model, model.family.start, kappa=None, time_limit=1e-3)
    assert found.objective <= ramp_objective(model, model.family.start, 2.0)
    assert found.certificate is None

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ramps, "solve", interrupted)
    found = ramp(model, model.family.start)
    assert found.status == "interrupted"
    assert (found.w == model.family.start).all()
