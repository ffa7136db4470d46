"""Comparing metrics on a table: the same splits for all, resumed, honest about failures."""

import json
import re

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tupelo.errors import InputError
from tupelo.recipes import comparing, table_learners
from tupelo.recipes.comparing import compare, corrected_interval
from tupelo.recipes.table_learners import Learner, Unchanged
from tupelo.recipes.tables import Table, labelled

X, Y = load_wine(return_X_y=True)


class Broken(Unchanged):
    """Fails in its own way."""

    def fit(self, X, y=None):
        raise RuntimeError("out of luck")


class Zero(Unchanged):
    """Maps everything to one point: the first class wins."""

    def transform(self, X):
        return 0 * X


@pytest.fixture
def wine():
    columns = {f"f{place}": X[:, place] for place in range(X.shape[1])}
    kinds = np.array([f"kind {label}" for label in Y], dtype=object)
    return labelled(Table("wine.csv", {**columns, "kind": kinds}), "kind")


@pytest.fixture
def learners(monkeypatch):
    """Three that cost nothing."""
    known = {
        "euclidean": table_learners.LEARNERS["euclidean"],
        "zero": Learner(lambda y, seed, options: Zero(), "nothing"),
        "broken": Learner(lambda y, seed, options: Broken(), "fails"),
        "few": Learner(lambda y, seed, options: Unchanged(), "on few rows", rows=30, unit=True),
    }
    for module in (table_learners, comparing):
        monkeypatch.setattr(module, "LEARNERS", known)
    return known


def test_euclid_is_what_scikit_learn_measures(wine, learners):
    found = compare(wine, ["zero"], folds=4, repeats=2, k=3, seed=7)
    cv = RepeatedStratifiedKFold(n_splits=4, n_repeats=2, random_state=7)
    expected = cross_val_score(
        make_pipeline(StandardScaler(), KNeighborsClassifier(3)), X, wine.y, cv=cv
    )
    assert np.allclose(found.accuracies["euclidean"], expected)
    best, worst = found.scores
    assert (best.method, worst.method) == ("euclidean", "zero")
    assert best.accuracy == pytest.approx(expected.mean())
    assert best.spread == pytest.approx(expected.std(ddof=1))
    assert best.difference is None
    gap = np.array(found.accuracies["zero"]) - expected
    assert worst.difference == pytest.approx(gap.mean())
    assert worst.interval == pytest.approx(corrected_interval(gap, 1 / 3))
    assert found.measured == 16
    assert not found.notes


def test_a_learner_that_fails_does_not_stop_the_others(wine, learners, tmp_path):
    found = compare(wine, folds=2, repeats=1, out=tmp_path)
    failed = found.scores[-1]
    assert failed.method == "broken"
    assert failed.failed == "2 of 2 splits: RuntimeError: out of luck"
    assert failed.accuracy is None
    assert set(found.accuracies) == {"euclidean", "zero", "few"}
    (note,) = found.notes
    assert re.match(r"fitted to a sample of .*: few (28|29|30) rows; --rows N takes more", note)


def test_what_cannot_run_here_is_said(wine, monkeypatch):
    def why(name):
        return "it needs another scikit-learn" * (name == "lmnn")

    monkeypatch.setattr(comparing, "unusable", why)
    found = compare(wine, ["lmnn"], folds=2, repeats=1)
    assert [score.method for score in found.scores] == ["euclidean", "lmnn"]
    assert found.scores[1].failed == "it needs another scikit-learn"


def test_repeating_measures_what_is_missing(wine, learners, tmp_path, monkeypatch):
    out = tmp_path / "compared"
    first = compare(wine, ["zero"], out=out, folds=2, repeats=2)
    again = compare(wine, ["zero"], out=out, folds=2, repeats=2)
    assert (first.measured, again.measured) == (8, 0)
    assert again.scores == first.scores
    more = compare(wine, ["zero", "few"], out=out, folds=2, repeats=2)
    assert more.measured == 4
    assert set(json.loads((out / "compared.json").read_text())["accuracies"]) == {
        "euclidean",
        "zero",
        "few",
    }


def test_a_line_cut_by_a_kill_is_measured_again(wine, learners, tmp_path):
    compare(wine, ["zero"], out=tmp_path, folds=2, repeats=1)
    cells = tmp_path / comparing.CELLS
    cells.write_text(cells.read_text()[:-20])
    assert compare(wine, ["zero"], out=tmp_path, folds=2, repeats=1).measured == 1


def test_other_settings_are_measured_anew(wine, learners, tmp_path, caplog):
    compare(wine, ["zero"], out=tmp_path, folds=2, repeats=1)
    assert compare(wine, ["zero"], out=tmp_path, folds=2, repeats=1, k=3).measured == 4
    assert "is of another table or other settings: measuring anew" in caplog.text
    wine.table.columns["f0"][0] += 1
    assert compare(wine, ["zero"], out=tmp_path, folds=2, repeats=1, k=3).measured == 4


@pytest.mark.slow
def test_processes_find_the_same(wine, tmp_path):
    alone = compare(wine, ["nca"], folds=2, repeats=1)
    several = compare(wine, ["nca"], folds=2, repeats=1, jobs=2)
    assert alone.accuracies == several.accuracies


def test_the_interval_by_hand():
    gaps = np.array([0.02, 0.04, 0.0, 0.06])
    # t(0.975, 3) = 3.1824, variance 0.02 ** 2 * 5 / 3, (1/4 + 1/4)
    assert corrected_interval(gaps, 0.25) == pytest.approx(3.1824 * 0.02582 * 0.5**0.5, rel=1e-3)


def test_progress_counts_splits(wine, learners):
    seen = []
    compare(wine, ["zero"], folds=2, repeats=1, progress=seen.append)
    assert [(one.done, one.total) for one in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["zer"]}, r"no learner is called 'zer'; did you mean zero\?"),
        ({"folds": 1}, "--folds must be at least 2, got 1"),
        ({"repeats": 0}, "--repeats must be at least 1, got 0"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
        ({"k": 0}, "--neighbours must be at least 1, got 0"),
        ({"rows": 3}, "--rows must be at least 4, got 3"),
        ({"folds": 100}, "--folds must leave two rows to each part, got 100 for 178 rows"),
        ({"folds": 80}, "--folds 80: no class has so many rows; give fewer folds"),
    ],
)
def test_refusals(wine, learners, options, said):
    with pytest.raises(InputError, match=said):
        compare(wine, **options)


def test_a_folder_of_other_things_is_left_alone(wine, learners, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds other things; name a new folder"):
        compare(wine, ["zero"], out=tmp_path)


def test_small_classes_are_told_of(learners):
    y = np.array(["a"] * 9 + ["b"] * 9 + ["c"] * 2, dtype=object)
    table = Table("t.csv", {"x": np.arange(20.0), "y": y})
    found = compare(labelled(table, "y"), ["zero"], folds=3, repeats=1)
    assert "class c with fewer rows than 3 folds: some parts are without" in found.notes
