"""A loop of questions and answers: ask for labels, tell them, and the metric learns on."""

from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.base import clone

from tupelo.errors import InputError
from tupelo.tabular.active.recommending import Suggestion
from tupelo.tabular.inputs import check_name, check_number

STRATEGIES = ("regions", "uncertainty", "random")


class ActiveLearner:
    """Asks for the labels that tell a metric most, until a budget is used up.

    Args:
        estimator: a `MIOMetric`, whose settings are copied. Each fit begins at the weights of the
            last one, and classes with few labels do not stop it.
        X: (n, d) rows that are labelled already; None: none are.
        y: their n labels.
        budget: labels that may be asked for.
        pool: (p, d) rows to choose from; None: regions are asked for, anywhere in the space of
            features.
        strategy: "regions": around outliers and between classes, then the most uncertain rows.
            "uncertainty": rows halfway between classes only. "random": any.
        random_state: draws rows for "random", and as long as fewer than two classes are known.

    Attributes:
        X, y: all labelled rows.
        left: labels that may still be asked for.
        unlabelled: rows of the pool without a label.

    Raises:
        InputError: an argument outside its range; X without y, or of another length.

    Example:
        >>> from tupelo.tabular import ActiveLearner, MIOMetric, rings
        >>> X, y = rings(100, np.random.default_rng(0))
        >>> learner = ActiveLearner(
        ...     MIOMetric(solver="scipy"), X[:20], y[:20], budget=15, pool=X[20:]
        ... )
        >>> while learner.left:
        ...     asked = [one.row for one in learner.ask(5)]
        ...     learner.tell_rows(asked, y[20:][asked])
        >>> len(learner.y), len(learner.unlabelled), learner.metric().n_features_in_
        (35, 65, 4)
    """

    def __init__(
        self,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        budget: int,
        pool: Any = None,
        strategy: str = "regions",
        random_state: int | np.random.Generator | None = None,
    ):
        if not hasattr(estimator, "recommend"):
            raise InputError(
                f"estimator must recommend rows, as MIOMetric does, got {type(estimator).__name__}"
            )
        check_number("budget", budget, at_least=1, whole=True)
        check_name("strategy", strategy, STRATEGIES)
        if pool is None and strategy != "regions":
            raise InputError(
                f"strategy {strategy!r} chooses from a pool; give one, or use 'regions'"
            )
        self.pool = None if pool is None else _table("pool", pool)
        self.budget = budget
        self.strategy = strategy
        self.X: Float[ndarray, "n d"] = np.empty((0, 0 if pool is None else self.pool.shape[1]))  # pyright: ignore[reportOptionalMemberAccess]
        self.y: ndarray = np.empty(0)
        self.unlabelled = np.arange(0 if self.pool is None else len(self.pool))
        self._told = 0
        self._random = np.random.default_rng(random_state)
        copied: Any = clone(estimator)
        self._metric = copied.set_params(warm_start=True, small_classes="ignore")
        self._stale = True
        if X is not None or y is not None:
            self._add(X, y)

    @property
    def left(self) -> int:
        """Labels that may still be asked for."""
        return max(0, self.budget - self._told)

    def ask(self, n: int = 10) -> list[Suggestion]:
        """What to label next; the same again where nothing was told in between.

        Args:
            n: at most so many, and at most as many as are left of the budget and of the pool.

        Raises:
            InputError: n < 1; the budget or the pool is used up; no pool, and labels of fewer
                than two classes.
        """
        check_number("n", n, at_least=1, whole=True)
        if not self.left:
            raise InputError(
                f"the budget of {self.budget} labels is used up; raise `budget` to ask on"
            )
        n = min(n, self.left)
        known = len(np.unique(self.y))
        if self.pool is None:
            if known < 2:
                raise InputError(
                    f"without a pool, labels of two classes must be told before regions can be "
                    f"asked for, got {known}"
                )
            return self.metric().recommend(n=n)
        if not len(self.unlabelled):
            raise InputError(f"all {len(self.pool)} rows of the pool are labelled")
        rows = self.pool[self.unlabelled]
        if known < 2:
            return self._drawn(n, "drawn at random, since fewer than two classes are known.")
        if not np.ptp(self.X, axis=0).any():
            return self._drawn(n, "drawn at random, since all labelled rows are the same.")
        if self.strategy == "random":
            return self._drawn(n, "drawn at random.")
        if self.strategy == "regions":
            found = self.metric().recommend(rows, n=n)
        else:
            doubt = self.metric().uncertainty(rows)
            order = np.argsort(-doubt, kind="stable")[:n]
            found = [
                Suggestion(int(row), rows[row], float(doubt[row]), None, _halfway(doubt[row]))
                for row in order
            ]
        return [self._of_pool(one) for one in found]

    def tell(self, X: Any, y: Any) -> None:
        """Labels of rows that were measured, wherever they lie.

        Args:
            X: (m, d) rows.
            y: their m labels.

        Raises:
            InputError: another number of features, numbers that are not finite, labels that are
                missing, no texts or whole numbers, or unlike those before, or as many rows as
                labels are not there. Nothing is kept of what is refused.
        """
        self._told += self._add(X, y)

    def tell_rows(self, rows: Any, y: Any) -> None:
        """Labels of rows of the pool.

        Args:
            rows: their numbers, as `Suggestion.row` gives them.
            y: their labels.

        Raises:
            InputError: there is no pool; a row that is not in it, comes twice or has a label; or
                as `tell`.
        """
        if self.pool is None:
            raise InputError("there is no pool whose rows could be told; use tell(X, y)")
        given = np.asarray(rows).reshape(-1)
        if len(given) and not np.issubdtype(given.dtype, np.integer):
            raise InputError(f"rows must be numbers of rows of the pool, got {given.dtype}")
        bad = given[~np.isin(given, self.unlabelled)]
        if len(bad):
            last = len(self.pool) - 1
            why = "has a label already" if 0 <= bad[0] <= last else f"is not within 0 to {last}"
            raise InputError(f"rows must be unlabelled rows of the pool, {bad[0]} {why}")
        if len(np.unique(given)) < len(given):
            raise InputError("rows must be different, one came twice")
        self.tell(self.pool[given.astype(int)], y)
        self.unlabelled = np.setdiff1d(self.unlabelled, given)

    def metric(self) -> Any:
        """The metric of all labels told until now.

        Raises:
            InputError: labels of fewer than two classes.
        """
        if self._stale:
            self._metric.fit(self.X, self.y)
            self._stale = False
        return self._metric

    def _add(self, X: Any, y: Any) -> int:
        if X is None or y is None:
            raise InputError("X and y must both be given, or neither")
        rows, labels = _table("X", X), _labels(y)
        if len(rows) != len(labels):
            raise InputError(f"X and y must be of one length, got {len(rows)} and {len(labels)}")
        features = self.X.shape[1] or rows.shape[1]
        if rows.shape[1] != features:
            raise InputError(f"X must have {features} features, got {rows.shape[1]}")
        if not len(rows):
            return 0
        if len(self.y) and (labels.dtype.kind in "US") != (self.y.dtype.kind in "US"):
            raise InputError(
                f"y must be labels like those before, {self.y[0].item()!r}, got "
                f"{labels[0].item()!r}"
            )
        self.y = np.concatenate([self.y, labels]) if len(self.y) else labels
        self.X = np.concatenate([self.X.reshape(-1, features), rows])
        self._stale = True
        return len(rows)

    def _drawn(self, n: int, reason: str) -> list[Suggestion]:
        assert self.pool is not None  # noqa: S101
        chosen = self._random.permutation(self.unlabelled)[:n]
        return [Suggestion(int(row), self.pool[row], np.nan, None, reason) for row in chosen]

    def _of_pool(self, one: Suggestion) -> Suggestion:
        """With the row of the whole pool."""
        assert one.row is not None  # noqa: S101
        row = int(self.unlabelled[one.row])
        return Suggestion(row, one.x, one.uncertainty, one.region, one.reason)


def _table(name: str, given: Any) -> Float[ndarray, "n d"]:
    try:
        rows = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a table of numbers: {error}") from error
    if rows.ndim != 2:
        raise InputError(f"{name} must be of shape (rows, features), got {rows.shape}")
    odd = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(odd):
        raise InputError(f"{name} must be finite, row {odd[0]} is {rows[odd[0]]}; leave it out")
    return rows


def _labels(given: Any) -> ndarray:
    labels = np.asarray(given).reshape(-1)
    if labels.dtype == object:  # columns of data frames
        kinds = (str, Real)
        if any(all(isinstance(one, kind) for one in labels) for kind in kinds):
            labels = np.asarray(labels.tolist())
    known = labels.dtype.kind in "USbiu"
    if labels.dtype.kind == "f":
        known = bool((np.isfinite(labels) & (labels == np.round(labels))).all())
    if not known:
        raise InputError(
            f"y must be labels, texts or whole numbers, and none may be missing; got "
            f"{labels.tolist()[:5]}"
        )
    return labels


def _halfway(doubt: float) -> str:
    return f"the two nearest classes are almost equally far: ratio {doubt:.3g}."
