"""Full matrices: identities, cuts, and the program against a solver that knows the cone."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.semidefinite import Spectrahedron, directions_of, full_matrix
from tupelo.tabular.optimal.soft import SoftModel, alternate, margin_of


def drawn(seed=0, n=40, d=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    y = (X @ rng.normal(size=d) > 0).astype(int)
    return (X - X.mean(0)) / X.std(0), y


def random_weights(family, seed=0):
    rng = np.random.default_rng(seed)
    L = rng.normal(size=(len(family.scale),) * 2)
    M = L.T @ L
    M /= np.trace(M)
    return M[family.row, family.column]


def test_all_forms_of_the_distance_agree():
    X, _ = drawn()
    X = X * [1.0, 5.0, 0.2]
    family = full_matrix(X)
    w = random_weights(family)
    delta = X[:5] - X[5:10]
    by_atoms = family.of(delta) @ w
    by_matrix = np.einsum("nd,de,ne->n", delta, family.matrix(w), delta)
    by_map = ((delta @ family.components(w).T) ** 2).sum(1)
    by_distances = np.diag(family.distances(w, X[:5], X[5:10]))
    for other in (by_matrix, by_map, by_distances):
        np.testing.assert_allclose(other, by_atoms, rtol=1e-10)


def test_distances_of_an_indefinite_matrix_are_those_of_its_form():
    X, _ = drawn()
    family = full_matrix(X)
    w = np.random.default_rng(3).normal(size=len(family))
    delta = X[0] - X[1]
    assert family.distances(w, X[:1], X[1:2])[0, 0] == pytest.approx(
        delta @ family.matrix(w) @ delta
    )


def test_the_start_is_the_euclidean_metric_and_diag_is_a_part():
    X, y = drawn()
    family, diag = full_matrix(X), make_atoms("diag", X, y)
    np.testing.assert_allclose(
        family.distances(family.start, X, X), diag.distances(diag.start, X, X), atol=1e-12
    )
    w = np.array([0.2, 0.5, 0.3])
    embedded = np.zeros(len(family))
    embedded[family.row == family.column] = w
    np.testing.assert_allclose(
        family.distances(embedded, X, X), diag.distances(w, X, X), atol=1e-12
    )


def test_cuts_are_violated_and_hold_for_all_semidefinite_matrices():
    X, _ = drawn(d=8)
    family = full_matrix(X)
    domain = Spectrahedron(family)
    w = np.random.default_rng(0).normal(size=len(family))
    cuts = domain.cuts(w)
    assert 1 <= len(cuts) <= 5
    assert (cuts @ w < 0).all()
    for seed in range(20):
        assert (cuts @ random_weights(family, seed) >= 0).all()
    assert len(domain.cuts(random_weights(family))) == 0


def test_repaired_matrices_are_semidefinite_with_trace_one():
    X, _ = drawn(d=5)
    family = full_matrix(X)
    domain = Spectrahedron(family)
    w = domain.repaired(np.random.default_rng(0).normal(size=len(family)))
    M = family.normalised(w)
    assert np.linalg.eigvalsh(M).min() > -1e-12
    assert np.trace(M) == pytest.approx(1)
    right = random_weights(family)
    np.testing.assert_allclose(domain.repaired(right), right, atol=1e-12)


def test_the_soft_model_ends_semidefinite_and_below_diag():
    X, y = drawn()
    results = {}
    for name, family in (("psd", full_matrix(X)), ("diag", make_atoms("diag", X, y))):
        model = SoftModel(family, X, y, 2, 0.0, margin_of(family, X, y, 1.0))
        domain = Spectrahedron(family) if name == "psd" else None
        results[name] = alternate(model, family.start, domain=domain)
        assert all(
            a > b for a, b in zip(results[name].history, results[name].history[1:], strict=False)
        )
    family = full_matrix(X)
    M = family.matrix(results["psd"].w)
    assert np.linalg.eigvalsh(M).min() > -1e-9
    assert results["psd"].objective < results["diag"].objective


def test_one_round_in_two_dimensions_is_the_best_of_a_grid():
    X, y = drawn(d=2, n=20)
    family = full_matrix(X)
    model = SoftModel(family, X, y, 1, 0.01, margin_of(family, X, y, 1.0))
    near = model.near(family.start)
    found = alternate(model, family.start, rounds=1, domain=Spectrahedron(family))
    phi = family.of(X[:, None] - X)
    best = np.inf
    for a in np.linspace(0, 1, 51):
        reach = np.sqrt(a * (1 - a))
        for b in np.linspace(-reach, reach, 51):
            w = np.array([a, b, 1 - a])
            distance = phi @ w
            own = np.take_along_axis(distance, near.own, axis=1).max(1)
            gap = np.where(y[:, None] == y, np.inf, distance).min(1)
            hinge = np.maximum(0, own + model.margin - gap).mean() / model.margin
            best = min(best, hinge + 0.01 * np.abs(w - family.start).sum())
    assert found.bound <= best + 1e-9
    assert found.bound == pytest.approx(best, abs=5e-3)


def test_directions_hold_the_matrix():
    X, y = drawn(d=4)
    family = full_matrix(X)
    w = random_weights(family)
    atoms, weights = directions_of(family, w, X)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    ratio = atoms.distances(weights, X, X[:1])[1:] / family.distances(w, X, X[:1])[1:]
    np.testing.assert_allclose(ratio, ratio[0, 0])
    diag = make_atoms("diag", X, y)
    np.testing.assert_allclose(
        atoms.distances(atoms.start, X, X), diag.distances(diag.start, X, X), atol=1e-12
    )


def test_too_many_features_are_refused():
    with pytest.raises(InputError, match='atoms "psd" take up to 40 features, got 41'):
        full_matrix(np.random.default_rng(0).normal(size=(50, 41)))
