"""The recipe: equal to the options, checked together, round trips."""

from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from tupelo.cli.options import as_columns, as_options, merged
from tupelo.errors import InputError
from tupelo.recipes.fields import panel_of
from tupelo.recipes.methods import LOSSES
from tupelo.recipes.names import (
    ClassLossName,
    LossName,
    Negatives,
    PairLossName,
    Positives,
    TupleLossName,
)
from tupelo.recipes.reading import read_recipe, recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
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
        "--negatives hardest cannot be used with --loss nt-xent and all positives: the negative "
        "of an anchor is chosen after its one positive; give --positives random, easiest",
    ),
    "options of no synthesis": (
        {"synthesis_options": {"copies": 3}},
        "--synthesis-option needs --synthesis hdml or iaa, to which it belongs",
    ),
    "an option the loss does not have": (
        {"loss_options": {"apha": 0.1}},
        "--loss-option apha: tupelo.losses.Margin has no such option; did you mean alpha",
    ),
    "an option of another loss": (
        {"loss": "nt-xent", "loss_options": {"margin": 0.1}},
        "--loss-option margin: tupelo.losses.NTXent has no such option; it has temperature",
    ),
    "what follows from the pictures": (
        {"loss_options": {"n_classes": 3}},
        "--loss-option n_classes: tupelo.losses.Margin has no such option",
    ),
    "an option of another kind": (
        {"loss": "triplet", "loss_options": {"margin": "wide"}},
        "--loss-option margin: input should be a valid number.*, got 'wide'",
    ),
    "an option out of its range": (
        {"loss": "triplet", "loss_options": {"margin": -1}},
        "--loss-option: margin must be > 0, got -1",
    ),
    "an option the synthesis does not have": (
        {"synthesis": "iaa", "synthesis_options": {"copy": 3}},
        "--synthesis-option copy: tupelo.synthesis.IntraClassAugmented has no such option; did "
        "you mean copies",
    ),
    "a memory of synthetic anchors": (
        {"synthesis": "iaa", "synthesis_options": {"all_anchors": True}, "memory": 9},
        "--memory cannot be used with --synthesis-option all_anchors=true",
    ),
    "tuples of three": (
        {"loss": "triplet", "batches": "triplets", "per_class": 3},
        "--per-class 3 cannot be used with --batches triplets, which takes 2 pictures of a class",
    ),
    "half of an odd number": (
        {"loss": "triplet", "batches": "triplets", "classes": 5},
        "--classes must be even with --batches triplets, .* got 5",
    ),
    "chunks of a batch": (
        {"batch_norm": True, "chunk": 8},
        "--chunk cannot be used with batch normalisation before the last layer",
    ),
    "pooling of what": ({"pooling": "avgmax"}, "--pooling avgmax needs --backbone"),
    "a share of the run": ({"step_at": [0.5, 2]}, "--step-at: input should be less than 1, got 2"),
    "an unknown option": ({"los": "margin"}, "los is no option of a recipe; did you mean loss"),
    "an unknown value": ({"loss": "tripplet"}, "--loss: input should be .*'triplet'.*, got 'tri"),
    "a bad size": ({"size": "big"}, "--size: .*got 'big'"),
    "an option far off": ({"zzz": 1}, "zzz is no option of a recipe; see --help"),
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


def test_a_decay_over_other_epochs_is_said():
    options = {"decay": [[0.4, 0.9]], "epochs": 100}
    recipe = RetrievalRecipe(
        source="x", loss="contrastive", synthesis="iaa", synthesis_options=options, epochs=50
    )
    assert "shares of decay in 100 epochs, and the run has 50" in recipe.advice[0]
    assert not recipe.model_copy(update={"epochs": 100}).advice


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


@pytest.mark.parametrize(
    ("loss", "normalize"), [("margin", True), ("n-pair", False), ("softmax", None)]
)
def test_rows_are_compared_as_is_usual_for_the_loss(loss, normalize):
    assert RetrievalRecipe(source="photos", loss=loss).normalize is normalize


def test_hdml_brings_batch_normalisation_and_the_batches_of_its_authors():
    recipe = RetrievalRecipe(source="photos", loss="n-pair", synthesis="hdml")
    assert (recipe.batch_norm, recipe.batches) == (True, "n-pair")
    assert (recipe.positives, recipe.negatives) == (None, None)
    chosen = RetrievalRecipe(source="photos", loss="n-pair", synthesis="hdml", positives="easiest")
    assert (chosen.batches, chosen.negatives) == ("classes", "random")
    triplet = RetrievalRecipe(source="photos", loss="triplet", synthesis="hdml", batch_norm=False)
    assert (triplet.batches, triplet.negatives, triplet.batch_norm) == (
        "classes", "semi-hard", False,
    )  # fmt: skip


def test_tuples_as_drawn_leave_nothing_to_choose():
    recipe = RetrievalRecipe(source="photos", loss="triplet", batches="triplets")
    assert (recipe.positives, recipe.negatives) == (None, None)


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("loss: triplet\nsynthesis: hdml\nsynthesis_options: {beta: 1e4}\n")
    recipe = recipe_from(merged(path, "photos", {}))
    assert recipe.synthesis_options == {"beta": 1e4}


def test_options_of_the_file_are_overridden_one_by_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("loss: triplet\nloss_options: {margin: 1, squared: true}\n")
    values = merged(path, "photos", {"loss_options": ["margin=5e-1"]})
    assert recipe_from(values).loss_options == {"margin": 0.5, "squared": True}
    other = merged(path, "photos", {"loss": "nt-xent", "loss_options": ["temperature=0.1"]})
    assert recipe_from(other).loss_options == {"temperature": 0.1}


def test_another_synthesis_drops_what_belonged_to_that_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_from({"source": "x", "loss": "n-pair", "synthesis": "hdml"}).to_yaml())
    recipe = recipe_from(merged(path, "photos", {"synthesis": "iaa"}))
    assert (recipe.batches, recipe.batch_norm, recipe.positives) == ("classes", False, "all")


def test_what_the_file_has_anyway_is_not_another(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("negatives: random\nbatch_norm: true\n")  # of margin, without synthesis
    recipe = recipe_from(merged(path, "photos", {"loss": "margin", "synthesis": "none"}))
    assert (recipe.negatives, recipe.batch_norm) == ("random", True)


def test_a_full_recipe_without_synthesis_takes_hdml(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_from({"source": "x", "loss": "n-pair"}).to_yaml())
    recipe = recipe_from(merged(path, "photos", {"synthesis": "hdml"}))
    assert recipe == recipe_from({"source": "photos", "loss": "n-pair", "synthesis": "hdml"})


def test_tuples_as_drawn_drop_who_the_file_chooses(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_from({"source": "x", "loss": "triplet", "per_class": 4}).to_yaml())
    recipe = recipe_from(merged(path, "photos", {"batches": "triplets"}))
    assert recipe == recipe_from({"source": "photos", "loss": "triplet", "batches": "triplets"})
    given = {"batches": "triplets", "positives": "random"}
    with pytest.raises(InputError, match="--positives random cannot be used with --batches trip"):
        recipe_from(merged(path, "photos", given))


def test_options_by_name():
    made = as_options(["margin=0.1", " squared = yes ", "decay=[[0.4, 0.9]]"], "--loss-option")
    assert made == {"margin": 0.1, "squared": True, "decay": [[0.4, 0.9]]}
    with pytest.raises(InputError, match=r"--loss-option must be NAME=VALUE, such as .*, got x"):
        as_options(["x"], "--loss-option")
    with pytest.raises(InputError, match=r"--loss-option must be NAME=VALUE, .* got x=\[1"):
        as_options(["x=[1"], "--loss-option")


def test_columns():
    assert as_columns(["path=file", "label = kind"]) == {"path": "file", "label": "kind"}
    with pytest.raises(InputError, match="--column must be NAME=YOURS, such as path=file, got x"):
        as_columns(["x"])
