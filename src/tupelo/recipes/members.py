"""Train the members of an ensemble (DREML) as independent jobs: here, in processes, or on Ray.

Each member is a run directory of its own, `members/000` and so on, that resumes by itself. What
is finished is never trained again, whoever was killed; the engine decides who computes, not what.
"""

import csv
import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupelo import models
from tupelo.data import ImageData, ImageSet
from tupelo.ensembles.dreml import Bags, meta_classes
from tupelo.errors import CheckpointError, InputError
from tupelo.inference import fast_precision
from tupelo.models import Members
from tupelo.models.saving import replace_file
from tupelo.recipes import building, engines
from tupelo.recipes.member import (
    FOLDER,
    Job,
    MemberOptions,
    Record,
    finished,
    folder_of,
    locked,
    train_member,
)
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.sections import Section, Table, to_json
from tupelo.training.settings import MAY_CHANGE

PUBLISHED: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.01,
    "weight_decay": 0.0,
    "schedule": "step",
    "step_at": (0.5, 0.8),
    "step_factor": 0.1,
}
"""Options of a recipe as the authors train a member; batches are in `MemberOptions`."""

PLAN, BAGS = "plan.json", "bags.csv"
ANY_TIME = MAY_CHANGE | {"engine", "jobs", "learners", "processes", "dim"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedMembers:
    """What training an ensemble of members came to.

    Attributes:
        folder: of the run; the model is in its `model/`.
        model: all members as one, in evaluation mode.
        bags: the meta-class of each training class for each member.
        class_names: of the rows of `bags`.
        records: what each member came to.
    """

    folder: Path
    model: Members
    bags: Bags
    class_names: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps of all members."""
        return sum(record.steps for record in self.records)

    @property
    def seconds(self) -> float:
        """Time of all members, one after the other."""
        return sum(record.seconds for record in self.records)


def train_members(
    recipe: RetrievalRecipe,
    data: ImageData,
    out: str | Path,
    *,
    learners: int = 12,
    options: MemberOptions | None = None,
    bags: Bags | None = None,
    engine: str = "sequential",
    jobs: int | None = None,
    address: str | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
    retries: int = 2,
    progress: Callable[[engines.MembersProgress], None] | None = None,
) -> TrainedMembers:
    """Train L members, each on its own merging of the classes, and join them to one model.

    Repeated with the same `out`, it trains what is missing; with more learners it adds members to
    those that are there, with fewer it joins the first ones. Every random number of a member comes
    from the seed of the recipe and its number; with equal `threads`, members are on CPUs of one
    kind bit for bit the same whichever engine trained them, interrupted or not.

    Args:
        recipe: resolved; network, augmentation, optimiser, length and seed of every member.
            `PUBLISHED` has the authors' values; `dim` is not used, see `MemberOptions`.
        data: whose training part is learned from. The last weights are kept, so a validation part
            stays unseen.
        out: folder of the run, which gets `members/` and `model/`. With Ray on several machines,
            in a place that all of them see under this name.
        learners: L, >= 1.
        options: what a member learns; default `MemberOptions()`.
        bags: (C, L) meta-classes of your own in place of those drawn by `meta_classes`.
        engine: "sequential" trains in this process; "processes" in `jobs` processes of this
            machine; "ray" in `jobs` workers of Ray, started on this machine or found at `address`.
        jobs: members that train at once; default as many as there are processors.
        address: of a Ray cluster, such as "auto" or "ray://host:10001".
        threads: of torch in a member; default what the run was begun with, or 1. Results depend on
            it in the last bits; more are worth it where few members train at once.
        gpus: of Ray's GPUs that a member takes, such as 0.5.
        retries: a member's worker may die (be killed, run out of memory) so many times in a row
            without any member being finished, before this gives up.
        progress: told of finished members and, with "sequential", of every step.

    Raises:
        InputError: an argument is out of its range, labels are tags, or `out` holds members of
            another recipe.
        MissingExtra: engine "ray" without Ray.
        TrainingDiverged: of the member that is named.
        CheckpointError: as `training.fit`, of the member that is named.
        TupeloError: workers kept dying; repeat the call to go on.
    """
    out, options = Path(out), options or MemberOptions()
    _check(learners, jobs, threads, retries, gpus, engine, address)
    train = data.train
    if train.labels.ndim != 1:
        raise InputError(
            "members merge classes, so every picture must have one class, got tags; train another "
            "ensemble, or give labels with one class a picture"
        )
    _warn_of_shared_classes(data)
    if bags is None:
        bags = meta_classes(train.n_classes, options.meta_classes, learners, seed=recipe.seed)
    else:
        bags = _own_bags(bags, train.n_classes, options.meta_classes, learners)
    recipe = _fixed_precision(recipe, options)
    with locked(out / FOLDER):
        threads = _plan(out, recipe, options, train, bags, threads)
    work = [
        Job(number, str(out), recipe, train, bags[:, number], options, threads)
        for number in range(learners)
    ]
    missing = [job for job in work if finished(job) is None]
    if missing:
        engines.run(
            train_member, missing, lambda job: finished(job) is not None,
            engine=engine, jobs=jobs, address=address, threads=threads, gpus=gpus,
            retries=retries, progress=progress, total=learners,
        )  # fmt: skip
    records = [finished(job) for job in work]
    lost = [job.number for job, record in zip(work, records, strict=True) if record is None]
    if lost:
        raise InputError(
            f"members {lost} were trained but are not in {out}: out must be in a place that every "
            "worker sees under this name, such as a shared file system"
        )
    found = tuple(record for record in records if record is not None)
    with locked(out / FOLDER):
        model = _assemble(out, recipe, options, train, bags, found)
    return TrainedMembers(out, model, bags, train.class_names, found)


def _check(
    learners: int,
    jobs: int | None,
    threads: int | None,
    retries: int,
    gpus: float,
    engine: str,
    address: str | None,
) -> None:
    for name, value, least in (
        ("learners", learners, 1),
        ("jobs", jobs, 1),
        ("threads", threads, 1),
        ("retries", retries, 0),
        ("gpus", gpus, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if engine not in engines.ENGINES:
        raise InputError(f"engine must be one of {', '.join(engines.ENGINES)}, got {engine!r}")
    if engine != "ray" and (address is not None or gpus):
        raise InputError(f"address and gpus are for engine='ray', got engine={engine!r}")
    if engine == "sequential" and jobs not in (None, 1):
        raise InputError(
            f"engine='sequential' trains one member at a time, got jobs={jobs}; take "
            "engine='processes'"
        )


def _own_bags(bags: Bags, n_classes: int, n_meta: int, learners: int) -> Bags:
    bags = np.asarray(bags)
    if bags.shape != (n_classes, learners) or bags.dtype.kind not in "iu":
        raise InputError(
            f"bags must be whole numbers of shape (classes, learners) = ({n_classes}, {learners}), "
            f"got {bags.dtype} of shape {bags.shape}"
        )
    for number, column in enumerate(bags.T):
        if not np.array_equal(np.unique(column), np.arange(n_meta)):
            raise InputError(
                f"column {number} of bags must hold every meta-class from 0 to {n_meta - 1}, got "
                f"{np.unique(column).tolist()[:8]}"
            )
    return bags.astype(np.int64)


def _warn_of_shared_classes(data: ImageData) -> None:
    judged = data.test or data.validation
    shared = set(data.train.class_names) & set(judged.class_names if judged else ())
    if shared:
        log.warning(
            "%d of the classes that are measured train too (%s): these scores do not tell how "
            "unseen classes fare",
            len(shared),
            ", ".join(sorted(shared)[:3]),
        )


def _fixed_precision(recipe: RetrievalRecipe, options: MemberOptions) -> RetrievalRecipe:
    """On processors the choice of "auto" is made here, so that all workers compute alike."""
    on_cpu = recipe.accelerator == "cpu" or not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    )
    if recipe.precision != "auto" or not on_cpu:
        return recipe
    with torch.random.fork_rng(devices=[]):
        plain = recipe.model_copy(update={"pretrained": False, "weights": None, "ensemble": "none"})
        chosen = fast_precision(building.build_model(plain))
    name = "bfloat16" if chosen == "bf16-mixed" else "float32"
    return recipe.model_copy(update={"precision": name})


def _plan(
    out: Path,
    recipe: RetrievalRecipe,
    options: MemberOptions,
    train: ImageSet,
    bags: Bags,
    threads: int | None,
) -> int:
    """Write what all members have in common, or compare it with what is there; the threads."""
    path = out / FOLDER / PLAN
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    columns = bags.T.tolist()
    if threads is None and earlier is not None:
        threads = int(earlier["threads"])
    threads = threads or 1  # so that all engines make the same members
    plain = json.loads(recipe.model_dump_json())
    plan = {
        "threads": threads,
        "recipe": {k: v for k, v in plain.items() if k not in ANY_TIME},
        "options": asdict(options),
        "class_names": list(train.class_names),
        "pictures": len(train),
        "bags": columns,
    }
    if earlier is not None:
        kept = min(len(columns), len(earlier["bags"]))
        compared = [
            each["recipe"]
            | {f"option {k}": v for k, v in each["options"].items()}
            | {k: each[k] for k in ("threads", "class_names", "pictures")}
            | {"bags": each["bags"][:kept]}
            for each in (earlier, json.loads(json.dumps(plan)))
        ]
        differing = [
            f"{name} was {_short(compared[0].get(name))}, is {_short(compared[1].get(name))}"
            for name in sorted(compared[0].keys() | compared[1].keys())
            if compared[0].get(name) != compared[1].get(name)
        ]
        if differing:
            raise InputError(
                f"{out} holds members of another run: {'; '.join(differing[:5])}. Use these values "
                "again to go on with it, or another folder"
            )
        if len(columns) < len(earlier["bags"]):
            plan["bags"] = earlier["bags"]
    replace_file(path, json.dumps(plan).encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *(f"member{i:03d}" for i in range(len(plan["bags"])))])
    writer.writerows(zip(train.class_names, *plan["bags"], strict=True))
    replace_file(path.with_name(BAGS), text.getvalue().encode())
    return threads


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _assemble(
    out: Path,
    recipe: RetrievalRecipe,
    options: MemberOptions,
    train: ImageSet,
    bags: Bags,
    records: tuple[Record, ...],
) -> Members:
    """`model/` of all members, written anew unless it is made of these very ones."""
    digests = [record.sha256 for record in records]
    try:
        known = models.about(out / "model").get("members", {})
        model = models.load(out / "model") if known.get("sha256") == digests else None
    except CheckpointError:  # there is none, or it is damaged
        model = None
    if isinstance(model, Members):
        return model
    embedders = [models.load(folder_of(out, record.number) / "model") for record in records]
    model = models.members([one for one in embedders if isinstance(one, models.Embedder)]).eval()
    about = {
        "pictures": train.frame._asdict(),
        "settings": building.build_settings(recipe).as_dict(),
        "steps": sum(record.steps for record in records),
        "best_step": sum(record.steps for record in records),
        "validation": {},
        "members": {
            "meta_classes": options.meta_classes,
            "seed": recipe.seed,
            "class_names": list(train.class_names),
            "bags": bags.T.tolist(),
            "sha256": digests,
        },
    }
    replace_file(out / "sections.json", json.dumps(to_json([_section(bags, records)])).encode())
    models.save(model, out / "model", about=about)
    return model


def _section(bags: Bags, records: tuple[Record, ...]) -> Section:
    rows = []
    for record in records:
        sizes = np.bincount(bags[:, record.number])
        rows.append(
            [
                f"{record.number:03d}", record.pictures, f"{sizes.min()} to {sizes.max()}",
                record.steps, round(record.seconds, 1), record.loss,
            ]
        )  # fmt: skip
    header = ["member", "pictures", "classes a meta-class", "steps", "seconds", "last loss"]
    return Section(
        "Members",
        f"{len(records)} networks trained apart, each on classes merged at random into "
        f"{bags.max() + 1} meta-classes of its own. The last loss is the mean over the last steps.",
        [Table(header, rows)],
    )
