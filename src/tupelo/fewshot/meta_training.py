"""Meta-training: a task a step, and a run that a kill at any moment does not change."""

import csv
import io
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tupelo import checkpoints
from tupelo.errors import CheckpointError, InputError, TrainingDiverged
from tupelo.fewshot.domains import Tasks
from tupelo.fewshot.meta import EpisodicModel
from tupelo.fewshot.meta_testing import derived_generator, meta_evaluate, placed

logger = logging.getLogger(__name__)

Row = dict[str, float | int]
MAY_CHANGE = ("episodes", "patience", "checkpoint_every", "log_every")
_TRAINING, _LAYERS = 0, 1  # purposes of random numbers


@dataclass(frozen=True, kw_only=True)
class MetaSettings:
    """How to meta-train; written into the run.

    Attributes:
        episodes: tasks in all, >= 1. A finished run that is repeated with more goes on.
        per_step: tasks whose gradients are averaged for a step, >= 1.
        lr: of Adam, > 0; 1e-3 as Ravi and Larochelle.
        clip_norm: largest Euclidean norm of the gradient, > 0; 0.25 as they.
        validate_every: steps between validations, >= 1; there is one at the end.
        validate_tasks: of each validation, always the same, >= 1.
        patience: validations without a better one before training stops, >= 1; None never.
        checkpoint_every: steps between checkpoints, >= 1.
        log_every: steps between rows of the log, >= 1.
        seed: of all random choices but those of the tasks, which have their own.

    Raises:
        InputError: a number is outside its range.
    """

    episodes: int = 20_000
    per_step: int = 1
    lr: float = 1e-3
    clip_norm: float = 0.25
    validate_every: int = 1000
    validate_tasks: int = 100
    patience: int | None = None
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self):
        for name in ("lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")
        for name, value in asdict(self).items():
            least = 0 if name == "seed" else 1
            if isinstance(value, int) and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return -(-self.episodes // self.per_step)


class MetaProgress(NamedTuple):
    """What a progress callback is told after every step.

    Attributes:
        episode: tasks seen.
        episodes: in all.
        row: the newest row of the log; {} before the first.
    """

    episode: int
    episodes: int
    row: Row


@dataclass(frozen=True)
class MetaRun:
    """What meta-training came to.

    Attributes:
        best: validation of the weights in the model: "accuracy" and "interval"; {} without one.
        best_episode: tasks seen when they were found.
        history: rows of `metrics.csv`.
        stopped: "finished" or "patience".
        episodes: tasks seen.
        seconds: over all parts of the run.
    """

    best: Row
    best_episode: int
    history: list[Row]
    stopped: str
    episodes: int
    seconds: float


@dataclass
class _Position:
    """Where a run stands; with weights and optimiser, all there is to resume.

    Attributes:
        step: optimiser steps taken.
        best: validation of the best weights.
        best_step: steps taken when they were found.
        stale: validations since without a better one.
        seconds: over all parts of the run.
        rows: of the log.
        window: numbers of the steps since the last row.
    """

    step: int = 0
    best: Row | None = None
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    window: list[Row] = field(default_factory=list)


def meta_fit(
    model: EpisodicModel,
    tasks: Tasks,
    *,
    validate: Tasks | None = None,
    out: str | Path | None = None,
    settings: MetaSettings | None = None,
    progress: Callable[[MetaProgress], None] | None = None,
) -> MetaRun:
    """Train a model on tasks, one after the other; the weights best in validation stay in it.

    Task n and its random numbers follow from the seeds and n alone. So the same call on the same
    folder goes on where it stopped, also after `kill -9`, to the same bits.

    Args:
        model: trained in place, on the device its weights are on.
        tasks: of meta-training classes.
        validate: of meta-validation classes: never those of the test. They alone choose the best
            weights and, over several runs, options such as the number of updates.
        out: folder of checkpoints and `metrics.csv`; None writes nothing.
        settings: default `MetaSettings()`.
        progress: called after every step.

    Raises:
        CheckpointError: the folder holds another run, naming what differs.
        TrainingDiverged: a loss or gradient is not finite, naming task and update; the last good
            checkpoint is kept.

    >>> import numpy as np
    >>> from tupelo.fewshot import Direct, Domain, FewShot, Matching, conv4
    >>> domain = Domain("a", torch.rand(12, 1, 16, 16), np.repeat(np.arange(3), 4), ("x", "y", "z"),
    ...                 np.arange(12))
    >>> model = Direct(FewShot(conv4(width=2, size=16), Matching()))
    >>> tasks = Tasks([domain], shots=2, queries=2)
    >>> meta_fit(model, tasks, settings=MetaSettings(episodes=3)).episodes
    3
    """
    settings = settings or MetaSettings()
    folder = None if out is None else Path(out)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=settings.lr)
    store = _Store(folder, model, optimizer, _identity(model, tasks, validate, settings))
    position = store.restore()
    begun = time.perf_counter() - position.seconds
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        while not _stopped(settings, position):
            position.window.append(_step(model, tasks, optimizer, learned, settings, position.step))
            position.step += 1
            last = position.step == settings.steps
            if last or position.step % settings.log_every == 0:
                window, position.window = position.window, []
                means = {name: fmean(row[name] for row in window) for name in window[0]}
                _write(folder, settings, position, means)
            if validate is not None and (last or position.step % settings.validate_every == 0):
                found = _validate(model, validate, settings)
                if position.best is None or found["accuracy"] > position.best["accuracy"]:
                    position.best, position.best_step, position.stale = found, position.step, 0
                    store.remember_best()
                else:
                    position.stale += 1
                _write(folder, settings, position, {f"val/{k}": v for k, v in found.items()})
            if _stopped(settings, position) or position.step % settings.checkpoint_every == 0:
                position.seconds = time.perf_counter() - begun
                store.save(position)
            if progress is not None:
                row = position.rows[-1] if position.rows else {}
                seen = _episodes(settings, position.step)
                progress(MetaProgress(seen, settings.episodes, row))
    store.load_best()
    return MetaRun(
        best=position.best or {},
        best_episode=_episodes(settings, position.best_step),
        history=position.rows,
        stopped=_stopped(settings, position),
        episodes=_episodes(settings, position.step),
        seconds=position.seconds,
    )


def _stopped(settings: MetaSettings, position: _Position) -> str:
    """Why the run is over; "" while it is not."""
    if settings.patience is not None and position.stale >= settings.patience:
        return "patience"
    return "finished" if position.step >= settings.steps else ""


def _episodes(settings: MetaSettings, steps: int) -> int:
    return min(steps * settings.per_step, settings.episodes)


def _step(
    model: EpisodicModel,
    tasks: Tasks,
    optimizer: torch.optim.Optimizer,
    learned: list[nn.Parameter],
    settings: MetaSettings,
    step: int,
) -> Row:
    """One step of the optimiser; means of its numbers."""
    optimizer.zero_grad(set_to_none=True)
    numbers = range(_episodes(settings, step), _episodes(settings, step + 1))
    found = []
    for number in numbers:
        torch.manual_seed(derived_generator(settings.seed, _LAYERS, number).initial_seed())
        generator = derived_generator(settings.seed, _TRAINING, number)
        try:
            value = model.loss(placed(tasks.task(number), learned[0].device), generator)
        except TrainingDiverged as error:
            raise TrainingDiverged(f"task {number}: {error}; lower lr, or steps") from error
        if not bool(value.total.isfinite()):
            raise TrainingDiverged(
                f"task {number}: the loss on its queries became {value.total.item()}; lower lr"
            )
        (value.total / len(numbers)).backward()
        found.append({"loss": value.total.item(), **value.statistics})
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    norm = get_total_norm(gradients)
    if not bool(norm.isfinite()):
        raise TrainingDiverged(
            f"tasks {numbers[0]} to {numbers[-1]}: the gradient became {norm.item()}; lower lr"
        )
    clip_grads_with_norm_(learned, settings.clip_norm, norm)
    optimizer.step()
    means = {name: fmean(row[name] for row in found) for name in found[0]}
    return {**means, "gradient": norm.item()}


def _validate(model: EpisodicModel, validate: Tasks, settings: MetaSettings) -> Row:
    chosen = map(validate.task, range(settings.validate_tasks))
    found = meta_evaluate(model, chosen, seed=settings.seed)
    return {"accuracy": found.mean, "interval": found.interval}


def _write(folder: Path | None, settings: MetaSettings, position: _Position, row: Row) -> None:
    """A row more; the file is replaced whole, so that it always is what was logged."""
    position.rows.append({"episode": _episodes(settings, position.step), **row})
    if folder is None:
        return
    columns = list(dict.fromkeys(name for row in position.rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(position.rows)
    unfinished = folder / "metrics.writing"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text.getvalue())
        unfinished.replace(folder / "metrics.csv")
    except OSError as error:
        logger.warning("cannot write %s (%s); training goes on", folder / "metrics.csv", error)


class _Store:
    """The last two checkpoints of a run, and the best weights."""

    def __init__(
        self,
        folder: Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        identity: dict,
    ):
        self._folder = None if folder is None else folder / "checkpoint"
        self._model = model
        self._optimizer = optimizer
        self._identity = identity
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._best: dict[str, Tensor] | None = None
        self._best_name: str | None = None
        self._kept: list[str] = []

    def restore(self) -> _Position:
        """The newest sound checkpoint, or the beginning."""
        found = None if self._folder is None else checkpoints.newest(self._folder, "last")
        if found is None:
            return _Position()
        if found.record["identity"] != self._identity:
            raise CheckpointError(
                f"{found.path} belongs to another run: "
                f"{'; '.join(_differences(found.record['identity'], self._identity))}. Use these "
                "values again to resume it, or another folder as out"
            )
        checkpoints.restore_module(self._model, found.tensors, "model/")
        checkpoints.restore_optimizer(self._optimizer, found.tensors, self._names)
        position = _Position(**found.record["position"])
        self._kept = [found.path.name]
        self._best_name = found.record["best"]
        if self._best_name is not None:
            self._kept.append(self._best_name)
            try:
                self._best = checkpoints.load(found.path.parent / self._best_name).tensors
            except CheckpointError as error:
                logger.warning(
                    "the best weights are lost, the next validation finds new: %s", error
                )
                self._best_name, position.best = None, None
        return position

    def remember_best(self) -> None:
        """The weights as they are now are the best."""
        state = checkpoints.module_tensors(self._model, "model/")
        self._best = {name: value.detach().clone() for name, value in state.items()}
        self._best_name = None

    def load_best(self) -> None:
        """Put the best weights into the model, if there are any."""
        if self._best is not None:
            checkpoints.restore_module(self._model, self._best, "model/")

    def save(self, position: _Position) -> None:
        """Write a checkpoint; where that fails, earlier ones stay and training goes on."""
        if self._folder is None:
            return
        tensors = {
            **checkpoints.module_tensors(self._model, "model/"),
            **checkpoints.optimizer_tensors(self._optimizer, self._names),
        }
        try:
            if self._best is not None and self._best_name is None:
                self._best_name = checkpoints.save(
                    self._folder, "best", position.best_step, self._best, {"best": position.best}
                )
            record = {
                "position": asdict(position),
                "best": self._best_name,
                "identity": self._identity,
            }
            name = checkpoints.save(self._folder, "last", position.step, tensors, record)
            now = [name, *([self._best_name] if self._best_name else [])]
            checkpoints.prune(self._folder, [*self._kept, *now])
            self._kept = now
        except OSError as error:
            logger.warning(
                "no checkpoint at step %d: cannot write to %s (%s); training goes on",
                position.step,
                self._folder,
                error,
            )


def _identity(
    model: EpisodicModel, tasks: Tasks, validate: Tasks | None, settings: MetaSettings
) -> dict:
    """What decides the course of a run, as JSON values."""
    options = {
        name: {
            "class": type(module).__name__,
            **{
                key: value
                for key, value in vars(module).items()
                if not key.startswith("_") and key != "training" and _plain(value)
            },
        }
        for name, module in model.named_modules()
    }
    weights = {name: list(value.shape) for name, value in model.state_dict().items()}
    described = {
        "settings": {k: v for k, v in asdict(settings).items() if k not in MAY_CHANGE},
        "options": {k: v for k, v in options.items() if len(v) > 1},
        "weights": weights,
        "tasks": tasks.identity(),
        "validate": None if validate is None else validate.identity(),
    }
    return json.loads(json.dumps(described))


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _differences(before: dict, now: dict, name: str = "") -> list[str]:
    found = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key, "absent"), now.get(key, "absent")
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{name}{key}.")
        elif one != other:
            found.append(f"{name}{key} was {one!r}, is {other!r}")
    return found[:5]
