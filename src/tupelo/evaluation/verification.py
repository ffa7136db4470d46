"""Verification of pairs: accuracy over folds, and the errors at every threshold.

A pair is accepted as "same" iff its score lies above the threshold, strictly, so that ties never
raise the share of false accepts.
"""

import logging
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int

from tupelo.errors import InputError

log = logging.getLogger(__name__)
GRID = 10_000  # thresholds are k / GRID for k = -GRID .. GRID
AT_ONCE = 8_192  # pairs
ROUNDING = 1e-6  # scores that differ by no more are the same, and cosines reach so far beyond 1


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy with thresholds that never saw the pairs they decide.

    Attributes:
        accuracy: mean over folds.
        standard_error: standard deviation over folds (ddof 1) / sqrt(folds).
        per_fold: accuracy of each fold, in the order of the folds' numbers.
        thresholds: of each fold, chosen on all others.
        constant: all scores are equal, so that nothing was decided: accuracy is 0.5.
    """

    accuracy: float
    standard_error: float
    per_fold: tuple[float, ...]
    thresholds: tuple[float, ...]
    constant: bool

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.2f} ± {100 * self.standard_error:.2f} %"


@dataclass(frozen=True)
class Roc:
    """Scores of genuine and impostor pairs, and what they come to at every threshold.

    `roc` makes it.

    Attributes:
        genuine: scores of pairs of the same, ascending float64.
        impostor: scores of pairs of different ones, ascending float64.
    """

    genuine: Float[np.ndarray, " g"]
    impostor: Float[np.ndarray, " i"]

    @property
    def auc(self) -> float:
        """Probability that a genuine pair scores above an impostor pair; ties count half."""
        below = np.searchsorted(self.impostor, self.genuine, "left")
        not_above = np.searchsorted(self.impostor, self.genuine, "right")
        twice = int(below.sum()) + int(not_above.sum())
        return twice / (2 * len(self.genuine) * len(self.impostor))

    @property
    def eer(self) -> float:
        """Where false accepts and false rejects are equal, on the line between two thresholds."""
        far, tar, _ = self.curve()
        gap = far - (1 - tar)  # falls from 1 to -1
        place = int(np.flatnonzero(gap <= 0)[0])
        before, after = gap[place - 1], gap[place]
        share = before / (before - after)
        return float(far[place - 1] + share * (far[place] - far[place - 1]))

    def curve(
        self,
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
        """False and true accept rates at every threshold that differs, from -inf upwards.

        Returns:
            far, tar and thresholds: -inf, then each distinct score.
        """
        seen = np.unique(np.concatenate([self.genuine, self.impostor]))
        thresholds = np.concatenate([[-np.inf], seen])
        return _above(self.impostor, thresholds), _above(self.genuine, thresholds), thresholds

    def far_at(self, threshold: float) -> float:
        """Share of impostor pairs above a threshold."""
        return float(_above(self.impostor, np.array([threshold]))[0])

    def threshold_at(self, far: float) -> float | None:
        """The lowest threshold with at most `far` false accepts; None: not measurable.

        With k = floor(far * impostors) false accepts allowed it is the (k + 1)-th largest
        impostor score.

        Args:
            far: in (0, 1), taken as the decimal number that is printed.

        Returns:
            None where far * impostors < 1: these pairs cannot tell.

        Raises:
            InputError: far outside (0, 1).
        """
        allowed = _allowed(far, len(self.impostor), "far")
        return None if allowed < 1 else float(self.impostor[-1 - allowed])

    def tar_at(self, far: float) -> float | None:
        """Share of genuine pairs accepted at `threshold_at(far)`; None: not measurable.

        Raises:
            InputError: far outside (0, 1).
        """
        threshold = self.threshold_at(far)
        if threshold is None:
            return None
        return float(_above(self.genuine, np.array([threshold]))[0])


def roc(scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> Roc:
    """True and false accepts of scored pairs.

    Args:
        scores: larger for more alike, finite.
        same: whether a pair is of the same.

    Raises:
        InputError: of another length, not finite, or no pair of one of the two kinds.

    Example:
        >>> found = roc(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, True]))
        >>> round(found.auc, 4), found.far_at(0.2), found.tar_at(0.001)
        (0.6667, 1.0, None)
    """
    scores, same = _checked(scores, same)
    return Roc(np.sort(scores[same]), np.sort(scores[~same]))


def fold_accuracy(
    scores: Float[np.ndarray, " n"] | Float[np.ndarray, "f n"],
    same: Bool[np.ndarray, " n"],
    folds: Int[np.ndarray, " n"],
) -> FoldAccuracy:
    """Accuracy over folds, each with the threshold that is best on all others.

    Thresholds are k / 10000 for k = -10000 .. 10000; where several are best, their mean is taken.
    A score that equals the threshold is wrong either way.

    Args:
        scores: cosines of the pairs; or a row for each fold, as `centred_scores` gives.
        same: whether a pair is of the same.
        folds: number of the fold of each pair, two folds or more.

    Returns:
        With all scores equal, accuracy 0.5 and `constant`, which is also logged.

    Raises:
        InputError: of other lengths, not cosines, one fold, or a fold without pairs of both kinds.

    Example:
        >>> scores = np.array([0.9, 0.2, 0.8, 0.1])
        >>> same = np.array([True, False, True, False])
        >>> print(fold_accuracy(scores, same, np.array([1, 1, 2, 2])))
        100.00 ± 0.00 %
    """
    numbers, fold = np.unique(folds, return_inverse=True)
    if len(numbers) < 2:
        raise InputError(
            f"folds must name two folds or more, got {len(numbers)}; choose a threshold on other "
            "pairs and give it to accuracy_at"
        )
    if folds.shape != same.shape:
        raise InputError(
            f"folds must have one number a pair, got {len(folds)} for {len(same)} pairs"
        )
    if scores.ndim == 2 and len(scores) != len(numbers):
        raise InputError(
            f"scores must be (pairs,), or a row for each of the {len(numbers)} folds, got "
            f"{len(scores)} rows"
        )
    rows = scores[None] if scores.ndim == 1 else scores
    checked = [_cosines(row, same) for row in rows]
    same = same.astype(bool)
    for place, number in enumerate(numbers):
        kinds = same[fold == place]
        if kinds.all() or not kinds.any():
            raise InputError(
                f"fold {number} holds no {'impostor' if kinds.all() else 'genuine'} pairs; every "
                "fold needs both kinds"
            )
    if all(is_constant(row) for row in checked):
        log.warning(
            "all %s scores are equal, so nothing is told apart and the accuracy is 50 %%: the "
            "features have collapsed",
            len(same),
        )
        half, threshold = (0.5,) * len(numbers), (float(checked[0][0]),) * len(numbers)
        return FoldAccuracy(0.5, 0.0, half, threshold, constant=True)
    correct = [_correct_by_fold(row, same, fold, len(numbers)) for row in checked]
    accuracies, thresholds = [], []
    for place in range(len(numbers)):
        row = place if scores.ndim == 2 else 0
        threshold = _best(correct[row].sum(axis=0) - correct[row][place])
        mine = fold == place
        thresholds.append(threshold)
        accuracies.append(_right(checked[row][mine], same[mine], threshold))
    spread = float(np.std(accuracies, ddof=1)) / math.sqrt(len(numbers))
    return FoldAccuracy(
        float(np.mean(accuracies)), spread, tuple(accuracies), tuple(thresholds), constant=False
    )


def accuracy_at(
    scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float
) -> float:
    """Share of pairs decided right at a threshold; a score that equals it is wrong either way.

    Raises:
        InputError: see `roc`.

    Example:
        >>> accuracy_at(np.array([0.9, 0.5, 0.1]), np.array([True, True, False]), 0.5)
        0.6666666666666666
    """
    return _right(*_checked(scores, same), threshold)


def best_threshold(scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> float:
    """The threshold of the grid with the highest accuracy; the mean where several have it.

    Raises:
        InputError: see `roc`; also scores that are no cosines.

    Example:
        >>> best_threshold(np.array([0.5, 0.1]), np.array([True, False]))
        0.3
    """
    scores = _cosines(scores, same)
    return _best(_correct_by_fold(scores, same, np.zeros(len(scores), np.int64), 1)[0])


def pair_scores(
    rows: Float[np.ndarray, "m d"], pairs: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, " n"]:
    """Cosine of the two rows of each pair, in float64.

    Args:
        rows: features, not zero.
        pairs: numbers of two rows.

    Raises:
        InputError: a row is not finite or zero, or a pair names no row.

    Example:
        >>> pair_scores(np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[0, 1]]))
        array([0.6])
    """
    _check_pairs(pairs, len(rows), "rows")
    return cosines(unit(rows, "rows"), pairs)


def centred_scores(
    rows: Float[np.ndarray, "m d"], pairs: Int[np.ndarray, "n 2"], folds: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "f n"]:
    """Cosines of all pairs, once for each fold, less the mean feature of all other folds.

    The mean is over both sides of their pairs, so that a row counts as often as it is compared;
    it is subtracted before rows are normalised.

    Args:
        rows: features.
        pairs: numbers of two rows.
        folds: number of the fold of each pair.

    Raises:
        InputError: a row is not finite, or equal to a mean; a pair names no row; one fold.

    Example:
        >>> rows = np.array([[1.0, 3.0], [1.0, -3.0], [2.0, 1.0], [0.0, 2.0]])
        >>> centred_scores(rows, np.array([[0, 1], [2, 3]]), np.array([1, 2])).round(2)
        array([[-1.  , -1.  ],
               [-1.  ,  0.32]])
    """
    _check_pairs(pairs, len(rows), "rows")
    numbers = np.unique(folds)
    if len(numbers) < 2 or len(folds) != len(pairs):
        raise InputError(
            "folds must give one number a pair, of two folds or more, got "
            f"{len(folds)} for {len(pairs)} pairs and {len(numbers)} folds"
        )
    wide = np.asarray(rows, np.float64)
    if not np.isfinite(wide).all():
        unit(rows, "rows")  # which says where
    found = []
    for number in numbers:
        mean = wide[pairs[folds != number].reshape(-1)].mean(axis=0)
        found.append(cosines(unit(wide - mean, "rows less their mean"), pairs))
    return np.stack(found)


def cosines(z: Float[np.ndarray, "m d"], pairs: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """Inner products of pairs of unit rows, which take the memory of some pairs at once."""
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        one, other = pairs[start : start + AT_ONCE].T
        found[start : start + AT_ONCE] = np.einsum("nd,nd->n", z[one], z[other])
    return found


def unit(rows: Float[np.ndarray, "m d"], name: str) -> Float[np.ndarray, "m d"]:
    """Rows of length 1 in float64.

    Raises:
        InputError: one is not finite, or zero.
    """
    wide = np.asarray(rows, np.float64)
    norms = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        what = "zero" if norms[bad[0]] == 0 else "NaN or infinite"
        raise InputError(
            f"{name} must be finite and not zero; {len(bad)} of {len(wide)} are not, first row "
            f"{bad[0]} ({what}); embed these items again or leave them out"
        )
    return wide / norms[:, None]


def is_constant(scores: Float[np.ndarray, " n"]) -> bool:
    """Whether scores differ by no more than rounding, as those of a collapsed model do."""
    return bool(scores.max() - scores.min() <= ROUNDING)


def threshold_for(scores: Float[np.ndarray, " n"], share: float, name: str) -> float:
    """The smallest threshold that at most a share of the scores lie above.

    Args:
        scores: in any order.
        share: in (0, 1).
        name: of the share, for a message.

    Raises:
        InputError: share outside (0, 1).

    Example:
        >>> threshold_for(np.array([0.1, 0.4, 0.3, 0.2]), 0.5, "fpir")
        0.2
    """
    return float(np.sort(scores)[-1 - _allowed(share, len(scores), name)])


def _allowed(share: float, n: int, name: str) -> int:
    """floor(share * n) of the decimal number: 0.29 of 100 are 29, not the 28 of binary floats."""
    if not 0 < share < 1:
        raise InputError(f"{name} must be above 0 and below 1, such as 0.001, got {share}")
    return math.floor(Fraction(repr(float(share))) * n)


def _above(
    ascending: Float[np.ndarray, " n"], thresholds: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    counts = len(ascending) - np.searchsorted(ascending, thresholds, "right")
    return counts / len(ascending)


def _right(
    scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float
) -> float:
    right = np.where(same, scores > threshold, scores < threshold)
    return int(right.sum()) / len(right)


def _correct_by_fold(
    scores: Float[np.ndarray, " n"],
    same: Bool[np.ndarray, " n"],
    fold: Int[np.ndarray, " n"],
    n_folds: int,
) -> Int[np.ndarray, "f t"]:
    """Pairs of each fold decided right at each threshold of the grid, by counting."""
    thresholds = np.arange(-GRID, GRID + 1) / GRID
    size = len(thresholds) + 1
    # right at thresholds[: below] where genuine, at thresholds[not_above:] where impostor
    below = np.searchsorted(thresholds, scores[same], "left")
    not_above = np.searchsorted(thresholds, scores[~same], "right")
    ends = np.bincount(fold[same] * size + below, minlength=n_folds * size)
    starts = np.bincount(fold[~same] * size + not_above, minlength=n_folds * size)
    genuine = np.bincount(fold[same], minlength=n_folds)
    change = (starts - ends).reshape(n_folds, size)
    return (genuine[:, None] + change.cumsum(axis=1))[:, :-1]


def _best(correct: Int[np.ndarray, " t"]) -> float:
    best = np.flatnonzero(correct == correct.max()) - GRID
    return int(best.sum()) / (len(best) * GRID)


def _cosines(
    scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    checked, _ = _checked(scores, same)
    if np.abs(checked).max() > 1 + ROUNDING:
        worst = checked[np.abs(checked).argmax()]
        raise InputError(
            f"scores must be cosines, from -1 to 1, since thresholds are, got {worst:g}; normalise "
            "the features, or scale the scores"
        )
    return checked


def _checked(
    scores: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    if scores.shape != same.shape:
        raise InputError(
            f"same must say for each score whether the pair is of the same, got {len(same)} for "
            f"{len(scores)} scores"
        )
    genuine = int(same.sum())
    if not 0 < genuine < len(same):
        kind = "impostor" if genuine else "genuine"
        raise InputError(
            f"there are no {kind} pairs among {len(same)}, so nothing can be measured; give pairs "
            "of both kinds"
        )
    scores = np.asarray(scores, np.float64)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise InputError(
            f"scores must be finite; {len(bad)} of {len(scores)} are not, first that of pair "
            f"{bad[0]}; look for NaN features"
        )
    return scores, same


def _check_pairs(pairs: Int[np.ndarray, "n 2"], n: int, name: str) -> None:
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < n:
        wrong = pairs.min() if pairs.min() < 0 else pairs.max()
        raise InputError(f"pairs must name {name} 0 to {n - 1}, got {wrong}")
