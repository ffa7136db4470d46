"""Compare metrics on one table by repeated, stratified cross-validation.

    tupelo tabular compare flowers.csv --target species --out runs/flowers-compared

Expected time: about a minute for some hundred rows of ten features.
Expected result: accuracies of nearest neighbours with their spread, and the times of fits. Every
split is kept as soon as it is measured: repeating the command measures what is missing.
"""

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from scipy import stats
from sklearn.model_selection import RepeatedStratifiedKFold

from tupelo.errors import InputError
from tupelo.recipes.table_learners import (
    LEARNERS,
    accuracy,
    check_learner,
    columns_of,
    installed,
    make,
    sample,
    unusable,
)
from tupelo.recipes.table_writing import as_csv, replace
from tupelo.recipes.tables import Labelled, check_pairs_of_each
from tupelo.recipes.tabular import check_settings, notes_on
from tupelo.tabular.columns import Columns

CELLS, TABLE, NUMBERS = "splits.jsonl", "compared.csv", "compared.json"
BASE = "euclidean"
LEVEL = 0.95
log = logging.getLogger(__name__)


class CompareProgress(NamedTuple):
    """What a progress callback is told: splits done, splits in all, the method at work."""

    done: int
    total: int
    method: str


@dataclass(frozen=True)
class Score:
    """A method over all splits.

    Attributes:
        method: its name.
        accuracy: mean over splits; None where it failed.
        spread: standard deviation over splits.
        difference: mean over splits of its accuracy less that of Euclidean distance.
        interval: half the width of the 95 % interval of the difference, by the t-test corrected
            for training parts that overlap (Nadeau and Bengio, Machine Learning 52, 2003).
        seconds: mean of a fit.
        rows: that a fit took at most.
        failed: why it could not be measured, "" where it could.
    """

    method: str
    accuracy: float | None = None
    spread: float | None = None
    difference: float | None = None
    interval: float | None = None
    seconds: float | None = None
    rows: int | None = None
    failed: str = ""


@dataclass(frozen=True)
class Compared:
    """What a comparison came to.

    Attributes:
        scores: the best first, failed ones last.
        accuracies: of each method that was measured, one a split.
        folds, repeats, k: how it was measured.
        rows: labelled ones.
        features: that the table became.
        classes: names.
        notes: what was done to the table, and what could not be run.
        measured: splits measured now; the others were kept from before.
    """

    scores: list[Score]
    accuracies: dict[str, list[float]]
    folds: int
    repeats: int
    k: int
    rows: int
    features: int
    classes: list[str]
    notes: list[str]
    measured: int


def compare(
    data: Labelled,
    methods: Sequence[str] = (),
    *,
    out: Path | None = None,
    folds: int = 5,
    repeats: int = 3,
    k: int = 5,
    rows: int | None = None,
    standardize: bool = True,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[CompareProgress], None] | None = None,
) -> Compared:
    """Fit every method to the same training parts and classify the same test parts.

    Medians, means and deviations of features come from the training part of each split.

    Args:
        data: labelled rows.
        methods: names of `LEARNERS`; () for all that are installed. Euclidean distance is always
            measured.
        out: folder of results; splits it holds of the same comparison are not measured again.
        folds: parts of which each is the test part once.
        repeats: of that, with other parts.
        k: neighbours that classify.
        rows: a fit takes so many at most; None: what the method bears.
        standardize: features are divided by their standard deviation first.
        seed: of parts and learners.
        jobs: processes; times of fits are those of a busy machine where there are several.
        progress: called after every split.

    Raises:
        InputError: an unknown method, a class with one row, or numbers out of range.
    """
    check_settings(k=k, rows=rows)
    for value, argument, least in (
        (folds, "--folds", 2),
        (repeats, "--repeats", 1),
        (jobs, "--jobs", 1),
    ):
        if value < least:
            raise InputError(f"{argument} must be at least {least}, got {value}")
    for method in methods:
        check_learner(method)
    check_pairs_of_each(data)
    if folds > len(data.y) // 2:
        raise InputError(
            f"--folds must leave two rows to each part, got {folds} for {len(data.y)} rows"
        )
    columns = Columns.of(data.table.columns, standardize=standardize)
    wanted = list(dict.fromkeys([BASE, *(methods or installed())]))
    excused = {method: why for method in wanted if (why := unusable(method))}
    splits = list(_splits(data.y, folds, repeats, seed))
    settings = {"folds": folds, "repeats": repeats, "k": k, "rows": rows, "seed": seed}
    store = _Store(out, _fingerprint(data, {**settings, "standardize": standardize}))
    cells = {
        (method, place): (data, method, *split, k, rows, standardize, seed)
        for place, split in enumerate(splits)
        for method in wanted
        if method not in excused
    }
    missing = {key: cell for key, cell in cells.items() if key not in store.found}
    tell = progress or (lambda _: None)
    done = len(cells) - len(missing)
    for key, result in _measured(missing, jobs):
        store.add(key, result)
        done += 1
        tell(CompareProgress(done, len(cells), key[0]))
    found = {method: [store.found[method, n] for n in range(len(splits))] for method in wanted
             if method not in excused}  # fmt: skip
    compared = Compared(
        _scores(found, excused, folds),
        {method: [one["accuracy"] for one in cell] for method, cell in found.items()
         if not any(one["failed"] for one in cell)},
        folds, repeats, k, len(data.y), len(columns.features), np.unique(data.y).tolist(),
        [*data.notes, *notes_on(columns), *_notes(data, found, folds)], len(missing),
    )  # fmt: skip
    if out is not None:
        write(compared, out)
    return compared


def write(compared: Compared, out: Path) -> None:
    """The table of a comparison as CSV, and all its numbers as JSON."""
    header = list(Score.__dataclass_fields__)
    replace(
        out / TABLE, as_csv(header, [list(asdict(score).values()) for score in compared.scores])
    )
    replace(out / NUMBERS, (json.dumps(asdict(compared), indent=1) + "\n").encode())


class _Store:
    """Splits that are measured, one line each, of one comparison."""

    def __init__(self, out: Path | None, fingerprint: str):
        self.found: dict[tuple[str, int], dict[str, Any]] = {}
        self._path = None if out is None else out / CELLS
        if out is None or self._path is None:
            return
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not self._path.exists())):
            raise InputError(f"--out {out} holds other things; name a new folder")
        out.mkdir(parents=True, exist_ok=True)
        head = json.dumps({"comparison": fingerprint})
        lines = self._path.read_text().split("\n") if self._path.exists() else []
        if lines[:1] != [head]:
            if lines:
                log.warning("%s is of another table or other settings: measuring anew", out)
            replace(self._path, f"{head}\n".encode())
            return
        for line in lines[1:]:
            try:
                cell = json.loads(line)
            except ValueError:  # the process was killed while it wrote the last one
                continue
            self.found[cell["method"], cell["split"]] = cell
        whole = [head, *(json.dumps(cell) for cell in self.found.values())]
        replace(self._path, ("\n".join(whole) + "\n").encode())

    def add(self, key: tuple[str, int], result: dict[str, Any]) -> None:
        cell = {"method": key[0], "split": key[1], **result}
        self.found[key] = cell
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(cell) + "\n")
                file.flush()
                os.fsync(file.fileno())


def _fingerprint(data: Labelled, settings: Mapping[str, Any]) -> str:
    """Of all that a split's numbers depend on, but the method."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update("\0".join(data.y.tolist()).encode())
    for name, values in data.table.columns.items():
        digest.update(f"\0{name}\0".encode())
        digest.update(
            json.dumps(values.tolist()).encode() if values.dtype == object else values.tobytes()
        )
    return digest.hexdigest()


def _splits(y: ndarray, folds: int, repeats: int, seed: int) -> Iterator[tuple[ndarray, ndarray]]:
    with warnings.catch_warnings():
        # classes with fewer rows than folds are told of in a note
        warnings.filterwarnings("ignore", message="The least populated class")
        divided = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
        try:
            yield from divided.split(np.zeros((len(y), 1)), y)
        except ValueError as error:
            raise InputError(
                f"--folds {folds}: no class has so many rows; give fewer folds"
            ) from error


def _measured(
    cells: Mapping[tuple[str, int], tuple], jobs: int
) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Each as soon as it is there."""
    if jobs == 1 or len(cells) < 2:
        for key, cell in cells.items():
            yield _cell(key, *cell)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        alone: dict[str, Any] = {"batch_size": 1, "return_as": "generator_unordered"}
        work: Any = Parallel(n_jobs=jobs, **alone)
        yield from work(delayed(_cell)(key, *cell) for key, cell in cells.items())


def _cell(
    key: tuple[str, int],
    data: Labelled,
    method: str,
    train: ndarray,
    test: ndarray,
    k: int,
    rows: int | None,
    standardize: bool,
    seed: int,
) -> tuple[tuple[str, int], dict[str, Any]]:
    """Accuracy and time of one method on one split, or why there is none."""
    seen, new = data.table.rows(train), data.table.rows(test)
    y = data.y[train]
    chosen = sample(y, rows or LEARNERS[method].rows, seed)
    try:
        columns = columns_of(method, seen.columns, standardize=standardize)
        X = columns.encode(seen.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as no convergence: the accuracy tells
            started = time.perf_counter()
            learner = make(method, y[chosen], seed).fit(X[chosen], y[chosen])
            seconds = time.perf_counter() - started
            found = accuracy(learner, X, y, columns.encode(new.columns), data.y[test], k)
    except Exception as error:
        log.debug("%s failed", method, exc_info=True)
        return key, {"failed": f"{type(error).__name__}: {error}", "rows": len(chosen)}
    return key, {"failed": "", "accuracy": found, "seconds": seconds, "rows": len(chosen)}


def _scores(
    found: Mapping[str, list[dict[str, Any]]], excused: Mapping[str, str], folds: int
) -> list[Score]:
    scores = [Score(method, failed=why) for method, why in excused.items()]
    base = None
    if not any(one["failed"] for one in found[BASE]):
        base = np.array([one["accuracy"] for one in found[BASE]])
    for method, cells in found.items():
        why = [one["failed"] for one in cells if one["failed"]]
        if why:
            scores.append(Score(method, failed=f"{len(why)} of {len(cells)} splits: {why[0]}"))
            continue
        accuracies = np.array([one["accuracy"] for one in cells])
        gap = None if base is None or method == BASE else accuracies - base
        scores.append(
            Score(
                method,
                float(accuracies.mean()),
                float(accuracies.std(ddof=1)),
                None if gap is None else float(gap.mean()),
                None if gap is None else corrected_interval(gap, 1 / (folds - 1)),
                float(np.mean([one["seconds"] for one in cells])),
                max(one["rows"] for one in cells),
            )
        )
    return sorted(scores, key=lambda score: (bool(score.failed), -(score.accuracy or 0.0)))


def corrected_interval(differences: ndarray, ratio: float) -> float:
    """Half the width of the 95 % interval of a mean over splits whose training parts overlap.

    t sqrt((1 / n + ratio) variance): the variance of a mean of n splits is larger than that of n
    independent ones (Nadeau and Bengio, "Inference for the Generalization Error", 2003).

    Args:
        differences: one a split, two at least.
        ratio: test rows over training rows.

    >>> round(corrected_interval(np.array([0.0, 0.1, 0.2, 0.1]), 0.25), 4)
    0.1837
    """
    n = len(differences)
    width = np.sqrt((1 / n + ratio) * differences.var(ddof=1))
    return float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * width)


def _notes(data: Labelled, found: Mapping[str, list[dict[str, Any]]], folds: int) -> list[str]:
    notes = []
    classes, counts = np.unique(data.y, return_counts=True)
    small = classes[counts < folds].tolist()
    if small:
        notes.append(
            f"class{'es' * (len(small) > 1)} {', '.join(small[:5])}{', ...' * (len(small) > 5)} "
            f"with fewer rows than {folds} folds: some parts are without"
        )
    whole = min(len(train) for train, _ in _splits(data.y, folds, 1, 0))
    sampled = [
        f"{method} {most:,}"
        for method, cells in found.items()
        if (most := max(one["rows"] for one in cells)) < whole
    ]
    if sampled:
        notes.append(
            "fitted to a sample of the training rows, each class with its share: "
            f"{', '.join(sampled)} rows; --rows N takes more"
        )
    if "metric-learn is not installed" in {unusable(name) for name in LEARNERS}:
        notes.append("metric-learn is not installed: LMNN, ITML, SCML and LFDA are not compared")
    return notes
