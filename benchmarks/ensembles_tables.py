"""Tables of `benchmarks/ensembles.py`."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from results import Page, seeds_summary

COMPARED = (
    "Single embeddings, heads and attention with the contrastive loss of squared distances, BIER "
    "with binomial deviance, DREML with softmax over meta-classes. Mean learner and gap in R@1; "
    "correlation is the mean absolute one between dimensions of different learners, cosine that "
    "of two learners' embeddings of one picture; ms is processor time of a step in the grid, "
    "beside another worker (for DREML of a member)."
)
COLUMNS = ("recall@1", "map@r", "mean_recall@1", "gap", "correlation", "self_cosine")


def summary(values: Sequence[float]) -> str:
    """Mean and spread over seeds; of one seed there is no spread."""
    return seeds_summary(values) if len(values) > 1 else f"{values[0]:.3f}"


def runs(page: Page, setting: str, seeds: Iterable[int]) -> list[dict]:
    """The measured seeds of one setting."""
    found = page.numbers["cells"]
    keys = [f"{setting}/{seed}" for seed in seeds]
    return [found[key] for key in keys if key in found]


def settings_table(
    page: Page, title: str, prefix: str, names: Iterable[str], seeds: Sequence[int], text: str
) -> None:
    """One row a method."""
    rows, missing = [], []
    for name in names:
        here = runs(page, f"{prefix}/{name}", seeds)
        if len(here) < len(seeds):
            missing.append(f"{name} ({len(here)} of {len(seeds)} seeds)")
        if not here:
            continue
        single = len(here[0]["alone"]) == 1
        cells = [
            summary([run[key] for run in here])
            if key in here[0] and not (single and key not in COLUMNS[:2])
            else ""
            for key in COLUMNS
        ]
        time = 1e3 * statistics.median(run["processor seconds a step"] for run in here)
        rows.append([_shown(name, here[0]), *cells, f"{time:.0f}", _choice(here[0])])
    if not rows:
        page.text(title, f"{text} **Not measured yet.**")
        return
    note = f" Not measured in full: {', '.join(missing)}." if missing else ""
    page.table(
        title, text + note,
        ["method", "R@1", "MAP@R", "mean learner", "gap", "correlation", "cosine", "ms", "chosen"],
        rows,
    )  # fmt: skip


def _shown(name: str, run: dict) -> str:
    if name != "DREML":
        return name
    return f"DREML, {len(run['alone'])} x {run['dimensions']}"


def _choice(run: dict) -> str:
    weight = f", {run['weight']:g}" if run["weight"] else ""
    return f"{run['rate']:g}{weight}"


def curves(page: Page, dataset: str, members: Iterable[str], seeds: Sequence[int]) -> None:
    """R@1 of DREML over the number of its members."""
    found = {name: runs(page, f"{dataset}/features/{name}", seeds) for name in members}
    found = {name: here for name, here in found.items() if here}
    if not found:
        return
    counts = sorted({int(count) for here in found.values() for count in here[0]["curve"]})
    rows = []
    for name, here in found.items():
        row = [f"{name} = {here[0]['classes']}" if name.endswith("C") else name]
        for count in counts:
            at = [run["curve"].get(str(count)) for run in here]
            row.append("" if None in at else summary([one["recall@1"] for one in at]))
        last = [run["curve"][max(run["curve"], key=int)] for run in here]
        row.append(summary([one["mean_recall@1"] for one in last]))
        row.append(summary([one["map@r"] for one in last]))
        row.append(summary([run["correlation"] for run in here]))
        rows.append(row)
    few = [name for name, here in found.items() if len(here) < len(seeds)]
    note = f" Fewer than {len(seeds)} seeds: {', '.join(few)}." if few else ""
    page.table(
        f"{dataset}: DREML over its members",
        "R@1 of the first L members on frozen pooled features, each trained for 150 steps of 64; "
        "mean learner, MAP@R and correlation of all 24." + note,
        ["bags", *(f"L = {count}" for count in counts), "mean learner", "MAP@R", "correlation"],
        rows,
    )


def engines(first: Mapping[str, dict], second: Mapping[str, dict]) -> dict[str, int]:
    """How many numbers of cells are equal, times aside."""
    pairs = [
        (number, other)
        for key in first
        for number, other in zip(
            _numbers(first[key]), _numbers(second.get(key, {})), strict=key in second
        )
    ]
    return {
        "cells": len(first),
        "numbers": sum(len(list(_numbers(cell))) for cell in first.values()),
        "equal": sum(number == other for number, other in pairs),
    }


def _numbers(value) -> Iterable:
    """Every number in nested records, times aside."""
    if isinstance(value, dict):
        for key in sorted(value):
            if "seconds" not in key:
                yield from _numbers(value[key])
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value
