"""What a finished run is used for: embedding and measuring other pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tupelo.data import ImageData, ImageSet, images
from tupelo.data.official.places import folder_of
from tupelo.data.pictures import Progress
from tupelo.errors import DataError, InputError, MissingExtra
from tupelo.inference import Embeddings, Evaluation, evaluate
from tupelo.models import Model
from tupelo.recipes.reading import read_recipe, recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.recipes.reid_recipe import as_retrieval as reid_as_retrieval
from tupelo.recipes.reid_recipe import is_reid
from tupelo.recipes.tvae_recipe import as_retrieval, is_tvae
from tupelo.trained import Trained, load

CLUSTERED_AT_MOST = 10_000  # pictures; k-means of more takes longer than all the rest


class Opened(NamedTuple):
    """A trained model and the recipe of its run, None where it was trained without one.

    Of another kind of recipe, what tells how pictures are read.
    """

    trained: Trained
    recipe: RetrievalRecipe | None

    @property
    def model(self) -> Model:
        """The network, in evaluation mode."""
        return self.trained.model


def open_run(folder: Path) -> Opened:
    """The model of a run directory, or of a folder that `models.save` wrote, and its recipe.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path, trained = folder / "recipe.yaml", load(folder)
    if not path.exists():
        return Opened(trained, None)
    values = read_recipe(path)
    if is_tvae(values):
        values = as_retrieval(values)
    elif is_reid(values):
        values = reid_as_retrieval(values)
    return Opened(trained, recipe_from(values))


def read_like(
    opened: Opened,
    source: str,
    *,
    whole: bool = True,
    labelled: bool = True,
    columns: dict[str, str] | None = None,
    allow_bad: float = 0.01,
    progress: Progress | None = None,
) -> ImageData:
    """Pictures prepared as those the model was trained on.

    Args:
        opened: the model and its recipe.
        source: as for `data.images`.
        whole: all pictures as one part, found as `train`; else divided as the run divides them.
        labelled: each must have a label; otherwise one picture will do, or a folder of them.
        columns: see `data.images`; default those of the recipe.
        allow_bad: see `data.images`.
        progress: see `data.images`.
    """
    recipe, frame = opened.recipe, opened.trained.frame
    split = None if recipe is None or recipe.split == "auto" else recipe.split
    labels = "class" if recipe is None else recipe.labels
    return images(
        source,
        split="none" if whole else split,
        size=(frame.height, frame.width),
        channels=1 if frame.channels == 1 else 3,
        resize=frame.resize,
        validation=0.15 if recipe is None else recipe.validation,
        test=0.15 if recipe is None else recipe.test,
        seed=0 if recipe is None else recipe.seed,
        labels="any" if labels == "class" and not labelled else labels,
        columns=columns or (None if recipe is None else recipe.columns),
        allow_bad=allow_bad,
        progress=progress,
    )


def part_of(data: ImageData, part: str) -> ImageSet:
    """One part of the pictures, "all" being what `read_like` found whole.

    Raises:
        InputError: there is no such part.
    """
    found = {"train": data.train, "validation": data.validation, "test": data.test}
    chosen = data.train if part == "all" else found[part]
    if chosen is None:
        raise InputError(f"--part {part} is empty: the run divides these pictures without one")
    return chosen


def seen_in_training(opened: Opened, source: str, part: str) -> str:
    """A sentence where pictures of the training itself are measured, else nothing."""
    if opened.recipe is None or part in ("validation", "test"):
        return ""
    try:
        same = folder_of(source).resolve() == folder_of(opened.recipe.source).resolve()
    except DataError:  # the known data set of the run is not here, so it is another one
        return ""
    if not same:
        return ""
    return (
        "the model was trained on pictures of this source, so these scores are too good; "
        "--part test measures what it never saw"
    )


def clusters_quickly(pictures: ImageSet) -> bool:
    """Whether k-means of these pictures is worth its time."""
    return pictures.labels.ndim == 1 and len(pictures) <= CLUSTERED_AT_MOST


def measure(
    model: Model,
    pictures: ImageSet,
    gallery: ImageSet | None,
    progress: Callable[[int, int], None] | None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> Evaluation:
    """Scores of pictures that search each other, or a gallery whose classes have the same names.

    Args:
        model: the network.
        pictures: the queries.
        gallery: what they search; None for each other.
        progress: told how many pictures are embedded.
        ks: the K of Recall@K.
    """
    return evaluate(
        model,
        pictures,
        gallery=gallery,
        ks=ks,
        clustering=gallery is None and clusters_quickly(pictures),
        progress=progress,
    )


def check_target(path: Path) -> None:
    """Refuse a name of a file of embeddings before the work is done.

    Raises:
        InputError: it ends neither in .npz nor in .parquet.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise InputError(f"--out must end in .npz or .parquet, got {path}")


def write_embeddings(path: Path, embedded: Embeddings, class_names: tuple[str, ...]) -> None:
    """Write unit rows, labels and paths as `.npz` or `.parquet`, whole or not at all.

    An `.npz` holds `z` float32 (n, d), `labels` and `paths` (n,); a Parquet file a column of each.
    Tags of one picture are joined by `|`.

    Raises:
        InputError: the name ends otherwise.
        MissingExtra: Parquet without pyarrow.
    """
    check_target(path)
    z = embedded.z.numpy()
    labels = label_names(embedded.labels, class_names)
    paths = list(embedded.paths or map(str, range(len(z))))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.writing{path.suffix}")
    try:
        if path.suffix == ".npz":
            np.savez(unfinished, z=z, labels=np.array(labels), paths=np.array(paths))
        else:
            _write_parquet(unfinished, z, labels, paths)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def label_names(labels: np.ndarray, class_names: tuple[str, ...]) -> list[str]:
    """The label of each picture in words; tags of one joined by `|`."""
    if labels.ndim == 2:
        return ["|".join(class_names[tag] for tag in np.flatnonzero(row)) for row in labels]
    return [class_names[label] for label in labels]


def tag_sets(pictures: ImageSet) -> list[frozenset[str]]:
    """The names of each picture's class or tags: two pictures match when these overlap."""
    names = pictures.class_names
    if pictures.labels.ndim == 1:
        return [frozenset((names[label],)) for label in pictures.labels]
    return [frozenset(names[tag] for tag in np.flatnonzero(row)) for row in pictures.labels]


def _write_parquet(path: Path, z: np.ndarray, labels: list[str], paths: list[str]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(
            f"writing {path.suffix} needs pyarrow: pip install 'tupelo[tables]'; .npz needs nothing"
        ) from error
    rows = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1])
    parquet.write_table(pa.table({"path": paths, "label": labels, "z": rows}), path)
