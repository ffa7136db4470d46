"""HDML and IAA against the plain losses on unseen classes, and where the gains are.

    TUPELO_DATA=... python benchmarks/synthesis.py             # about 30 minutes, 2 idle cores
    TUPELO_DATA=... python benchmarks/synthesis.py --cost      # cost of a step, an idle machine
    TUPELO_DATA=... python benchmarks/synthesis.py --quick     # one seed of one data set, no page

Classes of training, validation and test are disjoint. Every cell has the same network, batches,
steps and choice of two rates; the rate is chosen on the validation classes with the first seed,
the last weights are measured once on the test classes. Resumable; writes docs/results/synthesis.md
and synthesis.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import mkdtemp

import torch

import synthesis_regimes as regimes
from results import Page, seeds_summary
from synthesis_cells import METHODS, Plan, costs, grid_cell, load, start, variants

SEEDS = (0, 1, 2)
WORKERS = 2
PLAN = Plan()
STARTS = ("frozen features", "untrained")
MEASURES = ("recall@1", "map@r")
DATASETS = {
    "cars196": "half of Cars196 (64 px crops): 83 training, 15 validation, 98 test classes; frozen "
    "ImageNet features",
    "cub200_half": "half of CUB (72 px crops): 49 training, 9 validation, 42 test classes; frozen "
    "ImageNet features",
    "omniglot": "523 training, 132 validation and 200 test characters of other alphabets; "
    "frozen features of a small ConvNet trained on ten other alphabets",
}

PARTS = ("asserted", *DATASETS, "regimes")


def cells(dataset: str, page: Page, seeds: Sequence[int]) -> dict[str, tuple]:
    """The cells of one data set, by key; after the first seed with the rate it chose."""
    found: dict[str, tuple] = {
        f"{dataset}/{kind}/{seed}": (start, dataset, PLAN, kind, seed)
        for kind in STARTS
        for seed in seeds
    }
    for method, variant in settings():
        first = page.numbers["cells"].get(f"{dataset}/{method}/{variant}/{SEEDS[0]}")
        plan = PLAN if first is None else replace(PLAN, rates=(first["rate"],))
        for seed in seeds:
            key = f"{dataset}/{method}/{variant}/{seed}"
            found[key] = (grid_cell, dataset, method, variant, plan, seed)
    return found


def settings() -> list[tuple[str, str]]:
    """Every loss with every variant it has."""
    return [(method, variant) for method in METHODS for variant in variants(method)]


def runs(page: Page, setting: str) -> list[dict]:
    """The measured seeds of one setting."""
    found = page.numbers["cells"]
    keys = [f"{setting}/{seed}" for seed in SEEDS]
    return [found[key] for key in keys if key in found]


def write_dataset(page: Page, dataset: str) -> None:
    """The table of one data set; a plus or minus where all seeds agree against plain."""
    table = []
    for kind in STARTS:
        here = runs(page, f"{dataset}/{kind}")
        if here:
            shown = [seeds_summary([run[name] for run in here]) for name in MEASURES]
            table.append([kind, "", shown[0], "", shown[1], "", ""])
    for method in METHODS:
        plain = runs(page, f"{dataset}/{method}/plain")
        for variant in variants(method):
            here = runs(page, f"{dataset}/{method}/{variant}")
            if len(here) < len(SEEDS) or len(plain) < len(SEEDS):
                continue
            row = [method, variant]
            for name in MEASURES:
                gains = [run[name] - seed[name] for run, seed in zip(here, plain, strict=True)]
                row.append(seeds_summary([run[name] for run in here]))
                row.append("" if variant == "plain" else f"{100 * fmean(gains):+.1f}{_all(gains)}")
            cost = page.numbers["cells"].get(f"cost/{method}")
            row.append(f"{cost['ratio'][variant]:.2f}" if cost else "")
            table.append(row)
    page.table(
        dataset,
        f"{DATASETS[dataset]}. Gains in points over plain, * where all {len(SEEDS)} seeds have "
        "that sign. Cost of a step as a multiple of plain, on these small networks.",
        ["loss", "variant", "R@1", "gain", "MAP@R", "gain", "cost"],
        table,
    )


def _all(gains: Sequence[float]) -> str:
    return "*" if all(g > 0 for g in gains) or all(g < 0 for g in gains) else ""


def conclude(page: Page, datasets: Sequence[str]) -> None:
    """How often each variant is above plain, over losses and data."""
    table = []
    for variant in ("EPS", *regimes.SYNTHESIS):
        for dataset in datasets:
            gains = {name: _gains(page, dataset, variant, name) for name in MEASURES}
            if not gains["recall@1"]:
                continue
            row = [variant, dataset]
            for found in gains.values():
                better = sum(fmean(one) > 0 for one in found.values())
                sure = sum(min(one) > 0 for one in found.values())
                worse = sum(max(one) < 0 for one in found.values())
                mean = 100 * fmean(fmean(one) for one in found.values())
                row += [f"{mean:+.1f}", f"{better} of {len(found)}", f"{sure} / {worse}"]
            table.append(row)
    page.table(
        "What the grid says",
        "Gain over plain in points, averaged over the losses; at how many losses the mean over "
        "seeds is above plain; at how many all seeds are above / all seeds are below it."
        + "".join(_remarks(page, datasets)),
        ["variant", "data", "R@1", "above", "sure", "MAP@R", "above", "sure"],
        table,
    )


def _remarks(page: Page, datasets: Sequence[str]) -> list[str]:
    """What a reader should know of a data set before comparing variants on it."""
    found = []
    for dataset in datasets:
        frozen = runs(page, f"{dataset}/frozen features")
        plain = [run for m in METHODS for run in runs(page, f"{dataset}/{m}/plain")]
        if not frozen or not plain:
            continue
        share = fmean(
            run["statistics"]["corrected"]
            for m in METHODS
            for run in runs(page, f"{dataset}/{m}/IAA")
        )
        none = ", so IAA with and without correction are the same" if share == 0 else ""
        levels = [fmean(run[name] for run in plain) for name in MEASURES]
        found.append(
            f" {dataset}: frozen features have R@1 {frozen[0]['recall@1']:.3f} and MAP@R "
            f"{frozen[0]['map@r']:.3f}, plain losses {levels[0]:.3f} and {levels[1]:.3f} in the "
            f"mean; {100 * share:.0f} % of its classes have few enough pictures for the "
            f"correction{none}."
        )
    return found


def _gains(page: Page, dataset: str, variant: str, name: str) -> dict[str, list[float]]:
    """Gains over plain of each seed, by loss."""
    found = {}
    for method in METHODS:
        here, plain = (
            runs(page, f"{dataset}/{method}/{variant}"),
            runs(page, f"{dataset}/{method}/plain"),
        )
        if here and len(here) == len(plain):
            found[method] = [a[name] - b[name] for a, b in zip(here, plain, strict=True)]
    return found


def write_costs(page: Page) -> None:
    """Milliseconds of a step, one thread, and of IAA's pass over the training set."""
    table = []
    for method in METHODS:
        cost = page.numbers["cells"].get(f"cost/{method}")
        if cost is None:
            return
        shown = [f"{cost['milliseconds']['plain']:.2f}"]
        for variant in ("EPS", "HDML", "HDML, detached", "IAA"):
            shown.append(f"{cost['ratio'][variant]:.2f}" if variant in cost["ratio"] else "")
        estimate = cost["pass milliseconds"]["IAA"]
        often = 4 * PLAN.epoch
        share = estimate / often / cost["milliseconds"]["plain"]
        table.append([method, *shown, f"{estimate:.0f}", f"{100 * share:.1f} %"])
    page.table(
        "Cost of a step, small networks",
        "cars196 features, one thread, variants taking turns, medians. Against a step as cheap as "
        "this the share of synthesis is as large as it can be; "
        "[training speed](training-speed.md) has it with a ResNet. The last two columns: one "
        f"estimation of IAA, and its share of a plain step when it is due every {4 * PLAN.epoch} "
        "steps.",
        ["loss", "plain, ms", "EPS", "HDML", "HDML, detached", "IAA", "estimate, ms", "a step"],
        table,
    )


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "parts",
        nargs="*",
        help="what to measure, in this order",
        default=list(PARTS),
        metavar="PART",
    )
    parser.add_argument("--quick", action="store_true", help="one seed of one data set, no page")
    parser.add_argument("--cost", action="store_true", help="measure the cost of a step too")
    parser.add_argument("--write", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    title = "Synthesis of embeddings: HDML and IAA"
    if options.quick:
        page = Page("synthesis", title, Path(mkdtemp()))
        load("cub200_half")
        page.all(cells("cub200_half", page, SEEDS[:1]), WORKERS)
        return
    page = Page("synthesis", title)
    if not options.write:
        for dataset in DATASETS:
            load(dataset)  # keeps the frozen features before the workers ask for them
        for part in options.parts:
            measure(page, part)
    if options.cost:
        torch.set_num_threads(1)
        for method in METHODS:
            page.once(f"cost/{method}", partial(costs, method, PLAN, turns=7, steps=20))
    regimes.conclude(page)
    conclude(page, list(DATASETS))
    regimes.write(page)
    for dataset in DATASETS:
        write_dataset(page, dataset)
    write_costs(page)
    page.write("python benchmarks/synthesis.py --cost", SEEDS, data=about())


def measure(page: Page, part: str) -> None:
    """Measure what is missing of a data set, of "asserted" or of "regimes"."""
    if part in DATASETS:
        page.all(cells(part, page, SEEDS[:1]), WORKERS)
        page.all(cells(part, page, SEEDS[1:]), WORKERS)
    else:
        page.all(regimes.cells(first=part == "asserted"), WORKERS)


def about() -> str:
    """The settings of the grid, in words."""
    return (
        f"Grid: f is Linear and ReLU to {PLAN.y}, the head batch normalisation and Linear to "
        f"{PLAN.z}; {PLAN.steps} steps of {PLAN.classes} x {PLAN.per_class}, Adam with rates "
        f"{' and '.join(map(str, PLAN.rates))} falling along a cosine, the better one on the "
        f"validation classes with seed {SEEDS[0]}. Not comparable with published numbers."
    )


if __name__ == "__main__":
    main()
