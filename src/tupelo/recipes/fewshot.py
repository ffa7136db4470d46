"""Train a few-shot learner; measure it on episodes of classes it never saw; calibrate it.

    tupelo fewshot train omniglot --ways 5 --shots 1 --rotations --out runs/omniglot

Expected time: on 2 CPU cores some tenths of a second a step of prototypical networks on Omniglot;
graph networks, trained as published, need a GPU.
Expected result: accuracy with its interval over 1,000 episodes of test classes, before and after;
`docs/results/fewshot.md` has the figures of known data sets.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tupelo.data import ImageData, ImageSet
from tupelo.errors import InputError
from tupelo.fewshot import (
    ByEpisodes,
    Calibration,
    FewShot,
    Running,
    calibrate,
    draw_episodes,
    layouts_to_calibrate,
)
from tupelo.recipes import fewshot_building as building
from tupelo.recipes.fewshot_measuring import Scores, Task, embed, measure, some_tasks
from tupelo.recipes.fewshot_recipe import GRAPHS, FewShotRecipe
from tupelo.recipes.places import check_apart, claim, read_results, surroundings, write_text
from tupelo.recipes.reading import checked, read_recipe
from tupelo.training import Judge, Progress, Run, fit
from tupelo.training.settings import MAY_CHANGE

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
CALIBRATED_BY = 200  # episodes of each layout, and as many to judge the temperature by
# other distances of validations would be other epochs, and so other episodes
FREE = (MAY_CHANGE - {"evaluate_every"}) | {"test_episodes"}
HEADER = """\
# Every option of this run, as it was resolved. The same again, on these or other pictures:
#     tupelo fewshot train PICTURES --recipe THIS_FILE --out ANOTHER_FOLDER
"""


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: of the run.
        recipe: in full, as written into it.
        part: what `before` and `after` measure: "test", "validation", or "" where neither is.
        before: scores of the network as it was before training, see `measure`.
        after: scores of the trained one.
        calibration: temperatures; None without validation classes.
        training: steps, seconds, why it stopped, best validation accuracy.
        repeated: all of this had been there before.
        judged: the pictures of `part`, or None.
        tasks: episodes of them with their answers after training; () when repeated.
    """

    folder: Path
    recipe: FewShotRecipe
    part: str
    before: Scores
    after: Scores
    calibration: Calibration | None
    training: dict[str, Any]
    repeated: bool
    judged: ImageSet | None = None
    tasks: tuple[Task, ...] = ()


class Watcher:
    """Is told what a run does; silent here, written on the screen by the command line."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""

    def read(self, data: ImageData, listed: Path) -> None:
        """All is read; what cannot be used stands in the file `listed`."""

    def chosen(self, recipe: FewShotRecipe, model: FewShot, resumed: bool) -> None:
        """The recipe is full and the network made."""

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be judged by are embedded."""

    def scoring(self, running: Running) -> None:
        """Episodes are scored."""

    def training(self, progress: Progress) -> None:
        """A step was taken."""

    def trained(self, run: Run) -> None:
        """Training is over."""

    def calibrating(self, done: int, total: int) -> None:
        """Temperatures are fitted."""


def run(recipe: FewShotRecipe, out: Path, watcher: Watcher | None = None) -> Result:
    """Train, measure before and after, calibrate, and leave a run; repeated, it resumes.

    Args:
        recipe: what to do; what it leaves open is chosen from method and data.
        out: folder of the run: `recipe.yaml`, `bad_items.csv`, `metrics.csv`, `checkpoint/`,
            `model/`, `calibration.json`, `results.json`.
        watcher: told what happens.

    Raises:
        TupeloError: as `data.images`, `fewshot.Episodes` and `training.fit`.
        InputError: `out` lies in the pictures, or holds a run of another recipe.
    """
    watcher = watcher or Watcher()
    check_apart(out, recipe.source)
    out.mkdir(parents=True, exist_ok=True)
    data = building.read_data(recipe, out / "bad_items.csv", watcher.reading)
    watcher.read(data, out / "bad_items.csv")
    earlier = _earlier(out)
    recipe = building.resolve(recipe, data)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(recipe.seed)
        model = building.build_model(recipe)
    objective = building.build_objective(recipe, model)
    batches = building.build_batches(recipe, data.train)
    judge = _judge(recipe, data.validation)
    part = "test" if data.test else "validation" if data.validation else ""
    judged = data.test or data.validation
    if judged:
        _check_judged(recipe, judged, part)
    claim(out, recipe, earlier, free=FREE, header=HEADER)
    watcher.chosen(recipe, model, earlier is not None)

    # the test part is looked at here, before any choice, and once more after the last one
    known = read_results(out) if earlier is not None else {}
    layout = building.judged_layout(recipe)
    before = known.get("before") or {}
    asked: dict[str, Any] = {"episodes": recipe.test_episodes, "seed": recipe.seed}
    if judged and before.get("episodes") != recipe.test_episodes:
        rows = embed(model, judged, watcher.embedding)
        before = measure(model.head, rows, judged.labels, layout, **asked, progress=watcher.scoring)
    known |= {"kind": "fewshot", "part": part, "data": _sizes(data), "before": before}
    known["environment"] = known.get("environment") or surroundings()
    _keep(out, known)

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
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "stopped": trained.stopped,
        "validation": dict(trained.best),
    }
    finished = (known.get("training") or {}).get("steps") == trained.steps and "after" in known
    calibration = read_calibration(out) if finished else None
    if calibration is None and data.validation:
        calibration = _calibrated(model, recipe, data.validation, watcher)
        write_text(out / CALIBRATION, json.dumps(calibration.as_dict(), indent=2))
    after = known.get("after") or {}
    repeated = finished and after.get("episodes", recipe.test_episodes) == recipe.test_episodes
    tasks: tuple[Task, ...] = ()
    if judged and not repeated:
        rows = embed(model, judged, watcher.embedding)
        told = model.head, rows, judged.labels, layout, calibration
        after = measure(*told, **asked, progress=watcher.scoring)
        tasks = some_tasks(*told, seed=recipe.seed)
    known |= {"after": after, "training": training}
    _keep(out, known)
    return Result(out, recipe, part, before, after, calibration, training, repeated, judged, tasks)


def read_calibration(run_folder: Path) -> Calibration | None:
    """The temperatures of a run; None where it has none, or cannot be read, which is logged."""
    path = run_folder / CALIBRATION
    try:
        return Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, InputError) as error:
        logger.warning(
            "%s cannot be read (%s), so probabilities are not calibrated; repeat the run, which "
            "fits it anew without training",
            path,
            error,
        )
        return None


def _judge(recipe: FewShotRecipe, validation: ImageSet | None) -> Judge | None:
    if validation is None:
        return None
    episodes, seed = recipe.validation_episodes, recipe.seed
    layout = building.judged_layout(recipe)
    try:
        measured = ByEpisodes(validation, layout, episodes=episodes, seed=seed)
    except InputError as error:
        raise InputError(f"the validation part: {error}") from error
    return Judge(measured, best="accuracy")


def _check_judged(recipe: FewShotRecipe, judged: ImageSet, part: str) -> None:
    """Episodes can be drawn, before the work is done."""
    try:
        draw_episodes(judged.labels, building.judged_layout(recipe), 1)
    except InputError as error:
        raise InputError(f"the {part} part: {error}") from error


def _calibrated(
    model: FewShot, recipe: FewShotRecipe, validation: ImageSet, watcher: Watcher
) -> Calibration:
    rows = embed(model, validation, watcher.embedding)
    graph = recipe.method in GRAPHS
    layouts = layouts_to_calibrate(validation.labels, recipe.ways, recipe.shots, fixed_ways=graph)
    return calibrate(
        model.head,
        rows,
        validation.labels,
        layouts,
        episodes=CALIBRATED_BY,
        queries=1 if graph else 5,  # each is a graph of its own
        seed=recipe.seed,
        progress=watcher.calibrating,
    )


def _sizes(data: ImageData) -> dict[str, Any]:
    """Pictures and classes of each part."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        name: {"pictures": len(side), "classes": side.n_classes}
        for name, side in parts.items()
        if side
    }


def _earlier(out: Path) -> FewShotRecipe | None:
    """The recipe of the run that is there, which is resumed; None where none has begun."""
    begun = any((out / name).exists() for name in ("checkpoint", "model"))
    path = out / "recipe.yaml"
    return checked(FewShotRecipe, read_recipe(path)) if begun and path.exists() else None


def _keep(out: Path, known: dict[str, Any]) -> None:
    write_text(out / "results.json", json.dumps(known, indent=2))
