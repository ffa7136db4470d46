"""The gradient that a step of meta-training takes, and published defaults."""

import inspect

import pytest
import torch
from tests.fewshot.meta_cases import domain

from tupelo.fewshot import (
    EpisodicModel,
    FullContext,
    Matching,
    MetaCell,
    MetaMetricLearner,
    MetaSettings,
    Tasks,
    graph_triplets,
    meta_fit,
    preprocess,
    prototype_triplets,
    retrieve,
)
from tupelo.types import LossValue

SLOPE = torch.tensor([3.0, 4.0])


class Steep(EpisodicModel):
    """A loss of gradient (3, 4), whatever the task."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def loss(self, task, generator):
        total = self.weight @ SLOPE
        return LossValue(total, {"loss": total.detach()}, {})

    def solve(self, task, generator, *, auxiliary=()):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.25 * SLOPE / 5),  # clipped as published, before Adam sees it
        ({"clip_norm": 2.0}, 2.0 * SLOPE / 5),
        ({"clip_norm": 100.0}, SLOPE),
        ({"clip_norm": 100.0, "per_step": 2}, SLOPE),  # a mean over tasks
    ],
    ids=str,
)
def test_the_gradient_of_a_step(monkeypatch, options, expected):
    model, seen = Steep(), []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda _: seen.append(model.weight.grad.clone()))
    run = meta_fit(
        model,
        Tasks([domain()], shots=2, queries=1),
        settings=MetaSettings(**{"episodes": 2, "log_every": 1, **options}),
    )
    for gradient in seen:
        torch.testing.assert_close(gradient, expected)
    assert run.history[0]["gradient"] == pytest.approx(5.0)  # logged as it was


def default(of, name):
    return inspect.signature(of).parameters[name].default


def test_published_defaults():
    settings = MetaSettings()
    assert (settings.lr, settings.clip_norm, settings.episodes) == (1e-3, 0.25, 20_000)
    assert (settings.validate_every, settings.validate_tasks) == (1000, 100)
    assert (default(MetaCell, "hidden"), default(preprocess, "p")) == (20, 10.0)
    assert default(MetaCell, "gate_feedback") == "pre-activation"
    learner = {name: default(MetaMetricLearner, name) for name in ("steps", "batch", "bn_mode")}
    assert learner == {"steps": 5, "batch": None, "bn_mode": "inner_running"}
    assert default(MetaMetricLearner, "eval_support") == "DS"
    assert default(MetaMetricLearner, "legacy_grad_scale") is False
    assert (default(FullContext, "steps"), default(retrieve, "count")) == (3, 3)
    assert (Matching().similarity, Matching().scale, Matching("cosine").scale) == ("dot", 1, 10)
    for table, number in ((prototype_triplets, 10), (graph_triplets, 5)):
        assert (default(table, "positives"), default(table, "negatives")) == (number, number)


def test_the_published_range_of_biases():
    cells = [MetaCell(1, generator=torch.Generator().manual_seed(seed)) for seed in range(200)]
    forget, learn = (torch.stack([getattr(c, n).detach() for c in cells])
                     for n in ("forget_bias", "learn_bias"))  # fmt: skip
    assert 4.0 <= forget.min() < 4.05
    assert 4.95 < forget.max() <= 5.0
    assert -5.0 <= learn.min() < -4.95
    assert -4.05 < learn.max() <= -4.0
