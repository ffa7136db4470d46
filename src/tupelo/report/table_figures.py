"""Figures of metrics for tables: weights, matrices, rows before and after, depth, regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.report.figures import COLOURS, INK, Drawn, Entry, blank, shortened
from tupelo.report.points import scatter

BARS, SIDE = 30, 40  # features shown; of more the heaviest
POINTS = 2_000
CIRCLE = 72  # corners
LABEL = 28  # characters of a name on an axis
RIGHT, WRONG = np.array([31, 111, 180]), np.array([200, 85, 61])  # of positive and negative entries


def weights(pairs: Sequence[tuple[str, float]]) -> Drawn:
    """A bar for the weight of each feature, the heaviest first, as shares of their sum."""
    from bokeh.models import HoverTool, NumeralTickFormatter

    total = sum(weight for _, weight in pairs) or 1.0
    shown = [(name, weight / total) for name, weight in pairs[:BARS]]
    figure = blank(height=60 + 22 * len(shown), small=False, x_axis_label="share of the weight")
    _named(figure.yaxis, [name for name, _ in reversed(shown)])
    figure.hbar(
        y="y",
        right="share",
        height=0.7,
        color=COLOURS[0],
        source={
            "y": list(range(len(shown)))[::-1],
            "share": [share for _, share in shown],
            "name": [shortened(name) for name, _ in shown],
        },
    )
    figure.x_range.start = 0
    figure.xaxis.formatter = NumeralTickFormatter(format="0%")
    figure.ygrid.grid_line_color = None
    figure.add_tools(HoverTool(tooltips=[("", "@name"), ("share", "@share{0.0 %}")]))
    spoken = ", ".join(f"{shortened(name, LABEL)} {share:.0%}" for name, share in shown[:5])
    left = len(pairs) - len(shown)
    note = f"The {left:,} others together weigh {1 - sum(s for _, s in shown):.1%}." if left else ""
    return Drawn(figure, "Weights of features", f"Heaviest features: {spoken}.", note)


def matrix(M: Float[ndarray, "d d"], names: Sequence[str]) -> Drawn:
    """M as coloured squares: blue above zero, red below, the darker the larger."""
    from bokeh.models import HoverTool

    of, heaviest = len(M), np.sort(np.argsort(-np.diag(M), kind="stable")[:SIDE])
    M, shown = M[np.ix_(heaviest, heaviest)], [names[place] for place in map(int, heaviest)]
    d = len(M)
    top = float(np.abs(M).max()) or 1.0
    strength = np.abs(M) / top
    colour = np.where((M >= 0)[:, :, None], RIGHT, WRONG)
    shades = np.rint(255 - strength[:, :, None] * (255 - colour)).astype(int).reshape(-1, 3)
    rows, columns = np.divmod(np.arange(d * d), d)
    figure = blank(height=min(760, 160 + 26 * d), small=False)
    figure.rect(
        x="x",
        y="y",
        width=1,
        height=1,
        fill_color="colour",
        line_color="white",
        source={
            "x": columns,
            "y": d - 1 - rows,
            "value": M.reshape(-1),
            "one": [shortened(shown[row]) for row in map(int, rows)],
            "other": [shortened(shown[column]) for column in map(int, columns)],
            "colour": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in shades.tolist()],
        },
    )
    _named(figure.xaxis, shown)
    _named(figure.yaxis, shown[::-1])
    figure.xaxis.major_label_orientation = 0.9
    figure.grid.visible = False
    figure.x_range.range_padding = figure.y_range.range_padding = 0
    figure.add_tools(
        HoverTool(tooltips=[("", "@one"), ("", "@other"), ("M", "@value{%.4g}")],
                  formatters={"@value": "printf"})
    )  # fmt: skip
    note = "Blue above zero, red below; the darker, the larger."
    if d < of:
        note += f" The {d} heaviest of {of:,} features."
    off = M - np.diag(np.diag(M))
    alt = (
        f"Matrix of {d} features, diagonal from {np.diag(M).min():.3g} to {np.diag(M).max():.3g}, "
        f"largest entry off it {np.abs(off).max():.3g}."
    )
    return Drawn(figure, "The matrix M", alt, note)


def placed(rows: Float[ndarray, "n m"], y: Sequence[str], *, title: str, key: str) -> Drawn:
    """Rows on their first two principal components, coloured by class.

    A dark ring marks those whose nearest neighbour among the rows shown is of another class.
    """
    from sklearn.neighbors import NearestNeighbors

    centred = rows - rows.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    xy = np.zeros((len(rows), 2))
    xy[:, : min(2, len(lengths))] = (left * lengths)[:, :2]
    shares = 100 * lengths**2 / max(float((lengths**2).sum()), 1e-300)
    labels = [
        f"{name} component, {shares[place] if place < len(shares) else 0:.0f} % of the variance"
        for place, name in enumerate(("first", "second"))
    ]
    wrong = np.zeros(len(rows), dtype=bool)
    if len(rows) > 1:
        nearest = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(return_distance=False)
        kinds = np.asarray(y)
        wrong = kinds[nearest[:, 0]] != kinds
    order = np.argsort(np.asarray(y), kind="stable")
    drawn = scatter(
        xy[order], [y[place] for place in map(int, order)], [f"row {place + 1}" for place in order],
        key=key, ringed=wrong[order], height=400, x_label=labels[0], y_label=labels[1],
    )  # fmt: skip
    alt = f"{drawn.alt} {wrong.sum():,} have a nearest neighbour of another class."
    return replace(drawn, title=title, alt=alt)


def depth(accuracies: Sequence[float], k: int) -> Drawn:
    """Error after each layer of a stack; after none of them it is that of Euclidean distance."""
    from bokeh.models import HoverTool

    errors = [1 - each for each in accuracies]
    figure = blank(
        height=300, small=False, x_axis_label="layers", y_axis_label=f"error of {k} neighbours"
    )
    source = {"x": list(range(len(errors))), "y": errors}
    figure.line("x", "y", source=source, color=COLOURS[0], width=2)
    figure.scatter("x", "y", source=source, color=COLOURS[0], size=7)
    figure.xaxis.ticker = list(range(len(errors)))
    figure.xaxis.major_label_overrides = {0: "Euclidean"}
    figure.y_range.start = 0
    figure.add_tools(HoverTool(tooltips=[("layers", "@x"), ("error", "@y{0.0000}")]))
    said = ", ".join(f"{error:.4f}" for error in errors)
    return Drawn(figure, "Error against depth", f"Error after 0, 1, ... layers: {said}.")


def strips(accuracies: Mapping[str, Sequence[float]]) -> Drawn:
    """A dot for each split and a bar at the mean, one row a method, the best on top."""
    from bokeh.models import HoverTool

    order = sorted(accuracies, key=lambda name: float(np.mean(accuracies[name])))
    figure = blank(height=90 + 34 * len(order), small=False, x_axis_label="classified right")
    _named(figure.yaxis, order)
    rng = np.random.default_rng(0)
    for place, name in enumerate(order):
        values = np.asarray(accuracies[name], dtype=np.float64)
        height = place + rng.uniform(-0.18, 0.18, len(values))
        source = {"x": values, "y": height, "name": [name] * len(values)}
        figure.scatter("x", "y", source=source, color=COLOURS[0], alpha=0.45, size=6)
        figure.segment(
            [values.mean()], [place - 0.32], [values.mean()], [place + 0.32],
            line_color=INK, line_width=2.5,
        )  # fmt: skip
    figure.ygrid.grid_line_color = None
    figure.add_tools(HoverTool(tooltips=[("", "@name"), ("one split", "@x{0.0000}")]))
    said = "; ".join(f"{name} {np.mean(accuracies[name]):.4f}" for name in reversed(order))
    return Drawn(figure, "Every split", f"Mean accuracy: {said}.",
                 "A dot is a split, the upright line their mean.")  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A region as a closed line, with what is told about it."""

    x: ndarray
    y: ndarray
    kind: str
    reason: str


def regions(
    X: Float[ndarray, "n d"],
    y: Sequence[str],
    pool: Float[ndarray, "p d"],
    found: Sequence[Any],
    asked: Float[ndarray, "q d"],
    names: Sequence[str],
) -> Drawn:
    """Labelled rows, the pool, what is asked, and the outlines of regions, on two axes.

    The axes are the two features that the regions resolve best where the metric weighs features
    one by one, and the first two principal components of the embedding otherwise.

    Args:
        X: labelled rows.
        y: their classes.
        pool: rows without a class.
        found: regions (`tupelo.tabular.active.regions.Region`).
        asked: rows or centres that are asked for.
        names: of the features.
    """
    from bokeh.models import ColumnDataSource, HoverTool

    axes = _axes(X, found, names)
    drawn = scatter(
        axes.place(X), y, [f"row {place + 1}" for place in range(len(X))],
        key="regions", height=520, x_label=axes.labels[0], y_label=axes.labels[1],
    )  # fmt: skip
    figure, legend = drawn.figure, list(drawn.legend)
    figure.match_aspect = axes.round
    if len(pool):
        xy = axes.place(pool[:POINTS])
        figure.scatter(xy[:, 0], xy[:, 1], name="regions-pool", size=4, color="#9aa4ae", alpha=0.5)
        legend.append(Entry("without a class", "regions-pool", "#9aa4ae", "●"))
    shapes = [axes.outline(region) for region in found]
    for kind, colour in (("boundary", INK), ("outlier", COLOURS[6])):
        of_kind = [shape for shape in shapes if shape.kind == kind]
        if not of_kind:
            continue
        source = ColumnDataSource(
            {
                "xs": [shape.x for shape in of_kind],
                "ys": [shape.y for shape in of_kind],
                "reason": [shortened(shape.reason) for shape in of_kind],
            }
        )
        lines = figure.patches(
            "xs", "ys", source=source, name=f"regions-of-{kind}", fill_color=colour,
            fill_alpha=0.07, line_color=colour, line_width=1.2,
        )  # fmt: skip
        lines.level = "underlay"  # points stay clear
        figure.add_tools(HoverTool(tooltips=[("", "@reason")], renderers=[lines]))
        legend.append(Entry(f"{kind} region", f"regions-of-{kind}", colour, "◯"))
    if len(asked):
        xy = axes.place(asked)
        figure.scatter(
            xy[:, 0], xy[:, 1], name="regions-asked", size=13, marker="x", line_width=2.5,
            line_color="black",
        )  # fmt: skip
        legend.append(Entry("asked", "regions-asked", "black", "✕"))
    alt = f"{drawn.alt} {len(found):,} regions, {len(asked):,} questions."
    return Drawn(figure, "Regions", alt, axes.note, legend)


@dataclass(frozen=True)
class _Axes:
    """Two axes: rows of `linear` map features to them."""

    linear: Float[ndarray, "2 d"]
    labels: tuple[str, str]
    note: str
    round: bool  # regions are circles here, of their own radius

    def place(self, X: ndarray) -> Float[ndarray, "n 2"]:
        return X @ self.linear.T

    def outline(self, region: Any) -> Shape:
        """The outer edge of a region's shadow on the axes."""
        angle = np.linspace(0, 2 * np.pi, CIRCLE)
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        centre = self.linear @ region.centre
        if self.round:
            edge = centre + region.radius * waves
        else:
            edge = centre + _edge(region, self.linear.argmax(axis=1), waves)
        return Shape(edge[:, 0], edge[:, 1], region.kind, str(region.reason))


def _edge(
    region: Any, features: Int[ndarray, " 2"], waves: Float[ndarray, "n 2"]
) -> Float[ndarray, "n 2"]:
    """Where D along two features reaches the square of the radius, by halving.

    D is a sum over features, so the shadow is the slice through the centre.
    """
    reach = np.asarray(region.ruler.extent(region.radius))[features]
    observed = np.maximum(region.upper - region.lower, 1e-9)[features]
    reach = np.where(np.isfinite(reach), reach, 10 * observed)  # the feature has no weight
    steps = np.zeros((len(waves), len(region.centre)))
    steps[:, features] = waves * reach
    low, high = np.zeros((len(waves), 1)), np.full((len(waves), 1), 2.0)
    for _ in range(50):
        middle = (low + high) / 2
        distance = region.ruler.from_point(region.centre + middle * steps, region.centre)
        beyond = (distance > region.radius**2)[:, None]
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return low * steps[:, features]


def _axes(X: Float[ndarray, "n d"], found: Sequence[Any], names: Sequence[str]) -> _Axes:
    one_by_one = all(_follows_features(region) for region in found)
    if not found or one_by_one:
        spread = X.std(axis=0)
        if found:  # how many times its region fits into the spread of a feature
            reach = np.mean([region.ruler.extent(region.radius) for region in found], axis=0)
            spread = np.divide(spread, reach, out=np.zeros_like(spread), where=reach > 0)
        order = np.argsort(-spread, kind="stable")
        first, second = int(order[0]), int(order[min(1, len(order) - 1)])
        linear = np.zeros((2, X.shape[1]))
        linear[0, first] = linear[1, second] = 1.0
        labels = shortened(names[first], 60), shortened(names[second], 60)
        note = (
            "The two features that the metric resolves best. Regions are drawn by their shadow: a "
            "row inside it may be outside by another feature."
        )
        return _Axes(linear, labels, note, round=False)
    maps = found[0].ruler.maps
    embedded = (X - X.mean(axis=0)) @ maps.T
    main = np.linalg.svd(embedded, full_matrices=False)[2][:2]
    linear = np.zeros((2, X.shape[1]))
    linear[: len(main)] = main @ maps
    note = (
        "The first two principal components of the embedding, in which regions are balls; a row "
        "inside a circle may be outside by another component."
    )
    return _Axes(linear, ("first component", "second component"), note, round=True)


def _follows_features(region: Any) -> bool:
    """Each direction of the metric is a feature by itself."""
    return bool(((np.abs(region.ruler.maps) > 0).sum(axis=1) <= 1).all())


def _named(axis: Any, names: Sequence[str]) -> None:
    """Names in place of 0, 1, 2, ..."""
    axis.ticker = list(range(len(names)))
    axis.major_label_overrides = {place: shortened(name, LABEL) for place, name in enumerate(names)}
