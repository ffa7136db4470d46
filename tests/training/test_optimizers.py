import math

import pytest
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.losses import Contrastive, Margin, ProxyAnchor
from tupelo.models import attentive, divided, embedder, many_heads, members
from tupelo.objectives import OnClasses, OnPairs, OnTuples
from tupelo.selection import PerAnchor
from tupelo.training import Settings
from tupelo.training.optimizers import build_optimizer, rate_factor, set_rates


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))


def test_each_parameter_has_its_rate_and_decay():
    net, objective = network(), OnClasses(ProxyAnchor(5, 3, learning_rate=0.2))
    optimizer = build_optimizer(net, objective, Settings(lr=0.1, weight_decay=0.3))
    rules = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert rules[id(net[0].weight)] == (0.1, 0.3)
    assert rules[id(net[0].bias)] == (0.1, 0.0)
    assert rules[id(net[1].weight)] == (0.1, 0.0)
    assert rules[id(objective.loss.proxies)] == (0.2, 0.0)
    assert len(rules) == 5


def head_of(name):
    whole = embedder("convnet", dim=8, channels=1, layer_norm=True)
    if name == "one":
        return whole, whole.head
    if name == "divided":
        return divided(whole), whole.head
    if name == "members":
        return members([whole]), whole.head
    model = {"attention": attentive, "heads": many_heads}[name](whole, 2)
    return model, model.head if name == "attention" else model.heads


@pytest.mark.parametrize("name", ["one", "divided", "members", "attention", "heads"])
def test_the_head_of_every_model_has_a_rate_of_its_own(name):
    model, head = head_of(name)
    objective = OnClasses(ProxyAnchor(5, 3, learning_rate=0.2))
    settings = Settings(lr=1e-3, head_rate=10.0, weight_decay=0.3)
    groups = build_optimizer(model, objective, settings).param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    fast = {id(p) for p in head.parameters()}
    assert 0 < len(fast) < len(list(model.parameters())) == len(found) - 1
    for p in model.parameters():
        assert found[id(p)] == (1e-2 if id(p) in fast else 1e-3, 0.3 if p.ndim > 1 else 0.0)
    assert found[id(objective.loss.proxies)] == (0.2, 0.0)


def test_a_head_rate_without_a_head_is_refused():
    objective = OnClasses(ProxyAnchor(5, 3))
    with pytest.raises(InputError, match=r"head_rate needs a model with a head, got 10\.0 for Seq"):
        build_optimizer(network(), objective, Settings(head_rate=10.0))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_every_optimizer_moves_network_and_objective(name):
    net = network()
    objective = OnTuples(PerAnchor(), Margin(n_classes=2))
    optimizer = build_optimizer(net, objective, Settings(optimizer=name))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all((p != b).all() for p, b in zip(parameters, before, strict=True))


def test_rates_of_all_groups_change_in_proportion():
    objective = OnClasses(ProxyAnchor(5, 3, learning_rate=0.2))
    optimizer = build_optimizer(network(), objective, Settings(lr=0.1))
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025, 0.05]


def test_an_objective_that_forgets_a_parameter_is_refused():
    class Forgetful(OnClasses):
        def parameter_groups(self):
            return []

    with pytest.raises(InputError, match=r"leaves out loss\.proxies"):
        build_optimizer(network(), Forgetful(ProxyAnchor(5, 3)), Settings())


def test_an_objective_that_names_a_parameter_twice_is_refused():
    class Twice(OnClasses):
        def parameter_groups(self):
            return super().parameter_groups() * 2

    with pytest.raises(InputError, match="one is named twice"):
        build_optimizer(network(), Twice(ProxyAnchor(5, 3)), Settings())


def test_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="nothing to train"):
        build_optimizer(network().requires_grad_(False), OnPairs(Contrastive()), Settings())


def test_schedules():
    def factors(**values):
        settings = Settings(**values)
        return [rate_factor(settings, step=i, progress=i / 10) for i in range(10)]

    assert factors(schedule="constant") == [1.0] * 10
    assert factors(schedule="cosine") == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]
    )
    stepped = factors(schedule="step", step_at=(0.3, 0.8), step_factor=0.5)
    assert stepped == [1.0] * 3 + [0.5] * 5 + [0.25] * 2
    halved = factors(schedule="halving", halve_every=4)
    assert halved == [1.0] * 4 + [0.5] * 4 + [0.25] * 2
    warm = factors(schedule="constant", warmup_steps=4)
    assert warm == [0.25, 0.5, 0.75] + [1.0] * 7
