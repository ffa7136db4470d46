"""What a training run is asked to do, what it tells meanwhile, and what it came to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import nn

from tupelo.data import ImageSet
from tupelo.data.imageset import Augment
from tupelo.data.loader import BatchMaker
from tupelo.training.logs import Row
from tupelo.training.settings import Settings
from tupelo.types import Objective


@runtime_checkable
class SavesItself(Protocol):
    """A model that can write itself into a folder, such as a few-shot learner."""

    def save(self, folder: str | Path, *, about: dict[str, Any] | None = None) -> Path: ...


class Judge(NamedTuple):
    """How a model is measured while it trains, where that is not retrieval on held-out classes.

    Attributes:
        measure: from the model, which it leaves in train mode, to named numbers.
        best: the name of the one, the higher the better, that chooses the best weights.
    """

    measure: Callable[[Any], dict[str, float]]
    best: str


@dataclass(frozen=True)
class Job:
    """What is to be trained on what, and how."""

    model: nn.Module
    objective: Objective
    train: ImageSet
    validate: ImageSet | None
    out: Path | None
    settings: Settings
    batches: BatchMaker
    augment: Augment | None
    judge: Judge | None = None


@dataclass(frozen=True)
class Run:
    """What a training run came to.

    Attributes:
        folder: of the run, or None.
        best: validation metrics of the weights in the model; {} without validation.
        history: the rows of `metrics.csv`: step, epoch, means of losses and statistics since the
            row before, learning rate, images per second; validation metrics after an epoch.
        stopped: "finished", or "patience" when validation no longer improved.
        epochs: epochs trained.
        steps: optimiser steps taken.
        seconds: time spent, over all parts of a resumed run.
    """

    folder: Path | None
    best: Row
    history: list[Row]
    stopped: str
    epochs: int
    steps: int
    seconds: float


class Progress(NamedTuple):
    """What a progress callback is told after every step.

    Attributes:
        epoch: the running one, from 1.
        epochs: planned; 0 when the run is given in steps.
        batch: batches done of this epoch.
        batches: of this epoch.
        row: the newest row of the log; {} before the first.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    row: Row
