"""Generated tables are what the papers describe."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tabular.generated import balance_scale, rings, waveform


def test_balance_scale_counts():
    X, y = balance_scale()
    assert len(np.unique(X, axis=0)) == 625
    assert dict(zip(*np.unique(y, return_counts=True), strict=True)) == {
        "B": 49,
        "L": 288,
        "R": 288,
    }
    assert y[X.tolist().index([5, 1, 1, 4])] == "L"
    assert y[X.tolist().index([2, 2, 4, 1])] == "B"


@pytest.mark.data
def test_balance_scale_is_the_uci_file():
    if "TUPELO_DATA" not in os.environ:
        pytest.skip("TUPELO_DATA is not set")
    path = Path(os.environ["TUPELO_DATA"]) / "uci/balance_scale.csv"
    with path.open() as file:
        _, *rows = csv.reader(file)
    X, y = balance_scale()
    assert X.tolist() == [[float(cell) for cell in row[:4]] for row in rows]
    assert y.tolist() == [row[4] for row in rows]


def test_waveform_has_its_means_and_variances():
    X, y = waveform(60_000, np.random.default_rng(0))
    assert np.abs(np.bincount(y) / len(y) - 1 / 3).max() < 0.01
    points = np.arange(1, 22)
    h = {peak: np.maximum(6 - np.abs(points - peak), 0) for peak in (7, 11, 15)}
    for label, (one, other) in enumerate([(11, 15), (11, 7), (15, 7)]):
        rows = X[y == label]
        assert np.abs(rows[:, :21].mean(0) - (h[one] + h[other]) / 2).max() < 0.06
        assert np.abs(rows[:, :21].var(0) - (1 + (h[one] - h[other]) ** 2 / 12)).max() < 0.15
    assert np.abs(X[:, 21:].mean(0)).max() < 0.02
    assert np.abs(X[:, 21:].std(0) - 1).max() < 0.02


def test_waveform_without_noise_features():
    assert waveform(10, np.random.default_rng(0), noise_features=0)[0].shape == (10, 21)


def test_rings_need_their_first_two_features():
    wrong = np.zeros((20, 2), dtype=int)
    for seed in range(20):
        X, y = rings(60, np.random.default_rng(seed))
        squared = (X[:, None] - X[None]) ** 2
        for place, weights in enumerate(([1, 1, 0, 0], [1, 1, 1, 1])):
            distance = squared @ np.array(weights, dtype=float)
            np.fill_diagonal(distance, np.inf)
            wrong[seed, place] = (y[distance.argmin(1)] != y).sum()
    assert (wrong[:, 0] == 0).all()
    assert wrong[:, 1].mean() > 10


@pytest.mark.parametrize("make", [waveform, rings])
def test_generators_are_seeded(make):
    one, other = (make(30, np.random.default_rng(5)) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()
    assert (make(30, np.random.default_rng(6))[0] != one[0]).any()


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="n must be a whole number >= 1, got 0"):
        waveform(0, rng)
    with pytest.raises(InputError, match="noise_features must be a whole number >= 0, got -1"):
        waveform(5, rng, noise_features=-1)
    with pytest.raises(InputError, match="n must be a whole number >= 4, got 3"):
        rings(3, rng)
    with pytest.raises(InputError, match="noise_features must be a whole number >= 0, got -1"):
        rings(8, rng, noise_features=-1)
