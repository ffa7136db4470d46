"""Confidence against accuracy, drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

from tupelo.report.figures import COLOURS, INK, Drawn, blank


def diagram(told: Mapping[str, Any], title: str) -> Drawn:
    """Accuracy of answers by their confidence; on the diagonal the two are equal.

    Args:
        told: `confidence`, `accuracy` and `share` of each bin, and the `error`, as
            `fewshot.Reliability` has them.
        title: of the figure.
    """
    from bokeh.models import HoverTool, NumeralTickFormatter

    bins = len(told["share"])
    filled = [place for place in range(bins) if told["share"][place] > 0]
    figure = blank(
        height=260, small=False, x_axis_label="probability of the answer", y_axis_label="right"
    )
    bars = figure.quad(
        left="left",
        right="right",
        top="accuracy",
        bottom=0,
        fill_alpha="alpha",
        color=COLOURS[0],
        line_color="white",
        source={
            "left": [place / bins for place in filled],
            "right": [(place + 1) / bins for place in filled],
            **{name: [told[name][place] for place in filled] for name in _OF_BINS},
            "alpha": _depth([told["share"][place] for place in filled]),
        },
    )
    figure.line([0, 1], [0, 1], color=INK, line_dash="dashed")
    figure.x_range.start = figure.y_range.start = 0
    figure.x_range.end = figure.y_range.end = 1
    for axis in figure.axis:
        axis.formatter = NumeralTickFormatter(format="0%")
    figure.add_tools(
        HoverTool(
            renderers=[bars],
            tooltips=[
                ("probability", "@confidence{0.0 %}"),
                ("right", "@accuracy{0.0 %}"),
                ("of all answers", "@share{0.0 %}"),
            ],
        )
    )
    error = f"expected calibration error {100 * told['error']:.1f} %"
    spoken = "; ".join(
        f"{told['confidence'][place]:.0%} sure, {told['accuracy'][place]:.0%} right"
        for place in filled
    )
    return Drawn(figure, title, f"{error}: {spoken}.", f"{error[0].upper()}{error[1:]}.")


_OF_BINS = ("confidence", "accuracy", "share")


def _depth(shares: Sequence[float]) -> list[float]:
    """Bins with more answers are darker."""
    most = max(shares, default=1.0)
    return [0.25 + 0.75 * share / most for share in shares]
