"""What both online estimators share: rows checked once, classes numbered, memory of a stream."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from tupelo.tabular.inputs import unit_rows
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.triplets import Labels, Memory, same_kind

SLICE = 4096  # rows copied at a time


class Learner(Protocol):
    """Either engine of either estimator."""

    width: int

    def learn(
        self,
        X: Float[ndarray, "n d"],
        codes: Int[ndarray, " n"],
        memory: Memory,
        options: Options,
        *,
        unit: bool,
    ) -> None: ...


class Stream:
    """All that has been learned, and what is needed to go on; its size does not depend on the rows.

    Args:
        learner: takes rows and numbers of classes.
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

    def learn(self, X: ndarray, y: ndarray, options: Options, order: ndarray | None = None) -> None:
        """Learn from checked rows, in this order."""
        for start in range(0, len(X), SLICE):
            part = slice(start, start + SLICE) if order is None else order[start : start + SLICE]
            rows, codes = X[part], self.labels.codes(y[part])
            # of one type, so that one compiled loop serves them all
            if not (rows.flags.writeable and rows.flags.c_contiguous and rows.dtype == np.float64):
                rows = np.array(rows, dtype=np.float64, order="C")
            self.memory.make_room(len(self.labels.names))
            self.learner.learn(rows, codes, self.memory, options, unit=self.unit)

    def begin_scan(self) -> None:
        """Forget who came last; keep what is learned."""
        self.memory.forget()
        self.labels = Labels()


def with_numba(engine: str) -> bool:
    """Whether this engine is the compiled one."""
    return engine == "numba" or (engine == "auto" and find_spec("numba") is not None)


def checked(estimator: BaseEstimator, X: Any, y: Any, *, first: bool) -> tuple[ndarray, ndarray]:
    """Rows and labels as scikit-learn checks them.

    Raises:
        ValueError: in scikit-learn's words, y missing or continuous, NaN, infinity, sparse input,
            or another number of features than before.
    """
    X, y = validate_data(estimator, X, y, dtype=np.float64, reset=first)
    check_classification_targets(y)
    return X, y


def is_plain(estimator: Any, X: Any, y: Any) -> bool:
    """Whether these rows need no check but that of their numbers: arrays as they came before.

    Checking again what cannot be wrong would take longer than learning from a row.
    """
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
    finite = True
    for rows in slices(X):
        if numba:
            from tupelo.tabular.online.loops import first_bad

            bad, zero = first_bad(rows, unit)
        else:
            bad = -1 if np.isfinite(rows).all() else 0
            zero = -1 if not unit or rows.any(axis=1).all() else 0
        finite &= bad < 0
        if zero >= 0:
            unit_rows(X)
    return finite


def slices(X: ndarray) -> Iterator[ndarray]:
    """The rows, a few at a time, as arrays of one type."""
    for start in range(0, len(X), SLICE):
        rows = X[start : start + SLICE]
        plain = rows.flags.writeable and rows.flags.c_contiguous
        yield rows if plain else np.array(rows, order="C")
