"""The baseline OASIS: a bilinear similarity, learned from the same triplets."""

from operator import attrgetter
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tupelo.errors import InputError
from tupelo.tabular.inputs import check_name, check_number, unit_rows
from tupelo.tabular.online.stream import Stream, rows_to_learn, unchanged, with_numba
from tupelo.tabular.online.triplets import NEGATIVES, SAMPLES, TRIPLETS, Memory, unit_row

GROUP = 512
LASTING = ("normalize", "negative", "random_state", "engine")
_lasting = attrgetter(*LASTING)


class Bilinear:
    """W of x^T W z, and its steps.

    Args:
        d: features.
        numba: compile the loop.
    """

    def __init__(self, d: int, numba: bool):
        self.W = np.eye(d)
        self.counts = np.zeros(1, np.int64)
        self.width = d
        self.numba = numba

    def learn(
        self,
        X: Float[ndarray, "n d"],
        codes: Int[ndarray, " n"],
        memory: Memory,
        options: float,
        *,
        unit: bool,
    ) -> None:
        """Learn from rows in their order.

        Raises:
            FloatingPointError: W became infinite or NaN.
        """
        if self.numba:
            self._learn_compiled(X, codes, memory, options, unit)
            return
        for row, code in zip(X, codes.tolist(), strict=True):
            x = unit_row(row.copy()) if unit else row.copy()
            found = memory.pair_up(x, code)
            if found is not None and not self._step(x, found[0] - found[1], options):
                raise _diverged(options, int(memory.counts[TRIPLETS]))

    def _step(self, x: ndarray, apart: ndarray, aggressiveness: float) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            loss = 1.0 - float(x @ self.W @ apart)
            square = float(x @ x) * float(apart @ apart)
        if not (abs(loss) < np.inf and square < np.inf):
            return False
        if loss > 0.0:
            rate = loss / square if loss < aggressiveness * square else aggressiveness
            self.W += np.outer(rate * x, apart)
            self.counts[0] += 1
        return True

    def _learn_compiled(
        self, X: ndarray, codes: ndarray, memory: Memory, options: float, unit: bool
    ) -> None:
        from tupelo.tabular.online import loops
        from tupelo.tabular.online.loops_oasis import learn_oasis

        size = min(GROUP, len(X))
        group = loops.Group(np.zeros((3 * size, self.width)), np.zeros(size, bool))
        apart = np.zeros((1, self.width))
        done = 0
        while done < len(X):
            before = int(memory.counts[TRIPLETS])
            done, m = loops.collect(
                *(X, codes, done, memory.latest, memory.counts, memory.negative),
                *(False, unit, False, group),
            )
            ended, t = learn_oasis(self.W, group, m, apart, options, self.counts)
            if ended != loops.DONE:
                raise _diverged(options, before + t + 1)


def _diverged(aggressiveness: float, triplet: int) -> FloatingPointError:
    return FloatingPointError(
        f"W became infinite or NaN at triplet {triplet} with aggressiveness={aggressiveness:g}: "
        "take rows of unit length (normalize='l2'), and fit again"
    )


class OASIS(BaseEstimator):
    """A bilinear similarity x^T W z, learned from the triplets of a stream: a baseline for `ODML`.

    W <- W + t x (p - q)^T with t = min(C, loss / (|x|^2 |p - q|^2)) and the loss
    [1 - x^T W p + x^T W q]+. W is not symmetric and no metric, so there is no `transform`.

    Source: Chechik, Sharma, Shalit, Bengio, "Large scale online learning of image similarity
    through ranking", JMLR 11, 2010.

    Args:
        aggressiveness: C, the largest step, > 0.
        n_scans: as in `ODML`.
        normalize: as there.
        negative: as there.
        shuffle: as there.
        random_state: as there.
        engine: as there.

    Attributes:
        matrix_: W (d, d), the identity at first.
        classes_, n_samples_seen_, n_triplets_: as in `ODML`.
        n_updates_: triplets with a loss.

    Example:
        >>> X, y = np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.2], [0.2, 1.0]]), [0, 1, 0, 1]
        >>> OASIS().fit(X, y).similarity(X[:1], X).round(2).tolist()
        [[1.06, 0.14, 1.04, 0.24]]
    """

    _stream: Stream

    @no_type_check  # what comes is checked when it is used, as scikit-learn asks
    def __init__(
        self,
        *,
        aggressiveness: float = 0.1,
        n_scans: int = 1,
        normalize: str | None = "l2",
        negative: str = "author",
        shuffle: bool = True,
        random_state: Any = None,
        engine: str = "auto",
    ):
        self.aggressiveness = aggressiveness
        self.n_scans = n_scans
        self.normalize = normalize
        self.negative = negative
        self.shuffle = shuffle
        self.random_state = random_state
        self.engine = engine

    def fit(self, X: Any, y: Any) -> "OASIS":
        """Learn from the beginning, in `n_scans` passes.

        Args:
            X: (n, d) numbers, rows in the order of the stream.
            y: n labels.

        Raises:
            InputError: an option out of its range, or a row of zeros to be divided by its length.
            ValueError: y missing or continuous, X with NaN or infinity, or sparse.
            FloatingPointError: W became infinite or NaN.
        """
        self._check_options()
        X, y = rows_to_learn(self, X, y, first=True)
        rng = check_random_state(self.random_state)
        self._begin(X.shape[1], rng)
        step = float(self.aggressiveness)
        self._stream.learn_scans(X, y, step, self.n_scans, self.shuffle, rng)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "OASIS":
        """Go on with the stream; however it is cut, the same is learned, to the last bit.

        Args:
            X: (n, d) rows.
            y: n labels; new classes may come at any time.
            classes: labels that may come, for `classes_`; not needed.

        Raises:
            InputError: as `fit`; `n_scans` above 1; or an option that a stream keeps has changed.
            ValueError, FloatingPointError: as `fit`.
        """
        self._check_options()
        if self.n_scans != 1:
            raise InputError(
                f"n_scans={self.n_scans} needs all rows at once: call fit, or partial_fit with "
                "n_scans=1 for each pass"
            )
        first = not self.__sklearn_is_fitted__()
        if not first:
            unchanged(LASTING, self._began_with, _lasting(self))
        X, y = rows_to_learn(self, X, y, first=first, streaming=True, classes=classes)
        if first:
            self._begin(X.shape[1], check_random_state(self.random_state))
        if classes is not None:
            self._stream.announce(classes)
        self._stream.learn(X, y, float(self.aggressiveness))
        return self

    def similarity(self, X: Any, Y: Any = None) -> Float[ndarray, "n m"]:
        """x^T W z of every row of X and every row of Y; the larger, the more alike.

        Args:
            X: (n, d) rows.
            Y: (m, d) rows; None: those of X.

        Raises:
            InputError: a row of zeros, where rows are divided by their length.
            ValueError: NaN, infinity, or another number of features.
        """
        check_is_fitted(self)
        left = self._rows(X)
        right = left if Y is None else self._rows(Y)
        return left @ self._stream.learner.W @ right.T

    @property
    def matrix_(self) -> Float[ndarray, "d d"]:
        """W; a copy."""
        return self._learned().learner.W.copy()

    @property
    def classes_(self) -> ndarray:
        """Labels seen so far, or announced, in order."""
        return self._learned().classes

    @property
    def n_samples_seen_(self) -> int:
        """Rows learned from, all scans counted."""
        return int(self._learned().memory.counts[SAMPLES])

    @property
    def n_triplets_(self) -> int:
        """Triplets formed."""
        return int(self._learned().memory.counts[TRIPLETS])

    @property
    def n_updates_(self) -> int:
        """Triplets with a loss."""
        return int(self._learned().learner.counts[0])

    def __sklearn_is_fitted__(self) -> bool:
        return "_stream" in self.__dict__

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _learned(self) -> Stream:
        if not self.__sklearn_is_fitted__():
            raise AttributeError("nothing is learned yet: call fit or partial_fit first")
        return self._stream

    def _rows(self, X: Any) -> Float[ndarray, "n d"]:
        rows: ndarray = validate_data(self, X, dtype=np.float64, reset=False)  # pyright: ignore[reportAssignmentType]
        return unit_rows(rows) if self._stream.unit else rows

    def _begin(self, d: int, rng: np.random.RandomState) -> None:
        seed = int(rng.randint(2**31 - 1))
        learner = Bilinear(d, with_numba(self.engine))
        self._stream = Stream(learner, self.normalize == "l2", self.negative, False, seed)
        self._began_with = _lasting(self)

    def _check_options(self) -> None:
        check_name("normalize", self.normalize, ("l2", None))
        check_name("negative", self.negative, NEGATIVES)
        check_name("engine", self.engine, ("auto", "numba", "numpy"))
        check_number("aggressiveness", self.aggressiveness, above=0)
        check_number("n_scans", self.n_scans, at_least=1, whole=True)
