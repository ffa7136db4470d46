"""Train an embedding that finds a person again in another picture; calibrate it for a tracker.

    tupelo reid train Market-1501/ --out runs/reid

Expected time: with `reid-small` at 64 x 32 pixels about 3,000 steps in ten minutes on a CPU core.
Expected result: rank-1 and mAP by the official protocol, distances for thresholds, a page;
`docs/results/reid.md` has the figures.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.models import Embedder, Model
from tupelo.recipes import reid_building as building
from tupelo.recipes.places import check_apart, claim, read_results, surroundings, write_text
from tupelo.recipes.reading import checked, read_recipe
from tupelo.recipes.reid_building import ReidData
from tupelo.recipes.reid_calibration import Calibration, calibration_of, set_calibration
from tupelo.recipes.reid_judging import ByReid, Judged, judge, told
from tupelo.recipes.reid_recipe import ReidRecipe, is_reid
from tupelo.recipes.retrieval import PRECISION
from tupelo.recipes.using import Opened, read_like
from tupelo.trained import load
from tupelo.training import Judge, Progress, Run, fit
from tupelo.training.settings import MAY_CHANGE

Scores = dict[str, float | int]
HEADER = """\
# Every option of this run, as it was resolved. The same again, on these or other crops:
#     tupelo reid train CROPS --recipe THIS_FILE --out ANOTHER_FOLDER
"""


@dataclass(frozen=True)
class ReidModel:
    """A network for re-identification, and what its distances mean.

    Attributes:
        model: from pictures (b, c, height, width) in [0, 1] to `Embedded`; in evaluation mode.
        height: of a crop, in pixels.
        width: of a crop, in pixels.
        far_distance: cosine distance below which 1 % of different identities lie.
        same_distance: cosine distance below which 95 % of pairs of one identity lie.
    """

    model: Model
    height: int
    width: int
    far_distance: float
    same_distance: float


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: of the run.
        recipe: in full, as written into it.
        part: what `before` and `after` measure: "test", or "validation" where there is none.
        before: scores by name before training.
        after: of the trained network.
        training: epochs, steps, seconds, why it stopped, best validation scores.
        calibration: distances of held-out pairs.
        repeated: all of this had been there before.
        judged: of the trained network; None when repeated.
    """

    folder: Path
    recipe: ReidRecipe
    part: str
    before: Scores
    after: Scores
    training: dict[str, Any]
    calibration: Calibration
    repeated: bool
    judged: Judged | None = None


class Watcher:
    """Is told what a run does; silent here, written on the screen by the command line."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""

    def read(self, data: ReidData, listed: Path) -> None:
        """All is read; what cannot be used stands in the file `listed`."""

    def chosen(self, recipe: ReidRecipe, model: Embedder, resumed: bool) -> None:
        """The recipe is full and the model made."""

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""

    def training(self, progress: Progress) -> None:
        """A step was taken."""

    def trained(self, run: Run) -> None:
        """Training is over."""


def run(recipe: ReidRecipe, out: Path, watcher: Watcher | None = None) -> Result:
    """Train, calibrate, measure before and after, and leave a run; repeated, it resumes.

    Args:
        recipe: what to do; what it leaves open is chosen from the data.
        out: folder of the run: `recipe.yaml`, `bad_items.csv`, `metrics.csv`, `checkpoint/`,
            `model/`, `results.json`, `calibration.json`.
        watcher: told what happens.

    Raises:
        TupeloError: as `data.images` and `training.fit`.
        InputError: there are too few identities with two crops; `out` lies in the crops, or holds
            a run of another recipe.
    """
    watcher = watcher or Watcher()
    check_apart(out, recipe.source)
    out.mkdir(parents=True, exist_ok=True)
    earlier = _earlier(out)
    recipe = building.with_network(recipe)
    data = building.read_data(recipe, out / "bad_items.csv", watcher.reading)
    watcher.read(data, out / "bad_items.csv")
    recipe = building.resolve(recipe, data.train)
    objective = building.build_objective(recipe, data.train)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(recipe.seed)
        model = building.build_model(recipe)
    claim(out, recipe, earlier, free=MAY_CHANGE, header=HEADER)
    watcher.chosen(recipe, model, earlier is not None)

    # the test part is looked at here, before any choice, and once more after the last one
    part = "validation" if data.query is None else "test"
    known = read_results(out) if earlier is not None else {}
    before = known.get("before") or told(_judged(model, data, recipe, watcher))
    known |= {"kind": "reid", "part": part, "data": sizes(data), "before": before}
    known["environment"] = known.get("environment") or surroundings()
    _keep(out, known)

    trained = fit(
        model,
        objective,
        data.train,
        out=out,
        settings=building.build_settings(recipe),
        batches=building.build_batches(recipe, data.train),
        augment=building.build_augmentation(recipe, data.train),
        judge=Judge(ByReid(data.validation, data.cameras["validation"]), "map"),
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
    finished = "after" in known and known["training"]["steps"] == trained.steps
    judged, after = None, known.get("after", {})
    if not finished:
        calibration = set_calibration(load(out), data.validation, watcher.embedding)
        judged = _judged(model, data, recipe, watcher)
        after = told(judged)
    else:
        calibration = calibration_of(load(out))
    known |= {"after": after, "training": training, "calibration": asdict(calibration)}
    _keep(out, known)
    return Result(out, recipe, part, before, after, training, calibration, finished, judged)


def load_reid(run: str | Path, *, device: torch.device | str = "cpu") -> ReidModel:
    """The network of a run of `tupelo reid train`, with its calibration.

    Args:
        run: its folder.
        device: where the model computes.

    Raises:
        CheckpointError: there is no model, or no calibration of it.
    """
    trained = load(run, device=device)
    known = calibration_of(trained)
    frame = trained.frame
    return ReidModel(
        trained.model, frame.height, frame.width, known.far_distance, known.same_distance
    )


def evaluate(
    opened: Opened,
    source: str,
    gallery: str | None = None,
    *,
    columns: dict[str, str] | None = None,
    allow_bad: float = 0.01,
    watcher: Watcher | None = None,
) -> Judged:
    """Measure a trained network on other crops.

    Args:
        opened: the run.
        source: crops by identity. Where it has a test part and a gallery, as Market-1501, these
            are measured; otherwise its crops search each other.
        gallery: other crops for them to search.
        columns: of a manifest.
        allow_bad: share of pictures that may be unusable.
        watcher: told what happens.

    Raises:
        TupeloError: as `data.images`.
        InputError: nobody can be found again.
    """
    watcher = watcher or Watcher()
    asked: dict[str, Any] = {
        "columns": columns,
        "allow_bad": allow_bad,
        "progress": watcher.reading,
    }
    parts = _test_parts(opened, source, asked) if gallery is None else None
    if parts is None:
        query, searched = read_like(opened, source, **asked).train, None
        if gallery is not None:
            searched = read_like(opened, gallery, **asked).train
    else:
        query, searched = parts
    seen: dict[str, Sequence[str]] = {"query": query.paths}
    if searched is not None:
        seen["gallery"] = searched.paths
    cameras = building.cameras_of(seen)
    return judge(
        opened.model,
        query,
        searched,
        query_cameras=cameras["query"],
        gallery_cameras=cameras.get("gallery"),
        progress=watcher.embedding,
    )


def _test_parts(
    opened: Opened, source: str, asked: dict[str, Any]
) -> tuple[ImageSet, ImageSet | None] | None:
    """What the source itself names as its test part; None where it names none."""
    from tupelo.data.images import list_source
    from tupelo.data.listing import TEST
    from tupelo.recipes.fewshot_building import source_of

    given = list_source(source_of(source), asked["columns"] or None).given
    if given is None or not (given == TEST).any():
        return None
    data = read_like(opened, source_of(source), whole=False, **asked)
    return (data.test, data.gallery) if data.test is not None else None


def sizes(data: ReidData) -> dict[str, Any]:
    """Crops and identities of each part, and what was skipped."""
    parts = {
        "train": data.train,
        "validation": data.validation,
        "test": data.query,
        "gallery": data.gallery,
    }
    known: dict[str, Any] = {
        name: {"pictures": len(side), "classes": side.n_classes}
        for name, side in parts.items()
        if side is not None
    }
    return known | {"skipped": data.skipped, "cameras": data.cameras["train"] is not None}


def _judged(model: Embedder, data: ReidData, recipe: ReidRecipe, watcher: Watcher) -> Judged:
    query, name = (data.validation, "validation")
    if data.query is not None:
        query, name = data.query, "query"
    return judge(
        model,
        query,
        data.gallery if name == "query" else None,
        query_cameras=data.cameras[name],
        gallery_cameras=data.cameras.get("gallery"),
        precision=PRECISION[recipe.precision],
        progress=watcher.embedding,
    )


def _earlier(out: Path) -> ReidRecipe | None:
    """The recipe of the run that is there, which is resumed; None where none has begun."""
    begun = any((out / name).exists() for name in ("checkpoint", "model"))
    path = out / "recipe.yaml"
    if not begun or not path.exists():
        return None
    values = read_recipe(path)
    if not is_reid(values):
        raise InputError(f"--out {out} holds a run of another command; give another folder")
    return checked(ReidRecipe, values)


def _keep(out: Path, known: dict[str, Any]) -> None:
    write_text(out / "results.json", json.dumps(known, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own."""
    return np.asarray(value).item()
