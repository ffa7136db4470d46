"""Retrieval of auxiliary tasks: which domains help a target is measured with matching networks.

Two stages, as published: a metric learner is trained on every domain, and each is tried on the
target. Those that do best there give the auxiliary tasks.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.fewshot.domains import Domain, Tasks
from tupelo.fewshot.episodes import Episode
from tupelo.fewshot.learner import device_of
from tupelo.fewshot.meta import Direct, EpisodicModel, can_halve
from tupelo.fewshot.meta_testing import derived_generator, placed, share_right
from tupelo.fewshot.meta_training import MetaSettings, meta_fit


class Transfer(NamedTuple):
    """How well the learner of a domain does on the target, in [0, 1]."""

    domain: str
    accuracy: float


def fit_each(
    network: nn.Module,
    domains: Sequence[Domain],
    *,
    shots: int,
    queries: int,
    settings: MetaSettings,
    max_classes: int | None = None,
    bn_mode: str = "inner_running",
    out: str | Path | None = None,
) -> dict[str, Direct]:
    """A metric learner for each domain, trained on tasks of that domain alone.

    Args:
        network: copied for each domain; `FewShot` or `TextFewShot`.
        domains: of which auxiliary tasks may come, with their meta-training classes.
        shots: of the tasks, see `Tasks`.
        queries: of them.
        max_classes: of them.
        settings: of each training.
        bn_mode: see `Direct`.
        out: folder of runs, one a domain, so that it can go on after a stop; None writes nothing.
    """
    found = {}
    for number, domain in enumerate(domains):
        model = Direct(copy.deepcopy(network), bn_mode=bn_mode)
        tasks = Tasks(
            [domain], shots=shots, queries=queries, max_classes=max_classes, seed=settings.seed
        )
        folder = None if out is None else Path(out) / f"{number:03d}"
        meta_fit(model, tasks, settings=settings, out=folder)
        found[domain.name] = model
    return found


def transfers(
    models: Mapping[str, EpisodicModel],
    target: Episode | None = None,
    *,
    labelled: Sequence[Episode] = (),
    exclude: str | None = None,
    seed: int = 0,
) -> list[Transfer]:
    """Accuracy of each domain's learner on the target, best first.

    What is known of the target are tasks of other classes of its domain, if it has any; else its
    own support, of which one item a class is held out and asked about, in turn.

    Args:
        models: a learner a domain, from `fit_each`.
        target: whose support is used when there are no `labelled` tasks; its queries are not
            looked at.
        labelled: tasks of meta-training classes of the target's domain.
        exclude: name of the target's own domain.
        seed: of what learners draw.

    Raises:
        InputError: neither labelled tasks nor a support with 2 items in every class; or there is
            no other domain.
    """
    others = {name: model for name, model in models.items() if name != exclude}
    if not others:
        raise InputError("models must hold a domain other than the target, got none")
    if labelled:
        trials = list(labelled)
    elif target is not None and can_halve(target):
        trials = _held_out(target)
    else:
        raise InputError(
            "retrieval needs labelled items of the target: give labelled= tasks of meta-training "
            "classes of its domain, or a target with at least 2 support items in every class"
        )
    found = []
    for name, model in others.items():
        own = [placed(trial, device_of(model)) for trial in trials]
        right = [
            share_right(model.solve(trial, derived_generator(seed, number)), trial)
            for number, trial in enumerate(own)
        ]
        found.append(Transfer(name, sum(right) / len(right)))
    return sorted(found, key=lambda each: -each.accuracy)


def retrieve(ranked: Sequence[Transfer], count: int = 3) -> list[str]:
    """The names of the domains that do best; equal ones in the order they are given.

    Args:
        ranked: from `transfers`.
        count: how many, >= 1; tune it on meta-validation.

    Raises:
        InputError: `count` is below 1.

    >>> retrieve([Transfer("a", 0.9), Transfer("b", 0.8), Transfer("c", 0.1)], 2)
    ['a', 'b']
    """
    if count < 1:
        raise InputError(f"count must be at least 1 domain, got {count}")
    return [each.domain for each in ranked[:count]]


def _held_out(target: Episode) -> list[Episode]:
    """As many tasks as the smallest class has items: in each, one item a class is asked about."""
    labels = target.support_labels
    order = labels.argsort(stable=True)
    counts = target.counts
    first = counts.cumsum(0) - counts
    found = []
    for turn in range(int(counts.min())):
        asked = order[first + turn]
        known = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
        known[asked] = False
        found.append(
            Episode(
                target.support[known],
                labels[known],
                target.support[asked],
                labels[asked],
                target.n_classes,
            )
        )
    return found
