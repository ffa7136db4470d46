"""Train a triplet variational autoencoder; judge it by test triplets and by what it draws.

    tupelo tvae train mnist --out runs/tvae

Expected time: on one idle CPU core about 15 s an epoch of 60,000 triplets of MNIST.
Expected result: after 10 epochs about 94.5 % of 10,000 test triplets and 110 nats a picture;
`docs/results/tvae.md` has the figures, and why the published 95.60 % is another quantity.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tupelo.data import ImageData, ImageSet
from tupelo.errors import InputError
from tupelo.evaluation import clustering, retrieval
from tupelo.generative import (
    ByTriplets,
    TripletList,
    means,
    negative_elbo,
    sections,
    triplet_accuracy,
)
from tupelo.generative.drawing import latent_map
from tupelo.inference import Embeddings, Evaluation, embed
from tupelo.models import VAE
from tupelo.models.saving import replace_file
from tupelo.recipes import tvae_building as building
from tupelo.recipes.places import check_apart, claim, read_results, surroundings, write_text
from tupelo.recipes.reading import checked, read_recipe
from tupelo.recipes.retrieval import PRECISION, sizes
from tupelo.recipes.tvae_recipe import TvaeRecipe, is_tvae
from tupelo.recipes.using import clusters_quickly
from tupelo.sections import Shown, to_json
from tupelo.training import Judge, Progress, Run, fit
from tupelo.training.settings import MAY_CHANGE
from tupelo.training.showing import NAME as SECTIONS
from tupelo.training.showing import some_rows

logger = logging.getLogger(__name__)

MAPPED = 2_000  # means on the latent map
CHOSEN_BY = 10_000  # validation triplets
Scores = dict[str, float | int]
HEADER = """\
# Every option of this run, as it was resolved. The same again, on these or other pictures:
#     tupelo tvae train PICTURES --recipe THIS_FILE --out ANOTHER_FOLDER
"""


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: of the run.
        recipe: in full, as written into it.
        part: what `before` and `after` measure: "test", "validation", or "" where neither is.
        before: scores by name of the model as it was before training, see `measure`.
        after: scores of the trained one.
        training: epochs, steps, seconds, why it stopped, best validation scores.
        repeated: all of this had been there before.
        judged: the pictures of `part`, or None.
        embedded: `judged` after training; None when repeated.
    """

    folder: Path
    recipe: TvaeRecipe
    part: str
    before: Scores
    after: Scores
    training: dict[str, Any]
    repeated: bool
    judged: ImageSet | None = None
    embedded: Embeddings | None = None


class Watcher:
    """Is told what a run does; silent here, written on the screen by the command line."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""

    def read(self, data: ImageData, listed: Path) -> None:
        """All is read; what cannot be used stands in the file `listed`."""

    def chosen(self, recipe: TvaeRecipe, model: VAE, resumed: bool) -> None:
        """The recipe is full and the model made."""

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""

    def training(self, progress: Progress) -> None:
        """A step was taken."""

    def trained(self, run: Run) -> None:
        """Training is over."""


def run(recipe: TvaeRecipe, out: Path, watcher: Watcher | None = None) -> Result:
    """Train, measure before and after, and leave a run; repeated, it resumes.

    Args:
        recipe: what to do; what it leaves open is chosen from the data.
        out: folder of the run: `recipe.yaml`, `bad_items.csv`, `triplets.csv` (of training),
            `metrics.csv`, `checkpoint/`, `model/`, `results.json`, `sections.json`.
        watcher: told what happens.

    Raises:
        TupeloError: as `data.images`, `generative.random_triplets` and `training.fit`.
        InputError: `out` lies in the pictures, or holds a run of another recipe.
    """
    watcher = watcher or Watcher()
    check_apart(out, recipe.source)
    out.mkdir(parents=True, exist_ok=True)
    earlier = _earlier(out)
    recipe, data = building.read_data(recipe, out / "bad_items.csv", watcher.reading)
    watcher.read(data, out / "bad_items.csv")
    recipe = building.resolve(recipe, data.train)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(recipe.seed)
        model = building.build_model(recipe)
    part = "test" if data.test else "validation" if data.validation else ""
    judged = data.test or data.validation
    triplets = _triplets(recipe, judged, recipe.test_triplets, building.JUDGING, part)
    chosen = _triplets(recipe, data.validation, CHOSEN_BY, building.CHOOSING, "validation")
    claim(out, recipe, earlier, free=MAY_CHANGE | {"test_triplets"}, header=HEADER)
    batches = building.build_batches(recipe, data.train, out)
    objective = building.build_objective(recipe, batches)
    watcher.chosen(recipe, model, earlier is not None)

    # the test part is looked at here, before any choice, and once more after the last one
    known = read_results(out) if earlier is not None else {}
    before: Scores = known.get("before") or {}
    if judged and triplets and before.get("n_triplets") != len(triplets):
        before, _ = measure(model, judged, triplets, recipe, watcher)
    known |= {"kind": "tvae", "part": part, "data": sizes(data), "before": before}
    known["environment"] = known.get("environment") or surroundings()
    _keep(out, known)

    judge = None
    if data.validation and chosen:
        loss = building.build_reconstruction(recipe)
        alone = recipe.method == "vae"
        measured = ByTriplets(data.validation, chosen, reconstruction=loss, by_elbo=alone)
        judge = Judge(measured, "choice")
    trained = fit(
        model,
        objective,
        data.train,
        out=out,
        settings=building.build_settings(recipe),
        batches=batches,
        judge=judge,
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
    after: Scores = known.get("after") or {}
    finished = (known.get("training") or {}).get("steps") == trained.steps and "after" in known
    repeated = finished and (not triplets or after.get("n_triplets") == len(triplets))
    embedded = None
    if judged and triplets and not repeated:
        after, embedded = measure(model, judged, triplets, recipe, watcher)
    if not repeated:
        _keep_sections(out, model, judged or data.train, data)
    known |= {"after": after, "training": training}
    _keep(out, known)
    return Result(out, recipe, part, before, after, training, repeated, judged, embedded)


def measure(
    model: VAE,
    judged: ImageSet,
    triplets: TripletList,
    recipe: TvaeRecipe,
    watcher: Watcher,
) -> tuple[Scores, Embeddings]:
    """Triplets, ELBO, and retrieval by the unit rows of the means.

    Args:
        model: before or after training.
        judged: pictures that do not train.
        triplets: of them.
        recipe: resolved.
        watcher: told how many are embedded.

    Returns:
        Scores: those of retrieval, `triplet_accuracy` of `n_triplets`, `negative_elbo` and its
        parts `reconstruction` and `kl`; and the embedded pictures.
    """
    embedded = embed(
        model, judged, precision=PRECISION[recipe.precision], progress=watcher.embedding
    )
    clusters = clustering(embedded.z.numpy(), embedded.labels) if clusters_quickly(judged) else None
    report = Evaluation(retrieval(embedded.z, embedded.labels), clusters)
    found = triplet_accuracy(means(model, judged), triplets)
    elbo = negative_elbo(
        model, judged, reconstruction=building.build_reconstruction(recipe), seed=recipe.seed
    )
    return {
        **report.as_dict(),
        "triplet_accuracy": found.accuracy,
        "triplet_accuracy_error": found.standard_error,
        "n_triplets": found.count,
        "n_ties": found.ties,
        "negative_elbo": elbo.total,
        "reconstruction": elbo.reconstruction,
        "kl": elbo.kl,
    }, embedded


def _triplets(
    recipe: TvaeRecipe, pictures: ImageSet | None, count: int, purpose: int, part: str
) -> TripletList | None:
    if pictures is None:
        return None
    return building.draw_triplets(pictures, count, recipe.seed, purpose, part, None)


def _keep_sections(out: Path, model: VAE, pictures: ImageSet, data: ImageData) -> None:
    """Draw what is judged instead of what trained; no failure ends the run."""
    try:
        device = next(model.parameters()).device
        batch = pictures.batch(some_rows(pictures))
        shown = Shown(
            batch.images.to(device), batch.labels, pictures.class_names, data.train.class_names
        )
        found = sections(model, shown)
        step = max(1, len(pictures) // MAPPED)
        some = pictures.subset(range(0, len(pictures), step))
        kinds = [some.class_names[label] for label in some.labels]
        found.append(latent_map(means(model, some), kinds))
        replace_file(out / SECTIONS, json.dumps(to_json(found)).encode())
    except Exception as error:  # pictures or the disk may be gone, and the run is there
        logger.warning("the run keeps no sections: %s: %s", type(error).__name__, error)
        logger.debug("where it failed", exc_info=True)


def _earlier(out: Path) -> TvaeRecipe | None:
    """The recipe of the run that is there, which is resumed; None where none has begun."""
    begun = any((out / name).exists() for name in ("checkpoint", "model"))
    path = out / "recipe.yaml"
    if not begun or not path.exists():
        return None
    values = read_recipe(path)
    if not is_tvae(values):
        raise InputError(f"--out {out} holds a run of another command; give another folder")
    return checked(TvaeRecipe, values)


def _keep(out: Path, known: dict[str, Any]) -> None:
    write_text(out / "results.json", json.dumps(known, indent=2))
