"""Crops by identity out of any source of labelled pictures, for rendered scenes."""

from pathlib import Path

import numpy as np

from tupelo.data import ImageSet, images
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.recipes.reading import checked, read_recipe
from tupelo.recipes.reid_building import read_data, with_network
from tupelo.recipes.reid_recipe import ReidRecipe, is_reid
from tupelo.recipes.using import open_run, read_like

CROPS = 40  # of an identity, at most
FEWEST = 2  # crops of an identity, so that it can change its look


def read_crops(
    source: str,
    identities: int,
    *,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    unseen_by: Path | None = None,
    allow_bad: float = 0.01,
    progress: Progress | None = None,
) -> list[list[np.ndarray]]:
    """Crops of some identities of a source, drawn by the seed.

    Args:
        source: as for `tupelo train`: a sub-folder for each identity, a table, a known data set.
        identities: how many.
        seed: of the draw.
        size: height and width the crops are squeezed to; None: as they are, where all agree, else
            224 x 224.
        unseen_by: a run; take only identities of this source that did not train: of its test part,
            or where it has none, of its validation part.
        allow_bad: share of pictures that may be unusable.
        progress: told while pictures are read.

    Raises:
        InputError: there are too few identities with two crops or more; the run trained on all,
            or does not say on which.
    """
    if unseen_by is not None:
        pictures = _unseen(unseen_by, source, allow_bad, progress)
    else:
        pictures = images(
            source,
            split="none",
            size=size,
            channels=3,
            resize="squash",
            allow_bad=allow_bad,
            progress=progress,
        ).train
    return draw_crops(pictures, identities, seed=seed)


def draw_crops(pictures: ImageSet, identities: int, *, seed: int = 0) -> list[list[np.ndarray]]:
    """At most 40 RGB crops of each of some identities that have two or more.

    Args:
        pictures: with a class for each identity.
        identities: how many.
        seed: of the draw.

    Raises:
        InputError: there are too few.
    """
    generator = np.random.default_rng(seed)
    counts = np.bincount(pictures.labels, minlength=pictures.n_classes)
    able = np.flatnonzero(counts >= FEWEST)
    if len(able) < identities:
        raise InputError(
            f"a scene of {identities} walkers needs as many identities with {FEWEST} crops or "
            f"more, got {len(able)}; give more crops, or --walkers {max(1, len(able))}"
        )
    drawn = []
    for label in generator.permutation(able)[:identities]:
        rows = np.flatnonzero(pictures.labels == label)
        rows = generator.permutation(rows)[:CROPS]
        pixels = pictures.take(rows).permute(0, 2, 3, 1).numpy()
        drawn.append([np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one for one in pixels])
    return drawn


def _unseen(run: Path, source: str, allow_bad: float, progress: Progress | None) -> ImageSet:
    """The part of a source whose identities did not train in a run, as the run divides it."""
    opened, path = open_run(run), run / "recipe.yaml"
    values = read_recipe(path) if path.exists() else {}
    if is_reid(values):
        asked = {**values, "source": source, "allow_bad": allow_bad}
        data = read_data(with_network(checked(ReidRecipe, asked)), None, progress)
        return data.gallery or data.validation
    if opened.recipe is None:
        raise InputError(
            f"{run} does not say which identities trained; leave --unseen-by out, or give the "
            "folder of a run with its recipe.yaml"
        )
    data = read_like(opened, source, whole=False, allow_bad=allow_bad, progress=progress)
    part = data.gallery or data.test or data.validation
    if part is None:
        raise InputError(
            f"{run} trained on all identities of this source; leave --unseen-by out, or give other "
            "crops"
        )
    return part
