"""Curves of several methods on several data sets, as one SVG."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

COLUMNS = 3
PANEL, PLOT = (300, 226), (42, 26, 286, 186)  # size of a panel; left, top, right, bottom of axes
LEGEND = 30
COLOURS = ("#4a3f9f", "#c8622d", "#2f8f6b", "#9aa4ae")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, FAINT = "#1d2329", "#d9dde2"


def curves(
    measured: Mapping[str, Mapping[str, np.ndarray]], at: Sequence[int], x_name: str, y_name: str
) -> str:
    """One panel a data set; the mean of each method over its repeats, with its standard error.

    Args:
        measured: of each data set and method, (repeats, places).
        at: what the places stand for.
        x_name: of the horizontal axis.
        y_name: of the vertical axis.
    """
    methods = list(next(iter(measured.values())))
    height = LEGEND + PANEL[1] * -(-len(measured) // COLUMNS)
    drawn = []
    for place, method in enumerate(methods):
        x = 46 + 190 * place
        drawn.append(
            f'<line x1="{x}" y1="16" x2="{x + 24}" y2="16" stroke="{COLOURS[place]}" '
            f'stroke-width="3"/>{_text(x + 30, 20, method, "start")}'
        )
    for place, (name, of_methods) in enumerate(measured.items()):
        left, top = PANEL[0] * (place % COLUMNS), LEGEND + PANEL[1] * (place // COLUMNS)
        panel = _panel(name, of_methods, at, x_name, y_name)
        drawn.append(f'<g transform="translate({left},{top})">{panel}</g>')
    ends = [f"{name}: {_ends(of_methods)}" for name, of_methods in measured.items()]
    title = f"{y_name} over {x_name}, at the last: " + "; ".join(ends)
    width = PANEL[0] * min(COLUMNS, max(len(measured), 3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="{FONT}">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>'
        + "".join(drawn)
        + "</svg>\n"
    )


def _panel(
    name: str, of_methods: Mapping[str, np.ndarray], at: Sequence[int], x_name: str, y_name: str
) -> str:
    left, top, right, bottom = PLOT
    means = {method: values.mean(axis=0) for method, values in of_methods.items()}
    errors = {
        method: values.std(axis=0, ddof=1) / np.sqrt(len(values))
        for method, values in of_methods.items()
    }
    low = min((means[m] - errors[m]).min() for m in means)
    high = max((means[m] + errors[m]).max() for m in means)
    step = _step(high - low)
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step

    def x(value: float) -> float:
        return left + (value - at[0]) / (at[-1] - at[0]) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    drawn = [_text((left + right) / 2, 16, name, "middle", size=13, weight=600)]
    for value in np.arange(low, high + step / 2, step):
        drawn.append(_line(left, y(value), right, y(value), FAINT))
        drawn.append(_text(left - 6, y(value) + 4, f"{value:.2f}", "end", size=10))
    for value in at:
        drawn.append(_text(x(value), bottom + 15, str(value), "middle", size=10))
    drawn.append(_text((left + right) / 2, bottom + 30, x_name, "middle", size=11))
    middle = (top + bottom) / 2
    drawn.append(
        f'<g transform="rotate(-90 10 {middle})">{_text(10, middle, y_name, "middle", size=11)}</g>'
    )
    for place, method in reversed(list(enumerate(means))):
        mean, error = means[method], errors[method]
        upper = [f"{x(v):.1f},{y(m):.1f}" for v, m in zip(at, mean + error, strict=True)]
        lower = [f"{x(v):.1f},{y(m):.1f}" for v, m in zip(at, mean - error, strict=True)]
        line = " ".join(f"{x(v):.1f},{y(m):.1f}" for v, m in zip(at, mean, strict=True))
        drawn.append(
            f'<polygon points="{" ".join([*upper, *lower[::-1]])}" fill="{COLOURS[place]}" '
            f'opacity="0.15"/><polyline points="{line}" fill="none" stroke="{COLOURS[place]}" '
            'stroke-width="2"/>'
        )
    return "".join(drawn)


def _step(span: float) -> float:
    """Between lines of the grid, so that there are about five."""
    for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        if span / step <= 6:
            return step
    return 0.5


def _ends(of_methods: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{method} {v[:, -1].mean():.3f}" for method, v in of_methods.items())


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        'stroke-width="1"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, *, size: int = 12, weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{INK}">{escape(text)}</text>'
    )
