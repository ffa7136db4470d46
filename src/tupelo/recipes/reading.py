"""From files and options to a recipe, with errors in the words of the command line."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tupelo.errors import InputError
from tupelo.recipes.recipe import RetrievalRecipe

Recipe = TypeVar("Recipe", bound=BaseModel)
FLAGS = {
    "columns": "--column",
    "head_options": "--head-option",
    "loss_options": "--loss-option",
    "synthesis_options": "--synthesis-option",
    "ensemble_options": "--ensemble-option",
}
"""Fields whose option is given once for each entry, and named so."""


def recipe_from(values: Mapping[str, Any]) -> RetrievalRecipe:
    """Check values and build the recipe.

    Raises:
        InputError: an option is unknown (close names are given), out of its range, or
            contradicts another; all of them are listed.

    >>> recipe_from({"source": "photos", "per_class": 1})
    Traceback (most recent call last):
    ...
    tupelo.errors.InputError: --per-class: input should be greater than or equal to 2, got 1
    """
    return checked(RetrievalRecipe, values)


def checked(kind: type[Recipe], values: Mapping[str, Any]) -> Recipe:
    """Check values and build a recipe of some kind.

    Raises:
        InputError: as `recipe_from`.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("\n".join(_sentence(kind, one) for one in error.errors())) from error


def read_recipe(path: Path) -> dict[str, Any]:
    """The options a YAML file states, unchecked.

    Raises:
        InputError: the file is missing, is no YAML, or is no mapping of options to values.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--recipe {path} is no valid YAML: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"--recipe {path} must be a mapping, one line an option: `loss: margin`")
    return {name.replace("-", "_"): value for name, value in values.items()}


def flag_of(name: str) -> str:
    """The option of the command line for a field.

    >>> flag_of("per_class"), flag_of("columns")
    ('--per-class', '--column')
    """
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def _sentence(kind: type[BaseModel], error: Any) -> str:
    """One pydantic error in the words of the command line."""
    if not error["loc"]:  # from _agree, whose messages name their options
        return error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{name} must be given"
    if error["type"] == "extra_forbidden":
        close = get_close_matches(name, kind.model_fields, n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else "; see --help"
        return f"{name} is no option of a recipe{hint}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{flag_of(name)}: {message}, got {error['input']!r}"
