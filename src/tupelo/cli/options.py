"""Options of the command line made from the fields of the recipe, so that the two are equal."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel

from tupelo.errors import InputError
from tupelo.recipes.fields import panel_of
from tupelo.recipes.reading import FLAGS, flag_of, read_recipe
from tupelo.recipes.recipe import RetrievalRecipe

OF_LOSS = {"positives", "negatives", "normalize", "batches", "loss_options"}
OF_BATCHES = {"positives", "negatives", "per_class"}
OF_SYNTHESIS = {"batch_norm", "batches", "synthesis_options"}
OF_ENSEMBLE = {"learners", "ensemble_options", "engine", "jobs", "threads"}


def with_options_of(
    recipe: type[BaseModel],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every field of a recipe, beside its own parameters.

    The command takes `**options` and finds there what was given, by name of the field.
    """
    made = [_parameter(recipe, name) for name in recipe.model_fields if name != "source"]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *made]]

        def wrapper(**given: Any) -> None:
            command(**given)

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature(keyword)  # pyright: ignore[reportFunctionMemberAccess]
        return wrapper

    return decorate


def _parameter(recipe: type[BaseModel], name: str) -> inspect.Parameter:
    field = recipe.model_fields[name]
    flag = flag_of(name)
    kind = _kind(name, field.annotation)
    if kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    text = field.description or ""
    if get_origin(kind) is Literal:
        text = f"{text}: {', '.join(get_args(kind))}"
    if field.default is not None and name not in FLAGS:
        text = f"{text} [{_shown(field.default)}]"
    option = typer.Option(
        flag,
        help=text.replace("[", "\\["),  # rich reads brackets as style
        show_default=False,
        rich_help_panel=panel_of(field),
        metavar=_metavar(kind, name),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Union[kind, None], option],  # noqa: UP007  (a value, not a type)
    )


def _kind(name: str, annotation: Any) -> Any:
    """What typer reads: pydantic checks ranges, so that a recipe file is told the same."""
    if name in FLAGS:
        return list[str]
    if name == "step_at":
        return list[float]
    if name == "size" or (name == "margin" and float not in get_args(annotation)):
        return str
    if get_origin(annotation) is Literal:
        return annotation
    (kind,) = [part for part in get_args(annotation) or (annotation,) if part is not NoneType]
    return kind


def _metavar(kind: Any, name: str) -> str | None:
    special = {
        "columns": "NAME=YOURS",
        "size": "PIXELS",
        "step_at": "SHARE",
        "margin": "X|rule",
    }
    if name in FLAGS:
        return special.get(name, "NAME=VALUE")
    if name in special and kind is not float:
        return special[name]
    if get_origin(kind) is Literal:
        return "NAME"
    return {int: "N", float: "X", str: "TEXT"}.get(kind)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return (
        {True: "yes", False: "no"}.get(default, str(default))
        if isinstance(default, bool)
        else str(default)
    )


def merged(file: Path | None, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe file, overridden by the options that were given.

    Another loss than that of the file also drops who the file pulls and pushes, and the options
    of its loss, unless they are given too; another synthesis or ensemble drops what belongs to
    that, and batches drawn as tuples what would choose others. Options of the same loss, synthesis
    or ensemble are overridden one by one.

    Raises:
        InputError: as `read_recipe`, or a column or an option is not given as NAME=VALUE.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if "columns" in given:
        given["columns"] = as_columns(given["columns"])
    stated = {} if file is None else read_recipe(file)
    belonging = (("loss", OF_LOSS), ("synthesis", OF_SYNTHESIS), ("ensemble", OF_ENSEMBLE))
    for of, dropped in belonging:
        usual = RetrievalRecipe.model_fields[of].default
        if of in given and given[of] != stated.get(of, usual):
            stated = {name: value for name, value in stated.items() if name not in dropped}
    if given.get("synthesis") == "hdml" and stated.get("positives") == "all":
        stated.pop("positives")  # usual without HDML, refused with it
    if given.get("batches", "classes") not in ("classes", stated.get("batches")):
        stated = {name: value for name, value in stated.items() if name not in OF_BATCHES}
    for name in ("loss_options", "synthesis_options", "ensemble_options"):
        if name in given:
            given[name] = {**(stated.get(name) or {}), **as_options(given[name], FLAGS[name])}
    if "steps" in given:
        stated.pop("epochs", None)
    if "epochs" in given:
        stated.pop("steps", None)
    return {**stated, **given, "source": source}


def as_columns(texts: list[str]) -> dict[str, str]:
    """`["path=file"]` as `{"path": "file"}`.

    Raises:
        InputError: a text has no `=`.
    """
    return _by_name(texts, "--column must be NAME=YOURS, such as path=file")


def as_options(texts: list[str], flag: str) -> dict[str, Any]:
    """`["margin=0.1"]` as `{"margin": 0.1}`: values as a YAML file has them.

    Raises:
        InputError: a text has no `=`, or its value is no YAML.
    """
    must = f"{flag} must be NAME=VALUE, such as margin=0.1"
    try:
        return {name: yaml.safe_load(value) for name, value in _by_name(texts, must).items()}
    except yaml.YAMLError as error:
        raise InputError(f"{must}, got {', '.join(texts)}") from error


def as_ks(text: str) -> tuple[int, ...]:
    """`"1,10,100"` as numbers, in order, each once.

    Raises:
        InputError: one is no whole number of at least 1.

    >>> as_ks("10, 1,10")
    (1, 10)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(
            f"--ks must be whole numbers of at least 1, with commas between them, such as "
            f"1,10,100, got {text!r}"
        )
    return tuple(sorted({int(part) for part in parts}))


def _by_name(texts: list[str], must: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    wrong = [name for name, sign, _ in pairs if not sign]
    if wrong:
        raise InputError(f"{must}, got {wrong[0]}")
    return {name.strip(): value.strip() for name, _, value in pairs}
