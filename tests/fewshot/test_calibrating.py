"""Temperatures against a plain search, calibration errors against a loop, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tupelo.errors import InputError
from tupelo.fewshot import Prototypical
from tupelo.fewshot.calibrating import (
    Calibration,
    Temperature,
    calibrate,
    layouts_to_calibrate,
    logits_of,
    reliability,
    temperature,
)


def answers(n: int, ways: int, sharpness: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits whose softmax, after division by `sharpness`, is the true chance of each class."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, ways))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(1)[:, :-1]).sum(1)
    return torch.from_numpy(sharpness * z), torch.from_numpy(labels)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 7.0])
def test_the_true_temperature_is_found(sharpness):
    found = temperature(*answers(20_000, 5, sharpness))
    assert found == pytest.approx(sharpness, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_minimum_that_a_search_finds(seed):
    logits, labels = answers(300, 7, 3.0, seed)
    n, ways = logits.shape
    spread = 1 / (n + 2)
    targets = torch.full_like(logits, spread / ways)
    targets[torch.arange(n), labels] += 1 - spread

    def loss(log_t: float) -> float:
        return float(-(targets * torch.log_softmax(logits / np.exp(log_t), 1)).sum(1).mean())

    oracle = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    assert np.log(temperature(logits, labels)) == pytest.approx(oracle.x, abs=1e-4)


def test_answers_that_are_always_right_do_not_become_certain():
    logits = 3.0 * torch.eye(5).repeat(20, 1)
    labels = torch.arange(5).repeat(20)
    found = temperature(logits, labels)
    confident = torch.softmax(logits / found, 1).max().item()
    assert 0.98 < confident < 0.9999


def test_answers_no_better_than_chance_become_undecided():
    logits, _ = answers(2000, 4, 5.0)
    wrong = logits.argmin(1)  # the least likely class is always the true one
    p = torch.softmax(logits / temperature(logits, wrong), 1)
    assert (p - 0.25).abs().max() < 0.02


def test_constant_logits_keep_temperature_one():
    assert temperature(torch.zeros(9, 3), torch.arange(9) % 3) == 1.0


def test_the_scale_of_the_logits_goes_into_the_temperature():
    logits, labels = answers(500, 5, 2.0)
    assert temperature(40 * logits, labels) == pytest.approx(40 * temperature(logits, labels))


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "at least one answer"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"in 0\.\.2"),
        (torch.full((2, 3), float("nan")), torch.tensor([0, 1]), "finite"),
    ],
)
def test_answers_that_cannot_be_calibrated(logits, labels, text):
    with pytest.raises(InputError, match=text):
        temperature(logits, labels)


def naive_error(p: Tensor, labels: Tensor, bins: int) -> float:
    total = 0.0
    for low in range(bins):
        inside = [
            (float(row.max()), int(row.argmax()) == int(label))
            for row, label in zip(p, labels, strict=True)
            if low / bins < float(row.max()) <= (low + 1) / bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            right = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(p) * abs(confidence - right)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_error_is_that_of_a_loop_over_bins(bins):
    logits, labels = answers(400, 5, 4.0)
    p = torch.softmax(logits, 1)
    found = reliability(p, labels, bins=bins)
    assert found.error == pytest.approx(naive_error(p, labels, bins), abs=1e-9)
    assert sum(found.share) == pytest.approx(1)


def test_an_error_worked_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 0, 0])
    # two answers at 0.9, one right: 0.4 off; two at 0.6, one right: 0.1 off
    found = reliability(p, labels, bins=10)
    assert found.error == pytest.approx(0.25)
    assert [round(c, 6) for c in found.confidence if c] == [0.6, 0.9]
    assert [a for a, s in zip(found.accuracy, found.share, strict=True) if s] == [0.5, 0.5]


def test_certain_answers_have_a_bin():
    assert reliability(torch.eye(3), torch.arange(3)).error == 0.0


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_are_refused(bins):
    with pytest.raises(InputError, match="bins must be at least 1"):
        reliability(torch.eye(3), torch.arange(3), bins=bins)


def rows(classes: int = 12, each: int = 15, spread: float = 0.9) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(classes, 8))
    points = np.repeat(centres, each, 0) + spread * rng.normal(size=(classes * each, 8))
    return torch.from_numpy(points).float(), np.repeat(np.arange(classes), each)


def test_calibration_lowers_the_error_of_logits_that_are_too_sharp():
    z, labels = rows()
    found = calibrate(Prototypical(), 4 * z, labels, [(5, 1), (5, 5)], episodes=100)
    assert [(one.ways, one.shots) for one in found.temperatures] == [(5, 1), (5, 5)]
    for one in found.temperatures:
        assert one.temperature > 1
        assert one.after < one.before
        assert one.after < 0.05
        assert 0.3 < one.accuracy < 1


def test_a_temperature_is_judged_by_other_episodes(monkeypatch):
    z, labels = rows()
    seeds = []

    def watched(*given, seed, **options):
        seeds.append(seed)
        return logits_of(*given, seed=seed, **options)

    monkeypatch.setattr("tupelo.fewshot.calibrating.logits_of", watched)
    calibrate(Prototypical(), z, labels, [(5, 1), (5, 2), (2, 1)], episodes=3)
    assert len(seeds) == len(set(seeds)) == 6


def test_calibration_follows_from_the_seed():
    z, labels = rows()
    first, again, other = (
        calibrate(Prototypical(), z, labels, [(5, 1)], episodes=40, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_head_is_left_in_its_mode():
    z, labels = rows()
    head = Prototypical().train()
    calibrate(head, z, labels, [(5, 1)], episodes=5)
    assert head.training


def test_the_nearest_layout_is_taken():
    table = [Temperature(w, s, w + s / 100, 0.5, 0.1, 0.0, 10) for w in (2, 5, 20) for s in (1, 5)]
    found = Calibration(tuple(table))
    assert found.near(5, 1).temperature == 5.01
    assert found.near(4, 4.2).temperature == 5.05
    assert found.near(300, 1.4).temperature == 20.01
    assert found.near(2, 100).temperature == 2.05


def test_between_numbers_of_shots_the_temperature_is_interpolated():
    table = [(2, 1, 8.0), (5, 1, 0.9), (5, 4, 0.3), (5, 9, 0.2)]
    found = Calibration(tuple(Temperature(w, s, t, 0.5, 0.1, 0.0, 10) for w, s, t in table))
    assert found.at(5, 4) == pytest.approx(0.3)
    assert found.at(6, 2) == pytest.approx((0.9 * 0.3) ** 0.5)  # 2 is halfway from 1 to 4 in ratios
    assert found.at(5, 4) > found.at(5, 5.5) > found.at(5, 9)
    assert found.at(4, 1) == pytest.approx(0.9)
    assert found.at(90, 50) == pytest.approx(0.2)
    assert found.at(2, 30) == pytest.approx(8.0)


def test_it_is_kept_as_plain_values():
    found = Calibration((Temperature(5, 1, 1.25, 0.5, 0.1, 0.01, 100),))
    assert Calibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_damaged_values_are_none():
    with pytest.raises(InputError, match="calibration cannot be read"):
        Calibration.from_dict({"temperatures": [{"ways": 5}]})


def test_layouts_that_the_classes_allow():
    labels = np.repeat(np.arange(12), 7)
    found = layouts_to_calibrate(labels, 5, 1)
    assert (5, 1) in found
    assert (2, 5) in found
    assert max(ways for ways, _ in found) == 10
    assert max(shots for _, shots in found) < 7
    assert layouts_to_calibrate(labels, 5, 1, fixed_ways=True) == [
        (ways, shots) for ways, shots in found if ways == 5
    ]
    assert layouts_to_calibrate(np.arange(12), 5, 1) == []
    assert layouts_to_calibrate(np.repeat(np.arange(3), 9), 20, 1)[-1] == (3, 5)


def test_uneven_classes_are_calibrated_with_what_they_have():
    z, _ = rows(classes=1, each=5 * 20 + 5 * 3)
    labels = np.repeat(np.arange(10), [20] * 5 + [3] * 5)
    layouts = layouts_to_calibrate(labels, 8, 1)
    assert (8, 1) in layouts
    told = []
    found = calibrate(
        Prototypical(), z, labels, layouts, episodes=3, progress=lambda *at: told.append(at)
    )
    assert len(found.temperatures) == len(layouts)
    assert told[-1] == (len(layouts), len(layouts))
