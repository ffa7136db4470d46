"""Pages about tables say what was measured, ask nothing of the network, and keep names as text."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from tupelo.errors import MissingExtra
from tupelo.recipes import asking, comparing, tabular
from tupelo.recipes.tables import Table, labelled
from tupelo.report import table_figures
from tupelo.report import tabular as pages
from tupelo.tabular.active.regions import Ruler
from tupelo.tabular.generated import rings

HOSTILE = '</script><script>alert("a")</script>'


class Page(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self._code = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._code += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._code -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._code:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def table_of(labels: int = 60, names: tuple[str, ...] = ("a", "b", "noise", "more")) -> Table:
    X, y = rings(60, np.random.default_rng(0))
    kinds = [["in", "out"][label] if row < labels else None for row, label in enumerate(y)]
    columns = {name: X[:, place] for place, name in enumerate(names)}
    return Table("rings.csv", {**columns, "ring": np.array(kinds, dtype=object)})


@pytest.fixture(scope="module")
def mio():
    return tabular.fit(labelled(table_of(), "ring"), "mio", options={"time_limit": 5.0})


def read(path) -> Page:
    html = path.read_text()
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert tag not in ("link", "iframe")
    assert all(each.get("aria-label") for _, each in page.tags if each.get("role") == "img")
    return page


def figures(page: Page) -> list[str]:
    return [each["aria-label"] for _, each in page.tags if each.get("role") == "img"]


def test_a_fit(mio, tmp_path):
    page = read(pages.of_fit(mio, tmp_path / "new" / "fit.html"))
    assert (
        "mio learned from 60 of 60 rows of rings.csv, 4 features, 2 classes in column" in page.text
    )
    assert f"{mio.after:.4f}" in page.text
    assert "Euclidean" in page.text
    weights, before, after = figures(page)
    assert weights.startswith("Heaviest features: ")
    assert "60 points of 2 kinds. in: 30; out: 30" in before
    assert after != before
    assert "The matrix M" not in page.text  # it is a diagonal


def test_a_fit_with_a_full_matrix(tmp_path):
    fitted = tabular.fit(labelled(table_of(), "ring"), "nca", options={"max_iter": 5})
    page = read(pages.of_fit(fitted, tmp_path / "fit.html"))
    assert "The matrix M" in page.text
    M = fitted.metric.learner.components_.T @ fitted.metric.learner.components_
    off = np.abs(M - np.diag(np.diag(M))).max()
    assert f"largest entry off it {off:.3g}." in figures(page)[1]


def test_a_stack_shows_its_depth(tmp_path):
    fitted = tabular.fit(labelled(table_of(), "ring"), "odml")
    assert len(fitted.depths) == 4
    assert (fitted.depths[0], fitted.depths[-1]) == (fitted.before, fitted.after)
    page = read(pages.of_fit(fitted, tmp_path / "fit.html"))
    said = ", ".join(f"{1 - each:.4f}" for each in fitted.depths)
    assert figures(page)[0] == f"Error after 0, 1, ... layers: {said}."
    assert "The metric" not in page.text


def test_a_distance_without_an_embedding(tmp_path):
    options = {"atoms": "l1+l2", "time_limit": 5.0}
    fitted = tabular.fit(labelled(table_of(), "ring"), "mio", options=options)
    page = read(pages.of_fit(fitted, tmp_path / "fit.html"))
    assert len(figures(page)) == 2  # weights, and rows before
    assert "After" not in page.text


def test_a_comparison(tmp_path):
    found = comparing.compare(labelled(table_of(), "ring"), ["opml"], folds=2, repeats=1)
    page = read(pages.of_comparison(found, "rings.csv", tmp_path / "compared.html"))
    for score in found.scores:
        assert f"{score.method} {score.accuracy:.4f} ± {score.spread:.4f}" in page.text
    assert figures(page)[0].startswith("Mean accuracy: ")


@pytest.mark.parametrize("atoms", ["diag", "rank1", "l1+l2"])
@pytest.mark.parametrize("labels", [60, 20])
def test_questions(tmp_path, atoms, labels):
    table = table_of(labels)
    options = {"atoms": atoms, "time_limit": 5.0}
    asked = asking.ask(table, "ring", tmp_path / "ask.csv", n=3, options=options)
    page = read(pages.of_questions(asked, "rings.csv", "ring", tmp_path / "ask.html"))
    for one in asked.questions:
        assert one.reason in page.text
    count = len(asked.learner.regions())
    assert f"{count} regions, {len(asked.questions)} questions." in figures(page)[0]


def test_hostile_names_stay_text(tmp_path):
    names = (HOSTILE, "$$x$$", "@kind {safe}", "long " * 40)
    table = table_of(names=names)
    table.columns["ring"] = np.where(table.columns["ring"] == "in", HOSTILE, "b").astype(object)
    fitted = tabular.fit(labelled(table, "ring"), "nca", options={"max_iter": 3})
    page = read(pages.of_fit(fitted, tmp_path / "fit.html"))
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]


def test_without_bokeh(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bokeh", None)
    with pytest.raises(MissingExtra, match=r"drawing a report needs bokeh: pip install"):
        pages.check_extra()


def region(maps, powers, radius=2.0):
    maps = np.asarray(maps, dtype=np.float64)
    d = maps.shape[1]
    return SimpleNamespace(
        ruler=Ruler(maps, np.asarray(powers)), centre=np.arange(float(d)), radius=radius,
        kind="boundary", reason="r", lower=np.zeros(d), upper=np.ones(d),
    )  # fmt: skip


def test_shadows_touch_the_square_of_the_radius():
    for maps, powers in (
        (np.diag([1.0, 0.5, 3.0]), [2, 2, 2]),
        (np.diag([1.0, 0.5, 3.0]), [1, 2, 4]),
        (np.vstack([np.eye(3), np.eye(3)]), [1, 1, 1, 2, 2, 2]),
    ):
        one = region(maps, powers)
        X = np.random.default_rng(0).normal(size=(50, 3))
        axes = table_figures._axes(X, [one], ["a", "b", "c"])
        shape = axes.outline(one)
        features = axes.linear.argmax(axis=1)
        rows = np.tile(one.centre, (len(shape.x), 1))
        rows[:, features[0]], rows[:, features[1]] = shape.x, shape.y
        assert np.allclose(one.ruler.from_point(rows, one.centre), one.radius**2, rtol=1e-9)


def test_a_turned_metric_is_shown_by_its_components():
    one = region([[1.0, 1.0, 0.0], [0.0, 0.5, -0.5]], [2, 2])
    X = np.random.default_rng(0).normal(size=(50, 3))
    axes = table_figures._axes(X, [one], ["a", "b", "c"])
    shape = axes.outline(one)
    centre = axes.place(one.centre[None])[0]
    distance = np.hypot(shape.x - centre[0], shape.y - centre[1])
    assert np.allclose(distance, one.radius)
    embedded = X @ one.ruler.maps.T  # two components hold all distances of a metric of rank two
    own = np.linalg.norm(embedded[0] - embedded[1])
    assert np.linalg.norm(np.subtract(*axes.place(X[:2]))) == pytest.approx(own)


def test_figures_are_valid_bokeh(mio):
    from bokeh.embed import json_item

    for drawn in (
        table_figures.weights([(f"f{n}", 1 / (n + 1)) for n in range(40)]),
        table_figures.matrix(np.eye(50) + 0.1, [f"f{n}" for n in range(50)]),
        table_figures.depth([0.8, 0.9, 0.95], 5),
        table_figures.strips({"a": [0.5, 0.6], "b": [0.7, 0.7]}),
        table_figures.placed(mio.X, mio.y.tolist(), title="t", key="k"),
    ):
        assert json.dumps(json_item(drawn.figure))
        assert drawn.alt


def test_large_matrices_show_the_heaviest():
    M = np.diag(np.arange(50.0))
    drawn = table_figures.matrix(M, [f"f{n}" for n in range(50)])
    assert "The 40 heaviest of 50 features." in drawn.note
    assert re.search(r"diagonal from 10 to 49", drawn.alt)
