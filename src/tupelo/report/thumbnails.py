"""Small pictures inside the page, within a budget of bytes.

WebP where Pillow writes it: a JPEG of 64 pixels is half headers.
"""

import base64
import binascii
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, features

from tupelo.data import ImageSet
from tupelo.errors import DataError

SIDES = (112, 96, 72, 56, 40, 28)  # pixels of the longer side
QUALITY = 72
AT_ONCE = 256  # pictures decoded at a time
PROBED = 24  # pictures that tell how large all will be


def thumbnails(
    pictures: ImageSet, rows: Sequence[int], *, side: int = 112, budget_bytes: int = 2_000_000
) -> dict[int, str]:
    """Pictures as data URIs, smaller where they would not fit the budget.

    Args:
        pictures: where from.
        rows: which; repeated ones are encoded once.
        side: of the longer side at most, in pixels; smaller pictures keep their size.
        budget_bytes: of all URIs together. Where even the smallest exceed it there are none.

    Returns:
        By row. A picture that can no longer be read is left out.
    """
    wanted = sorted(set(map(int, rows)))
    if not wanted:
        return {}
    probed = np.linspace(0, len(wanted) - 1, min(PROBED, len(wanted))).astype(int)
    some = _pixels(pictures, [wanted[place] for place in probed])
    for smaller in [side, *(each for each in SIDES if each < side)]:
        sizes = [len(encode(pixels, smaller)) for pixels in some.values()]
        if not sizes or np.mean(sizes) * len(wanted) > 0.9 * budget_bytes:
            continue
        found: dict[int, str] = {}
        for start in range(0, len(wanted), AT_ONCE):
            batch = _pixels(pictures, wanted[start : start + AT_ONCE])
            found |= {row: encode(pixels, smaller) for row, pixels in batch.items()}
        if sum(map(len, found.values())) <= budget_bytes:
            return found
    return {}


def _pixels(pictures: ImageSet, rows: list[int]) -> dict[int, np.ndarray]:
    try:
        images = pictures.batch(rows).images
    except (DataError, OSError):
        if len(rows) == 1:
            return {}
        half = len(rows) // 2
        return _pixels(pictures, rows[:half]) | _pixels(pictures, rows[half:])
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return dict(zip(rows, pixels, strict=True))


def encode(pixels: np.ndarray, side: int) -> str:
    """Pixels uint8 (h, w, 1 or 3) as a data URI, at most `side` pixels long.

    >>> encode(np.zeros((8, 8, 1), np.uint8), 40)[:11]
    'data:image/'
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return _uri(picture, side)


def shrink(png: str, side: int) -> str:
    """A PNG in base64 as a smaller data URI; "" where it is no picture."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(png, validate=True)), formats=["PNG"]) as file:
            return _uri(file.convert("RGB"), side)
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        return ""


def _uri(picture: Image.Image, side: int) -> str:
    picture.thumbnail((side, side), Image.Resampling.BOX if side < 40 else Image.Resampling.BICUBIC)
    kind = "webp" if features.check("webp") else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
