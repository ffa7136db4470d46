"""What each use of the appearance is worth to the tracker: none, 1, 2, 3, pairs, all.

    TUPELO_DATA=... python benchmarks/tracking_ablation.py           # resumable
    TUPELO_DATA=... python benchmarks/tracking_ablation.py --quick   # two scenes, prints only
    TUPELO_MARKET=.../Market-1501-v15.09.15 ...                      # Market-1501 too

Scenes are rendered from crops of identities that the network has not seen: every other person of
Labeled Faces in the Wild with two pictures or more (the others train), and the test identities of
Market-1501, which no page shows. Thresholds are those of the network's calibration, on held-out
identities of its training side; no setting was chosen on these scenes. MOT17 comes without frames:
there only motion and overlap are measured, and with the 39 frames that are there, the whole path.
Writes docs/results/tracking.md and tracking.json.
"""

import argparse
import os
from collections.abc import Sequence

from results import Page, seeds_summary
from tracking_cells import KINDS, cell
from tracking_mot import frames_cell, motion_cell
from tupelo.recipes.tracking_ablation import CHOICES, COLUMNS, RATIOS, name_of

TITLE = "Tracking: three uses of an appearance metric"
SEEDS = (0, 1, 2)
SCENES = 6
WORKERS = 1
SOURCES = {"lfw": "faces (LFW)", "market": "people (Market-1501)"}
MOTION = ((), (2,))


def cells(datasets: Sequence[str], seeds: Sequence[int]) -> dict[str, tuple]:
    """Every data set, kind of scene and seed of the network."""
    return {
        f"{dataset}/{kind}/{seed}": (cell, dataset, kind, seed, SCENES)
        for seed in seeds
        for dataset in datasets
        for kind in KINDS
    }


def write_scenes(page: Page, dataset: str, kind: str) -> None:
    """One table."""
    found = page.numbers["cells"]
    runs = [found[key] for seed in SEEDS if (key := f"{dataset}/{kind}/{seed}") in found]
    if not runs:
        return
    rows = []
    for uses in CHOICES:
        each = [run["uses"][name_of(uses)] for run in runs]
        row = [name_of(uses)]
        for column in COLUMNS:
            values = [one[column] for one in each]
            exact = uses in ((),)  # asks no network, so that seeds agree
            digits = 3 if column in RATIOS else 0
            row.append(f"{values[0]:.{digits}f}" if exact else seeds_summary(values, digits))
        rows.append(row)
    boxes = runs[0]["uses"]["none"]["GT"]
    far = seeds_summary([run["far distance"] for run in runs])
    near = seeds_summary([max(run["far distance"], run["same distance"]) for run in runs])
    page.table(
        f"Rendered {SOURCES[dataset]}, {kind}",
        f"{SCENES} scenes of 120 frames with 10 objects, {boxes:,} boxes, hidden ones included; "
        f"{len(runs)} seed{'s' * (len(runs) > 1)} of the network. Greatest distance between "
        f"neighbours {near}; after an occlusion and for proposals 0.8 of {far}.",
        ["uses", *COLUMNS],
        rows,
    )


def write_mot(page: Page) -> None:
    """MOT17: motion alone on the full sequences, everything on the frames that are there."""
    found = page.numbers["cells"]
    if "mot17/motion" in found:
        numbers = found["mot17/motion"]["uses"]
        page.table(
            "MOT17, public FRCNN detections, without frames",
            "Seven training sequences, 5,316 frames, pre-processed as MOTChallenge does. There are "
            "no frames, so nothing is embedded: uses 1 and 3 cannot be measured, and use 2 finds "
            "hidden tracks by motion alone.",
            ["", *COLUMNS],
            [[name, *_cells(numbers[name])] for name in numbers],
        )
    if "mot17/frames" in found:
        numbers = found["mot17/frames"]
        page.table(
            "MOT17, the 39 frames that are there",
            "Four to eight frames of each sequence at half size, end to end: pictures are read, "
            f"cut, embedded ({numbers['network']}) and tracked; `confirm_after=1`, since there are "
            "so few. It shows that the path works, not what it is worth.",
            ["uses", *COLUMNS],
            [[name, *_cells(row)] for name, row in numbers["uses"].items()],
        )


def _cells(values: dict) -> list[str]:
    return [f"{values[c]:.3f}" if c in RATIOS else f"{values[c]:,}" for c in COLUMNS]


CLIP = (
    "![Faces with boxes and numbers of tracks](../pictures/tracking-faces.webp)\n\n"
    "Six people the network has not seen; dashed boxes are proposals, which no detection stands "
    "behind. Made by `tupelo track scene` (`--walkers 6 --frames 90 --width 320 --height 240 "
    "--seed 3`, of the half that does not train) and `tupelo track --video --video-as webp`."
)


def write(page: Page) -> None:
    """The page of what has been measured."""
    page.text("What it looks like", CLIP)
    for dataset in SOURCES:
        for kind in KINDS:
            write_scenes(page, dataset, kind)
    write_mot(page)


def quick(datasets: Sequence[str]) -> None:
    """Two scenes, an epoch of training."""
    for dataset in datasets:
        found = cell(dataset, "walking", 0, 2, epochs=1)
        for name, row in found["uses"].items():
            print(dataset, name, *_cells(row), flush=True)


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("datasets", nargs="*", help=", ".join([*SOURCES, "mot17"]))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=WORKERS, help="cells at once")
    parser.add_argument("--quick", action="store_true", help="two scenes, no page")
    given = parser.parse_args()
    wanted = given.datasets or [*SOURCES, "mot17"]
    if "market" in wanted and "TUPELO_MARKET" not in os.environ:
        print("market is left out: TUPELO_MARKET, the folder of Market-1501, is not set")
        wanted.remove("market")
    rendered = [each for each in wanted if each in SOURCES]
    if given.quick:
        quick(rendered)
        return
    page = Page("tracking", TITLE)
    if "mot17" in wanted:
        page.once("mot17/motion", lambda: motion_cell(MOTION))
    page.all(cells(rendered, SEEDS[: given.seeds]), given.workers)
    if "mot17" in wanted:
        page.once("mot17/frames", frames_cell)
    write(page)
    page.write("python benchmarks/tracking_ablation.py", "of the network as the tables say")


if __name__ == "__main__":
    main()
