"""Pages about faces: the numbers, a line for every split, nothing from the network."""

import numpy as np
import pytest

from tupelo import evaluation
from tupelo.data.official.protocol import pair_list
from tupelo.errors import MissingExtra
from tupelo.recipes.faces_evaluating import PairsJudged
from tupelo.recipes.faces_templates import TemplatesJudged
from tupelo.report import face_figures as figures
from tupelo.report import faces as pages

HOSTILE = "</script><script>alert('a')</script>"


def judged(n=400, n_folds=10, seed=0):
    rng = np.random.default_rng(seed)
    same = np.tile([True, False], n // 2)
    scores = np.clip(np.where(same, 0.5, 0.1) + rng.normal(scale=0.15, size=n), -1, 1)
    folds = np.arange(n) * n_folds // n + 1
    listed = pair_list(
        [(f"{row}a", f"{row}b", bool(same[row])) for row in range(n)], folds.tolist()
    )
    roc = evaluation.roc(scores, same)
    found, at, threshold = None, 0.9, 0.3
    if n_folds > 1:
        found, at, threshold = evaluation.fold_accuracy(scores, same, folds), None, None
    about = {"features": HOSTILE, "center": False}
    return PairsJudged("LFW", about, listed, scores, found, at, threshold, roc, ("mind this",))


def test_page_of_pairs(tmp_path):
    found = judged()
    page = pages.of_pairs(found, tmp_path / "lfw.html").read_text()
    assert f"{100 * found.accuracy.accuracy:.2f} ±" in page
    assert "TAR at FAR 0.001" in page
    assert "not measurable" in page
    assert "mind this" in page
    assert HOSTILE not in page
    assert "http-equiv" in page
    assert page.count("DET") >= 1
    assert f"{found.accuracy.thresholds[0]:.4f}" in page
    one = pages.of_pairs(judged(n_folds=1), tmp_path / "one.html", title="run <b>").read_text()
    assert "90.00 %" in one
    assert "run &lt;b&gt;" in one


def test_page_of_templates(tmp_path):
    rng = np.random.default_rng(0)
    searches = {
        split: evaluation.identify(
            rng.uniform(-1, 1, (30, 8)), rng.integers(0, 12, 30), np.arange(8)
        )
        for split in (1, 2)
    }
    rocs = {split: judged(seed=split).roc for split in (1, 2)}
    found = TemplatesJudged({}, rocs, searches, 20, True, {1: 0, 2: 3}, ("a note",))
    page = pages.of_templates(found, tmp_path / "ijba.html").read_text()
    assert str(found.tar(0.1)) in page
    assert str(found.cmc(1)) in page
    assert "TPIR at FPIR 0.1, rank 20 at most" in page
    assert "3 templates without a face" in page
    assert "a note" in page
    alone = TemplatesJudged({}, {}, {1: searches[1]}, 20, False, {1: 0}, ())
    page = pages.of_templates(alone, tmp_path / "alone.html").read_text()
    assert "TPIR" not in page
    assert "in 1 split." in page


def points(drawn, name):
    (glyph,) = [each for each in drawn.figure.renderers if each.name == name]
    return {key: np.asarray(value) for key, value in glyph.data_source.data.items()}


def test_curves_lie_on_the_roc():
    roc = judged(4000).roc
    drawn = figures.roc_chart({"a": roc, "b": judged().roc}, (0.1, 0.01, 0.0001))
    found = points(drawn, "roc-0")
    assert 100 < len(found["x"]) <= figures.POINTS
    for far, tar, threshold in zip(found["x"], found["y"], found["t"], strict=True):
        assert roc.far_at(threshold) == far
        assert (roc.genuine > threshold).mean() == pytest.approx(tar)
    assert found["x"].min() == 1 / 2000
    assert [entry.label for entry in drawn.legend] == ["a", "b"]
    assert "at 0.0001 not measurable" in drawn.alt
    rejects = points(figures.det_chart({"a": roc}), "det-0")
    assert np.all(rejects["y"] > 0)
    assert {1 - tar for tar in found["y"]} >= set(rejects["y"])


def test_scores_of_a_collapsed_model_are_drawn():
    roc = evaluation.roc(np.full(4, 0.5), np.array([True, False, True, False]))
    drawn = figures.score_chart(roc, [0.5])
    assert points(drawn, "scores-same")["top"].sum() == 1.0
    assert figures.det_chart({"a": roc}).alt == "Equal error rate 50.00%."


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bokeh", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[report\]'"):
        pages.of_pairs(judged(), tmp_path / "lfw.html")
