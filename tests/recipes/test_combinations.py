"""The table of combinations: what is said to train does, on digits never seen in training."""

import re
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.inference import evaluate
from tupelo.models import Embedder, Ensemble, embedder
from tupelo.recipes import building, methods
from tupelo.recipes.combinations import (
    OTHERS,
    SELECTIONS,
    SHOWN,
    Combination,
    advice,
    as_markdown,
    completed,
    ensembles_as_markdown,
    ensembles_table,
    refusal,
    table,
)
from tupelo.recipes.ensembles import build_ensemble
from tupelo.recipes.names import CLASS_LOSSES
from tupelo.recipes.reading import recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.training import fit

PAGE = Path(__file__).parents[2] / "docs/combinations.md"
CELLS = {
    cell: made for cell, made in table().items() if cell[0] in SHOWN and cell[:2] not in OTHERS
}
STEPS, GAIN = 40, 0.02  # the least gain of 3 seeds in any cell was 0.045


def cut(digits: range, n: int) -> ImageSet:
    """Pictures of some digits beside as much noise, which a metric must learn to overlook."""
    found = load_digits()
    rows = np.flatnonzero(np.isin(found.target, digits))[:n]
    noise = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    pixels = (found.images[rows] * (255 / 16)).astype(np.uint8)
    return ImageSet.from_arrays(np.concatenate([pixels, noise], axis=2), found.target[rows])


@cache
def pictures() -> tuple[ImageSet, ImageSet]:
    return cut(range(6), 480), cut(range(6, 10), 240)


def resolved(made: Combination) -> RetrievalRecipe:
    values = {name: value for name, value in made._asdict().items() if name != "tags"}
    values |= {"source": "digits", "memory": 128 * made.memory, "steps": STEPS, "dim": 16}
    values |= {"classes": 6, "per_class": 4, "lr": 3e-3, "schedule": "constant"}
    if made.synthesis == "hdml":
        values |= {"synthesis_options": {"hidden": 64}}
    return building.resolve(recipe_from(values), pictures()[0])


def untrained(*, batch_norm: bool) -> Embedder:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.ReLU())
    return embedder(layers, dim=16, channels=1, features=32, batch_norm=batch_norm)


def score(model: Embedder | Ensemble) -> float:
    return evaluate(model, pictures()[1], clustering=False).as_dict()["map@r"]


@cache
def start(batch_norm: bool) -> float:
    return score(untrained(batch_norm=batch_norm))


@pytest.mark.parametrize("cell", list(CELLS), ids=" ".join)
def test_a_combination_trains_or_is_refused(cell):
    made = CELLS[cell]
    if reason := refusal(made):
        with pytest.raises(InputError, match=re.escape(reason)):
            resolved(made)
        return
    recipe = resolved(made)
    assert recipe.combination == made._replace(normalize=recipe.normalize)
    model = untrained(batch_norm=bool(recipe.batch_norm))
    train = pictures()[0]
    fit(
        model,
        methods.build_objective(recipe, train, model),
        train,
        settings=building.build_settings(recipe),
        batches=building.build_batches(recipe, train),
    )
    assert score(model) > start(bool(recipe.batch_norm)) + GAIN


LEARNERS = {"abe": {"learners": 2, "ensemble_options": {"cut": "smaller"}}, "bier": {"learners": 2}}


def learners(made: Combination) -> RetrievalRecipe:
    recipe = resolved(made._replace(ensemble="none"))
    values = recipe.model_dump() | {"ensemble": made.ensemble} | LEARNERS[made.ensemble]
    if made.memory:  # masks change fast at first, and remembered rows are worthless at a high rate
        values |= {"lr": 1e-3, "steps": 3 * STEPS}
    return recipe_from(values)


def untrained_ensemble(recipe: RetrievalRecipe) -> Embedder | Ensemble:
    torch.manual_seed(0)
    named = {
        "first": nn.Conv2d(1, 8, 3, padding=1), "active": nn.ReLU(), "smaller": nn.MaxPool2d(2),
        "second": nn.Conv2d(8, 16, 3, padding=1), "again": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d((4, 8)), "flat": nn.Flatten(),
        "last": nn.Linear(512, 32), "end": nn.ReLU(),
    }  # fmt: skip
    layers = nn.Sequential(OrderedDict(named))
    single = embedder(layers, dim=16, channels=1, features=32, size=None)
    return build_ensemble(recipe, single)


@pytest.mark.parametrize("cell", list(ensembles_table()), ids=" ".join)
def test_learners_train_or_are_refused(cell):
    made = ensembles_table()[cell]
    if reason := refusal(made):
        values = {"source": "x", "loss": made.loss, "ensemble": made.ensemble}
        values |= {"synthesis": made.synthesis, "memory": 9 * made.memory}
        values |= {"positives": made.positives, "negatives": made.negatives}
        with pytest.raises(InputError, match=re.escape(reason)):
            recipe_from(values)
        return
    recipe = learners(made)
    assert recipe.combination == made._replace(normalize=recipe.normalize)
    model, train = untrained_ensemble(recipe), pictures()[0]
    before = score(model)
    fit(
        model,
        methods.build_objective(recipe, train, model),
        train,
        settings=building.build_settings(recipe),
        batches=building.build_batches(recipe, train),
    )
    assert score(model) > before + GAIN


def test_the_table_of_ensembles_has_all_cells():
    refused = {cell for cell, made in ensembles_table().items() if refusal(made)}
    assert len(ensembles_table()) == 2 * 3 * 2 * 4
    assert {cell[2] for cell in refused} == {"HDML", "memory"}
    assert {cell[0][:4] for cell in refused if cell[2] == "memory"} == {"BIER"}


def test_the_table_has_all_cells():
    assert len(CELLS) == 5 * 4 * 4
    assert {cell[:2] for cell in CELLS} == {(loss, name) for loss in SHOWN for name in SELECTIONS}


def test_the_page_shows_the_table():
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition("<!-- table -->\n")[2].partition("<!-- end -->")[0].strip()
    assert shown == as_markdown().strip(), f"write as_markdown() into {PAGE.name}"
    shown = text.partition("<!-- ensembles -->\n")[2].partition("<!-- end -->")[0].strip()
    assert shown == ensembles_as_markdown().strip(), f"write it into {PAGE.name}"


REASONS = {
    Combination("arcface", positives="random"): "--positives random cannot be used with --loss arc",
    Combination("arcface", negatives="random"): "--negatives random cannot be used with --loss arc",
    Combination("arcface", memory=True): "--memory cannot be used with --loss arcface",
    Combination("arcface", normalize=True): "--normalize cannot be set for --loss arcface",
    Combination(
        "arcface", synthesis="hdml"
    ): "row per class; take --loss triplet, margin or n-pair",
    Combination(
        "lifted", batches="n-pair"
    ): "drawn as tuples, for --loss triplet, margin or n-pair;",
    Combination(
        "n-pair", batches="triplets"
    ): "drawn as tuples, for --loss triplet or margin; take",
    Combination(
        "margin", "easiest", batches="n-pair"
    ): "--positives easiest cannot be used with --b",
    Combination(
        "margin", memory=True, batches="n-pair"
    ): "--memory cannot be used with --batches n-",
    Combination(
        "margin", synthesis="iaa", batches="n-pair"
    ): "--synthesis iaa cannot be used with -",
    Combination(
        "margin", "all"
    ): "--positives all cannot be used with --loss margin, which takes o",
    Combination(
        "nt-xent", negatives="random"
    ): "--negatives random cannot be used with --loss nt-x",
    Combination("lifted", "random", "distance-weighted"): "defined for distances of unit rows",
    Combination("nt-xent", synthesis="hdml"): "this loss weighs all pairs of the batch at once",
    Combination(
        "n-pair", "all", synthesis="hdml"
    ): "--positives all cannot be used with --loss n-p",
    Combination(
        "margin", synthesis="hdml", memory=True
    ): "--memory cannot be used with --synthesis",
    Combination(
        "softmax", tags=True
    ): "--loss softmax needs one label a picture, and these have ta",
    Combination("margin", synthesis="iaa", tags=True): "--synthesis iaa needs one label a picture",
    Combination(
        "margin", batches="n-pair", tags=True
    ): "--batches n-pair needs one label a picture",
}


@pytest.mark.parametrize("made", list(REASONS), ids=lambda made: f"{made.loss} {made[1:]}")
def test_reasons(made):
    reason = refusal(completed(made))
    assert REASONS[made] in reason
    assert "; " in reason  # what to do
    if not made.tags:
        values = {name: value for name, value in made._asdict().items() if name != "tags"}
        with pytest.raises(InputError, match=re.escape(reason)):
            recipe_from(values | {"source": "x", "memory": 9 * made.memory})


def test_unit_rows_of_any_loss_may_be_weighted_by_distance():
    made = Combination("n-pair", "random", "distance-weighted", normalize=True)
    assert not refusal(made)


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_class_losses_take_synthetic_samples(loss):
    assert not refusal(Combination(loss, synthesis="iaa"))


def test_advice_is_said_and_not_refused():
    weighted = Combination("margin", "easiest", "distance-weighted", synthesis="iaa")
    assert not refusal(weighted)
    assert "--negatives distance-weighted leaves out most" in advice(weighted)[0]
    recipe = recipe_from({"source": "x", "loss": "margin", "synthesis": "iaa"})
    assert recipe.advice[:1] == advice(weighted)
    assert "a window made for unit rows" in advice(Combination("n-pair", "random", "semi-hard"))[0]
    assert not advice(Combination("triplet", "random", "semi-hard", synthesis="iaa"))
