"""From the names of a recipe to an ensemble: the model around an embedder, the objective of all."""

from collections.abc import Callable, Sequence
from typing import Any

from tupelo.errors import InputError
from tupelo.models import Embedder, Ensemble
from tupelo.recipes.constructors import divided_options
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.types import Objective

FLAG = "--ensemble-option"


def makers(ensemble: str) -> tuple[Callable, Callable]:
    """What makes the model of an embedder, and what joins the learners' objectives."""
    from tupelo import ensembles, models

    if ensemble == "bier":
        return models.divided, ensembles.Boosted
    made = models.attentive if ensemble == "abe" else models.many_heads
    return made, ensembles.attention_based


def check_ensemble(recipe: RetrievalRecipe) -> None:
    """Refuse options that the ensemble of a recipe does not have.

    Raises:
        InputError: a name is unknown (close ones are given), a value of the wrong kind.
    """
    _options(recipe)


def build_ensemble(recipe: RetrievalRecipe, embedder: Embedder) -> Embedder | Ensemble:
    """The model of a resolved recipe around an embedder, or the embedder where there is none.

    Raises:
        InputError: the backbone cannot be cut, or an option is out of its range.
    """
    if recipe.ensemble == "none":
        return embedder
    made, _ = makers(recipe.ensemble)
    options = _options(recipe)[0]
    if "widths" not in options:
        options["learners"] = recipe.learners
    return _told(made, embedder, **options)


def join_objectives(
    recipe: RetrievalRecipe, objectives: Sequence[Objective], model: Ensemble
) -> Objective:
    """The objective of an ensemble from one for each learner.

    Raises:
        InputError: an option is out of its range, or the ensemble cannot use such objectives.
    """
    _, made = makers(recipe.ensemble)
    options = _options(recipe)[1]
    if recipe.ensemble == "bier":
        return _told(made, objectives, model, **options)
    if recipe.ensemble == "heads":
        options = {"divergence": 0.0} | options
    return _told(made, objectives, len(objectives), **options)


def _options(recipe: RetrievalRecipe) -> list[dict[str, Any]]:
    return divided_options(makers(recipe.ensemble), recipe.ensemble_options, FLAG)


def _told(made: Callable, *given: Any, **options: Any) -> Any:
    """What a maker makes, its refusals in the words of the command line."""
    try:
        return made(*given, **options)  # options go to a maker that declares them
    except InputError as error:
        raise InputError(f"{FLAG}: {error}") from error
