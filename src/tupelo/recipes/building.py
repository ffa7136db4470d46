"""From a recipe to what it names: pictures, model, objective, settings."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.data import (
    ClassBalanced,
    ImageData,
    ImageSet,
    NPair,
    RandomPairs,
    Triplets,
    default_augmentation,
    images,
)
from tupelo.data.augment import Compose, HorizontalFlip, RandomCrop
from tupelo.data.imageset import Augment
from tupelo.data.loader import BatchMaker
from tupelo.data.official.places import is_named
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.models import Embedder, Ensemble, embedder
from tupelo.recipes.combinations import refusal
from tupelo.recipes.ensembles import build_ensemble
from tupelo.recipes.reading import recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.training import Settings

SMALL_SIDE = 128  # pixels up to which the small convnet is the better choice
USUAL_STEPS = 2000
USUAL_BATCH = 64  # pictures
USUAL_TUPLES = {"n-pair": 32, "triplets": 40}  # classes, for about as many pictures
USUAL_PAIRS = 32
CALIBRATED_STEPS = 200  # at most, of HDML
IAA_STARTS_AFTER = 30  # epochs at most, as published for 100


def read_data(
    recipe: RetrievalRecipe, bad_items: Path | None, progress: Progress | None
) -> ImageData:
    """The pictures of a recipe, split as it says; those left out are listed in `bad_items`."""
    return images(
        recipe.source,
        split=None if recipe.split == "auto" else recipe.split,
        size=recipe.size,
        channels={"auto": "auto", "1": 1, "3": 3}[recipe.channels],
        resize=recipe.resize,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
        allow_bad=recipe.allow_bad,
        bad_items=bad_items,
        columns=recipe.columns,
        labels=recipe.labels,
        progress=progress,
    )


def resolve(
    recipe: RetrievalRecipe, train: ImageSet, earlier: RetrievalRecipe | None = None
) -> RetrievalRecipe:
    """The recipe with everything that was left open chosen from the training pictures.

    Args:
        recipe: what was said.
        train: the training pictures.
        earlier: of the run that is resumed; what it chose by its length it keeps when it is made
            longer.

    Raises:
        InputError: the synthesis would begin after the end of the run.

    >>> pictures = ImageSet.from_arrays(np.zeros((12, 16, 16), np.uint8), [0, 1, 2] * 4)
    >>> full = resolve(RetrievalRecipe(source="photos"), pictures)
    >>> full.backbone, full.classes, full.per_class, full.lr
    ('convnet', 3, 4, 0.001)
    """
    height, width = train.size
    published = recipe.pretrained or recipe.weights is not None
    small = max(height, width) <= SMALL_SIDE and not published
    classes, per_class = _batch(recipe, train)
    usual: dict[str, Any] = {
        "size": height if height == width else (height, width),
        "channels": str(train.channels),
        "augment": "crop-flip" if train.channels == 3 else "crop",
        "backbone": "convnet" if small else "resnet18",
        "classes": classes,
        "per_class": per_class,
        "lr": 1e-4 if published else 1e-3,
    }
    sized = recipe.model_copy(update={"classes": classes, "per_class": per_class})
    batches = len(build_batches(sized, train).epoch(0))
    epochs = recipe.epochs
    if epochs is None and recipe.steps is None:
        usual["epochs"] = epochs = int(np.clip(round(USUAL_STEPS / batches), 10, 100))
    usual["evaluate_every"] = max(1, (epochs or 20) // 20)
    given = recipe.model_dump()
    chosen = {name: value for name, value in usual.items() if given[name] in (None, "auto")}
    synthesis = _synthesis_options(recipe, batches, epochs)
    if earlier is None:
        _check_that_it_begins(recipe, batches, epochs)
    if earlier is not None and earlier.synthesis == recipe.synthesis:
        known = earlier.synthesis_options
        synthesis |= {name: known[name] for name in synthesis.keys() & known.keys()}
    chosen["synthesis_options"] = {**synthesis, **recipe.synthesis_options}
    # not resolve(): links stay named as they are, and so do known data sets
    source = recipe.source if is_named(recipe.source) else os.path.abspath(recipe.source)  # noqa: PTH100
    return recipe_from({**given, **chosen, "source": source})


def _synthesis_options(recipe: RetrievalRecipe, batches: int, epochs: int | None) -> dict[str, Any]:
    """What a synthesis needs to know of the length of a run.

    HDML's alpha and beta belong to the scale of a loss; unless they are given they are found in
    the first steps. IAA waits for embeddings that mean something: a third of the run, as published.
    """
    given = recipe.synthesis_options
    steps = recipe.steps or batches * (epochs or 1)
    epochs = epochs or -(-steps // batches)
    if recipe.synthesis == "hdml" and given.keys().isdisjoint(("alpha", "beta", "calibrate")):
        return {"calibrate": max(1, min(CALIBRATED_STEPS, steps // 10))}
    if recipe.synthesis == "iaa":
        length = {"epochs": epochs} if "decay" in given else {}
        return {"start_after": min(IAA_STARTS_AFTER, epochs // 3), **length}
    return {}


def _check_that_it_begins(recipe: RetrievalRecipe, batches: int, epochs: int | None) -> None:
    """Refuse a synthesis that waits longer than the run, as that of a longer run's recipe may."""
    given = recipe.synthesis_options
    steps = recipe.steps or batches * (epochs or 1)
    name, unit, length = "calibrate", "steps", steps
    waits = given.get(name, 0)
    if recipe.synthesis == "iaa":
        name, unit, length = "start_after", "epochs", epochs or -(-steps // batches)
        waits = given.get(name, 0) + given.get("warmup_epochs", 0)
    if waits >= length:
        raise InputError(
            f"--synthesis-option {name}={given.get(name, 0)} leaves nothing of a run of {length} "
            f"{unit} to --synthesis {recipe.synthesis}; give {name}={length // 3}, or train longer"
        )


def _batch(recipe: RetrievalRecipe, train: ImageSet) -> tuple[int, int]:
    """Classes a batch and pictures a class: batches of 64 where the classes allow it."""
    counts = _counts(train)
    if recipe.batches == "pairs":
        return recipe.classes or USUAL_PAIRS, 2
    if recipe.batches != "classes":
        most = min(USUAL_TUPLES[recipe.batches or "n-pair"], len(counts))
        return recipe.classes or most - most % 2, 2
    typical = max(2, int(np.median(counts)))
    classes = recipe.classes or min(16, len(counts))
    per_class = recipe.per_class or min(max(4, USUAL_BATCH // classes), typical)
    while recipe.classes is None and classes > 2 and not _fills(counts, classes, per_class):
        classes -= 1
    while recipe.per_class is None and per_class > 2 and not _fills(counts, classes, per_class):
        per_class -= 1
    return classes, per_class


def _counts(train: ImageSet) -> np.ndarray:
    """Pictures of each class; of each tag, those that surely stand for it in an epoch."""
    if train.labels.ndim == 1:
        return np.bincount(train.labels)
    # an item stands for one of its tags in each epoch, see data.ClassBalanced
    return np.minimum(train.labels.sum(axis=0), 3 * len(train) // (4 * train.n_classes))


def _fills(counts: np.ndarray, classes: int, per_class: int) -> bool:
    return int(np.minimum(counts, per_class).sum()) >= classes * per_class


def build_model(recipe: RetrievalRecipe) -> Embedder | Ensemble:
    """The network of a resolved recipe; its random start comes from the global generator.

    Raises:
        InputError: as `models.embedder` and what makes an ensemble of it.
    """
    single = embedder(
        recipe.backbone or "convnet",
        dim=recipe.dim,
        pretrained=recipe.pretrained,
        weights=recipe.weights,
        channels=int(recipe.channels),
        size=recipe.size,
        pooling=recipe.pooling,
        batch_norm=bool(recipe.batch_norm),
    )
    return build_ensemble(recipe, single)


def build_batches(recipe: RetrievalRecipe, train: ImageSet) -> BatchMaker:
    """What makes the batches of a resolved recipe.

    Raises:
        InputError: a batch is drawn as tuples, and a class has a single picture, or the pictures
            have tags.
    """
    classes, per_class = recipe.classes or 2, recipe.per_class or 2
    if recipe.batches == "classes":
        return ClassBalanced(train.labels, classes=classes, per_class=per_class, seed=recipe.seed)
    if train.labels.ndim == 2 and (reason := refusal(recipe.combination._replace(tags=True))):
        raise InputError(reason)
    if recipe.batches == "pairs":
        return RandomPairs(train.labels, classes, seed=recipe.seed)
    single = int((np.bincount(train.labels) == 1).sum())
    if single:
        raise InputError(
            f"--batches {recipe.batches} draws two pictures of a class, and {single} of "
            f"{train.n_classes} training classes have only one; take --batches classes, or leave "
            "them out"
        )
    if recipe.batches == "triplets":
        return Triplets(train.labels, classes // 2, seed=recipe.seed)
    return NPair(train.labels, classes, seed=recipe.seed)


def build_augmentation(recipe: RetrievalRecipe, train: ImageSet) -> Augment | None:
    """What is done to the pictures of a training batch."""
    if recipe.augment == "none":
        return None
    if recipe.augment.startswith("shift"):
        moved = RandomCrop(max(1, min(train.size) // 8))
        return Compose((moved, HorizontalFlip())) if recipe.augment == "shift-flip" else moved
    return default_augmentation(train.size, flip=recipe.augment == "crop-flip")


def build_settings(recipe: RetrievalRecipe) -> Settings:
    """The settings of the training loop."""
    stated = recipe.model_dump()
    names = Settings.__dataclass_fields__.keys() & stated.keys()
    open_to_default = {"epochs"}  # when steps are given
    return Settings(
        **{
            name: stated[name]
            for name in names
            if not (name in open_to_default and stated[name] is None)
        }
    )
