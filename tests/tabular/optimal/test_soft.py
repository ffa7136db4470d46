"""The alternating linear program against the full program of scipy, and against loops."""

import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from tupelo.tabular.generated import rings
from tupelo.tabular.optimal import soft
from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.soft import SoftModel, alternate, margin_of

FAMILIES = ["diag", "dd", "rank1", "l1", "l1+l2", "l2+l4"]


def drawn(seed=0, n=24, d=3, classes=2):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, d))
    X[:, 0] += 1.5 * y
    return (X - X.mean(0)) / X.std(0), y


def model_of(name="diag", k=2, distortion=0.01, **options):
    X, y = drawn(**options)
    atoms = make_atoms(name, X, y, 0)
    return SoftModel(atoms, X, y, k, distortion, margin_of(atoms, X, y, 1.0))


def neighbours_by_loops(model, w):
    """The k nearest of the same class of each point."""
    found = []
    for i in range(len(model.X)):
        same = [j for j in range(len(model.X)) if j != i and model.y[j] == model.y[i]]
        distance = model.family.of(model.X[i] - model.X) @ w
        found.append(sorted(same, key=distance.__getitem__)[: model.k])
    return found


def radii_by_loops(model, w):
    own = neighbours_by_loops(model, w)
    return [
        max(model.family.of(model.X[i] - model.X[j]) @ w for j in own[i]) for i in range(len(own))
    ]


def full_program(model, neighbours):
    """All rows at once with radii, as the specification writes it; by scipy."""
    n, A = len(model.X), len(model.family.start)
    start = model.family.start
    rows, upper = [], []

    def row(w=None, t=None, radius=None, slack=None):
        found = np.zeros(2 * A + 2 * n)
        found[:A] = 0 if w is None else w
        if t is not None:
            found[A + t] = -1
        if radius is not None:
            found[2 * A + radius[0]] = radius[1]
        if slack is not None:
            found[2 * A + n + slack] = -1
        return found

    for a in range(A):
        for sign in (1, -1):
            rows.append(row(w=sign * np.eye(A)[a], t=a))
            upper.append(sign * start[a])
    for i in range(n):
        phi = model.family.of(model.X[i] - model.X)
        for j in neighbours[i]:
            rows.append(row(w=phi[j], radius=(i, -1)))
            upper.append(0.0)
        for other in np.flatnonzero(model.y != model.y[i]):
            rows.append(row(w=-phi[other], radius=(i, 1), slack=i))
            upper.append(-model.margin)
    cost = model.cost(n) / n / model.margin
    c = np.concatenate([np.zeros(A), np.full(A, model.distortion), np.zeros(n), cost])
    mass = np.concatenate([np.ones(A), np.zeros(A + 2 * n)])[None]
    result = linprog(c, np.array(rows), upper, mass, [1.0])
    assert result.success
    return result.x[:A], result.fun


def objective_by_loops(model, w):
    total = 0.0
    neighbours = neighbours_by_loops(model, w)
    for i in range(len(model.X)):
        distance = model.family.of(model.X[i] - model.X) @ w
        radius = max(distance[j] for j in neighbours[i])
        gap = min(distance[j] for j in range(len(model.X)) if model.y[j] != model.y[i])
        total += model.cost(len(model.X))[i] * max(0.0, radius + model.margin - gap)
    distortion = sum(abs(a - b) for a, b in zip(w, model.family.start, strict=True))
    return total / len(model.X) / model.margin + model.distortion * distortion


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("solver", ["highs", "scipy"])
def test_one_round_equals_the_full_program(name, solver, monkeypatch):
    monkeypatch.setattr(soft, "BLOCKS", 5)
    monkeypatch.setattr(soft, "CANDIDATES", 3)  # so that others must be found later
    model = model_of(name)
    neighbours = neighbours_by_loops(model, model.family.start)
    _, expected = full_program(model, neighbours)
    found = alternate(model, model.family.start, rounds=1, solver=solver)
    assert found.bound == pytest.approx(expected, rel=1e-7)
    assert found.objective <= expected + 1e-9  # with the neighbours chosen again


@pytest.mark.parametrize("name", ["diag", "rank1", "l1+l2"])
@pytest.mark.parametrize("seed", range(3))
def test_every_round_equals_a_full_program(name, seed):
    model = model_of(name, seed=seed)
    w, history = model.family.start, [objective_by_loops(model, model.family.start)]
    for _ in range(4):
        # at a vertex, neighbours may be equally near: those that the model took
        near = model.near(w)
        assert near.radius == pytest.approx(radii_by_loops(model, w))
        _, expected = full_program(model, near.own)
        found = alternate(model, w, rounds=1)
        if len(found.history) == 1:
            break
        assert found.bound == pytest.approx(expected, rel=1e-7)
        w = found.w
        history.append(objective_by_loops(model, w))
    assert alternate(model, model.family.start, rounds=len(history) - 1).history == pytest.approx(
        history, rel=1e-9
    )


def test_at_the_end_no_weights_are_better_for_the_same_neighbours():
    model = model_of()
    found = alternate(model, model.family.start, rounds=50)
    _, best = full_program(model, neighbours_by_loops(model, found.w))
    assert found.status == "converged"
    assert found.objective == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_objective_never_grows_and_weights_stay_on_the_simplex(name):
    model = model_of(name, n=40, d=4, classes=3)
    found = alternate(model, model.family.start)
    assert all(after < before for before, after in pairwise(found.history))
    assert found.objective == found.history[-1]
    assert found.objective == pytest.approx(model.objective(found.w), rel=1e-12)
    assert found.w.min() >= 0
    assert found.w.sum() == pytest.approx(1)
    assert found.objective < found.history[0]


def test_costs_weigh_points():
    model = model_of()
    costs = np.where(model.y == 0, 3.0, 0.5)
    weighed = SoftModel(
        model.family, model.X, model.y, model.k, model.distortion, model.margin, costs
    )
    neighbours = neighbours_by_loops(weighed, weighed.family.start)
    found = alternate(weighed, weighed.family.start, rounds=1)
    assert found.bound == pytest.approx(full_program(weighed, neighbours)[1], rel=1e-7)


def test_much_distortion_leaves_the_euclidean_metric():
    model = model_of(distortion=1e3)
    found = alternate(model, model.family.start)
    np.testing.assert_allclose(found.w, model.family.start, atol=1e-9)
    assert found.status == "converged"


def test_a_start_is_never_left_for_something_worse():
    model = model_of()
    best = alternate(model, model.family.start)
    again = alternate(model, best.w)
    assert again.objective <= best.objective
    assert again.status == "converged"


def test_noise_features_lose_their_weight():
    X, y = rings(60, np.random.default_rng(0))
    X = (X - X.mean(0)) / X.std(0)
    atoms = make_atoms("diag", X, y)
    found = alternate(SoftModel(atoms, X, y, 1, 0.01, margin_of(atoms, X, y, 1.0)), atoms.start)
    assert found.w[2:].max() < 0.03
    assert found.w[:2].min() > 0.3


def test_points_without_enough_neighbours_cost_nothing():
    X, y = drawn(n=13)
    y[-1] = 7
    atoms = make_atoms("diag", X, y)
    model = SoftModel(atoms, X, y, 2, 0.0, margin_of(atoms, X, y, 1.0))
    near = model.near(atoms.start)
    expected = [max(0.0, near.radius[i] + model.margin - near.gap[i]) for i in range(12)]
    assert model.objective(atoms.start) == pytest.approx(sum(expected) / 13 / model.margin)
    assert alternate(model, atoms.start).status == "converged"


def test_groups_are_anchors_with_their_nearest_pairs():
    X, y = drawn(n=12, d=2)
    groups = np.array([0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5])
    atoms = make_atoms("diag", X, y)
    model = SoftModel(atoms, X, y, 1, 0.01, margin_of(atoms, X, y, 1.0), groups=groups)
    w = atoms.start
    total = 0.0
    for g in range(6):
        own, other = np.inf, np.inf
        for i in np.flatnonzero(groups == g):
            for j in np.flatnonzero(groups != g):
                distance = float(w @ atoms.of(X[i] - X[j]))
                if y[i] == y[j]:
                    own = min(own, distance)
                else:
                    other = min(other, distance)
        total += max(0.0, own + model.margin - other)
    assert model.objective(w) == pytest.approx(total / 6 / model.margin)
    found = alternate(model, w)
    assert found.objective < model.objective(w)
    assert found.status == "converged"


def test_the_margin_is_the_median_gap():
    X, y = np.array([0.0, 1.0, 2.0, 4.0, 7.0])[:, None], np.array([0, 0, 0, 1, 1])
    atoms = make_atoms("diag", X, y)
    gaps = np.array([16, 9, 4, 4, 25]) / atoms.scale[0]
    assert margin_of(atoms, X, y, 0.5) == pytest.approx(0.5 * np.median(gaps))


def test_points_that_coincide_with_another_class_do_not_decide_the_margin():
    X = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 5.0])[:, None]
    y = np.array([0, 1, 0, 1, 0, 1])
    atoms = make_atoms("diag", X, y)
    assert margin_of(atoms, X, y, 1.0) == pytest.approx(np.median([1, 9]) / atoms.scale[0])
    everywhere = np.array([0.0, 0.0, 1.0, 1.0])[:, None]
    atoms = make_atoms("diag", everywhere, y[:4])
    assert margin_of(atoms, everywhere, y[:4], 0.5) == 0.5


def test_a_time_limit_keeps_what_was_found():
    model = model_of("dd", n=60, d=6)
    found = alternate(model, model.family.start, time_limit=1e-6)
    assert found.status == "time_limit"
    assert found.objective <= model.objective(model.family.start)


def test_an_interrupt_keeps_what_was_found():
    model = model_of("diag", n=60, d=6)
    seen = []

    def interrupt(state):
        seen.append(state)
        if state.rounds == 1:
            raise KeyboardInterrupt

    found = alternate(model, model.family.start, progress=interrupt)
    assert found.status == "interrupted"
    assert len(found.history) >= 2
    assert found.objective == pytest.approx(model.objective(found.w), rel=1e-12)
    assert found.objective < found.history[0]
    assert all(state.objective >= state.bound - 1e-9 for state in seen)


@pytest.mark.slow
def test_two_thousand_points_take_less_than_a_minute():
    X, y = drawn(n=2000, d=30, classes=4)
    atoms = make_atoms("diag", X, y)
    model = SoftModel(atoms, X, y, 3, 0.01, margin_of(atoms, X, y, 1.0))
    began = time.perf_counter()
    found = alternate(model, atoms.start)
    assert time.perf_counter() - began < 60
    assert found.objective < found.history[0]
