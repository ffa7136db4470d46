"""ODML as scikit-learn sees it, and as a stream does."""

import pickle
import subprocess
import sys
import tracemalloc
import warnings
from itertools import product

import numpy as np
import pandas
import polars
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from tupelo.errors import InputError
from tupelo.tabular import ODML, balance_scale, waveform
from tupelo.tabular.inputs import unit_rows
from tupelo.tabular.online import stream
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import Layer
from tupelo.tabular.online.opml import OPML
from tupelo.tabular.online.stack import Stack

X, Y = waveform(120, np.random.default_rng(0), noise_features=0)
X = X[:, ::3]  # (120, 7)
LAYERS = ("opml", "moml", "lego", "rdml")
ENGINES = ("numba", "numpy")


def not_applicable(estimator):
    """The table of one check has a row of zeros, which cannot be brought to unit length."""
    if estimator.normalize is None:
        return {}
    return {"check_estimators_dtypes": "refuses rows of zeros while normalize='l2'"}


@parametrize_with_checks(
    [
        ODML(),
        ODML(normalize=None),
        ODML(n_layers=1, layer="moml", engine="numpy", normalize=None),
    ],
    expected_failed_checks=not_applicable,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def in_chunks(learner, size, rows=X, labels=Y):
    for start in range(0, len(rows), size):
        learner.partial_fit(rows[start : start + size], labels[start : start + size])
    return learner


def same(one, other):
    return all((a == b).all() for a, b in zip(one.layers_, other.layers_, strict=True))


def error(learner, seed, normalize=True):
    """Of 5 nearest neighbours on balance-scale, half and half."""
    rows, labels = balance_scale()
    order = np.random.default_rng(seed).permutation(len(rows))
    train, test = order[:312], order[312:]
    if learner is None:
        space = unit_rows(rows)
    else:
        space = learner.fit(rows[train], labels[train]).transform(rows)
    found = KNeighborsClassifier(5).fit(space[train], labels[train])
    return 1 - found.score(space[test], labels[test])


class TestLearning:
    def test_balance_scale(self):
        learner = ODML(n_layers=1, gamma=1e-2, n_scans=20, random_state=0)
        learned = np.mean([error(clone(learner), seed) for seed in range(5)])
        assert learned < 0.08
        assert learned < np.mean([error(None, seed) for seed in range(5)]) - 0.02

    @pytest.mark.parametrize("engine", ENGINES)
    def test_the_stream_of_the_specification(self, engine):
        rows = [[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8], [0.96, 0.28], [0.28, 0.96]]
        learner = ODML(1, gamma=0.1, engine=engine).fit(rows, [0, 0, 1, 1, 0, 1])
        L = [[1.018005762419, -0.049692323014], [-0.051843152752, 1.065926619307]]
        assert np.allclose(learner.components_, L, rtol=0, atol=1e-12)
        assert learner.n_triplets_ == 3
        assert learner.n_updates_.tolist() == [3]
        assert learner.n_unstable_.tolist() == [0]
        assert learner.n_samples_seen_ == 6

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("layer", "L"),
        [
            ("opml", [[0.98998459168, 0.042372881356], [0.042372881356, 0.974576271186]]),
            ("moml", [[0.993733296745, 0.022229146179], [0.022229146179, 0.985649970862]]),
        ],
    )
    def test_the_triplet_of_the_specification(self, engine, layer, L):
        rows = [[0.8, -0.6], [0.6, 0.8], [1.0, 0.0]]
        learner = ODML(1, layer=layer, gamma=0.1, engine=engine).fit(rows, ["q", "x", "x"])
        assert np.allclose(learner.components_, L, rtol=0, atol=1e-12)
        M = np.array(L).T @ np.array(L)
        assert np.allclose(learner.get_mahalanobis_matrix(), M, rtol=0, atol=1e-11)

    def test_scans_repeat_the_pass(self):
        one, three = ODML(2).fit(X, Y), ODML(2, n_scans=3, shuffle=False).fit(X, Y)
        again = ODML(2).fit(np.tile(X, (1, 1)), Y)
        assert same(one, again)
        assert three.n_samples_seen_ == 3 * len(X)
        assert three.n_triplets_ == 3 * one.n_triplets_  # every scan begins without memory
        assert not same(one, three)
        shuffled = [ODML(2, n_scans=3, random_state=seed).fit(X, Y) for seed in (0, 0, 1)]
        assert same(shuffled[0], shuffled[1])
        assert not same(shuffled[0], shuffled[2])
        assert not same(shuffled[0], three)

    def test_a_scan_finds_the_classes_again(self):
        order = np.argsort(Y, kind="stable")
        learner = ODML(1, n_scans=2, random_state=0).fit(X[order], Y[order])
        # sorted by class, then shuffled
        sizes = np.bincount(Y)
        assert sizes[1] + sizes[2] - 2 < learner.n_triplets_ <= len(X) - 3 + sizes[1] + sizes[2] - 2
        assert learner.classes_.tolist() == [0, 1, 2]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_cold_start_learns_from_one_class(self, engine):
        rows, labels = X[:6], np.zeros(6, int)
        learner = ODML(1, cold_start=True, gamma_pairs=0.05, engine=engine)
        learner.partial_fit(rows, labels)
        L = np.eye(7)
        unit = unit_rows(rows)
        for a in np.diff(unit, axis=0):
            L = L @ np.linalg.inv(np.eye(7) + 0.05 * np.outer(a, a))
        assert np.allclose(learner.components_, L, rtol=0, atol=1e-13)
        assert learner.n_triplets_ == 0
        learner.partial_fit(X[6:8], np.array([1, 0]))
        assert learner.n_triplets_ == 1
        without = ODML(1, engine=engine).partial_fit(rows, labels)
        assert np.array_equal(without.components_, np.eye(7))

    @pytest.mark.parametrize("layer", LAYERS)
    @pytest.mark.parametrize("gamma", [0.25, 0.3])
    def test_one_feature_is_enough(self, layer, gamma):
        """A step of MOML or RDML then leaves M at zero, or below."""
        rows, labels = [[1.0], [-1.0], [-1.0], [1.0], [1.0], [-1.0]], [0, 0, 1, 1, 0, 1]
        one, other = (
            ODML(1, layer=layer, gamma=gamma, engine=e).fit(rows, labels) for e in ENGINES
        )
        assert 0 < one.components_[0, 0] < np.inf
        # rounding of a projected L, of which the floor is left, is as large as that floor
        assert np.allclose(one.components_, other.components_, rtol=1e-12, atol=1e-4)
        assert one.n_unstable_ == other.n_unstable_

    def test_a_layer_of_ones_own(self):
        class Doubling(OPML):
            """Takes twice the rate."""

            def update(self, x, p, q, options):
                return super().update(x, p, q, options._replace(gamma=2 * options.gamma))

        learner = ODML(2, layer=Doubling, gamma=0.01).fit(X, Y)
        assert same(learner, ODML(2, gamma=0.02, engine="numpy").fit(X, Y))
        with pytest.raises(InputError, match=r"layer=Doubling is a class of its own"):
            ODML(layer=Doubling, engine="numba").fit(X, Y)
        assert issubclass(Doubling, Layer)


class TestStreams:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("layer", LAYERS)
    def test_chunks_make_no_difference(self, engine, layer):
        for strategy in ("fp", "bp", "fbp"):
            options = {"layer": layer, "strategy": strategy, "engine": engine}
            whole = ODML(2, **options, negative="random", random_state=0).fit(X, Y)
            for size in (1, 7, 100):
                cut = ODML(2, **options, negative="random", random_state=0)
                assert same(in_chunks(cut, size), whole)
                assert (cut.transform(X) == whole.transform(X)).all()
                assert cut.n_updates_.tolist() == whole.n_updates_.tolist()
                assert cut.n_triplets_ == whole.n_triplets_

    @pytest.mark.parametrize("engine", ENGINES)
    def test_the_kind_of_array_makes_no_difference(self, engine):
        whole = ODML(2, engine=engine).fit(X, Y)
        frozen = X.copy()
        frozen.flags.writeable = False
        wide = np.zeros((len(X), 20))
        wide[:, ::3] = X
        for rows in (np.asfortranarray(X), frozen, wide[:, ::3], X.tolist()):
            assert same(ODML(2, engine=engine).fit(rows, Y), whole)
            learner = ODML(2, engine=engine).partial_fit(X[:50], Y[:50])
            assert same(learner.partial_fit(rows[50:], Y[50:]), whole)
        halves = ODML(2, engine=engine).fit(X.astype(np.float32), Y)
        assert halves.layers_[0].dtype == np.float64
        assert np.allclose(halves.layers_[0], whole.layers_[0], atol=1e-5)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_pickled_stream_goes_on(self, engine):
        for layer, strategy in product(("opml", "moml"), ("fp", "fbp")):
            options = {"layer": layer, "strategy": strategy, "engine": engine}
            whole = ODML(2, **options).fit(X, Y)
            half = pickle.loads(pickle.dumps(ODML(2, **options).partial_fit(X[:41], Y[:41])))
            assert same(half.partial_fit(X[41:], Y[41:]), whole)

    def test_memory_does_not_grow_with_the_stream(self):
        rng = np.random.default_rng(0)
        rows, labels = rng.normal(size=(20_000, 8)), rng.integers(3, size=20_000)
        learner = in_chunks(ODML(2), 500, rows[:2000], labels[:2000])
        size = len(pickle.dumps(learner))
        tracemalloc.start()
        in_chunks(learner, 500, rows[2000:], labels[2000:])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(pickle.dumps(learner)) == size
        assert peak < 500_000
        tracemalloc.start()
        learner.partial_fit(rows, labels)  # 1.3 MB of rows are not copied
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000

    def test_classes_come_at_any_time(self):
        learner = ODML(1).partial_fit(X[:2], ["b", "b"])
        assert learner.classes_.tolist() == ["b"]
        learner.partial_fit(X[2:4], ["a", "b"], classes=["z", "a"])
        assert learner.classes_.tolist() == ["a", "b", "z"]
        names = np.array(["c", "a", "b"])[Y]
        assert same(in_chunks(ODML(2), 7, labels=names), ODML(2).fit(X, Y))

    def test_rates_may_change_on_the_way(self):
        learner = ODML(1).partial_fit(X[:60], Y[:60])
        other = ODML(1).partial_fit(X[:60], Y[:60])
        learner.set_params(gamma=1e-4).partial_fit(X[60:], Y[60:])
        other.partial_fit(X[60:], Y[60:])
        assert not same(learner, other)

    def test_what_a_stream_keeps_must_stay(self):
        learner = ODML(1).partial_fit(X, Y).set_params(layer="moml")
        with pytest.raises(InputError, match=r"layer must stay 'opml' .* got 'moml'; call fit"):
            learner.partial_fit(X, Y)
        assert learner.fit(X, Y).n_updates_[0] > 0

    def test_reading_does_not_change_the_stream(self):
        learner, other = ODML(2), ODML(2)
        for start in range(0, len(X), 10):
            part = slice(start, start + 10)
            learner.partial_fit(X[part], Y[part])
            other.partial_fit(X[part], Y[part]).transform(X)
            other.layers_[0][:] = 0  # a copy
        assert same(learner, other)


class TestAnswers:
    def test_pairs_and_matrices_of_one_layer(self):
        learner = ODML(1).fit(X, Y)
        L = learner.components_
        assert np.array_equal(learner.layers_[0], L)
        assert np.allclose(learner.transform(X), unit_rows(X) @ L.T)
        assert np.allclose(learner.get_mahalanobis_matrix(), L.T @ L)
        pairs = X[:10].reshape(5, 2, 7)
        distance = learner.pair_distance(pairs)
        gap = np.diff(learner.transform(X[:10]).reshape(5, 2, 7), axis=1)[:, 0]
        assert np.allclose(distance, np.linalg.norm(gap, axis=1))
        assert (learner.pair_score(pairs) == -distance).all()
        assert learner.get_metric()(X[0], X[1]) == pytest.approx(distance[0])

    def test_a_deep_stack_has_distances_but_no_matrix(self):
        learner = ODML(3).fit(X, Y)
        pairs = X[:10].reshape(5, 2, 7)
        gap = np.diff(learner.transform(X[:10]).reshape(5, 2, 7), axis=1)[:, 0]
        assert np.allclose(learner.pair_distance(pairs), np.linalg.norm(gap, axis=1))
        with pytest.raises(InputError, match=r"3 layers with relu between them has no matrix"):
            learner.get_mahalanobis_matrix()
        assert not hasattr(learner, "components_")
        flat = ODML(3, activation="identity").fit(X, Y)
        whole = flat.layers_[2] @ flat.layers_[1] @ flat.layers_[0]
        assert np.allclose(flat.components_, whole)
        assert np.allclose(flat.transform(X), unit_rows(X) @ whole.T)

    def test_layers_one_by_one(self):
        learner = ODML(3).fit(X, Y)
        one, two, three = learner.layers_
        first = unit_rows(X) @ one.T
        second = np.maximum(first, 0) @ two.T
        assert np.allclose(learner.transform_layer(X, 1), first)
        assert np.allclose(learner.transform_layer(X, 2), second)
        assert np.allclose(learner.transform(X), np.maximum(second, 0) @ three.T)
        assert (learner.transform_layer(X, 3) == learner.transform(X)).all()
        for depth in (0, 4):
            with pytest.raises(InputError, match=r"depth must be a whole number >= 1 and <= 3"):
                learner.transform_layer(X, depth)

    def test_an_unlearned_stack_is_relu(self):
        learner = ODML(2, normalize=None).partial_fit(X[:1], Y[:1])
        assert (learner.transform(X) == np.maximum(X, 0)).all()

    @pytest.mark.parametrize("frames", [pandas.DataFrame, polars.DataFrame])
    def test_frames_in_and_names_out(self, frames):
        names = [f"wave{i}" for i in range(7)]
        table = frames({name: X[:, i] for i, name in enumerate(names)})
        learner = ODML(2).fit(table, Y)
        assert learner.feature_names_in_.tolist() == names
        assert same(learner, ODML(2).fit(X, Y))
        assert learner.get_feature_names_out().tolist() == [f"odml{i}" for i in range(7)]
        kind = "pandas" if frames is pandas.DataFrame else "polars"
        out = learner.set_output(transform=kind).transform(table)
        assert isinstance(out, frames)
        assert list(out.columns) == [f"odml{i}" for i in range(7)]
        assert same(in_chunks(ODML(2), 30, rows=table), learner)
        renamed = frames({f"x{i}": X[:, i] for i in range(7)})
        with pytest.raises(ValueError, match="feature names should match"):
            learner.partial_fit(renamed, Y)

    def test_in_a_pipeline_and_a_search(self):
        model = make_pipeline(ODML(random_state=0), KNeighborsClassifier())
        search = GridSearchCV(model, {"odml__gamma": [1e-3, 1e-2], "odml__n_layers": [1, 2]}, cv=3)
        assert search.fit(X, Y).best_score_ > 0.6
        assert search.score(X, Y) > 0.6


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 0}, r"gamma must be a number > 0, got 0"),
            ({"gamma": -1.0}, r"gamma must be a number > 0, got -1.0"),
            ({"gamma": "big"}, r"gamma must be a number > 0, got 'big'"),
            ({"margin": 0.0}, r"margin must be a number > 0, got 0.0"),
            ({"n_layers": 0}, r"n_layers must be a whole number >= 1, got 0"),
            ({"n_layers": 2.5}, r"n_layers must be a whole number >= 1, got 2.5"),
            ({"n_scans": 0}, r"n_scans must be a whole number >= 1, got 0"),
            ({"layer": "opmml"}, r"layer must be .*, got 'opmml'; did you mean 'opml'"),
            ({"activation": "elu"}, r"activation must be .*, got 'elu'; did you mean 'relu'"),
            ({"strategy": "pf"}, r"strategy must be 'fp', 'bp' or 'fbp', got 'pf'"),
            ({"normalize": "l1"}, r"normalize must be 'l2' or None, got 'l1'"),
            ({"negative": "hard"}, r"negative must be 'author', 'latest' or 'random', got 'hard'"),
            ({"on_unstable": "warn"}, r"on_unstable must be 'shrink' or 'raise', got 'warn'"),
            ({"step": "full"}, r"step must be 'paper' or 'pa', got 'full'"),
            ({"engine": "jax"}, r"engine must be 'auto', 'numba' or 'numpy', got 'jax'"),
            ({"gamma_pairs": 0}, r"gamma_pairs must be a number > 0, got 0"),
            ({"eta": 0}, r"eta must be a number > 0, got 0"),
            ({"local_weight": -1}, r"local_weight must be a number >= 0, got -1"),
            ({"weight_decay": -1}, r"weight_decay must be a number >= 0, got -1"),
            ({"targets": 3}, r"targets must be two squared distances, .* got 3"),
            ({"targets": (1.0, 0.5)}, r"targets\[1\] must be a number > 1, got 0.5"),
        ],
    )
    def test_options_out_of_range(self, options, message):
        for call in ("fit", "partial_fit"):
            with pytest.raises(InputError, match=message):
                getattr(ODML(**options), call)(X, Y)

    @pytest.mark.parametrize("call", ["fit", "partial_fit"])
    @pytest.mark.parametrize(
        ("rows", "labels", "message"),
        [
            (X, None, "requires y to be passed"),
            (X, Y + 0.5, "Unknown label type: continuous"),
            (np.where(X > 2, np.nan, X), Y, "Input X contains NaN"),
            (np.where(X > 2, np.inf, X), Y, "Input X contains infinity"),
            (sparse.csr_matrix(X), Y, "Sparse data was passed"),
            (X, Y[:-1], "inconsistent numbers of samples"),
        ],
    )
    def test_rows_that_cannot_be_learned_from(self, call, rows, labels, message):
        for learner in (ODML(), ODML().partial_fit(X, Y)):
            with pytest.raises((ValueError, TypeError), match=message):
                getattr(learner, call)(rows, labels)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_rows_of_zeros_have_no_direction(self, engine):
        rows = X.copy()
        rows[[17, 30]] = 0.0
        message = r"normalize='l2' needs rows that are not all zeros, row 17 is"
        before = ODML(engine=engine).partial_fit(X, Y)
        for call in (ODML(engine=engine).fit, before.partial_fit):
            with pytest.raises(InputError, match=message):
                call(rows, Y)
        with pytest.raises(InputError, match=message):
            before.transform(rows)
        assert same(before, ODML(engine=engine).fit(X, Y))  # what is refused leaves no trace
        assert np.isfinite(ODML(normalize=None, engine=engine).fit(rows, Y).transform(rows)).all()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_later_rows_are_looked_at(self, engine):
        learner = ODML(1, engine=engine).partial_fit(X, Y)
        bad = X[:1].copy()
        bad[0, 3] = np.nan
        with pytest.raises(ValueError, match="Input X contains NaN"):
            learner.partial_fit(bad, Y[:1])
        with pytest.raises(ValueError, match="X has 5 features, but ODML is expecting 7"):
            learner.partial_fit(X[:, :5], Y)
        with pytest.raises(InputError, match="labels of one kind"):
            learner.partial_fit(X, Y.astype(str))
        with pytest.raises(InputError, match="labels of one kind"):
            learner.partial_fit(X, Y, classes=["a"])
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            learner.partial_fit(X, Y + 0.5)
        assert same(learner, ODML(1, engine=engine).fit(X, Y))

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_row_of_nan_is_not_called_one_of_zeros(self, engine):
        learner = ODML(1, engine=engine).partial_fit(X, Y)
        bad = X.copy()
        bad[3, 0], bad[5] = np.nan, 0.0
        with pytest.raises(ValueError, match="Input X contains NaN"):
            learner.partial_fit(bad, Y)
        # which of the two is told first is the engine's affair
        with pytest.raises(ValueError, match=r"Input X contains NaN|not all zeros, row 114 is"):
            learner.partial_fit(bad[::-1], Y)

    def test_labels_that_cannot_be_ordered(self):
        learner = ODML(1)
        for odd in (None, 3):
            labels = np.array(["a", odd, "b", "a"], dtype=object)
            for call in (learner.fit, learner.partial_fit):
                with pytest.raises(InputError, match=f"labels of one kind, got {odd} beside texts"):
                    call(X[:4], labels)
        assert not hasattr(learner, "classes_")

    def test_classes_of_another_kind_leave_no_trace(self):
        learner = ODML(1)
        with pytest.raises(InputError, match="labels of one kind, got <U1 beside int64"):
            learner.partial_fit(X, Y, classes=["a"])
        assert not hasattr(learner, "classes_")
        assert learner.partial_fit(X, Y, classes=[5]).classes_.tolist() == [0, 1, 2, 5]

    def test_scans_need_all_rows(self):
        with pytest.raises(InputError, match=r"n_scans=20 needs all rows at once: call fit"):
            ODML(n_scans=20).partial_fit(X, Y)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_what_diverges_is_told(self, engine):
        with pytest.raises(FloatingPointError, match=r"L became .* at triplet 1 with gamma=0.01"):
            ODML(normalize=None, engine=engine).fit(X * 1e160, Y)
        with pytest.raises(InputError, match=r"gamma=5 is too large for this stream"):
            ODML(gamma=5.0, on_unstable="raise", engine=engine).fit(X, Y)
        learner = ODML(1, gamma=5.0, engine=engine).fit(X, Y)
        assert learner.n_unstable_[0] > 0

    @pytest.mark.parametrize(
        "labels", [[0, 0, 0], [0, 1, 2], [0], [1, 0]], ids=["one", "all new", "row", "two rows"]
    )
    @pytest.mark.parametrize("engine", ENGINES)
    def test_nothing_to_learn_from_is_no_harm(self, labels, engine):
        rows = X[: len(labels)]
        for layer in LAYERS:
            learner = ODML(2, layer=layer, engine=engine)
            with pytest.warns(UserWarning, match="no triplet could be formed") as caught:
                learner.fit(rows, labels)
            assert len(caught) == 1
            assert all(np.array_equal(L, np.eye(7)) for L in learner.layers_)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                ODML(2, layer=layer, engine=engine).partial_fit(rows, labels)

    def test_a_cold_start_is_not_said_to_learn_nothing(self):
        with pytest.warns(UserWarning, match=r"^no triplet could be formed: it takes two classes"):
            learner = ODML(1, cold_start=True).fit(X[:5], [0] * 5)
        assert learner.n_updates_.tolist() == [4]

    def test_nothing_learned_yet(self):
        with pytest.raises(NotFittedError):
            ODML().transform(X)
        for name in ("layers_", "components_", "classes_", "n_triplets_", "n_updates_"):
            assert not hasattr(ODML(), name)


def test_options_are_named_as_their_record():
    """Positions of `Options` follow its fields."""
    learner = ODML(
        gamma=0.2, gamma_pairs=0.3, margin=0.4, on_unstable="raise", exact_prox=True, step="pa",
        targets=(0.5, 0.6), eta=0.7, local_weight=0.8, weight_decay=0.9,
    )  # fmt: skip
    assert learner._options() == Options(
        gamma=0.2, gamma_pairs=0.3, margin=0.4, shrink=False, exact=True, passive_aggressive=True,
        near=0.5, far=0.6, eta=0.7, local_weight=0.8, weight_decay=0.9,
    )  # fmt: skip
    assert ODML(n_layers=4)._options().local_weight == 0.25


def test_numba_is_loaded_late_and_can_be_missing(monkeypatch):
    code = (
        "import sys, numpy as np\nfrom tupelo.tabular import ODML\n"
        "assert not {'torch', 'highspy', 'bokeh', 'numba'} & set(sys.modules), 'import'\n"
        "ODML(engine='numpy').fit(np.eye(4), [0, 1, 0, 1])\n"
        "assert 'numba' not in sys.modules, 'fit'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    compiled = ODML(2).fit(X, Y)
    monkeypatch.setattr(stream, "find_spec", lambda name: None)
    assert isinstance(ODML(2).fit(X, Y)._stream.learner, Stack)
    assert np.allclose(ODML(2).fit(X, Y).transform(X), compiled.transform(X), rtol=0, atol=1e-12)
