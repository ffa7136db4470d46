"""Meta-testing: accuracy of a model over whole tasks, with auxiliary tasks where there are some."""

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from tupelo.errors import InputError, TrainingDiverged
from tupelo.fewshot.episodes import Episode
from tupelo.fewshot.evaluating import Accuracy, Running
from tupelo.fewshot.learner import device_of
from tupelo.fewshot.meta import EpisodicModel

Auxiliary = Sequence[Episode] | Callable[[int], Sequence[Episode]]
"""Auxiliary tasks, the same for all tasks, or those of the task of a number."""


def derived_generator(*words: int) -> torch.Generator:
    """A generator on the CPU that follows from these numbers."""
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def meta_evaluate(
    model: EpisodicModel,
    tasks: Iterable[Episode],
    *,
    auxiliary: Auxiliary = (),
    seed: int = 0,
    planned: int = 0,
    progress: Callable[[Running], None] | None = None,
) -> Accuracy:
    """Accuracy on the queries of each task.

    Args:
        model: solves tasks, on the device it is on.
        tasks: with the labels of their queries.
        auxiliary: for models that adapt.
        seed: of the division of tasks and the order of auxiliary ones.
        planned: how many tasks there are, for `progress`.
        progress: called after each task.

    Raises:
        InputError: there is no task, or one that the model cannot solve.
        TrainingDiverged: a loss or gradient is not finite, naming task and update.

    >>> from tupelo.fewshot import Direct, Domain, FewShot, Matching, Tasks, conv4
    >>> domain = Domain("a", torch.rand(12, 1, 16, 16), np.repeat(np.arange(3), 4), ("x", "y", "z"),
    ...                 np.arange(12))
    >>> tasks = Tasks([domain], shots=2, queries=2)
    >>> model = Direct(FewShot(conv4(width=2, size=16), Matching()))
    >>> len(meta_evaluate(model, map(tasks.task, range(4))).of_episodes)
    4
    """
    found = []
    device = device_of(model)
    for number, given in enumerate(tasks):
        others = auxiliary(number) if callable(auxiliary) else auxiliary
        task, others = placed(given, device), [placed(each, device) for each in others]
        try:
            answers = model.solve(task, derived_generator(seed, number), auxiliary=others)
        except TrainingDiverged as error:
            raise TrainingDiverged(f"task {number}: {error}") from error
        found.append(share_right(answers, task))
        if progress is not None:
            so_far = Accuracy(np.array(found))
            progress(Running(len(found), planned, so_far.mean, so_far.interval))
    if not found:
        raise InputError("tasks must hold at least one task, got none")
    return Accuracy(np.array(found))


def placed(task: Episode, device: torch.device) -> Episode:
    """The task on a device; itself where it is there."""
    tensors = {name: value for name, value in vars(task).items() if isinstance(value, Tensor)}
    if all(value.device == device for value in tensors.values()):
        return task
    moved = copy.copy(task)  # what it is checked for, each of which waits for a GPU, stays true
    for name, value in tensors.items():
        object.__setattr__(moved, name, value.to(device))
    return moved


def share_right(logarithms: Tensor, task: Episode) -> float:
    """Share of the queries whose likeliest class is right."""
    return (logarithms.argmax(1) == task.query_labels).double().mean().item()
