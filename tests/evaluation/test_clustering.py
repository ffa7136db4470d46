import itertools

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from tupelo.errors import InputError
from tupelo.evaluation import clustering
from tupelo.evaluation.clustering import pairwise_f1


def blobs(n=90, classes=3, spread=0.05):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return np.eye(classes)[labels] + spread * rng.normal(size=(n, classes)), labels


def test_separate_classes_are_found():
    z, labels = blobs()
    report = clustering(z, labels, seeds=(0, 1))
    assert report.n_clusters == 3
    assert report.as_dict()["n_items"] == 90
    assert max(report.nmi, report.ami, report.f1) == pytest.approx(1.0)


def test_scores_are_the_mean_and_spread_of_single_seeds():
    z, labels = blobs(spread=0.8)
    singles = [clustering(z, labels, seeds=(seed,)) for seed in (3, 4, 5)]
    report = clustering(z, labels, seeds=(3, 4, 5))
    for name in ("nmi", "ami", "f1"):
        values = [getattr(single, name) for single in singles]
        assert getattr(report, name) == pytest.approx(np.mean(values))
        assert getattr(report, f"{name}_std") == pytest.approx(np.std(values))
    assert report.nmi_std > 0


def test_strings_and_scale_of_rows_do_not_matter():
    z, labels = blobs(spread=0.5)
    scaled = z * np.linspace(1, 5, len(z))[:, None]
    named = np.array(["a", "b", "c"])[labels]
    assert clustering(scaled, named).nmi == pytest.approx(clustering(z, labels).nmi)


@pytest.mark.parametrize("offset", [2**53, 2**63, 2**70])
def test_labels_of_any_size_are_told_apart(offset):
    z, labels = blobs()
    large = [0 if label == 0 else offset + label for label in labels.tolist()]
    assert clustering(z, large) == clustering(z, labels)


def test_pairwise_f1_equals_counting_pairs():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels, clusters = rng.integers(0, 4, (2, 12))
        together = {(i, j) for i, j in itertools.combinations(range(12), 2)}
        found = {(i, j) for i, j in together if clusters[i] == clusters[j]}
        true = {(i, j) for i, j in together if labels[i] == labels[j]}
        expected = 2 * len(found & true) / (len(found) + len(true)) if found & true else 0.0
        assert pairwise_f1(labels, clusters) == pytest.approx(expected)


def test_no_pair_in_common_is_zero():
    assert pairwise_f1(np.array([0, 1, 2]), np.array([0, 0, 1])) == 0.0


def test_collapsed_rows_score_nothing():
    report = clustering(np.ones((20, 3)), np.arange(20) % 4)
    assert report.nmi == 0.0
    assert report.n_clusters == 4


def test_nmi_is_the_arithmetic_mean():
    z, labels = blobs(spread=0.05)
    report = clustering(z, np.zeros(90, int) + (labels == 0), n_clusters=3, seeds=(0,))
    expected = normalized_mutual_info_score(labels == 0, labels, average_method="arithmetic")
    assert report.nmi == pytest.approx(expected)


Z = np.eye(3)


@pytest.mark.parametrize(
    ("z", "labels", "options", "message"),
    [
        (Z[0], [1], {}, r"z must be a floating matrix .* shape \(3,\)"),
        (np.eye(3, dtype=int), [1, 1, 2], {}, "z must be a floating matrix"),
        (Z * np.nan, [1, 1, 2], {}, "z must be finite without zero rows; 3 of 3"),
        (Z * 0, [1, 1, 2], {}, "z must be finite without zero rows"),
        (Z, [1, 2], {}, "labels must be 3 integers or strings"),
        (Z, np.ones(3), {}, "labels must be integers or strings"),
        (Z, np.eye(3, dtype=bool), {}, "labels must be 3 integers or strings"),
        (Z, [1, "1", 2], {}, "labels must be of one kind; got integers and strings"),
        (Z, [{1}, {1}, {2}], {}, "labels must be integers or strings; got set"),
        (Z, [1, 1, 2], {"n_clusters": 4}, "n_clusters must be from 1 .* 3; got 4"),
        (Z, [1, 1, 2], {"n_clusters": 0}, "got 0"),
        (Z, [1, 1, 2], {"seeds": ()}, "seeds must hold at least one"),
    ],
)
def test_refusals(z, labels, options, message):
    with pytest.raises(InputError, match=message):
        clustering(z, labels, **options)
