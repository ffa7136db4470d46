"""The interactive figures, drawn by Bokeh; what it imports is imported when one is drawn.

Legends are buttons of the page and not Bokeh's: they wrap on a phone and cover no data. A button
finds what it shows and hides by the name of its glyphs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Row = Mapping[str, float | int]
"""Of `metrics.csv`."""
COLOURS = (
    "#1f6fb4", "#c8553d", "#2a8f5b", "#7b4fa3", "#b07d12",
    "#0f8b8d", "#a8326e", "#5b6b7a", "#4a5fd0", "#7a5230",
)  # fmt: skip
DASHES = ("solid", "dashed", "dotted", "dotdash")
ROWS = 1_500  # of a curve; more are thinned out
MARKED_BELOW = 30  # rows of which each is marked with a dot
BINS = 30
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, FAINT = "#3d4650", "#e3e7eb"


@dataclass(frozen=True)
class Entry:
    """One line of a legend.

    Attributes:
        label: what it says.
        name: of the glyphs it shows and hides.
        colour: of its sign.
        sign: beside the label.
        shown: at first.
    """

    label: str
    name: str
    colour: str
    sign: str = "▬"
    shown: bool = True


@dataclass(frozen=True)
class Drawn:
    """A figure with what the page says around it.

    Attributes:
        figure: Bokeh's model.
        title: above it.
        alt: what a reader who cannot see it is told.
        note: below it.
        legend: beside it; () where one thing is shown.
    """

    figure: Any
    title: str
    alt: str
    note: str = ""
    legend: Sequence[Entry] = field(default_factory=tuple)


def curves(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    title: str,
    key: str,
    label: str = "",
    log: bool | None = None,
    hidden: Sequence[str] = (),
    best_step: int | None = None,
    small: bool = False,
    names: Mapping[str, str] | None = None,
) -> Drawn | None:
    """Columns of the log over the steps; None where there is not one number to draw.

    Args:
        rows: of `metrics.csv`.
        columns: which; those without a finite number are left out.
        title: of the figure.
        key: makes the names of glyphs unique on the page.
        label: of the vertical axis.
        log: vertical axis; None: logarithmic where it helps.
        hidden: columns whose line is shown on demand.
        best_step: is marked by an upright line.
        small: without tools and legend.
        names: shown in place of those of the columns.
    """
    from bokeh.models import (
        BasicTickFormatter,
        ColumnDataSource,
        HoverTool,
        NumeralTickFormatter,
        Span,
    )

    series = {name: _series(rows, name) for name in columns}
    series = {name: (x, y) for name, (x, y) in series.items() if np.isfinite(y).any()}
    if not series:
        return None
    logarithmic = _log_helps([y for _, y in series.values()]) if log is None else log
    logarithmic = logarithmic and all((y[np.isfinite(y)] > 0).all() for _, y in series.values())
    figure = blank(
        height=210 if small else 340,
        x_axis_label="step",
        y_axis_label=_plain(label),
        y_axis_type="log" if logarithmic else "linear",
        small=small,
    )
    figure.xaxis.formatter = NumeralTickFormatter(format="0,0")
    figure.xaxis.ticker.min_interval = 1  # steps are whole
    level = max(float(np.nanmax(np.abs(y))) for _, y in series.values())
    figure.y_range.default_span = 0.2 * level or 1.0  # of the axis of a constant
    if not logarithmic:
        figure.yaxis.formatter = BasicTickFormatter(power_limit_low=-7)  # 0.001, not 1.000e-3
    legend = []
    for number, (name, (x, y)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        glyph = f"{key}-{number}"
        said = (names or {}).get(name, name)
        source = ColumnDataSource({"x": x, "y": y, "name": [shortened(said)] * len(x)})
        shown = name not in hidden
        figure.line(
            "x", "y", source=source, name=glyph, visible=shown, color=colour, width=2,
            line_dash=DASHES[number // len(COLOURS) % len(DASHES)],
        )  # fmt: skip
        if len(x) < MARKED_BELOW:
            figure.scatter("x", "y", source=source, name=glyph, visible=shown, color=colour, size=5)
        legend.append(Entry(said, glyph, colour, shown=shown))
    if best_step is not None:
        figure.add_layout(
            Span(dimension="height", location=best_step, line_color=INK, line_dash="dashed")
        )
    figure.add_tools(
        HoverTool(
            tooltips=[("", "@name"), ("step", "@x{0,0}"), ("value", "@y{%.4g}")],
            formatters={"@y": "printf"},
            mode="mouse",
        )
    )
    spoken = [_said(name, y) for name, (_, y) in series.items() if name not in hidden]
    return Drawn(figure, title, "; ".join(spoken), legend=() if len(legend) == 1 else legend)


def histogram(values: Sequence[float | int], label: str) -> Drawn | None:
    """How many of the values lie where."""
    from bokeh.models import HoverTool

    finite = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not len(finite):
        return None
    counts, edges = np.histogram(finite, bins=min(BINS, max(5, round(math.sqrt(len(finite))))))
    figure = blank(height=240, x_axis_label=_plain(label), y_axis_label="how many", small=False)
    figure.quad(
        left=edges[:-1], right=edges[1:], top=counts, bottom=0, color=COLOURS[0], line_color="white"
    )
    figure.y_range.start = 0
    figure.add_tools(HoverTool(tooltips=[("from", "@left"), ("to", "@right"), ("", "@top")]))
    alt = (
        f"Histogram of {len(finite):,} values from {finite.min():.4g} to {finite.max():.4g}, "
        f"median {np.median(finite):.4g}."
    )
    return Drawn(figure, "", alt)


def blank(
    *,
    height: int,
    small: bool,
    x_axis_label: str = "",
    y_axis_label: str = "",
    y_axis_type: Any = "linear",
    x_axis_type: Any = "linear",
) -> Any:
    """An empty figure in the manner of the page."""
    from bokeh.models import BoxZoomTool, PanTool, ResetTool, WheelZoomTool
    from bokeh.plotting import figure

    made: Any = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_type=x_axis_type,
        y_axis_type=y_axis_type,
        x_axis_label=_text(x_axis_label),
        y_axis_label=_text(y_axis_label),
        tools=[] if small else [PanTool(), BoxZoomTool(), WheelZoomTool(), ResetTool()],
        toolbar_location=None if small else "above",
        min_border_left=0,
        min_border_right=14,
    )
    made.y_range.only_visible = True  # a hidden line takes no room
    made.toolbar.logo = None
    made.toolbar.active_scroll = None  # the page scrolls
    made.outline_line_color = None
    made.background_fill_color = made.border_fill_color = "white"
    made.grid.grid_line_color = FAINT
    for axis in made.axis:
        axis.axis_line_color = "#b6bec6"
        axis.major_tick_line_color = "#b6bec6"
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = INK
        axis.major_label_text_font = axis.axis_label_text_font = FONT
        axis.major_label_text_font_size = "11px"
        axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
    if small:
        made.xaxis.ticker.desired_num_ticks = 4
        made.yaxis.ticker.desired_num_ticks = 4
    return made


def _text(text: str) -> Any:
    """Text that is never read as a formula, for which Bokeh would go to the network."""
    from bokeh.models import PlainText

    return PlainText(text=text) if text else None


def _series(rows: Sequence[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a column where it has some; infinite values become gaps."""
    found = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    if len(table) > ROWS:
        table = table[np.linspace(0, len(table) - 1, ROWS).round().astype(int)]
    x, y = table[:, 0], table[:, 1].copy()
    y[~np.isfinite(y)] = np.nan
    return x, y


def _log_helps(values: Sequence[np.ndarray]) -> bool:
    """All are positive and together span more than a factor of a hundred."""
    joined = np.concatenate(values)
    joined = joined[np.isfinite(joined)]
    return bool(joined.min() > 0 and joined.max() / joined.min() > 100)


def _said(name: str, y: np.ndarray) -> str:
    finite = y[np.isfinite(y)]
    return f"{shortened(name)} from {finite[0]:.4g} to {finite[-1]:.4g}"


def shortened(text: str, at_most: int = 120) -> str:
    """A name that cannot break a layout."""
    return text if len(text) <= at_most else text[: at_most - 1] + "…"


def _plain(text: str) -> str:
    return shortened(" ".join(text.split()), 60)
