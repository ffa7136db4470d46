"""Orders that a sound implementation shows in minutes: eight alphabets, small networks.

    TUPELO_DATA=... pytest -m slow tests/experiments/test_meta_metric_learner.py  # some 5 minutes

Setting as in docs/meta-metric-learner.md: every alphabet is a domain, 30 / 20 / 50 % of its classes
train, validate, test; meta-training on tasks of at most 8 classes, test on all classes.
"""

import os

import numpy as np
import pytest
import torch

from tupelo import data
from tupelo.errors import InputError
from tupelo.fewshot import (
    THREE_VS_FIVE,
    Direct,
    FewShot,
    Matching,
    MetaCell,
    MetaLSTM,
    MetaMetricLearner,
    MetaSettings,
    Tasks,
    conv4,
    meta_evaluate,
    meta_fit,
    picture_domains,
)

ALPHABETS = {
    "Balinese", "Early_Aramaic", "Greek", "Korean", "Latin",
    "Japanese_(katakana)", "Sanskrit", "Tagalog",
}  # fmt: skip
SETTINGS = MetaSettings(episodes=400, checkpoint_every=1000)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set"),
]


@pytest.fixture(scope="module")
def domains():
    read = data.known("omniglot", size=28, channels=1)
    parts = [read.train, read.validation, read.test]
    found = [each for part in parts if part is not None for each in picture_domains(part)]
    chosen = [each for each in found if each.name in ALPHABETS]
    assert len(chosen) == 8
    assert sum(each.n_classes for each in chosen) == 242
    return [each.divide(THREE_VS_FIVE, seed=0) for each in chosen]


def network():
    torch.manual_seed(0)
    return FewShot(conv4(width=16), Matching("dot"), mean=(1.0,), std=(-1.0,))


def meta_learner():
    cell = MetaCell(generator=torch.Generator().manual_seed(0))
    return MetaMetricLearner(network(), cell=cell, steps=4, bn_mode="transductive")


def tests_of(domains, shots):
    source = Tasks([parts[2] for parts in domains], shots=shots, queries=6)
    return [source.of(d, n) for d in range(len(domains)) for n in range(3)]


def trained(model, domains, shots):
    train = Tasks([parts[0] for parts in domains], shots=shots, queries=6, max_classes=8)
    meta_fit(model, train, settings=SETTINGS)
    return model


@pytest.fixture(scope="module")
def four_shot(domains):
    return trained(meta_learner(), domains, 4), tests_of(domains, 4)


def test_mml_is_above_matching_networks_with_more_classes_than_in_training(domains, four_shot):
    model, tasks = four_shot
    matching = trained(Direct(network(), bn_mode="transductive"), domains, 4)
    assert meta_evaluate(model, tasks).mean > meta_evaluate(matching, tasks).mean + 0.03


def test_also_with_two_shots(domains):
    model = trained(meta_learner(), domains, 2)
    matching = trained(Direct(network(), bn_mode="transductive"), domains, 2)
    tasks = tests_of(domains, 2)
    assert meta_evaluate(model, tasks).mean > meta_evaluate(matching, tasks).mean + 0.03


def test_updates_make_the_learner(four_shot):
    model, tasks = four_shot
    right = [
        (model.unadapted(task).answer(task.queries).argmax(1) == task.query_labels).float().mean()
        for task in tasks
    ]
    assert meta_evaluate(model, tasks).mean > np.mean(right) + 0.15


def test_the_support_of_the_test_must_be_that_of_training(four_shot):
    model, tasks = four_shot
    halves = meta_evaluate(model, tasks).mean
    model.eval_support = "all"
    try:
        assert halves >= meta_evaluate(model, tasks).mean
    finally:
        model.eval_support = "DS"


def test_the_gates_stay_near_gradient_descent(four_shot):
    cell = four_shot[0].cell
    assert 0.98 < cell.forget_bias.sigmoid().item() < 0.999
    assert 0.005 < cell.learn_bias.sigmoid().item() < 0.02


def test_more_classes_than_in_training_are_nothing_to_mml_and_too_many_for_meta_lstm(
    domains, four_shot
):
    _, tasks = four_shot
    largest = max(parts[0].n_classes for parts in domains)
    wider = next(task for task in tasks if task.n_classes > largest)
    model = MetaLSTM(conv4(width=16), largest)
    with pytest.raises(InputError, match="Meta-LSTM cannot take more, MetaMetricLearner can"):
        model.solve(wider, torch.Generator())
    assert four_shot[0].solve(wider, torch.Generator()).shape[1] == wider.n_classes
