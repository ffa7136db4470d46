"""Boxes as rows x, y, w, h in pixels: overlap, visible part, suppression, what a filter measures.

x and y are the top left corner, counted from 0. A box may lie partly or wholly outside the image.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from tupelo.errors import InputError


def overlaps(
    boxes: Float64[np.ndarray, "n 4"], others: Float64[np.ndarray, "m 4"]
) -> Float64[np.ndarray, "n m"]:
    """Intersection over union of every box with every other.

    >>> overlaps(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10], [10.0, 0, 5, 5]]))
    array([[0.33333333, 0.        ]])
    """
    x, y, w, h = boxes.T[:, :, None]
    u, v, p, q = others.T[:, None]
    shared = np.minimum(x + w, u + p)
    shared -= np.maximum(x, u)
    np.maximum(shared, 0, out=shared)
    down = np.minimum(y + h, v + q)
    down -= np.maximum(y, v)
    shared *= np.maximum(down, 0, out=down)
    return shared / (w * h + p * q - shared)


def visible_share(
    boxes: Float64[np.ndarray, "n 4"], width: int, height: int
) -> Float64[np.ndarray, " n"]:
    """The share of each box that lies inside the image.

    >>> visible_share(np.array([[-5.0, 0, 10, 10], [90.0, 0, 5, 5]]), width=80, height=60)
    array([0.5, 0. ])
    """
    x, y, w, h = boxes.T
    across = np.minimum(x + w, width) - np.maximum(x, 0)
    down = np.minimum(y + h, height) - np.maximum(y, 0)
    return np.maximum(across, 0) * np.maximum(down, 0) / (w * h)


def measured(boxes: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """What the filter measures of a box: middle x and y, aspect ratio w / h, height.

    >>> measured(np.array([[80.0, 160, 40, 80]]))
    array([[100. , 200. ,   0.5,  80. ]])
    """
    x, y, w, h = boxes.T
    return np.stack([x + w / 2, y + h / 2, w / h, h], axis=1)


def from_measured(rows: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """The box of a measurement.

    >>> from_measured(np.array([[100.0, 200, 0.5, 80]]))
    array([[ 80., 160.,  40.,  80.]])
    """
    across, down, aspect, h = rows.T
    w = aspect * h
    return np.stack([across - w / 2, down - h / 2, w, h], axis=1)


def from_corners(corners: ArrayLike) -> Float64[np.ndarray, "n 4"]:
    """Boxes of the corners x1, y1, x2, y2, as detectors often give them.

    >>> from_corners([[5, 10, 25, 50]])
    array([[ 5., 10., 20., 40.]])
    """
    rows = np.array(corners, dtype=np.float64).reshape(-1, 4)
    rows[:, 2:] -= rows[:, :2]
    return rows


def to_corners(boxes: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """The corners x1, y1, x2, y2 of boxes."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def kept(
    boxes: Float64[np.ndarray, "n 4"], scores: Float64[np.ndarray, " n"], overlap: float
) -> Bool[np.ndarray, " n"]:
    """Non-maximum suppression: a box goes if it overlaps a better one that stays by more.

    Args:
        boxes: in pixels.
        scores: greater is better; of equal ones the first stays.
        overlap: intersection over union, 1 keeps all.

    >>> kept(np.array([[0.0, 0, 10, 10], [1.0, 0, 10, 10]]), np.array([0.5, 0.9]), overlap=0.7)
    array([False,  True])
    """
    stays = np.ones(len(boxes), dtype=bool)
    if overlap >= 1 or len(boxes) < 2:
        return stays
    close = overlaps(boxes, boxes) > overlap
    for row in np.argsort(-scores, kind="stable"):
        if stays[row]:
            beaten = close[row].copy()
            beaten[row] = False
            # what was better and stayed is not among them: it would have removed this row
            stays &= ~beaten
    return stays


def checked(
    boxes: ArrayLike, scores: ArrayLike
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, " n"]]:
    """Boxes and scores as float64 arrays.

    Raises:
        InputError: not four columns, another number of scores than of boxes, numbers that are not
            finite, or a box without width or height.

    >>> checked([], [])[0].shape
    (0, 4)
    """
    rows, values = np.array(boxes, dtype=np.float64), np.array(scores, dtype=np.float64)
    if rows.size == 0 and rows.ndim <= 2:
        rows = rows.reshape(0, 4)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InputError(f"boxes must be rows of x, y, w, h, got shape {rows.shape}")
    if values.shape != (len(rows),):
        raise InputError(
            f"scores must hold one number for each of {len(rows)} boxes, got shape {values.shape}"
        )
    _first(~np.all(np.isfinite(rows), axis=1), "boxes must be finite", rows)
    _first(~np.isfinite(values), "scores must be finite", values)
    _first(np.any(rows[:, 2:] <= 0, axis=1), "boxes must have width and height above 0", rows)
    return rows, values


def _first(wrong: np.ndarray | np.bool, must: str, rows: np.ndarray) -> None:
    if np.any(wrong):
        found: Int64[np.ndarray, " w"] = np.flatnonzero(wrong)
        others = f"; {len(found)} rows are wrong" if len(found) > 1 else ""
        raise InputError(f"{must}, got {rows[found[0]].tolist()} in row {found[0]}{others}")
