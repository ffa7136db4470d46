"""Train an embedding for retrieval from labelled pictures; measure it on classes it never saw.

    tupelo train photos/ --out runs/photos

Expected time: on 2 CPU cores about a minute for 900 grey pictures of 32 pixels (15 epochs), and of
the order of an hour for 2,000 steps on pictures of 128 pixels with resnet18.
Expected result: MAP@R on classes that never trained, well above that of the untrained network,
which is measured too; `docs/results/` has the figures of known data sets.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tupelo import models
from tupelo.data import ImageData, ImageSet
from tupelo.evaluation import clustering, nearest, retrieval
from tupelo.inference import Embeddings, Evaluation, Precision, embed, learners_of, named_labels
from tupelo.models import Embedder, Ensemble, Model
from tupelo.recipes import building, methods
from tupelo.recipes.engines import MembersProgress
from tupelo.recipes.ensembles import member_options
from tupelo.recipes.member import FOLDER
from tupelo.recipes.members import train_members
from tupelo.recipes.places import check_apart, claim, read_results, surroundings, write_text
from tupelo.recipes.reading import read_recipe, recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.recipes.using import clusters_quickly, label_names, tag_sets
from tupelo.training import Progress, Run, fit
from tupelo.training.settings import MAY_CHANGE
from tupelo.types import Objective

QUERIES, NEIGHBOURS = 5, 5
ENGINE = {"engine", "jobs"}  # who computes changes nothing that is computed
MORE_MEMBERS = {"learners", "dim"}  # of DREML may join those that are there
PRECISION: dict[str, Literal["auto", Precision]] = {
    "auto": "auto",
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
}
HEADER = """\
# Every option of this run, as it was resolved. The same again, on these or other pictures:
#     tupelo train PICTURES --recipe THIS_FILE --out ANOTHER_FOLDER
"""


@dataclass(frozen=True)
class Found:
    """A query and its nearest neighbours: paths, labels, cosine similarities, right or wrong."""

    query: str
    label: str
    paths: list[str]
    labels: list[str]
    similarity: list[float]
    right: list[bool]


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: of the run.
        recipe: in full, as written into it.
        part: what `before` and `after` measure: "test", "validation", or "" where neither is.
        before: scores by name of the network as it was before training.
        after: scores of the trained network.
        found: nearest neighbours of a few pictures of the part, after training.
        learners: of an ensemble, each measured by itself, see
            `evaluation.LearnersReport.as_dict`; {} for one embedder.
        training: epochs, steps, seconds, why it stopped, best validation scores.
        repeated: all of this had been there before.
        judged: the pictures of `part`, or None.
        gallery: what they search, or None for each other.
        embedded: `judged` after training, and `gallery`; () when repeated.
    """

    folder: Path
    recipe: RetrievalRecipe
    part: str
    before: dict[str, float | int]
    after: dict[str, float | int]
    found: list[Found]
    learners: dict[str, Any]
    training: dict[str, Any]
    repeated: bool
    judged: ImageSet | None = None
    gallery: ImageSet | None = None
    embedded: tuple[Embeddings, ...] = ()


class Watcher:
    """Is told what a run does; silent here, written on the screen by the command line."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""

    def read(self, data: ImageData, listed: Path) -> None:
        """All is read; what cannot be used stands in the file `listed`."""

    def chosen(self, recipe: RetrievalRecipe, model: Embedder | Ensemble, resumed: bool) -> None:
        """The recipe is full and the network made."""

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""

    def training(self, progress: Progress) -> None:
        """A step was taken."""

    def members(self, progress: MembersProgress) -> None:
        """A member of an ensemble took a step, or is finished."""

    def trained(self, run: Run) -> None:
        """Training is over."""


def run(recipe: RetrievalRecipe, out: Path, watcher: Watcher | None = None) -> Result:
    """Train, measure before and after, and leave a run directory; repeated, it resumes.

    Args:
        recipe: what to do; what it leaves open is chosen from the data.
        out: folder of the run: `recipe.yaml`, `bad_items.csv`, `metrics.csv`, `checkpoint/`,
            `model/`, `results.json`, `sections.json`.
        watcher: told what happens.

    Raises:
        TupeloError: as `data.images`, `models.embedder` and `training.fit`.
        InputError: `out` lies in the pictures, or holds a run of another recipe.
    """
    watcher = watcher or Watcher()
    check_apart(out, recipe.source)
    out.mkdir(parents=True, exist_ok=True)
    data = building.read_data(recipe, out / "bad_items.csv", watcher.reading)
    watcher.read(data, out / "bad_items.csv")
    earlier = _earlier(out)
    recipe = building.resolve(recipe, data.train, earlier)
    free = MAY_CHANGE | ENGINE | (MORE_MEMBERS if recipe.ensemble == "dreml" else set())
    claim(out, recipe, earlier, free=free, header=HEADER)
    resumed = earlier is not None

    # the start is drawn from the seed of the recipe; the caller's random state stays as it is
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model, objective = _start(recipe, data)
    watcher.chosen(recipe, model, resumed)

    # the test part is looked at here, before any choice, and once more after the last one
    part = "test" if data.test else "validation" if data.validation else ""
    judged = data.test or data.validation
    gallery = data.gallery if data.test else None
    known = read_results(out) if resumed else {}
    before = known.get("before", {})
    environment = known.get("environment") or surroundings()
    if judged and not before:
        report, _ = measure(model, judged, gallery, precision=recipe.precision, watcher=watcher)
        before = report.as_dict()
    known |= {"part": part, "data": sizes(data), "before": before, "environment": environment}
    write_text(out / "results.json", json.dumps(known, indent=2))

    if objective is None:
        model, trained = _members(recipe, data, out, watcher)
    else:
        trained = fit(
            model,
            objective,
            data.train,
            validate=data.validation,
            out=out,
            settings=building.build_settings(recipe),
            batches=building.build_batches(recipe, data.train),
            augment=building.build_augmentation(recipe, data.train),
            progress=watcher.training,
        )
    watcher.trained(trained)
    training = {
        "epochs": trained.epochs,
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "stopped": trained.stopped,
        "validation": dict(trained.best),
    }
    repeated = "after" in known and known["training"]["steps"] == trained.steps
    embedded: tuple[Embeddings, ...] = ()
    learners: dict[str, Any] = {}
    if repeated:
        after, found = known["after"], [Found(**one) for one in known["found"]]
        learners = known.get("learners", {})
    elif judged:
        report, embedded = measure(
            model, judged, gallery, precision=recipe.precision, watcher=watcher
        )
        after, found = report.as_dict(), neighbours(judged, gallery, embedded)
        learners = {} if report.learners is None else report.learners.as_dict()
    else:
        after, found = {}, []
    known |= {"after": after, "training": training, "found": [asdict(one) for one in found]}
    known |= {"learners": learners} if learners else {}
    write_text(out / "results.json", json.dumps(known, indent=2))
    return Result(
        out,
        recipe,
        part,
        before,
        after,
        found,
        learners,
        training,
        repeated,
        judged,
        gallery,
        embedded,
    )


def _start(
    recipe: RetrievalRecipe, data: ImageData
) -> tuple[Embedder | Ensemble, Objective | None]:
    """The untrained model, and the objective; None for members, which have one each."""
    if recipe.ensemble != "dreml":
        model = building.build_model(recipe)
        return model, methods.build_objective(recipe, data.train, model)
    learners = recipe.learners or 1
    alone = recipe.model_copy(update={"ensemble": "none", "dim": recipe.dim // learners})
    made = [building.build_model(alone) for _ in range(learners)]
    return models.members([one for one in made if isinstance(one, Embedder)]), None


def _members(
    recipe: RetrievalRecipe, data: ImageData, out: Path, watcher: Watcher
) -> tuple[Ensemble, Run]:
    """Train the members that are missing, and join all."""
    trained = train_members(
        recipe,
        data,
        out,
        learners=recipe.learners or 1,
        options=member_options(recipe),
        engine=recipe.engine,
        jobs=recipe.jobs,
        threads=recipe.threads,
        progress=watcher.members,
    )
    epochs = max(record.epochs for record in trained.records)
    run = Run(out, {}, [], "finished", epochs, trained.steps, trained.seconds)
    return trained.model, run


def neighbours(
    judged: ImageSet, gallery: ImageSet | None, embedded: tuple[Embeddings, ...]
) -> list[Found]:
    """The nearest pictures of a few, one from each of some classes spread over all of them."""
    names = label_names(judged.labels, judged.class_names)
    firsts = _first_of_some_classes(judged.labels)
    searched = judged if gallery is None else gallery
    others = label_names(searched.labels, searched.class_names)
    judged_tags, searched_tags = tag_sets(judged), tag_sets(searched)
    k = min(NEIGHBOURS + 1, len(searched))
    close = nearest(embedded[0].z[firsts], embedded[-1].z, k)
    found = []
    for query, rows, similarities in zip(firsts, close.indices, close.similarity, strict=True):
        kept = np.flatnonzero((gallery is not None) | (rows != query))[:NEIGHBOURS]
        chosen: list[int] = rows[kept].tolist()
        found.append(
            Found(
                query=judged.paths[query],
                label=names[query],
                paths=[searched.paths[row] for row in chosen],
                labels=[others[row] for row in chosen],
                similarity=[round(float(s), 4) for s in similarities[kept]],
                right=[bool(judged_tags[query] & searched_tags[row]) for row in chosen],
            )
        )
    return found


def _first_of_some_classes(labels: np.ndarray) -> list[int]:
    firsts = labels.argmax(axis=0) if labels.ndim == 2 else np.unique(labels, return_index=True)[1]
    spread = np.linspace(0, len(firsts) - 1, min(QUERIES, len(firsts))).round().astype(int)
    return [int(row) for row in dict.fromkeys(firsts[spread].tolist())]


def measure(
    model: Model,
    judged: ImageSet,
    gallery: ImageSet | None = None,
    *,
    precision: str = "auto",
    watcher: Watcher,
) -> tuple[Evaluation, tuple[Embeddings, ...]]:
    """Retrieval of each picture among all others, or in a gallery; clusters of one set, if quick.

    Returns:
        The scores, and the embedded pictures with, where there is one, the embedded gallery.
    """
    options: dict[str, Any] = {"precision": PRECISION[precision], "progress": watcher.embedding}
    embedded = embed(model, judged, **options)
    clusters = None
    if gallery is None and clusters_quickly(judged):
        clusters = clustering(embedded.z.numpy(), embedded.labels)
    compared: tuple[Any, ...] = (embedded.labels,)
    searched: tuple[Embeddings, ...] = ()
    if gallery is not None:
        searched = (embed(model, gallery, **options),)
        compared = (named_labels(judged), searched[0].z, named_labels(gallery))
    report = retrieval(embedded.z, *compared)
    learners = learners_of(model, embedded.z, *compared)
    return Evaluation(report, clusters, learners), (embedded, *searched)


def sizes(data: ImageData) -> dict[str, Any]:
    """Pictures and classes of each part; whether those measured also trained, and are tags."""
    parts = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
        "gallery": data.gallery,
    }
    judged = data.test or data.validation
    known = set(data.train.class_names)
    sizes = {
        name: {"pictures": len(side), "classes": side.n_classes}
        for name, side in parts.items()
        if side
    }
    return sizes | {
        "shared_classes": bool(judged and known & set(judged.class_names)),
        "tagged": data.train.labels.ndim == 2,
    }


def _earlier(out: Path) -> RetrievalRecipe | None:
    """The recipe of the run that is there, which is resumed; None where none has begun."""
    begun = any((out / name).exists() for name in ("checkpoint", "model", FOLDER))
    path = out / "recipe.yaml"
    return recipe_from(read_recipe(path)) if begun and path.exists() else None
