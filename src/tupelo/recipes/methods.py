"""From the names of a recipe to its objective: loss, selection, synthesis, memory, ensemble."""

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from tupelo import losses
from tupelo.data import ImageSet
from tupelo.ensembles import OnDrawnPairs
from tupelo.errors import InputError
from tupelo.models import Embedder, Ensemble
from tupelo.objectives import ComparingObjective, Memory, OnClasses, OnPairs, OnTuples
from tupelo.recipes.angular import angular, angular_exponential
from tupelo.recipes.combinations import refusal
from tupelo.recipes.constructors import checked_options
from tupelo.recipes.ensembles import check_ensemble, join_objectives
from tupelo.recipes.names import CLASS_LOSSES, TUPLE_LOSSES
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.selection import AsDrawn, PerAnchor
from tupelo.synthesis import AugmentedClasses, HardnessAware, IntraClassAugmented
from tupelo.types import Objective

LOSSES: Mapping[str, Callable[..., nn.Module]] = {
    "contrastive": losses.Contrastive,
    "squared-contrastive": losses.SquaredContrastive,
    "cosine-contrastive": losses.CosineContrastive,
    "multi-similarity": losses.MultiSimilarity,
    "binomial-deviance": losses.BinomialDeviance,
    "nt-xent": losses.NTXent,
    "all-triplets": losses.AllTriplets,
    "hardest-triplets": losses.HardestNegativeTriplets,
    "n-pair": losses.NPairs,
    "lifted": losses.LiftedStructure,
    "triplet": losses.Triplet,
    "margin": losses.Margin,
    "proxy-nca": losses.ProxyNCA,
    "proxy-anchor": losses.ProxyAnchor,
    "softmax": losses.NormalizedSoftmax,
    "cosface": losses.CosFace,
    "arcface": losses.ArcFace,
    "angular": angular,
    "angular-exponential": angular_exponential,
}
"""The losses by their names on the command line: the one place where a name chooses code."""


def build_objective(
    recipe: RetrievalRecipe, train: ImageSet, model: Embedder | Ensemble
) -> Objective:
    """The objective of a resolved recipe, with one row or boundary for each training class.

    Learners of an ensemble have an objective each, of their width.

    Args:
        recipe: resolved.
        train: the training pictures, whose classes are counted.
        model: what will be trained; synthesis embeds with its head.

    Raises:
        InputError: the labels are tags, and something in the recipe needs classes; an option of
            the loss, the synthesis or the ensemble is out of its range.
    """
    tags = train.n_classes if train.labels.ndim == 2 else 0
    if tags and (reason := refusal(recipe.combination._replace(tags=True))):
        raise InputError(reason)
    if isinstance(model, Embedder):
        return _for_width(recipe, train.n_classes, tags, model, model.dim)
    widths = model.learners.widths
    each = [_for_width(recipe, train.n_classes, tags, None, width) for width in widths]
    return join_objectives(recipe, each, model)


def check_options(recipe: RetrievalRecipe) -> None:
    """Refuse options that the loss, the synthesis or the ensemble of a recipe does not have.

    Raises:
        InputError: a name is unknown (close ones are given), a value of the wrong kind, or, for a
            loss, out of its range; synthetic anchors with a memory.
    """
    _build_loss(recipe, n_classes=2, dim=recipe.dim)
    if recipe.ensemble != "none":
        check_ensemble(recipe)
    if recipe.synthesis == "none":
        return
    options = checked_options(
        _synthesis_class(recipe), recipe.synthesis_options, "--synthesis-option"
    )
    if recipe.memory and options.get("all_anchors"):
        raise InputError(
            "--memory cannot be used with --synthesis-option all_anchors=true: a memory compares "
            "what was embedded, and synthetic anchors were not; leave one of them out"
        )


def _for_width(
    recipe: RetrievalRecipe, n_classes: int, tags: int, model: Embedder | None, dim: int
) -> Objective:
    """The objective of an embedder, or of one learner, which is `dim` wide."""
    objective = _plain(recipe, 1 if tags else n_classes, dim)
    try:
        objective = _synthesized(recipe, objective, n_classes, model, dim)
    except InputError as error:
        raise InputError(f"--synthesis-option: {error}") from error
    if recipe.memory and isinstance(objective, ComparingObjective):
        return Memory(objective, recipe.memory, dim, start_after=recipe.memory_after, tags=tags)
    return objective


def _plain(recipe: RetrievalRecipe, n_classes: int, dim: int) -> Objective:
    loss = _build_loss(recipe, n_classes, dim)
    if recipe.loss in CLASS_LOSSES:
        return OnClasses(loss)
    normalize = bool(recipe.normalize)
    if recipe.batches == "pairs":
        return OnDrawnPairs(loss, normalize=normalize)
    if not _on_tuples(recipe):
        positives = None if recipe.positives == "all" else recipe.positives
        return OnPairs(loss, positives=positives, negatives=recipe.negatives, normalize=normalize)
    if recipe.batches == "classes":
        # an N-pair tuple has a negative of each other class, as if it were drawn so
        each = (recipe.classes or 2) - 1 if recipe.loss == "n-pair" else 1
        chosen = PerAnchor(
            recipe.positives or "easiest", recipe.negatives or "random", negatives=each
        )
        return OnTuples(chosen, loss, normalize=normalize)
    return OnTuples(AsDrawn(recipe.batches or "triplets"), loss, normalize=normalize)


def _synthesized(
    recipe: RetrievalRecipe,
    objective: Objective,
    n_classes: int,
    model: Embedder | None,
    dim: int,
) -> Objective:
    if recipe.synthesis == "none":
        return objective
    made = _synthesis_class(recipe)
    options = checked_options(made, recipe.synthesis_options, "--synthesis-option")
    if recipe.synthesis == "hdml":
        return made(objective, model, n_classes, **options)
    return made(objective, n_classes, dim, **options)


def _synthesis_class(recipe: RetrievalRecipe) -> Callable[..., Objective]:
    if recipe.synthesis == "hdml":
        return HardnessAware
    return AugmentedClasses if recipe.loss in CLASS_LOSSES else IntraClassAugmented


def _on_tuples(recipe: RetrievalRecipe) -> bool:
    as_tuples = recipe.synthesis == "hdml" or recipe.batches != "classes"
    return recipe.loss in TUPLE_LOSSES or (recipe.loss == "n-pair" and as_tuples)


def _build_loss(recipe: RetrievalRecipe, n_classes: int, dim: int) -> nn.Module:
    made = losses.NPair if _on_tuples(recipe) and recipe.loss == "n-pair" else LOSSES[recipe.loss]
    options = checked_options(made, recipe.loss_options, "--loss-option")
    known = {"n_classes": n_classes, "dim": dim}
    counts = {k: v for k, v in known.items() if k in inspect.signature(made).parameters}
    try:
        return made(**counts, **options)
    except InputError as error:
        raise InputError(f"--loss-option: {error}") from error
