"""The loop of questions and answers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

from tupelo.errors import InputError
from tupelo.tabular import ActiveLearner, MIOMetric

METRIC = MIOMetric(n_neighbors=1, max_rounds=1)


def iris(seed=0):
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(seed).permutation(150)
    return X[order], np.array(["a", "b", "c"])[y[order]]


def learner_of(start=20, **options):
    X, y = iris()
    given = {"budget": 30, "pool": X[start:], "random_state": 0} | options
    return ActiveLearner(METRIC, X[:start], y[:start], **given), y[start:]


@pytest.mark.parametrize("strategy", ["regions", "uncertainty", "random"])
def test_a_loop_until_the_budget_is_used_up(strategy):
    learner, labels = learner_of(strategy=strategy)
    asked = []
    while learner.left:
        rows = [one.row for one in learner.ask(8)]
        assert len(rows) == min(8, 30 - len(asked))
        asked += rows
        learner.tell_rows(rows, labels[rows])
    assert len(set(asked)) == len(asked) == 30
    assert set(learner.unlabelled) == set(range(130)) - set(asked)
    assert (learner.X[20:] == learner.pool[asked]).all()
    assert (learner.y[20:] == labels[asked]).all()
    assert len(learner.metric().errors_) == 50
    with pytest.raises(InputError, match="the budget of 30 labels is used up"):
        learner.ask()


def test_the_most_uncertain_rows_are_asked_for():
    learner, _ = learner_of(strategy="uncertainty")
    found = learner.ask(5)
    doubt = learner.metric().uncertainty(learner.pool)
    assert [one.row for one in found] == np.argsort(-doubt, kind="stable")[:5].tolist()
    assert found[0].uncertainty == doubt.max()
    assert "almost equally far" in found[0].reason


def test_regions_are_named_with_rows_of_the_whole_pool():
    learner, labels = learner_of()
    first = [one.row for one in learner.ask(5)]
    assert [one.row for one in learner.ask(5)] == first
    learner.tell_rows(first, labels[first])
    for one in learner.ask(10):
        assert (learner.pool[one.row] == one.x).all()
        assert one.row not in first
        assert one.region is None or one.region.contains(one.x[None])[0]


def test_fits_begin_at_the_weights_before_and_only_where_labels_came():
    learner, labels = learner_of()
    metric = learner.metric()
    assert metric.get_params()["warm_start"]
    before = metric.weights_
    assert learner.metric().weights_ is before
    learner.tell_rows([0, 1], labels[[0, 1]])
    assert learner.metric().weights_ is not before
    assert METRIC.warm_start is False  # the estimator that came is left alone
    assert not hasattr(METRIC, "weights_")


def test_without_any_label_rows_are_drawn():
    X, y = iris()
    learner = ActiveLearner(METRIC, budget=12, pool=X, random_state=1)
    found = learner.ask(6)
    assert all("fewer than two classes" in one.reason for one in found)
    assert all(np.isnan(one.uncertainty) for one in found)
    same = np.flatnonzero(y == y[0])[:3]
    learner.tell_rows(same, y[same])
    assert "drawn at random" in learner.ask(2)[0].reason
    other = np.flatnonzero(y != y[0])[:1]
    learner.tell_rows(other, y[other])  # a class of one row stops nothing
    assert learner.ask(2)[0].region.kind == "outlier"
    assert learner.left == 8


def test_without_a_pool_regions_are_asked_for():
    X, y = iris()
    learner = ActiveLearner(METRIC, X[:30], y[:30], budget=5)
    found = learner.ask(3)
    assert all(one.row is None and one.region is not None for one in found)
    learner.tell(np.array([one.x for one in found]), y[:3])
    assert learner.left == 2
    assert len(learner.ask(10)) <= 2
    assert len(learner.metric().errors_) == 33


def test_labels_beyond_the_budget_are_taken():
    learner, labels = learner_of(budget=3)
    learner.tell_rows(range(5), labels[:5])
    assert learner.left == 0
    assert len(learner.y) == 25


def test_a_pool_ends():
    X, y = iris()
    learner = ActiveLearner(METRIC, X[:145], y[:145], budget=50, pool=X[145:])
    assert len(learner.ask(20)) == 5
    learner.tell_rows(range(5), y[145:])
    with pytest.raises(InputError, match="all 5 rows of the pool are labelled"):
        learner.ask()


def test_asking_regions_beats_chance_on_average():
    X, y = iris(3)
    final = {}
    for strategy in ("regions", "random"):
        scores = []
        for seed in range(3):
            X, y = iris(seed)
            learner = ActiveLearner(
                METRIC, X[:10], y[:10], budget=20, pool=X[10:75], strategy=strategy, random_state=0
            )
            while learner.left:
                rows = [one.row for one in learner.ask(10)]
                learner.tell_rows(rows, y[10:75][rows])
            scores.append(learner.metric().classifier(3).score(X[75:], y[75:]))
        final[strategy] = np.mean(scores)
    assert final["regions"] >= final["random"] - 0.03
    assert final["regions"] > 0.9


@pytest.mark.parametrize("known", [list, np.array, pd.Series, lambda y: np.array(y, object)])
@pytest.mark.parametrize("told", [list, pd.Series, lambda y: np.array(y, object)])
def test_labels_come_as_lists_arrays_and_columns(known, told):
    X, y = iris()
    learner = ActiveLearner(METRIC, X[:20], known(y[:20].tolist()), budget=5, pool=X[20:])
    learner.tell_rows([0, 1], told(y[20:22].tolist()))
    learner.tell_rows([], told([]))
    learner.tell_rows([5], told(["a new class"]))
    assert learner.y.tolist() == [*y[:22], "a new class"]
    assert learner.left == 2
    assert learner.ask(2)[0].region.kind == "outlier"


def test_nothing_is_kept_of_what_is_refused():
    X, y = iris()
    numbers = np.unique(y, return_inverse=True)[1]
    learner = ActiveLearner(METRIC, X[:20], numbers[:20], budget=5, pool=X[20:])
    before = [one.row for one in learner.ask(3)]
    damaged = X[20:22].copy()
    damaged[1, 2] = np.nan
    with pytest.raises(InputError, match="X must be finite, row 1 is"):
        learner.tell(damaged, [0, 1])
    for bad in (0.5, np.nan, None, 1j):
        with pytest.raises(InputError, match="y must be labels, texts or whole numbers, and none"):
            learner.tell(X[20:21], [bad])
    with pytest.raises(InputError, match="X and y must be of one length, got 2 and 1"):
        learner.tell_rows([0, 1], [1])
    assert (learner.left, len(learner.y), len(learner.unlabelled)) == (5, 20, 130)
    assert [one.row for one in learner.ask(3)] == before
    with pytest.raises(InputError, match="pool must be finite, row 1 is"):
        ActiveLearner(METRIC, budget=1, pool=damaged)


def test_labelled_rows_that_are_all_the_same_do_not_stop_the_loop():
    X, y = iris()
    learner = ActiveLearner(METRIC, X[[0, 0]], ["a", "b"], budget=5, pool=X)
    assert "all labelled rows are the same" in learner.ask(2)[0].reason
    learner.tell_rows([3], y[[3]])
    assert "drawn" not in learner.ask(2)[0].reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget must be a whole number >= 1, got 0"),
        ({"strategy": "entropy"}, "strategy must be 'regions', 'uncertainty' or 'random', got"),
        ({"pool": None, "strategy": "random"}, "strategy 'random' chooses from a pool"),
        ({"pool": np.zeros(3)}, r"pool must be of shape \(rows, features\), got \(3,\)"),
        ({"pool": [["a"]]}, "pool must be a table of numbers"),
        ({"pool": np.zeros((3, 2))}, "X must have 2 features, got 4"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        learner_of(**options)


def test_what_is_told_is_checked():
    learner, _ = learner_of()
    with pytest.raises(InputError, match="X and y must be of one length, got 2 and 1"):
        learner.tell(np.zeros((2, 4)), ["a"])
    with pytest.raises(InputError, match="X must have 4 features, got 3"):
        learner.tell(np.zeros((1, 3)), ["a"])
    with pytest.raises(InputError, match="y must be labels like those before"):
        learner.tell(np.zeros((1, 4)), [1])
    with pytest.raises(InputError, match="130 is not within 0 to 129"):
        learner.tell_rows([130], ["a"])
    with pytest.raises(InputError, match="rows must be different, one came twice"):
        learner.tell_rows([1, 1], ["a", "a"])
    with pytest.raises(InputError, match="rows must be numbers of rows of the pool, got float"):
        learner.tell_rows([0.5], ["a"])
    learner.tell_rows([4], ["a"])
    with pytest.raises(InputError, match="4 has a label already"):
        learner.tell_rows([4], ["a"])
    assert learner.left == 29
    with pytest.raises(InputError, match="X and y must both be given"):
        ActiveLearner(METRIC, np.zeros((2, 2)), budget=1)
    with pytest.raises(InputError, match="no pool whose rows could be told"):
        ActiveLearner(METRIC, budget=1).tell_rows([0], ["a"])
    with pytest.raises(InputError, match="labels of two classes must be told before"):
        ActiveLearner(METRIC, budget=1).ask()
    with pytest.raises(InputError, match="n must be a whole number >= 1, got 0"):
        learner.ask(0)
    with pytest.raises(InputError, match=r"estimator must recommend rows.*got PCA"):
        ActiveLearner(PCA(), budget=1)
