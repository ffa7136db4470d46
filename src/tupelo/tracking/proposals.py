"""Where a missed object could be, and which of the places looks like it (use 3).

The predicted state of a track is the prior (Thoreau & Kottege, 2018); how candidates are drawn and
chosen is our reconstruction.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from tupelo.tracking import kalman
from tupelo.tracking.boxes import from_measured, measured, overlaps, visible_share
from tupelo.tracking.kalman import States
from tupelo.tracking.settings import TrackerSettings

HEIGHT = 0.2  # samples are at most so much taller or shorter than predicted
VISIBLE = 0.5  # least share of a candidate inside the image
BETA = 0.1  # weight of the motion beside the look
NOISE = 2.0  # factor of the measuring noise of a proposal
OVERLAP = 0.7  # a proposal on another track is taken for the occluder
_STEPS, _SCALES = (-2, -1, 0, 1, 2), (0.9, 1.0, 1.1)


@dataclass(frozen=True)
class Candidates:
    """Places to look at.

    Attributes:
        owner: row of the track that each belongs to, ascending.
        boxes: in pixels; they may reach out of the image.
        measurements: the same as the filter measures.
        motion: squared Mahalanobis distances from the prediction.
    """

    owner: Int64[np.ndarray, " c"]
    boxes: Float64[np.ndarray, "c 4"]
    measurements: Float64[np.ndarray, "c 4"]
    motion: Float64[np.ndarray, " c"]

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Shaped[np.ndarray, " k"]) -> "Candidates":
        """Some of them."""
        return Candidates(
            self.owner[rows], self.boxes[rows], self.measurements[rows], self.motion[rows]
        )


def candidates(
    states: States,
    ids: Int64[np.ndarray, " n"],
    weak: Float64[np.ndarray, "w 4"],
    size: tuple[int, int],
    frame: int,
    settings: TrackerSettings,
) -> Candidates:
    """The prediction itself, places about it, and weak detections that motion allows.

    Args:
        states: of the missed tracks, predicted.
        ids: of these tracks; with the seed and the frame they determine the samples.
        weak: boxes of detections too uncertain to be associated.
        size: width and height of the image.
        frame: number of the frame.
        settings: of the tracker.

    Returns:
        Those of which half or more lies in the image, and which are not lower than `min_height`.
    """
    spread = np.sqrt(kalman.innovation(states))
    around = _grid(states, spread)
    if settings.candidates == "samples":
        around = _samples(states, spread, ids, frame, settings)
    about = np.concatenate([states.position[:, None], around], axis=1)
    offsets = (about - states.position[:, None]) / spread[:, None]
    owner = np.repeat(np.arange(len(states)), about.shape[1])
    measurements, motion = about.reshape(-1, 4), (offsets**2).sum(axis=2).reshape(-1)
    if len(weak):
        of_weak = measured(weak)
        apart = kalman.distances(states, of_weak)
        rows, columns = np.nonzero(apart <= settings.gate)
        owner = np.concatenate([owner, rows])
        measurements = np.concatenate([measurements, of_weak[columns]])
        motion = np.concatenate([motion, apart[rows, columns]])
    possible = np.flatnonzero((measurements[:, 2:] > 0).all(axis=1))
    boxes = from_measured(measurements[possible])
    seen = (visible_share(boxes, *size) >= VISIBLE) & (boxes[:, 3] >= settings.min_height)
    rows = possible[seen]
    found = Candidates(owner[rows], boxes[seen], measurements[rows], motion[rows])
    return found.take(np.argsort(found.owner, kind="stable"))


def accepted(
    found: Candidates,
    looks: Float64[np.ndarray, " c"],
    taken: Float64[np.ndarray, "t 4"],
    settings: TrackerSettings,
) -> Int64[np.ndarray, " k"]:
    """The rows of the candidates that become proposals, at most one a track.

    Args:
        found: all candidates.
        looks: cosine distance of each from the gallery of its track; infinite where unseen.
        taken: boxes of tracks that were updated in this frame.
        settings: of the tracker.
    """
    worth = looks + BETA * found.motion / settings.gate
    order = np.lexsort((worth, found.owner))
    _, first = np.unique(found.owner[order], return_index=True)
    best = order[first]
    best = best[looks[best] <= settings.proposal]
    if len(taken) and len(best):
        best = best[(overlaps(found.boxes[best], taken) < OVERLAP).all(axis=1)]
    clash = overlaps(found.boxes[best], found.boxes[best]) >= OVERLAP
    chosen: list[int] = []
    for row in np.argsort(looks[best], kind="stable"):
        if not clash[row, chosen].any():
            chosen.append(int(row))
    return best[np.sort(np.array(chosen, dtype=np.int64))]


def _samples(
    states: States,
    spread: Float64[np.ndarray, "n 4"],
    ids: Int64[np.ndarray, " n"],
    frame: int,
    settings: TrackerSettings,
) -> Float64[np.ndarray, "n s 4"]:
    """Measurements drawn about the prediction, of its aspect ratio."""
    shape = (settings.samples, 4)
    drawn = [
        np.random.default_rng((settings.seed, number, frame)).standard_normal(shape)
        for number in ids.tolist()
    ]
    apart = np.array(drawn).reshape(len(states), *shape) * spread[:, None]
    apart[..., 2] = 0
    most = HEIGHT * states.position[:, None, 3]
    apart[..., 3] = np.clip(apart[..., 3], -most, most)
    return states.position[:, None] + apart


def _grid(states: States, spread: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n g 4"]:
    """Up to two standard deviations along x and y, in three sizes."""
    x, y, scale = (each.reshape(-1) for each in np.meshgrid(_STEPS, _STEPS, _SCALES))
    rows = np.repeat(states.position[:, None], len(x), axis=1)
    rows[..., 0] += x * spread[:, :1]
    rows[..., 1] += y * spread[:, 1:2]
    rows[..., 3] *= scale
    return rows
