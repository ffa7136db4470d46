"""HOTA: detection and association of a tracker in equal parts, over all localisation thresholds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from tupelo.evaluation.tracks import ROUNDING, Overlaps, Tracks, best_pairs, overlaps

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 thresholds of IoU, 0.05 to 0.95."""


@dataclass(frozen=True, eq=False)
class Hota:
    """Counts and sums at each of the `ALPHAS`, and what they come to.

    Properties are means over thresholds, and of arrays the name ends in `_at`.

    Attributes:
        tp: pairs of a true box and a result box.
        fn: true boxes without one.
        fp: result boxes without one.
        jaccard_sum: over pairs, of the share of frames in which both tracks are this pair, among
            frames with either.
        recall_sum: likewise, among frames with the object.
        precision_sum: likewise, among frames with the result track.
        iou_sum: over pairs.
    """

    tp: Int64[np.ndarray, " 19"]
    fn: Int64[np.ndarray, " 19"]
    fp: Int64[np.ndarray, " 19"]
    jaccard_sum: Float64[np.ndarray, " 19"]
    recall_sum: Float64[np.ndarray, " 19"]
    precision_sum: Float64[np.ndarray, " 19"]
    iou_sum: Float64[np.ndarray, " 19"]

    @property
    def hota_at(self) -> Float64[np.ndarray, " 19"]:
        """Root of `det_a_at` times `ass_a_at`."""
        return np.sqrt(self.det_a_at * self.ass_a_at)

    @property
    def det_a_at(self) -> Float64[np.ndarray, " 19"]:
        """TP / (TP + FN + FP)."""
        return self.tp / np.maximum(1, self.tp + self.fn + self.fp)

    @property
    def ass_a_at(self) -> Float64[np.ndarray, " 19"]:
        """Mean over pairs of how well their two tracks agree."""
        return self.jaccard_sum / np.maximum(1, self.tp)

    @property
    def loc_a_at(self) -> Float64[np.ndarray, " 19"]:
        """Mean IoU of pairs; 1 where there are none."""
        return np.where(self.tp > 0, self.iou_sum / np.maximum(1, self.tp), 1.0)

    @property
    def hota(self) -> float:
        """Mean over thresholds of the root of detection times association."""
        return float(self.hota_at.mean())

    @property
    def det_a(self) -> float:
        """Accuracy of detection."""
        return float(self.det_a_at.mean())

    @property
    def ass_a(self) -> float:
        """Accuracy of association."""
        return float(self.ass_a_at.mean())

    @property
    def loc_a(self) -> float:
        """Accuracy of localisation."""
        return float(self.loc_a_at.mean())

    @property
    def det_re(self) -> float:
        """Recall of detection."""
        return float((self.tp / np.maximum(1, self.tp + self.fn)).mean())

    @property
    def det_pr(self) -> float:
        """Precision of detection."""
        return float((self.tp / np.maximum(1, self.tp + self.fp)).mean())

    @property
    def ass_re(self) -> float:
        """Recall of association."""
        return float((self.recall_sum / np.maximum(1, self.tp)).mean())

    @property
    def ass_pr(self) -> float:
        """Precision of association."""
        return float((self.precision_sum / np.maximum(1, self.tp)).mean())

    def as_json(self) -> dict[str, Any]:
        """Names of the field and values, and some of them at each threshold."""
        at = {
            "HOTA": self.hota_at,
            "DetA": self.det_a_at,
            "AssA": self.ass_a_at,
            "LocA": self.loc_a_at,
            "TP": self.tp,
            "FN": self.fn,
            "FP": self.fp,
        }
        return {
            "HOTA": self.hota,
            "DetA": self.det_a,
            "AssA": self.ass_a,
            "DetRe": self.det_re,
            "DetPr": self.det_pr,
            "AssRe": self.ass_re,
            "AssPr": self.ass_pr,
            "LocA": self.loc_a,
            "by_alpha": {
                f"{alpha:.2f}": {name: values[place].item() for name, values in at.items()}
                for place, alpha in enumerate(ALPHAS)
            },
        }


def hota(truth: Tracks, result: Tracks) -> Hota:
    """HOTA, with boxes of each frame paired once for all thresholds.

    Pairs are chosen for the largest sum of IoU times how well the two tracks fit over the whole
    sequence. Source: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object
    Tracking", IJCV 2021.

    Example:
        >>> boxes = np.tile(np.array([[0.0, 0, 10, 20]]), (4, 1))
        >>> truth = Tracks(np.arange(1, 5), np.array([1, 1, 1, 1]), boxes)
        >>> result = Tracks(np.arange(1, 5), np.array([5, 5, 6, 6]), boxes)
        >>> found = hota(truth, result)
        >>> found.det_a, found.ass_a, round(found.hota, 4)
        (1.0, 0.5, 0.7071)
    """
    return hota_of(overlaps(truth, result))


def hota_of(found: Overlaps) -> Hota:
    """As `hota`, of boxes that were compared before."""
    iou, g, h = found.iou, found.truth_rows, found.result_rows
    keys, track_pair = np.unique(
        found.truth_tracks[g] * len(found.result_lengths) + found.result_tracks[h],
        return_inverse=True,
    )
    ours, theirs = np.divmod(keys, max(1, len(found.result_lengths)))
    length, other_length = found.truth_lengths[ours], found.result_lengths[theirs]
    of_truth = np.bincount(g, iou, minlength=len(found.truth_frames))
    of_result = np.bincount(h, iou, minlength=len(found.result_frames))
    fit = np.bincount(track_pair, iou / (of_truth[g] + of_result[h] - iou), minlength=len(keys))
    fit = fit / (length + other_length - fit)  # not in place: of no pairs, counts are whole
    chosen = best_pairs(found, np.arange(len(iou)), fit[track_pair] * iou)
    iou, track_pair = iou[chosen], track_pair[chosen]
    counts = np.zeros((len(ALPHAS), len(keys)), np.int64)
    iou_sum = np.zeros(len(ALPHAS))
    for place, alpha in enumerate(ALPHAS):
        near = iou >= alpha - ROUNDING
        counts[place] = np.bincount(track_pair[near], minlength=len(keys))
        iou_sum[place] = iou[near].sum()
    tp = counts.sum(axis=1)
    squares = counts * counts
    return Hota(
        tp=tp,
        fn=len(found.truth_frames) - tp,
        fp=len(found.result_frames) - tp,
        jaccard_sum=(squares / (length + other_length - counts)).sum(axis=1),
        recall_sum=(squares / length).sum(axis=1),
        precision_sum=(squares / other_length).sum(axis=1),
        iou_sum=iou_sum,
    )
