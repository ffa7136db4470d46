"""The recipe: equal to the options, checked together, round trips."""

from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from tupelo.cli.options import as_columns, merged
from tupelo.errors import InputError
from tupelo.recipes.building import LOSSES
from tupelo.recipes.recipe import (
    ClassLossName,
    LossName,
    Negatives,
    PairLossName,
    Positives,
    RetrievalRecipe,
    TupleLossName,
    panel_of,
    read_recipe,
    recipe_from,
)
from tupelo.selection import RULES

FULL = {
    "source": "photos",
    "size": (48, 64),
    "loss": "triplet",
    "positives": "hardest",
    "steps": 7,
    "columns": {"path": "file"},
    "lr": 1e-3,
}


def test_every_name_means_something():
    assert set(LOSSES) == set(get_args(LossName))
    assert set(get_args(Positives)) - {"all"} <= set(RULES)
    assert set(get_args(Negatives)) <= set(RULES)


def test_every_option_is_explained_and_grouped():
    for name, field in RetrievalRecipe.model_fields.items():
        assert field.description, name
        assert panel_of(field) or name == "source"


def test_yaml_round_trip(tmp_path):
    recipe = recipe_from(FULL)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert recipe_from(read_recipe(path)) == recipe
    assert set(yaml.safe_load(path.read_text())) == set(RetrievalRecipe.model_fields)


def test_a_file_and_options_give_the_same_recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("loss: triplet\nper-class: 6\nlr: 1e-3\nsize: 48x64\n")
    by_file = recipe_from(merged(path, "photos", {"dim": None}))
    options = {"loss": "triplet", "per_class": 6, "lr": 1e-3, "size": "48x64"}
    assert by_file == recipe_from(merged(None, "photos", options))
    assert by_file.size == (48, 64)


def test_options_override_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_from(FULL).to_yaml())
    values = merged(path, "other", {"dim": 32, "epochs": 3, "columns": ["label=kind"]})
    recipe = recipe_from(values)
    assert (recipe.source, recipe.dim, recipe.loss, recipe.size) == (
        "other", 32, "triplet", (48, 64),
    )  # fmt: skip
    assert (recipe.epochs, recipe.steps) == (3, None)
    assert recipe.columns == {"label": "kind"}


def test_another_loss_drops_what_belonged_to_the_loss_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_from(FULL).to_yaml())
    recipe = recipe_from(merged(path, "photos", {"loss": "nt-xent"}))
    assert (recipe.positives, recipe.negatives) == ("all", None)
    same = recipe_from(merged(path, "photos", {"loss": "triplet"}))
    assert same.positives == "hardest"


@pytest.mark.parametrize("loss", get_args(PairLossName))
def test_pair_losses_take_all_positives(loss):
    recipe = RetrievalRecipe(source="photos", loss=loss)
    assert (recipe.positives, recipe.negatives) == ("all", None)


@pytest.mark.parametrize(
    ("loss", "negatives"), [("triplet", "semi-hard"), ("margin", "distance-weighted")]
)
def test_tuple_losses_take_the_easiest(loss, negatives):
    recipe = RetrievalRecipe(source="photos", loss=loss)
    assert (recipe.positives, recipe.negatives) == ("easiest", negatives)


def test_a_recipe_cannot_be_changed():
    recipe = RetrievalRecipe(source="photos")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.dim = 3


CONTRADICTIONS = {
    "pretrained and weights": (
        {"pretrained": True, "weights": "w.pth", "backbone": "resnet18"},
        "give --pretrained or --weights FILE, not both",
    ),
    "weights of what": ({"weights": "w.pth"}, "--weights needs --backbone"),
    "pretrained convnet": ({"pretrained": True, "backbone": "convnet"}, "convnet has none"),
    "epochs and steps": ({"epochs": 2, "steps": 3}, "give --epochs or --steps, not both"),
    "nothing to train on": (
        {"validation": 0.5, "test": 0.5},
        "must leave something to train on: their sum must be below 1, got 0.5 and 0.5",
    ),
    "patience without validation": ({"patience": 3, "validation": 0}, "--patience needs"),
    "one positive": (
        {"loss": "margin", "positives": "all"},
        "--positives all cannot be used with --loss margin",
    ),
    "negatives of a pair loss": (
        {"loss": "nt-xent", "negatives": "hardest"},
        "--negatives hardest cannot be used with --loss nt-xent: a pair loss weighs all",
    ),
    "an unknown option": ({"los": "margin"}, "los is no option of a recipe; did you mean loss"),
    "an unknown value": ({"loss": "tripplet"}, "--loss: input should be .*'triplet'.*, got 'tri"),
    "a bad size": ({"size": "big"}, "--size: .*got 'big'"),
    "an option far off": ({"zzz": 1}, "zzz is no option of a recipe; see tupelo train --help"),
}
CONTRADICTIONS |= {
    f"{name} of {loss}": (
        {"loss": loss, name: "random"},
        f"--{name} random cannot be used with --loss {loss}: it compares pictures with a learned "
        f"row per class, so there are no {name} to choose",
    )
    for loss in get_args(ClassLossName)
    for name in ("positives", "negatives")
}
CONTRADICTIONS |= {
    "memory of a class loss": (
        {"loss": "softmax", "memory": 9},
        "--memory cannot be used with --loss softmax",
    ),
}


@pytest.mark.parametrize("name", list(CONTRADICTIONS))
def test_contradictions_are_refused_with_the_reason(name):
    values, reason = CONTRADICTIONS[name]
    with pytest.raises(InputError, match=reason):
        recipe_from({"source": "photos", **values})


def test_the_source_must_be_given():
    with pytest.raises(InputError, match="source must be given"):
        recipe_from({})


@pytest.mark.parametrize("loss", get_args(TupleLossName))
def test_easy_positives_of_two_are_no_choice(loss):
    recipe = RetrievalRecipe(source="photos", loss=loss, per_class=2)
    assert "has no effect with --per-class 2" in recipe.advice[0]
    assert not RetrievalRecipe(source="photos", loss=loss, per_class=3).advice


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- loss\n", "must be a mapping, one line an option"),
        ("loss: [margin\n", "is no valid YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, text, reason):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_recipe(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read: No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_an_empty_file_states_nothing(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# all as usual\n")
    assert read_recipe(path) == {}


def test_columns():
    assert as_columns(["path=file", "label = kind"]) == {"path": "file", "label": "kind"}
    with pytest.raises(InputError, match="--column must be NAME=YOURS, such as path=file, got x"):
        as_columns(["x"])
