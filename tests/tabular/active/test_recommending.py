"""Which rows of a pool are chosen, against loops."""

import numpy as np
import pytest

from tupelo.tabular.active import recommending
from tupelo.tabular.active.recommending import from_pool, uncertainty, without_pool
from tupelo.tabular.active.regions import Region, Ruler

PLANE = Ruler(np.eye(2), np.array([2, 2]))


def region(centre, radius, kind="boundary", score=1.0):
    centre = np.array(centre, dtype=float)
    return Region(
        kind, (0, 1), centre, radius, score, False, centre - radius, centre + radius,
        np.zeros(2, dtype=bool), "why", PLANE,
    )  # fmt: skip


@pytest.mark.parametrize("powers", [2, 1])
def test_uncertainty_equals_loops(powers, monkeypatch):
    monkeypatch.setattr(recommending, "TILE_NUMBERS", 50)
    rng = np.random.default_rng(0)
    X, y, pool = rng.normal(size=(20, 2)), rng.integers(3, size=20), rng.normal(size=(15, 2))
    ruler = Ruler(np.array([[1.0, 0.0], [0.0, 2.0]]), np.full(2, powers))
    found = uncertainty(ruler, X, y, pool)
    for row, u in zip(pool, found, strict=True):
        distance = (np.abs((row - X) * [1.0, 2.0]) ** powers).sum(1)
        nearest = sorted(min(distance[y == c]) for c in range(3))
        assert u == pytest.approx(np.sqrt(nearest[0] / nearest[1]))


def test_a_row_on_two_classes_is_most_uncertain():
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = uncertainty(PLANE, X, np.array([0, 1, 0]), np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert found.tolist() == [1.0, 0.0]


def test_each_region_has_a_row_and_the_rest_is_filled_by_uncertainty():
    pool = np.array([[0.0, 0], [0.1, 0], [0.2, 0], [5.0, 0], [5.1, 0], [20.0, 0], [21.0, 0]])
    doubt = np.array([0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.9])
    first, second, empty = region([0.1, 0], 1.0), region([5, 0], 1.0), region([9, 9], 1.0)
    found = from_pool([first, empty, second], pool, doubt, 7)
    assert [one.row for one in found] == [1, 3, 6, 5, 4, 2, 0]
    assert [one.region for one in found] == [first, second, *[None] * 5]
    assert [one.row for one in from_pool([first, second], pool, doubt, 1)] == [1]
    assert len(from_pool([first], pool, doubt, 50)) == 7
    assert "ratio 0.9" in found[2].reason
    assert found[0].reason == "why"


def test_a_row_in_two_regions_is_taken_once():
    pool = np.array([[0.0, 0.0], [0.5, 0.0]])
    found = from_pool([region([0, 0], 1.0), region([0.2, 0], 1.0)], pool, np.array([0.9, 0.1]), 2)
    assert [one.row for one in found] == [0, 1]


def test_without_a_pool_the_centres_are_asked():
    X, y = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0, 1])
    found = without_pool([region([2, 0], 2.0), region([1, 0], 1.0)], PLANE, X, y, 5)
    assert [one.x.tolist() for one in found] == [[2, 0], [1, 0]]
    assert [one.row for one in found] == [None, None]
    assert found[0].uncertainty == pytest.approx(1)
    assert found[1].uncertainty == pytest.approx(1 / 3)
    assert without_pool([], PLANE, X, y, 5) == []
