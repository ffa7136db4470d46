import numpy as np
from scipy.optimize import linear_sum_assignment

from tupelo.tracking.association import assigned, in_cascade


def test_equals_the_hungarian_method_with_a_large_number():
    rng = np.random.default_rng(0)
    shortened = 0
    for _ in range(500):
        n, m = rng.integers(0, 8, 2)
        cost = rng.random((n, m))
        cost[rng.random((n, m)) < rng.random()] = np.inf
        rows, columns = assigned(cost)
        full = np.where(np.isfinite(cost), cost, 1e5)
        first, second = linear_sum_assignment(full)
        fine = np.isfinite(cost[first, second])
        assert rows.tolist() == first[fine].tolist()
        assert columns.tolist() == second[fine].tolist()
        shortened += 0 < len(rows) < min(n, m)
    assert shortened > 50


def test_many_pairs_count_more_than_cheap_ones():
    rows, columns = assigned(np.array([[0.0, 0.9], [0.1, np.inf]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_a_cascade_serves_fresh_tracks_first():
    cost = np.array([[0.1, np.inf], [0.5, 0.2], [0.3, np.inf]])
    rows, columns = in_cascade(cost, np.array([4, 4, 2]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(1, 1), (2, 0)]
