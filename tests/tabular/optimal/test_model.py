"""Model E: Theorem 1, the objective from weights alone, and the program that agrees with it."""

import numpy as np
import pytest

from mio_cells import clouds
from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.model import count_model, evaluate, wanted
from tupelo.tabular.optimal.presolve import presolve, trust_region, unreduced, whole_simplex
from tupelo.tabular.optimal.solvers import solve


def naive_errors(atoms, w, X, y, *, k=1, rho=0.1, epsilon=1e-3, majority=False):
    """Theorem 1 point by point, from the definition of the distance."""
    need, allowed = ((k + 1) // 2, k // 2) if majority else (k, 0)
    errors = []
    for i in range(len(X)):
        own = sorted(atoms.of(X[i] - X[j]) @ w for j in range(len(X)) if y[j] == y[i] and j != i)
        other = sorted(atoms.of(X[i] - X[j]) @ w for j in range(len(X)) if y[j] != y[i])
        if len(own) < need:
            errors.append(True)
            continue
        radius = own[need - 1]
        errors.append(sum((1 + rho) * radius + epsilon > D for D in other) > allowed)
    return np.array(errors)


def weights(atoms, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(len(atoms)))


@pytest.mark.parametrize("name", ["diag", "l1+l2", "dd"])
@pytest.mark.parametrize(("k", "majority"), [(1, False), (2, False), (3, True)])
def test_evaluate_equals_loops(name, k, majority):
    for seed in range(4):
        X, y = clouds(seed, n=15, classes=2 + seed % 2)
        atoms = make_atoms(name, X, y)
        w = weights(atoms, seed)
        costs = np.random.default_rng(seed).random(15) + 0.5
        found = evaluate(atoms, w, X, y, k=k, costs=costs, distortion=0.3, majority=majority)
        expected = naive_errors(atoms, w, X, y, k=k, majority=majority)
        assert np.array_equal(found.errors, expected)
        moved = np.abs(w - atoms.start).sum()
        assert np.isclose(found.objective, (costs * expected).mean() + 0.3 * moved)


def test_radii_gaps_and_neighbours():
    X = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
    y = np.array([0, 0, 0, 1, 1])
    atoms = make_atoms("diag", X, y)
    found = evaluate(atoms, np.ones(1), X, y, k=2)
    assert np.allclose(found.radii * atoms.scale, [9, 4, 9, np.inf, np.inf])
    assert np.allclose(found.gaps * atoms.scale, [49, 36, 16, 16, 25])
    assert found.neighbors.tolist() == [[1, 2], [0, 2], [1, 0], [4, -1], [3, -1]]
    assert found.errors.tolist() == [False, False, False, True, True]


def test_with_a_weight_on_radii_a_point_pays_the_cheaper_of_radius_and_error():
    X = np.array([[0.0], [1.0], [30.0], [40.0]])
    y = np.array([0, 0, 1, 1])
    atoms = make_atoms("diag", X, y)
    plain = evaluate(atoms, np.ones(1), X, y)
    assert not plain.errors.any()
    mu = 2 / plain.radii[2]
    found = evaluate(atoms, np.ones(1), X, y, radius_weight=mu)
    assert np.isclose(found.objective, (2 * mu * plain.radii[0] + 2 * 1) / 4)
    assert not found.errors.any()


def test_one_neighbour_without_margins_is_the_leave_one_out_error():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    for seed in range(3):
        X, y = clouds(seed, n=40, d=3)
        atoms = make_atoms("diag", X, y)
        w = weights(atoms, seed)
        found = evaluate(atoms, w, X, y, rho=0.0, epsilon=1e-12)
        embedded = X @ atoms.components(w).T
        right = cross_val_score(KNeighborsClassifier(1), embedded, y, cv=LeaveOneOut())
        assert np.array_equal(found.errors, right == 0)


def test_majority_lemma():
    """Right by majority of k = 2 s - 1 where some radius holds s of the own and at most k - s."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        k = int(rng.choice([1, 3, 5, 7]))
        need, allowed = wanted(k, True)
        own, other = rng.random(rng.integers(need, 12)), rng.random(rng.integers(1, 12))
        if len(own) + len(other) < k:
            continue
        near = np.argsort(np.concatenate([own, other]))[:k]
        votes = np.count_nonzero(near < len(own))
        radius = np.sort(own)[need - 1]
        assert (votes > k / 2) == (np.count_nonzero(other < radius) <= allowed)


@pytest.mark.parametrize(("k", "majority"), [(1, False), (2, False), (3, True)])
@pytest.mark.parametrize("radius_weight", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("tight", [True, False])
def test_the_program_at_given_weights_is_the_true_objective(k, majority, radius_weight, tight):
    """With w fixed, the best completion, the solver's optimum and `evaluate` agree."""
    shared = {
        "k": k,
        "rho": 0.1,
        "epsilon": 1e-3,
        "distortion": 0.05,
        "radius_weight": radius_weight,
        "majority": majority,
    }
    for seed in range(3):
        X, y = clouds(seed, n=12, d=3, classes=2 + seed % 2)
        atoms = make_atoms("diag", X, y)
        need, allowed = wanted(k, majority)
        costs = np.random.default_rng(seed).random(12) + 0.5
        if tight:
            region = trust_region(weights(atoms, seed), 3)
            points = presolve(
                atoms, X, y, region, need=need, allowed=allowed, rho=0.1, epsilon=1e-3 * 1.005
            )
        else:
            region = whole_simplex(atoms.start)
            points = unreduced(atoms, X, y, need=need, allowed=allowed)
        model = count_model(atoms, X, points, region, **shared, costs=costs, tight=tight)
        w = region.centre
        true = evaluate(atoms, w, X, y, **shared, costs=costs)
        x = model.completion(w)
        program = model.program
        assert program.violation(x) < 1e-9
        assert np.isclose(program.c @ x + model.offset, true.objective)
        A = len(atoms)
        program.lb[:A], program.ub[:A] = w, w
        found = solve(program, "scip", mip_gap=0.0)
        assert found.status == "optimal"
        assert np.isclose(found.objective + model.offset, true.objective, atol=1e-6)


def test_a_completion_is_taken_as_start_by_the_solver():
    X, y = clouds(0, n=30, d=3)
    atoms = make_atoms("diag", X, y)
    region = whole_simplex(atoms.start)
    points = presolve(atoms, X, y, region, need=1, rho=0.1, epsilon=1e-3)
    model = count_model(atoms, X, points, region, k=1, rho=0.1, epsilon=1e-3, distortion=0.01)
    start = model.completion(atoms.start)
    true = evaluate(atoms, atoms.start, X, y, distortion=0.01).objective
    for solver in ("highs", "scip"):
        seen = []
        solve(model.program, solver, start=start, time_limit=0.5, progress=seen.append)
        found = solve(model.program, solver, start=start, time_limit=1e-3)
        assert found.objective + model.offset <= true + 1e-9
        assert all(state.objective + model.offset <= true + 1e-9 for state in seen)


def test_small_lists_are_written_in_pairs_and_large_ones_with_a_radius():
    X, y = clouds(0, n=40, d=3)
    atoms = make_atoms("diag", X, y)
    sizes = []
    for region in (trust_region(atoms.start, 1.3), whole_simplex(atoms.start)):
        points = presolve(atoms, X, y, region, need=1, rho=0.1, epsilon=1e-3)
        model = count_model(atoms, X, points, region, k=1, rho=0.1, epsilon=1e-3)
        sizes.append([block.radius != block.error for block in model._blocks])
    assert not any(sizes[0])
    assert any(sizes[1])


@pytest.mark.parametrize("k", [1, 2])
def test_both_ways_of_writing_have_the_same_optimum(k):
    for seed in range(3):
        X, y = clouds(seed, n=14, d=2)
        atoms = make_atoms("diag", X, y)
        region = trust_region(atoms.start, 2.5)
        points = presolve(atoms, X, y, region, need=k, rho=0.1, epsilon=1e-3 * 1.005)
        optima = []
        for pairs_per_row in (0.0, 1e9):
            model = count_model(
                atoms,
                X,
                points,
                region,
                k=k,
                rho=0.1,
                epsilon=1e-3,
                distortion=0.01,
                pairs_per_row=pairs_per_row,
            )
            start = model.completion(atoms.start)
            assert model.program.violation(start) < 1e-9
            optima.append(solve(model.program, mip_gap=0.0).objective)
        assert optima[0] == pytest.approx(optima[1], abs=1e-6)


def test_wanted():
    assert wanted(3, False) == (3, 0)
    assert [wanted(k, True) for k in (1, 3, 5)] == [(1, 0), (2, 1), (3, 2)]
