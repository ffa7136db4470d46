"""All numbers of a training run in one frozen record."""

import operator
from dataclasses import asdict, dataclass
from typing import Literal

from tupelo.errors import InputError

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "constant", "step", "halving"]
Precision = Literal["auto", "float32", "bfloat16"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]

MAY_CHANGE = frozenset(
    {
        "epochs",
        "steps",
        "patience",
        "evaluate_every",
        "checkpoint_every",
        "log_every",
        "workers",
        "tensorboard",
    }
)
"""Settings that a resumed run may change; they do not alter the steps already taken."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; validated once, written into the run.

    Attributes:
        epochs: passes over the training set, >= 1. When a finished run is repeated with more, it
            continues, and the schedule is that of the longer run from there on.
        steps: optimiser steps, >= 1, instead of `epochs`; the last epoch is cut short.
        classes: classes a batch, P >= 2.
        per_class: items a class in a batch, K >= 2; easy positive sampling needs K >= 3.
        lr: peak learning rate of the network, > 0; what the objective learns has its own rates.
        head_rate: factor on `lr` of the model's head, > 0; papers on fine-tuning often take 10.
        weight_decay: of the network's weights, >= 0; biases and normalisation have none.
        optimizer: "adamw" (decoupled decay), "adam" or "sgd".
        momentum: of "sgd", in [0, 1).
        schedule: factor on all learning rates over the run: "cosine" to zero, "constant", "step",
            which multiplies by `step_factor` at each of `step_at`, or "halving", which halves them
            every `halve_every` steps, so that a longer run begins as a shorter one does.
        step_at: shares of the run in (0, 1).
        step_factor: in (0, 1].
        halve_every: steps, >= 1.
        warmup_steps: steps of linear rise before, >= 0.
        clip_norm: largest Euclidean norm of the network's gradient, > 0; None never clips.
        precision: of the network; "auto" is bfloat16 where the hardware computes faster in it.
            Losses, statistics, weights and optimiser state are always float32.
        chunk: rows a process holds in memory at once, >= 1, for exact large batches: embeddings
            first, then gradients chunk by chunk. None computes the batch in one piece.
        patience: evaluations without a better validation MAP@R before training stops, >= 1;
            None never stops early.
        evaluate_every: epochs between evaluations, >= 1; the last epoch is always evaluated.
        checkpoint_every: steps between checkpoints, >= 1; one follows each epoch anyway. None
            writes only those.
        log_every: steps between rows of `metrics.csv`, >= 1.
        seed: of all randomness, in [0, 2**63).
        workers: processes that prepare batches, >= 0; the batches do not depend on it.
        processes: training processes, one a device, >= 1. A batch is divided among them; losses
            see all of it. Under `torchrun` its processes are joined instead.
        accelerator: kind of device; "auto" takes what is there.
        tensorboard: also log there; None does so when the extra is installed.

    Raises:
        InputError: a value is outside its range, or not an integer where one is needed.

    >>> Settings(epochs=2, lr=1e-3).batch_size
    64
    """

    epochs: int = 30
    steps: int | None = None
    classes: int = 16
    per_class: int = 4
    lr: float = 3e-4
    head_rate: float = 1.0
    weight_decay: float = 1e-4
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    step_at: tuple[float, ...] = (0.6, 0.85)
    step_factor: float = 0.1
    halve_every: int = 2000
    warmup_steps: int = 0
    clip_norm: float | None = None
    precision: Precision = "auto"
    chunk: int | None = None
    patience: int | None = None
    evaluate_every: int = 1
    checkpoint_every: int | None = 500
    log_every: int = 50
    seed: int = 0
    workers: int = 0
    processes: int = 1
    accelerator: Accelerator = "auto"
    tensorboard: bool | None = None

    def __post_init__(self):
        for name in (*_AT_LEAST, "seed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _integer(name, getattr(self, name)))
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be >= {least}, got {value}")
        for name in ("lr", "head_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} must be a number > 0, got {value}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay must be a number >= 0, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), got {self.momentum}")
        if not all(0 < share < 1 for share in self.step_at):
            raise InputError(f"step_at must be shares of the run in (0, 1), got {self.step_at}")
        if not 0 < self.step_factor <= 1:
            raise InputError(f"step_factor must be in (0, 1], got {self.step_factor}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be in [0, 2**63), got {self.seed}")
        for name, kinds in _CHOICES.items():
            if getattr(self, name) not in kinds:
                raise InputError(
                    f"{name} must be one of {', '.join(kinds)}, got {getattr(self, name)!r}"
                )

    @property
    def batch_size(self) -> int:
        """Items a batch over all processes, P K."""
        return self.classes * self.per_class

    def as_dict(self) -> dict:
        """The record as JSON values."""
        plain = {**asdict(self), "step_at": list(self.step_at)}
        if self.schedule != "halving":
            del plain["halve_every"]  # so that runs from before there was one go on
        return plain


def _integer(name: str, value: object) -> int:
    """Integers of any type, such as NumPy's, as Python's own, which JSON knows."""
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise InputError(f"{name} must be an integer, got {value!r}; round it") from None


_AT_LEAST = {
    "epochs": 1,
    "steps": 1,
    "classes": 2,
    "per_class": 2,
    "halve_every": 1,
    "warmup_steps": 0,
    "chunk": 1,
    "patience": 1,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "workers": 0,
    "processes": 1,
}
_CHOICES = {
    "optimizer": Optimizer.__args__,
    "schedule": Schedule.__args__,
    "precision": Precision.__args__,
    "accelerator": Accelerator.__args__,
}
