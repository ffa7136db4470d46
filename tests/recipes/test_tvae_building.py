"""From a recipe of an autoencoder to pictures, models, triplets."""

import logging

import numpy as np
import pytest
from PIL import Image

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.generative import Bernoulli, FreshTriplets, Squared, TripletBatches, read_triplets
from tupelo.recipes import tvae_building as building
from tupelo.recipes.tvae_recipe import TvaeRecipe


def pictures(counts=(10, 10, 10), size=16, channels=1) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    shape = (len(labels), size, size) if channels == 1 else (len(labels), size, size, 3)
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    return ImageSet.from_arrays(pixels, labels)


def resolved(train: ImageSet, **options) -> TvaeRecipe:
    return building.resolve(TvaeRecipe(source="photos", **options), train)


@pytest.mark.parametrize(
    ("size", "options", "chosen"),
    [
        (28, {}, ("mlp", 20, 400)),
        (32, {"channels": "3"}, ("mlp", 20, 400)),
        (64, {}, ("conv", 64, None)),
        (32, {"reconstruction": "squared"}, ("conv", 64, None)),
        (32, {"model": "conv", "dim": 8}, ("conv", 8, None)),
        (64, {"model": "mlp", "hidden": 9}, ("mlp", 20, 9)),
    ],
)
def test_models_are_chosen_by_the_pictures(size, options, chosen):
    channels = int(options.get("channels", "1"))
    recipe = resolved(pictures(size=size, channels=channels), **options)
    assert (recipe.model, recipe.dim, recipe.hidden) == chosen
    assert recipe.triplets == 30
    model = building.build_model(recipe)
    loss = building.build_reconstruction(recipe)
    assert isinstance(loss, Squared if recipe.reconstruction == "squared" else Bernoulli)
    assert model.output == loss.output
    assert (model.architecture.channels, model.architecture.size) == (channels, size)


def test_forms_that_no_model_takes_are_refused():
    wide = ImageSet.from_arrays(np.zeros((4, 16, 24), np.uint8), [0, 0, 1, 1])
    with pytest.raises(
        InputError, match="takes square pictures, these are 16 x 24; give --size 24"
    ):
        resolved(wide)
    with pytest.raises(InputError, match="multiple of 16, these have 50; give --size 48"):
        resolved(pictures(size=50))


def test_a_share_of_every_class_keeps_its_label_at_least_two():
    train = pictures((40, 10, 4))
    found = building.labelled(resolved(train, labelled=0.1), train)
    assert np.bincount(train.labels[found.rows]).tolist() == [4, 2, 2]
    assert sorted([*found.rows, *found.unlabelled]) == list(range(54))
    everything = building.labelled(resolved(train), train)
    assert len(everything.unlabelled) == 0


@pytest.mark.parametrize("fresh", [False, True])
def test_the_last_batch_of_a_run_is_no_smaller_than_the_others_but_for_one(fresh, tmp_path):
    train = pictures((11, 10))
    batches = building.build_batches(resolved(train, batch=20, fresh=fresh), train, tmp_path)
    assert [len(rows) // 3 for rows in batches.epoch(0)] == [11, 10]  # not 20 and 1


@pytest.mark.parametrize("fresh", [False, True])
def test_labels_of_unlabelled_pictures_are_not_used(fresh, tmp_path):
    train = pictures((40, 40))
    recipe = resolved(train, labelled=0.25, fresh=fresh, batch=16)
    batches = building.build_batches(recipe, train, tmp_path)
    assert isinstance(batches, FreshTriplets if fresh else TripletBatches)
    found = building.labelled(recipe, train)
    rows = np.concatenate(batches.epoch(0)).reshape(-1, 4)
    assert set(rows[:, :3].ravel()) <= set(found.rows)
    assert set(rows[:, 3]) <= set(found.unlabelled)
    assert building.build_objective(recipe, batches).unlabelled == 1
    assert (tmp_path / "triplets.csv").exists() != fresh


def test_the_written_list_is_the_one_that_trains(tmp_path):
    train = pictures()
    batches = building.build_batches(resolved(train), train, tmp_path)
    written = read_triplets(tmp_path / "triplets.csv")
    assert isinstance(batches, TripletBatches)
    assert batches.digest == written.digest


def test_every_option_reaches_what_it_is_of():
    train = pictures()
    recipe = resolved(
        train, margin=0.7, weight_vae=0.02, weight_triplet=2.0, weight_regulariser=0.0, seed=3,
        batch=4, epochs=7, lr=0.5, schedule="cosine", clip_norm=9.0, log_every=2, labelled=0.5,
    )  # fmt: skip
    batches = building.build_batches(recipe, train, None)
    objective = building.build_objective(recipe, batches)
    found = objective.margin, objective.weight_vae, objective.weight_triplet
    assert found == (0.7, 0.02, 2.0)
    assert objective.weight_regulariser == 0
    assert (batches.seed, batches.per_batch, batches.per_triplet) == (3, 4, 1)
    settings = building.build_settings(recipe)
    assert (settings.epochs, settings.lr, settings.seed, settings.log_every) == (7, 0.5, 3, 2)
    assert (settings.schedule, settings.clip_norm, settings.precision) == ("cosine", 9.0, "float32")
    assert (settings.optimizer, settings.weight_decay) == ("adam", 0)
    other = building.labelled(recipe.model_copy(update={"seed": 4}), train)
    assert not np.array_equal(building.labelled(recipe, train).rows, other.rows)


def test_lists_for_training_choosing_and_judging_differ():
    train = pictures()
    lists = [
        building.draw_triplets(train, 50, 0, purpose, "test", None).digest
        for purpose in (building.TRAINING, building.CHOOSING, building.JUDGING)
    ]
    assert len(set(lists)) == 3


def test_classes_of_one_picture_are_only_negatives_and_that_is_said(caplog):
    train = pictures((5, 1, 5))
    with caplog.at_level(logging.WARNING, "tupelo"):
        drawn = building.draw_triplets(train, 200, 0, building.TRAINING, "training", None)
    assert "1 of 3 classes have one picture and are only negatives: ['1']" in caplog.text
    assert 5 not in drawn.anchor
    assert 5 in drawn.negative


def test_a_part_that_gives_no_triplets_is_named():
    with pytest.raises(InputError, match="the test part: triplets need at least 2 classes, got 1"):
        building.draw_triplets(pictures((5,)), 10, 0, building.JUDGING, "test", None)


@pytest.mark.parametrize(
    ("each", "options", "parts"),
    [
        (20, {}, (30, 4, 6)),
        (6, {}, (4, 4, 4)),
        (4, {}, (8, 0, 0)),
        (20, {"test": 0.0}, (36, 4, 0)),
    ],
)
def test_pictures_of_every_class_are_divided_two_of_each_at_least(tmp_path, each, options, parts):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(each):
            pixels = rng.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    recipe = TvaeRecipe(source=str(tmp_path), **options)
    recipe, data = building.read_data(recipe, None, None)
    found = tuple(len(part or ()) for part in (data.train, data.validation, data.test))
    assert found == parts
    assert recipe.split == "items"
    again, same = building.read_data(recipe, None, None)
    assert again == recipe
    assert same.train.paths == data.train.paths


def test_tags_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "1.png")
    (tmp_path / "table.csv").write_text("path,label\n1.png,a|b\n")
    with pytest.raises(InputError, match=r"one class a picture, and .* has tags"):
        building.read_data(TvaeRecipe(source=str(tmp_path / "table.csv")), None, None)
