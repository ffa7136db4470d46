"""From the bytes of a picture file to uint8 pixels, or a reason why not."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

# The number of pixels above which Pillow itself speaks of a decompression bomb.
MAX_PIXELS = 89_478_485
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_TRANSPOSED = frozenset({5, 6, 7, 8})

Resize = Literal["crop", "squash", "pad"]
Box = tuple[float, float, float, float]


class BadPicture(Exception):
    """A picture that cannot be used; the message is the reason, its kind before the colon."""


class Frame(NamedTuple):
    """The form every picture of a set is brought into."""

    height: int
    width: int
    channels: int
    resize: Resize = "crop"


class Header(NamedTuple):
    """What is known of a picture before it is decoded: its upright size, and whether it is grey."""

    height: int
    width: int
    grey: bool


_quiet_lock = threading.Lock()
_quiet_depth = 0
_installed: list[tuple] = []


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's own warnings away from the user, in every thread, while pictures are read.

    `warnings.catch_warnings` restores the wrong filters when two threads leave it out of order;
    this adds one filter, for Pillow's modules only, and takes it away when the last reader leaves.
    """
    global _quiet_depth  # noqa: PLW0603
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            count = len(warnings.filters)
            warnings.filterwarnings("ignore", module=r"PIL\.")
            if len(warnings.filters) > count:  # else the user's own filter already says so
                _installed.append(warnings.filters[0])
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _installed:
                installed, filters = _installed.pop(), cast(list, warnings.filters)
                if installed in filters:
                    filters.remove(installed)


def read_header(data: bytes, box: Box | None = None) -> Header:
    """Read size and colour without decoding.

    Args:
        data: the whole file.
        box: left, top, width, height in pixels of the upright picture.

    Raises:
        BadPicture: the file is empty, not a picture, too large, or the box misses it.
    """
    picture = _open(data)
    width, height = picture.size
    try:
        turned = picture.getexif().get(0x0112, 1) in _TRANSPOSED
    except Exception as error:
        raise BadPicture(f"damaged: {error}") from error
    if turned:
        width, height = height, width
    if box is not None:
        left, top, right, bottom = _inside(box, width, height)
        width, height = round(right - left), round(bottom - top)
    return Header(height, width, _is_grey(picture))


def decode(data: bytes, frame: Frame, box: Box | None = None) -> UInt8[np.ndarray, "c h w"]:
    """Decode, turn upright, crop to `box`, flatten onto white, and bring into `frame`.

    Of several frames (animations) the first is taken. 16-bit grey is divided by 257, floating
    point is read as [0, 1] when nothing in it exceeds 1, else as [0, 255].

    Raises:
        BadPicture: the file is empty, not a picture, too large, damaged, or the box misses it.
    """
    picture = _open(data)
    try:
        if box is None and picture.format == "JPEG":
            _draft(picture, frame)
        pixels = prepare(picture, frame, box)
    except BadPicture:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged bytes
        raise BadPicture(f"damaged: {error}") from error
    return pixels


def prepare(
    picture: Image.Image, frame: Frame, box: Box | None = None
) -> UInt8[np.ndarray, "c h w"]:
    """Turn an opened picture upright, crop it to `box`, flatten it, and bring it into `frame`.

    Raises:
        BadPicture: the box misses it, or its pixels are not finite.
    """
    picture = ImageOps.exif_transpose(picture)
    window = None if box is None else _inside(box, *picture.size)
    return fit(_flat(picture, frame.channels), frame, window)


def fit(
    picture: Image.Image, frame: Frame, window: Box | None = None
) -> UInt8[np.ndarray, "c h w"]:
    """Bring an opaque grey or RGB picture into `frame`.

    `crop` scales the shorter side to the frame and cuts the middle, in one resampling; `squash`
    ignores the aspect ratio; `pad` scales the longer side and fills with white.

    Args:
        picture: mode L or RGB, agreeing with `frame.channels`.
        window: left, top, right, bottom of the part to use; default all of it.
    """
    left, top, right, bottom = window or (0.0, 0.0, float(picture.width), float(picture.height))
    size = (frame.width, frame.height)
    across, down = right - left, bottom - top
    if frame.resize == "pad":
        scale = min(frame.width / across, frame.height / down)
        inner = (max(1, round(across * scale)), max(1, round(down * scale)))
        scaled = picture.resize(inner, Image.Resampling.BICUBIC, (left, top, right, bottom))
        picture = Image.new(picture.mode, size, "white")
        picture.paste(scaled, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    else:
        if frame.resize == "crop":
            scale = min(across / frame.width, down / frame.height)
            # min: rounding may reach past the border. Whole pixels where nothing is scaled, so
            # that such a crop is exact.
            kept_x, kept_y = min(across, frame.width * scale), min(down, frame.height * scale)
            cut_x, cut_y = across - kept_x, down - kept_y
            if scale == 1:
                cut_x, cut_y = 2 * (cut_x // 2), 2 * (cut_y // 2)
            left, top = left + cut_x / 2, top + cut_y / 2
            right, bottom = min(right, left + kept_x), min(bottom, top + kept_y)
        if (left, top, right, bottom) != (0, 0, *picture.size) or picture.size != size:
            picture = picture.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom))
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadPicture("empty file")
    try:
        picture = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise BadPicture(f"too large: {error}") from error
    except Exception as error:  # Pillow's readers raise anything on damaged bytes
        raise BadPicture("not an image: no reader knows its format") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadPicture(f"too large: {width} x {height} pixels, at most {MAX_PIXELS} are read")
    return picture


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode in _GREY_MODES


def _inside(box: Box, width: int, height: int) -> Box:
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    if not (right - left >= 1 and bottom - top >= 1):
        raise BadPicture(f"box misses the picture: x, y, w, h = {box} in {width} x {height} pixels")
    return left, top, right, bottom


def _draft(picture: Image.Image, frame: Frame) -> None:
    """Let the JPEG reader halve large pictures while decoding, to no less than twice the frame."""
    width, height = picture.size
    side = max(frame.width, frame.height)
    factor = min(width, height) / (2 * side)
    if factor >= 2:
        picture.draft(None, (int(width / factor), int(height / factor)))


def _flat(picture: Image.Image, channels: int) -> Image.Image:
    """The picture in mode L or RGB: alpha over white, deep grey scaled down."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    mode = "L" if channels == 1 else "RGB"
    if picture.mode == mode:
        picture.load()
        return picture
    if picture.mode not in {"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr"}:
        picture = picture.convert("RGB")
    return picture.convert(mode)


def _eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise BadPicture("damaged: pixels are NaN or infinite")
    if picture.mode == "F":
        scaled = values * 255 if values.max(initial=0) <= 1 else values
    else:
        scaled = values / 257
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
