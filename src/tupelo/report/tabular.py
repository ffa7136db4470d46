"""Pages about metrics for tables: of a fit, of a comparison, of questions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.recipes.asking import Asked
from tupelo.recipes.comparing import BASE, Compared
from tupelo.recipes.tabular import Fitted, weights
from tupelo.report import table_figures
from tupelo.report.figures import Drawn
from tupelo.report.rendering import check_extra, replace, scripts, template

__all__ = ["check_extra", "of_comparison", "of_fit", "of_questions"]

SHOWN = 2_000  # rows of a scatter
REGIONS = 40
DIAGONAL = 1e-12  # of the largest entry: what lies off the diagonal is rounding


@dataclass(frozen=True)
class Section:
    """Part of a page; what is empty is not shown."""

    title: str
    text: str = ""
    charts: Sequence[Drawn] = ()
    beside: bool = False
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    lines: Sequence[str] = field(default_factory=tuple)
    pictures: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()  # head, (data URI, caption)


def of_fit(fitted: Fitted, out: Path) -> Path:
    """Weights or matrix, rows before and after, accuracy, and error against depth.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    metric, about = fitted.metric, fitted.metric.about
    n, d = len(fitted.y), fitted.X.shape[1] - bool(metric.columns.constant)
    lead = (
        f"{about['method']} learned from {fitted.rows:,} of {n:,} rows of {about['table']}, "
        f"{d:,} features, {len(metric.classes):,} classes in column {metric.target}."
    )
    cards = []
    if fitted.before is not None and fitted.after is not None:
        cards.append((f"{about['k']} neighbours, held out", fitted.after, fitted.before))
    sections = []
    heavy = weights(metric)
    if heavy:
        charts = [table_figures.weights(heavy)]
        M = _matrix(metric.learner)
        if M is not None:
            charts.append(table_figures.matrix(M, metric.columns.features))
        scaled = " after division by their standard deviation" * (metric.columns.scale is not None)
        sections.append(
            Section(
                "The metric",
                f"How much each feature counts in the learned distance{scaled}.",
                charts,
            )
        )
    if len(fitted.depths) > 1:
        text = f"On {fitted.held_out:,} held-out rows, as they leave each layer."
        chart = table_figures.depth(fitted.depths, int(about["k"]))
        sections.append(Section("Depth", text, [chart]))
    sections += _before_and_after(fitted)
    sections.append(Section("The table", lines=fitted.notes or ["Nothing had to be changed."]))
    return _write(out, about["table"], f"Metric for {metric.target}", lead, cards, sections)


def of_comparison(compared: Compared, name: str, out: Path) -> Path:
    """Accuracy of every method with its spread, difference and time, and every split.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    lead = (
        f"{compared.rows:,} rows, {compared.features:,} features, {len(compared.classes):,} "
        f"classes; {compared.folds} folds, divided {compared.repeats} times; {compared.k} nearest "
        "neighbours classify."
    )
    rows = [
        [
            score.method,
            f"{score.accuracy:.4f} ± {score.spread:.4f}",
            ""
            if score.difference is None
            else f"{score.difference:+.4f} ± {score.interval or 0:.4f}",
            f"{score.seconds:.2f}",
            f"{score.rows:,}",
        ]
        for score in compared.scores
        if score.accuracy is not None
    ]
    text = (
        f"Mean ± standard deviation over splits; difference to {BASE} on the same splits ± half "
        "its 95 % interval, corrected for training parts that overlap (Nadeau and Bengio, 2003); "
        "seconds of a fit; rows it took at most."
    )
    header = ["method", "classified right", f"less {BASE}", "fit, s", "rows"]
    sections = [
        Section(
            "Methods",
            text,
            [table_figures.strips(compared.accuracies)] if compared.accuracies else [],
            header=header,
            rows=rows,
        )
    ]
    failed = [f"{score.method}: {score.failed}" for score in compared.scores if score.failed]
    if failed:
        sections.append(Section("Not measured", lines=failed))
    sections.append(Section("The table", lines=compared.notes or ["Nothing had to be changed."]))
    return _write(out, name, "Metrics compared", lead, [], sections)


def of_questions(asked: Asked, name: str, target: str, out: Path) -> Path:
    """Questions with their reasons, and the regions on two axes.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    of_rows = bool(asked.questions) and asked.questions[0].row is not None
    lead = (
        f"{len(asked.questions):,} {'rows to label' if of_rows else 'regions to measure in'}; "
        f"{len(asked.y):,} rows have a {target}, {len(asked.pool):,} have none."
    )
    found = list(asked.learner.regions())[:REGIONS]
    center = [one.center for one in asked.questions]
    chart = table_figures.regions(
        asked.X[:SHOWN],
        asked.y[:SHOWN].tolist(),
        asked.pool,
        found,
        np.array(center).reshape(len(center), asked.X.shape[1]),
        asked.columns.features,
    )
    rows = [
        [place if one.row is None else one.row, one.kind, f"{one.uncertainty:.2f}", one.reason]
        for place, one in enumerate(asked.questions, 1)
    ]
    sections = [
        Section(
            "Questions",
            "Uncertainty is the distance to the nearest class over that to the second nearest.",
            header=["row" if of_rows else "region", "why", "uncertainty", "reason"],
            rows=rows,
        ),
        Section(
            "Regions",
            f"The first {len(found):,} balls of the learned metric around outliers and between "
            "rows of different classes that are each other's nearest: a label there tells most.",
            [chart],
        ),
    ]
    heavy = _weights_of(asked)
    if heavy:
        sections.append(Section("The metric", "", [table_figures.weights(heavy)]))
    sections.append(Section("The table", lines=asked.notes or ["Nothing had to be changed."]))
    return _write(out, name, f"What to label in {target}", lead, [], sections)


def _weights_of(asked: Asked) -> list[tuple[str, float]]:
    from tupelo.tabular.saving import TableMetric

    return weights(TableMetric(asked.columns, asked.learner, "", (), {}))


def _matrix(learner: Any) -> np.ndarray | None:
    """M where it is more than a diagonal."""
    components = getattr(learner, "components_", None)
    if components is None:
        return None
    M = components.T @ components
    off = np.abs(M - np.diag(np.diag(M))).max()
    return M if len(M) > 1 and off > DIAGONAL * np.abs(M).max() else None


def _before_and_after(fitted: Fitted) -> list[Section]:
    rng = np.random.default_rng(0)
    n = len(fitted.y)
    rows = np.sort(rng.permutation(n)[:SHOWN])
    y = fitted.y[rows].tolist()
    charts = [table_figures.placed(fitted.X[rows], y, title="Before", key="before")]
    transform = fitted.transform(fitted.X[rows])
    if transform is not None:
        charts.append(table_figures.placed(transform, y, title="After", key="after"))
    text = (
        f"{'All' if n <= SHOWN else f'{SHOWN:,} of'} {n:,} rows, the fitted ones included, on "
        "their first two principal components; a dark ring marks rows whose nearest neighbour is "
        "of another class."
    )
    return [Section("Rows before and after", text, charts, beside=True)]


def _write(
    out: Path,
    kind: str,
    title: str,
    lead: str,
    cards: Sequence[tuple[str, float, float]],
    sections: Sequence[Section],
) -> Path:
    check_extra()
    script, divs = scripts([chart for section in sections for chart in section.charts])
    text = template("table.html.j2").render(
        kind=kind,
        title=title,
        lead=lead,
        cards=cards,
        sections=sections,
        divs=divs,
        script=script,
    )
    replace(out, text.encode("utf-8", errors="replace"))
    return out
