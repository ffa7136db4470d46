"""Figures of verification: accepts against false accepts, scores, ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tupelo.evaluation import Identified, Roc
from tupelo.report.figures import COLOURS, INK, Drawn, Entry, blank

POINTS = 400  # of a curve; more are thinned out
BINS = 60
CMC_RANKS = 20


def roc_chart(rocs: Mapping[str, Roc], marked: Sequence[float] = ()) -> Drawn:
    """True accepts against false ones, these on a logarithmic axis.

    Args:
        rocs: by name; each is a line.
        marked: false accept rates at which the first line is marked.
    """
    figure = _rates("false accept rate", "true accept rate", y_axis_type="linear")
    legend = _lines(figure, "roc", rocs, reject=False)
    first = next(iter(rocs.values()))
    found = [(far, first.tar_at(far)) for far in marked]
    known = [(far, tar) for far, tar in found if tar is not None]
    if known:
        figure.scatter([far for far, _ in known], [tar for _, tar in known], color=INK, size=7)
    figure.y_range.end = 1.01
    said = ", ".join(
        f"{tar:.1%} at {far:g}" if tar is not None else f"at {far:g} not measurable"
        for far, tar in found
    )
    alt = f"True accept rate {said}." if said else f"{len(rocs)} curves of true accept rates."
    return Drawn(figure, "ROC", alt, legend=legend)


def det_chart(rocs: Mapping[str, Roc]) -> Drawn:
    """False rejects against false accepts, both logarithmic; where they are equal is the EER."""
    figure = _rates("false accept rate", "false reject rate", y_axis_type="log")
    legend = _lines(figure, "det", rocs, reject=True)
    least = min(1 / max(len(each.impostor), len(each.genuine)) for each in rocs.values())
    figure.line([least, 1], [least, 1], color=INK, line_dash="dashed")
    errors = [each.eer for each in rocs.values()]
    alt = f"Equal error rate {min(errors):.2%}" + (
        f" to {max(errors):.2%}." if len(errors) > 1 else "."
    )
    return Drawn(figure, "DET", alt, "The dashed line crosses at the equal error rate.", legend)


def score_chart(roc: Roc, thresholds: Sequence[float] = ()) -> Drawn:
    """How often genuine and impostor pairs have which score, with the thresholds used."""
    from bokeh.models import HoverTool, Span

    low = min(float(roc.genuine[0]), float(roc.impostor[0]))
    high = max(float(roc.genuine[-1]), float(roc.impostor[-1]))
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    figure = blank(height=280, small=False, x_axis_label="score", y_axis_label="share of pairs")
    legend = []
    for name, scores, colour in (
        ("same person", roc.genuine, COLOURS[0]),
        ("different people", roc.impostor, COLOURS[1]),
    ):
        shares = np.histogram(scores, edges)[0] / len(scores)
        glyph = f"scores-{name.split()[0]}"
        source = {"left": edges[:-1], "right": edges[1:], "top": shares, "name": [name] * BINS}
        figure.quad(
            left="left", right="right", top="top", bottom=0, source=source, color=colour,
            fill_alpha=0.5, line_alpha=0, name=glyph,
        )  # fmt: skip
        legend.append(Entry(name, glyph, colour, "■"))
    for threshold in thresholds:
        figure.add_layout(Span(dimension="height", location=threshold, line_color=INK))
    figure.y_range.start = 0
    figure.add_tools(
        HoverTool(tooltips=[("", "@name"), ("score", "@left{0.00}"), ("share", "@top{0.0 %}")])
    )
    alt = (
        f"Scores of the same person have median {np.median(roc.genuine):.3f}, of different people "
        f"{np.median(roc.impostor):.3f}."
    )
    note = "Upright lines: the thresholds that decided." if len(thresholds) else ""
    return Drawn(figure, "Scores", alt, note, legend)


def cmc_chart(searches: Mapping[str, Identified]) -> Drawn:
    """Share of probes whose mate is among the first few, one line a split."""
    from bokeh.models import HoverTool, NumeralTickFormatter

    figure = blank(height=320, small=False, x_axis_label="rank", y_axis_label="mate found")
    ranks = list(range(1, CMC_RANKS + 1))
    legend = []
    for number, (name, found) in enumerate(searches.items()):
        colour, glyph = COLOURS[number % len(COLOURS)], f"cmc-{number}"
        source = {"x": ranks, "y": [found.cmc(rank) for rank in ranks], "name": [name] * len(ranks)}
        figure.line("x", "y", source=source, color=colour, width=2, name=glyph)
        legend.append(Entry(name, glyph, colour))
    figure.yaxis.formatter = NumeralTickFormatter(format="0%")
    figure.add_tools(HoverTool(tooltips=[("", "@name"), ("rank", "@x"), ("found", "@y{0.0 %}")]))
    first = [found.cmc(1) for found in searches.values()]
    alt = f"Mate found at rank 1: {min(first):.1%} to {max(first):.1%} of probes."
    return Drawn(figure, "Ranks of mates", alt, legend=() if len(legend) == 1 else legend)


def _rates(x_label: str, y_label: str, *, y_axis_type: str) -> Any:
    figure = blank(
        height=340, small=False, x_axis_label=x_label, y_axis_label=y_label,
        x_axis_type="log", y_axis_type=y_axis_type,
    )  # fmt: skip
    figure.x_range.end = 1.0
    return figure


def _lines(figure: Any, key: str, rocs: Mapping[str, Roc], *, reject: bool) -> tuple[Entry, ...]:
    from bokeh.models import HoverTool

    legend = []
    for number, (name, roc) in enumerate(rocs.items()):
        colour, glyph = COLOURS[number % len(COLOURS)], f"{key}-{number}"
        far, tar, thresholds = _thinned(roc)
        y = 1 - tar if reject else tar
        shown = y > 0 if reject else np.ones(len(y), bool)
        source = {
            "x": far[shown], "y": y[shown], "t": thresholds[shown], "name": [name] * shown.sum(),
        }  # fmt: skip
        figure.line("x", "y", source=source, color=colour, width=2, name=glyph)
        legend.append(Entry(name, glyph, colour))
    figure.add_tools(
        HoverTool(
            tooltips=[
                ("", "@name"),
                ("false accepts", "@x{0.0000}"),
                ("false rejects" if reject else "true accepts", "@y{0.0000}"),
                ("threshold", "@t{0.0000}"),
            ]
        )
    )
    return () if len(legend) == 1 else tuple(legend)


def _thinned(
    roc: Roc,
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Thresholds with false accepts, evenly spread over the logarithm of their rate."""
    far, tar, thresholds = roc.curve()
    shown = np.flatnonzero(np.isfinite(thresholds) & (far > 0))
    if len(shown) > POINTS:
        wanted = np.geomspace(far[shown[-1]], far[shown[0]], POINTS)
        at = np.searchsorted(-far[shown], -wanted)
        shown = np.unique(shown[at.clip(max=len(shown) - 1)])
    return far[shown], tar[shown], thresholds[shown]
