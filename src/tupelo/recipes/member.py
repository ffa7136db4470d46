"""One member of an ensemble, trained in a run directory of its own."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from tupelo.data import ImageSet, Shuffled
from tupelo.data.loader import BatchMaker
from tupelo.ensembles.dreml import MetaClassification
from tupelo.errors import InputError, TupeloError
from tupelo.models.saving import WEIGHTS, replace_file
from tupelo.objectives import OnClasses
from tupelo.recipes import building, methods
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.training import Progress, Settings, fit
from tupelo.training.settings import MAY_CHANGE

FOLDER, DONE, LOCK = "members", "done.json", "lock"
WAIT_SECONDS = 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """What each member learns.

    Attributes:
        meta_classes: D, into which the classes are merged, >= 2; 12 suits about 100 classes.
        most_per_class: pictures of a class that a member sees, drawn once; the authors' code had
            100, 200 and at last 500. None: all.
        learns: "classification" of the meta-classes, as published (`MetaClassification`), or the
            "recipe", whose loss, selection and synthesis then see meta-classes for classes.
        normalize, nca, distance: of `MetaClassification`.
        width: of a member's embedding; None: D, which classification needs.
        batch: pictures in a batch of classification, drawn without regard to classes.

    Raises:
        InputError: a number is below its least, or options contradict each other.
    """

    meta_classes: int = 12
    most_per_class: int | None = 500
    learns: str = "classification"
    normalize: bool = False
    nca: bool = False
    distance: bool = False
    width: int | None = None
    batch: int = 128

    def __post_init__(self):
        for name, least in (("meta_classes", 2), ("most_per_class", 1), ("width", 1), ("batch", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if self.learns not in ("classification", "recipe"):
            raise InputError(f"learns must be 'classification' or 'recipe', got {self.learns!r}")
        if self.learns == "classification" and self.width not in (None, self.meta_classes):
            raise InputError(
                f"width must be the number of meta-classes ({self.meta_classes}) for "
                f"classification, got {self.width}; leave it out, or give learns='recipe'"
            )
        if self.learns == "recipe" and (self.normalize or self.nca or self.distance):
            raise InputError(
                "normalize, nca and distance belong to learns='classification', got learns='recipe'"
            )


class Seeds(NamedTuple):
    """The randomness of a member: all from the seed of the run and the member's number."""

    pictures: int
    start: int
    order: int
    augmentation: int

    @classmethod
    def of(cls, seed: int, number: int) -> "Seeds":
        """Seeds that differ between members and between their purposes."""
        words = np.random.SeedSequence([seed, number, 1]).generate_state(4, np.uint64)
        return cls(*(int(word >> np.uint64(1)) for word in words))


class Job(NamedTuple):
    """All that a worker needs to train a member."""

    number: int
    out: str
    recipe: RetrievalRecipe
    train: ImageSet
    column: Int64[np.ndarray, " n"]
    options: MemberOptions
    threads: int


class Record(NamedTuple):
    """What a member came to; `sha256` is of its file of weights."""

    number: int
    pictures: int
    epochs: int
    steps: int
    seconds: float
    loss: float
    sha256: str


def folder_of(out: str | Path, number: int) -> Path:
    """Where a member lives."""
    return Path(out) / FOLDER / f"{number:03d}"


def finished(job: Job) -> Record | None:
    """What the member came to, if it is there as the job wants it, with sound weights."""
    folder = folder_of(job.out, job.number)
    try:
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
        record = Record(**done["record"])
        if done["job"] != _described(job) or record.sha256 != _digest(folder):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record


def train_member(job: Job, report: Callable[[Progress], None] | None = None) -> Record:
    """Train a member from wherever it stands; another process that trains it is waited for.

    Raises:
        TupeloError: as `training.fit`, the member named.
    """
    folder = folder_of(job.out, job.number)
    with locked(folder), _threads(job.threads):
        record = finished(job)
        if record is not None:
            return record
        (folder / DONE).unlink(missing_ok=True)
        shutil.rmtree(folder / "model", ignore_errors=True)  # written again from the checkpoint
        try:
            record = _train(job, folder, report)
        except TupeloError as error:
            raise type(error)(f"member {job.number:03d}: {error}") from error
        done = {"job": _described(job), "record": record._asdict()}
        replace_file(folder / DONE, json.dumps(done, indent=1).encode())
        return record


def _train(job: Job, folder: Path, report: Callable[[Progress], None] | None) -> Record:
    options, seeds = job.options, Seeds.of(job.recipe.seed, job.number)
    pictures = meta_labelled(job.train, job.column, options.most_per_class, seeds.pictures)
    recipe = member_recipe(job)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.start)
        model = building.build_model(recipe)
        assert isinstance(model, building.Embedder)  # noqa: S101  (the recipe says no ensemble)
        if options.learns == "recipe":
            objective = methods.build_objective(recipe, pictures, model)
        else:
            loss = MetaClassification(
                options.meta_classes,
                normalize=options.normalize,
                nca=options.nca,
                distance=options.distance,
            )
            objective = OnClasses(loss)
    run = fit(
        model,
        objective,
        pictures,
        out=folder,
        settings=_settings(job),
        batches=_batches(job, recipe, pictures, seeds.order),
        augment=building.build_augmentation(recipe, pictures),
        progress=report,
    )
    losses = [row["loss"] for row in run.history if "loss" in row]
    return Record(
        number=job.number,
        pictures=len(pictures),
        epochs=run.epochs,
        steps=run.steps,
        seconds=round(run.seconds, 2),
        loss=float(losses[-1]) if losses else float("nan"),
        sha256=_digest(folder),
    )


def meta_labelled(
    train: ImageSet, column: Int64[np.ndarray, " n"], most: int | None, seed: int
) -> ImageSet:
    """The pictures a member sees, under the meta-classes of their classes.

    Args:
        train: of one class a picture.
        column: the meta-class of each class.
        most: pictures of a class at most, drawn without replacement.
        seed: of that draw.

    >>> pictures = ImageSet.from_arrays(np.zeros((9, 8, 8), np.uint8), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    >>> meta_labelled(pictures, np.array([1, 0, 1]), 2, seed=0).labels.tolist()
    [1, 1, 0, 0, 1, 1]
    """
    labels, rows = train.labels, np.arange(len(train))
    if most is not None:
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(len(labels))
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
        starts = np.cumsum(np.bincount(labels)) - np.bincount(labels)
        place = np.arange(len(order)) - starts[labels[order]]
        rows = np.sort(order[place < most])
    return train.subset(rows).relabelled(column[labels[rows]])


def member_recipe(job: Job) -> RetrievalRecipe:
    """Of one member: a plain run with the width of a member, its batches of meta-classes."""
    options, recipe = job.options, job.recipe
    plain = {"dim": options.width or options.meta_classes, "ensemble": "none"}
    if recipe.batches != "pairs":  # which are counted in pairs
        classes = min(recipe.classes or 16, options.meta_classes)
        if recipe.batches == "triplets":
            classes -= classes % 2
        per_class = 2 if recipe.batches != "classes" else max(2, recipe.batch_size // classes)
        plain |= {"classes": classes, "per_class": per_class}
    return recipe.model_copy(update=plain)


def _settings(job: Job) -> Settings:
    made = building.build_settings(member_recipe(job))
    seed = Seeds.of(job.recipe.seed, job.number).augmentation
    # without validation there is nothing to wait for
    return replace(
        made, seed=seed, processes=1, patience=None, tensorboard=bool(job.recipe.tensorboard)
    )


def _batches(job: Job, recipe: RetrievalRecipe, pictures: ImageSet, seed: int) -> BatchMaker:
    if job.options.learns == "classification":
        return Shuffled(len(pictures), job.options.batch, seed=seed)
    return building.build_batches(recipe.model_copy(update={"seed": seed}), pictures)


def _described(job: Job) -> dict[str, Any]:
    """What a finished member must have been trained as."""
    settings = _settings(job).as_dict()
    for name in MAY_CHANGE - {"epochs", "steps"}:  # how it is computed and logged
        settings.pop(name, None)
    described = {
        "number": job.number,
        "column": job.column.tolist(),
        "options": asdict(job.options),
        "settings": settings,
        "threads": job.threads,
    }
    return json.loads(json.dumps(described))


def _digest(folder: Path) -> str:
    with (folder / "model" / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else works in this folder meanwhile: a worker may outlive whoever started it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="ascii") as file:
        told = False
        while not _take(file.fileno()):
            if not told:
                log.warning("another process works in %s; waiting for it", folder)
                told = True
            time.sleep(WAIT_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(handle: int) -> bool:
    """Take the lock of an open file; the system gives it back when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows, where a member is not to be trained twice at once
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
