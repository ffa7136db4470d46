"""Random small sequences, and what TrackEval and py-motmetrics make of them."""

import contextlib
import io
import warnings

import numpy as np

from tupelo.evaluation.tracks import Tracks


def random_sequence(seed: int, step: float = 0) -> tuple[Tracks, Tracks]:
    """Walkers whose paths cross, and a tracker that misses, drifts, switches and invents.

    Args:
        seed: of the generator.
        step: to which all boxes are rounded, so that many overlap alike; 0: they are not.
    """
    rng = np.random.default_rng(seed)
    length, objects = int(rng.integers(1, 14)), int(rng.integers(1, 7))
    room = float(rng.choice([15.0, 40.0, 120.0]))
    noise, lost, switching = rng.choice([0.5, 2.0, 5.0]), rng.choice([0, 0.2, 0.5]), 0.15
    truth: list[tuple[int, int, np.ndarray]] = []
    result: list[tuple[int, int, np.ndarray]] = []
    names = np.arange(objects)
    for each in range(objects):
        begin, end = sorted(rng.integers(1, length + 2, 2))
        start, speed = rng.uniform(0, room, 2), rng.normal(0, 2, 2)
        size = rng.uniform(6, 20, 2)
        for frame in range(begin, end):
            if rng.random() < 0.1:
                continue
            box = np.concatenate([start + speed * frame, size])
            truth.append((frame, each + 5, box))
            if rng.random() < switching:
                names[each] = rng.integers(0, objects + 3)
            name = int(names[each])
            taken = any(row[:2] == (frame, name) for row in result)
            if rng.random() >= lost and not taken:
                result.append((frame, name, box + rng.normal(0, noise, 4) * [1, 1, 0.3, 0.3]))
    for _ in range(rng.integers(0, 6)):
        row = (int(rng.integers(1, length + 1)), int(rng.integers(50, 53)))
        if not any(other[:2] == row for other in result):
            result.append((*row, np.concatenate([rng.uniform(0, room, 2), rng.uniform(6, 20, 2)])))
    return _tracks(truth, rng, step), _tracks(result, rng, step)


def _tracks(
    rows: list[tuple[int, int, np.ndarray]], rng: np.random.Generator, step: float
) -> Tracks:
    rows = [rows[place] for place in rng.permutation(len(rows))]
    boxes = np.array([row[2] for row in rows]).reshape(-1, 4)
    if step:
        boxes = np.round(boxes / step) * step
    boxes[:, 2:] = np.maximum(boxes[:, 2:], max(step, 1))
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        boxes,
    )


def similarity(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of one frame."""
    one, other = boxes[:, None], others[None]
    corner = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    shared = np.maximum(corner - np.maximum(one[..., :2], other[..., :2]), 0).prod(axis=-1)
    areas = [(each[..., :2] + each[..., 2:] - each[..., :2]).prod(-1) for each in (one, other)]
    return shared / (areas[0] + areas[1] - shared)


def by_trackeval(truth: Tracks, result: Tracks) -> dict[str, dict]:
    """CLEAR, Identity and HOTA as TrackEval returns them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trackeval import metrics
    g_ids, g_number = np.unique(truth.ids, return_inverse=True)
    h_ids, h_number = np.unique(result.ids, return_inverse=True)
    last = max([0, *truth.frames.tolist(), *result.frames.tolist()])
    mine = [np.flatnonzero(truth.frames == frame) for frame in range(1, last + 1)]
    its = [np.flatnonzero(result.frames == frame) for frame in range(1, last + 1)]
    data = {
        "num_timesteps": last,
        "num_gt_ids": len(g_ids),
        "num_tracker_ids": len(h_ids),
        "num_gt_dets": len(truth),
        "num_tracker_dets": len(result),
        "gt_ids": [g_number[rows] for rows in mine],
        "tracker_ids": [h_number[rows] for rows in its],
        "similarity_scores": [
            similarity(truth.boxes[g], result.boxes[h]) for g, h in zip(mine, its, strict=True)
        ],
    }
    quiet = {"PRINT_CONFIG": False}
    judges = (metrics.CLEAR(quiet), metrics.Identity(quiet), metrics.HOTA())
    with contextlib.redirect_stdout(io.StringIO()):
        return {type(judge).__name__: judge.eval_sequence(data) for judge in judges}


MEASURES = (
    *("num_matches", "num_switches", "num_misses", "num_false_positives", "num_fragmentations"),
    *("mostly_tracked", "partially_tracked", "mostly_lost", "motp", "mota"),
    *("idtp", "idfp", "idfn", "idf1"),
)


def by_motmetrics(truth: Tracks, result: Tracks) -> dict[str, float]:
    """Its measures; pairs below an IoU of 0.5 are forbidden."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import motmetrics
    kept = motmetrics.MOTAccumulator()
    for frame in np.union1d(truth.frames, result.frames):
        g, h = truth.frames == frame, result.frames == frame
        iou = similarity(truth.boxes[g], result.boxes[h])
        distance = np.where(iou >= 0.5, 1 - iou, np.nan)
        kept.update(truth.ids[g], result.ids[h], distance, frameid=int(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = motmetrics.metrics.create().compute(kept, metrics=list(MEASURES))
    return {name: float(table[name].iloc[0]) for name in MEASURES}
