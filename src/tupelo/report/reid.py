"""The page about re-identification: CMC, distances with the thresholds, best and worst queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.evaluation import Roc
from tupelo.recipes.reid_calibration import Calibration
from tupelo.recipes.reid_judging import Found, Judged, best_and_worst
from tupelo.report.figures import COLOURS, INK, Drawn, Entry, blank
from tupelo.report.rendering import check_extra, replace, scripts, template
from tupelo.report.tabular import Section
from tupelo.report.thumbnails import thumbnails

NAME = "reid.html"
BINS = 60
SHOWN = 5  # queries of each kind
SIDE, PICTURE_BYTES = 96, 1_500_000


def write(
    judged: Judged,
    out: Path,
    *,
    title: str = "",
    calibration: Calibration | None = None,
    about: dict[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        judged: what was measured.
        out: the page; replaced in one step.
        title: what was judged.
        calibration: its distances are marked among those of the pairs.
        about: how it was measured.
        notes: to be read beside the numbers.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    report = judged.report
    rows = [(f"rank-{k}", f"{100 * report.rank(k):.2f} %") for k in (1, 5, 10, 20)]
    rows += [
        ("mAP", f"{100 * report.map:.2f} %"),
        ("mAP, trapezoid of the published code", f"{100 * judged.trapezoid:.2f} %"),
    ]
    charts = [cmc_chart(report.cmc)]
    if judged.pairs is not None:
        charts.append(distance_chart(judged.pairs, calibration))
    rule = (
        "The query's identity in the query's camera is passed over."
        if report.cameras
        else "Cameras are not known: the same-camera rule is off."
    )
    best, worst = best_and_worst(judged, SHOWN)
    small = _thumbnails(judged, [*best, *worst])
    sections = [
        Section("Result", rule, header=["measure", "value"], rows=rows, lines=list(notes)),
        Section("Ranks and distances", "", charts, beside=len(charts) > 1),
        Section(
            "Best queries",
            "Highest average precision; the query, then the nearest of its candidates.",
            pictures=[_strip(judged, found, small) for found in best],
        ),
        Section(
            "Worst queries",
            "Lowest average precision.",
            pictures=[_strip(judged, found, small) for found in worst],
        ),
    ]
    if calibration is not None:
        shown = [
            ("same: 95 % of pairs of one identity within", f"{calibration.same_distance:.4f}"),
            ("far: 1 % of pairs of two within", f"{calibration.far_distance:.4f}"),
            ("pairs of one identity, held out", f"{calibration.genuine:,}"),
            ("pairs of two", f"{calibration.impostor:,}"),
        ]
        text = "Cosine distances of identities that did not train; a tracker's thresholds."
        sections.insert(2, Section("Calibration", text, header=["", ""], rows=shown))
    if about:
        sections.append(Section("How it was measured", header=["", ""], rows=list(about.items())))
    unmatched = f", {report.n_unmatched:,} without a match" if report.n_unmatched else ""
    lead = f"{report.n_queries:,} queries{unmatched}; {report.n_gallery:,} pictures to search."
    script, divs = scripts([chart for section in sections for chart in section.charts])
    text = template("table.html.j2").render(
        kind="Re-identification", title=title or "Re-identification", lead=lead, cards=[],
        sections=sections, divs=divs, script=script,
    )  # fmt: skip
    replace(out, text.encode("utf-8", errors="replace"))
    return out


def cmc_chart(cmc: np.ndarray) -> Drawn:
    """Share of queries with a match among the nearest, by how many of these.

    >>> cmc_chart(np.array([0.5, 0.75])).alt
    'A match is at rank 1 for 50.0% of the queries.'
    """
    from bokeh.models import HoverTool, NumeralTickFormatter

    figure = blank(height=300, small=False, x_axis_label="rank", y_axis_label="match found")
    ranks = list(range(1, len(cmc) + 1))
    figure.line("x", "y", source={"x": ranks, "y": cmc}, color=COLOURS[0], width=2)
    figure.y_range.start, figure.y_range.end = 0, 1.01
    figure.yaxis.formatter = NumeralTickFormatter(format="0%")
    figure.add_tools(HoverTool(tooltips=[("rank", "@x"), ("found", "@y{0.0 %}")]))
    return Drawn(figure, "CMC", f"A match is at rank 1 for {cmc[0]:.1%} of the queries.")


def distance_chart(pairs: Roc, calibration: Calibration | None = None) -> Drawn:
    """How often pairs of one and of two identities lie how far apart, with the thresholds."""
    from bokeh.models import HoverTool, Span

    figure = blank(
        height=300, small=False, x_axis_label="cosine distance", y_axis_label="share of pairs"
    )
    sides = (("same identity", 1 - pairs.genuine), ("different", 1 - pairs.impostor))
    high = max(float(distances.max()) for _, distances in sides)
    edges = np.linspace(0, max(high, 1e-6), BINS + 1)
    legend = []
    for colour, (name, distances) in zip(COLOURS, sides, strict=False):
        shares = np.histogram(distances.clip(0), edges)[0] / len(distances)
        glyph = f"distances-{name.split()[0]}"
        source = {"left": edges[:-1], "right": edges[1:], "top": shares, "name": [name] * BINS}
        figure.quad(
            left="left", right="right", top="top", bottom=0, source=source, color=colour,
            fill_alpha=0.5, line_alpha=0, name=glyph,
        )  # fmt: skip
        legend.append(Entry(name, glyph, colour, "■"))
    note = ""
    if calibration is not None:
        for distance, dash in (
            (calibration.same_distance, "dashed"),
            (calibration.far_distance, "solid"),
        ):
            line = Span(dimension="height", location=distance, line_color=INK, line_dash=dash)
            figure.add_layout(line)
        note = "Upright lines: far (solid) and same (dashed) of the calibration."
    figure.y_range.start = 0
    figure.add_tools(
        HoverTool(tooltips=[("", "@name"), ("distance", "@left{0.00}"), ("share", "@top{0.0 %}")])
    )
    medians = [float(np.median(distances)) for _, distances in sides]
    alt = f"Median distance {medians[0]:.3f} of one identity, {medians[1]:.3f} of two."
    return Drawn(figure, "Distances", alt, note, legend)


def _thumbnails(judged: Judged, found: Sequence[Found]) -> tuple[dict[int, str], dict[int, str]]:
    searched = judged.query if judged.gallery is None else judged.gallery
    options = {"side": SIDE, "budget_bytes": PICTURE_BYTES}
    own = thumbnails(judged.query, [one.query for one in found], **options)
    others = thumbnails(searched, [row for one in found for row in one.rows], **options)
    return own, others


def _strip(
    judged: Judged, found: Found, small: tuple[dict[int, str], dict[int, str]]
) -> tuple[str, list[tuple[str, str]]]:
    own, others = small
    name = judged.query.class_names[int(judged.query.labels[found.query])]
    row = [(own.get(found.query, ""), "query")]
    row += [
        (others.get(place, ""), f"{'✓' if right else '✗'} {similarity:.3f}")
        for place, right, similarity in zip(found.rows, found.right, found.similarity, strict=True)
    ]
    head = f"{name}: average precision {found.precision:.3f}"
    return head, [(uri, caption) for uri, caption in row if uri]
