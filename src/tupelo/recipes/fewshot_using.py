"""What a finished few-shot run is used for: opening it, and judging it on other pictures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tupelo import fewshot
from tupelo.data import ImageData, ImageSet, images
from tupelo.data.decode import Frame
from tupelo.data.official.places import folder_of, is_named
from tupelo.data.pictures import Progress
from tupelo.errors import CheckpointError, DataError, InputError
from tupelo.fewshot import Calibration, FewShot, Layout
from tupelo.recipes.fewshot import Watcher, read_calibration
from tupelo.recipes.fewshot_building import (
    fitting_queries,
    judged_layout,
    read_data,
    source_of,
)
from tupelo.recipes.fewshot_measuring import Scores, Task, embed, measure, some_tasks
from tupelo.recipes.fewshot_recipe import FewShotRecipe
from tupelo.recipes.reading import checked, read_recipe


class Opened(NamedTuple):
    """A few-shot learner with what belongs to it.

    Attributes:
        model: in evaluation mode.
        frame: the form of its pictures.
        recipe: of its run; None where it was trained without one.
        calibration: its temperatures; None where it had no validation classes.
    """

    model: FewShot
    frame: Frame
    recipe: FewShotRecipe | None
    calibration: Calibration | None

    @property
    def fixed_ways(self) -> int | None:
        """The number of classes its head was made for; None: any."""
        return self.model.head.options().get("ways")


def open_run(run: Path) -> Opened:
    """The learner of a run directory, or of a folder that `fewshot.save` wrote.

    Raises:
        CheckpointError: there is none, it cannot be read, or it does not say how pictures are
            prepared.
    """
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "fewshot.safetensors").is_file():
        if (folder / "model.safetensors").is_file():
            raise CheckpointError(
                f"{run} holds an embedding for retrieval; few-shot commands need a run of tupelo "
                "fewshot train"
            )
        if (run / "checkpoint").is_dir() or (run / "recipe.yaml").is_file():
            raise CheckpointError(
                f"{run} is a run that has not finished; repeat its tupelo fewshot train command to "
                "finish it"
            )
        raise CheckpointError(
            f"{run} holds no run; give the folder that tupelo fewshot train wrote with --out"
        )
    model, about = fewshot.load(folder), fewshot.about(folder)
    try:
        frame = Frame(**about["pictures"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} does not say how pictures are prepared for its model; save it with "
            'about={"pictures": data.train.frame._asdict()}'
        ) from error
    path = run / "recipe.yaml"
    recipe = checked(FewShotRecipe, read_recipe(path)) if path.is_file() else None
    return Opened(model, frame, recipe, read_calibration(run))


def read_like(
    opened: Opened,
    source: str,
    *,
    whole: bool = True,
    labels: str = "class",
    columns: dict[str, str] | None = None,
    allow_bad: float = 0.01,
    progress: Progress | None = None,
) -> ImageData:
    """Pictures prepared as those the learner was trained on.

    Args:
        opened: the learner.
        source: as for `data.images`, or the name of a known data set.
        whole: all pictures as one part, found as `train`; else divided as the run divides them.
        labels: see `data.images`.
        columns: see `data.images`; default those of the recipe.
        allow_bad: see `data.images`.
        progress: see `data.images`.
    """
    recipe, frame = opened.recipe, opened.frame
    if not whole and recipe is not None:
        again = {"source": source_of(source), "rotations": False, "allow_bad": allow_bad}
        if columns is not None:
            again["columns"] = columns
        return read_data(recipe.model_copy(update=again), None, progress)
    return images(
        source_of(source),
        split="none",
        size=(frame.height, frame.width),
        channels=1 if frame.channels == 1 else 3,
        resize=frame.resize,
        labels=labels,
        columns=columns or (None if recipe is None else recipe.columns or None),
        allow_bad=allow_bad,
        progress=progress,
    )


def usual_part(opened: Opened, source: str) -> str:
    """The part to judge on: "test" where the source is that of the run, else "all"."""
    return "test" if _same_source(opened, source) else "all"


def part_of(opened: Opened, data: ImageData, part: str, source: str) -> tuple[ImageSet, str]:
    """One part of the pictures, and a sentence where the scores are too good.

    Raises:
        InputError: the run divides these pictures without such a part.
    """
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    chosen = data.train if part == "all" else parts[part]
    if chosen is None:
        raise InputError(
            f"--part {part} is empty: the run divides these pictures without one; "
            "give --part all, or a part that it has"
        )
    note = ""
    if part in ("all", "train") and _same_source(opened, source):
        note = (
            "the learner was trained on classes of this source, so these scores are too good; "
            "--part test has classes it never saw"
        )
    return chosen, note


def layout_for(
    opened: Opened,
    pictures: ImageSet,
    *,
    ways: int | None,
    shots: int | None,
    queries: int | None,
) -> Layout:
    """The episodes in which a learner is judged; what is not given is as it was trained.

    Raises:
        InputError: the learner answers among another number of classes, or as `Layout`.
    """
    recipe = opened.recipe
    n = (opened.fixed_ways or (recipe.ways if recipe else 5)) if ways is None else ways
    check_ways(opened, n, f"--ways {n}")
    k = (recipe.shots if recipe else 1) if shots is None else shots
    if queries is None:
        most = (recipe.queries if recipe else None) or 15
        queries = fitting_queries(np.bincount(pictures.labels), max(n, 1), k, most)
    return Layout(n, k, queries, unlabelled=recipe.unlabelled if recipe and shots is None else 0)


def judged(
    opened: Opened,
    pictures: ImageSet,
    layout: Layout,
    *,
    episodes: int,
    seed: int,
    watcher: Watcher,
    part: str = "all",
) -> Scores:
    """Accuracy and calibration over episodes, with the seconds that embedding took.

    Args:
        opened: the learner.
        pictures: to judge by.
        layout: of an episode.
        episodes: how many.
        seed: of the draw.
        watcher: told what happens.
        part: what the pictures are, for a refusal; see `part_of`.

    Raises:
        InputError: the classes do not allow such episodes, or the learner answers among another
            number of classes.
    """
    check_ways(opened, layout.ways, f"--ways {layout.ways}")
    try:
        fewshot.draw_episodes(pictures.labels, layout, 1)  # refused before the work is done
    except InputError as error:
        if part == "all":
            raise
        raise InputError(
            f"the {part} part, whose classes the run keeps apart: {error}; or give --part all"
        ) from error
    began = time.perf_counter()
    rows = embed(opened.model, pictures, watcher.embedding)
    seconds = time.perf_counter() - began
    scores = measure(
        opened.model.head,
        rows,
        pictures.labels,
        layout,
        opened.calibration,
        episodes=episodes,
        seed=seed,
        progress=watcher.scoring,
    )
    return {
        "pictures": len(pictures),
        "classes": pictures.n_classes,
        **scores,
        "unlabelled": layout.unlabelled,
        "seed": seed,
        "embedding_seconds": round(seconds, 3),
    }


def tasks_of(
    opened: Opened,
    source: str | None,
    part: str | None,
    *,
    columns: dict[str, str] | None = None,
    reading: Progress | None = None,
    embedding: Callable[[int, int], None] | None = None,
) -> tuple[ImageSet, tuple[Task, ...]]:
    """A few episodes with their answers, of pictures of the run.

    Args:
        opened: the learner.
        source: where the pictures are now; None: where they were.
        part: of them; None: the test part, or validation where there is no test.
        columns: see `data.images`.
        reading: see `data.images`.
        embedding: called with (pictures done, pictures in all).

    Raises:
        InputError: no recipe names the pictures, or there is no such part.
        DataError: they are no longer there.
    """
    recipe = opened.recipe
    if recipe is None:
        raise InputError("the run holds no recipe that names its pictures, so none can be shown")
    named = source_of(source or recipe.source)
    if source is None and not is_named(named) and not Path(named).exists():
        raise DataError(
            f"the pictures of the run are no longer at {named}; give --source, the place where "
            "they are now"
        )
    data = read_like(opened, named, whole=False, columns=columns or None, progress=reading)
    chosen = part or ("test" if data.test else "validation")
    pictures, _ = part_of(opened, data, chosen, named)
    rows = embed(opened.model, pictures, embedding)
    layout = judged_layout(recipe)
    told = opened.model.head, rows, pictures.labels, layout, opened.calibration
    return pictures, some_tasks(*told, seed=recipe.seed)


def check_ways(opened: Opened, ways: int, asked: str) -> None:
    """The learner answers among so many classes.

    Raises:
        InputError: it was made for another number.
    """
    if opened.fixed_ways not in (None, ways):
        raise InputError(
            f"this run is a graph network for exactly {opened.fixed_ways} classes, which are part "
            f"of its layers, and {asked} asks for {ways}; train one with --ways {ways}, or train "
            "--method pn or matching, which take any number"
        )


def _same_source(opened: Opened, source: str) -> bool:
    if opened.recipe is None:
        return False
    given, own = source_of(source), opened.recipe.source
    if given == own:
        return True
    try:
        return folder_of(given).resolve() == folder_of(own).resolve()
    except DataError:  # the known data set of the run is not here, so it is another one
        return False
