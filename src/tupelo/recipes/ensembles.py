"""From the names of a recipe to an ensemble: the model around an embedder, the objective of all."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tupelo.ensembles import Boosted, attention_based
from tupelo.errors import InputError
from tupelo.models import Embedder, Ensemble, attentive, divided, many_heads
from tupelo.recipes.constructors import checked_options, divided_options
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.types import Objective

if TYPE_CHECKING:
    from tupelo.recipes.member import MemberOptions

FLAG = "--ensemble-option"
MAKERS: Mapping[str, tuple[Callable, Callable]] = {
    "heads": (many_heads, attention_based),
    "abe": (attentive, attention_based),
    "bier": (divided, Boosted),
}
"""By name: what makes the model of an embedder, and what joins the learners' objectives."""


def check_ensemble(recipe: RetrievalRecipe) -> None:
    """Refuse options that the ensemble of a recipe does not have.

    Raises:
        InputError: a name is unknown (close ones are given), or a value is of the wrong kind.
    """
    if recipe.ensemble == "dreml":
        member_options(recipe)
    else:
        _options(recipe)


def member_options(recipe: RetrievalRecipe) -> "MemberOptions":
    """What each member of DREML learns.

    Raises:
        InputError: as `check_ensemble`, or an option is out of its range.
    """
    from tupelo.recipes.member import MemberOptions  # which builds members from recipes

    return _told(MemberOptions, **checked_options(MemberOptions, recipe.ensemble_options, FLAG))


def build_ensemble(recipe: RetrievalRecipe, embedder: Embedder) -> Embedder | Ensemble:
    """The model of a resolved recipe around an embedder, or the embedder where there is none.

    Members of DREML are trained apart and joined afterwards.

    Raises:
        InputError: the backbone cannot be cut, or an option is out of its range.
    """
    if recipe.ensemble not in MAKERS:
        return embedder
    options = _options(recipe)[0]
    if "widths" not in options:
        options["learners"] = recipe.learners
    return _told(MAKERS[recipe.ensemble][0], embedder, **options)


def join_objectives(
    recipe: RetrievalRecipe, objectives: Sequence[Objective], model: Ensemble
) -> Objective:
    """The objective of an ensemble from one for each learner.

    Raises:
        InputError: an option is out of its range, or the ensemble cannot use such objectives.
    """
    options = _options(recipe)[1]
    if recipe.ensemble == "bier":
        return _told(Boosted, objectives, model, **options)
    if recipe.ensemble == "heads" or len(objectives) == 1:
        options = {"divergence": 0.0} | options
    return _told(attention_based, objectives, len(objectives), **options)


def _options(recipe: RetrievalRecipe) -> list[dict[str, Any]]:
    return divided_options(MAKERS[recipe.ensemble], recipe.ensemble_options, FLAG)


def _told(made: Callable, *given: Any, **options: Any) -> Any:
    """What a maker makes, its refusals in the words of the command line."""
    try:
        return made(*given, **options)  # options go to a maker that declares them
    except InputError as error:
        raise InputError(f"{FLAG}: {error}") from error
