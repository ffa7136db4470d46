"""Few-shot learning on characters and in colour: prototypes, large margins, matching networks.

    TUPELO_DATA=... python benchmarks/fewshot_results.py            # all parts, see PARTS
    TUPELO_DATA=... python benchmarks/fewshot_results.py margins    # one part
    TUPELO_DATA=... python benchmarks/fewshot_results.py --cost     # of a step, an idle machine
    TUPELO_DATA=... python benchmarks/fewshot_results.py --quick    # a few steps, prints only

Omniglot: background alphabets in four turns to train, a tenth of their characters to choose the
weights on, all 659 characters of the evaluation alphabets to test. Every cell is resumable, also
within its training (benchmarks/runs/fewshot); writes docs/results/fewshot.md and fewshot.json.
Graph networks: benchmarks/fewshot_graphs.py, of whose numbers this page shows the main ones.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from tempfile import mkdtemp

from fewshot_cells import METHODS, TASKS, Plan, cell, cost
from results import Page, seeds_summary

TITLE = "Few-shot learning: characters and colour"
SEEDS = (0, 1, 2)
MEASURED = "0 to 2, as many as the tables say"
WORKERS = 2
OMNIGLOT = Plan("omniglot", 28, ways=20, shots=1, queries=15, steps=400, halve_every=100, every=100)
FULL = replace(OMNIGLOT, ways=60, queries=5, steps=5000, halve_every=800, every=250, turned=True)
FULL5 = replace(FULL, shots=5, steps=2500, halve_every=400, tasks=("5w5s", "20w5s"))
COLOUR = Plan(
    "tiny_imagenet_fewshot", 32, ways=20, shots=1, queries=15, steps=400, halve_every=100, every=200
)
PARTS: dict[str, tuple[Plan, tuple[str, ...]]] = {
    "margins": (OMNIGLOT, tuple(METHODS)),
    "full": (FULL, ("PN, Euclidean",)),
    "full 5": (FULL5, ("PN, Euclidean",)),
    "five": (replace(OMNIGLOT, shots=5, tasks=("5w5s", "20w5s")), tuple(METHODS)),
    "colour": (COLOUR, tuple(METHODS)),
}
PUBLISHED = {"5w1s": 98.8, "5w5s": 99.7, "20w1s": 96.0, "20w5s": 98.9}
LAYOUTS = ((20, 1, 15), (20, 5, 15), (60, 1, 5))  # whose cost is measured


def setting(plan: Plan, method: str) -> str:
    """The key of a cell without its seed."""
    episode = f"{plan.ways} ways, {plan.shots} shots, {plan.queries} queries"
    return f"{plan.dataset}/{plan.steps} steps of {episode}/{method}"


def cells(part: str, seeds: Sequence[int]) -> dict[str, tuple]:
    """The cells of one part, by key."""
    plan, methods = PARTS[part]
    keys = {
        f"{setting(plan, method)}/{seed}": (method, seed) for seed in seeds for method in methods
    }
    return {key: (cell, key, method, plan, seed) for key, (method, seed) in keys.items()}


def runs(page: Page, plan: Plan, method: str) -> list[dict]:
    """The measured seeds of one setting."""
    keys = [f"{setting(plan, method)}/{seed}" for seed in SEEDS]
    return [page.numbers["cells"][key] for key in keys if key in page.numbers["cells"]]


def accuracies(found: Sequence[dict], task: str, of: str = "test") -> str:
    """Mean and spread over seeds in per cent, and the interval over episodes."""
    if not found or task not in found[0][of]:
        return ""
    values = [100 * run[of][task]["accuracy"] for run in found]
    interval = fmean(100 * run[of][task]["interval"] for run in found)
    shown = seeds_summary(values, 2) if len(values) > 1 else f"{values[0]:.2f}"
    return f"{shown} ({interval:.2f})"


def write_full(page: Page) -> None:
    """Prototypical networks by the published recipe, against the published numbers."""
    one, five = (runs(page, PARTS[part][0], "PN, Euclidean") for part in ("full", "full 5"))
    if not one:
        return
    table = [
        ["published, another split", *(f"{PUBLISHED[task]:.1f}" for task in TASKS), "", "", ""]
    ]
    for of, text in (("turned", "turned characters are classes too"), ("test", "upright")):
        for name, plan, found in (("1 shot", FULL, one), ("5 shots", FULL5, five)):
            if found:
                minutes = median(run["training seconds"] for run in found) / 60
                row = [f"trained with {name}; tested: {text}"]
                row += [accuracies(found, task, of) for task in TASKS]
                table.append([*row, f"{plan.steps:,}", f"{minutes:.0f}", len(found)])
    page.table(
        "Prototypical networks, the full recipe",
        "60-way episodes with 5 queries a class, Conv4-64, turned characters as further classes, "
        f"Adam 1e-3 halved every {FULL.halve_every} and {FULL5.halve_every} steps (published: "
        "2,000, for training that goes on until validation has not improved for 20,000). Per cent; "
        f"± over seeds, in brackets half the 95 % interval over {FULL.episodes:,} episodes. The "
        "published numbers are for characters divided at random, so that an alphabet is in all "
        "parts, and for turned test characters as classes of their own. Minutes are of one core of "
        "this machine, while the other was busy too.",
        ["", *TASKS, "steps", "minutes", "seeds"],
        table,
    )


def write_part(page: Page, part: str, title: str, text: str) -> None:
    """Accuracy of every method of a part."""
    plan, methods = PARTS[part]
    table = []
    for method in methods:
        found = runs(page, plan, method)
        if found:
            margin = fmean(run["present margin"] for run in found)
            minutes = median(run["training seconds"] for run in found) / 60
            row = [method, *(accuracies(found, task) for task in plan.tasks)]
            table.append([*row, f"{margin:.2f}" if margin else "", f"{minutes:.1f}", len(found)])
    if table:
        page.table(title, text, ["", *plan.tasks, "m", "minutes", "seeds"], table)


def write_gains(page: Page) -> None:
    """What margins add, by seed."""
    table = []
    for part in ("margins", "five", "colour"):
        plan, methods = PARTS[part]
        for name in [each for each in methods if each.startswith("L-PN") or "+" in each]:
            plain = runs(page, plan, name.split(" +")[0].removeprefix("L-"))
            found = runs(page, plan, name)
            if not found or len(found) != len(plain):
                continue
            shown = []
            for task in plan.tasks:
                pairs = zip(found, plain, strict=True)
                gains = [
                    100 * (a["test"][task]["accuracy"] - b["test"][task]["accuracy"])
                    for a, b in pairs
                ]
                sure = "*" if len(gains) > 1 and (min(gains) > 0 or max(gains) < 0) else ""
                shown.append(f"{task} {fmean(gains):+.1f}{sure}")
            table.append([f"{plan.dataset}, {plan.shots} shot", name, ", ".join(shown)])
    if table:
        page.table(
            "What the margin adds",
            "Points over the same network without it, same seeds and episodes; * where all seeds "
            "have the sign.",
            ["trained on", "method", "gain"],
            table,
        )


def write_graphs(page: Page) -> None:
    """The rows of graph networks, from their own page."""
    source = page.path.with_name("fewshot-graphs.json")
    if not source.exists():
        return
    found: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for key, run in json.loads(source.read_text())["cells"].items():
        if key.count("/") != 4:
            continue
        dataset, steps, task, method, _ = key.split("/")
        if method in ("GNN", "L-GNN") and task in TASKS:
            found.setdefault((dataset, method), {}).setdefault(f"{steps}|{task}", []).append(run)
    table = []
    for (dataset, method), settings in sorted(found.items()):
        for name, each in sorted(settings.items()):
            steps, task = name.split("|")
            values = [100 * run["accuracy"] for run in each]
            interval = fmean(100 * run["interval"] for run in each)
            table.append(
                [
                    dataset,
                    task,
                    method,
                    steps,
                    f"{seeds_summary(values, 2)} ({interval:.2f})",
                    len(each),
                ]
            )
    if table:
        page.table(
            "Graph networks",
            "One network for each task, as its width depends on the ways; from "
            "[their own page](fewshot-graphs.md), which has the comparison.",
            ["data", "task", "method", "training", "accuracy", "seeds"],
            table,
        )


def write_costs(page: Page) -> None:
    """What the margin adds to a step."""
    table = []
    for ways, shots, queries in LAYOUTS:
        found = page.numbers["cells"].get(f"cost/{ways}/{shots}/{queries}")
        if found is not None:
            more = 100 * (found["L-PN"] / found["PN"] - 1)
            name = f"{ways} ways, {shots} shots, {queries} queries"
            table.append([name, f"{found['PN']:.0f}", f"{found['L-PN']:.0f}", f"{more:+.1f} %"])
    if table:
        page.table(
            "Cost of the margin",
            "Milliseconds of a training step, medians of steps that take turns; published: + 3.8 % "
            "on a GPU.",
            ["episode", "PN", "L-PN", "more"],
            table,
        )


def write(page: Page) -> None:
    """The page of what has been measured."""
    write_full(page)
    write_part(
        page,
        "margins",
        "Omniglot: margins, cosines, attention",
        f"Conv4-64, {OMNIGLOT.steps} training episodes of 20 ways, 1 shot and 15 queries; the same "
        "weights are tested in all four tasks, upright characters. m is the margin its rule gave.",
    )
    write_part(
        page,
        "five",
        "Omniglot, trained with five shots",
        f"As above, {OMNIGLOT.steps} episodes of 20 ways, 5 shots and 15 queries.",
    )
    write_part(
        page,
        "colour",
        "Colour: tiny_imagenet_fewshot",
        f"120 classes train, 30 choose the weights, 50 test; {COLOUR.size} pixels, Conv4-64, "
        f"{COLOUR.steps} episodes of 20 ways, 1 shot and 15 queries.",
    )
    write_gains(page)
    write_graphs(page)
    write_costs(page)


def quick() -> None:
    """A few steps of every method, in a folder of its own."""
    folder = Path(mkdtemp())
    for part, (plan, methods) in PARTS.items():
        small = replace(plan, ways=20, steps=4, every=2, width=8, episodes=50)
        for method in methods:
            found = cell(f"{part}/{method}", method, small, 0, folder)
            print(part, method, found["test"])


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", default=tuple(PARTS), help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--cost", action="store_true", help="measure the cost of a step alone")
    parser.add_argument("--quick", action="store_true", help="a few steps, no page")
    given = parser.parse_args()
    if given.quick:
        quick()
        return
    page = Page("fewshot", TITLE)
    if given.cost:
        for each in LAYOUTS:
            page.once("cost/" + "/".join(map(str, each)), lambda each=each: cost(*each))
    else:
        for seed in SEEDS[: given.seeds]:  # a page with every setting after the first seed
            missing = [cells(part, [seed]) for part in given.parts]
            page.all({key: each for part in missing for key, each in part.items()}, given.workers)
    write(page)
    page.write("python benchmarks/fewshot_results.py", MEASURED)


if __name__ == "__main__":
    main()
