"""The triplet variational autoencoder on digits and clothes, and a better one.

    TUPELO_DATA=... python benchmarks/tvae.py                  # all parts, see PARTS
    TUPELO_DATA=... python benchmarks/tvae.py digits           # one part
    TUPELO_DATA=... python benchmarks/tvae.py digits --seeds 1
    TUPELO_DATA=... python benchmarks/tvae.py --quick          # a few steps, prints only

60,000 training triplets, 10,000 of test pictures, 10 epochs, batches of 120. Ours is chosen on
10,000 training digits that are set apart, then trained on all 60,000, and on clothes as it is.
Every cell is resumable, also within its training (benchmarks/runs/tvae); writes
docs/results/tvae.md and tvae.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import mkdtemp

from results import Page, seeds_summary
from tvae_cells import TVAE, VARIANTS, Plan, Variant, as_logged, cell

TITLE = "Triplet variational autoencoder"
SEEDS = (0, 1, 2)
MEASURED = "0 to 2, as many as the tables say"
WORKERS = 2
PARTS = {
    "digits": (Plan("mnist"), tuple(VARIANTS)),
    "clothes": (Plan("fashion_mnist"), ("VAE", "TVAE", "TVAE, margin 1", "triplets alone")),
}
FIRST = ("VAE", "TVAE", "ours")  # of which all seeds are measured before the rest
CHOSEN_ON = "mnist"
# ours: triplets drawn anew, cosine rate, and of these the best that rebuilds as well as TVAE
BETTER = replace(TVAE, fresh=True, schedule="cosine")
STEPS_TO_OURS = {
    "TVAE, cosine rate": replace(TVAE, schedule="cosine"),
    "TVAE, fresh triplets": replace(TVAE, fresh=True),
}
CANDIDATES = {
    f"margin {margin:g}, ELBO {weight:g}": replace(
        BETTER, margin=margin, weights=(weight, 1.0, 0.001)
    )
    for margin, weights in (
        (0.5, (0.01, 0.02)),
        (1.0, (0.01, 0.02, 0.03)),
        (2.0, (0.01, 0.02, 0.05)),
    )
    for weight in weights
}
SWEEPS = (5, 10, 25)  # of the test triplets within the last epoch
PUBLISHED = {"VAE": 75.08, "TVAE": 95.60}
COLUMNS = ("accuracy", "negative elbo", "reconstruction", "kl", "train accuracy", "as logged")


def choosing_cells() -> dict[str, tuple]:
    """TVAE and the candidates, judged by training digits set apart; one seed."""
    plan = Plan(CHOSEN_ON, choosing=True)
    tried = {"TVAE": TVAE, **CANDIDATES}
    keys = {f"{CHOSEN_ON}/choosing/{name}/0": variant for name, variant in tried.items()}
    return {key: (cell, key, variant, plan, 0) for key, variant in keys.items()}


def chosen(page: Page) -> tuple[str, bool] | None:
    """The candidate with the best accuracy among those that rebuild no worse than TVAE.

    Returns:
        Its name, and whether there was one; else that which rebuilds best. None before all are
        measured.
    """
    cells = page.numbers["cells"]
    keys = {name: f"{CHOSEN_ON}/choosing/{name}/0" for name in ("TVAE", *CANDIDATES)}
    if not all(key in cells for key in keys.values()):
        return None
    found = {name: cells[key] for name, key in keys.items()}
    limit = found.pop("TVAE")["negative elbo"]
    fine = [name for name, each in found.items() if each["negative elbo"] <= limit]
    if not fine:
        return min(found, key=lambda name: found[name]["negative elbo"]), False
    return max(fine, key=lambda name: found[name]["accuracy"]), True


def rows_of(page: Page, part: str) -> dict[str, Variant]:
    """The rows of the table of one part, ours last, once it is chosen."""
    _, names = PARTS[part]
    rows = {name: VARIANTS[name] for name in names}
    if part == "digits":
        rows |= STEPS_TO_OURS
    best = chosen(page)
    return rows if best is None else {**rows, "ours": CANDIDATES[best[0]]}


def key_of(page: Page, plan: Plan, name: str, seed: int) -> str:
    """Of a cell; ours has the name of the candidate that it is."""
    best = chosen(page) if name == "ours" else None
    return f"{plan.dataset}/{name if best is None else best[0]}/{seed}"


def measure(page: Page, part: str, seeds: Sequence[int], workers: int, first: bool) -> None:
    """What is missing of one part, of the first rows or of the others."""
    plan = PARTS[part][0]
    page.all(choosing_cells(), workers)
    for seed in seeds:  # a page with every row after the first seed
        rows = {
            name: each for name, each in rows_of(page, part).items() if (name in FIRST) == first
        }
        keys = {key_of(page, plan, name, seed): each for name, each in rows.items()}
        page.all({key: (cell, key, each, plan, seed) for key, each in keys.items()}, workers)


def runs(page: Page, plan: Plan, name: str) -> list[dict]:
    """The measured seeds of one row."""
    keys = [key_of(page, plan, name, seed) for seed in SEEDS]
    return [page.numbers["cells"][key] for key in keys if key in page.numbers["cells"]]


def shown(found: Sequence[dict], column: str) -> str:
    """Mean and spread over seeds; shares in per cent."""
    share = column in ("accuracy", "train accuracy", "as logged", "recall@1", "map@r")
    values = [100 * run[column] if share else run[column] for run in found]
    return seeds_summary(values, 2) if len(values) > 1 else f"{values[0]:.2f}"


def write_part(page: Page, part: str, title: str) -> None:
    """All rows of one data set."""
    plan = PARTS[part][0]
    table = []
    for name in rows_of(page, part):
        found = runs(page, plan, name)
        if found:
            numbers = [shown(found, column) for column in (*COLUMNS, "recall@1")]
            minutes = fmean(run["training seconds"] for run in found) / 60
            table.append([name, *numbers, f"{minutes:.1f}", len(found)])
    if not table:
        return
    best = chosen(page)
    told = f" Ours: {best[0]}, fresh triplets, cosine rate." if best else ""
    page.table(
        title,
        f"{plan.triplets:,} training triplets, {plan.epochs} epochs. Accuracy: share of "
        f"{plan.judged:,} triplets of test pictures, strict, per cent; -ELBO and its parts: nats a "
        "test picture. `train` is the running mean over the last epoch's training triplets, `as "
        "logged` what the meter of the authors' notebook would have shown, which takes training "
        "triplets and test sweeps together (here five). Recall@1: test pictures searching each "
        "other by the cosine of their means." + told,
        ["", "accuracy", "-ELBO", "reconstruction", "KL", "train", "as logged", "Recall@1",
         "minutes", "seeds"],
        table,
    )  # fmt: skip


def write_meter(page: Page) -> None:
    """The published numbers beside both of ours."""
    plan = PARTS["digits"][0]
    table = []
    for name, published in PUBLISHED.items():
        found = runs(page, plan, name)
        if found:
            mixed = [
                shown([{"as logged": _mixed(plan, run, count)} for run in found], "as logged")
                for count in SWEEPS
            ]
            numbers = [shown(found, column) for column in ("accuracy", "train accuracy")]
            table.append([name, f"{published:.2f}", *mixed, *numbers])
    if table:
        page.table(
            "The published 95.60 %",
            "In the notebook that printed it, one running mean took the training triplets of the "
            "last epoch and all test sweeps within it. `as logged` forms the same mixture from our "
            "runs for several numbers of sweeps, since that of the notebook is not known to us; "
            "`accuracy` is of test triplets alone, at the end. A clean implementation is not "
            "expected to reach 95.60 % on test triplets.",
            [
                "",
                "published",
                *(f"as logged, {count} sweeps" for count in SWEEPS),
                "accuracy",
                "train",
            ],
            table,
        )


def _mixed(plan: Plan, run: dict, count: int) -> float:
    return as_logged(plan, run["train accuracy"], fmean(run["sweeps"]), count)


def write_choice(page: Page) -> None:
    """What ours was chosen from."""
    best = chosen(page)
    if best is None:
        return
    table = []
    for name in ("TVAE", *CANDIDATES):
        found = page.numbers["cells"][f"{CHOSEN_ON}/choosing/{name}/0"]
        mark = " (chosen)" if name == best[0] else ""
        numbers = [shown([found], column) for column in COLUMNS[:4]]
        table.append([f"{name}{mark}", *numbers])
    rule = (
        "The best accuracy among those whose -ELBO is no worse than that of TVAE is taken."
        if best[1]
        else "None rebuilds as well as TVAE; the one that rebuilds best is taken."
    )
    page.table(
        "How ours was chosen",
        "Trained on 50,000 pictures, judged by 10,000 training digits set apart, one seed; "
        f"candidates draw triplets anew and lower the rate along a cosine. {rule} Neither the "
        "test part nor clothes play a role in the choice. The candidates with ELBO 0.03 and 0.05 "
        "were added after the other six had chosen margin 0.5, ELBO 0.02, which has 95.5 % on test "
        "triplets (two seeds).",
        ["", "accuracy", "-ELBO", "reconstruction", "KL"],
        table,
    )


def write(page: Page) -> None:
    """The page of what has been measured."""
    write_part(page, "digits", "MNIST")
    write_meter(page)
    write_choice(page)
    write_part(page, "clothes", "Fashion-MNIST")


def quick() -> None:
    """A few steps of every row, in a folder of its own."""
    folder = Path(mkdtemp())
    small = Plan("mnist", epochs=2, triplets=600, judged=500)
    for name, variant in {**VARIANTS, **STEPS_TO_OURS, **CANDIDATES}.items():
        print(name, cell(name, variant, small, 0, folder))
    print("choosing", cell("choosing", TVAE, replace(small, choosing=True), 0, folder))


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", default=tuple(PARTS), help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--quick", action="store_true", help="a few steps, no page")
    given = parser.parse_args()
    if given.quick:
        quick()
        return
    page = Page("tvae", TITLE)
    for first in (True, False):
        for part in given.parts:
            measure(page, part, SEEDS[: given.seeds], given.workers, first)
    write(page)
    page.write("python benchmarks/tvae.py", MEASURED)


if __name__ == "__main__":
    main()
