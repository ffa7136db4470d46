"""Every learned metric answers the same questions, whatever it does to its rows."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier

from tupelo.errors import InputError
from tupelo.tabular.metrics import LinearMetric, euclidean


class Scaled(LinearMetric, BaseEstimator):
    """Divides rows by 2, then maps them by L."""

    def fit(self, X, linear):
        self.n_features_in_ = X.shape[1]
        self.components_ = linear
        return self

    def transform(self, X):
        return X / 2 @ self.components_.T

    def _row_distances(self, left, right):
        return euclidean(self.transform(left), self.transform(right))

    def _linear_map(self):
        return self.components_


class Bent(Scaled):
    """A distance without L."""

    def _linear_map(self):
        raise InputError("there is no matrix; use pair_distance")


RNG = np.random.default_rng(0)
L = RNG.normal(size=(2, 3))
X = RNG.normal(size=(12, 3))
PAIRS = X.reshape(6, 2, 3)


@pytest.fixture
def fitted():
    return Scaled().fit(X, L.copy())


def test_distances_are_those_of_transforms(fitted):
    for pair, distance, score in zip(
        PAIRS, fitted.pair_distance(PAIRS), fitted.pair_score(PAIRS), strict=True
    ):
        u, v = fitted.transform(pair)
        assert distance == pytest.approx(np.linalg.norm(u - v), rel=1e-12)
        assert score == -distance


def test_the_matrix_is_a_copy_in_the_features_that_are_compared(fitted):
    M = fitted.get_mahalanobis_matrix()
    assert np.allclose(M, L.T @ L)
    gap = (X[0] - X[1]) / 2
    assert gap @ M @ gap == pytest.approx(fitted.pair_distance(X[None, :2])[0] ** 2)
    M[:] = 0
    assert np.allclose(fitted.get_mahalanobis_matrix(), L.T @ L)


def test_the_metric_outlives_another_fit(fitted):
    metric = fitted.get_metric()
    before = fitted.pair_distance(X[None, :2])[0]
    fitted.components_ *= 7
    assert metric(X[0], X[1]) == before
    assert metric(X[0], X[1], squared=True) == pytest.approx(before**2)
    assert metric(X[0], X[1]) == metric(X[1], X[0])
    assert pickle.loads(pickle.dumps(metric))(X[0], X[1]) == before


def test_scikit_learn_takes_the_metric(fitted):
    y = np.arange(12) % 3
    own = KNeighborsClassifier(3, metric=fitted.get_metric(), algorithm="brute").fit(X, y)
    usual = KNeighborsClassifier(3).fit(fitted.transform(X), y)
    assert (own.predict(X) == usual.predict(fitted.transform(X))).all()


def test_a_distance_without_matrix_still_has_distances():
    bent = Bent().fit(X, L)
    with pytest.raises(InputError, match="there is no matrix; use pair_distance"):
        bent.get_mahalanobis_matrix()
    assert bent.pair_distance(PAIRS).shape == (6,)


@pytest.mark.parametrize("method", ["pair_distance", "pair_score"])
def test_pairs_of_another_shape_are_refused(fitted, method):
    with pytest.raises(InputError, match=r"pairs must be of shape \(n, 2, 3\).*got \(12, 3\)"):
        getattr(fitted, method)(X)
    broken = PAIRS.copy()
    broken[1, 0, 2] = np.nan
    with pytest.raises(InputError, match=r"pairs must be finite, got nan at \[1, 0, 2\]"):
        getattr(fitted, method)(broken)
    with pytest.raises(InputError, match=r"pairs must be numbers of shape \(n, 2, 3\)"):
        getattr(fitted, method)([[["a", "b", "c"], [1, 2, 3]]])


def test_rows_of_another_length_are_refused(fitted):
    with pytest.raises(InputError, match=r"two rows of equally many features, got shapes \(3,\)"):
        fitted.get_metric()(X[0], X[1, :2])


def test_before_fit():
    for ask in ("get_mahalanobis_matrix", "get_metric"):
        with pytest.raises(NotFittedError):
            getattr(Scaled(), ask)()
    with pytest.raises(NotFittedError):
        Scaled().pair_distance(PAIRS)


def test_no_pairs(fitted):
    assert fitted.pair_distance(np.empty((0, 2, 3))).shape == (0,)
