"""From a recipe to what it names: pictures, model, objective, settings."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import nn

from tupelo import losses
from tupelo.data import ClassBalanced, ImageData, ImageSet, default_augmentation, images
from tupelo.data.augment import RandomCrop
from tupelo.data.imageset import Augment
from tupelo.data.official.places import is_named
from tupelo.data.pictures import Progress
from tupelo.errors import InputError
from tupelo.models import Embedder, embedder
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples
from tupelo.recipes.recipe import ClassLossName, RetrievalRecipe, recipe_from
from tupelo.selection import PerAnchor
from tupelo.training import Settings
from tupelo.types import Objective

SMALL_SIDE = 128  # pixels up to which the small convnet is the better choice
USUAL_STEPS = 2000
USUAL_BATCH = 64  # pictures

_Build = Callable[[RetrievalRecipe, int], Objective]


def _pairs(loss: Callable[[], nn.Module], *, normalize: bool = True) -> _Build:
    def build(recipe: RetrievalRecipe, n_classes: int) -> Objective:
        positives = None if recipe.positives == "all" else recipe.positives
        return OnPairs(loss(), positives=positives, normalize=normalize)

    return build


def _tuples(loss: Callable[[int], nn.Module]) -> _Build:
    def build(recipe: RetrievalRecipe, n_classes: int) -> Objective:
        chosen = PerAnchor(recipe.positives or "easiest", recipe.negatives or "random")
        return OnTuples(chosen, loss(n_classes))

    return build


def _rows(loss: Callable[[int, int], nn.Module]) -> _Build:
    def build(recipe: RetrievalRecipe, n_classes: int) -> Objective:
        return OnClasses(loss(n_classes, recipe.dim))

    return build


LOSSES: Mapping[str, _Build] = {
    "contrastive": _pairs(losses.Contrastive),
    "multi-similarity": _pairs(losses.MultiSimilarity),
    "binomial-deviance": _pairs(losses.BinomialDeviance),
    "nt-xent": _pairs(losses.NTXent),
    "all-triplets": _pairs(losses.AllTriplets),
    "n-pair": _pairs(losses.NPairs, normalize=False),
    "lifted": _pairs(losses.LiftedStructure, normalize=False),
    "triplet": _tuples(lambda n_classes: losses.Triplet()),
    "margin": _tuples(losses.Margin),
    "proxy-nca": _rows(losses.ProxyNCA),
    "proxy-anchor": _rows(losses.ProxyAnchor),
    "softmax": _rows(losses.NormalizedSoftmax),
    "cosface": _rows(losses.CosFace),
    "arcface": _rows(losses.ArcFace),
}
"""The losses by their names on the command line: the one place where a name chooses code."""


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


def resolve(recipe: RetrievalRecipe, train: ImageSet) -> RetrievalRecipe:
    """The recipe with everything that was left open chosen from the training pictures.

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
    epochs = recipe.epochs
    if epochs is None and recipe.steps is None:
        made = ClassBalanced(train.labels, classes=classes, per_class=per_class, seed=recipe.seed)
        usual["epochs"] = epochs = int(np.clip(round(USUAL_STEPS / len(made.epoch(0))), 10, 100))
    usual["evaluate_every"] = max(1, (epochs or 20) // 20)
    given = recipe.model_dump()
    chosen = {name: value for name, value in usual.items() if given[name] in (None, "auto")}
    # not resolve(): links stay named as they are, and so do known data sets
    source = recipe.source if is_named(recipe.source) else os.path.abspath(recipe.source)  # noqa: PTH100
    return recipe_from({**given, **chosen, "source": source})


def _batch(recipe: RetrievalRecipe, train: ImageSet) -> tuple[int, int]:
    """Classes a batch and pictures a class: batches of 64 where the classes allow it."""
    counts = _counts(train)
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


def build_model(recipe: RetrievalRecipe) -> Embedder:
    """The network of a resolved recipe; its random start comes from the global generator."""
    return embedder(
        recipe.backbone or "convnet",
        dim=recipe.dim,
        pretrained=recipe.pretrained,
        weights=recipe.weights,
        channels=int(recipe.channels),
        size=recipe.size if isinstance(recipe.size, int) else None,
    )


def build_objective(recipe: RetrievalRecipe, train: ImageSet) -> Objective:
    """The objective of a resolved recipe, with one row or boundary for each training class.

    Raises:
        InputError: a class loss where pictures have several tags.
    """
    tags = train.n_classes if train.labels.ndim == 2 else 0
    if tags and recipe.loss in get_args(ClassLossName):
        raise InputError(
            f"--loss {recipe.loss} needs one label a picture, and these have tags; take a pair or "
            "tuple loss, such as --loss margin, for which a shared tag makes a positive"
        )
    objective = LOSSES[recipe.loss](recipe, 1 if tags else train.n_classes)
    if recipe.memory and isinstance(objective, (OnPairs, OnTuples)):
        return Memory(
            objective, recipe.memory, recipe.dim, start_after=recipe.memory_after, tags=tags
        )
    return objective


def build_augmentation(recipe: RetrievalRecipe, train: ImageSet) -> Augment | None:
    """What is done to the pictures of a training batch."""
    if recipe.augment == "none":
        return None
    if recipe.augment == "shift":
        return RandomCrop(max(1, min(train.size) // 8))
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
