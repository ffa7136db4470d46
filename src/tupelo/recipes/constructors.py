"""Options by name, checked against the constructors that take them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tupelo.errors import InputError

# parameters that are no options: they come from the data or from other options
FROM_THE_DATA = ("objective", "model", "n_classes", "dim", "embedder", "learners")


def checked_options(made: Callable, given: Mapping[str, Any], flag: str) -> dict[str, Any]:
    """Options by name, each of the kind that the constructor `made` declares.

    Raises:
        InputError: the constructor has no such option, or the value is of another kind.
    """
    return divided_options([made], given, flag)[0]


def divided_options(
    makers: Sequence[Callable], given: Mapping[str, Any], flag: str
) -> list[dict[str, Any]]:
    """Options by name, divided among constructors: each goes to the first that declares it.

    Raises:
        InputError: none of them has such an option, or the value is of another kind.
    """
    declared = [_declared(made) for made in makers]
    found: list[dict[str, Any]] = [{} for _ in makers]
    for name, value in given.items():
        place = next((i for i, options in enumerate(declared) if name in options), None)
        if place is None:
            raise InputError(f"{flag} {name}: {_unknown(name, makers, declared)}")
        try:
            kind = TypeAdapter(declared[place][name].annotation)
            found[place][name] = kind.validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise InputError(
                f"{flag} {name}: {message[0].lower()}{message[1:]}, got {value!r}"
            ) from error
    return found


def _declared(made: Callable) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(made).parameters.items()
        if name not in FROM_THE_DATA
    }


def _unknown(
    name: str, makers: Sequence[Callable], declared: Sequence[Mapping[str, inspect.Parameter]]
) -> str:
    names = list(dict.fromkeys(option for options in declared for option in options))
    close = get_close_matches(name, names, n=3)
    has = "it has" if len(makers) == 1 else "they have"
    hint = f"did you mean {', '.join(close)}?" if close else f"{has} {', '.join(names) or 'none'}"
    verb = "has" if len(makers) == 1 else "have"
    return f"{' and '.join(map(_named, makers))} {verb} no such option; {hint}"


def _named(made: Callable) -> str:
    return f"{made.__module__.rpartition('.')[0]}.{made.__name__}"
