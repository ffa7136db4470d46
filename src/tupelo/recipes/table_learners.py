"""The learners that the command line knows for tables, by name, and how they are measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier

from tupelo.errors import InputError
from tupelo.tabular.columns import Columns, near

SCANS, SCANNED_ROWS = 20, 100_000  # the published number of passes, fewer over large tables
WORKS_BEFORE = (1, 8)  # scikit-learn that metric-learn 0.7.0 no longer works with


Make = Callable[[ndarray, int, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Learner:
    """A method by its name.

    Attributes:
        make: an unfitted estimator, from the classes of the rows it will be fitted to, a seed, and
            options of its constructor.
        about: a few words.
        rows: a fit takes so many at most, drawn with every class its share; None: all.
        unit: rows are divided by their length; standardised ones then get a constant feature.
        package: that it comes from.
    """

    make: Make
    about: str
    rows: int | None = None
    package: str = "tupelo"
    unit: bool = False


class Unchanged(TransformerMixin, BaseEstimator):
    """Rows as they are: Euclidean distance of the features."""

    def fit(self, X: ndarray, y: Any = None) -> "Unchanged":
        """Learns nothing."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: ndarray) -> ndarray:
        """The rows themselves."""
        return X


def _unchanged(y: ndarray, seed: int, options: Mapping[str, Any]) -> Any:
    return Unchanged(**options)


def _layers(layers: int) -> Make:
    def make(y: ndarray, seed: int, options: Mapping[str, Any]) -> Any:
        from tupelo.tabular import ODML

        scans = min(SCANS, max(1, SCANNED_ROWS // max(1, len(y))))
        return ODML(**{"n_layers": layers, "n_scans": scans, "random_state": seed, **options})

    return make


def _mio(y: ndarray, seed: int, options: Mapping[str, Any]) -> Any:
    from tupelo.tabular import MIOMetric

    return MIOMetric(**{"random_state": seed, "verbose": True, **options})


def _nca(y: ndarray, seed: int, options: Mapping[str, Any]) -> Any:
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    return NeighborhoodComponentsAnalysis(**{"random_state": seed, **options})


def _of_metric_learn(name: str) -> Make:
    def make(y: ndarray, seed: int, options: Mapping[str, Any]) -> Any:
        import metric_learn  # pyright: ignore[reportMissingImports]

        usual: dict[str, Any] = {} if name == "LFDA" else {"random_state": seed}
        if name == "LMNN":
            usual["n_neighbors"] = _neighbours(y)
        return getattr(metric_learn, name)(**{**usual, **options})

    return make


def _neighbours(y: ndarray) -> int:
    """Three of each class, or all others of the smallest one."""
    return int(min(3, np.unique(y, return_counts=True)[1].min() - 1))


LEARNERS: Mapping[str, Learner] = {
    "euclidean": Learner(_unchanged, "no metric: the features as they are"),
    "opml": Learner(_layers(1), "one layer learned in passes over the rows", unit=True),
    "odml": Learner(_layers(3), "three such layers with ReLU between them", unit=True),
    "mio": Learner(_mio, "weights of features by linear programs", rows=1_000),
    "nca": Learner(_nca, "scikit-learn's NCA", rows=1_000, package="scikit-learn"),
    "lmnn": Learner(_of_metric_learn("LMNN"), "metric-learn's LMNN", 500, "metric-learn"),
    "itml": Learner(
        _of_metric_learn("ITML_Supervised"), "metric-learn's ITML", 1_000, "metric-learn"
    ),
    "scml": Learner(
        _of_metric_learn("SCML_Supervised"), "metric-learn's SCML", 1_000, "metric-learn"
    ),
    "lfda": Learner(_of_metric_learn("LFDA"), "metric-learn's LFDA", 2_000, "metric-learn"),
}
FITTED = ("odml", "opml", "mio", "nca")
"""Learners that are saved."""


def make(name: str, y: ndarray, seed: int, options: Mapping[str, Any] | None = None) -> Any:
    """An unfitted estimator.

    Args:
        name: of `LEARNERS`.
        y: classes of the rows it will be fitted to, two of each.
        seed: of what it draws.
        options: of its constructor.

    Raises:
        InputError: an unknown name or option; close ones are given.
    """
    check_learner(name)
    given = dict(options or {})
    known = LEARNERS[name].make(y, seed, {}).get_params(deep=False)
    for option in given:
        if option not in known:
            hint = near(option, list(known)) or f"; it has {', '.join(known)}"
            raise InputError(f"--option {option}: {name} has no such option{hint}")
    return LEARNERS[name].make(y, seed, given)


def columns_of(name: str, table: Mapping[str, ndarray], *, standardize: bool) -> Columns:
    """How features are made of a table for a learner.

    Args:
        name: of `LEARNERS`.
        table: columns of the rows that are learned from.
        standardize: features are divided by their standard deviation.

    Raises:
        InputError: as `Columns.of`.
    """
    lifted = standardize and LEARNERS[name].unit
    return Columns.of(table, standardize=standardize, constant=lifted)


def check_learner(name: str) -> None:
    """A learner of this name is known.

    Raises:
        InputError: it is not.
    """
    if name not in LEARNERS:
        hint = near(name, list(LEARNERS)) or f"; there are {', '.join(LEARNERS)}"
        raise InputError(f"no learner is called {name!r}{hint}")


def unusable(name: str) -> str:
    """Why a learner cannot be used here, "" where it can."""
    if LEARNERS[name].package != "metric-learn":
        return ""
    try:
        of_peer, of_sklearn = version("metric-learn"), version("scikit-learn")
    except PackageNotFoundError:
        return "metric-learn is not installed"
    if of_peer == "0.7.0" and _numbers(of_sklearn) >= WORKS_BEFORE:
        return f"metric-learn 0.7.0 fails with scikit-learn {of_sklearn}; it needs one before 1.8"
    return ""


def installed() -> list[str]:
    """Names of all learners whose package is there, whether it works or not."""
    return [name for name in LEARNERS if not unusable(name).endswith("not installed")]


def sample(y: ndarray, at_most: int | None, seed: int) -> Int[ndarray, " n"]:
    """Places of rows to learn from in random order, every class with its share, two at least.

    A class with one row teaches no distance: its row is left out. Learners of streams depend on
    the order, and tables are often sorted by class.

    >>> sorted(sample(np.array(["a"] * 8 + ["b"] * 2 + ["c"]), 5, seed=0).tolist())[-2:]
    [8, 9]
    """
    numbers, counts = np.unique(y, return_inverse=True, return_counts=True)[1:]
    wanted = np.where(counts > 1, counts, 0)
    if at_most is not None and len(y) > at_most:
        share = np.maximum(2, np.floor(at_most * counts / len(y)).astype(int))
        wanted = np.minimum(wanted, share)
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(numbers == place))[:count]
        for place, count in enumerate(wanted)
    ]
    return rng.permutation(np.concatenate(chosen))


def accuracy(
    learner: Any,
    X: Float[ndarray, "n d"],
    y: ndarray,
    new: Float[ndarray, "m d"],
    labels: ndarray,
    k: int,
) -> float:
    """Share of new rows that their k nearest neighbours classify right.

    Args:
        learner: fitted.
        X: rows with known classes.
        y: their classes.
        new: rows to classify; X itself: each leaves itself out.
        labels: their true classes.
        k: neighbours, of which there are fewer where X has not so many rows.
    """
    own = new is X
    k = min(k, len(X) - own)
    if not embeds(learner):
        votes = KNeighborsClassifier(k, metric="precomputed").fit(np.zeros((len(X), len(X))), y)
        distances = learner.distances(new, X)
        if own:
            np.fill_diagonal(distances, 2 * distances.max() + 1)  # infinity is refused
        return float((votes.predict(distances) == labels).mean())
    known, asked = learner.transform(X), learner.transform(new)
    votes = KNeighborsClassifier(k).fit(known, y)
    if not own:
        return float((votes.predict(asked) == labels).mean())
    found = votes.kneighbors(None, return_distance=False)  # each without itself
    classes, numbers = np.unique(y, return_inverse=True)
    ballots = (numbers[found][:, :, None] == np.arange(len(classes))).sum(axis=1)
    return float((classes[ballots.argmax(axis=1)] == labels).mean())


def by_depth(
    learner: Any,
    X: Float[ndarray, "n d"],
    y: ndarray,
    new: Float[ndarray, "m d"],
    labels: ndarray,
    k: int,
) -> list[float]:
    """As `accuracy`, after each layer of a stack; [] where there is no stack."""
    layers = getattr(learner, "layers_", [])
    if len(layers) < 2:
        return []
    found = []
    for depth in range(1, len(layers) + 1):
        known, asked = (learner.transform_layer(rows, depth) for rows in (X, new))
        votes = KNeighborsClassifier(min(k, len(X))).fit(known, y)
        found.append(float((votes.predict(asked) == labels).mean()))
    return found


def embeds(learner: Any) -> bool:
    """Whether Euclidean distance after `transform` is the learned one, else `distances` tell."""
    return hasattr(learner, "components_") or not hasattr(learner, "distances")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
