"""From a recipe to episodes: published values, shares of classes, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo.data import ImageData, ImageSet
from tupelo.errors import DataError, InputError
from tupelo.fewshot import GraphHead, LargeMargin, Matching, NormalisedContrastive, Prototypical
from tupelo.recipes import fewshot_building as building
from tupelo.recipes.fewshot_recipe import FewShotRecipe
from tupelo.recipes.reading import checked


def recipe(**values) -> FewShotRecipe:
    return checked(FewShotRecipe, {"source": "photos", **values})


def data(classes: int = 100, each: int = 20, *, colour: bool = False, side: int = 28) -> ImageData:
    shape = (classes * each, side, side, 3) if colour else (classes * each, side, side)
    pixels = np.zeros(shape, dtype=np.uint8)
    train = ImageSet.from_arrays(pixels, np.repeat(np.arange(classes), each))
    return ImageData(train, None, train.subset(np.arange(10 * each)), ())


def draw(folder: Path, classes: int, each: int = 6, *, side: int = 16, mode: str = "L") -> Path:
    rng = np.random.default_rng(len(folder.name))
    for name in range(classes):
        (folder / f"c{name:02}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(256, size=(side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / f"c{name:02}" / f"{number}.png")
    return folder


PUBLISHED = [
    # Snell et al.: 60 ways and 5 queries on Omniglot, 30 or 20 ways and 15 queries in colour
    ({}, False, ("train_ways", 60), ("train_queries", 5), ("per_batch", 1), ("halve_every", 2000)),
    ({}, True, ("train_ways", 30), ("train_queries", 15)),
    ({"shots": 5}, True, ("train_ways", 20), ("train_shots", 5)),
    # Wang et al.: 20 ways, 15 queries
    ({"method": "l-pn", "shots": 5}, False, ("train_ways", 20), ("train_queries", 15)),
    # Garcia and Bruna
    ({"method": "gnn"}, False, ("per_batch", 300), ("steps", 100_000), ("halve_every", 10_000)),
    ({"method": "gnn", "shots": 5}, False, ("per_batch", 100), ("steps", 80_000)),
    ({"method": "gnn", "ways": 20}, False, ("per_batch", 100), ("train_ways", 20)),
    ({"method": "gnn"}, True, ("per_batch", 100), ("weight_decay", 1e-6), ("halve_every", 15_000)),
    ({"method": "gnn", "shots": 5}, True, ("per_batch", 40), ("steps", 90_000)),
    ({"method": "gnn", "shots": 5, "unlabelled": 4}, True, ("steps", 100_000)),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_what_is_left_open_is_chosen_as_published(case):
    values, colour, *expected = case
    full = building.resolve(recipe(**values), data(colour=colour, side=84 if colour else 28))
    for name, value in expected:
        assert getattr(full, name) == value, name


def test_what_is_given_stays():
    asked = {"train_ways": 7, "train_queries": 2, "per_batch": 3, "steps": 9, "queries": 4}
    full = building.resolve(recipe(**asked), data())
    assert {name: getattr(full, name) for name in asked} == asked


def test_few_classes_and_pictures_make_smaller_episodes():
    full = building.resolve(recipe(shots=3), data(classes=12, each=5))
    assert (full.train_ways, full.train_queries, full.queries) == (12, 2, 2)
    assert building.train_layout(full).batch_size == 12 * 5


def test_classes_without_enough_pictures_are_counted_out():
    labels = np.repeat(np.arange(10), [9] * 4 + [2] * 6)
    train = ImageSet.from_arrays(np.zeros((len(labels), 28, 28), np.uint8), labels)
    full = building.resolve(recipe(shots=2), ImageData(train, None, None, ()))
    assert full.train_ways == 4
    with pytest.raises(InputError, match="only 0 of 10 training classes have them; lower --shots"):
        building.resolve(recipe(shots=9), ImageData(train, None, None, ()))


def test_graph_networks_are_asked_about_one_class():
    full = building.resolve(recipe(method="gnn", per_batch=4), data())
    layout = building.train_layout(full)
    assert (layout.asked, layout.batch_size) == (1, 4 * 6)
    assert building.judged_layout(full).asked == 5


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, Prototypical),
        ({"method": "l-pn", "similarity": "cosine"}, Prototypical),
        ({"method": "matching", "context": True, "head_options": {"steps": 2}}, Matching),
        ({"method": "gnn", "head_options": {"growth": 8}}, GraphHead),
        ({"method": "l-gnn", "answer_loss": "arcface"}, GraphHead),
    ],
    ids=str,
)
def test_what_a_recipe_names_takes_a_batch(values, kind):
    full = building.resolve(
        recipe(width=4, train_ways=None, steps=3, per_batch=2, **values), data(classes=10)
    )
    model = building.build_model(full)
    assert isinstance(model.head, kind)
    objective = building.build_objective(full, model)
    batches = building.build_batches(full, data(classes=10).train)
    (rows, *_) = batches.epoch(0)
    labels = torch.from_numpy(data(classes=10).train.labels[rows])
    value = objective(model(torch.rand(len(rows), 1, 28, 28)), labels)
    assert value.total.isfinite()
    assert ("margin" in value.parts) == values.get("method", "pn").startswith("l-")
    assert building.build_settings(full).schedule == "halving"


def test_options_reach_the_head():
    full = building.resolve(
        recipe(method="matching", similarity="dot", scale=2.0, context=True,
               head_options={"steps": 2, "start": "query", "class_reduce": "mean"}),
        data(),
    )  # fmt: skip
    head = building.build_model(full).head
    assert head.options() == {
        "similarity": "dot",
        "scale": 2.0,
        "class_reduce": "mean",
        "fce": {"dim": 64, "steps": 2, "start": "query"},
    }
    with pytest.raises(InputError, match="growth must be at least 1"):
        building.build_model(full.model_copy(update={"method": "gnn", "similarity": None,
                                                     "scale": None, "encoder": "graph",
                                                     "head_options": {"growth": 0}}))  # fmt: skip


def test_margins_of_a_recipe():
    def margin(**values):
        full = building.resolve(recipe(method="l-pn", train_ways=4, width=2, **values), data())
        return building.build_objective(full, building.build_model(full)).margin

    assert isinstance(margin(), LargeMargin)
    assert margin(margin=10).margin == 10.0
    assert margin(margin_loss="normalised-triplet").normalised
    assert isinstance(margin(margin_loss="contrastive"), NormalisedContrastive)


def test_grey_pictures_are_ink_and_colour_is_normalised():
    full = building.resolve(recipe(), data())
    assert (building.build_model(full).mean.item(), building.build_model(full).std.item()) == (
        1,
        -1,
    )
    colour = building.resolve(recipe(width=4), data(colour=True, side=84))
    assert building.build_model(colour).mean.shape == (1, 3, 1, 1)


def test_pictures_of_graph_networks_are_prepared_as_published():
    def seen(pixel, **values):
        full = building.resolve(recipe(method="gnn", width=2), data(classes=10, **values))
        model = building.build_model(full)
        image = torch.tensor(pixel).div(255).view(1, -1, 1, 1)
        return ((image - model.mean) / model.std).flatten()

    torch.testing.assert_close(seen([0.0]), torch.tensor([-1.0]))
    torch.testing.assert_close(seen([255.0]), torch.tensor([1.0]))
    pixel = torch.tensor([10.0, 100.0, 250.0])
    expected = (pixel - torch.tensor([120.45, 115.74, 104.65])) / 127.5
    torch.testing.assert_close(seen(pixel.tolist(), colour=True, side=84), expected)


@pytest.mark.parametrize(
    ("side", "colour", "variant"), [(28, False, "omniglot"), (84, True, "miniimagenet")]
)
def test_the_variant_of_a_graph_network_is_that_of_its_pictures(side, colour, variant):
    pictures = data(classes=10, colour=colour, side=side)
    for values, expected in (
        ({}, variant),
        ({"head_options": {"variant": "miniimagenet"}}, "miniimagenet"),
    ):
        full = building.resolve(recipe(method="gnn", width=2, **values), pictures)
        assert building.build_model(full).head.options()["variant"] == expected


def test_options_reach_the_objective_and_the_layouts():
    full = building.resolve(
        recipe(method="l-gnn", shots=5, unlabelled=4, width=2, per_batch=2,
               margin_weight=0.5, margin_warmup=7, answer_loss="cosface", answer_margin=0.3),
        data(classes=10),
    )  # fmt: skip
    objective = building.build_objective(full, building.build_model(full))
    assert (objective.weight, objective.warmup_steps) == (0.5, 7)
    assert objective.loss is not None
    assert objective.loss.keywords == {"scale": 10.0, "margin": 0.3}
    layouts = building.train_layout(full), building.judged_layout(full)
    assert [layout.unlabelled for layout in layouts] == [4, 4]
    assert objective.layout == layouts[0]


def test_all_is_trained_by_adam():
    settings = building.build_settings(building.resolve(recipe(), data()))
    assert (settings.optimizer, settings.lr, settings.halve_every) == ("adam", 1e-3, 2000)


def test_known_data_sets_are_given_by_name(tmp_path, monkeypatch):
    assert building.source_of("omniglot") == "known:omniglot"
    assert building.source_of("photos") == "photos"
    monkeypatch.chdir(tmp_path)
    Path("omniglot").mkdir()
    assert building.source_of("omniglot") == "omniglot"


def read(source: Path, **values) -> ImageData:
    return building.read_data(recipe(**{"source": str(source), **values}), None, None)


def test_parts_hold_the_classes_of_an_episode(tmp_path):
    found = read(draw(tmp_path / "photos", 20))
    assert found.validation is not None
    assert found.test is not None
    assert found.test.n_classes == 5
    assert found.validation.n_classes == 5
    assert found.train.n_classes == 10
    given = read(tmp_path / "photos", validation=0.36, test=0.3)
    assert given.test is not None
    assert given.test.n_classes == 6


def test_sizes_are_published_and_no_larger_than_the_pictures(tmp_path):
    large = draw(tmp_path / "large", 4, 3, side=90, mode="RGB")
    assert read(large, ways=2, validation=0, test=0).train.frame[:3] == (84, 84, 3)
    grey = draw(tmp_path / "grey", 4, 3, side=90)
    assert read(grey, ways=2, validation=0, test=0).train.frame[:3] == (28, 28, 1)
    small = draw(tmp_path / "small", 4, 3, side=20, mode="RGB")
    assert read(small, ways=2, validation=0, test=0).train.frame[:3] == (20, 20, 3)
    assert read(small, ways=2, validation=0, test=0, method="gnn").train.size == (84, 84)
    assert read(small, ways=2, validation=0, test=0, size=32).train.size == (32, 32)


def test_rotations_are_for_training(tmp_path):
    found = read(draw(tmp_path / "photos", 12), ways=2, rotations=True)
    assert found.test is not None
    assert found.train.n_classes == 4 * (12 - found.test.n_classes - found.validation.n_classes)
    assert not any("@" in name for name in found.test.class_names)


def test_too_few_classes_for_an_episode(tmp_path):
    folder = draw(tmp_path / "photos", 7)
    with pytest.raises(InputError, match="the validation part has 2 classes and --ways 5 needs as"):
        read(folder)
    with pytest.raises(InputError, match=r"give --test 0\.36 for more of them"):
        read(draw(tmp_path / "more", 14), validation=0, test=0.2)
    assert read(folder, ways=2).train.n_classes == 3


def test_a_given_split_of_the_same_classes_is_refused(tmp_path):
    for part in ("train", "test"):
        draw(tmp_path / "photos" / part, 6)
    with pytest.raises(DataError, match=r"has classes that also train.*give --split classes"):
        read(tmp_path / "photos", ways=2, allow_bad=1.0)


def test_tags_are_refused(tmp_path):
    draw(tmp_path / "photos", 6)
    rows = [f"photos/c{name:02}/{number}.png,a|b" for name in range(6) for number in range(6)]
    (tmp_path / "tags.csv").write_text("\n".join(["path,tags", *rows]))
    with pytest.raises(InputError, match=r"episodes need one class a picture, and .* has tags"):
        read(tmp_path / "tags.csv", columns={"label": "tags"})
