"""`fit`: one call trains, in one process or several, and continues where a run stopped."""

import contextlib
import copy
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning_fabric import Fabric
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from tupelo import checkpoints, errors
from tupelo.data import ClassBalanced, ImageSet
from tupelo.data.imageset import Augment
from tupelo.data.loader import BatchMaker
from tupelo.errors import InputError, TupeloError
from tupelo.inference import Precision, fast_precision
from tupelo.training.loop import train
from tupelo.training.records import Job, Judge, Progress, Run
from tupelo.training.settings import Settings
from tupelo.types import Objective

_FABRIC_PRECISION: dict[str, Precision] = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def fit(
    model: nn.Module,
    objective: Objective,
    train: ImageSet,
    *,
    validate: ImageSet | None = None,
    out: str | Path | None = None,
    settings: Settings | None = None,
    batches: BatchMaker | None = None,
    augment: Augment | None = None,
    judge: Judge | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Train a model; repeating the call with the same `out` continues where it was interrupted.

    Every random number of a step is derived from (seed, epoch, step), so a run that was killed at
    any moment and continued has, on a CPU, bit for bit the weights of an uninterrupted one; the
    global random state of the caller is left as it was. Afterwards the model holds the weights
    with the best validation MAP@R, or the best by `judge`, or the last ones without validation,
    and is in train mode.

    Args:
        model: from pictures (b, c, h, w) to `Embedded`, or to one per learner.
        objective: what is learned; its own parameters are trained with their own rates.
        train: the training set.
        validate: held-out classes that choose the best weights and stop the run early; never
            the test set.
        out: folder of the run: `metrics.csv`, `checkpoint/`, `model/`, and `sections.json` where
            model or objective have something to show. None writes nothing, and
            nothing can be resumed.
        settings: how; default `Settings()`.
        batches: which items make a batch; default `ClassBalanced` of P = `settings.classes` and
            K = `settings.per_class`, in which every item occurs once an epoch or more.
        augment: applied to the pictures of a batch, such as `default_augmentation(size)`.
        judge: measures the model instead of `validate`, such as
            `Judge(fewshot.ByEpisodes(...), best="accuracy")`; give one of them.
        progress: called after every step, in this process.

    Returns:
        The `Run`. A finished run returns at once.

    Raises:
        InputError: an empty training set, a setting that does not suit the model or the machine,
            a batch smaller than the number of processes, `validate` and `judge` together, or a
            judge whose numbers lack the one that chooses.
        CheckpointError: `out` holds another run (what differs is named), or its checkpoints are
            all damaged.
        TrainingDiverged: a loss or gradient became NaN or infinite; names its parts and step.
        MissingExtra: TensorBoard is asked for and not installed.

    >>> import numpy as np
    >>> from tupelo.losses import Contrastive
    >>> from tupelo.models import embedder
    >>> from tupelo.objectives import OnPairs
    >>> pictures = np.random.default_rng(0).integers(256, size=(8, 16, 16), dtype=np.uint8)
    >>> data = ImageSet.from_arrays(pictures, [0, 0, 1, 1, 2, 2, 3, 3])
    >>> settings = Settings(epochs=2, classes=2, per_class=2)
    >>> fit(embedder(dim=4, channels=1), OnPairs(Contrastive()), data, settings=settings).steps
    4
    """
    settings = settings or Settings()
    if len(train) == 0:
        raise InputError("train must hold at least one picture, got none")
    if batches is None:
        batches = ClassBalanced(
            train.labels,
            classes=settings.classes,
            per_class=settings.per_class,
            seed=settings.seed,
        )
    if validate is not None:
        _check_validation(validate)
    if validate is not None and judge is not None:
        raise InputError("give validate or judge, not both: one number chooses the best weights")
    folder = Path(out) if out else None
    job = Job(model, objective, train, validate, folder, settings, batches, augment, judge)
    report = progress or _nothing
    with _caller_randomness_kept(), _quiet_fabric():
        if settings.processes > 1 and not dist.is_torchelastic_launched():
            return _in_processes(job, report)
        return _in_this_process(job, report)


def _check_validation(validate: ImageSet) -> None:
    labels = validate.labels
    if len(validate) == 0 or (labels.ndim == 1 and np.bincount(labels).max() < 2):
        raise InputError(
            "validate must hold a class with at least two pictures, or MAP@R is undefined, got "
            f"{len(validate)} pictures of {validate.n_classes} classes; validate on more classes"
        )


def _nothing(progress: Progress) -> None:
    pass


@contextmanager
def _caller_randomness_kept() -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


@contextmanager
def _quiet_fabric() -> Iterator[None]:
    """Fabric prints what it sets up through loggers with handlers of their own."""
    chatty = logging.getLogger("lightning_fabric")
    level = chatty.level
    chatty.setLevel(logging.WARNING)
    try:
        yield
    finally:
        chatty.setLevel(level)


def _in_this_process(job: Job, report: Callable[[Progress], None]) -> Run:
    fabric = _fabric(job)
    fabric.launch()
    return train(fabric, job, report)


def _fabric(job: Job) -> Fabric:
    settings = job.settings
    kind = _device_kind(settings)
    precision = _FABRIC_PRECISION.get(settings.precision) or fast_precision(job.model, kind)
    world, local = 1, 1
    strategy = "auto"
    if dist.is_torchelastic_launched():
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        strategy = "ddp"
    elif settings.processes > 1:
        world = local = settings.processes
        strategy = "ddp_spawn"
    if kind == "cuda" and local > torch.cuda.device_count():
        raise InputError(
            f"processes must not exceed the devices, got {local} processes and "
            f"{torch.cuda.device_count()} GPUs; lower it or set accelerator='cpu'"
        )
    return Fabric(
        accelerator=kind,
        devices=local,
        num_nodes=world // local,
        strategy=strategy,
        precision=precision,
    )


def _device_kind(settings: Settings) -> str:
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if settings.accelerator == "auto":
        return next(kind for kind, there in present.items() if there)
    if not present[settings.accelerator]:
        raise InputError(
            f"accelerator={settings.accelerator!r} is not on this machine; use 'auto' or 'cpu'"
        )
    return settings.accelerator


def _in_processes(job: Job, report: Callable[[Progress], None]) -> Run:
    """Train in fresh processes; what they learned comes back in a folder, not in a pickle."""
    job.model.cpu()
    job.objective.cpu()
    with tempfile.TemporaryDirectory(prefix="tupelo-") as name, _relay(report) as sender:
        folder = Path(name)
        try:
            _fabric(job).launch(partial(_one_of_several, job=job, folder=folder, sender=sender))
        except ProcessRaisedException as error:
            raise _told(folder, error) from error
        result = checkpoints.newest(folder, "result")
    assert result is not None  # noqa: S101  (the first process wrote it, or one raised)
    checkpoints.restore_module(job.model, result.tensors, "model/")
    checkpoints.restore_module(job.objective, result.tensors, "objective/")
    return Run(folder=job.out, **result.record)


def _one_of_several(fabric: Fabric, *, job: Job, folder: Path, sender: Connection) -> None:
    # weights arrive in memory that the processes share; each needs its own. Copied together, so
    # that an objective that refers to the model still does
    model, objective = copy.deepcopy((job.model, job.objective))
    job = replace(job, model=model, objective=objective)
    report = sender.send if fabric.is_global_zero else _nothing
    try:
        run = train(fabric, job, report)
    except TupeloError as error:
        failure = {"kind": type(error).__name__, "message": str(error)}
        (folder / f"error-{fabric.global_rank}.json").write_text(json.dumps(failure))
        raise
    if fabric.is_global_zero:
        tensors = {
            **checkpoints.module_tensors(job.model, "model/"),
            **checkpoints.module_tensors(job.objective, "objective/"),
        }
        record = {name: value for name, value in asdict(run).items() if name != "folder"}
        checkpoints.save(folder, "result", 0, tensors, record)


def _told(folder: Path, error: ProcessRaisedException) -> Exception:
    """The error of Tupelo that a process raised, or else the one that reports its end."""
    for path in sorted(folder.glob("error-*.json")):
        failure = json.loads(path.read_text())
        return getattr(errors, failure["kind"])(failure["message"])
    return error


@contextmanager
def _relay(report: Callable[[Progress], None]) -> Iterator[Connection]:
    """A connection whose messages, sent by another process, are reported in this one."""
    receiver, sender = mp.get_context("spawn").Pipe(duplex=False)

    def pass_on() -> None:
        with contextlib.suppress(EOFError):
            while True:
                report(receiver.recv())

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield sender
    finally:
        sender.close()
        thread.join()
