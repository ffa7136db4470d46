"""Re-identification: three losses with the same network and budget.

    TUPELO_DATA=... python benchmarks/reid.py                    # people of LFW, 3 seeds; resumable
    TUPELO_MARKET=... TUPELO_DATA=... python benchmarks/reid.py  # Market-1501 too
    TUPELO_DATA=... python benchmarks/reid.py --quick            # an epoch of each, prints only

Market-1501 by its official protocol: 751 people train, 3,368 queries search 19,732 boxes less the
junk, the query's person in the query's camera being passed over. Its owners ask that it not be
passed on: TUPELO_MARKET names the folder of your copy, and without it the table is left out.
Labeled Faces in the Wild, which anybody can have: of the people with two pictures or more one half
trains, and all pictures of the other half search each other. Epochs, rate and batch were fixed
before, for all losses alike, and no choice was made on any of these pictures. Writes
docs/results/reid.md and reid.json.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import mkdtemp

from reid_cells import MARKET, Plan, cell
from results import Page, seeds_summary

TITLE = "Re-identification"
SEEDS = (0, 1, 2)
WORKERS = 2
PLANS = {
    "market": Plan("market", epochs=8),
    "market-reference": Plan("market", network="reid", epochs=2),
    "lfw": Plan("lfw", size=(32, 32), epochs=20),
}
ONE_SEED = {"market-reference"}
LOSSES = {
    "contrastive": "contrastive (Siamese)",
    "triplet": "batch-hard triplets",
    "softmax": "cosine softmax",
}


def cells(name: str, seed: int) -> dict[str, tuple]:
    """Every loss of a plan, by key; of the reference network the first alone."""
    losses = list(LOSSES)[:1] if name in ONE_SEED else list(LOSSES)
    if name in ONE_SEED and seed != SEEDS[0]:
        return {}
    keys = {loss: f"{name}/{loss}/{seed}" for loss in losses}
    return {key: (cell, key, loss, PLANS[name], seed) for loss, key in keys.items()}


def rows_of(page: Page, name: str) -> list[list]:
    """A row for each loss that has been measured."""
    found, table = page.numbers["cells"], []
    for loss, shown in LOSSES.items():
        keys = [f"{name}/{loss}/{seed}" for seed in SEEDS]
        each = [found[key] for key in keys if key in found]
        if not each:
            continue
        row = [f"{shown}, {PLANS[name].network}"]
        scores = ("rank-1", "rank-5", "map", "map trapezoid")
        row += [seeds_summary([100 * one[score] for one in each], 2) for score in scores]
        row += [f"{fmean(100 * one['map before'] for one in each):.2f}"]
        row += [f"{fmean(one[d] for one in each):.3f}" for d in ("same distance", "far distance")]
        table.append([*row, f"{fmean(one['training seconds'] for one in each):.0f}", len(each)])
    return table


def write(page: Page) -> None:
    """The page of what has been measured."""
    header = ["%", "rank-1", "rank-5", "mAP", "mAP, trapezoid", "mAP untrained", "same", "far"]
    header += ["seconds", "seeds"]
    plan = PLANS["market"]
    table = rows_of(page, "market") + rows_of(page, "market-reference")
    if table:
        page.table(
            "Market-1501",
            f"Crops squeezed to {plan.size[0]} x {plan.size[1]} pixels (published systems take "
            f"128 x 64 or 256 x 128, and weights of ImageNet), {plan.epochs} epochs from scratch "
            f"(the reference network {PLANS['market-reference'].epochs}), batches of "
            f"{plan.identities} x 4, Adam 0.001 with cosine; single query, official protocol. mAP "
            "is the mean of precisions at the matches; trapezoid, as the published code computes "
            "it. same, far: cosine distances within which lie 95 % of pairs of one person and 1 % "
            "of pairs of two, of the queries.",
            header,
            table,
        )
    plan, table = PLANS["lfw"], rows_of(page, "lfw")
    if table:
        page.table(
            "Labeled Faces in the Wild, as identities",
            f"One half of the people with two pictures or more trains, {plan.epochs} epochs at "
            f"{plan.size[0]} x {plan.size[1]} pixels from scratch; all pictures of the other half "
            "search each other. There are no cameras, so the same-camera rule is off.",
            header,
            table,
        )


def quick() -> None:
    """An epoch of every loss."""
    folder = Path(mkdtemp())
    for name, plan in PLANS.items():
        if plan.dataset == "market" and MARKET not in os.environ:
            print(f"{name}: {MARKET} is not set, left out")
            continue
        for key, (_, _, loss, _, seed) in cells(name, SEEDS[0]).items():
            found = cell(key, loss, replace(plan, epochs=1), seed, folder)
            print(key, {k: round(v, 4) for k, v in found.items()}, flush=True)


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("plans", nargs="*", default=tuple(PLANS), help=", ".join(PLANS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--quick", action="store_true", help="an epoch of each, no page")
    given = parser.parse_args()
    if given.quick:
        quick()
        return
    page = Page("reid", TITLE)
    for seed in SEEDS[: given.seeds]:
        for name in given.plans:
            if PLANS[name].dataset == "market" and MARKET not in os.environ:
                print(f"{name}: {MARKET} is not set, left out")
                continue
            page.all(cells(name, seed), given.workers)
    write(page)
    page.write("python benchmarks/reid.py", "0 to 2, as many as the tables say")


if __name__ == "__main__":
    main()
