"""What both online estimators share: rows checked once, classes numbered, memory of a stream."""

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy import ndarray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from tupelo.errors import InputError
from tupelo.tabular.inputs import unit_rows
from tupelo.tabular.online.triplets import TRIPLETS, Labels, Memory, same_kind

SLICE = 4096  # rows copied at a time


class Stream:
    """All that has been learned, and what is needed to go on; its size does not depend on the rows.

    Args:
        learner: its `learn(rows, numbers of classes, memory, options, unit=)` takes rows in order.
        unit: rows are divided by their length.
        negative, cold_start, seed: of the memory.

    Attributes:
        numbers, options: what the estimator was last told, and what it makes of it.
    """

    def __init__(self, learner: Any, unit: bool, negative: str, cold_start: bool, seed: int):
        self.learner, self.unit = learner, unit
        self.memory = Memory(learner.width, negative, cold_start, seed)
        self.labels = Labels()
        self.announced = np.array([])
        self.numbers: tuple = ()
        self.options: Any = None

    @property
    def classes(self) -> ndarray:
        """Labels seen or announced, in order."""
        found = [part for part in (self.labels.ordered, self.announced) if len(part)]
        return np.unique(np.concatenate(found)) if len(found) == 2 else found[0]

    def announce(self, classes: Any) -> None:
        """Name classes that may come later."""
        new = np.unique(np.asarray(classes))
        same_kind(new, self.classes if len(self.labels.names) or len(self.announced) else new)
        self.announced = np.union1d(self.announced, new) if len(self.announced) else new

    def learn(self, X: ndarray, y: ndarray, options: Any, order: ndarray | None = None) -> None:
        """Learn from checked rows, in this order."""
        for start in range(0, len(X), SLICE):
            part = slice(start, start + SLICE) if order is None else order[start : start + SLICE]
            rows, codes = X[part], self.labels.codes(y[part])
            # of one type, so that one compiled loop serves them all
            if not (rows.flags.writeable and rows.flags.c_contiguous and rows.dtype == np.float64):
                rows = np.array(rows, dtype=np.float64, order="C")
            self.memory.make_room(len(self.labels.names))
            self.learner.learn(rows, codes, self.memory, options, unit=self.unit)

    def learn_scans(
        self,
        X: ndarray,
        y: ndarray,
        options: Any,
        n_scans: int,
        shuffle: bool,
        rng: np.random.RandomState,
    ) -> None:
        """Learn from checked rows in several passes; the first takes them as they come."""
        self.learn(X, y, options)
        for _ in range(1, n_scans):
            self.begin_scan()
            self.learn(X, y, options, rng.permutation(len(X)) if shuffle else None)
        if self.memory.counts[TRIPLETS] == 0:
            warnings.warn(
                "no triplet could be formed: it takes two classes, and another row of one of them "
                "after both have been seen",
                stacklevel=3,
            )

    def begin_scan(self) -> None:
        """Forget who came last; keep what is learned."""
        self.memory.forget()
        self.labels = Labels()


def unchanged(names: tuple[str, ...], before: tuple, now: tuple) -> None:
    """Options that a stream keeps are what they were when it began.

    Raises:
        InputError: one is not.
    """
    if now != before:
        at = next(i for i, old in enumerate(before) if old != now[i])
        raise InputError(
            f"{names[at]} must stay {before[at]!r} as long as a stream goes on, got {now[at]!r}; "
            "call fit to begin anew"
        )


def with_numba(engine: str) -> bool:
    """Whether this engine is the compiled one."""
    return engine == "numba" or (engine == "auto" and find_spec("numba") is not None)


def rows_to_learn(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    first: bool,
    streaming: bool = False,
    classes: Any = None,
) -> tuple[ndarray, ndarray]:
    """Rows and labels, checked.

    What comes after the first rows of a stream as it came before, in plain arrays, is only looked
    at for NaN, infinity and zeros: checking what cannot be wrong takes longer than learning.

    Args:
        estimator: with `normalize` and `engine`.
        X, y: as they came.
        first: they say how many features there are.
        streaming: they may be of a stream that goes on.
        classes: labels that may come later; None: none are named.

    Raises:
        InputError: a row is all zeros, and rows are to be divided by their length; or labels cannot
            be ordered with each other, or with the classes.
        ValueError: in scikit-learn's words, y missing or continuous, NaN, infinity, sparse input,
            or another number of features than before.
    """
    unit, numba = estimator.normalize == "l2", with_numba(estimator.engine)
    plain = streaming and not first and is_plain(estimator, X, y)
    if not plain or not check_rows(X, unit=unit, numba=numba):
        X, y = validate_data(estimator, X, y, dtype=np.float64, reset=first)
        check_texts(y)
        check_classification_targets(y)
        check_rows(X, unit=unit, numba=numba)
    if classes is not None:
        same_kind(np.asarray(classes), y)
    return X, y


def check_texts(y: ndarray) -> None:
    """Labels that come as objects are all texts, or none is: only then can they be ordered.

    Raises:
        InputError: some are.
    """
    if y.dtype != object:
        return
    odd = [label for label in y if not isinstance(label, str)]
    if 0 < len(odd) < len(y):
        raise InputError(
            f"y must be labels of one kind, got {odd[0]!r} beside texts; convert them to one, or "
            "leave such rows out"
        )


def is_plain(estimator: Any, X: Any, y: Any) -> bool:
    """Whether these rows need no check but that of their numbers."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype == np.float64
        and X.shape[1] == estimator.n_features_in_
        and type(y) is np.ndarray
        and y.shape == X.shape[:1]
        and len(y) > 0
        and y.dtype.kind in "biuU"
        and not hasattr(estimator, "feature_names_in_")
    )


def check_rows(X: ndarray, *, unit: bool, numba: bool) -> bool:
    """Whether all numbers are finite.

    Raises:
        InputError: a row is all zeros, and rows are to be divided by their length.
    """
    for rows in slices(X):
        if numba:
            from tupelo.tabular.online.loops import first_bad

            bad, zero = first_bad(rows, unit)
        else:
            bad = -1 if np.isfinite(rows).all() else 0
            zero = -1 if not unit or rows.any(axis=1).all() else 0
        if bad >= 0:
            return False
        if zero >= 0:
            unit_rows(X)
    return True


def slices(X: ndarray) -> Iterator[ndarray]:
    """The rows, a few at a time, as arrays of one type."""
    for start in range(0, len(X), SLICE):
        rows = X[start : start + SLICE]
        plain = rows.flags.writeable and rows.flags.c_contiguous
        yield rows if plain else np.array(rows, order="C")
