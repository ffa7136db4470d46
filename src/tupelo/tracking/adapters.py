"""Detections of other libraries, in and out of a tracker; none of them is imported.

Two forms are known by what they have: that of supervision (`xyxy`, `confidence`, `tracker_id`) and
that of ultralytics (`boxes.xyxy`, `boxes.conf`, `boxes.data`). Both are indexed by rows.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from tupelo.errors import InputError
from tupelo.tracking.tracker import Tracked


def boxes_of(
    detections: Any,
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, " n"]]:
    """Boxes x, y, w, h and confidence, for `Tracker.update`.

    Args:
        detections: of supervision or ultralytics, or anything else with `xyxy` and `confidence`.
            Without a confidence (None) all are certain.

    Raises:
        InputError: it has neither form.

    >>> from types import SimpleNamespace
    >>> found = SimpleNamespace(xyxy=np.array([[10, 20, 30, 60]]), confidence=np.array([0.9]))
    >>> boxes_of(found)
    (array([[10., 20., 20., 40.]]), array([0.9]))
    """
    if hasattr(detections, "xyxy") and hasattr(detections, "confidence"):
        corners, confidence = detections.xyxy, detections.confidence
    elif hasattr(getattr(detections, "boxes", None), "xyxy"):
        corners, confidence = detections.boxes.xyxy, detections.boxes.conf
    else:
        raise InputError(
            "detections must have xyxy and confidence, or boxes.xyxy and boxes.conf, got "
            f"{type(detections).__name__}; for others, give boxes and scores to Tracker.update"
        )
    corners = _array(corners).reshape(-1, 4)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    scores = np.ones(len(boxes)) if confidence is None else _array(confidence).reshape(-1)
    return boxes, scores


def with_ids(detections: Any, tracked: Tracked) -> Any:
    """The detections that belong to tracks, in their own form, with the numbers of the tracks.

    Boxes stay as the detector reported them. Proposals, which no detection stands behind, are not
    among them: `tracked.boxes[tracked.proposed]` are theirs.

    Args:
        detections: those that `boxes_of` read for this frame.
        tracked: what `Tracker.update` returned for them.

    Returns:
        supervision: the rows with `tracker_id` set; ultralytics: the rows with `boxes.id`.

    Raises:
        InputError: it has neither form.
    """
    found = ~tracked.proposed
    rows, ids = tracked.detections[found], tracked.ids[found]
    if hasattr(detections, "xyxy") and hasattr(detections, "confidence"):
        kept = detections[rows]
        kept.tracker_id = ids.astype(int)
        return kept
    if not hasattr(getattr(detections, "boxes", None), "data"):
        raise InputError(
            "detections must have xyxy and confidence, or boxes.xyxy and boxes.conf, got "
            f"{type(detections).__name__}"
        )
    kept, data = detections[rows], detections.boxes.data[rows]
    columns = (len(rows), 7)  # x, y, x, y, id, confidence, class
    numbered = np.zeros(columns) if isinstance(data, np.ndarray) else data.new_zeros(columns)
    numbered[:, :4], numbered[:, 5:] = data[:, :4], data[:, -2:]
    numbered[:, 4] = ids if isinstance(data, np.ndarray) else data.new_tensor(ids.tolist())
    kept.update(boxes=numbered)
    return kept


def _array(values: Any) -> np.ndarray:
    """As float64 on the CPU, of an array or a tensor."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values, np.float64)
