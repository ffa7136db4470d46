"""Say which rows of a table to label next, and why.

    tupelo tabular ask cells.csv --target kind --out ask.csv

Rows of which the target is empty are the pool. Fill in the target of rows in `ask.csv`, or in the
table itself, and repeat the command: answers are read from both, and none is lost. Without a pool
the regions are written in which a new measurement would tell most.
Expected time: seconds for some hundred labelled rows.
"""

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tupelo.errors import DataError, InputError
from tupelo.recipes.table_learners import LEARNERS, make, sample
from tupelo.recipes.table_writing import as_csv
from tupelo.recipes.table_writing import replace as replace_file
from tupelo.recipes.tables import Labelled, Table, labelled, texts_of
from tupelo.recipes.tabular import notes_on
from tupelo.tabular.columns import Columns

FEW, FEW_DISTORTION = 40, 0.1  # below so many labels the metric stays nearer to Euclid
ROW, KIND, DOUBT, REASON = "row", "why", "uncertainty", "reason"
OWN = (ROW, KIND, DOUBT, REASON)


@dataclass(frozen=True)
class Question:
    """A row to label, or a region without one.

    Attributes:
        row: of the table, the first below the header is 1; None for a region.
        kind: "outlier", "boundary" or "uncertain".
        uncertainty: distance to the nearest class over that to the second nearest, 0 to 1.
        reason: a sentence.
        center: features of the row or of the centre of the region.
        lower, upper: the box around the region; None for a row that lies in none.
    """

    row: int | None
    kind: str
    uncertainty: float
    reason: str
    center: Float[ndarray, " d"]
    lower: Float[ndarray, " d"] | None = None
    upper: Float[ndarray, " d"] | None = None


@dataclass(frozen=True)
class Asked:
    """What was asked.

    Attributes:
        questions: the most telling first.
        learner: the metric behind them.
        columns: how features are made of the table; they are not scaled.
        X: features of labelled rows.
        y: their classes.
        pool: features of the others.
        answered: labels read from the file of earlier questions.
        answers: rows that were answered there, with their labels.
        notes: what was done.
    """

    questions: list[Question]
    learner: Any
    columns: Columns
    X: Float[ndarray, "n d"]
    y: ndarray
    pool: Float[ndarray, "p d"]
    answered: int
    answers: dict[int, str]
    notes: tuple[str, ...]


def ask(
    table: Table,
    target: str,
    out: Path,
    *,
    n: int = 10,
    drop: Sequence[str] = (),
    categories: Sequence[str] = (),
    regions: bool = False,
    rows: int | None = None,
    options: dict[str, Any] | None = None,
    seed: int = 0,
) -> Asked:
    """Fit a metric to the labelled rows and choose what to label next.

    Args:
        table: its target may be empty in part.
        target: the column of classes.
        out: where questions will be written; answers in it are read first.
        n: how many questions.
        drop: columns to leave out.
        categories: columns of numbers that are names.
        regions: ask for regions although there are rows to label.
        rows: the metric is fitted to so many labelled rows at most.
        options: of `MIOMetric`.
        seed: of what is drawn.

    Raises:
        InputError: as `labelled`, or n < 1, or a file at `out` that no question was written to.
        DataError: answers of another table.
    """
    if n < 1:
        raise InputError(f"--n must be at least 1, got {n}")
    table.check(target, "--target")
    answers = read_answers(out, table, target, drop)
    data = labelled(_answered(table, target, answers), target, drop=drop, categories=categories)
    columns = Columns.of(_joined(data).columns, standardize=False)
    X, pool = columns.encode(data.table.columns), columns.encode(data.unlabelled.columns)
    chosen = sample(data.y, rows or LEARNERS["mio"].rows, seed)
    if len(np.unique(data.y[chosen])) < 2:
        raise InputError(
            f"--target {target} must have two labelled rows of at least two classes, counts are "
            f"{_counts(data.y)}; label some by hand first"
        )
    given = dict(options or {})
    if len(chosen) < FEW:
        given = {"distortion": FEW_DISTORTION, **given}
    learner = make("mio", data.y[chosen], seed, given)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="constant features")  # among labelled rows yet
        learner.fit(X[chosen], data.y[chosen])
    asked = regions or not len(pool)
    suggestions = learner.recommend(None if asked else pool, n=n)
    places = data.places[chosen]
    questions = [
        _question(one, places, data.y[chosen], None if asked else data.unlabelled_places)
        for one in suggestions
    ]
    notes = [*(note for note in data.notes if "not learned from" not in note), *notes_on(columns)]
    if len(chosen) < len(data.y):
        notes.append(f"the metric was fitted to {len(chosen):,} of {len(data.y):,} labelled rows")
    return Asked(questions, learner, columns, X, data.y, pool, len(answers), answers, tuple(notes))


def write(asked: Asked, table: Table, target: str, out: Path) -> None:
    """Write what was asked as CSV: answered rows first, as they were, then new questions.

    Of rows with all their columns and an empty target; of regions the centre and, for every
    feature, from where to where.
    """
    if asked.questions and asked.questions[0].row is None:
        replace_file(out, _regions_csv(asked, target))
        return
    names = [name for name in table.columns if name != target]
    header = [ROW, target, KIND, DOUBT, REASON, *_apart(names)]
    values = {name: texts_of(table.columns[name]) for name in names}
    rows: list[list[Any]] = [
        [row, label, "answered", None, None, *(values[name][row - 1] for name in names)]
        for row, label in asked.answers.items()
    ]
    for one in asked.questions:
        cells = [] if one.row is None else [values[name][one.row - 1] for name in names]
        rows.append([one.row, None, one.kind, f"{one.uncertainty:.4f}", one.reason, *cells])
    replace_file(out, as_csv(header, rows))


def read_answers(out: Path, table: Table, target: str, drop: Sequence[str] = ()) -> dict[int, str]:
    """Labels that were filled into a file of questions, by row from 1.

    Raises:
        InputError: the file is none of questions about this target.
        DataError: a row is not there, or holds other values than the table.
    """
    if not out.exists():
        return {}
    try:
        with out.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header, cells = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--out {out} cannot be read: {error}; name a new file") from error
    if not {KIND, REASON, target} <= set(header):
        raise InputError(
            f"--out {out} is no file of questions about {target}; name a new one, or that of "
            "earlier questions"
        )
    if ROW not in header:  # regions, which hold no answers
        return {}
    names = [name for name in table.columns if name != target and name not in drop]
    known = dict(zip(names, _apart(names), strict=True))
    found = {}
    for line, row in enumerate(cells, 2):
        label = (row[target] or "").strip()
        if not label:
            continue
        try:
            number = int(row[ROW])
        except (TypeError, ValueError):
            number = 0
        if not 1 <= number <= len(table):
            raise DataError(f"{out}, line {line}: {table.name} has no row {row[ROW]!r}")
        for name, shown in known.items():
            own = texts_of(table.columns[name][number - 1 : number])[0] or ""
            if shown in row and row[shown] != own:
                raise DataError(
                    f"{out}, line {line}: row {number} has {shown} {row[shown]!r}, in {table.name} "
                    f"it is {own!r}; these questions are about another table, so name a new --out"
                )
        found[number] = label
    return found


def _apart(names: Sequence[str]) -> list[str]:
    """Names of columns that cannot be taken for those of the questions."""
    return [f"{name} (table)" if name in OWN else name for name in names]


def _answered(table: Table, target: str, answers: dict[int, str]) -> Table:
    if not answers:
        return table
    labels = texts_of(table.columns[target]).copy()
    for row, label in answers.items():
        labels[row - 1] = label
    if table.columns[target].dtype != object:  # classes written as numbers
        labels = np.array([_as_written(label) for label in labels], dtype=object)
    return replace(table, columns={**table.columns, target: labels})


def _as_written(label: str | None) -> str | None:
    """`1.0` and `1` are one class where classes are numbers."""
    try:
        return label if label is None else texts_of(np.array([float(label)]))[0]
    except ValueError:
        return label


def _joined(data: Labelled) -> Table:
    """Labelled and unlabelled rows: texts that only the pool holds are known too."""
    both = data.table.columns, data.unlabelled.columns
    return Table(data.table.name, {name: np.concatenate([both[0][name], both[1][name]])
                                   for name in both[0]})  # fmt: skip


def _counts(y: ndarray) -> str:
    classes, counts = np.unique(y, return_counts=True)
    return ", ".join(f"{label}: {count}" for label, count in zip(classes, counts, strict=True))


def _question(suggestion: Any, places: ndarray, y: ndarray, pool: ndarray | None) -> Question:
    row = None if pool is None else int(pool[suggestion.row]) + 1
    region = suggestion.region
    if region is None:
        reason = f"its two nearest classes are almost equally far, {suggestion.uncertainty:.2f}"
        return Question(row, "uncertain", suggestion.uncertainty, reason, suggestion.x)
    of = [f"row {places[point] + 1} ({y[point]})" for point in region.points]
    if region.kind == "outlier":
        reason = f"near {of[0]}, which lies among other classes: is its label right?"
    else:
        reason = f"between {of[0]} and {of[1]}, each the other's nearest of another class"
        if region.resolved:
            reason += "; another labelled row is there too"
    return Question(
        row, region.kind, suggestion.uncertainty, reason, suggestion.x, region.lower, region.upper
    )


def _regions_csv(asked: Asked, target: str) -> bytes:
    features = asked.columns.features
    header = [target, KIND, DOUBT, REASON]
    for name in features:
        header += [name, f"{name} from", f"{name} to"]
    rows = []
    for one in asked.questions:
        cells: list[Any] = [None, one.kind, f"{one.uncertainty:.4f}", one.reason]
        for place in range(len(features)):
            box = (one.lower, one.upper)
            cells += [
                f"{value:.6g}"
                for value in (
                    one.center[place],
                    *(one.center[place] if side is None else side[place] for side in box),
                )
            ]
        rows.append(cells)
    return as_csv(header, rows)
