"""Each measure equals a naive loop on random cases with many ties."""

import itertools
import logging
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from tupelo.errors import InputError
from tupelo.evaluation import verification
from tupelo.evaluation.verification import fold_accuracy, roc


def tied(seed, n=60):
    """Scores on few levels, many of them thresholds of a grid of 40, and labels of both kinds."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-4, 5, n) / 40 * rng.choice([1, 2, 10])
    if seed % 3 == 0:
        scores = scores + 0.0125  # between two thresholds
    same = rng.random(n) < 0.5
    same[:2] = True, False
    return np.clip(scores, -1, 1), same


def naive_right(scores, same, threshold):
    right = 0
    for score, alike in zip(scores.tolist(), same.tolist(), strict=True):
        right += score > threshold if alike else score < threshold
    return right


def naive_best(scores, same, grid=40):
    counts = {k: naive_right(scores, same, k / grid) for k in range(-grid, grid + 1)}
    most = max(counts.values())
    best = [k for k, count in counts.items() if count == most]
    return float(Fraction(sum(best), len(best) * grid))


def naive_folds(scores, same, folds):
    accuracies, thresholds = [], []
    for number in sorted(set(folds.tolist())):
        mine = folds == number
        thresholds.append(naive_best(scores[~mine], same[~mine]))
        accuracies.append(naive_right(scores[mine], same[mine], thresholds[-1]) / mine.sum())
    return accuracies, thresholds


def in_folds(same, n_folds):
    """Fold numbers such that each fold has both kinds."""
    folds = np.empty(len(same), np.int64)
    for kind in (True, False):
        rows = np.flatnonzero(same == kind)
        folds[rows] = 1 + np.arange(len(rows)) % n_folds
    return folds


@pytest.mark.parametrize("seed", range(12))
def test_folds_equal_a_naive_loop_over_all_thresholds(seed, monkeypatch):
    monkeypatch.setattr(verification, "GRID", 40)
    scores, same = tied(seed, n=36)
    folds = in_folds(same, 3)
    found = fold_accuracy(scores, same, folds)
    accuracies, thresholds = naive_folds(scores, same, folds)
    assert found.per_fold == tuple(accuracies)
    assert found.thresholds == tuple(thresholds)
    assert found.accuracy == np.mean(accuracies)
    mean = sum(accuracies) / 3
    variance = sum((each - mean) ** 2 for each in accuracies) / 2
    assert found.standard_error == pytest.approx(math.sqrt(variance / 3), abs=1e-12)
    assert verification.best_threshold(scores, same) == naive_best(scores, same)


def test_the_grid_has_20001_thresholds():
    scores, same = np.array([0.00031, 0.00005]), np.array([True, False])
    found = verification.best_threshold(scores, same)
    assert found == 0.0002  # the mean of 1, 2 and 3 / 10000
    assert found == naive_best(scores, same, grid=10_000)


def test_a_score_that_equals_the_threshold_is_wrong_either_way():
    scores, same = np.array([0.3, 0.3]), np.array([True, False])
    assert verification.accuracy_at(scores, same, 0.3) == 0.0
    assert verification.accuracy_at(scores, same, 0.2) == 0.5


def test_the_fold_tested_has_no_part_in_its_threshold():
    scores = np.array([0.9, 0.8, 0.1, 0.0])
    same = np.array([True, False, True, False])
    found = fold_accuracy(scores, same, np.array([1, 1, 2, 2]))
    assert found.thresholds == (0.05, 0.85)  # each is the other's
    assert found.per_fold == (0.5, 0.5)


def test_perfect_and_random():
    rng = np.random.default_rng(0)
    same = rng.random(4000) < 0.5
    folds = in_folds(same, 10)
    perfect = fold_accuracy(np.where(same, 0.8, 0.2), same, folds)
    assert (perfect.accuracy, perfect.standard_error) == (1.0, 0.0)
    assert perfect.thresholds == (0.5,) * 10
    chance = fold_accuracy(rng.uniform(-1, 1, 4000), same, folds)
    assert abs(chance.accuracy - 0.5) < 5 * 0.5 / math.sqrt(4000)
    found = roc(np.where(same, 0.8, 0.2), same)
    assert (found.auc, found.eer, found.tar_at(0.01)) == (1.0, 0.0, 1.0)
    found = roc(rng.uniform(-1, 1, 4000), same)
    assert abs(found.auc - 0.5) < 0.05
    assert abs(found.eer - 0.5) < 0.05


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_scores_are_chance_and_warned_of(value, caplog):
    same = np.tile([True, False], 10)
    rounding = np.random.default_rng(0).uniform(-1e-7, 1e-7, 20)
    with caplog.at_level(logging.WARNING, "tupelo"):
        found = fold_accuracy(value + rounding, same, in_folds(same, 2))
    assert found.constant
    assert (found.accuracy, found.standard_error, found.per_fold) == (0.5, 0.0, (0.5, 0.5))
    assert "all 20 scores are equal" in caplog.text
    assert "collapsed" in caplog.text
    even = roc(np.full(20, value), same)
    assert (even.auc, even.eer, even.tar_at(0.1)) == (0.5, 0.5, 0.0)
    assert not fold_accuracy(np.where(same, 0.1, 0.2), same, in_folds(same, 2)).constant


@pytest.mark.parametrize("seed", range(8))
def test_roc_equals_naive_loops(seed):
    scores, same = tied(seed)
    genuine, impostor = scores[same].tolist(), scores[~same].tolist()
    found = roc(scores, same)
    wins = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor)
    assert found.auc == pytest.approx(wins / (len(genuine) * len(impostor)), abs=1e-12)
    points = []
    for threshold in [-math.inf, *sorted(set(scores.tolist()))]:
        far = sum(i > threshold for i in impostor) / len(impostor)
        frr = sum(g <= threshold for g in genuine) / len(genuine)
        points.append((far, frr))
        assert found.far_at(threshold) == far
    far, tar, _ = found.curve()
    assert np.allclose(far, [point[0] for point in points], atol=1e-12)
    assert np.allclose(1 - tar, [point[1] for point in points], atol=1e-12)
    for (far0, frr0), (far1, frr1) in itertools.pairwise(points):
        if far0 >= frr0 and far1 <= frr1:
            share = (far0 - frr0) / ((far0 - frr0) - (far1 - frr1))
            assert found.eer == pytest.approx(far0 + share * (far1 - far0), abs=1e-12)
            break
    for rate in ("0.5", "0.29", "0.1", "0.05", "0.01"):
        allowed = int(Decimal(rate) * len(impostor))
        if Decimal(rate) * len(impostor) < 1:
            assert found.tar_at(float(rate)) is None
            assert found.threshold_at(float(rate)) is None
            continue
        threshold = sorted(impostor, reverse=True)[allowed]
        assert found.threshold_at(float(rate)) == threshold
        assert sum(i > threshold for i in impostor) <= allowed
        assert found.tar_at(float(rate)) == sum(g > threshold for g in genuine) / len(genuine)


def test_rates_are_decimal_numbers():
    scores = np.arange(101.0)
    same = np.arange(101) == 100
    assert 0.29 * 100 < 29  # as binary floats
    assert roc(scores, same).threshold_at(0.29) == 70.0
    assert roc(scores, same).threshold_at(0.01) == 98.0
    assert roc(scores, same).threshold_at(0.009) is None


def test_centred_scores_equal_a_naive_loop(monkeypatch):
    monkeypatch.setattr(verification, "GRID", 40)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9, 4)) + 3
    pairs = rng.integers(0, 9, (12, 2))
    folds = np.tile([4, 1, 2], 4)
    found = verification.centred_scores(rows, pairs, folds)
    for place, number in enumerate((1, 2, 4)):
        others = [rows[row] for pair, f in zip(pairs, folds, strict=True) if f != number
                  for row in pair]  # fmt: skip
        mean = sum(others) / len(others)
        for column, (one, other) in enumerate(pairs):
            a, b = rows[one] - mean, rows[other] - mean
            cosine = a @ b / math.sqrt((a @ a) * (b @ b))
            assert found[place, column] == pytest.approx(cosine, abs=1e-12)
    same = np.tile([True, False], 6)
    folds = np.repeat([1, 2], 6)
    found = verification.centred_scores(rows, pairs, folds)
    one, other = (naive_folds(row, same, folds) for row in found)
    both = fold_accuracy(found, same, folds)
    assert both.per_fold == (one[0][0], other[0][1])
    assert both.thresholds == (one[1][0], other[1][1])


def test_scores_of_pairs():
    rows = np.array([[3.0, 4.0], [2.0, 0.0], [0.0, -1.0]], np.float32)
    scores = verification.pair_scores(rows, np.array([[0, 1], [0, 2], [1, 1]]))
    assert scores == pytest.approx([0.6, -0.8, 1.0])
    assert scores.dtype == np.float64


def test_refusals():
    scores, same, folds = np.array([0.1, 0.2]), np.array([True, False]), np.array([1, 2])
    with pytest.raises(InputError, match="folds must name two folds or more, got 1; choose a"):
        fold_accuracy(scores, same, np.array([1, 1]))
    with pytest.raises(InputError, match="fold 1 holds no impostor pairs; every fold needs both"):
        fold_accuracy(scores, same, folds)
    with pytest.raises(InputError, match="fold 1 holds no genuine pairs"):
        fold_accuracy(scores, ~same, folds)
    with pytest.raises(InputError, match="there are no impostor pairs among 2, so nothing can"):
        roc(scores, np.array([True, True]))
    with pytest.raises(InputError, match="there are no genuine pairs among 2"):
        roc(scores, np.array([False, False]))
    with pytest.raises(InputError, match="scores must be finite; 1 of 2 are not, first that of pa"):
        roc(np.array([0.1, np.nan]), same)
    with pytest.raises(InputError, match=r"scores must be cosines, from -1 to 1, .* got -3"):
        verification.best_threshold(np.array([0.5, -3.0]), same)
    with pytest.raises(InputError, match=r"far must be above 0 and below 1, such as 0.001, got 0"):
        roc(scores, same).tar_at(0.0)
    with pytest.raises(InputError, match=r"scores must be .* row for each of the 2 folds, got 3"):
        fold_accuracy(np.zeros((3, 4)), np.tile(same, 2), np.repeat(folds, 2))
    with pytest.raises(InputError, match="pairs must name rows 0 to 2, got 3"):
        verification.pair_scores(np.ones((3, 2)), np.array([[0, 3]]))
    with pytest.raises(InputError, match=r"rows must be finite .* first row 1 \(NaN or infinite\)"):
        verification.pair_scores(np.array([[1.0], [np.nan]]), np.array([[0, 0]]))
    with pytest.raises(InputError, match=r"first row 0 \(zero\); embed these items again"):
        verification.pair_scores(np.zeros((1, 2)), np.array([[0, 0]]))
    with pytest.raises(InputError, match=r"first row 1 .NaN or infinite"):
        verification.centred_scores(np.array([[1.0], [np.inf]]), np.array([[0, 0], [0, 1]]), folds)
    with pytest.raises(InputError, match="of two folds or more, got 2 for 2 pairs and 1 folds"):
        verification.centred_scores(np.ones((2, 2)), np.array([[0, 1], [0, 1]]), np.array([1, 1]))
    with pytest.raises((InputError, TypeCheckError)):
        roc(scores, np.array([True]))
