"""Crops of boxes, all of one size, as a network for them wants to see them."""

import numpy as np
from jaxtyping import Float, UInt8

from tupelo.errors import InputError
from tupelo.tracking.boxes import visible_share

LEAST = 1e-3  # pixels across and down: of less there is no picture


def cut(
    image: UInt8[np.ndarray, "h w 3"], boxes: Float[np.ndarray, "n 4"], height: int, width: int
) -> tuple[UInt8[np.ndarray, "n height width 3"], Float[np.ndarray, " n"]]:
    """Cut boxes out of a picture and bring them to one size.

    A box is widened or narrowed around its centre to the aspect of the crop, then clipped to the
    picture, then resampled (bicubic with antialias, sub-pixel borders, as Pillow does it).

    Args:
        image: rows of RGB pixels.
        boxes: x, y, w, h in pixels from the top left corner of the picture; may reach outside.
        height: of the crops.
        width: of the crops.

    Returns:
        Crops, and the share of each box that lies inside the picture. The crop of a box without a
        visible part is black and its share is 0; that is so too where the narrowed box misses the
        picture.

    Raises:
        InputError: the picture is no uint8 (h, w, 3), a box is not finite or has no area, or a size
            is below 1.

    >>> image = np.full((60, 80, 3), 200, np.uint8)
    >>> crops, visible = cut(image, np.array([[10.0, 5, 20, 40], [70, 0, 20, 40]]), 64, 32)
    >>> crops.shape, visible
    ((2, 64, 32, 3), array([1. , 0.5]))
    """
    _check(image, boxes, height, width)
    out = np.zeros((len(boxes), height, width, 3), np.uint8)
    if not len(boxes):
        return out, np.zeros(0)
    down, across = image.shape[:2]
    wanted = windows(boxes, height, width)
    inside = _clipped(wanted, across, down)
    visible = visible_share(boxes, across, down)
    kept = _areas(inside) > 0
    kept &= visible > 0
    from tupelo.tracking.crop_kernel import resample

    resample(np.ascontiguousarray(image).reshape(down, -1), inside, kept, out)
    return out, np.where(kept, visible, 0.0)


def windows(boxes: Float[np.ndarray, "n 4"], height: int, width: int) -> Float[np.ndarray, "n 4"]:
    """Left, top, right and bottom of boxes widened or narrowed to the aspect of the crop.

    >>> windows(np.array([[10.0, 0, 20, 40]]), height=64, width=64)
    array([[ 0.,  0., 40., 40.]])
    """
    x, y, w, h = boxes.T
    across = h * (width / height)
    left = x + (w - across) / 2
    return np.stack([left, y, left + across, y + h], axis=1)


def _clipped(corners: Float[np.ndarray, "n 4"], width: int, height: int):
    return np.clip(corners, 0.0, np.array([width, height, width, height], np.float64))


def _areas(corners: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """0 where a side is too short to be resampled."""
    sides = corners[:, 2:] - corners[:, :2]
    return np.where((sides >= LEAST).all(axis=1), sides.prod(axis=1), 0.0)


def _check(image: np.ndarray, boxes: np.ndarray, height: int, width: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"image must be uint8 (h, w, 3), got {image.dtype} of shape {image.shape}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be rows x, y, w, h, got an array of shape {boxes.shape}")
    if height < 1 or width < 1:
        raise InputError(f"crops must be 1 x 1 pixels or larger, got {height} x {width}")
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"boxes must be finite and of positive width and height, got {boxes[row].tolist()} in "
            f"row {row}"
        )
