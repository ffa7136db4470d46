"""Pictures of tracks: boxes with numbers over frames, and a sheet with a row for each track."""

import colorsys
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from tupelo.errors import InputError
from tupelo.tracking.crops import cut

GOLDEN = 0.618033988749895  # hues of numbers that follow each other are far apart
DASH = 5
SHEET_EDGE, SHEET_LABEL = 2, 30


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a track: the same for its number everywhere.

    >>> colour(1) == colour(1), colour(1) == colour(2)
    (True, False)
    """
    hue = (number * GOLDEN) % 1.0
    strength = (1.0, 0.75, 0.88)[number % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, strength)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_tracks(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Int64[np.ndarray, " m"],
    boxes: Float64[np.ndarray, "m 4"],
    proposed: Bool[np.ndarray, " m"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """A frame with the boxes and numbers of its tracks; proposals have dashed borders.

    Args:
        image: RGB; not changed.
        ids: numbers of tracks.
        boxes: x, y, w, h in pixels.
        proposed: which boxes no detection stands behind; None for no one.

    >>> frame = np.zeros((60, 80, 3), np.uint8)
    >>> drawn = draw_tracks(frame, np.array([7]), np.array([[10.0, 20, 20, 30]]))
    >>> tuple(drawn[30, 10].tolist()) == colour(7)
    True
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    thick = max(2, round(min(image.shape[:2]) / 240))
    letters = ImageFont.load_default(max(10, round(min(image.shape[:2]) / 30)))
    dashed = np.zeros(len(ids), bool) if proposed is None else proposed
    for number, box, is_dashed in zip(ids.tolist(), boxes, dashed, strict=True):
        x, y, w, h = box
        corners = (round(x), round(y), round(x + w), round(y + h))
        if is_dashed:
            _dashed(pen, corners, colour(number), thick)
        else:
            pen.rectangle(_ordered(corners), outline=colour(number), width=thick)
        _label(pen, str(number), corners, colour(number), letters)
    return np.array(picture)


class ContactSheet:
    """One row a track, its crops in time; crops are added while frames pass.

    Memory is bounded: of a long track crops are kept at even distances, twice as far apart each
    time the row is full.

    Args:
        columns: crops in a row, at most.
        rows: tracks, at most: those with the most frames.
        height: of a crop.
        width: of a crop.

    Raises:
        InputError: a number is too small.
    """

    def __init__(
        self, *, columns: int = 16, rows: int = 100, height: int = 96, width: int = 48
    ) -> None:
        least = {"columns": (columns, 2), "rows": (rows, 1), "height": (height, 8)}
        for name, (value, smallest) in (least | {"width": (width, 8)}).items():
            if value < smallest:
                raise InputError(f"{name} must be {smallest} or more, got {value}")
        self.columns, self.rows, self.height, self.width = columns, rows, height, width
        self._tracks: dict[int, _Row] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def add(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        ids: Int64[np.ndarray, " m"],
        boxes: Float64[np.ndarray, "m 4"],
        proposed: Bool[np.ndarray, " m"] | None = None,
    ) -> None:
        """The tracks of the next frame; arguments as for `draw_tracks`."""
        dashed = np.zeros(len(ids), bool) if proposed is None else proposed
        due = []
        for place, number in enumerate(ids.tolist()):
            row = self._tracks.setdefault(number, _Row())
            if row.seen % row.every == 0:
                due.append(place)
            row.seen += 1
        crops, _ = cut(image, boxes[due], self.height, self.width)
        for place, crop in zip(due, crops, strict=True):
            self._tracks[int(ids[place])].keep(crop, bool(dashed[place]), self.columns)
        if len(self._tracks) > 4 * self.rows:  # the many short ones will not be shown
            self._tracks = dict(self._longest(2 * self.rows))

    def draw(self) -> UInt8[np.ndarray, "h w 3"]:
        """The sheet: tracks by number, crops from early to late; proposals are framed.

        Raises:
            InputError: there is no track.
        """
        if not self._tracks:
            raise InputError("a contact sheet needs a track, and none was added")
        shown = sorted(self._longest(self.rows))
        down, across = self.height + SHEET_EDGE, self.width + SHEET_EDGE
        widest = max(len(row.crops) for _, row in shown)
        sheet = Image.new("RGB", (SHEET_LABEL + widest * across, len(shown) * down), "white")
        pen, letters = ImageDraw.Draw(sheet), ImageFont.load_default(12)
        for at, (number, row) in enumerate(shown):
            y = at * down
            pen.rectangle((0, y, SHEET_LABEL - 4, y + self.height - 1), fill=colour(number))
            pen.text((3, y + 3), str(number), fill=_ink(colour(number)), font=letters)
            for place, (crop, is_dashed) in enumerate(row.crops):
                x = SHEET_LABEL + place * across
                sheet.paste(Image.fromarray(crop), (x, y))
                if is_dashed:
                    corners = (x, y, x + self.width - 1, y + self.height - 1)
                    _dashed(pen, corners, colour(number), 2)
        return np.array(sheet)

    def _longest(self, most: int) -> "list[tuple[int, _Row]]":
        by_length = sorted(self._tracks.items(), key=lambda each: (-each[1].seen, each[0]))
        return by_length[:most]


class _Row:
    """The crops kept of a track."""

    def __init__(self) -> None:
        self.crops: list[tuple[np.ndarray, bool]] = []
        self.seen = 0
        self.every = 1

    def keep(self, crop: np.ndarray, is_dashed: bool, most: int) -> None:
        if len(self.crops) == most:
            self.crops = self.crops[::2]
            self.every *= 2
            if (self.seen - 1) % self.every:
                return
        self.crops.append((crop.copy(), is_dashed))


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    corners: tuple[int, int, int, int],
    paint: tuple[int, int, int],
    letters,
) -> None:
    """The number above the box, or inside where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=letters)
    width, height = right - left + 4, bottom - top + 4
    x, y = corners[0], corners[1] - height
    if y < 0:
        y = corners[1]
    pen.rectangle((x, y, x + width, y + height), fill=paint)
    pen.text((x + 2 - left, y + 2 - top), text, fill=_ink(paint), font=letters)


def _ink(paint: tuple[int, int, int]) -> str:
    return "black" if 299 * paint[0] + 587 * paint[1] + 114 * paint[2] > 140_000 else "white"


def _ordered(corners: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x, y, right, bottom = corners
    return x, y, max(x, right), max(y, bottom)


def _dashed(
    pen: ImageDraw.ImageDraw,
    corners: tuple[int, int, int, int],
    paint: tuple[int, int, int],
    thick: int,
) -> None:
    x, y, right, bottom = _ordered(corners)
    for start, stop, line in _dashes(x, right, (y, bottom)):
        pen.line((start, line, stop, line), fill=paint, width=thick)
    for start, stop, line in _dashes(y, bottom, (x, right)):
        pen.line((line, start, line, stop), fill=paint, width=thick)


def _dashes(low: int, high: int, lines: tuple[int, int]) -> Iterable[tuple[int, int, int]]:
    for start in range(low, high + 1, 2 * DASH):
        for line in lines:
            yield start, min(start + DASH, high), line
