"""GNN against L-GNN long enough to tell, other margins, unlabelled support, ablations.

    TUPELO_DATA=... python benchmarks/fewshot_graphs.py            # all parts, hours: see PARTS
    TUPELO_DATA=... python benchmarks/fewshot_graphs.py long       # one part
    TUPELO_DATA=... python benchmarks/fewshot_graphs.py --cost     # of a step, an idle machine
    TUPELO_DATA=... python benchmarks/fewshot_graphs.py --quick    # a few steps, no page

Omniglot, background alphabets in four turns to train, a tenth of their characters to choose the
weights on, evaluation alphabets to test; a quarter of the published width. Every cell is
resumable, also within its training (benchmarks/runs/graphs); writes docs/results/fewshot-graphs.md
and fewshot-graphs.json.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from tempfile import mkdtemp

import torch

from fewshot_graph_cells import METHODS, Plan, Task, build, cell, layout_of, load
from results import Page, seeds_summary
from tupelo.fewshot import Episodes

TITLE = "Graph networks: GNN, L-GNN and other margins"
SEEDS = (0, 1, 2)
MEASURED = "0 to 2, as many as the tables say"
WORKERS = 2
TASKS = {
    "5w1s": Task(5, 1),
    "5w2s": Task(5, 2),
    "5w5s": Task(5, 5),
    "5w5s, 4 unlabelled": Task(5, 5, 4),
    "5w5s, 3 unlabelled": Task(5, 5, 3),
    "20w1s": Task(20, 1),
    "20w5s": Task(20, 5),
}
BOTH = ("GNN", "L-GNN")
LONG, SHORT = Plan(), Plan(steps=6_000)
FIVE = Plan(steps=2_000, per_batch=10, every=250)
MANY, MANY5 = replace(FIVE, per_batch=10), replace(FIVE, per_batch=2)
COLOUR = Plan("tiny_imagenet_fewshot", steps=6_000, per_batch=20)
PARTS = {  # minutes of one core for a seed
    "long": (LONG, ("5w1s",), BOTH),  # 45
    "five": (FIVE, ("5w5s",), BOTH),  # 10
    "many": (MANY, ("20w1s",), BOTH),  # 7
    "many 5": (MANY5, ("20w5s",), BOTH),  # 20
    "losses": (SHORT, ("5w1s",), tuple(METHODS)),  # 90
    "semi": (SHORT, tuple(TASKS)[:5], BOTH),  # 240
    "colour": (COLOUR, ("5w1s",), BOTH),
}
QUICK = {"steps": 6, "per_batch": 4, "width": 8, "growth": 4, "every": 3, "validation": 50}


def cells(part: str, seeds: Sequence[int]) -> dict[str, tuple]:
    """The cells of one part, by key."""
    plan, tasks, methods = PARTS[part]
    found = {}
    for seed in seeds:
        for task in tasks:
            for method in methods:
                key = f"{setting(plan, task, method)}/{seed}"
                found[key] = (cell, key, method, TASKS[task], plan, seed)
    return found


def setting(plan: Plan, task: str, method: str) -> str:
    """The key of a cell without its seed."""
    return f"{plan.dataset}/{plan.steps} steps, width {plan.width}/{task}/{method}"


def runs(page: Page, plan: Plan, task: str, method: str) -> list[dict]:
    """The measured seeds of one setting."""
    found = page.numbers["cells"]
    keys = [f"{setting(plan, task, method)}/{seed}" for seed in SEEDS]
    return [found[key] for key in keys if key in found]


def write_parts(page: Page, parts: Sequence[str], title: str, text: str) -> None:
    """Accuracy of every setting of these parts, and its gain over GNN of the same seeds."""
    table = []
    for part in parts:
        plan, tasks, methods = PARTS[part]
        for task in tasks:
            plain = runs(page, plan, task, "GNN")
            for method in methods:
                here = runs(page, plan, task, method)
                if here:
                    table.append([task, method, *_row(here, plain, method)])
    if table:
        header = ["task", "method", "accuracy, %", "interval", "gain", "m", "minutes", "seeds"]
        page.table(title, text, header, table)


def _row(here: list[dict], plain: list[dict], method: str) -> list[str]:
    interval = fmean(100 * run["interval"] for run in here)
    margin = fmean(run["present margin"] for run in here)
    return [
        seeds_summary([100 * run["accuracy"] for run in here], 2),
        f"± {interval:.2f}",
        "" if method == "GNN" or len(plain) != len(here) else _gain(here, plain),
        f"{margin:.2f}" if margin else "",
        f"{fmean(run['training seconds'] for run in here) / 60:.0f}",
        str(len(here)),
    ]


def _gain(here: list[dict], plain: list[dict]) -> str:
    gains = [100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(here, plain, strict=True)]
    sure = "*" if min(gains) > 0 or max(gains) < 0 else ""
    return f"{fmean(gains):+.2f}{sure if len(gains) > 1 else ''}"


def write_curves(page: Page) -> None:
    """Validation accuracy over the long runs: one sees where a shorter one would have ended."""
    shares = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    table = []
    for plan, tasks, methods in (PARTS["long"],):
        for task, method in product(tasks, methods):
            here = runs(page, plan, task, method)
            if not here:
                continue
            row = [task, method]
            for share in shares:
                at = max(0, math.ceil(share * len(here[0]["curve"]["step"])) - 1)
                row.append(seeds_summary([100 * r["curve"]["validation"][at] for r in here], 1))
            table.append(row)
    if table:
        page.table(
            "Over the run",
            f"Accuracy on validation characters ({LONG.validation:,} episodes of one query each "
            "time) after so many steps.",
            ["task", "method", *(f"{round(share * LONG.steps):,}" for share in shares)],
            table,
        )


def costs(page: Page) -> None:
    """Milliseconds of a step, one thread, GNN and L-GNN taking turns, half the published width."""
    wide = replace(LONG, width=32, growth=24)
    for name in ("5w1s", "5w5s"):
        page.once(f"cost/{name}", lambda name=name: _cost(TASKS[name], wide))


def _cost(task: Task, plan: Plan, repeats: int = 15) -> dict:
    train = load(plan.dataset)[0]
    batches = Episodes(train.labels, layout_of(task, plan)).epoch(0)[:repeats]
    made, found = {}, {method: [] for method in BOTH}
    for method in BOTH:
        model, objective = build(METHODS[method], task, plan, train.size[0])
        made[method] = model, objective, torch.optim.Adam(model.parameters(), fused=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for rows in batches:
        batch = train.batch(rows)
        for method, (model, objective, optimizer) in made.items():
            begun = time.perf_counter()
            optimizer.zero_grad()
            objective(model(batch.images), batch.labels).total.backward()
            optimizer.step()
            found[method].append(1e3 * (time.perf_counter() - begun))
    torch.set_num_threads(threads)
    return {method: median(times[2:]) for method, times in found.items()}


def write_costs(page: Page) -> None:
    """What the margin adds to a step."""
    table = []
    for name in ("5w1s", "5w5s"):
        found = page.numbers["cells"].get(f"cost/{name}")
        if found is not None:
            more = found["L-GNN"] / found["GNN"] - 1
            shown = [f"{found[method]:.0f}" for method in BOTH]
            table.append([name, *shown, f"{100 * more:+.1f} %"])
    if table:
        page.table(
            "Cost of a step",
            f"{LONG.per_batch} episodes, half the published width, one thread, medians; published: "
            "+ 3.9 %.",
            ["task", "GNN, ms", "L-GNN, ms", "more"],
            table,
        )


def write(page: Page) -> None:
    """The page of what has been measured."""
    write_parts(
        page,
        ("long",),
        "GNN against L-GNN",
        f"{LONG.steps:,} steps of {LONG.per_batch} episodes with one query; {LONG.test:,} test "
        "episodes, the interval is over them; ± in the accuracy is over seeds; * where all seeds "
        "have the sign of the gain. Published, on miniImageNet: + 0.75 and + 1.16 points after 80 "
        "to 90 thousand steps of 100 and 40 episodes.",
    )
    write_curves(page)
    write_parts(
        page,
        ("losses",),
        "Other margins and ablations",
        f"{SHORT.steps:,} steps. NormFace, CosFace and ArcFace replace the classifier by cosines "
        "(scale 10, which the paper does not print).",
    )
    write_parts(
        page,
        ("semi",),
        "Unlabelled support",
        f"{SHORT.steps:,} steps. Four unlabelled of five leave "
        "one label a class, as 5w1s has; three leave two, as 5w2s.",
    )
    write_parts(
        page,
        ("five", "many", "many 5"),
        "Five shots and twenty ways, short runs",
        f"{FIVE.steps:,} steps of {FIVE.per_batch} (5w5s), {MANY.per_batch} (20w1s) and "
        f"{MANY5.per_batch} episodes (20w5s): too short to compare the two, see the table over "
        "the long run.",
    )
    write_parts(
        page,
        ("colour",),
        "Colour",
        f"tiny_imagenet_fewshot enlarged to 84 pixels, {COLOUR.steps:,} steps of "
        f"{COLOUR.per_batch} episodes.",
    )
    write_costs(page)


def quick() -> None:
    """A few steps of the first cell of each part, in a folder of its own."""
    folder = Path(mkdtemp())
    for part, (plan, tasks, methods) in PARTS.items():
        small = replace(plan, **QUICK, test=100)
        for task, method in product(tasks[-1:], methods):
            key = f"{part}/{task}/{method}"
            found = cell(key, method, TASKS[task], small, 0, folder)
            print(key, f"{found['accuracy']:.3f}", f"{found['training seconds']:.1f} s")


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
    page = Page("fewshot-graphs", TITLE)
    if given.cost:
        costs(page)
    else:
        for seed in SEEDS[: given.seeds]:  # a page with every setting after the first seed
            for part in given.parts:
                page.all(cells(part, [seed]), given.workers)
    write(page)
    page.write("python benchmarks/fewshot_graphs.py", MEASURED)


if __name__ == "__main__":
    main()
