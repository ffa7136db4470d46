"""The meta metric learner against matching networks and Meta-LSTM, on alphabets and on texts.

    TUPELO_DATA=... python benchmarks/meta.py             # all parts, see PARTS
    TUPELO_DATA=... python benchmarks/meta.py alphabets   # one part
    TUPELO_DATA=... python benchmarks/meta.py --quick     # a few episodes, prints only

Tasks have all classes of a part of a domain, so their number differs between tasks and between
training and test; parts of a domain share no class. Weights are chosen on validation classes (a
validation subject where a whole subject is left out). Every cell is stored as soon as it is
measured; writes docs/results/meta.md and meta.json.
"""

import argparse
from collections.abc import Sequence
from statistics import fmean

from meta_cells import SPLITS, Plan, alphabets, left_out, one_shot, subjects
from results import Page, seeds_summary

TITLE = "Meta metric learner: tasks of any number of classes"
RUNS = 5
SUBJECTS_OF_CLINC = 10
WORKERS = 2
SHOTS = (2, 4)
METHODS = ("Matching network", "Matching network, FCE", "Meta-LSTM", "MML")
LONGER = "Matching network, equal time"
ABLATIONS = ("c_0 without updates", "MML, all support at test")
LEFT_OUT = (
    "Matching network",
    "Matching network, FCE",
    "MML",
    "MML, 3 at random",
    "MML, 3 retrieved",
    "MML, all others",
    *ABLATIONS,
)
ONE_SHOT = (
    "Matching network",
    "Meta-LSTM",
    "MML, no auxiliary tasks",
    "MML, 3 at random",
    "MML, 3 retrieved",
    "MML, all 9",
)
PICTURES = Plan(width=16, episodes=1500, validate_every=250, max_classes=8)
TEXTS = Plan(width=16, episodes=400, validate_every=100)
PARTS = ("alphabets", "subjects", "left out", "one shot", "alphabets, longer", "subjects, longer")


def cells(part: str, pictures: Plan = PICTURES, texts: Plan = TEXTS) -> dict[str, tuple]:
    """The cells of one part, by key."""
    found: dict[str, tuple] = {}
    match part:
        case "alphabets" | "subjects" | "alphabets, longer" | "subjects, longer":
            measure, plan = (alphabets, pictures) if "alphabets" in part else (subjects, texts)
            methods = (LONGER,) if "longer" in part else METHODS
            for run in range(RUNS):
                for split in SPLITS:
                    for shots in SHOTS:
                        key = f"{part}/{split}/{shots}/{run}"
                        found[key] = (measure, plan, split, shots, run, methods)
        case "left out":
            for domain in range(SUBJECTS_OF_CLINC):
                for shots in SHOTS:
                    found[f"{part}/{shots}/{domain}"] = (left_out, texts, domain, shots)
        case _:
            found = {f"{part}/{run}": (one_shot, texts, run) for run in range(RUNS)}
    return found


def measured(page: Page, prefix: str) -> list[dict]:
    """Cells whose keys begin so, in the order of runs."""
    keys = [key for key in page.numbers["cells"] if key.startswith(prefix)]
    return [page.numbers["cells"][key] for key in sorted(keys)]


def accuracy(found: Sequence[dict], method: str) -> str:
    """Mean and spread in per cent, and in brackets half the 95 % interval over runs."""
    values = [100 * cell[method] for cell in found if method in cell]
    if not values:
        return "n/a"
    mean = fmean(values)
    if len(values) == 1:
        return f"{mean:.1f}"
    spread = (fmean((value - mean) ** 2 for value in values)) ** 0.5
    return f"{seeds_summary(values, 1)} ({1.96 * spread / len(values) ** 0.5:.1f})"


def gain(found: Sequence[dict], method: str, over: str) -> str:
    """Points over another method, same runs; * where all runs have the sign."""
    values = [100 * (cell[method] - cell[over]) for cell in found if {method, over} <= cell.keys()]
    if not values:
        return ""
    right = sum(value > 0 for value in values)
    return f"{fmean(values):+.1f} ({right} of {len(values)})"


def write_heterogeneous(page: Page, part: str, plan: Plan, what: str) -> None:
    """Accuracy by split and shots."""
    columns = [(split, shots) for split in SPLITS for shots in SHOTS]
    found = {each: measured(page, f"{part}/{each[0]}/{each[1]}/") for each in columns}
    if not any(found.values()):
        return
    for (split, shots), each in found.items():
        longer = measured(page, f"{part}, longer/{split}/{shots}/")
        each[:] = [a | b for a, b in zip(each, [*longer, *({} for _ in each)], strict=False)]
    rows = [
        [method, *(accuracy(found[each], method) for each in columns)]
        for method in (METHODS[0], LONGER, *METHODS[1:], *ABLATIONS)
    ]
    for over in (METHODS[0], LONGER, METHODS[1]):
        rows.append([f"MML over {over}", *(gain(found[each], "MML", over) for each in columns)])
    rows.append(["runs", *(len(found[each]) for each in columns)])
    page.table(
        f"{part.capitalize()} as domains",
        f"{what} {plan.episodes} episodes of training (equal time: five times as many, which "
        f"takes about as long as MML), {plan.tests} random test tasks a run, "
        "each run with a division, weights and tasks of its own; ± over runs, in brackets half the "
        "95 % interval. Batch normalisation by the batch for all methods. In 3v5 a test task has "
        "more classes than any of training, which Meta-LSTM cannot take. Last rows: points, and in "
        "how many runs MML is above.",
        ["", *(f"{split}, {shots}-shot" for split, shots in columns)],
        rows,
    )


def write_left_out(page: Page) -> None:
    """A whole subject is new at the test."""
    found = {shots: measured(page, f"left out/{shots}/") for shots in SHOTS}
    if not any(found.values()):
        return
    rows = [[method, *(accuracy(found[shots], method) for shots in SHOTS)] for method in LEFT_OUT]
    for method, over in (
        ("MML", "Matching network"),
        ("MML", "Matching network, FCE"),
        ("MML, 3 retrieved", "MML"),
        ("MML, 3 retrieved", "MML, 3 at random"),
        ("MML, 3 retrieved", "Matching network"),
    ):
        name = f"{method} over {over}"
        rows.append([name, *(gain(found[shots], method, over) for shots in SHOTS)])
    page.table(
        "A subject left out",
        "CLINC150: nine subjects train (one of them chooses the weights), the tenth is the target, "
        "with all its 15 intents at once; each of the ten once. Auxiliary tasks are those of "
        "training subjects; retrieval sees the target's support alone, of which one item a class "
        "is held out in turn. ± over the ten subjects.",
        ["", *(f"{shots}-shot" for shots in SHOTS)],
        rows,
    )


def write_one_shot(page: Page) -> None:
    """Targets of one item a class."""
    found = measured(page, "one shot/")
    if not found:
        return
    rows = [[method, accuracy(found, method)] for method in ONE_SHOT]
    for over in ("Matching network", "MML, no auxiliary tasks", "MML, 3 at random"):
        rows.append([f"MML, 3 retrieved over {over}", gain(found, "MML, 3 retrieved", over)])
    rows.append(["MML, all 9 over Matching network", gain(found, "MML, all 9", "Matching network")])
    page.table(
        "One shot, with auxiliary tasks",
        "CLINC150, 5v3, as table 2 of the paper: a task of one item a class cannot be divided, so "
        "MML adapts on 2-shot tasks of other subjects alone. The matching network and Meta-LSTM "
        "are trained on one-shot tasks of all subjects. Retrieval sees meta-training classes of "
        f"the target's subject. Mean over the ten subjects, {len(found)} runs.",
        ["", "accuracy, %"],
        rows,
    )


def write(page: Page) -> None:
    """The page of what has been measured."""
    write_heterogeneous(
        page,
        "alphabets",
        PICTURES,
        "Omniglot, 50 alphabets; a part of a domain has 30, 20 or 50 % of its classes (3v5) or 50, "
        f"20, 30 % (5v3). Conv4-{PICTURES.width}, T = {PICTURES.steps}.",
    )
    write_heterogeneous(
        page,
        "subjects",
        TEXTS,
        f"CLINC150, 10 subjects of 15 intents. TextCNN with {TEXTS.width} filters a window; word "
        "vectors come from all texts of the set without their labels, as no GloVe is here, and "
        f"stay. T = {TEXTS.steps}.",
    )
    write_left_out(page)
    write_one_shot(page)


def quick() -> None:
    """A few episodes of one cell of each part."""
    small = Plan(width=8, episodes=4, steps=2, tests=2, validate_every=2)
    for part in PARTS:
        key, (measure, *arguments) = next(iter(cells(part, small, small).items()))
        print(key, {k: round(v, 3) for k, v in measure(*arguments).items()}, flush=True)


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--quick", action="store_true", help="a few episodes, no page")
    given = parser.parse_args()
    if given.quick:
        quick()
        return
    page = Page("meta", TITLE)
    for part in given.parts:
        page.all(cells(part), given.workers)
    write(page)
    page.write("python benchmarks/meta.py", f"0 to {RUNS - 1} where a table has all runs")


if __name__ == "__main__":
    main()
