"""Points in two dimensions, coloured and marked by their kind."""

from collections.abc import Sequence

import numpy as np

from tupelo.report.figures import COLOURS, INK, Drawn, Entry, blank, shortened

MARKERS = ("circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "plus")
SIGNS = ("●", "▲", "■", "◆", "▼", "★", "⬢", "✚")  # the markers in the legends
LOOKS = len(COLOURS) * len(MARKERS)  # kinds that can be told apart
STACKED = 2  # pictures shown of points that lie upon each other


def scatter(
    xy: np.ndarray,
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    key: str,
    pictures: Sequence[str] = (),
    ringed: np.ndarray | None = None,
    axes: bool = True,
    height: int = 440,
    x_label: str = "",
    y_label: str = "",
) -> Drawn:
    """Points coloured and marked by their kind.

    Args:
        xy: places, (n, 2).
        kinds: one a point.
        names: one a point; shown when pointed at.
        key: makes the names of glyphs unique on the page.
        pictures: a data URI a point, shown when pointed at; may be empty.
        ringed: points with a dark ring, (n,).
        axes: with numbers; False where places have no meaning but who is near whom.
        height: in pixels.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
    """
    from bokeh.models import ColumnDataSource, HoverTool, TapTool

    figure = blank(height=height, small=False, x_axis_label=x_label, y_axis_label=y_label)
    figure.match_aspect = not axes  # who is near whom must not depend on the width of the page
    order = list(dict.fromkeys(kinds))
    few = len(order) <= len(COLOURS) * 2  # a glyph and a line in the legend for each
    groups = _groups(len(order), few)
    kind_of = _codes(kinds)
    ring = np.zeros(len(xy), bool) if ringed is None else ringed
    size = 8 if len(xy) < 400 else 7 if len(xy) < 1_200 else 6
    renderers = []
    for group in groups:
        members = np.flatnonzero(np.isin(kind_of, group)).tolist()
        colours = [COLOURS[_look(kind)[0]] for kind in kind_of[members].tolist()]
        source = ColumnDataSource(
            {
                "x": xy[members, 0],
                "y": xy[members, 1],
                "kind": [shortened(kinds[row]) for row in members],
                "name": [shortened(names[row]) if names else "" for row in members],
                "picture": [pictures[row] if pictures else "" for row in members],
                "colour": colours,
                "alpha": [0.8] * len(members),
                "line": [
                    INK if ring[row] else own for row, own in zip(members, colours, strict=True)
                ],
                "width": [1.8 if ring[row] else 0.4 for row in members],
            }
        )
        renderers.append(
            figure.scatter(
                "x", "y", source=source, name=f"{key}-{group[0]}", size=size,
                marker=MARKERS[_look(group[0])[1]],
                fill_color="colour", fill_alpha="alpha", line_alpha="alpha",
                line_color="line", line_width="width",
            )
        )  # fmt: skip
        renderers[-1].nonselection_glyph = None  # a pressed point does not pale the others
    legend = []
    if few and len(order) > 1:
        legend = [
            Entry(kind, f"{key}-{number}", COLOURS[_look(number)[0]], SIGNS[_look(number)[1]])
            for number, kind in enumerate(order)
        ]
    if not axes:
        figure.axis.visible = False
        figure.grid.visible = False
    if pictures:
        figure.add_tools(TapTool(renderers=renderers))
    figure.add_tools(
        HoverTool(
            tooltips=_tooltip(bool(pictures), bool(names)), renderers=renderers, limit=STACKED
        )
    )
    counts = (
        "; ".join(f"{shortened(kind)}: {kinds.count(kind):,}" for kind in order[:20]) if few else ""
    )
    alt = f"{len(xy):,} points of {len(order):,} kinds. {counts}"
    return Drawn(figure, "", alt, legend=legend)


def _groups(n_kinds: int, few: bool) -> list[list[int]]:
    """Kinds that are one glyph: each its own, or where they are many all of one marker."""
    if few:
        return [[number] for number in range(n_kinds)]
    by_marker: dict[int, list[int]] = {}
    for number in range(n_kinds):
        by_marker.setdefault(_look(number)[1], []).append(number)
    return list(by_marker.values())


def _codes(kinds: Sequence[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds])


def _look(number: int) -> tuple[int, int]:
    """Numbers of the colour and of the marker."""
    return number % len(COLOURS), number // len(COLOURS) % len(MARKERS)


def _tooltip(pictures: bool, names: bool) -> str:
    shown = (
        '<img src="@picture" alt="" style="display:block;max-width:112px;min-width:64px;'
        'margin-bottom:4px">'
        if pictures
        else ""
    )
    named = (
        '<div style="font-size:11px;color:#5b6570;max-width:180px;overflow-wrap:anywhere">@name'
        "</div>"
        if names
        else ""
    )
    return (
        f'<div style="font-family:system-ui,sans-serif;padding:2px">{shown}'
        '<div style="font-weight:600;max-width:180px;overflow-wrap:anywhere">@kind</div>'
        f"{named}</div>"
    )
