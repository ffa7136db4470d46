"""The training loop: epochs of steps, each from its own random numbers."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tupelo import inference, models
from tupelo.data import Batch, loader
from tupelo.distributed import rebuilt, share_number, share_state
from tupelo.errors import InputError
from tupelo.models import VAE, Embedder, Ensemble
from tupelo.training.logs import Log, Row, Window
from tupelo.training.optimizers import build_optimizer, rate_factor, set_rates
from tupelo.training.records import Job, Progress, Run, SavesItself
from tupelo.training.resuming import Position, Store, identity
from tupelo.training.settings import Settings
from tupelo.training.showing import keep_sections
from tupelo.training.steps import Seeds, Step, in_chunks, one_piece
from tupelo.types import Embedded

OF_LEARNERS = ("mean_recall@1", "mean_map@r", "correlation", "self_cosine")  # logged besides


class _Parts(NamedTuple):
    """What one process works with, all on its device."""

    fabric: Fabric
    job: Job
    network: _FabricModule  # the model, in its precision, and synchronised between processes
    step: Step
    optimizer: torch.optim.Optimizer
    store: Store
    log: Log
    report: Callable[[Progress], None]
    layout: torch.memory_format
    begun: float  # on the clock, less the time of earlier parts of the run


def train(fabric: Fabric, job: Job, report: Callable[[Progress], None]) -> Run:
    """Train in this process, from wherever the run stands; all processes call it alike."""
    parts, position = _prepare(fabric, job, report)
    trained = False
    try:
        while not _stopped(job.settings, position):
            trained = True
            _epoch(parts, position)
            _save(parts, position)
    finally:
        parts.log.close()
    parts.store.load_best()
    if fabric.is_global_zero:
        _save_model(job, position, anew=trained)
        keep_sections(job, anew=trained)
    return Run(
        folder=job.out,
        best=position.best or {},
        history=parts.log.rows,
        stopped=_stopped(job.settings, position),
        epochs=position.epoch,
        steps=position.step,
        seconds=position.seconds,
    )


def _prepare(
    fabric: Fabric, job: Job, report: Callable[[Progress], None]
) -> tuple[_Parts, Position]:
    settings, model, objective = job.settings, job.model, job.objective
    known = identity(
        model,
        objective,
        job.train,
        settings,
        validate=job.validate,
        precision=_precision(fabric),
        batches=job.batches,
        augment=job.augment,
        **({} if job.judge is None else {"judge": job.judge}),
    )
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        convert_sync_batchnorm(model)
    layout = torch.channels_last if _channels_last(fabric) else torch.contiguous_format
    model.to(memory_format=layout).train()
    network = fabric.setup_module(model)
    objective.to(fabric.device).train()
    if settings.chunk is None:
        step = one_piece(fabric, network, objective)
    else:
        step = in_chunks(fabric, network, objective, settings.chunk)
    optimizer = build_optimizer(model, objective, settings)
    store = Store(
        None if job.out is None else job.out / "checkpoint",
        model,
        objective,
        optimizer,
        known,
        writes=fabric.is_global_zero,
    )
    position = store.restore()
    share_state(objective)
    log = Log(
        job.out if fabric.is_global_zero else None,
        keep=position.rows,
        tensorboard=settings.tensorboard,
    )
    begun = time.perf_counter() - position.seconds
    return _Parts(
        fabric, job, network, step, optimizer, store, log, report, layout, begun
    ), position


def _precision(fabric: Fabric) -> inference.Precision:
    return "bf16-mixed" if fabric.strategy.precision.precision == "bf16-mixed" else "32-true"


def _channels_last(fabric: Fabric) -> bool:
    return fabric.device.type == "cpu" or _precision(fabric) == "bf16-mixed"


def _stopped(settings: Settings, position: Position) -> str:
    """Why the run is over; "" while it is not."""
    if position.batch > 0:
        return ""
    if settings.patience is not None and position.stale >= settings.patience:
        return "patience"
    if settings.steps is None:
        return "finished" if position.epoch >= settings.epochs else ""
    return "finished" if position.step >= settings.steps else ""


def _epoch(parts: _Parts, position: Position) -> None:
    """From wherever the epoch stands to its end, evaluated and logged."""
    job, settings = parts.job, parts.job.settings
    plan = job.batches.epoch(position.epoch)
    if settings.steps is not None:
        plan = plan[: settings.steps - position.step + position.batch]
    count = len(plan)
    if position.batch == 0:
        _begin_epoch(parts, position)
    window = Window()
    for batch in _batches(parts, plan, position):
        _take_step(parts, position, batch, count, window)
        position.batch += 1
        position.step += 1
        save = position.batch < count and _due(settings.checkpoint_every, position.step)
        if save or _due(settings.log_every, position.step):
            _write_row(parts, position, window.means())
            window = Window()
        if save:
            _save(parts, position)
        row = parts.log.rows[-1] if parts.log.rows else {}
        epochs = 0 if settings.steps is not None else settings.epochs
        parts.report(Progress(position.epoch + 1, epochs, position.batch, count, row))
    window.check()
    job.objective.end_epoch()
    position.epoch, position.batch = position.epoch + 1, 0
    means = window.means()
    _write_row(parts, position, {**means, **_evaluate(parts, position)})


def _save(parts: _Parts, position: Position) -> None:
    position.rows = len(parts.log.rows)
    position.seconds = time.perf_counter() - parts.begun
    parts.store.save(position)


def _due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _begin_epoch(parts: _Parts, position: Position) -> None:
    job = parts.job
    Seeds(job.settings.seed, position.epoch, -1, parts.fabric.global_rank, position.step).reseed(0)
    with inference.evaluating(job.model):
        job.objective.begin_epoch(lambda: _embed_train(parts))
    share_state(job.objective)


def _embed_train(parts: _Parts) -> Iterator[tuple[Embedded, Tensor]]:
    """The training set in order, not augmented, embedded batch by batch."""
    job = parts.job
    size = job.settings.chunk or job.settings.batch_size
    for rows in np.split(np.arange(len(job.train)), range(size, len(job.train), size)):
        batch = _placed(parts, job.train.batch(rows))
        with torch.no_grad(), parts.fabric.autocast():
            output = job.model(batch.images)
        wide = rebuilt(output, lambda t: t if t.dtype == torch.float64 else t.float())
        yield wide, batch.labels  # pyright: ignore[reportReturnType]


def _batches(parts: _Parts, plan: Sequence[np.ndarray], position: Position) -> Iterator[Batch]:
    job, fabric = parts.job, parts.fabric
    made = loader(
        job.train,
        _Planned(plan),
        epoch=position.epoch,
        start=position.batch,
        augment=job.augment,
        seed=job.settings.seed,
        workers=job.settings.workers,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    for batch in made:
        yield _placed(parts, batch)


class _Planned(NamedTuple):
    """Batches already made for the epoch, so that they are not made twice."""

    plan: Sequence[np.ndarray]

    def epoch(self, number: int) -> Sequence[np.ndarray]:
        return self.plan


def _placed(parts: _Parts, batch: Batch) -> Batch:
    device = parts.fabric.device
    return Batch(
        batch.images.to(device, non_blocking=True, memory_format=parts.layout),
        batch.labels.to(device, non_blocking=True),
        batch.items.to(device, non_blocking=True),
    )


def _take_step(parts: _Parts, position: Position, batch: Batch, count: int, window: Window) -> None:
    job, settings = parts.job, parts.job.settings
    progress = (
        (position.epoch + position.batch / count) / settings.epochs
        if settings.steps is None
        else position.step / settings.steps
    )
    set_rates(parts.optimizer, rate_factor(settings, step=position.step, progress=progress))
    parts.optimizer.zero_grad(set_to_none=True)
    seeds = Seeds(
        settings.seed, position.epoch, position.batch, parts.fabric.global_rank, position.step
    )
    value = parts.step(batch, seeds)
    norm = _limit(job.model, job.objective, settings.clip_norm)
    window.add(position.step, value, norm, len(batch.images) * parts.fabric.world_size)
    if parts.fabric.device.type == "cpu":
        window.check()
    parts.optimizer.step()


def _limit(model: nn.Module, objective: nn.Module, clip_norm: float | None) -> Tensor:
    """Clip the gradient of the network; the norm of all gradients before that."""
    norm, learned = (
        get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        for module in (model, objective)
    )
    if clip_norm is not None:
        clip_grads_with_norm_(model.parameters(), clip_norm, norm)
    return torch.hypot(norm, learned.to(norm.device))


def _write_row(parts: _Parts, position: Position, numbers: Row) -> None:
    rate = parts.optimizer.param_groups[0]["lr"]
    parts.log.write({"step": position.step, "epoch": position.epoch, "lr": rate, **numbers})


def _evaluate(parts: _Parts, position: Position) -> Row:
    """Measure the validation set where it is due; the best weights are remembered."""
    job, settings = parts.job, parts.job.settings
    due = _due(settings.evaluate_every, position.epoch) or _stopped(settings, position)
    if (job.validate is None and job.judge is None) or not due:
        return {}
    chooses = "map@r" if job.judge is None else job.judge.best
    metrics, more = {}, {}
    if parts.fabric.is_global_zero:
        metrics, more = _measured(parts)
    score = share_number(metrics.get(chooses, 0.0), parts.fabric.device)
    if position.best is None or score > position.best[chooses]:
        position.best = {**metrics, chooses: score}
        position.best_step, position.stale = position.step, 0
        parts.store.remember_best()
    else:
        position.stale += 1
    return {f"val/{name}": number for name, number in (metrics | more).items()}


def _measured(parts: _Parts) -> tuple[Row, Row]:
    """What is kept of the best weights, and what is only logged besides."""
    job = parts.job
    if job.judge is not None:
        with parts.fabric.autocast(), torch.no_grad():
            found = {name: float(number) for name, number in job.judge.measure(job.model).items()}
        if job.judge.best not in found:
            raise InputError(
                f"judge.best must be a number that the judge measures, got {job.judge.best!r}; it "
                f"measures {', '.join(found) or 'none'}"
            )
        return found, {}
    assert job.validate is not None  # noqa: S101  (or there is nothing to measure)
    precision = _precision(parts.fabric)
    report = inference.evaluate(job.model, job.validate, clustering=False, precision=precision)
    metrics = {name: float(number) for name, number in report.as_dict().items()}
    known = {} if report.learners is None else report.learners.as_dict()
    return metrics, {name: float(known[name]) for name in OF_LEARNERS if name in known}


def _save_model(job: Job, position: Position, *, anew: bool) -> None:
    """Leave `model/` in the run, for models that can be rebuilt from a folder."""
    if job.out is None or not isinstance(job.model, (Embedder, Ensemble, VAE, SavesItself)):
        return
    if (job.out / "model").exists() and not anew:
        return
    about = {
        "pictures": job.train.frame._asdict(),  # how others are to be prepared for this model
        "settings": job.settings.as_dict(),
        "steps": position.step,
        "best_step": position.best_step if position.best else position.step,
        "validation": position.best or {},
    }
    if isinstance(job.model, (Embedder, Ensemble, VAE)):
        models.save(job.model, job.out / "model", about=about)
    elif isinstance(job.model, SavesItself):
        job.model.save(job.out / "model", about=about)
