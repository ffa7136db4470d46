"""Learn a metric from a table of classes, measured on rows it did not see, and keep it.

    tupelo tabular fit flowers.csv --target species --out runs/flowers

Expected time: seconds for some hundred rows.
Expected result: the accuracy of nearest neighbours on a quarter of the rows, before and after; then
the metric of all rows in the folder, for `tupelo tabular embed` and `tupelo.tabular.load`.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tupelo.errors import InputError
from tupelo.recipes.table_learners import (
    FITTED,
    LEARNERS,
    accuracy,
    by_depth,
    check_learner,
    columns_of,
    embeds,
    make,
    sample,
)
from tupelo.recipes.tables import Labelled, check_pairs_of_each
from tupelo.tabular.columns import CONSTANT, Columns
from tupelo.tabular.saving import RECORD, TableMetric, save

HELD_OUT = 0.25  # of the rows of each class
Stage = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Attributes:
        metric: of all rows.
        X: features of the labelled rows.
        y: their classes.
        rows: that the metric was learned from.
        before: accuracy on held-out rows by Euclidean distance; None: none were held out.
        after: by the metric learned from the others.
        depths: accuracy on held-out rows before and after each layer of a stack; () for others.
        held_out: rows.
        seconds: of the fit to all rows.
        told: what the learner says of its fit, "" where it says nothing.
        notes: what was done to the table.
    """

    metric: TableMetric
    X: Float[ndarray, "n d"]
    y: ndarray
    rows: int
    before: float | None
    after: float | None
    depths: tuple[float, ...]
    held_out: int
    seconds: float
    told: str
    notes: tuple[str, ...]

    def transform(self, X: Float[ndarray, "n d"]) -> Float[ndarray, "n m"] | None:
        """The embedding of features; None where the metric has distances only."""
        learner = self.metric.learner
        return np.asarray(learner.transform(X)) if embeds(learner) else None


def fit(
    data: Labelled,
    method: str = "odml",
    *,
    options: Mapping[str, Any] | None = None,
    standardize: bool = True,
    rows: int | None = None,
    k: int = 5,
    held_out: float | int = HELD_OUT,
    seed: int = 0,
    stage: Stage | None = None,
) -> Fitted:
    """Measure a method on held-out rows, then fit it to all.

    Args:
        data: labelled rows.
        method: one of `FITTED`.
        options: of the learner's constructor.
        standardize: features are divided by their standard deviation first.
        rows: a fit takes so many at most; None: what the method bears.
        k: neighbours that classify.
        held_out: share of the rows of each class, 0 to measure nothing.
        seed: of all that is drawn.
        stage: told what begins.

    Raises:
        InputError: an unknown method or option, a class with one row, or numbers out of range.
    """
    check_learner(method)
    if method not in FITTED:
        raise InputError(f"--method must be one of {', '.join(FITTED)}, got {method!r}")
    check_settings(k=k, rows=rows)
    if not 0 <= held_out < 1:
        raise InputError(f"--held-out must be at least 0 and below 1, got {held_out}")
    check_pairs_of_each(data)
    tell = stage or (lambda _: None)
    at_most = rows or LEARNERS[method].rows
    make(method, data.y, seed, options)  # unknown options are refused before the work
    columns = columns_of(method, data.table.columns, standardize=standardize)
    X = columns.encode(data.table.columns)
    if LEARNERS[method].unit:
        _check_lengths(X, data.places)
    tested = _held_out(data.y, held_out, seed)
    before = after = None
    depths: tuple[float, ...] = ()
    if tested.any():
        tell("measuring on held-out rows")
        seen, new = np.flatnonzero(~tested), np.flatnonzero(tested)
        own = columns_of(method, data.table.rows(seen).columns, standardize=standardize)
        A, Z = (own.encode(data.table.rows(each).columns) for each in (seen, new))
        y, labels = data.y[seen], data.y[new]
        chosen = sample(y, at_most, seed)
        learner = _fitted(method, A[chosen], y[chosen], seed, options)[0]
        unchanged = make("euclidean", y, seed).fit(A)
        before, after = (accuracy(each, A, y, Z, labels, k) for each in (unchanged, learner))
        layers = by_depth(learner, A, y, Z, labels, k)
        depths = (before, *layers) if layers else ()
    tell("fitting")
    chosen = sample(data.y, at_most, seed)
    started = time.perf_counter()
    learner, warned = _fitted(method, X[chosen], data.y[chosen], seed, options)
    seconds = time.perf_counter() - started
    about = {
        "method": method,
        "options": dict(options or {}),
        "table": data.table.name,
        "rows": len(chosen),
        "k": k,
        "seed": seed,
        "held_out": {"rows": int(tested.sum()), "before": before, "after": after},
        "seconds": round(seconds, 3),
    }
    classes = tuple(np.unique(data.y).tolist())
    notes = [*data.notes, *notes_on(columns), *warned]
    if len(chosen) < len(data.y):
        notes.append(
            f"{method} was fitted to {len(chosen):,} of {len(data.y):,} rows, drawn with every "
            "class its share; --rows N takes more"
        )
    return Fitted(
        TableMetric(columns, learner, data.target, classes, about),
        X,
        data.y,
        len(chosen),
        before,
        after,
        depths,
        int(tested.sum()),
        seconds,
        str(learner.report()) if hasattr(learner, "report") else "",
        tuple(notes),
    )


def keep(fitted: Fitted, out: Path) -> None:
    """Save the metric of a fit.

    Raises:
        InputError: the folder holds something else.
    """
    check_place(out)
    save(fitted.metric, out)


def check_place(out: Path) -> None:
    """A folder may be written: it is not there, is empty, or holds a metric.

    Raises:
        InputError: it is a file, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).exists():
        raise InputError(f"--out {out} holds other things; name a new folder")


def check_settings(*, k: int, rows: int | None) -> None:
    """Numbers of neighbours and rows are possible.

    Raises:
        InputError: they are not.
    """
    if k < 1:
        raise InputError(f"--neighbours must be at least 1, got {k}")
    if rows is not None and rows < 4:
        raise InputError(f"--rows must be at least 4, got {rows}")


def weights(metric: TableMetric) -> list[tuple[str, float]]:
    """Features by their weight in the distance, the heaviest first.

    That of a feature is its entry in the diagonal of M, and where atoms of `MIOMetric` follow
    single features the sum of the weights of its atoms, whatever their powers. A stack of layers
    has no such weights; the list is empty.
    """
    found = _weights(metric.learner)
    if found is None:
        return []
    names = metric.columns.features
    order = np.argsort(-found, kind="stable")
    return [(names[place], float(found[place])) for place in order if names[place] != CONSTANT]


def _weights(learner: Any) -> ndarray | None:
    atoms = getattr(learner, "atoms_", None)
    rows = getattr(atoms, "rows", None)
    if rows is not None and ((rows != 0).sum(axis=1) == 1).all():
        found = np.zeros(len(learner.constant_))
        found[~learner.constant_] = (rows != 0).T @ learner.weights_
        return found
    components = getattr(learner, "components_", None)
    return None if components is None else (components**2).sum(axis=0)


def notes_on(columns: Columns) -> list[str]:
    """What was done to the columns of a table, one sentence each."""
    found = []
    missing = [column for column in columns.columns if column.missing]
    if missing:
        listed = ", ".join(f"{column.name} {column.missing:,}" for column in missing[:6])
        filled = sum(column.missing for column in missing)
        found.append(
            f"{filled:,} missing values became the median or most frequent of their column: "
            f"{listed}{', ...' * (len(missing) > 6)}"
        )
    texts = [column for column in columns.columns if column.categories]
    if texts:
        listed = ", ".join(f"{column.name} {len(column.features)}" for column in texts[:6])
        found.append(f"text became features, one a text: {listed}{', ...' * (len(texts) > 6)}")
    if columns.constant:
        found.append("a constant feature was added, since rows are divided by their length")
    if columns.left_out:
        listed = ", ".join(columns.left_out[:6]) + ", ..." * (len(columns.left_out) > 6)
        found.append(f"columns with one value or none are left out: {listed}")
    return found


def _check_lengths(X: ndarray, places: ndarray) -> None:
    empty = np.flatnonzero(~X.any(axis=1))
    if len(empty):
        raise InputError(
            f"row {places[empty[0]] + 1} is all zeros, and rows are divided by their length; leave "
            "it out, do without --no-scale, or give --option normalize=null"
        )


def _fitted(
    method: str, X: ndarray, y: ndarray, seed: int, options: Mapping[str, Any] | None
) -> tuple[Any, list[str]]:
    """A fitted learner, and what it warned of."""
    learner = make(method, y, seed, options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner.fit(X, y)
    return learner, list(dict.fromkeys(str(one.message) for one in caught))


def _held_out(y: ndarray, share: float | int, seed: int) -> ndarray:
    """Marks of held-out rows: the share of each class, one at least stays."""
    rng = np.random.default_rng(seed)
    marks = np.zeros(len(y), dtype=bool)
    if not share:
        return marks
    for label in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == label))
        marks[places[: min(len(places) - 1, round(share * len(places)))]] = True
    return marks
