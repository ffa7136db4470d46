"""Face verification: variants of the angular-discriminative loss and their rivals, equal budget.

    TUPELO_DATA=... python benchmarks/faces.py              # LFW and ORL, 3 seeds; resumable
    TUPELO_DATA=... python benchmarks/faces.py orl_faces    # one data set
    TUPELO_DATA=... python benchmarks/faces.py --quick      # an epoch of each, prints only

Labeled Faces in the Wild: the ten sets of people of its second view share nobody. People of sets 1
to 5 with two pictures or more train, and the pairs of folds 6 to 10 are tested; then the other way
round. So all ten folds are tested by networks that never saw their people. The threshold of a fold
is chosen on the four other folds of its half, whose embedding is the same. No choice was made on
any of these pairs: epochs, rate and batch were fixed before, for all alike. Writes
docs/results/faces.md and faces.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import mkdtemp

from faces_cells import Plan, cell
from results import Page, seeds_summary
from tupelo.recipes.faces import VARIANTS

TITLE = "Faces: angular-discriminative losses"
SEEDS = (0, 1, 2)
WORKERS = 2
PLANS = {
    "lfw": Plan("lfw"),
    "orl_faces": Plan("orl_faces", epochs=60, classes=10, per_class=4),
}
NAMES = {
    "softmax": "softmax",
    "basic": "basic constraint, m 0.9",
    "hard-mined": "hard-mined (violators)",
    "self-adaptive": "self-adaptive margin",
    "normalised": "normalised, s 30",
    "exponential": "exponential mean, s 30",
    "cosface": "CosFace, s 30",
    "arcface": "ArcFace, s 30",
}


def cells(dataset: str, seed: int) -> dict[str, tuple]:
    """Both halves of every variant, by key."""
    return {
        f"{dataset}/{variant}/{seed}/{half}": (
            cell,
            f"{dataset}/{variant}/{seed}/{half}",
            variant,
            PLANS[dataset],
            half,
            seed,
        )
        for variant in VARIANTS
        for half in (0, 1)
    }


def runs(page: Page, dataset: str, variant: str) -> list[list[dict]]:
    """Both halves of each seed that has both."""
    found = page.numbers["cells"]
    keys = [[f"{dataset}/{variant}/{seed}/{half}" for half in (0, 1)] for seed in SEEDS]
    return [[found[key] for key in both] for both in keys if all(key in found for key in both)]


def accuracies(found: Sequence[list[dict]]) -> list[float]:
    """Mean over all folds of each seed, per cent."""
    return [100 * fmean(fold for half in both for fold in half["per fold"]) for both in found]


def standard_error(found: Sequence[list[dict]]) -> float:
    """Over folds, mean of the seeds, per cent."""
    errors = []
    for both in found:
        folds = [fold for half in both for fold in half["per fold"]]
        errors.append(100 * stdev(folds) / len(folds) ** 0.5)
    return fmean(errors)


def write_set(page: Page, dataset: str, title: str, text: str) -> None:
    """One table."""
    plain = accuracies(runs(page, dataset, "softmax"))
    table = []
    for variant, name in NAMES.items():
        found = runs(page, dataset, variant)
        if not found:
            continue
        values = accuracies(found)
        gains = [a - b for a, b in zip(values, plain, strict=False)]
        gain = "" if variant == "softmax" or not gains else f"{fmean(gains):+.2f}"
        if gain and len(gains) > 1 and (min(gains) > 0 or max(gains) < 0):
            gain += "*"
        each = [half for both in found for half in both]
        row = [name, seeds_summary(values, 2), f"{standard_error(found):.2f}", gain]
        row.append(f"{fmean(half['auc'] for half in each):.4f}")
        row.append(f"{100 * fmean(half['eer'] for half in each):.2f}")
        row += [_share([half["tar"][far] for half in each]) for far in ("0.1", "0.01")]
        row += [_mean([half[what] for half in each]) for what in ("intra", "inter", "margin")]
        table.append([*row, f"{fmean(half['training seconds'] for half in each):.0f}", len(found)])
    if table:
        header = ["", "accuracy, %", "SE", "over softmax", "AUC", "EER, %", "TAR at FAR 0.1"]
        header += ["at 0.01", "intra", "inter", "margin", "seconds", "seeds"]
        page.table(title, text, header, table)


def _share(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * fmean(known):.1f} %" if known else "not measurable"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.2f}" if known else ""


def write(page: Page) -> None:
    """The page of what has been measured."""
    plan = PLANS["lfw"]
    write_set(
        page,
        "lfw",
        "Labeled Faces in the Wild",
        f"Crops at {plan.size} pixels, ConvNet from scratch, {plan.epochs} epochs of batches of "
        f"{plan.classes} x {plan.per_class}, SGD 0.05 with cosine, flipped pictures; people of "
        "sets 1 to 5 with two pictures train and folds 6 to 10 are tested, and the other way "
        "round, so nobody is in both. ± over seeds; SE: standard error over ten folds; * where all "
        "seeds have the sign. Thresholds from the four other folds of the half. Features of "
        "picture and mirror image joined. intra, inter: mean cosines with class weights at the "
        "end of training. Published systems have half a million pictures of other people to train "
        "on, and 99 %; here 4,500 train, from scratch.",
    )
    plan = PLANS["orl_faces"]
    write_set(
        page,
        "orl_faces",
        "ORL",
        f"Twenty people train, {plan.epochs} epochs of batches of {plan.classes} x "
        f"{plan.per_class}; all pairs of each ten of the other twenty are a fold, with as many "
        "pairs of different people; then the other way round.",
    )


def quick() -> None:
    """An epoch of every variant."""
    folder = Path(mkdtemp())
    for dataset, plan in PLANS.items():
        for variant in VARIANTS:
            key = f"{dataset}/{variant}"
            found = cell(key, variant, replace(plan, epochs=1), 0, 0, folder)
            print(key, [round(fold, 3) for fold in found["per fold"]], found["people"], flush=True)


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("datasets", nargs="*", default=tuple(PLANS), help=", ".join(PLANS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--quick", action="store_true", help="an epoch of each, no page")
    given = parser.parse_args()
    if given.quick:
        quick()
        return
    page = Page("faces", TITLE)
    for seed in SEEDS[: given.seeds]:
        for dataset in given.datasets:
            page.all(cells(dataset, seed), given.workers)
    write(page)
    page.write("python benchmarks/faces.py", "0 to 2, as many as the tables say")


if __name__ == "__main__":
    main()
