"""Where a run stands, what it is, and its checkpoints."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial, singledispatch
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from tupelo import checkpoints
from tupelo.data import ImageSet
from tupelo.errors import CheckpointError
from tupelo.training.settings import MAY_CHANGE, Settings

logger = logging.getLogger(__name__)


@dataclass
class Position:
    """Where a run stands; with the weights and the optimiser state, all there is to resume.

    Random numbers are derived from the seed, the epoch and the step, so no generator is saved.

    Attributes:
        epoch: the running epoch, from 0.
        batch: batches done of it.
        step: optimiser steps taken.
        best: validation metrics of the best weights; None before the first evaluation.
        best_step: steps taken when they were found.
        stale: evaluations since without a better one.
        rows: rows of `metrics.csv` written.
        seconds: time spent, over all parts of the run.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: dict[str, float] | None = None
    best_step: int = 0
    stale: int = 0
    rows: int = 0
    seconds: float = 0.0


class Store:
    """The checkpoints of one run: the last two, and the best weights they refer to.

    Args:
        folder: where they live; None keeps the best weights in memory and writes nothing.
        model: saved with
        objective: all it learns and remembers, and with
        optimizer: its state.
        identity: what a resumed run must have in common with the first one; see `identity`.
        writes: this process writes; the others only read.
    """

    def __init__(
        self,
        folder: Path | None,
        model: nn.Module,
        objective: nn.Module,
        optimizer: Optimizer,
        identity: dict,
        *,
        writes: bool = True,
    ):
        self._folder = folder
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._identity = identity
        self._writes = writes
        self._parameters = {
            id(parameter): f"{kind}/{name}"
            for kind, module in (("model", model), ("objective", objective))
            for name, parameter in module.named_parameters()
        }
        self._best: dict[str, Tensor] | None = None
        self._best_name: str | None = None
        self._previous: list[str] = []

    def restore(self) -> Position:
        """Bring back the newest sound checkpoint; a fresh position when there is none.

        Best weights that are damaged or gone are dropped with a warning: the next evaluation
        finds new ones, and no training is lost.

        Raises:
            CheckpointError: it belongs to another run, naming what differs, or all are damaged.
        """
        found = None if self._folder is None else checkpoints.newest(self._folder, "last")
        if found is None:
            return Position()
        _compare(found.record["identity"], self._identity, found.path)
        checkpoints.restore_module(self._model, found.tensors, "model/")
        checkpoints.restore_module(self._objective, found.tensors, "objective/")
        checkpoints.restore_optimizer(self._optimizer, found.tensors, self._parameters)
        position = Position(**found.record["position"])
        self._best_name = found.record["best"]
        if self._best_name is not None:
            try:
                self._best = checkpoints.load(found.path.parent / self._best_name).tensors
            except CheckpointError as error:
                logger.warning(
                    "the best weights so far are lost (%s); going on from %s without them, the "
                    "next evaluation sets a new best",
                    error,
                    found.path,
                )
                self._best_name = None
                position = replace(position, best=None, best_step=0, stale=0)
        self._previous = [found.path.name, *([self._best_name] if self._best_name else [])]
        return position

    def remember_best(self) -> None:
        """Keep the present weights of the model as the best."""
        state = checkpoints.module_tensors(self._model, "model/")
        self._best = {name: value.detach().cpu().clone() for name, value in state.items()}
        self._best_name = None

    def save(self, position: Position) -> None:
        """Write a checkpoint; a failure is logged, leaves the earlier ones, and training goes on.

        The best weights are written first, so a checkpoint never refers to missing ones.
        """
        if self._folder is None or not self._writes:
            return
        try:
            self._save_best(self._folder, position)
            self._save_last(self._folder, position)
        except OSError as error:
            logger.warning(
                "no checkpoint at step %d: cannot write to %s (%s); training goes on, the "
                "earlier checkpoint is kept",
                position.step,
                self._folder,
                error,
            )

    def load_best(self) -> bool:
        """Put the best weights into the model, if any were remembered."""
        if self._best is None:
            return False
        checkpoints.restore_module(self._model, self._best, "model/")
        return True

    def _save_best(self, folder: Path, position: Position) -> None:
        if self._best is not None and self._best_name is None:
            self._best_name = checkpoints.save(
                folder, "best", position.best_step, self._best, {"metrics": position.best}
            )

    def _save_last(self, folder: Path, position: Position) -> None:
        tensors = {
            **checkpoints.module_tensors(self._model, "model/"),
            **checkpoints.module_tensors(self._objective, "objective/"),
            **checkpoints.optimizer_tensors(self._optimizer, self._parameters),
        }
        record = {
            "position": asdict(position),
            "best": self._best_name,
            "identity": self._identity,
        }
        name = checkpoints.save(folder, "last", position.step, tensors, record)
        present = [name, *([self._best_name] if self._best_name else [])]
        checkpoints.prune(folder, [*self._previous, *present])
        self._previous = present


def identity(
    model: nn.Module,
    objective: nn.Module,
    train: ImageSet,
    settings: Settings,
    *,
    validate: ImageSet | None = None,
    **more,
) -> dict:
    """What decides the course of a run, as JSON values, by which a resumed run is recognised.

    Args:
        model: its architecture, not its weights.
        objective: its kind and options.
        train: the training set, by size and labels.
        settings: those that may not change.
        validate: the validation set, by size, labels and items; scores on another one could not
            be compared with the best so far.
        more: further values, such as the precision that "auto" came to.
    """
    described = {
        "settings": {k: v for k, v in settings.as_dict().items() if k not in MAY_CHANGE},
        "model": describe(model),
        "objective": describe(objective),
        "train": {"items": len(train), "labels": _digest(train.labels)},
        **{name: describe(value) for name, value in more.items()},
    }
    if validate is not None:
        described["validate"] = {
            "items": len(validate),
            "labels": _digest(validate.labels),
            "identities": _digest(validate.items),
        }
    return json.loads(json.dumps(described))


def _digest(array: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _compare(saved: dict, present: dict, path: Path) -> None:
    before, now = dict(_flat(saved)), dict(_flat(present))
    differing = [
        f"{name} was {before.get(name, 'absent')!r}, is {now.get(name, 'absent')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "absent") != now.get(name, "absent")
    ]
    if differing:
        shown = "; ".join(differing[:5]) + (
            f"; and {len(differing) - 5} more" * (len(differing) > 5)
        )
        raise CheckpointError(
            f"{path} belongs to another run: {shown}. Use these values again to resume it, or "
            "another folder as out"
        )


def _flat(value, name: str = ""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


@singledispatch
def describe(value) -> object:
    """Kind and public options of an object, as JSON values; learned state is left out.

    >>> describe(nn.Dropout(0.5))["p"]
    0.5
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class": kind, **_options(value)}


@describe.register(str | int | float | bool | None)
def _(value):
    return value


@describe.register(np.generic)
def _(value):
    return describe(value.item())


@describe.register(partial)
def _(value):
    return {"partial": describe([value.func, value.args, value.keywords])}


@describe.register(tuple | list)
def _(value):
    return [describe(inner) for inner in value]


@describe.register(set | frozenset)
def _(value):
    return sorted(map(repr, value))


@describe.register(dict)
def _(value):
    return {str(key): describe(inner) for key, inner in value.items()}


@describe.register(FunctionType | BuiltinFunctionType | type)
def _(value):
    return f"{value.__module__}.{value.__qualname__}"


@describe.register(Tensor | np.ndarray)
def _(value):
    return f"{value.dtype} {tuple(value.shape)}"


@describe.register(nn.Module)
def _(value):
    own = {**value._parameters, **value._buffers, **value._modules}
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class": kind, **_options(value), **{name: describe(own[name]) for name in own}}


def _options(value) -> dict:
    public = getattr(value, "__dict__", {}).items()
    return {
        name: describe(inner)
        for name, inner in public
        if not name.startswith("_") and name != "training"
    }
