"""Fields of recipes: each is an option of the command line and a line of a recipe file."""

from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, Field


def _side(value: Any) -> Any:
    """`64` and `48x64` of a command line as numbers; everything else as it is."""
    if isinstance(value, str):
        parts = value.lower().split("x")
        if len(parts) <= 2 and all(part.strip().isdigit() for part in parts):
            sides = [int(part) for part in parts]
            return sides[0] if len(sides) == 1 else sides
    return value


def numbers(values: Any) -> Any:
    """`1e4`, which YAML reads as text, as a number; everything else as it is.

    >>> numbers({"beta": "1e4", "kind": "rule"})
    {'beta': 10000.0, 'kind': 'rule'}
    """
    if not isinstance(values, Mapping):
        return values
    return {name: number(value) for name, value in values.items()}


def number(value: Any) -> Any:
    """A text that is a number as that number; everything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Options = Annotated[dict[str, Any], BeforeValidator(numbers)]
Share = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=4096)]
Size = Annotated[Side | tuple[Side, Side], BeforeValidator(_side)]


def option(default: Any, panel: str, text: str, **limits: Any) -> Any:
    """A field of a recipe.

    Args:
        default: None where it is chosen from the data.
        panel: heading under which it is listed.
        text: of its help.
        **limits: go to pydantic as they are: ge, gt, le, lt.
    """
    return Field(default, description=text, json_schema_extra={"panel": panel}, **limits)


def panel_of(field: Any) -> str:
    """Heading under which an option is listed."""
    return (field.json_schema_extra or {}).get("panel", "")


def to_yaml(recipe: BaseModel) -> str:
    """A recipe as a file, in the order of the options, grouped as in the help."""
    lines, panel = [], ""
    for name, field in type(recipe).model_fields.items():
        if panel_of(field) != panel:
            panel = panel_of(field)
            lines.append(f"\n# {panel}")
        text = yaml.safe_dump({name: getattr(recipe, name)}, allow_unicode=True, width=1000)
        lines.append(text.rstrip("\n"))
    return "\n".join(lines) + "\n"
