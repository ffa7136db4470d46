"""Names of learners, samples, and accuracies against scikit-learn's own."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis

from tupelo.errors import InputError
from tupelo.recipes import table_learners
from tupelo.recipes.table_learners import (
    LEARNERS,
    Unchanged,
    accuracy,
    installed,
    make,
    sample,
    unusable,
)

X, Y = (each[::3] for each in load_iris(return_X_y=True))


class Manhattan:
    """A distance without an embedding."""

    def distances(self, left, right):
        return np.abs(left[:, None] - right[None]).sum(axis=2)


def test_accuracy_of_other_rows_is_that_of_scikit_learn():
    odd = np.arange(50) % 2 == 1
    nca = NeighborhoodComponentsAnalysis(random_state=0, max_iter=10).fit(X[odd], Y[odd])
    votes = KNeighborsClassifier(5).fit(nca.transform(X[odd]), Y[odd])
    expected = votes.score(nca.transform(X[~odd]), Y[~odd])
    assert accuracy(nca, X[odd], Y[odd], X[~odd], Y[~odd], 5) == expected


def test_own_rows_leave_themselves_out():
    expected = cross_val_score(KNeighborsClassifier(5), X, Y, cv=LeaveOneOut()).mean()
    assert accuracy(Unchanged().fit(X), X, Y, X, Y, 5) == pytest.approx(expected)


@pytest.mark.parametrize("own", [True, False])
def test_distances_without_an_embedding(own):
    odd = np.arange(50) % 2 == 1
    known, labels = (X, Y) if own else (X[odd], Y[odd])
    new, asked = (X, Y) if own else (X[~odd], Y[~odd])
    votes = KNeighborsClassifier(3, p=1)
    if own:
        expected = cross_val_score(votes, X, Y, cv=LeaveOneOut()).mean()
    else:
        expected = votes.fit(known, labels).score(new, asked)
    found = accuracy(Manhattan(), known, labels, known if own else new, asked, 3)
    assert found == pytest.approx(expected, abs=0.021)  # rows equally near may be taken otherwise


def test_more_neighbours_than_rows():
    assert accuracy(Unchanged().fit(X), X[:3], Y[:3], X[:3], Y[:3], 50) == 1.0


def test_a_sample_has_every_class_its_share():
    y = np.repeat(["a", "b", "c", "d"], [600, 300, 3, 1])
    rows = sample(y, 100, seed=0)
    classes, counts = np.unique(y[rows], return_counts=True)
    assert dict(zip(classes.tolist(), counts.tolist(), strict=True)) == {"a": 66, "b": 33, "c": 2}
    assert (rows == sample(y, 100, seed=0)).all()
    assert (rows != sample(y, 100, seed=1)).any()
    assert sorted(sample(y, None, seed=0)) == list(range(903))  # a class of one row is left out


def test_unknown_learners_and_options():
    with pytest.raises(InputError, match=r"no learner is called 'mioo'; did you mean mio\?"):
        make("mioo", Y, 0)
    with pytest.raises(InputError, match="no learner is called 'zzz'; there are euclidean, opml"):
        make("zzz", Y, 0)
    with pytest.raises(InputError, match=r"--option max_itr: nca has no such option; did you mean"):
        make("nca", Y, 0, {"max_itr": 3})


def test_options_reach_the_learner():
    assert make("nca", Y, 3, {"max_iter": 7}).get_params()["max_iter"] == 7
    assert make("nca", Y, 3).get_params()["random_state"] == 3


@pytest.mark.parametrize(
    ("peer", "sklearn", "why"),
    [
        ("0.7.0", "1.9.1", "metric-learn 0.7.0 fails with scikit-learn 1.9.1; it needs one before"),
        ("0.7.0", "1.7.2", ""),
        ("0.8.0", "1.9.1", ""),
        (None, "1.9.1", "metric-learn is not installed"),
    ],
)
def test_metric_learn_is_guarded(monkeypatch, peer, sklearn, why):
    def version(name):
        if name == "scikit-learn":
            return sklearn
        if peer is None:
            raise table_learners.PackageNotFoundError(name)
        return peer

    monkeypatch.setattr(table_learners, "version", version)
    assert unusable("lmnn").startswith(why)
    assert bool(unusable("lmnn")) == bool(why)
    assert not unusable("nca")
    assert ("itml" in installed()) == (peer is not None)
    assert {name for name, one in LEARNERS.items() if one.package == "tupelo"} <= set(installed())
