"""Ranks over data sets, against scipy and the critical values of Demšar (JMLR 7, 2006)."""

import numpy as np
import pytest
from scipy import stats

from tupelo.errors import InputError
from tupelo.evaluation.ranks import Ranks, friedman


def test_the_critical_difference_of_the_paper():
    scores = np.random.default_rng(0).random((14, 4))  # four methods on 14 data sets
    assert friedman(scores).critical == pytest.approx(1.25, abs=0.005)
    assert friedman(scores, level=0.10).critical == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_values_are_those_of_the_table(k, q):
    scores = np.random.default_rng(0).random((6, k))
    factor = np.sqrt(k * (k + 1) / (6 * 6))
    assert friedman(scores).critical / factor == pytest.approx(q, abs=1e-3)


def test_friedman_is_that_of_scipy():
    scores = np.random.default_rng(1).random((9, 4))
    chi = stats.friedmanchisquare(*scores.T).statistic
    assert friedman(scores).statistic == pytest.approx(8 * chi / (9 * 3 - chi))


def test_ties_share_ranks_and_all_alike_is_no_difference():
    ranks = friedman(np.ones((5, 3)))
    assert ranks.mean.tolist() == [2, 2, 2]
    assert ranks.p_value == 1
    assert ranks.cliques() == [[0, 1, 2]]


def test_always_the_same_order():
    ranks = friedman(np.tile([0.9, 0.8, 0.7], (8, 1)))
    assert ranks.statistic == np.inf
    assert ranks.p_value == 0


def test_groups_are_the_largest_ones():
    mean = np.array([4.0, 1.0, 2.0, 2.5, 6.0])
    assert Ranks(mean, 0.0, 0.0, 1.6, 10).cliques() == [[1, 2, 3], [3, 0]]
    assert Ranks(mean, 0.0, 0.0, 0.4, 10).cliques() == []


def test_refusals():
    with pytest.raises(InputError, match=r"two data sets and two methods, got shape \(1, 3\)"):
        friedman(np.ones((1, 3)))
    with pytest.raises(InputError, match=r"must be finite, got nan at \[0, 1\]"):
        friedman(np.array([[1.0, np.nan], [1.0, 2.0]]))
