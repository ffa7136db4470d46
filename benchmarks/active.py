"""Active learning: what to label next by regions, by uncertainty, or at random.

    TUPELO_DATA=... python benchmarks/active.py           # about 8 minutes, 2 idle cores
    TUPELO_DATA=... python benchmarks/active.py --quick   # two repeats of two sets, no page
    TUPELO_DATA=... python benchmarks/active.py --write   # only write the page anew

Six tenths of each set are the pool, the others are tested on. Every strategy begins with the same
20 labels drawn at random and asks for 10 at a time up to 80; labels of the pool are seen only where
they were asked for. Resumable; writes docs/results/active.md, active.json and active-curves.svg.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tabular_data as data
from active_picture import curves
from results import Page
from tupelo.tabular import ActiveLearner, MIOMetric

TITLE = "Active learning: regions, uncertainty, random"
SETS = ("iris", "wine", "wdbc", "breast", "ionosphere", "vehicle")
STRATEGIES = ("regions", "uncertainty", "random")
EUCLID = "random, Euclidean"
REPEATS = 16
LABELS = tuple(range(20, 81, 10))
VOTERS = 3
TESTED = 0.4  # of the rows; the rest is the pool
WORKERS = 2
METRIC = MIOMetric(n_neighbors=1, distortion=0.1)
PICTURE = "active-curves.svg"


def cell(name: str, strategy: str, repeats: int) -> dict:
    """Test accuracy after each question of every repeat, and the share of rows in regions."""
    accuracy, euclid, from_regions = [], [], []
    for seed in range(repeats):
        X, y = data.raw(name)
        pool, new = train_test_split(
            np.arange(len(y)), test_size=TESTED, random_state=seed, stratify=y
        )
        first, rest = pool[: LABELS[0]], pool[LABELS[0] :]
        learner = ActiveLearner(
            METRIC, X[first], y[first], budget=LABELS[-1] - LABELS[0], pool=X[rest],
            strategy=strategy, random_state=seed,
        )  # fmt: skip
        curve, plain, asked = [], [], []
        for _ in LABELS:
            votes = learner.metric().classifier(VOTERS)
            curve.append(float(votes.score(X[new], y[new])))
            euclidean = make_pipeline(StandardScaler(), KNeighborsClassifier(VOTERS))
            plain.append(float(euclidean.fit(learner.X, learner.y).score(X[new], y[new])))
            if learner.left:
                found = learner.ask(LABELS[1] - LABELS[0])
                rows = [one.row for one in found]
                asked += [one.region is not None for one in found]
                learner.tell_rows(rows, y[rest][rows])
        accuracy.append(curve)
        euclid.append(plain)
        from_regions.append(float(np.mean(asked)))
    return {"accuracy": accuracy, "euclid": euclid, "from_regions": from_regions}


def found(page: Page, name: str) -> dict[str, np.ndarray]:
    """Accuracies (repeats, questions) of each strategy, and of random rows without a metric."""
    cells = {s: page.numbers["cells"][f"{name}/{s}"] for s in STRATEGIES}
    return {s: np.array(one["accuracy"]) for s, one in cells.items()} | {
        EUCLID: np.array(cells["random"]["euclid"])
    }


def write(page: Page, sets: Sequence[str], repeats: int) -> None:
    """The page and its picture from what is measured."""
    measured = {name: found(page, name) for name in sets}
    (page.path.parent / PICTURE).write_text(curves(measured, LABELS, "labels", "accuracy"))
    page.text(
        "Learning curves",
        f"![Test accuracy over the number of labels]({PICTURE})\n\nMean test accuracy of "
        f"{VOTERS} nearest neighbours over {repeats} repeats; the band is the standard error.",
    )
    for name, curve in measured.items():
        rows = [
            [strategy, *(_mean(values[:, place]) for place in range(len(LABELS)))]
            for strategy, values in curve.items()
        ]
        page.table(name, _about(name), ["strategy", *map(str, LABELS)], rows)
    _differences(page, measured)
    page.write(
        "python benchmarks/active.py", range(repeats),
        data="Six tenths of each set are the pool, four are tested on; the same 20 first labels "
        "for all strategies, then 10 a question. Metric: the alternating linear program with k = "
        "1, margin 1 and distortion 0.1, standardised by the labelled rows alone.",
    )  # fmt: skip


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def _about(name: str) -> str:
    X, y = data.raw(name)
    return f"{len(X)} rows, {X.shape[1]} features, {len(np.unique(y))} classes."


def _differences(page: Page, measured: dict[str, dict[str, np.ndarray]]) -> None:
    """Regions against the others, repeat by repeat."""
    rows = []
    for name, curve in measured.items():
        row = [name]
        for other in ("random", "uncertainty"):
            gap = 100 * (curve["regions"] - curve[other])
            for values in (gap[:, LABELS.index(40)], gap[:, -1], gap[:, 1:].mean(axis=1)):
                error = values.std(ddof=1) / np.sqrt(len(values))
                row.append(f"{values.mean():+.1f} ± {error:.1f}")
        share = page.numbers["cells"][f"{name}/regions"]["from_regions"]
        rows.append([*row, f"{100 * np.mean(share):.0f} %"])
    page.table(
        "Regions against the others",
        "Points of accuracy by which regions are better, from the same repeats: at 40 and at 80 "
        "labels, and the mean from 30 to 80; ± the standard error. Last: rows that were chosen in "
        "a region, the others filled up by uncertainty.",
        [
            "set", "random, 40", "random, 80", "random, mean", "uncertainty, 40",
            "uncertainty, 80", "uncertainty, mean", "in regions",
        ],
        rows,
    )  # fmt: skip


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two repeats of two sets, no page")
    parser.add_argument("--write", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    sets, repeats = (SETS[:2], 2) if options.quick else (SETS, REPEATS)
    page = Page("active", TITLE, Path(mkdtemp())) if options.quick else Page("active", TITLE)
    if not options.write:
        keys = {f"{name}/{s}": (cell, name, s, repeats) for name in sets for s in STRATEGIES}
        page.all(keys, WORKERS)
    write(page, sets, repeats)
    print(page.path.with_suffix(".md"))


if __name__ == "__main__":
    main()
