"""Local clusters, outliers and boundary pairs, by hand and against loops."""

import numpy as np
import pytest

from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.clusters import structure
from tupelo.tabular.optimal.neighbours import nearest


def on_a_line(points, y, **options):
    X = np.array(points, dtype=float)[:, None]
    atoms = make_atoms("diag", X, np.array(y))
    return structure(atoms, atoms.start, X, np.array(y), **options)


def test_two_clusters_of_one_class_an_outlier_and_the_boundaries():
    found = on_a_line([0, 1, 2, 10, 11, 15, 16, 10.4], [0, 0, 0, 0, 0, 1, 1, 1])
    # the row at 10.4 has both neighbours of class 0; those at 10 and 11 have it as nearest
    assert found.outliers.tolist() == [3, 4, 7]
    assert found.clusters.tolist() == [0, 0, 0, 1, 2, 3, 3, 4]
    assert found.boundary_pairs.tolist() == [[3, 7]]
    assert found.errors.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True]


def test_rho_and_epsilon_decide_errors_but_not_outliers():
    line = [0, 1, 2.05, 3.05], [0, 0, 1, 1]
    assert not on_a_line(*line, rho=0.0, epsilon=1e-6).errors.any()
    strict = on_a_line(*line, rho=0.2)
    assert strict.errors.tolist() == [False, True, True, False]
    assert strict.outliers.size == 0
    # points that are errors themselves are joined by the others
    assert strict.clusters.tolist() == [0, 0, 1, 1]


def test_a_class_of_one_is_an_outlier_and_a_cluster():
    found = on_a_line([0, 1, 5], [0, 0, 1])
    assert found.outliers.tolist() == [2]
    assert found.errors.tolist() == [False, False, True]
    assert found.clusters.tolist() == [0, 0, 1]


def test_equal_distances_make_an_outlier():
    found = on_a_line([0, 1, 2, 9], [0, 0, 1, 1])
    assert 1 in found.outliers


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_against_loops(k, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(40, 2)), rng.integers(3, size=40)
    X[:, 0] += y
    atoms = make_atoms("dd", X, y)
    w = rng.dirichlet(np.ones(len(atoms)))
    found = structure(atoms, w, X, y, k=k)
    near = nearest(atoms, w, X, y, k=k)
    pairs, parent = set(), list(range(40))

    def root(i):
        return i if parent[i] == i else root(parent[i])

    for i in range(40):
        error = near.gap[i] < 1.1 * near.radius[i] + 1e-3
        assert found.errors[i] == error
        assert (i in found.outliers) == (near.radius[i] >= near.gap[i])
        for j in [] if error else near.own[i]:
            parent[root(j)] = root(i)
        other = near.other[i, 0]
        if near.other[other, 0] == i:
            pairs.add((min(i, other), max(i, other)))
    assert {tuple(pair) for pair in found.boundary_pairs.tolist()} == pairs
    together = np.array([[root(i) == root(j) for j in range(40)] for i in range(40)])
    assert ((found.clusters[:, None] == found.clusters) == together).all()
    first = [int(np.flatnonzero(found.clusters == c)[0]) for c in range(found.clusters.max() + 1)]
    assert first == sorted(first)
    assert all(len(set(y[found.clusters == c])) == 1 for c in set(found.clusters))
