"""Association of tracks and detections: speed and quality beside DeepSORT and BoxMOT.

    python benchmarks/tracking.py            # 10, 50, 200 objects; writes tracking-speed.*
    python benchmarks/tracking.py --quick    # 10 objects, few frames, prints only

Boxes, confidences and embeddings are given, so only trackers are timed: the peers are
deep-sort-realtime and the StrongSORT of BoxMOT, and, without looks, its ByteTrack and OC-SORT. All
see the same frames in one process, one thread, in turns; time is that of the processor, of the last
half of each stream, when galleries are full. The floor is what no tracker with galleries can do
without: one product of every detection with every remembered embedding of the objects near it, and
one assignment. Camera compensation of the peers is off, since the camera stands still. All that
look are told the same threshold: the distance below which 1 % of different people lie.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from results import Page, seeds_summary
from tracking_streams import HEIGHT, WIDTH, Stream, far_distance, stream
from tupelo.evaluation.tracking_scores import score_tracks
from tupelo.evaluation.tracks import Tracks
from tupelo.tracking import Tracker, TrackerSettings
from tupelo.tracking.boxes import from_corners, to_corners

TITLE = "Speed of tracking"
SEEDS = (0, 1, 2)
OBJECTS = {10: 200, 50: 200, 200: 120}  # frames
SCORES = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "FP", "FN", "IDs", "Frag")
COSINE, MIN_SCORE, GALLERY, AGE = far_distance(), 0.3, 100, 30
BLANK = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Timed:
    """A tracker; only `update` is timed.

    Attributes:
        given: boxes, scores and embeddings as the tracker wants them.
        update: the tracker itself.
        seen: numbers and boxes of its answer.
    """

    given: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]
    update: Callable[[Any], Any]
    seen: Callable[[Any], tuple[np.ndarray, np.ndarray]]


def tupelo(*uses: int) -> Timed:
    """Ours with some uses of the appearance; use 3 looks at pictures, so it is not among them."""
    settings = TrackerSettings.calibrated(
        COSINE,
        min_confidence=MIN_SCORE,
        strong_confidence=MIN_SCORE,  # the peers begin tracks at every detection they are given
        gallery=GALLERY,
        max_age=AGE,
    )
    tracker = Tracker(settings.with_uses(*uses))
    return Timed(
        lambda boxes, scores, embeddings: (boxes, scores, embeddings),
        lambda given: tracker.update(given[0], given[1], embeddings=given[2]),
        lambda found: (found.ids, found.boxes),
    )


def deepsort() -> Timed:
    """deep-sort-realtime."""
    from deep_sort_realtime.deepsort_tracker import DeepSort

    tracker = DeepSort(
        max_age=AGE, n_init=3, max_cosine_distance=COSINE, nn_budget=GALLERY, embedder=None
    )

    def given(boxes, scores, embeddings):
        fine = np.flatnonzero(scores >= MIN_SCORE)
        rows = [(boxes[row].tolist(), float(scores[row]), "person") for row in fine]
        return rows, list(embeddings[fine])

    def seen(tracks):
        shown = [each for each in tracks if each.is_confirmed() and each.time_since_update == 0]
        ids = np.array([int(each.track_id) for each in shown], dtype=np.int64)
        return ids, np.array([each.to_ltwh() for each in shown]).reshape(-1, 4)

    return Timed(given, lambda it: tracker.update_tracks(it[0], embeds=it[1]), seen)


def boxmot(kind: str) -> Timed:
    """A tracker of BoxMOT; its own defaults but for what all trackers are told."""
    from boxmot.structures.detections import Detections
    from boxmot.structures.geometry import Boxes

    if kind == "strongsort":
        from boxmot.trackers.box.strongsort.tracker import StrongSort

        tracker = StrongSort(
            min_conf=MIN_SCORE, max_cos_dist=COSINE, n_init=3, nn_budget=GALLERY, max_age=AGE
        )
        tracker.cmc = None
    elif kind == "bytetrack":
        from boxmot.trackers.box.bytetrack.tracker import ByteTrack

        tracker = ByteTrack(track_buffer=AGE)
    else:
        from boxmot.trackers.box.ocsort.tracker import OcSort

        tracker = OcSort(max_age=AGE, det_thresh=MIN_SCORE)

    def given(boxes, scores, embeddings):
        return Detections(
            Boxes(torch.tensor(to_corners(boxes), dtype=torch.float32)),
            torch.tensor(scores, dtype=torch.float32),
            torch.zeros(len(scores), dtype=torch.int64),
            "frame",
            embeddings=torch.tensor(embeddings) if kind == "strongsort" else None,
        )

    def seen(found):
        ids = found.track_ids.numpy().astype(np.int64)
        return ids, from_corners(found.geometry.values.numpy().astype(np.float64))

    return Timed(given, lambda it: tracker.update(it, BLANK), seen)


TRACKERS: dict[str, Callable[[], Timed]] = {
    "Tupelo, uses 1 and 2": lambda: tupelo(1, 2),
    "DeepSORT (deep-sort-realtime)": deepsort,
    "StrongSORT (BoxMOT)": lambda: boxmot("strongsort"),
    "Tupelo, motion alone": tupelo,
    "ByteTrack (BoxMOT)": lambda: boxmot("bytetrack"),
    "OC-SORT (BoxMOT)": lambda: boxmot("ocsort"),
}
LOOKING = tuple(TRACKERS)[:3]


def floor(given: Stream, frames: int) -> float:
    """Seconds a frame of the products with full galleries, and of one assignment."""
    count = len(given.truth[0][0])
    galleries = np.random.default_rng(0).standard_normal((count, GALLERY, 128), dtype=np.float32)
    spent = 0.0
    for boxes, rows in zip(given.detections[-frames:], given.embeddings[-frames:], strict=True):
        cost = np.ones((count, len(boxes)))
        begun = time.process_time()
        for number in range(count):
            galleries[number] @ rows[number % len(rows)]
        linear_sum_assignment(cost)
        spent += time.process_time() - begun
    return spent / frames


def measure(objects: int, frames: int, seed: int) -> dict:
    """Every tracker on one stream, in turns frame by frame."""
    given = stream(objects, frames, seed)
    truth = _tracks(given.truth)
    steps = {name: build() for name, build in available().items()}
    outputs: dict[str, list] = {name: [] for name in steps}
    spent = dict.fromkeys(steps, 0.0)
    late = frames // 2
    inputs = zip(given.detections, given.scores, given.embeddings, strict=True)
    for number, (boxes, scores, embeddings) in enumerate(inputs):
        for name, step in steps.items():
            inputs_of = step.given(boxes, scores, embeddings)
            begun = time.process_time()
            found = step.update(inputs_of)
            if number >= late:
                spent[name] += time.process_time() - begun
            outputs[name].append(step.seen(found))
    result: dict = {"floor": floor(given, late)}
    for name in steps:
        scores = score_tracks(truth, _tracks(outputs[name])).as_json()
        kept = {what: scores[what] for what in SCORES}
        result[name] = {"seconds a frame": spent[name] / (frames - late), **kept}
    return result


def available() -> dict[str, Callable[[], Timed]]:
    """Ours, and the peers that are installed."""
    missing = set()
    for package in ("deep_sort_realtime", "boxmot"):
        try:
            __import__(package)
        except ImportError:
            missing.add(package)
    return {
        name: build
        for name, build in TRACKERS.items()
        if not ("deep_sort_realtime" in missing and "DeepSORT" in name)
        and not ("boxmot" in missing and "BoxMOT" in name)
    }


def _tracks(frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tracks:
    numbers = [np.full(len(ids), number) for number, (ids, _) in enumerate(frames, 1)]
    return Tracks(
        np.concatenate(numbers),
        np.concatenate([ids for ids, _ in frames]),
        np.concatenate([boxes for _, boxes in frames]),
    )


def write(page: Page) -> None:
    """One table for each number of objects."""
    for objects, frames in OBJECTS.items():
        keys = [f"{objects}/{seed}" for seed in SEEDS]
        cells = [page.numbers["cells"][key] for key in keys if key in page.numbers["cells"]]
        if not cells:
            continue
        floor_ms = 1000 * fmean(cell["floor"] for cell in cells)
        rows = [["floor", f"{floor_ms:.3f}", f"{1000 / floor_ms:,.0f}", *[""] * 5]]
        ours = 1000 * fmean(cell[LOOKING[0]]["seconds a frame"] for cell in cells)
        for name in TRACKERS:
            found = [cell[name] for cell in cells if name in cell]
            if found:
                ms = 1000 * fmean(each["seconds a frame"] for each in found)
                rows.append(
                    [
                        name,
                        f"{ms:.3f}",
                        f"{1000 / ms:,.0f}",
                        f"{ms / ours:.2f}",
                        *(
                            seeds_summary([100 * each[what] for each in found], 2)
                            for what in ("HOTA", "IDF1", "MOTA")
                        ),
                        f"{fmean(each['IDs'] for each in found):.0f}",
                    ]
                )
        page.table(
            f"{objects} objects",
            f"{frames} frames, {len(cells)} streams. Milliseconds of one thread a frame, without "
            "detector and without network; `ratio` to ours with looks.",
            ["", "ms a frame", "frames a second", "ratio", "HOTA", "IDF1", "MOTA", "switches"],
            rows,
        )


def versions() -> str:
    """Of the peers."""
    found = []
    for package in ("deep-sort-realtime", "boxmot"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="10 objects, few frames, no page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    logging.disable(logging.INFO)  # of the peers
    if given.quick:
        for name, each in measure(10, 60, 0).items():
            print(name, each)
        return
    page = Page("tracking-speed", TITLE)
    for objects, frames in OBJECTS.items():
        for seed in SEEDS:
            page.once(f"{objects}/{seed}", lambda o=objects, f=frames, s=seed: measure(o, f, s))
    write(page)
    page.write("python benchmarks/tracking.py", SEEDS, data=f"Peers: {versions()}.")


if __name__ == "__main__":
    main()
