"""What every learned metric of this package can be asked, in the words of metric-learn."""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.utils.validation import check_is_fitted

from tupelo.errors import InputError
from tupelo.tabular.inputs import as_pairs


class LinearMetric(ABC):
    """A learner of distances D(x, z) = |L (x - z)|^2, or of ones that are no such form.

    Pairs are raw rows, as `transform` takes them: what a learner does to rows before it compares
    them, such as scaling, belongs to its distance. A learner gives two things, `_row_distances`
    and `_linear_map`; `L` is its `components_` and `transform` its embedding.
    """

    @abstractmethod
    def _row_distances(
        self, left: Float[ndarray, "n d"], right: Float[ndarray, "n d"]
    ) -> Float[ndarray, " n"]:
        """Distances (square roots of D) of raw rows, one by one; nothing is checked."""

    @abstractmethod
    def _linear_map(self) -> Float[ndarray, "m d"]:
        """L.

        Raises:
            InputError: the distance has no such form; says what to use in its place.
        """

    def get_mahalanobis_matrix(self) -> Float[ndarray, "d d"]:
        """A copy of M = L^T L, in the features as they are compared: scaled or of unit rows.

        Raises:
            InputError: the distance is not of this form.
        """
        check_is_fitted(self)
        linear = self._linear_map()
        return linear.T @ linear

    def pair_distance(self, pairs: Any) -> Float[ndarray, " n"]:
        """Learned distance of each pair of raw rows, the square root of D.

        Args:
            pairs: (n, 2, d).

        Raises:
            InputError: another shape, or a number that is not finite.
        """
        check_is_fitted(self)
        given = as_pairs(pairs, int(self.n_features_in_))  # pyright: ignore[reportAttributeAccessIssue]
        return self._row_distances(given[:, 0], given[:, 1])

    def pair_score(self, pairs: Any) -> Float[ndarray, " n"]:
        """The negative distance of each pair: the higher, the more alike.

        Args:
            pairs: (n, 2, d).

        Raises:
            InputError: as `pair_distance`.
        """
        return -self.pair_distance(pairs)

    def get_metric(self) -> "Metric":
        """The distance as a function, for whatever takes `metric=callable`.

        It keeps what is learned now: fitting again does not change it.
        """
        check_is_fitted(self)
        return Metric(deepcopy(self))


class Metric:
    """A learned distance as a function of two raw rows, `metric(u, v, squared=False)`.

    Args:
        learner: a fitted one that nobody else changes.
    """

    def __init__(self, learner: LinearMetric):
        self._learner = learner

    def __call__(self, u: Any, v: Any, squared: bool = False) -> float:
        """Distance of two rows (d,), or D itself.

        Raises:
            InputError: as `pair_distance`.
        """
        shapes = np.shape(u), np.shape(v)
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise InputError(
                f"u and v must be two rows of equally many features, got shapes {shapes[0]} and "
                f"{shapes[1]}"
            )
        distance = float(self._learner.pair_distance(np.stack([u, v])[None])[0])
        return distance**2 if squared else distance


def euclidean(left: Float[ndarray, "n m"], right: Float[ndarray, "n m"]) -> Float[ndarray, " n"]:
    """Euclidean distances of rows, one by one.

    >>> euclidean(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]]))
    array([5.])
    """
    gap = left - right
    return np.sqrt(np.einsum("nm,nm->n", gap, gap))
