"""CLEAR MOT: misses, false positives and identity switches of a tracker."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from scipy.optimize import linear_sum_assignment

from tupelo.evaluation.tracks import OVERLAP, ROUNDING, Overlaps, Tracks, ambiguous, overlaps, solve

KEPT = 1000.0  # score of a pair that is kept from the frame before, far above any sum of IoU
MOSTLY, HARDLY = 0.8, 0.2  # shares of a track's frames


@dataclass(frozen=True)
class ClearRules:
    """What the two usual implementations do differently.

    Args:
        keep_last_ever: a pair is kept if it was the last one of its object, ever; otherwise, if it
            was one in the frame before.
        at_least: an object found in exactly 80 % of its frames is mostly tracked.
        only_where_present: an object is interrupted only in frames that hold it, which then include
            frames without any result; otherwise also by its absence.
    """

    keep_last_ever: bool
    at_least: bool
    only_where_present: bool


TRACKEVAL = ClearRules(keep_last_ever=False, at_least=False, only_where_present=False)
"""As TrackEval, the evaluation kit of MOTChallenge: the numbers that are published today."""
MOTMETRICS = ClearRules(keep_last_ever=True, at_least=True, only_where_present=True)
"""As py-motmetrics."""


@dataclass(frozen=True)
class ClearMot:
    """Counts of CLEAR MOT, and the ratios they come to.

    Attributes:
        tp: true boxes that were found.
        fn: true boxes that were missed.
        fp: result boxes that found nothing.
        switches: an object found under another id than the last one it was found under.
        fragments: interruptions of objects that are found again.
        mostly_tracked: objects found in more than 80 % of their frames.
        partly_tracked: all others.
        mostly_lost: objects found in less than 20 % of their frames.
        iou_sum: over the boxes that were found.
        frames: with a box of either.
    """

    tp: int
    fn: int
    fp: int
    switches: int
    fragments: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    iou_sum: float
    frames: int

    @property
    def mota(self) -> float:
        """1 - (misses + false positives + switches) / true boxes; 0 where there are none."""
        return _ratio(self.tp - self.fp - self.switches, self.tp + self.fn)

    @property
    def motp(self) -> float:
        """Mean IoU of the boxes that were found (py-motmetrics tells 1 - IoU)."""
        return _ratio(self.iou_sum, self.tp)

    @property
    def moda(self) -> float:
        """As `mota`, without switches."""
        return _ratio(self.tp - self.fp, self.tp + self.fn)

    @property
    def recall(self) -> float:
        """Share of true boxes that were found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> float:
        """Share of result boxes that found something."""
        return _ratio(self.tp, self.tp + self.fp)

    def as_json(self) -> dict[str, Any]:
        """Names of the field and values."""
        return {
            "MOTA": self.mota,
            "MOTP": self.motp,
            "MODA": self.moda,
            "recall": self.recall,
            "precision": self.precision,
            "GT": self.tp + self.fn,
            "TP": self.tp,
            "FN": self.fn,
            "FP": self.fp,
            "IDs": self.switches,
            "Frag": self.fragments,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "frames": self.frames,
        }


def clear_mot(truth: Tracks, result: Tracks, rules: ClearRules = TRACKEVAL) -> ClearMot:
    """CLEAR MOT at an IoU of 0.5.

    In each frame pairs of the frame before are kept where they still overlap enough; the others are
    chosen for the largest sum of IoU. Source: Bernardin and Stiefelhagen, "Evaluating Multiple
    Object Tracking Performance", 2008; what it leaves open is in `rules`.

    Args:
        truth: the objects.
        result: of the tracker.
        rules: `TRACKEVAL` or `MOTMETRICS`. By TrackEval, "the frame before" and interruptions speak
            of frames in which both have boxes.

    Example:
        >>> boxes = np.tile(np.array([[0.0, 0, 10, 20]]), (4, 1))
        >>> truth = Tracks(np.arange(1, 5), np.array([1, 1, 1, 1]), boxes)
        >>> result = Tracks(np.arange(1, 5), np.array([5, 5, 6, 6]), boxes)
        >>> found = clear_mot(truth, result)
        >>> found.switches, found.mota
        (1, 0.75)
    """
    return clear_of(overlaps(truth, result), rules)


def clear_of(found: Overlaps, rules: ClearRules = TRACKEVAL) -> ClearMot:
    """As `clear_mot`, of boxes that were compared before."""
    n_truth, n_result = len(found.truth_frames), len(found.result_frames)
    both = np.zeros(found.n_frames, bool)  # frames in which both have boxes
    both[found.result_frames] = True
    has_truth = np.zeros(found.n_frames, bool)
    has_truth[found.truth_frames] = True
    both &= has_truth
    matched = _matched(found, np.flatnonzero(both), rules)
    rows = found.truth_rows[matched]
    tracks = found.truth_tracks[rows]
    order = np.lexsort((rows, tracks))  # by object, then by frame
    rows, tracks = rows[order], tracks[order]
    under = found.result_tracks[found.result_rows[matched[order]]]
    same = np.diff(tracks) == 0
    ratio = np.bincount(tracks, minlength=len(found.truth_lengths)) / found.truth_lengths
    mostly = int((ratio >= MOSTLY if rules.at_least else ratio > MOSTLY).sum())
    lost = int((ratio < HARDLY).sum())
    if rules.only_where_present:
        place = _place_in_track(found)[rows]
    else:
        place = (np.cumsum(both) - 1)[found.truth_frames[rows]]
    return ClearMot(
        tp=len(rows),
        fn=n_truth - len(rows),
        fp=n_result - len(rows),
        switches=int((same & (np.diff(under) != 0)).sum()),
        fragments=int((same & (np.diff(place) > 1)).sum()),
        mostly_tracked=mostly,
        partly_tracked=len(ratio) - mostly - lost,
        mostly_lost=lost,
        iou_sum=float(found.iou[matched].sum()),
        frames=found.n_frames,
    )


def _matched(
    found: Overlaps, frames: Int64[np.ndarray, " f"], rules: ClearRules
) -> Int64[np.ndarray, " m"]:
    """Numbers of the pairs that count as found; only unclear frames need what was before."""
    pairs = np.flatnonzero(found.iou >= OVERLAP - ROUNDING)
    g = found.truth_tracks[found.truth_rows[pairs]]
    h = found.result_tracks[found.result_rows[pairs]]
    unclear = ambiguous(found, pairs)[frames]
    of_frame = found.truth_frames[found.truth_rows[pairs]]
    begins = np.searchsorted(of_frame, frames)
    ends = np.searchsorted(of_frame, frames, "right")
    before = np.full(len(found.truth_lengths), -1)  # result track of each object
    chosen: list[np.ndarray] = []  # places in `pairs`
    last = np.zeros(0, np.int64)
    for begin, end, solving in zip(begins.tolist(), ends.tolist(), unclear.tolist(), strict=True):
        mine = np.arange(begin, end)
        if solving:
            if not rules.keep_last_ever:
                before[:] = -1
                before[g[last]] = h[last]
            kept = before[g[mine]] == h[mine]
            mine = _choose(found, pairs, mine, kept, rules)
        if rules.keep_last_ever:
            before[g[mine]] = h[mine]
        chosen.append(mine)
        last = mine
    return pairs[np.concatenate(chosen)] if chosen else pairs[:0]


def _choose(
    found: Overlaps,
    pairs: Int64[np.ndarray, " p"],
    mine: Int64[np.ndarray, " q"],
    kept: Bool[np.ndarray, " q"],
    rules: ClearRules,
) -> Int64[np.ndarray, " m"]:
    """Places of the pairs of one frame that are taken, of those whose places are given."""
    if rules.keep_last_ever:
        return _kept_first(found, pairs, mine, kept)
    chosen = solve(found, pairs[mine], found.iou[pairs[mine]] + KEPT * kept)
    return np.searchsorted(pairs, chosen)


def _kept_first(
    found: Overlaps,
    pairs: Int64[np.ndarray, " p"],
    mine: Int64[np.ndarray, " q"],
    kept: Bool[np.ndarray, " q"],
) -> Int64[np.ndarray, " m"]:
    """Kept pairs whatever they cost, the first object of two; then as many others as possible."""
    g, h = found.truth_rows[pairs[mine]], found.result_rows[pairs[mine]]
    stays = np.zeros(len(mine), bool)
    stays[np.flatnonzero(kept)[np.unique(h[kept], return_index=True)[1]]] = True
    free = ~np.isin(g, g[stays]) & ~np.isin(h, h[stays])
    others = mine[free]
    if len(others):
        rows, row = np.unique(g[free], return_inverse=True)
        columns, column = np.unique(h[free], return_inverse=True)
        dear = 2.0 * min(len(rows), len(columns)) + 1  # above all that the allowed pairs can cost
        cost = np.full((len(rows), len(columns)), dear)
        cost[row, column] = 1 - found.iou[pairs[others]]
        which = np.full(cost.shape, -1)
        which[row, column] = others
        taken = which[linear_sum_assignment(cost)]
        others = taken[taken >= 0]
    return np.sort(np.concatenate([mine[stays], others]))


def _place_in_track(found: Overlaps) -> Int64[np.ndarray, " g"]:
    """The how-manieth box of its object each true box is."""
    order = np.argsort(found.truth_tracks, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def _ratio(part: int | float, whole: int) -> float:
    return float(part / whole) if whole else 0.0
