"""Nearest points against loops."""

import numpy as np
import pytest

from tupelo.tabular.optimal import neighbours
from tupelo.tabular.optimal.atoms import make_atoms


def drawn(seed=0, n=30, d=3, classes=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(classes, size=n)


def by_loops(atoms, w, X, y, k, others):
    """Sorted distances to the own class and to others of every point."""
    own, other = [], []
    for i in range(len(X)):
        distance = [float(w @ atoms.of(X[i] - X[j])) for j in range(len(X))]
        same = sorted(distance[j] for j in range(len(X)) if j != i and y[j] == y[i])
        rest = sorted(distance[j] for j in range(len(X)) if y[j] != y[i])
        own.append((same + [np.inf] * k)[:k])
        other.append((rest + [np.inf] * others)[:others])
    return np.array(own), np.array(other)


@pytest.mark.parametrize("name", ["diag", "dd", "rank1", "l1", "l1+l2", "l2+l4"])
def test_distances_equal_loops(name, monkeypatch):
    monkeypatch.setattr(neighbours, "TILE_NUMBERS", 70)
    X, y = drawn()
    atoms = make_atoms(name, X, y, 0)
    w = np.random.default_rng(1).dirichlet(np.ones(len(atoms)))
    near = neighbours.nearest(atoms, w, X, y, k=3, others=4)
    own, other = by_loops(atoms, w, X, y, 3, 4)
    np.testing.assert_allclose(near.own_distance, own, atol=1e-12)
    np.testing.assert_allclose(near.other_distance, other, atol=1e-12)
    assert (y[near.own] == y[:, None]).all()
    assert (near.own != np.arange(len(X))[:, None]).all()
    assert (y[near.other] != y[:, None]).all()
    assert near.radius == pytest.approx(own[:, -1])
    assert near.gap == pytest.approx(other[:, 0])


def test_small_classes_have_infinite_distances():
    X = np.arange(5.0)[:, None]
    y = np.array([0, 0, 0, 1, 2])
    atoms = make_atoms("diag", X, y)
    near = neighbours.nearest(atoms, atoms.start, X, y, k=3, others=3)
    assert near.own[0].tolist() == [1, 2, -1]
    assert near.own[3].tolist() == [-1, -1, -1]
    assert np.isinf(near.radius).all()
    assert near.other[0].tolist() == [3, 4, -1]
    assert np.isfinite(near.gap).all()


def test_points_of_a_group_are_no_neighbours_and_groups_have_their_nearest_pairs():
    X = np.array([0.0, 1.0, 3.0, 3.5, 10.0, 14.0])[:, None]
    y = np.array([0, 0, 0, 0, 1, 1])
    groups = np.array([0, 0, 1, 1, 2, 3])
    atoms = make_atoms("diag", X, y)
    near = neighbours.nearest(atoms, atoms.start, X, y, groups=groups)
    assert near.own[:, 0].tolist() == [2, 2, 1, 1, 5, 4]
    pairs = neighbours.pairs_of(near, groups)
    ends = [pairs.own_left, pairs.own_right, pairs.other_left, pairs.other_right]
    expected = [[1, 2, 4, 5], [2, 1, 5, 4], [1, 3, 4, 5], [4, 4, 3, 3]]
    for found, wanted in zip(ends, expected, strict=True):
        assert found[:, 0].tolist() == wanted
