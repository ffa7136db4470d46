"""From a recipe of `tupelo tvae train` to what it names: pictures, model, triplets, settings."""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from tupelo.data import ImageData, ImageSet
from tupelo.data.images import list_source, open_listing
from tupelo.data.listing import TRAIN, Listing
from tupelo.data.loader import BatchMaker
from tupelo.data.official.layout import Asked
from tupelo.data.official.places import is_named
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.generative import (
    Bernoulli,
    FreshTriplets,
    ReconstructionLoss,
    Squared,
    TripletBatches,
    TripletList,
    TripletVAE,
    random_triplets,
)
from tupelo.models import VAE, conv_vae, mlp_vae
from tupelo.recipes.fewshot_building import source_of
from tupelo.recipes.reading import checked
from tupelo.recipes.tvae_recipe import TvaeRecipe
from tupelo.training import Settings

logger = logging.getLogger(__name__)

SMALL_SIDE = 32  # pixels, up to which one hidden layer does
USUAL_DIM = {"mlp": 20, "conv": 64}
HIDDEN = 400
USUAL_SHARES = (0.1, 0.15)  # to choose on, to judge by
SMALLEST = 6  # pictures of a class (or classes) that are divided into three parts
TRAINING, CHOOSING, JUDGING = 0, 1, 2  # what a list of triplets is for, part of its seed


class Labelled(NamedTuple):
    """Positions of training pictures whose class is used, and of the others."""

    rows: Int64[np.ndarray, " m"]
    unlabelled: Int64[np.ndarray, " u"]


def read_data(
    recipe: TvaeRecipe, bad_items: Path | None, progress: Progress | None
) -> tuple[TvaeRecipe, ImageData]:
    """The pictures of a recipe, split as it says, and the recipe with its split.

    Raises:
        DataError: as `data.images`.
        InputError: pictures have tags instead of classes.
    """
    source = source_of(recipe.source)
    listing = list_source(source, recipe.columns or None, Asked("class", seed=recipe.seed))
    if listing.labels.ndim != 1:
        raise InputError(
            f"triplets need one class a picture, and {recipe.source} has tags; choose one of them"
        )
    split = recipe.split
    if split == "auto":
        split = "items" if listing.given is None else "given"
    validation, test = _shares(recipe, listing, split)
    data = open_listing(
        listing,
        source,
        split=split,
        size=recipe.size,
        channels={"auto": "auto", "1": 1, "3": 3}[recipe.channels],
        resize=recipe.resize,
        validation=validation,
        test=test,
        seed=recipe.seed,
        allow_bad=recipe.allow_bad,
        bad_items=bad_items,
        progress=progress,
    )
    known = {"split": split, "validation": validation, "test": test}
    return recipe.model_copy(update=known), data


def _shares(recipe: TvaeRecipe, listing: Listing, split: str) -> tuple[float, float]:
    """What is taken to choose on and to judge by: of small classes two pictures, or none."""
    given = listing.given if split == "given" else None
    labels = listing.labels if given is None else listing.labels[given == TRAIN]
    counts = np.bincount(labels)
    typical = int(np.median(counts[counts > 0]))
    chosen, judged = USUAL_SHARES
    if split == "classes":
        if (counts > 0).sum() < SMALLEST:
            chosen = judged = 0.0
    elif typical < SMALLEST:
        chosen = judged = 0.0
    else:
        chosen, judged = (max(share, 2 / typical) for share in (chosen, judged))
    return (
        chosen if recipe.validation is None else recipe.validation,
        judged if recipe.test is None else recipe.test,
    )


def resolve(recipe: TvaeRecipe, train: ImageSet) -> TvaeRecipe:
    """The recipe with everything that was left open chosen from the training pictures.

    Raises:
        InputError: the pictures are of a form that no model takes.

    >>> pictures = ImageSet.from_arrays(np.zeros((80, 28, 28), np.uint8), np.arange(8).repeat(10))
    >>> full = resolve(TvaeRecipe(source="photos"), pictures)
    >>> full.model, full.dim, full.triplets
    ('mlp', 20, 80)
    """
    height, width = train.size
    if height != width:
        raise InputError(
            f"an autoencoder takes square pictures, these are {height} x {width}; give --size "
            f"{max(height, width)} (and --resize crop, squash or pad)"
        )
    small = height <= SMALL_SIDE and recipe.reconstruction == "bernoulli"
    model = recipe.model or ("mlp" if small else "conv")
    if model == "conv" and height % 16:
        raise InputError(
            f"--model conv takes pictures whose side is a multiple of 16, these have {height}; "
            f"give --size {max(16, round(height / 16) * 16)}"
        )
    usual: dict[str, Any] = {
        "size": height,
        "channels": str(train.channels),
        "model": model,
        "dim": USUAL_DIM[model],
        "triplets": len(train),
    }
    if model == "mlp":
        usual["hidden"] = HIDDEN
    given = recipe.model_dump()
    chosen = {name: value for name, value in usual.items() if given[name] in (None, "auto")}
    named = source_of(recipe.source)
    # not resolve(): links stay named as they are, and so do known data sets
    source = named if is_named(named) else os.path.abspath(named)  # noqa: PTH100
    return checked(TvaeRecipe, {**given, **chosen, "source": source})


def build_model(recipe: TvaeRecipe) -> VAE:
    """The model of a resolved recipe; its random start comes from the global generator."""
    form = {
        "dim": recipe.dim or USUAL_DIM["mlp"],
        "channels": int(recipe.channels),
        "size": recipe.size or 28,
    }
    if recipe.model == "mlp":
        return mlp_vae(**form, hidden=recipe.hidden or HIDDEN)
    return conv_vae(**form, output="pixels" if recipe.reconstruction == "squared" else "logits")


def build_reconstruction(recipe: TvaeRecipe) -> ReconstructionLoss:
    """How far a reconstruction is from its picture."""
    return Squared() if recipe.reconstruction == "squared" else Bernoulli()


def labelled(recipe: TvaeRecipe, train: ImageSet) -> Labelled:
    """Which training pictures use their class: a share of each, at least two where there are."""
    everything = np.arange(len(train))
    if recipe.labelled == 1:
        return Labelled(everything, everything[:0])
    rng = np.random.default_rng(recipe.seed)
    kept = []
    for number in range(train.n_classes):
        rows = rng.permutation(np.flatnonzero(train.labels == number))
        kept.append(rows[: max(2, round(recipe.labelled * len(rows)))])
    rows = np.sort(np.concatenate(kept))
    return Labelled(rows, np.setdiff1d(everything, rows))


def draw_triplets(
    pictures: ImageSet, count: int, seed: int, purpose: int, part: str, among: np.ndarray | None
) -> TripletList:
    """A fixed list; classes of one picture are only negatives, which is logged.

    Raises:
        InputError: there is nothing to draw, naming the part.
    """
    try:
        return random_triplets(
            pictures.labels,
            count,
            seed=(seed, purpose),
            classes=anchor_classes(pictures, among, part),
            among=among,
        )
    except InputError as error:
        raise InputError(f"the {part} part: {error}") from error


def anchor_classes(pictures: ImageSet, among: np.ndarray | None, part: str) -> list[int] | None:
    """Classes with at least two pictures, where some have one; None for all."""
    labels = pictures.labels if among is None else pictures.labels[among]
    counts = np.bincount(labels, minlength=pictures.n_classes)
    lonely = np.flatnonzero(counts == 1)
    if not len(lonely):
        return None
    logger.warning(
        "the %s part: %d of %d classes have one picture and are only negatives: %s ...",
        part,
        len(lonely),
        int((counts > 0).sum()),
        [pictures.class_names[number] for number in lonely[:5]],
    )
    return np.flatnonzero(counts > 1).tolist()


def build_batches(recipe: TvaeRecipe, train: ImageSet, out: Path | None) -> BatchMaker:
    """The triplets of a resolved recipe, a fixed list being written into the run.

    Raises:
        InputError: there are too few pictures or classes.
    """
    known = labelled(recipe, train)
    among = known.rows if len(known.unlabelled) else None
    count = recipe.triplets or len(train)
    options: dict[str, Any] = {
        "per_batch": recipe.batch,
        "seed": recipe.seed,
        "unlabelled": known.unlabelled,
        "even": True,  # or the last step of an epoch might be that of a single triplet
    }
    drawn = draw_triplets(train, count, recipe.seed, TRAINING, "training", among)
    if not recipe.fresh:
        if out is not None:
            drawn.write(out / "triplets.csv")
        return TripletBatches(drawn, **options)
    classes = anchor_classes(train, among, "training")
    return FreshTriplets(train.labels, count, classes=classes, among=among, **options)


def build_objective(recipe: TvaeRecipe, batches: BatchMaker) -> TripletVAE:
    """What a resolved recipe trains its model on."""
    return TripletVAE(
        margin=recipe.margin or 0.2,
        weight_vae=recipe.weight_vae or 0.0,
        weight_triplet=recipe.weight_triplet or 0.0,
        weight_regulariser=recipe.weight_regulariser or 0.0,
        unlabelled=getattr(batches, "per_triplet", 0),
        reconstruction=build_reconstruction(recipe),
    )


def build_settings(recipe: TvaeRecipe) -> Settings:
    """The settings of the training loop."""
    stated = recipe.model_dump()
    names = Settings.__dataclass_fields__.keys() & stated.keys()
    return Settings(**{name: stated[name] for name in names}, optimizer="adam", weight_decay=0.0)
