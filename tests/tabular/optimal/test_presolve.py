"""Knapsacks over the region, and lists reduced without losing an optimum."""

import numpy as np
import pytest
from scipy.optimize import linprog

from tupelo.tabular.optimal.atoms import make_atoms
from tupelo.tabular.optimal.knapsack import largest
from tupelo.tabular.optimal.presolve import (
    Region,
    presolve,
    trust_region,
    unreduced,
    whole_simplex,
)


def problem(seed, n=16, d=3, classes=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.arange(n) % classes
    X[:, 0] += 2 * y
    return (X - X.mean(0)) / X.std(0), y


def regions(A, seed=0):
    centre = np.random.default_rng(seed).random(A) + 0.01
    centre[0] = 1e-6
    centre /= centre.sum()
    return [whole_simplex(centre), trust_region(centre, 1.5), trust_region(centre, 4)]


def members(region, number=30, seed=1):
    """Random weights of a region: mixtures of its corners."""
    rng = np.random.default_rng(seed)
    corners = []
    for _ in range(15):
        order = rng.permutation(len(region.lo))
        w, rest = region.lo.copy(), 1 - region.lo.sum()
        for a in order:
            w[a] += min(rest, region.hi[a] - region.lo[a])
            rest -= w[a] - region.lo[a]
        corners.append(w)
    mixed = rng.dirichlet(np.full(15, 0.2), number) @ np.array(corners)
    return np.concatenate([mixed, corners, [region.centre]])


@pytest.mark.parametrize("A", [2, 5, 40])
@pytest.mark.parametrize("which", range(3))
def test_knapsacks_equal_linear_programs(A, which):
    region = regions(A)[which]
    rng = np.random.default_rng(A)
    # also with ties, which take another way through the selection
    for g in [*rng.normal(size=(10, A)), *rng.integers(-1, 2, (10, A)).astype(float)]:
        bounds = np.stack([region.lo, region.hi], 1)
        expected = -linprog(-g, A_eq=np.ones((1, A)), b_eq=[1.0], bounds=bounds).fun
        assert np.isclose(region.largest(g), expected)
        assert np.isclose(region.smallest(-g), -expected)
        room, rest = region.hi - region.lo, 1 - region.lo.sum()
        compiled = largest(g, region.lo, room, rest, np.empty((2, A)))
        assert np.isclose(compiled, region.largest(g), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("kappa", [1 + 1e-9, 1.5, 100.0])
def test_a_trust_region_holds_its_centre_and_all_factors(kappa):
    centre = np.array([0.7, 0.3 - 1e-5, 1e-5, 0.0])
    region = trust_region(centre, kappa)
    assert np.all((region.lo <= centre) & (centre <= region.hi))
    assert region.lo.sum() <= 1 <= region.hi.sum()
    assert np.allclose(region.lo[:2], centre[:2] / kappa)
    assert np.allclose(region.hi[:2], np.minimum(1, kappa * centre[:2]))
    assert np.array_equal(region.lo[2:], [0, 0])
    assert np.allclose(region.hi[2:], kappa * 1e-3 / 4)


def served(own, other, need, allowed, rho, epsilon):
    """Theorem 1 for one point: sorted lists, no model."""
    own, other = np.sort(own), np.sort(other)
    if len(own) < need:
        return False
    return len(other) <= allowed or other[allowed] >= (1 + rho) * own[need - 1] + epsilon


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(("need", "allowed"), [(1, 0), (3, 0), (2, 1)])
def test_reduced_lists_decide_as_whole_lists_for_all_weights(seed, which, need, allowed):
    X, y = problem(seed, classes=2 + seed % 2)
    X[3] = X[2]  # a duplicate of another class
    X[7], X[9] = X[5], X[5]  # and of the same
    atoms = make_atoms("l1+l2" if seed % 2 else "diag", X, y)
    region = regions(len(atoms), seed)[which]
    points = presolve(atoms, X, y, region, need=need, allowed=allowed, rho=0.1, epsilon=1e-3)
    whole = unreduced(atoms, X, y, need=need, allowed=allowed)
    for w in members(region):
        D = atoms.distances(w, X, X)
        for point, full in zip(points, whole, strict=True):
            i = point.index
            expected = served(D[i, full.own], D[i, full.other], need, allowed, 0.1, 1e-3)
            if point.settled >= 0:
                assert expected == (point.settled == 0)
                continue
            kept = served(D[i, point.own], D[i, point.other], need, allowed, 0.1, 1e-3)
            assert kept == expected
            radius = np.sort(D[i, full.own])[need - 1]
            assert point.radius_low - 1e-12 <= radius <= point.radius_high + 1e-12
            if expected:  # the neighbours are among the candidates
                assert np.isclose(np.sort(D[i, point.own])[need - 1], radius)
            assert np.all(D[i, point.own] <= point.own_high + 1e-12)
            assert np.all(D[i, point.other] >= point.other_low - 1e-12)


def test_lists_shrink_and_points_are_settled_in_a_small_region():
    X, y = problem(0, n=60)
    atoms = make_atoms("diag", X, y)
    sizes = []
    for region in (whole_simplex(atoms.start), *(trust_region(atoms.start, f) for f in (4, 1.2))):
        points = presolve(atoms, X, y, region, need=1, rho=0.1, epsilon=1e-3)
        free = [p for p in points if p.settled == -1]
        sizes.append((len(free), sum(len(p.own) + len(p.other) for p in free)))
    whole = sum(len(p.own) + len(p.other) for p in unreduced(atoms, X, y, need=1))
    assert sizes[0][1] < whole / 3
    assert sizes[2] < sizes[1] < sizes[0]


def test_many_candidates_are_compared_with_the_nearest_only(monkeypatch):
    """Dominance of long lists is tested against a part; the others merely stay."""
    X, y = problem(1, n=60, d=2)
    atoms = make_atoms("diag", X, y)
    region = whole_simplex(atoms.start)
    kept = []
    for compared in (400, 3):
        monkeypatch.setattr("tupelo.tabular.optimal.presolve.COMPARED", compared)
        points = presolve(atoms, X, y, region, need=1, rho=0.1, epsilon=1e-3)
        kept.append([set(p.own) for p in points if p.settled == -1])
    assert all(a <= b for a, b in zip(*kept, strict=True))
    assert sum(map(len, kept[0])) < sum(map(len, kept[1]))


def test_a_point_alone_in_its_class_is_an_error_and_one_without_rivals_is_none():
    X, y = problem(0, n=6)
    y = np.array([0, 0, 0, 0, 0, 1])
    atoms = make_atoms("diag", X, y)
    region = whole_simplex(atoms.start)
    points = presolve(atoms, X, y, region, need=1, rho=0.1, epsilon=1e-3)
    assert points[5].settled == 1
    assert unreduced(atoms, X, y, need=1)[5].settled == 1
    points = presolve(atoms, X, y, region, need=1, allowed=1, rho=0.1, epsilon=1e-3)
    assert [p.settled for p in points[:5]] == [0] * 5


def test_regions_are_plain_records():
    region = Region(np.zeros(2), np.ones(2), np.full(2, 0.5))
    assert region.largest(np.array([[1.0, 2.0], [3.0, 0.0]])).tolist() == [2.0, 3.0]
