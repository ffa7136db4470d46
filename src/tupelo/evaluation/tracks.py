"""Tracks of objects beside those of a tracker: which boxes overlap, and what is scored.

The measures (`clear_mot`, `identity`, `hota`) all start from `overlaps`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment

from tupelo.errors import InputError

OVERLAP = 0.5  # IoU from which a box is a match
ROUNDING = float(np.finfo(np.float64).eps)  # by which TrackEval lets an IoU miss its threshold
SIDES = ("left", "right")
AT_ONCE = 65_536  # pairs of boxes, which stay in the cache
PEDESTRIAN = 1
CLASSES = range(1, 14)  # of MOT16, MOT17 and MOT20
DISTRACTORS = (2, 7, 8, 12)
"""Classes of MOT16 and MOT17 whose boxes excuse a result: people on vehicles, static people,
distractors, reflections."""
MOT20_DISTRACTORS = (2, 6, 7, 8, 12)
"""As `DISTRACTORS`, and vehicles without a motor."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes of numbered objects in numbered frames, in any order.

    Args:
        frames: number of the frame of each box.
        ids: number of the object, at most once in a frame.
        boxes: rows x, y, w, h: top left corner and size, in pixels.

    Raises:
        InputError: arrays of unequal length, a box that is not finite or not above 0 in size, or an
            id twice in a frame.

    >>> len(Tracks(np.array([1, 2]), np.array([7, 7]), np.array([[0.0, 0, 9, 9], [1.0, 0, 9, 9]])))
    2
    """

    frames: Int64[np.ndarray, " n"]
    ids: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]

    def __post_init__(self) -> None:
        """Check what is given."""
        n = len(self.frames)
        if self.ids.shape != (n,) or self.boxes.shape != (n, 4):
            raise InputError(
                f"ids must be ({n},) and boxes ({n}, 4) for {n} frames, got {self.ids.shape} and "
                f"{self.boxes.shape}"
            )
        bad = ~np.isfinite(self.boxes).all(axis=1) | ~(self.boxes[:, 2:] > 0).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"boxes must be finite, with w and h above 0; row {row} (frame "
                f"{self.frames[row]}, id {self.ids[row]}) is {self.boxes[row].tolist()}"
            )
        order = np.lexsort((self.ids, self.frames))
        twice = (np.diff(self.frames[order]) == 0) & (np.diff(self.ids[order]) == 0)
        if twice.any():
            row = order[int(np.flatnonzero(twice)[0])]
            raise InputError(
                f"an id may stand once in a frame: frame {self.frames[row]} has id {self.ids[row]} "
                f"more than once, {int(twice.sum())} such boxes in all"
            )

    def __len__(self) -> int:
        """Boxes."""
        return len(self.frames)

    def rows(self, chosen: Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "Tracks":
        """These boxes."""
        return Tracks(self.frames[chosen], self.ids[chosen], self.boxes[chosen])


@dataclass(frozen=True, eq=False)
class Overlaps:
    """All pairs of a true box and a result box of one frame that overlap. `overlaps` makes it.

    Rows are numbers of boxes in order of frames, those of a frame as they were given. Frames and
    tracks are numbered from 0.

    Attributes:
        truth_frames: frame of each true box, ascending; `result_frames` likewise.
        truth_tracks: track of each true box; `result_tracks` likewise.
        truth_rows: true box of each pair, ascending; `result_rows` likewise, ascending where equal.
        iou: of each pair, above 0.
        truth_lengths: boxes of each true track; `result_lengths` likewise.
        shapes: true boxes and result boxes of each frame that has a box of either.
        cells: place of each pair in the matrix of its frame, read row by row.
        truth_order: place in the given tracks of each row; `result_order` likewise.
    """

    truth_frames: Int64[np.ndarray, " g"]
    result_frames: Int64[np.ndarray, " h"]
    truth_tracks: Int64[np.ndarray, " g"]
    result_tracks: Int64[np.ndarray, " h"]
    truth_rows: Int64[np.ndarray, " p"]
    result_rows: Int64[np.ndarray, " p"]
    iou: Float64[np.ndarray, " p"]
    truth_lengths: Int64[np.ndarray, " G"]
    result_lengths: Int64[np.ndarray, " H"]
    shapes: Int64[np.ndarray, "f 2"]
    cells: Int64[np.ndarray, " p"]
    truth_order: Int64[np.ndarray, " g"]
    result_order: Int64[np.ndarray, " h"]

    @property
    def n_frames(self) -> int:
        """Frames with a box of either."""
        return len(self.shapes)


def overlaps(truth: Tracks, result: Tracks) -> Overlaps:
    """The pairs of boxes that overlap, from all pairs of each frame.

    >>> one = Tracks(np.array([5]), np.array([1]), np.array([[0.0, 0, 10, 10]]))
    >>> other = Tracks(np.array([5]), np.array([3]), np.array([[5.0, 0, 10, 10]]))
    >>> overlaps(one, other).iou
    array([0.33333333])
    """
    numbers = np.union1d(truth.frames, result.frames)
    (g_order, g_frames, g_tracks, g_lengths), (h_order, h_frames, h_tracks, h_lengths) = (
        _in_order(tracks, numbers) for tracks in (truth, result)
    )
    g_corners = _corners(truth.boxes[g_order])
    h_corners = _corners(result.boxes[h_order])
    g_starts, h_starts = (
        np.searchsorted(frames, np.arange(len(numbers) + 1)) for frames in (g_frames, h_frames)
    )
    shapes = np.stack([np.diff(g_starts), np.diff(h_starts)], axis=1)
    first, partners = h_starts[g_frames], shapes[g_frames, 1]  # of each true box
    so_far = np.concatenate([[0], np.cumsum(partners)])
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    begin = 0
    while begin < len(g_frames):
        end = int(np.searchsorted(so_far, so_far[begin] + AT_ONCE, "right")) - 1
        end = max(end, begin + 1)
        counts = partners[begin:end]
        g = np.repeat(np.arange(begin, end), counts)
        h = np.arange(len(g)) + np.repeat(
            first[begin:end] - (so_far[begin:end] - so_far[begin]), counts
        )
        found.append(_overlapping(g_corners, h_corners, g, h))
        begin = end
    g, h, iou = (np.concatenate(each) for each in zip(*found, strict=True)) if found else (
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    )  # fmt: skip
    cells = (g - g_starts[g_frames[g]]) * partners[g] + h - first[g]
    return Overlaps(
        g_frames, h_frames, g_tracks, h_tracks, g, h, iou, g_lengths, h_lengths, shapes, cells,
        g_order, h_order,
    )  # fmt: skip


def solve(
    found: Overlaps,
    pairs: Int64[np.ndarray, " p"],
    scores: Float64[np.ndarray, " p"],
) -> Int64[np.ndarray, " m"]:
    """The pairs of one frame, each box at most once, with the largest sum of scores.

    Args:
        found: all pairs.
        pairs: numbers of pairs of one frame, ascending.
        scores: of these pairs, above 0; all others score 0.

    Returns:
        Numbers of the chosen pairs.
    """
    # All boxes of the frame are there, with or without a pair, and all in their order: where sums
    # are equal, the solver then chooses as it does for TrackEval.
    rows, columns = found.shapes[found.truth_frames[found.truth_rows[pairs[0]]]]
    cells = found.cells[pairs]
    matrix = np.zeros(rows * columns)
    matrix[cells] = -scores
    g, h = linear_sum_assignment(matrix.reshape(rows, columns))
    chosen = g * columns + h
    return pairs[np.searchsorted(cells, chosen[matrix[chosen] < 0])]


def ambiguous(found: Overlaps, pairs: Int64[np.ndarray, " p"]) -> Bool[np.ndarray, " f"]:
    """Frames in which a box has several of these pairs; in all others every pair is taken."""
    g, h = found.truth_rows[pairs], found.result_rows[pairs]
    several = (np.bincount(g, minlength=len(found.truth_frames))[g] > 1) | (
        np.bincount(h, minlength=len(found.result_frames))[h] > 1
    )
    frames = np.zeros(found.n_frames, bool)
    frames[found.truth_frames[g[several]]] = True
    return frames


def preprocess_mot(
    truth: Tracks,
    flags: Int64[np.ndarray, " n"],
    classes: Int64[np.ndarray, " n"] | None,
    result: Tracks,
    *,
    distractors: Iterable[int] = DISTRACTORS,
    length: int | None = None,
) -> tuple[Tracks, Tracks]:
    """What MOTChallenge scores: pedestrians, without results that found a distractor.

    In each frame results are matched to the true boxes of all classes, at an IoU of 0.5; those
    matched to a distractor are left out. Then true boxes count whose flag is not 0 and whose class
    is 1. Source: the evaluation kit of MOTChallenge, TrackEval (Luiten and Hoffhues, 2020).

    Args:
        truth: boxes of all classes.
        flags: of each true box; 0: it is not scored.
        classes: of each true box, 1 to 13; None: of MOT15, which has none and leaves no result out.
        result: of the tracker.
        distractors: classes; MOT20 has `MOT20_DISTRACTORS`.
        length: frames of the sequence; None: not checked.

    Returns:
        The tracks to score: truth and result.

    Raises:
        InputError: a frame beyond the length, or below 1; an unknown class; other lengths.

    Example:
        >>> boxes = np.array([[0.0, 0, 10, 20], [50.0, 0, 10, 20]])
        >>> truth = Tracks(np.array([1, 1]), np.array([1, 2]), boxes)
        >>> flags, classes = np.array([1, 0]), np.array([1, 8])
        >>> scored, kept = preprocess_mot(truth, flags, classes, truth)
        >>> scored.ids, kept.ids
        (array([1]), array([1]))
    """
    if flags.shape != (len(truth),) or (classes is not None and classes.shape != (len(truth),)):
        raise InputError(f"flags and classes must be of the {len(truth)} true boxes, one each")
    for name, tracks in (("truth", truth), ("result", result)):
        _check_frames(name, tracks, length)
    if classes is None:
        return truth.rows(flags != 0), result
    unknown = np.setdiff1d(classes, CLASSES)
    if len(unknown):
        raise InputError(
            f"classes must be 1 to {CLASSES[-1]}, got {unknown[:5].tolist()}; give None where the "
            "truth has no classes, as in MOT15"
        )
    found = overlaps(truth, result)
    near = np.flatnonzero(found.iou >= OVERLAP - ROUNDING)
    chosen = best_pairs(found, near, found.iou[near])
    of_class = classes[found.truth_order[found.truth_rows[chosen]]]
    excused = found.result_order[
        found.result_rows[chosen[np.isin(of_class, np.array(tuple(distractors), np.int64))]]
    ]
    kept = np.ones(len(result), bool)
    kept[excused] = False
    return truth.rows((flags != 0) & (classes == PEDESTRIAN)), result.rows(kept)


def best_pairs(
    found: Overlaps, pairs: Int64[np.ndarray, " p"], scores: Float64[np.ndarray, " p"]
) -> Int64[np.ndarray, " m"]:
    """Of these pairs those with the largest sum of scores in each frame, in order of frames."""
    frames = found.truth_frames[found.truth_rows[pairs]]
    unclear = ambiguous(found, pairs)
    chosen = [pairs[~unclear[frames]]]
    begins, ends = (np.searchsorted(frames, np.flatnonzero(unclear), side) for side in SIDES)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        chosen.append(solve(found, pairs[begin:end], scores[begin:end]))
    return np.sort(np.concatenate(chosen))


def _in_order(
    tracks: Tracks, numbers: Int64[np.ndarray, " f"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order of frames, frames and tracks numbered from 0, boxes of each track."""
    order = np.argsort(tracks.frames, kind="stable")
    frames = np.searchsorted(numbers, tracks.frames[order])
    ids, number = np.unique(tracks.ids[order], return_inverse=True)
    return order, frames, number, np.bincount(number, minlength=len(ids))


def _corners(boxes: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "5 n"]:
    """Left, top, right, bottom and area, the last from the corners as TrackEval has it."""
    x, y, w, h = boxes.T
    right, bottom = x + w, y + h
    return np.stack([x, y, right, bottom, (right - x) * (bottom - y)])


def _overlapping(
    one: Float64[np.ndarray, "5 g"],
    other: Float64[np.ndarray, "5 h"],
    g: Int64[np.ndarray, " p"],
    h: Int64[np.ndarray, " p"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of these pairs those that overlap, and their IoU."""
    across = np.minimum(one[2][g], other[2][h]) - np.maximum(one[0][g], other[0][h])
    beside = np.flatnonzero(across > 0)
    g, h, across = g[beside], h[beside], across[beside]
    down = np.minimum(one[3][g], other[3][h]) - np.maximum(one[1][g], other[1][h])
    shared = across * np.maximum(down, 0)
    iou = shared / (one[4][g] + other[4][h] - shared)
    some = np.flatnonzero(iou > 0)
    return g[some], h[some], iou[some]


def _check_frames(name: str, tracks: Tracks, length: int | None) -> None:
    if not len(tracks):
        return
    low, high = int(tracks.frames.min()), int(tracks.frames.max())
    if low < 1 or (length is not None and high > length):
        raise InputError(
            f"frames of the {name} must be 1 to {'...' if length is None else length}, got "
            f"{low} to {high}; is it of another sequence?"
        )
