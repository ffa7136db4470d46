"""`MIOMetric`: scikit-learn's contract, what it says about itself, and every refusal."""

import logging
import pickle
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from tupelo.errors import InputError, MissingExtra
from tupelo.tabular import MIOMetric, rings
from tupelo.tabular.optimal import learning, solvers
from tupelo.tabular.optimal.model import evaluate

ATOMS = ["diag", "dd", "rank1", "psd", "l1", "l1+l2", "l2+l4"]
QUADRATIC = ["diag", "dd", "rank1", "psd"]


def drawn(seed=0, n=24, d=3, classes=2):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, d)) * [1.0, 10.0, 0.1, *np.ones(d - 3)][:d]
    X[:, 0] += 2.0 * y
    return X, y


@parametrize_with_checks([MIOMetric(max_rounds=1)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        MIOMetric(objective="count", solver="scipy"),
        *(MIOMetric(atoms=name) for name in ("l1", "psd", "dd", "rank1")),
    ]
)
def test_scikit_learn_checks_of_others(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("atoms", "standardize"), [*((name, True) for name in ATOMS), ("dd", False), ("l1+l2", False)]
)
def test_all_forms_of_the_distance_agree(atoms, standardize):
    X, y = drawn()
    metric = MIOMetric(atoms=atoms, standardize=standardize, max_rounds=1, random_state=0).fit(X, y)
    pairs = np.stack([X[:10], X[10:20]], axis=1)
    expected = metric.pair_distance(pairs)
    Z = (X - metric.mean_) / metric.scale_
    by_atoms = metric.atoms_.of(Z[:10] - Z[10:20]) @ metric.weights_
    np.testing.assert_allclose(expected**2, by_atoms, atol=1e-10)
    np.testing.assert_allclose(np.diag(metric.distances(X[:10], X[10:20])), expected, atol=1e-6)
    call = metric.get_metric()
    assert call(X[0], X[10]) == pytest.approx(expected[0])
    assert call(X[0], X[10], squared=True) == pytest.approx(expected[0] ** 2)
    if atoms in QUADRATIC:
        delta = Z[:10] - Z[10:20]
        M = metric.get_mahalanobis_matrix()
        np.testing.assert_allclose(np.einsum("nd,de,ne->n", delta, M, delta), expected**2)
        assert np.linalg.eigvalsh(M).min() > -1e-9
        gap = metric.transform(X[:10]) - metric.transform(X[10:20])
        np.testing.assert_allclose(np.sqrt((gap**2).sum(1)), expected)
        assert metric.components_.shape[1] == 3
        assert len(metric.get_feature_names_out()) == metric.transform(X).shape[1]
    elif atoms == "l1":
        gap = metric.transform(X[:10]) - metric.transform(X[10:20])
        np.testing.assert_allclose(np.abs(gap).sum(1), expected**2)


@pytest.mark.parametrize("atoms", ["l1+l2", "l2+l4"])
def test_other_powers_have_no_embedding(atoms):
    X, y = drawn()
    metric = MIOMetric(atoms=atoms).fit(X, y)
    with pytest.raises(InputError, match="use pair_distance, distances or get_metric"):
        metric.transform(X)
    with pytest.raises(InputError, match="are not quadratic, so there is no matrix M"):
        metric.get_mahalanobis_matrix()
    with pytest.raises(InputError, match="no space in which the learned distance is Euclidean"):
        metric.get_feature_names_out()
    assert not hasattr(metric, "components_")


def test_l1_has_an_embedding_and_no_matrix():
    X, y = drawn()
    with pytest.raises(InputError, match="atoms 'l1' are not quadratic"):
        MIOMetric(atoms="l1").fit(X, y).get_mahalanobis_matrix()


@pytest.mark.parametrize("atoms", ATOMS)
def test_the_classifier_votes_by_the_learned_distance(atoms):
    X, y = drawn(n=44)
    metric = MIOMetric(atoms=atoms, max_rounds=1, random_state=0).fit(X[:24], y[:24])
    votes = metric.classifier(3)
    nearest = np.argsort(metric.distances(X[24:]), axis=1)[:, :3]
    expected = (y[:24][nearest].sum(1) >= 2).astype(int)
    assert (votes.predict(X[24:]) == expected).all()
    before = votes.predict(X)
    metric.fit(X[:24, ::-1], y[:24][::-1])
    assert (votes.predict(X) == before).all()


@pytest.mark.parametrize("objective", ["hinge", "count", "ramp", "majority"])
def test_the_ring_toy_ends_without_errors(objective):
    X, y = rings(60, np.random.default_rng(1))
    k = 3 if objective == "majority" else 1
    metric = MIOMetric(objective=objective, n_neighbors=k, time_limit=10).fit(X, y)
    report = metric.report()
    assert report.errors_euclid > 0
    assert report.errors <= (0 if objective in ("count", "majority") else 2)
    if objective == "hinge":  # the others keep as near to Euclid as no error allows
        assert metric.weights_[2:].max() < 0.03
    assert report.objective < report.objective_euclid


def test_the_report_of_a_count_is_that_of_theorem_1():
    X, y = rings(40, np.random.default_rng(2))
    metric = MIOMetric(objective="count", kappa=None, distortion=0.0).fit(X, y)
    report = metric.report()
    assert report.status == "optimal"
    assert report.certificate == np.inf
    assert report.gap == pytest.approx(0, abs=1e-4)
    Z = (X - metric.mean_) / metric.scale_
    again = evaluate(metric.atoms_, metric.weights_, Z, y)
    assert report.errors == again.errors.sum() == metric.errors_.sum()
    assert report.objective == pytest.approx(again.objective)
    assert (metric.neighbors_ == again.neighbors).all()
    assert "No metric of the family 'diag' is better" in report.proven
    assert "on these 40 training points" in report.proven
    assert "proven" in str(report)


def test_a_certificate_names_its_region():
    X, y = drawn()
    report = MIOMetric(objective="count", max_rounds=20).fit(X, y).report()
    assert report.certificate == 1.5
    assert "with every weight within a factor 1.5 of this one" in report.proven


def test_the_report_of_a_hinge_claims_no_more_than_it_knows():
    X, y = drawn()
    report = MIOMetric(max_rounds=50).fit(X, y).report()
    assert report.status == "converged"
    assert report.certificate is None
    assert report.bound is None
    assert "for the neighbours that are nearest under this one" in report.proven
    short = MIOMetric(max_rounds=1).fit(X, y).report()
    assert short.proven == "Nothing is proven: the fit ended by rounds."
    assert short.history[0] == report.history[0] == report.objective_euclid
    assert all(a > b for a, b in zip(report.history, report.history[1:], strict=False))
    assert report.objective == report.history[-1]


def test_a_certificate_of_a_full_matrix_names_the_directions_that_were_searched():
    X, y = rings(20, np.random.default_rng(0))
    options = {"objective": "count", "kappa": None, "distortion": 0.0}
    report = MIOMetric(atoms="psd", **options).fit(X, y).report()
    assert report.certificate == np.inf
    assert "family 'psd'" not in report.proven
    assert "of the features and of the eigenvectors of the hinge's matrix" in report.proven


def test_a_gap_of_rounding_is_not_told():
    X, y = drawn()
    report = MIOMetric(objective="count", max_rounds=20).fit(X, y).report()
    assert "by more than" not in replace(report, gap=1e-14).proven
    assert "is better by more than 1 % on" in replace(report, gap=0.01).proven


@pytest.mark.parametrize("objective", ["count", "ramp", "majority"])
def test_full_matrices_go_on_as_directions(objective):
    X, y = drawn()
    metric = MIOMetric(atoms="psd", objective=objective, n_neighbors=1, time_limit=1).fit(X, y)
    assert np.linalg.eigvalsh(metric.get_mahalanobis_matrix()).min() > -1e-9
    assert metric.report().objective <= metric.report().objective_euclid


def test_structure_of_the_training_rows():
    X, y = drawn()
    metric = MIOMetric(n_neighbors=2).fit(X, y)
    distance = metric.distances(X)
    np.fill_diagonal(distance, np.inf)
    same = y[:, None] == y
    own = np.sort(np.where(same, distance, np.inf), axis=1)
    gap = np.where(same, np.inf, distance).min(1)
    np.testing.assert_allclose(np.sqrt(metric.radii_), own[:, 1], atol=1e-6)
    outliers = np.flatnonzero(own[:, 1] >= gap)
    assert metric.outliers_.tolist() == outliers.tolist()
    assert metric.neighbors_.shape == (24, 2)
    assert len(set(y[metric.local_clusters_ == 0])) == 1
    for i, j in metric.boundary_pairs_:
        assert y[i] != y[j]
        assert distance[i, j] == pytest.approx(gap[i]) == pytest.approx(gap[j])


def test_margins_are_negative_for_outliers_only():
    X, y = drawn()
    y[0] = 2
    metric = MIOMetric(small_classes="ignore").fit(X, y)
    assert np.flatnonzero(~(metric.margins_ > 0)).tolist() == metric.outliers_.tolist()
    gap = np.where(y[:, None] == y, np.inf, metric.distances(X) ** 2).min(1)
    np.testing.assert_allclose(metric.margins_[1:], (gap - metric.radii_)[1:], atol=1e-9)
    assert metric.margins_[0] == -np.inf


def test_much_distortion_is_the_euclidean_metric_of_standardised_rows():
    X, y = drawn()
    metric = MIOMetric(distortion=1e4).fit(X, y)
    Z = (X - X.mean(0)) / X.std(0)
    ratio = metric.distances(X[:5], X[5:10]) / np.linalg.norm(Z[:5, None] - Z[5:10], axis=2)
    np.testing.assert_allclose(ratio, ratio[0, 0])


def test_scales_of_features_do_not_matter():
    X, y = drawn()
    one, other = (MIOMetric().fit(X * factor, y) for factor in (1.0, [1e-6, 3.0, 1e6]))
    np.testing.assert_allclose(one.weights_, other.weights_, atol=1e-6)


def test_a_duplicated_feature_changes_no_distance_of_the_euclidean_metric():
    X, y = drawn()
    twice = np.hstack([X, X])
    one, other = MIOMetric(distortion=1e4).fit(X, y), MIOMetric(distortion=1e4).fit(twice, y)
    np.testing.assert_allclose(one.distances(X), other.distances(twice), atol=1e-6)


def test_classes_may_be_weighed():
    X, _ = drawn(n=20)
    y = (np.arange(20) < 4).astype(int)
    plain = MIOMetric(max_rounds=1).fit(X, y)
    balanced = MIOMetric(max_rounds=1, class_weight="balanced").fit(X, y)
    named = MIOMetric(max_rounds=1, class_weight={0: 20 / 32, 1: 20 / 8}).fit(X, y)
    np.testing.assert_allclose(balanced.weights_, named.weights_, atol=1e-9)
    assert balanced.report().objective != plain.report().objective
    for kind in ("balance", 1.0):
        with pytest.raises(InputError, match="class_weight must be 'balanced', weights by class"):
            MIOMetric(class_weight=kind).fit(X, y)
    with pytest.raises(InputError, match="class_weight must be > 0 for every class"):
        MIOMetric(class_weight={0: 0.0, 1: 1.0}).fit(X, y)


def test_warm_starts_begin_where_the_last_fit_ended():
    X, y = drawn(n=30, d=5)
    metric = MIOMetric(warm_start=True, max_rounds=20).fit(X, y)
    first = metric.report()
    again = metric.fit(X, y).report()
    assert again.rounds == 0
    assert again.objective == pytest.approx(first.objective)
    metric.fit(X[:, :4], y)  # other atoms: from the beginning
    assert len(metric.weights_) == 4


def test_weights_of_another_family_begin_as_a_matrix_that_is_semidefinite():
    X, y = drawn(n=30)
    metric = MIOMetric(atoms="psd", warm_start=True, max_rounds=1, time_limit=1e-9).fit(X, y)
    # as many weights as those of three axes and three eigenvectors
    metric.weights_ = np.array([0.8, 0.1, 0.1, 0.0, 0.0, 0.0])
    M = metric.fit(X, y).atoms_.normalised(metric.weights_)
    assert np.linalg.eigvalsh(M).min() > -1e-12
    assert np.trace(M) == pytest.approx(1)


def test_agglomeration_makes_clusters_larger():
    rng = np.random.default_rng(0)
    centres = np.repeat([0.0, 4.0, 8.0, 12.0], 8)
    X = np.stack([centres + rng.normal(scale=0.5, size=32), rng.normal(scale=2, size=32)], axis=1)
    y = (centres > 6).astype(int)
    once = MIOMetric(n_neighbors=1).fit(X, y)
    thrice = MIOMetric(n_neighbors=1, agglomerations=3).fit(X, y)
    assert thrice.local_clusters_.max() <= once.local_clusters_.max()
    assert thrice.n_iter_ >= once.n_iter_


def test_what_stops_a_fit_stops_its_agglomerations(monkeypatch):
    X, y = drawn(n=40)
    seen = []

    def stop(self, state):
        seen.append(state)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("tupelo.tabular.optimal.estimator._Line.__call__", stop)
    metric = MIOMetric(n_neighbors=1, agglomerations=4, verbose=True).fit(X, y)
    assert metric.report().status == "interrupted"
    assert len(seen) == 3


def test_the_time_limit_is_of_all_agglomerations(monkeypatch):
    limits, real = [], learning.alternate

    def alternate(*args, **options):
        limits.append(options["time_limit"])
        return real(*args, **options)

    monkeypatch.setattr(learning, "alternate", alternate)
    MIOMetric(n_neighbors=1, agglomerations=3, time_limit=50).fit(*drawn(n=40))
    assert 50 == limits[0] > limits[1] > limits[2] > 0


def test_frames_pipelines_and_grids():
    data = load_iris(as_frame=True)
    metric = MIOMetric().fit(data.data, data.target)
    assert list(metric.feature_names_in_) == list(data.data.columns)
    names = metric.get_feature_names_out()
    assert names[0] == "miometric0"
    out = metric.set_output(transform="pandas").transform(data.data)
    assert list(out.columns) == list(names)
    frame = pl.DataFrame({name: data.data[name].to_numpy() for name in data.data})
    found = MIOMetric().fit(frame, data.target.to_numpy())
    np.testing.assert_allclose(found.weights_, metric.weights_)
    assert isinstance(found.set_output(transform="polars").transform(frame), pl.DataFrame)
    pipeline = make_pipeline(MIOMetric(max_rounds=1), KNeighborsClassifier(3))
    grid = GridSearchCV(pipeline, {"miometric__distortion": [0.01, 1.0]}, cv=2)
    assert grid.fit(data.data, data.target).best_score_ > 0.9


@pytest.mark.parametrize("atoms", ["diag", "l1", "l1+l2"])
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_classifiers_of_frames_do_not_warn_of_names(atoms, output):
    X, y = drawn()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    metric = MIOMetric(atoms=atoms, max_rounds=1).fit(frame, y).set_output(transform=output)
    plain = MIOMetric(atoms=atoms, max_rounds=1).fit(X, y)
    assert (metric.classifier(3).predict(frame) == plain.classifier(3).predict(X)).all()
    if output == "pandas" and atoms != "l1+l2":  # what was asked of the metric still holds
        assert isinstance(metric.transform(frame), pd.DataFrame)


def test_pickles_and_labels_of_any_kind():
    X, y = drawn(n=30, classes=3)
    labels = np.array(["oak", "elm", "ash"])[y]
    metric = MIOMetric().fit(X, labels)
    again = pickle.loads(pickle.dumps(metric))
    assert (again.distances(X) == metric.distances(X)).all()
    assert metric.classes_.tolist() == ["ash", "elm", "oak"]
    assert set(metric.classifier(1).predict(X)) == {"ash", "elm", "oak"}


def test_regions_and_recommendations():
    X, y = load_wine(return_X_y=True)
    metric = MIOMetric(n_neighbors=1).fit(X[::4], y[::4])
    pool = np.delete(X, np.s_[::4], axis=0)
    found = metric.recommend(pool, n=12)
    assert len({one.row for one in found}) == 12
    assert all((pool[one.row] == one.x).all() for one in found)
    assert all(one.region is None or one.region.contains(one.x[None])[0] for one in found)
    doubt = metric.uncertainty(pool)
    assert all(one.uncertainty == pytest.approx(doubt[one.row]) for one in found)
    anywhere = metric.recommend(n=3)
    assert [one.row for one in anywhere] == [None] * 3
    assert len(metric.regions()) >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atoms": "full"}, "atoms must be 'diag', 'dd', .* or 'psd', got 'full'"),
        ({"objective": "counts"}, "objective must be .*did you mean 'count'"),
        ({"solver": "glpk"}, "solver must be one of highs, scipy, scip; got 'glpk'"),
        ({"small_classes": "drop"}, "small_classes must be 'error' or 'ignore', got 'drop'"),
        ({"margin": 0}, "margin must be a number > 0, got 0"),
        ({"distortion": -0.1}, "distortion must be a number >= 0, got -0.1"),
        ({"rho": -1}, "rho must be a number >= 0, got -1"),
        ({"epsilon": 0}, "epsilon must be a number > 0, got 0"),
        ({"radius_weight": -1}, "radius_weight must be a number >= 0, got -1"),
        ({"ramp_cost": 0}, "ramp_cost must be a number > 0, got 0"),
        ({"kappa": 1.0}, "kappa must be a number > 1, got 1.0"),
        ({"time_limit": 0}, "time_limit must be a number > 0, got 0"),
        ({"mip_gap": -1}, "mip_gap must be a number >= 0, got -1"),
        ({"n_neighbors": 0}, "n_neighbors must be a whole number >= 1, got 0"),
        ({"n_neighbors": 1.5}, "n_neighbors must be a whole number >= 1, got 1.5"),
        ({"max_rounds": 0}, "max_rounds must be a whole number >= 1, got 0"),
        ({"agglomerations": 0}, "agglomerations must be a whole number >= 1, got 0"),
        ({"objective": "majority", "n_neighbors": 2}, "n_neighbors must be odd for objective"),
        ({"objective": "count", "agglomerations": 2}, "agglomerations > 1 needs objective 'hinge'"),
    ],
)
def test_parameters_outside_their_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MIOMetric(**options).fit(*drawn())


def test_tables_that_cannot_be_learned_from_are_refused():
    X, y = drawn()
    with pytest.raises(ValueError, match="NaN"):
        MIOMetric().fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="infinity"):
        MIOMetric().fit(np.where(X > 1, np.inf, X), y)
    with pytest.raises(InputError, match="y must hold at least 2 classes, got 1 class"):
        MIOMetric().fit(X, np.zeros(24))
    with pytest.raises(InputError, match="feature that is not constant, all 3 are"):
        MIOMetric().fit(np.ones((24, 3)), y)
    wide = np.random.default_rng(0).normal(size=(24, 45))
    with pytest.raises(InputError, match=r'"dd" of 45 features are 2025.*use "diag" or "rank1"'):
        MIOMetric(atoms="dd").fit(wide, y)
    with pytest.raises(InputError, match='"psd" take up to 40 features, got 45'):
        MIOMetric(atoms="psd").fit(wide, y)


def test_small_classes_are_named():
    X, y = drawn(n=20)
    labels = np.array(["a", "b"], dtype=object)[y]
    labels[0] = "rare"
    with pytest.raises(InputError, match=r"class rare has 1 row; with n_neighbors=3 .* needs 4"):
        MIOMetric(n_neighbors=3).fit(X, labels)
    with pytest.raises(InputError, match=r"class rare has 1 row.*small_classes='ignore'"):
        MIOMetric().fit(X, labels)
    kept = MIOMetric(small_classes="ignore").fit(X, labels)
    assert 0 in kept.outliers_
    assert kept.neighbors_[0].tolist() == [-1] * 3
    labels[2] = "rare"
    assert MIOMetric().fit(X, labels).neighbors_.shape == (20, 1)  # k where none is asked for


@pytest.mark.parametrize("objective", ["count", "ramp", "majority"])
def test_rows_of_small_classes_are_errors_with_a_warning(objective):
    X, y = drawn(n=20)
    y[0] = 7
    metric = MIOMetric(objective=objective, time_limit=5)
    with pytest.warns(UserWarning, match="class 7 has 1 row.*count as errors"):
        metric.fit(X, y)
    assert metric.errors_[0]


def test_every_class_may_be_ignored():
    X, _ = drawn(n=5)
    metric = MIOMetric(small_classes="ignore").fit(X, np.arange(5))
    np.testing.assert_allclose(metric.weights_, metric.atoms_.start)
    assert metric.outliers_.tolist() == [0, 1, 2, 3, 4]


def test_a_collapsed_metric_is_told():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    X[:, 2] = np.arange(200) < 2  # a rare value: hardly any two rows differ in it
    said = r"collapsed: \d+% of the rows.*raise distortion \(now 0.01"
    with pytest.warns(UserWarning, match=said):
        told = MIOMetric().fit(X, rng.integers(3, size=200)).report()  # nothing tells these apart
    assert told.errors > told.errors_euclid
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MIOMetric().fit(X, X[:, 0] > 0)


def test_constant_features_are_left_out_with_a_warning():
    X, y = drawn()
    wide = pd.DataFrame(np.insert(X, 1, 5.0, axis=1), columns=["a", "b", "c", "d"])
    for atoms in ("diag", "rank1", "psd", "l1"):
        metric = MIOMetric(atoms=atoms, max_rounds=1, random_state=0)
        with pytest.warns(UserWarning, match="constant features are left out: b"):
            metric.fit(wide, y)
        plain = MIOMetric(atoms=atoms, max_rounds=1, random_state=0).fit(X, y)
        np.testing.assert_allclose(metric.distances(wide), plain.distances(X), atol=1e-7)
        assert metric.constant_.tolist() == [False, True, False, False]
        assert metric.transform(wide).shape[0] == 24


def test_before_fit_nothing_is_known():
    X, _ = drawn()
    metric = MIOMetric()
    for ask in (
        lambda: metric.transform(X),
        lambda: metric.recommend(X),
        metric.regions,
        metric.report,
        metric.classifier,
        metric.get_metric,
        lambda: metric.uncertainty(X),
    ):
        with pytest.raises(NotFittedError):
            ask()


def test_pools_and_numbers_are_checked():
    X, y = drawn()
    metric = MIOMetric().fit(X, y)
    with pytest.raises(InputError, match=r"pool must be rows like those that were fitted.*2 feat"):
        metric.recommend(X[:, :2])
    with pytest.raises(InputError, match="n must be a whole number >= 1, got 0"):
        metric.recommend(X, n=0)
    with pytest.raises(InputError, match="k must be a whole number >= 1 and <= 24, got 41"):
        metric.classifier(41)
    with pytest.raises(InputError, match=r"pairs must be of shape \(n, 2, 3\)"):
        metric.pair_distance(X)


def test_a_missing_solver_names_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[tabular\]'"):
        MIOMetric().fit(*drawn())


def test_a_solver_that_fails_leaves_the_start(monkeypatch):
    def fails(self, progress=None):
        return solvers.Solution(None, np.inf, -np.inf, np.inf, "time_limit", 0.0)

    monkeypatch.setattr("tupelo.tabular.optimal.soft.Incremental.solve", fails)
    metric = MIOMetric().fit(*drawn())
    assert metric.report().status == "time_limit"
    np.testing.assert_allclose(metric.weights_, metric.atoms_.start)


@pytest.mark.parametrize("objective", ["hinge", "count", "ramp"])
def test_an_interrupt_keeps_the_best(objective, monkeypatch):
    X, y = drawn(n=60, d=4)

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    if objective == "hinge":
        seen = []

        def stop(self, state):
            seen.append(state)
            if len(seen) > 12:
                raise KeyboardInterrupt

        monkeypatch.setattr("tupelo.tabular.optimal.estimator._Line.__call__", stop)
    elif objective == "count":
        monkeypatch.setattr("tupelo.tabular.optimal.rounds.solve", interrupted)
    else:
        monkeypatch.setattr("tupelo.tabular.optimal.ramp.solve", interrupted)
    metric = MIOMetric(objective=objective, verbose=objective == "hinge").fit(X, y)
    report = metric.report()
    assert report.status == "interrupted"
    assert report.objective <= report.objective_euclid
    assert "Nothing is proven" in report.proven
    assert metric.transform(X).shape[0] == 60


def test_verbose_fits_log_a_line(caplog):
    caplog.set_level(logging.INFO, logger="tupelo.tabular")
    MIOMetric().fit(*drawn())
    assert not any("objective" in line and "bound" in line for line in caplog.messages)
    MIOMetric(verbose=True).fit(*drawn())
    assert any(line.startswith("round 1, ") for line in caplog.messages)


def test_defaults_are_those_of_the_specification():
    assert learning.NEIGHBOURS == {"hinge": 3, "count": 1, "ramp": 1, "majority": 3}
    given = MIOMetric().get_params()
    assert (given["margin"], given["distortion"], given["rho"]) == (1.0, 0.01, 0.1)
    assert (given["epsilon"], given["kappa"], given["time_limit"]) == (1e-3, 1.5, 60.0)


def test_fits_are_silent_and_repeatable(capsys):
    X, y = drawn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (
            MIOMetric(atoms="rank1", max_rounds=1, random_state=3).fit(X, y) for _ in range(2)
        )
    assert (one.weights_ == other.weights_).all()
    assert capsys.readouterr().out == ""
