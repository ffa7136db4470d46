"""Methods compared over many data sets: mean ranks, Friedman's test, Nemenyi's critical difference.

Source: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from tupelo.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """How methods rank over data sets.

    Attributes:
        mean: (k,) mean rank of each method, 1 is the best.
        statistic: Friedman's, as corrected by Iman and Davenport (F distributed).
        p_value: that all methods are alike.
        critical: two methods differ where their mean ranks are at least so far apart (Nemenyi,
            0.05).
        sets: data sets.
    """

    mean: Float[ndarray, " k"]
    statistic: float
    p_value: float
    critical: float
    sets: int

    def cliques(self) -> list[list[int]]:
        """Groups of methods, best first, that do not differ; those within others are left out.

        >>> Ranks(np.array([1.0, 1.8, 3.2]), 9.0, 0.01, 1.5, 10).cliques()
        [[0, 1], [1, 2]]
        """
        order = np.argsort(self.mean, kind="stable")
        found: list[list[int]] = []
        for place, first in enumerate(order):
            reach = self.mean[order[place:]] - self.mean[first] < self.critical
            group = [int(each) for each in order[place:][reach]]
            if len(group) > 1 and not (found and group[-1] == found[-1][-1]):
                found.append(group)
        return found


def friedman(scores: Float[ndarray, "n k"], level: float = 0.05) -> Ranks:
    """Rank k methods on each of n data sets and test whether they differ.

    Args:
        scores: the higher, the better; equal ones share their ranks.
        level: of the critical difference.

    Raises:
        InputError: fewer than two data sets or methods, or a score that is not finite.

    >>> friedman(np.array([[0.9, 0.8], [0.7, 0.6], [0.5, 0.5]])).mean.tolist()
    [1.1666666666666667, 1.8333333333333333]
    """
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise InputError(
            f"scores must be of at least two data sets and two methods, got shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(scores)))
        raise InputError(f"scores must be finite, got {scores[row, column]} at {[row, column]}")
    n, k = scores.shape
    ranks = stats.rankdata(-scores, axis=1)
    mean = ranks.mean(axis=0)
    chi = 12 * n / (k * (k + 1)) * (np.square(mean).sum() - k * (k + 1) ** 2 / 4)
    left = n * (k - 1) - chi
    statistic = float((n - 1) * chi / left) if left > 1e-9 else float("inf")
    p_value = float(stats.f.sf(statistic, k - 1, (k - 1) * (n - 1)))
    # of infinitely many degrees of freedom; scipy warns of its own integration at np.inf
    quantile = stats.studentized_range.ppf(1 - level, k, 1e6) / np.sqrt(2)
    return Ranks(mean, statistic, p_value, float(quantile * np.sqrt(k * (k + 1) / (6 * n))), n)
