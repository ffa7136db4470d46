"""From a recipe of `tupelo reid train` to what it names: crops, model, objective, settings."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from tupelo import losses
from tupelo.data import BoxJitter, ClassBalanced, ImageSet, ShiftedBoxes, WithShifted
from tupelo.data.augment import Compose, HorizontalFlip
from tupelo.data.images import list_source, open_listing
from tupelo.data.imageset import Augment
from tupelo.data.listing import TEST, BadItem
from tupelo.data.loader import BatchMaker
from tupelo.data.official import market
from tupelo.data.official.layout import Asked
from tupelo.data.official.places import is_named
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.models import Embedder, embedder
from tupelo.models.reid import REID, REID_SMALL, SIZES
from tupelo.objectives import Misplaced, OnBalancedPairs, OnClasses, OnTuples
from tupelo.recipes.fewshot_building import source_of
from tupelo.recipes.reading import checked
from tupelo.recipes.reid_recipe import USUAL_DIM, ReidRecipe
from tupelo.selection import PerAnchor
from tupelo.training import Settings
from tupelo.types import Objective

logger = logging.getLogger(__name__)

USUAL_STEPS = 3000
USUAL_IDENTITIES = 32
FEWEST_HELD_OUT = 2  # identities, or there would be nobody to mistake one for
SAID_BY_ITS_READER = "pairs of one camera are not left out"  # here they are
Cameras = Int64[np.ndarray, " _"] | None


@dataclass(frozen=True, eq=False)
class ReidData:
    """Crops by identity, for training and for judging.

    Attributes:
        train: identities with two crops or more, but for those held out.
        validation: identities held out to choose and to calibrate on.
        query: of the source's test part; None where it has none.
        gallery: what the queries search; None for each other.
        cameras: by name of the part, of each crop; None where cameras are not known.
        skipped: identities that have one crop, and so no pair, and their crops.
        bad: pictures left out, with the reason.
        notes: what a reader of results must know.
    """

    train: ImageSet
    validation: ImageSet
    query: ImageSet | None
    gallery: ImageSet | None
    cameras: dict[str, Cameras]
    skipped: int
    bad: tuple[BadItem, ...]
    notes: tuple[str, ...]


def with_network(recipe: ReidRecipe) -> ReidRecipe:
    """The recipe with its network, and what follows from that.

    >>> with_network(ReidRecipe(source="crops", network="reid-small")).size
    (64, 32)
    """
    gpu = recipe.accelerator in ("cuda", "mps")
    gpu = gpu or (recipe.accelerator == "auto" and torch.cuda.is_available())
    network = recipe.network or (REID if gpu else REID_SMALL)
    size = SIZES[network] if recipe.size is None else recipe.size
    known = {"network": network, "size": size, "dim": recipe.dim or USUAL_DIM[network]}
    return recipe.model_copy(update=known)


def read_data(recipe: ReidRecipe, bad_items: Path | None, progress: Progress | None) -> ReidData:
    """The crops of a recipe: whole, squeezed to the size, as a tracker cuts its boxes.

    Raises:
        DataError: as `data.images`.
        InputError: pictures have tags instead of identities; too few identities have two crops.
    """
    source = source_of(recipe.source)
    listing = list_source(source, recipe.columns or None, Asked("class", seed=recipe.seed))
    if listing.labels.ndim != 1:
        raise InputError(
            f"re-identification needs one identity a picture, and {recipe.source} has tags"
        )
    tested = listing.given is not None and bool((listing.given == TEST).any())
    data = open_listing(
        listing,
        source,
        split="given" if tested else "none",
        size=recipe.size,
        channels={"auto": "auto", "1": 1, "3": 3}[recipe.channels],
        resize="squash",
        validation=0,
        test=0,
        seed=recipe.seed,
        allow_bad=recipe.allow_bad,
        bad_items=bad_items,
        progress=progress,
    )
    several = np.flatnonzero(np.bincount(data.train.labels)[data.train.labels] > 1)
    skipped = data.train.n_classes - len(np.unique(data.train.labels[several]))
    if len(several) == 0:
        raise InputError(
            f"no identity of {recipe.source} has 2 crops, so there is no pair of the same: "
            f"{data.train.n_classes} identities of 1 crop each; check that folders are identities"
        )
    usable = data.train.subset(several)
    train, validation = _held_out(usable, data.validation, recipe)
    parts = {"train": train, "validation": validation, "query": data.test, "gallery": data.gallery}
    seen = {name: side.paths for name, side in parts.items() if side is not None}
    # told by the command itself, which keeps the rule
    notes = tuple(note for note in data.notes if SAID_BY_ITS_READER not in note)
    return ReidData(
        train, validation, data.test, data.gallery, cameras_of(seen), skipped, data.bad, notes
    )


def _held_out(
    usable: ImageSet, given: ImageSet | None, recipe: ReidRecipe
) -> tuple[ImageSet, ImageSet]:
    """Identities that train, and those that choose."""
    n = usable.n_classes
    if given is not None and n >= 2:
        return usable, given
    held = max(FEWEST_HELD_OUT, round(recipe.validation * n))
    if n - held < 2:
        raise InputError(
            f"re-identification needs at least {2 + FEWEST_HELD_OUT} identities with 2 crops, two "
            f"to train on and {held} to choose and calibrate on, got {n} in {recipe.source}; give "
            "more identities, or a smaller --validation"
        )
    chosen = np.random.default_rng(recipe.seed).permutation(n)[:held]
    apart = np.isin(usable.labels, chosen)
    return usable.subset(np.flatnonzero(~apart)), usable.subset(np.flatnonzero(apart))


def cameras_of(parts: dict[str, Sequence[str]]) -> dict[str, Cameras]:
    """The camera of each crop by the name of its file, where all are named as in Market-1501.

    Of a part in which nobody is seen by two cameras they are of no use, and not given.

    >>> cameras_of({"query": ["a/0001_c2s1_000001_00.jpg"], "gallery": ["b.png"]})
    {'query': None, 'gallery': None}
    """
    try:
        return {name: market.cameras(paths) for name, paths in parts.items()}
    except InputError:
        return dict.fromkeys(parts)


def crossing(labels: np.ndarray, cameras: Cameras) -> Cameras:
    """The cameras, if somebody is seen by two of them; else None, so that the rule is off."""
    if cameras is None:
        return None
    seen = np.unique(np.stack([labels, cameras]), axis=1)[0]
    return cameras if len(seen) > len(np.unique(seen)) else None


def resolve(recipe: ReidRecipe, train: ImageSet) -> ReidRecipe:
    """The recipe with everything that was left open chosen from the training crops.

    >>> crops = ImageSet.from_arrays(np.zeros((12, 64, 32, 3), np.uint8), np.arange(12) // 4)
    >>> full = resolve(with_network(ReidRecipe(source="crops", network="reid-small")), crops)
    >>> full.identities, full.per_identity, full.epochs
    (3, 4, 200)
    """
    usual: dict[str, Any] = {
        "size": train.size,
        "channels": str(train.channels),
        "identities": _identities(recipe, train),
    }
    given = recipe.model_dump()
    chosen = {name: value for name, value in usual.items() if given[name] in (None, "auto")}
    sized = recipe.model_copy(update=chosen)
    epochs = recipe.epochs
    if epochs is None:
        steps = len(_drawn(sized, train).epoch(0))
        chosen["epochs"] = epochs = int(np.clip(round(USUAL_STEPS / steps), 10, 200))
    if recipe.evaluate_every is None:
        chosen["evaluate_every"] = max(1, epochs // 10)
    # not resolve(): links stay named as they are, and so do known data sets
    named = source_of(recipe.source)
    source = named if is_named(named) else os.path.abspath(named)  # noqa: PTH100
    return checked(ReidRecipe, {**given, **chosen, "source": source})


def _identities(recipe: ReidRecipe, train: ImageSet) -> int:
    """As many as there are up to 32, that fill a batch where some have few crops."""
    counts = np.minimum(np.bincount(train.labels), recipe.per_identity)
    return max(2, min(USUAL_IDENTITIES, int(counts.sum()) // recipe.per_identity))


def _drawn(recipe: ReidRecipe, train: ImageSet) -> ClassBalanced:
    asked = {"classes": recipe.identities or 2, "per_class": recipe.per_identity}
    return ClassBalanced(train.labels, **asked, seed=recipe.seed)


def build_model(recipe: ReidRecipe) -> Embedder:
    """The network of a resolved recipe; its random start comes from the global generator."""
    return embedder(
        recipe.network or REID_SMALL,
        dim=recipe.dim or 64,
        channels=int(recipe.channels),
        size=recipe.size,
    )


def build_batches(recipe: ReidRecipe, train: ImageSet) -> BatchMaker:
    """Identities x crops, followed by those that are moved off their object."""
    batches = _drawn(recipe, train)
    return WithShifted(batches, recipe.shifted, recipe.seed) if recipe.shifted else batches


def build_augmentation(recipe: ReidRecipe, train: ImageSet) -> Augment | None:
    """What is done to the crops of a training batch."""
    steps: list[Augment] = []
    if recipe.shifted:
        steps.append(ShiftedBoxes(_drawn(recipe, train).batch_size))
    if recipe.jitter:
        steps.append(BoxJitter(recipe.jitter, recipe.jitter))
    if recipe.flip:
        steps.append(HorizontalFlip())
    return Compose(tuple(steps)) if steps else None


def build_objective(recipe: ReidRecipe, train: ImageSet) -> Objective:
    """What a resolved recipe trains its model on.

    Raises:
        InputError: an option is none of the loss, or out of its range.
    """
    stated = recipe.loss_options
    if stated and (recipe.loss != "softmax" or not stated.keys() <= {"scale", "learning_rate"}):
        raise InputError(
            "--loss-option must be scale or learning_rate of --loss softmax, got "
            f"{', '.join(stated)} for {recipe.loss}"
        )
    if recipe.loss == "softmax":
        numbers = {name: float(value) for name, value in stated.items()}
        return OnClasses(losses.CosineSoftmax(train.n_classes, recipe.dim or 64, **numbers))
    if recipe.loss == "triplet":
        objective = OnTuples(PerAnchor("hardest", "hardest"), losses.SoftTriplet())
    else:
        loss = losses.Contrastive(0.0, recipe.margin, squared=True, average="pairs")
        objective = OnBalancedPairs(loss)
    if not recipe.shifted:
        return objective
    return Misplaced(objective, _drawn(recipe, train).batch_size)


def build_settings(recipe: ReidRecipe) -> Settings:
    """The settings of the training loop."""
    stated = recipe.model_dump()
    names = Settings.__dataclass_fields__.keys() & stated.keys()
    return Settings(**{name: stated[name] for name in names}, optimizer="adam")
