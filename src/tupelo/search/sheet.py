"""A contact sheet: queries at the left, what they found to the right, from thumbnails alone."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tupelo.errors import InputError
from tupelo.search.answers import Found

SIDE = 112  # pixels of a picture's place
_GAP, _MARGIN, _LINE, _TEXT = 14, 20, 15, 12
_INK, _FAINT, _PAPER, _PLACE = "#1a1a1a", "#777777", "#ffffff", "#f1f1f1"
_RIGHT, _WRONG, _ASKED = "#1a8f3c", "#c62828", "#3b4cc0"
_CELL = SIDE + 3 * _LINE + 8
_LONGEST = 60  # characters that could stand in a line: more are not measured


@dataclass(frozen=True)
class Row:
    """A query and what it found.

    Args:
        name: of the query.
        label: of the query; several tags joined by `|`; "" where it is not known.
        picture: of the query, a picture file, or None.
        found: by it.
        pictures: of what was found, one each, or None.
    """

    name: str
    label: str
    picture: bytes | None
    found: Found
    pictures: Sequence[bytes | None]


def right(label: str, found: str) -> bool | None:
    """Whether two labels share a tag; None where the query's is not known.

    >>> right("red|big", "big"), right("red", "blue"), right("", "blue")
    (True, False, None)
    """
    return bool(set(label.split("|")) & set(found.split("|"))) if label else None


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """Draw one row a query: rank, label and similarity of every neighbour, and its file's name.

    Where the query's label is known, a green frame and a check mark what shares it, a red frame
    and a cross what does not.

    Raises:
        InputError: there is no row.

    >>> found = Found(("cats/a.png",), ("cat",), (0.9,), True)
    >>> contact_sheet([Row("q.png", "cat", None, found, [None])]).size
    (292, 241)
    """
    if not rows:
        raise InputError("rows must hold at least one query, got none")
    columns = max(1, *(len(row.found) for row in rows))
    head = 2 * _LINE + 6
    left = _MARGIN + SIDE + 2 * _GAP
    width = left + columns * (SIDE + _GAP) - _GAP + _MARGIN
    height = _MARGIN + head + len(rows) * (_CELL + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = _Pen(sheet)
    pen.text(_MARGIN, _MARGIN, "query", _FAINT)
    pen.text(left, _MARGIN, "nearest first: cosine similarity", _FAINT)
    if any(row.label for row in rows):
        pen.mark(left, _MARGIN + _LINE + 1, True)
        pen.text(left + 16, _MARGIN + _LINE, "same label", _FAINT)
        pen.mark(left + 96, _MARGIN + _LINE + 1, False)
        pen.text(left + 112, _MARGIN + _LINE, "another", _FAINT)
    for place, row in enumerate(rows):
        top = _MARGIN + head + place * (_CELL + _GAP)
        pen.cell(_MARGIN, top, row.picture, ("", row.label, row.name), _ASKED)
        found = row.found
        for rank, path in enumerate(found.paths):
            same = right(row.label, found.labels[rank])
            across = left + rank * (SIDE + _GAP)
            colour = {True: _RIGHT, False: _WRONG, None: ""}[same]
            place_and_similarity = f"{rank + 1}.  {found.similarity[rank]:.3f}"
            lines = (place_and_similarity, found.labels[rank], path)
            pen.cell(across, top, row.pictures[rank], lines, colour)
            if same is not None:
                pen.badge(across + SIDE - 17, top + 2, same)
        if not found.paths:
            pen.text(left, top + SIDE // 2, "nothing found", _FAINT)
    return sheet


class _Pen:
    """Draws text, marks and pictures on a sheet."""

    def __init__(self, sheet: Image.Image) -> None:
        self._sheet = sheet
        self._draw = ImageDraw.Draw(sheet)
        self._font = ImageFont.load_default(size=_TEXT)

    def text(self, x: int, y: int, text: str, colour: str, width: int = 0, end: bool = False):
        """One line; cut to `width`, where given, at the start if `end`, else at the end."""
        text = "".join(each if each.isprintable() else "?" for each in text)
        kept = text[-_LONGEST:] if end else text[:_LONGEST]
        shown = text
        while width and kept and (len(shown) > _LONGEST or self._font.getlength(shown) > width):
            kept = kept[1:] if end else kept[:-1]
            shown = f"...{kept}" if end else f"{kept}..."
        text = shown
        self._draw.text((x, y), text, colour, font=self._font)

    def cell(
        self, x: int, y: int, picture: bytes | None, lines: tuple[str, str, str], colour: str
    ) -> None:
        """A picture in its place; below it rank, label and name, from the first that there is."""
        self._draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), _PLACE)
        shown = None if picture is None else _fitted(picture)
        if shown is None:
            self.text(x + 24, y + SIDE // 2 - 8, "no picture", _FAINT)
        else:
            at = (x + (SIDE - shown.width) // 2, y + (SIDE - shown.height) // 2)
            self._sheet.paste(shown, at)
        if colour:
            self._draw.rectangle((x - 2, y - 2, x + SIDE + 1, y + SIDE + 1), None, colour, 2)
        head, label, path = lines
        below = y + SIDE + 5
        for text in filter(None, (head, label)):
            self.text(x, below, text, _INK, SIDE)
            below += _LINE
        self.text(x, below, path.rsplit("/", 1)[-1], _FAINT, SIDE, end=True)

    def badge(self, x: int, y: int, good: bool) -> None:
        """A mark on a white spot, seen on any picture."""
        self._draw.ellipse((x - 1, y - 1, x + 15, y + 15), _PAPER)
        self.mark(x + 2, y + 2, good)

    def mark(self, x: int, y: int, good: bool) -> None:
        """A green check or a red cross, drawn: fonts may lack them."""
        if good:
            line = [(x + 1, y + 6), (x + 4, y + 9), (x + 10, y + 2)]
            self._draw.line(line, _RIGHT, 2)
        else:
            self._draw.line([(x + 2, y + 2), (x + 9, y + 9)], _WRONG, 2)
            self._draw.line([(x + 9, y + 2), (x + 2, y + 9)], _WRONG, 2)


def _fitted(picture: bytes) -> Image.Image | None:
    """A picture as large as its place; small ones keep their pixels, so that nothing blurs.

    None where it cannot be read: items may be given any bytes as a thumbnail.
    """
    try:
        with Image.open(io.BytesIO(picture)) as opened:
            shown = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    times = SIDE / max(shown.size)
    if times >= 2:
        times = int(times)
        return shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST)
    size = (max(1, round(shown.width * times)), max(1, round(shown.height * times)))
    return shown.resize(size, Image.Resampling.LANCZOS)
