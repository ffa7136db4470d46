"""Which parameters are learned at which rate, and how rates change over a run."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from tupelo.errors import InputError
from tupelo.training.settings import Settings
from tupelo.types import Objective


def build_optimizer(network: nn.Module, objective: Objective, settings: Settings) -> Optimizer:
    """One optimiser over the network and all that the objective learns.

    Weights of the network decay, biases and normalisation (one dimension or none) do not. Its
    `head` or `heads` learn at `head_rate` times the rate. What the objective learns comes in its
    own groups, with their rates and decay. The peak rate of each group is kept in it as "peak".

    Raises:
        InputError: nothing is to be learned; a network without a head is given a `head_rate`; or
            `parameter_groups()` of the objective leaves out one of its parameters or names one
            twice.
    """
    groups = [*_network_groups(network, settings), *_objective_groups(objective)]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise InputError(
            "nothing to train: no parameter of the model or the objective requires a gradient"
        )
    for group in groups:
        group["peak"] = group.setdefault("lr", settings.lr)
    return _optimizer(groups, settings)


def _network_groups(network: nn.Module, settings: Settings) -> list[dict]:
    trained = [p for p in network.parameters() if p.requires_grad]
    head = set[int]()
    if settings.head_rate != 1:
        modules = [getattr(network, name, None) for name in ("head", "heads")]
        head = {id(p) for module in modules if module is not None for p in module.parameters()}
        if not head:
            raise InputError(
                f"head_rate needs a model with a head, got {settings.head_rate} for "
                f"{type(network).__name__}; leave it 1"
            )
    groups = []
    for within, factor in ((False, 1.0), (True, settings.head_rate)):
        own = [p for p in trained if (id(p) in head) == within]
        rate = {"lr": settings.lr * factor}
        decayed = {"params": [p for p in own if p.ndim > 1], "weight_decay": settings.weight_decay}
        groups += [decayed | rate]
        groups += [{"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0} | rate]
    return groups


def _objective_groups(objective: Objective) -> list[dict]:
    groups = [
        {**group, "params": [p for p in group["params"] if p.requires_grad]}
        for group in objective.parameter_groups()
    ]
    given = [id(p) for group in groups for p in group["params"]]
    own = {id(p): name for name, p in objective.named_parameters() if p.requires_grad}
    forgotten = sorted(name for key, name in own.items() if key not in given)
    if forgotten or len(given) != len(set(given)):
        raise InputError(
            "parameter_groups() of the objective must name each of its parameters once; "
            + (f"it leaves out {', '.join(forgotten)}" if forgotten else "one is named twice")
        )
    return groups


def _optimizer(groups: list[dict], settings: Settings) -> Optimizer:
    everything = [p for group in groups for p in group["params"]]
    fused = all(p.device.type in ("cuda", "cpu") and p.is_floating_point() for p in everything)
    shared = {"lr": settings.lr, "fused": fused or None}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **shared)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, **shared)


def rate_factor(settings: Settings, *, step: int, progress: float) -> float:
    """Factor on all learning rates.

    Args:
        settings: schedule and warm-up.
        step: optimiser steps already taken.
        progress: share of the run already done, in [0, 1].

    >>> rate_factor(Settings(schedule="cosine"), step=50, progress=0.5)
    0.5
    >>> rate_factor(Settings(schedule="constant", warmup_steps=10), step=4, progress=0.1)
    0.5
    """
    factor = 1.0
    if settings.schedule == "cosine":
        factor = round(0.5 * (1 + math.cos(math.pi * progress)), 12)
    elif settings.schedule == "step":
        factor = settings.step_factor ** sum(share <= progress for share in settings.step_at)
    elif settings.schedule == "halving":
        factor = 0.5 ** (step // settings.halve_every)
    if step < settings.warmup_steps:
        factor *= (step + 1) / settings.warmup_steps
    return factor


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Scale the peak rate of every group by the same factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
