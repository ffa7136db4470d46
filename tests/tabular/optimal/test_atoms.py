"""Families of atoms: linear distances, their normalisation, and the cones they span."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tupelo.errors import InputError
from tupelo.tabular.optimal.atoms import FAMILIES, dominant_weights, make_atoms

QUADRATIC = ("diag", "dd", "rank1")


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4)) * [1.0, 2.0, 0.5, 1.0]
    return X, np.repeat([0, 1, 2, 3], 10)


def weights(atoms, seed=0, sparse=False):
    w = np.random.default_rng(seed).random(len(atoms))
    if sparse:
        w[::2] = 0
    return w / w.sum()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_atom_has_mean_one_over_all_pairs(name, table):
    X, y = table
    atoms = make_atoms(name, X, y, 0)
    i, j = np.transpose(list(combinations(range(len(X)), 2)))
    assert np.allclose(atoms.of(X[i] - X[j]).mean(0), 1)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("sparse", [False, True])
def test_distances_are_the_weighted_sum_of_atoms(name, sparse, table):
    X, y = table
    atoms = make_atoms(name, X, y, 0)
    w = weights(atoms, sparse=sparse)
    Z = X[:7] + 0.1
    phi = atoms.of(X[:, None] - Z)
    assert phi.shape == (40, 7, len(atoms))
    assert np.all(phi >= 0)
    assert np.allclose(atoms.distances(w, X, Z), phi @ w, rtol=1e-12)
    projected = atoms.of_projected(atoms.project(X)[:, None] - atoms.project(Z))
    assert np.allclose(projected, phi, rtol=1e-9, atol=1e-12)
    assert np.all(atoms.of(np.zeros((2, 4))) == 0)


@pytest.mark.parametrize("name", QUADRATIC)
@pytest.mark.parametrize("seed", range(5))
def test_matrices_are_positive_semidefinite_and_components_their_factor(name, seed, table):
    X, y = table
    atoms = make_atoms(name, X, y, 0)
    w = weights(atoms, seed, sparse=True)
    M, L = atoms.matrix(w), atoms.components(w)
    assert len(L) == np.count_nonzero(w)
    assert np.linalg.eigvalsh(M).min() > -1e-12
    assert np.allclose(L.T @ L, M)
    difference = X[3] - X[8]
    assert np.isclose(difference @ M @ difference, atoms.of(difference) @ w)


def test_dd_spans_exactly_the_diagonally_dominant_matrices():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 5))
    atoms = make_atoms("dd", X, np.zeros(30))
    assert len(atoms) == 25
    for _ in range(20):
        M = rng.normal(size=(5, 5))
        M = M + M.T
        off = np.abs(M).sum(1) - np.abs(np.diag(M))
        np.fill_diagonal(M, off + rng.random(5) * (rng.random(5) < 0.5))
        w = dominant_weights(M, atoms)
        assert np.all(w >= 0)
        assert np.allclose(atoms.matrix(w), M)
        back = dominant_weights(atoms.matrix(w), atoms)
        assert np.allclose(back, w, atol=1e-12)
    for seed in range(20):  # and every weight gives a dominant matrix
        M = atoms.matrix(weights(atoms, seed, sparse=True))
        assert np.all(2 * np.diag(M) - np.abs(M).sum(1) > -1e-12)


def test_dominant_weights_refuse_other_matrices():
    atoms = make_atoms("dd", np.eye(2), np.zeros(2))
    with pytest.raises(InputError, match="diagonally dominant with a nonnegative diagonal"):
        dominant_weights(np.array([[1.0, 2.0], [2.0, 1.0]]), atoms)


@pytest.mark.parametrize("name", ["diag", "dd", "rank1", "l1", "l1+l2"])
def test_root_of_the_distance_satisfies_the_triangle_inequality(name, table):
    X, y = table
    atoms = make_atoms(name, X, y, 0)
    rng = np.random.default_rng(2)
    a, b, c = rng.normal(size=(3, 500, 4)) * rng.choice([1e-3, 1, 1e3], size=(3, 500, 1))
    for seed in range(5):
        w = weights(atoms, seed, sparse=seed % 2 == 1)
        ab, bc, ac = (np.sqrt(atoms.of(delta) @ w) for delta in (a - b, b - c, a - c))
        assert np.all(ac <= (ab + bc) * (1 + 1e-12))
        assert np.allclose(atoms.of(a - b) @ w, atoms.of(b - a) @ w)


def test_fourth_powers_are_no_metric():
    atoms = make_atoms("l2+l4", np.array([[0.0], [1.0], [2.0]]), np.zeros(3))
    w = np.array([0.0, 1.0])
    near, far = (np.sqrt(atoms.of(np.array([[x]])) @ w) for x in (1.0, 2.0))
    assert far > 2 * near


@pytest.mark.parametrize("name", [*QUADRATIC, "l1+l2", "l2+l4"])
def test_start_is_the_euclidean_metric_on_standardised_features(name, table):
    X, y = table
    X = (X - X.mean(0)) / X.std(0)
    atoms = make_atoms(name, X, y, 0)
    D = atoms.distances(atoms.start, X, X)
    euclid = cdist(X, X, "sqeuclidean")
    assert np.allclose(D, euclid * D.sum() / euclid.sum())
    assert np.isclose(atoms.start.sum(), 1)


def test_start_of_l1_is_uniform(table):
    assert np.allclose(make_atoms("l1", *table).start, 0.25)


def test_rank1_dictionary_has_several_directions_a_feature_and_is_repeatable(table):
    X, y = table
    atoms = make_atoms("rank1", X, y, 0)
    assert 4 * 4 < len(atoms) <= 7 * 4
    assert np.allclose(np.linalg.norm(atoms.rows, axis=1), 1)
    assert np.array_equal(atoms.rows, make_atoms("rank1", X, y, 0).rows)
    assert not np.array_equal(atoms.rows, make_atoms("rank1", X, y, 1).rows)


def test_rank1_finds_the_direction_that_separates():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(100, 1)) * 5
    y = np.arange(100) % 2
    X = np.hstack([noise, noise + y[:, None] + 0.1 * rng.normal(size=(100, 1))])
    atoms = make_atoms("rank1", X, y, 0)
    wanted = np.array([-1.0, 1.0]) / np.sqrt(2)
    assert np.abs(atoms.rows @ wanted).max() > 0.999


def test_repeated_and_constant_directions_are_left_out(table):
    X, y = table
    X = np.hstack([X, X[:, :1], np.ones((40, 1))])
    assert len(make_atoms("diag", X, y)) == 5
    assert len(make_atoms("l1+l2", X, y)) == 10
    atoms = make_atoms("dd", X, y)
    assert np.all(atoms.scale > 0)
    # x1 - x5 is zero everywhere, and x_r +- constant is a multiple of x_r
    assert len(atoms) == 36 - 1 - 1
    rank1 = make_atoms("rank1", X, y, 0)
    assert np.all(np.isfinite(rank1.scale))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_duplicated_feature_changes_the_distance_only_through_weights(name, table):
    X, y = table
    atoms = make_atoms(name, X, y, 0)
    double = make_atoms(name, np.hstack([X, X]), y, 0)
    if name == "rank1":
        return  # its dictionary has other directions
    w = weights(atoms)
    half = np.zeros(len(double))
    split = 0
    for a, row in enumerate(atoms.rows):
        for b, twice in enumerate(double.rows):
            same = double.powers[b] == atoms.powers[a]
            if same and np.array_equal(twice[:4], row) and not twice[4:].any():
                half[b] += w[a] / 2
                split += 1
            if same and np.array_equal(twice[4:], row) and not twice[:4].any():
                half[b] += w[a] / 2
                split += 1
    assert split == 2 * len(atoms)
    twice = np.hstack([X, X])
    assert np.allclose(double.distances(half, twice, twice), atoms.distances(w, X, X))


@pytest.mark.parametrize("name", FAMILIES)
def test_projections_are_those_on_the_rows(name, table):
    atoms = make_atoms(name, *table, 0)
    X = table[0].reshape(10, 4, 4)
    assert (atoms._axes is None) == (name in ("dd", "rank1"))
    np.testing.assert_allclose(atoms.project(X), X @ atoms.rows.T, rtol=1e-12, atol=1e-14)
    assert atoms.project(X).flags.c_contiguous


@pytest.mark.parametrize("name", ["diag", "l1", "l1+l2", "l2+l4"])
def test_families_of_single_features_take_any_number(name):
    X = np.random.default_rng(0).normal(size=(6, 2500))
    assert len(make_atoms(name, X, np.arange(6) % 2)) == 2500 * (1 + ("+" in name))


def test_refusals(table):
    X, y = table
    with pytest.raises(InputError, match="atoms must be one of diag, dd, rank1, l1, l1"):
        make_atoms("full", X, y)
    with pytest.raises(InputError, match="all features are constant"):
        make_atoms("diag", np.ones((5, 2)), y[:5])
    with pytest.raises(
        InputError, match='"dd" of 45 features are 2025, more than 2000; use "diag"'
    ):
        make_atoms("dd", np.zeros((5, 45)), y[:5])
    with pytest.raises(InputError, match=r'"rank1" of 300 features are 2100.* use "diag"'):
        make_atoms("rank1", np.zeros((5, 300)), y[:5])
    atoms = make_atoms("l1+l2", X, y)
    with pytest.raises(InputError, match="not quadratic: their distance has no matrix"):
        atoms.matrix(atoms.start)
    assert atoms.directions is None
    assert make_atoms("diag", X, y).directions is not None
