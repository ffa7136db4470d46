import pytest

from tupelo.errors import InputError
from tupelo.losses import AdaptiveMargin, ArcFace, CosFace, ExponentialMean, Mining
from tupelo.recipes.faces import VARIANTS, with_variant
from tupelo.recipes.methods import LOSSES
from tupelo.recipes.reading import recipe_from


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_recipe(variant):
    recipe = recipe_from({"source": "people", **with_variant(variant, {})})
    assert recipe.loss == VARIANTS[variant]["loss"]
    assert recipe.augment == "shift-flip"


def test_every_variant_builds_its_loss():
    made = {
        variant: LOSSES[values["loss"]](5, 4, **values.get("loss_options", {}))
        for variant, values in VARIANTS.items()
    }
    assert made["softmax"].weight == 0
    assert made["softmax"].scale is None
    assert made["basic"].constraint.margin == 0.9
    assert made["basic"].constraint.mining == Mining()
    assert made["basic"].weight == 1
    assert made["hard-mined"].constraint.mining == Mining("violators")
    assert isinstance(made["self-adaptive"].constraint.margin, AdaptiveMargin)
    assert made["normalised"].scale == made["exponential"].scale == 30
    assert isinstance(made["exponential"].constraint, ExponentialMean)
    assert isinstance(made["cosface"], CosFace)
    assert isinstance(made["arcface"], ArcFace)


def test_options_that_were_given_count_before_those_of_the_variant():
    values = with_variant("normalised", {"loss_options": {"margin": 0.5}, "split": "given"})
    assert values["loss_options"] == {"scale": 30.0, "margin": 0.5}
    assert values["split"] == "given"


def test_without_a_variant_it_is_the_normalised_one_or_the_loss_that_was_given():
    assert with_variant(None, {})["loss_options"] == {"scale": 30.0}
    assert with_variant(None, {"loss": "triplet"})["loss"] == "triplet"
    assert "loss_options" not in with_variant(None, {"loss": "triplet"})


@pytest.mark.parametrize(
    ("variant", "values", "message"),
    [
        ("sphere", {}, "--variant must be one of softmax, basic, .* got sphere"),
        ("basic", {"loss": "triplet"}, "--variant basic is --loss angular, got --loss triplet"),
    ],
)
def test_refusals(variant, values, message):
    with pytest.raises(InputError, match=message):
        with_variant(variant, values)
