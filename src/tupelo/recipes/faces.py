"""The variants of face embeddings, as values of the recipe of `tupelo train`."""

from collections.abc import Mapping
from typing import Any

from tupelo.errors import InputError

VARIANTS: Mapping[str, dict[str, Any]] = {
    "softmax": {"loss": "angular", "loss_options": {"weight": 0.0}},
    "basic": {"loss": "angular"},
    "hard-mined": {"loss": "angular", "loss_options": {"mining": "violators"}},
    "self-adaptive": {"loss": "angular", "loss_options": {"adaptive": True}},
    "normalised": {"loss": "angular", "loss_options": {"scale": 30.0}},
    "exponential": {"loss": "angular-exponential", "loss_options": {"scale": 30.0}},
    "cosface": {"loss": "cosface", "loss_options": {"scale": 30.0}},
    "arcface": {"loss": "arcface", "loss_options": {"scale": 30.0}},
}
"""Values of a `RetrievalRecipe`: variants of the angular-discriminative loss, and its rivals."""


def with_variant(variant: str | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a recipe, filled up with those of a variant and those that faces usually have.

    Args:
        variant: of `VARIANTS`; None: what the values say, or "normalised".
        values: that were given; they count before those of the variant.

    Raises:
        InputError: an unknown variant, or one beside another loss.

    >>> with_variant("basic", {"loss_options": {"margin": 0.5}})["loss_options"]
    {'margin': 0.5}
    """
    if variant is None and "loss" in values:
        return {"augment": "shift-flip", "split": "classes", **values}
    chosen = "normalised" if variant is None else variant
    if chosen not in VARIANTS:
        raise InputError(f"--variant must be one of {', '.join(VARIANTS)}, got {chosen}")
    usual = VARIANTS[chosen]
    if values.get("loss", usual["loss"]) != usual["loss"]:
        raise InputError(
            f"--variant {chosen} is --loss {usual['loss']}, got --loss {values['loss']}; give one "
            "of the two"
        )
    options = {**usual.get("loss_options", {}), **(values.get("loss_options") or {})}
    shared = {"augment": "shift-flip", "split": "classes"}
    return {**shared, **values, "loss": usual["loss"], "loss_options": options}
