"""What models and objectives have to show, as blocks of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tupelo.report.figures import Drawn, curves, histogram
from tupelo.report.points import scatter
from tupelo.report.rendering import number
from tupelo.report.thumbnails import shrink
from tupelo.sections import Bars, Curves, Part, Pictures, Points, Section, Table
from tupelo.training.logs import Row

BARS = 24  # more are a histogram
EXTREMES = 5
TABLE_ROWS = 60
POINTS = 3_000
SIDE = 128  # of a picture, in pixels


@dataclass(frozen=True)
class Bar:
    """A bar: its name, number as text, and where it lies in percent of the width."""

    name: str
    value: str
    left: float
    width: float


@dataclass(frozen=True)
class Block:
    """One thing of the page; what is empty is not shown.

    Attributes:
        note: a sentence.
        chart: a figure.
        bars: one under the other.
        label: of the axis of the bars.
        header: of a table.
        rows: of a table; numbers as text.
        pictures: rows of (head, [(data URI, caption)]).
    """

    note: str = ""
    chart: Drawn | None = None
    bars: Sequence[Bar] = ()
    label: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[tuple[str, bool]]] = ()
    pictures: Sequence[tuple[str, list[tuple[str, str]]]] = field(default_factory=tuple)


def blocks(
    section: Section, rows: Sequence[Row], key: str, *, budget_bytes: int = 2_000_000
) -> list[Block]:
    """The parts of a section, each as one block or several.

    Args:
        section: what was kept in the run.
        rows: of `metrics.csv`.
        key: makes names unique on the page.
        budget_bytes: of the pictures of each part.
    """
    found = []
    for place, part in enumerate(section.parts):
        try:
            found += _blocks(part, rows, f"{key}-{place}", budget_bytes)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            kind = type(part).__name__
            found.append(Block(note=f"A part of this section ({kind}) cannot be shown: {error}"))
    return found


def _blocks(part: Part, rows: Sequence[Row], key: str, budget_bytes: int) -> list[Block]:
    match part:
        case Curves():
            return _curves(part, rows, key)
        case Bars():
            return _bars(part)
        case Points():
            return _points(part, key)
        case Table():
            return _table(part)
        case Pictures():
            return _pictures(part, budget_bytes)


def _curves(part: Curves, rows: Sequence[Row], key: str) -> list[Block]:
    known = list(dict.fromkeys(name for row in rows for name in row))
    meant = {name: _columns(name, known) for name in part.columns}
    absent = [name for name, columns in meant.items() if not columns]
    columns = list(dict.fromkeys(column for found in meant.values() for column in found))
    chart = curves(rows, columns, title="", key=key, label=part.label, log=part.log)
    found = [] if chart is None else [Block(chart=chart)]
    if absent:
        found.append(Block(note=f"Not in metrics.csv, so not shown: {', '.join(absent)}."))
    elif chart is None:
        found.append(Block(note="These columns of metrics.csv hold no number yet."))
    return found


def _columns(name: str, known: Sequence[str]) -> list[str]:
    """Columns called `name`, or that wrappers of the objective called so after their own name."""
    return [name] if name in known else [each for each in known if each.endswith(f"/{name}")]


def _bars(part: Bars) -> list[Block]:
    if len(part.names) != len(part.values):
        raise ValueError(f"{len(part.names)} names for {len(part.values)} values")
    pairs = [(str(name), float(value)) for name, value in zip(part.names, part.values, strict=True)]
    if len(pairs) > BARS:
        return _many_bars(pairs, part.label)
    finite = [value for _, value in pairs if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    span = (high - low) or 1.0
    return [
        Block(
            bars=[
                Bar(
                    name,
                    number(value),
                    100 * (min(0.0, value) - low) / span if math.isfinite(value) else 0.0,
                    100 * abs(value) / span if math.isfinite(value) else 0.0,
                )
                for name, value in pairs
            ],
            label=part.label,
        )
    ]


def _many_bars(pairs: list[tuple[str, float]], label: str) -> list[Block]:
    ordered = sorted((pair for pair in pairs if math.isfinite(pair[1])), key=lambda pair: pair[1])
    chart = histogram([value for _, value in ordered], label)
    if chart is None:
        return [Block(note="None of the values is a number.")]
    lowest, highest = ordered[:EXTREMES], ordered[-EXTREMES:][::-1]
    rows = [
        [(a, False), (number(x), True), (b, False), (number(y), True)]
        for (a, x), (b, y) in zip(lowest, highest, strict=True)
    ]
    left_out = len(pairs) - len(ordered)
    note = f"{left_out:,} values are no numbers and are left out." if left_out else ""
    return [
        Block(chart=chart, note=note),
        Block(header=("lowest", "", "highest", ""), rows=rows),
    ]


def _points(part: Points, key: str) -> list[Block]:
    xy = np.column_stack(
        [np.asarray(part.x, dtype=np.float64), np.asarray(part.y, dtype=np.float64)]
    )
    kinds, names = [str(kind) for kind in part.kinds], [str(name) for name in part.names]
    if len(kinds) != len(xy) or (names and len(names) != len(xy)):
        raise ValueError(f"{len(xy)} points with {len(kinds)} kinds and {len(names)} names")
    kept = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(kept):
        return [Block(note="There is no point to show.")]
    note = ""
    if len(kept) > POINTS:
        note = f"{POINTS:,} of {len(kept):,} points, drawn at random."
        kept = np.sort(np.random.default_rng(0).choice(kept, POINTS, replace=False))
    chart = scatter(
        xy[kept],
        [kinds[row] for row in kept],
        [names[row] for row in kept] if names else (),
        key=key,
        height=380,
        x_label=part.x_label,
        y_label=part.y_label,
    )
    return [Block(chart=chart, note=note)]


def _table(part: Table) -> list[Block]:
    rows = [[_cell(value) for value in row] for row in part.rows[:TABLE_ROWS]]
    more = len(part.rows) - len(rows)
    note = f"{more:,} more rows stand in sections.json." if more > 0 else ""
    return [Block(header=[str(name) for name in part.header], rows=rows, note=note)]


def _cell(value: object) -> tuple[str, bool]:
    return number(value), isinstance(value, int | float) and not isinstance(value, bool)


def _pictures(part: Pictures, budget_bytes: int) -> list[Block]:
    rows, spent, lost, cut = [], 0, 0, 0
    for place, row in enumerate(part.rows):
        captions = part.captions[place] if place < len(part.captions) else ()
        shown = []
        for column, png in enumerate(row):
            uri = shrink(png, SIDE) if spent < budget_bytes else ""
            spent += len(uri)
            if not uri:
                cut, lost = cut + (spent >= budget_bytes), lost + (spent < budget_bytes)
                continue
            shown.append((uri, str(captions[column]) if column < len(captions) else ""))
        head = str(part.heads[place]) if place < len(part.heads) else ""
        rows.append((head, shown))
    notes = []
    if cut:
        notes.append(f"{cut:,} more pictures stand in sections.json.")
    if lost:
        notes.append(f"{lost:,} picture{'s' if lost > 1 else ''} cannot be read.")
    return [Block(pictures=rows, note=" ".join(notes))]
