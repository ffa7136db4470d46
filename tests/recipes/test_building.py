"""What is chosen from the data, and what a recipe builds."""

import numpy as np
import pytest
import torch

from tupelo.cli.options import merged
from tupelo.data import ClassBalanced, ImageSet
from tupelo.errors import InputError
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples
from tupelo.recipes import building, methods
from tupelo.recipes.reading import read_recipe, recipe_from
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.types import Embedded, Objective


def pictures(counts: list[int], shape: tuple[int, ...] = (16, 16)) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageSet.from_arrays(np.zeros((len(labels), *shape), np.uint8), labels)


def resolve(train: ImageSet, **options) -> RetrievalRecipe:
    return building.resolve(RetrievalRecipe(source="photos", **options), train)


def build(recipe: RetrievalRecipe, train: ImageSet) -> Objective:
    return methods.build_objective(recipe, train, building.build_model(recipe))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([100] * 30, (16, 4)),
        ([100] * 5, (5, 12)),
        ([6] * 4, (4, 6)),
        ([3] * 10, (10, 3)),
        ([2] * 50, (16, 2)),
        ([1, 1, 1, 2, 40], (3, 2)),
    ],
)
def test_batches_fit_the_classes(counts, expected):
    recipe = resolve(pictures(counts))
    assert (recipe.classes, recipe.per_class) == expected


def test_given_values_are_kept():
    recipe = resolve(pictures([20] * 8), classes=3, per_class=7, lr=0.5, epochs=4, backbone="x")
    assert (recipe.classes, recipe.per_class, recipe.lr, recipe.epochs) == (3, 7, 0.5, 4)
    assert recipe.backbone == "x"


@pytest.mark.parametrize(
    ("shape", "options", "backbone"),
    [
        ((128, 128), {}, "convnet"),
        ((129, 60), {}, "resnet18"),
        ((64, 64), {"pretrained": True}, "resnet18"),
    ],
)
def test_the_backbone_follows_the_pictures(shape, options, backbone):
    assert resolve(pictures([4] * 4, shape), **options).backbone == backbone


def test_everything_but_limits_is_resolved():
    recipe = resolve(pictures([20] * 8, (16, 20, 3)))
    open_still = {name for name, value in recipe.model_dump().items() if value is None}
    assert open_still == {
        "weights", "steps", "clip_norm", "chunk", "patience", "tensorboard", "learners",
        "jobs", "threads",
    }  # fmt: skip
    assert (recipe.size, recipe.channels, recipe.augment) == ((16, 20), "3", "crop-flip")
    assert building.resolve(recipe, pictures([20] * 8, (16, 20, 3))) == recipe


def test_the_length_is_near_2000_steps_within_10_to_100_epochs():
    assert resolve(pictures([4] * 4)).epochs == 100
    assert resolve(pictures([640] * 16)).epochs == 12
    assert resolve(pictures([4000] * 16)).epochs == 10
    assert resolve(pictures([4] * 4), steps=5).epochs is None


@pytest.mark.parametrize("loss", list(methods.LOSSES))
def test_every_loss_is_built_and_gives_a_gradient(loss):
    train = pictures([4] * 4)
    recipe = resolve(train, loss=loss, dim=8)
    raw = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    objective = build(recipe, train)
    value = objective(Embedded.of(raw), torch.from_numpy(train.labels), items=torch.arange(16))
    value.total.backward()
    assert raw.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("loss", "kind"), [("lifted", OnPairs), ("margin", OnTuples), ("cosface", OnClasses)]
)
def test_kinds_of_objectives(loss, kind):
    train = pictures([4] * 4)
    assert isinstance(build(resolve(train, loss=loss), train), kind)


def test_memory_wraps_the_objective():
    train = pictures([4] * 4)
    objective = build(resolve(train, memory=32, memory_after=5, dim=8), train)
    assert isinstance(objective, Memory)
    assert (objective.size, objective.start_after) == (32, 5)


def test_tags_share_one_boundary_and_are_remembered():
    tags = [{"red", "big"}, {"red"}, {"big"}, {"small"}, {"small", "red"}, {"big", "red"}]
    train = ImageSet.from_arrays(np.zeros((6, 16, 16), np.uint8), tags)
    objective = build(resolve(train, memory=8), train)
    assert objective.objective.loss.beta.shape == (1,)
    assert objective.labels.shape == (8, 3)


def test_batches_of_tags_fit_every_epoch():
    rng = np.random.default_rng(0)
    tags = [{f"t{tag}" for tag in rng.choice(6, 2, replace=False)} for _ in range(60)]
    train = ImageSet.from_arrays(np.zeros((60, 16, 16), np.uint8), tags)
    recipe = resolve(train)
    made = ClassBalanced(train.labels, classes=recipe.classes, per_class=recipe.per_class)
    assert all(made.epoch(number) for number in range(50))


def test_class_losses_refuse_tags():
    tags = [{"red", "big"}, {"red"}, {"big"}, {"small"}, {"small", "red"}, {"big", "red"}]
    train = ImageSet.from_arrays(np.zeros((6, 16, 16), np.uint8), tags)
    recipe = resolve(train, loss="softmax")
    with pytest.raises(InputError, match="--loss softmax needs one label a picture, and these"):
        build(recipe, train)


@pytest.mark.parametrize(
    ("augment", "changes"), [("none", False), ("shift", True), ("shift-flip", True), ("crop", True)]
)
def test_augmentations(augment, changes):
    train = pictures([4] * 4)
    augmented = building.build_augmentation(resolve(train, augment=augment), train)
    assert (augmented is not None) == changes
    if augmented is not None:
        images = torch.rand(3, 1, 16, 16)
        assert augmented(images, torch.Generator().manual_seed(0)).shape == images.shape


def test_settings_take_every_option_of_the_loop():
    recipe = resolve(
        pictures([4] * 4), steps=9, patience=2, workers=1, clip_norm=3.0, chunk=4, head_rate=2.0
    )
    settings = building.build_settings(recipe)
    assert (settings.steps, settings.patience, settings.workers) == (9, 2, 1)
    assert (settings.clip_norm, settings.chunk, settings.lr) == (3.0, 4, 1e-3)
    assert settings.head_rate == 2


@pytest.mark.parametrize(
    ("counts", "options", "expected"),
    [
        ([6] * 50, {"loss": "triplet", "batches": "triplets"}, (40, 60)),
        ([6] * 5, {"loss": "triplet", "batches": "triplets"}, (4, 6)),
        ([6] * 50, {"loss": "n-pair", "batches": "n-pair"}, (32, 64)),
        ([6] * 9, {"loss": "n-pair", "batches": "n-pair", "classes": 9}, (9, 18)),
    ],
)
def test_batches_drawn_as_tuples(counts, options, expected):
    train = pictures(counts)
    recipe = resolve(train, **options)
    assert (recipe.classes, recipe.batch_size, recipe.per_class) == (*expected, 2)
    rows = building.build_batches(recipe, train).epoch(0)[0]
    assert len(rows) == recipe.batch_size
    n = len(rows) // (3 if options["batches"] == "triplets" else 2)
    labels = train.labels[rows]
    assert (labels[:n] == labels[n : 2 * n]).all()


def test_batches_drawn_as_tuples_refuse_single_pictures():
    with pytest.raises(InputError, match="--batches n-pair draws two pictures of a class, and 2"):
        resolve(pictures([6, 1, 4, 1]), loss="n-pair", batches="n-pair")


def test_batches_drawn_as_tuples_refuse_tags():
    tags = [{"red", "big"}, {"red"}, {"big"}, {"small"}, {"small", "red"}, {"big", "red"}]
    train = ImageSet.from_arrays(np.zeros((6, 16, 16), np.uint8), tags)
    with pytest.raises(InputError, match="--batches triplets needs one label a picture, and these"):
        resolve(train, loss="triplet", batches="triplets")


def test_hdml_is_calibrated_in_a_tenth_of_the_run_unless_its_scale_is_given():
    train = pictures([20] * 8)
    short = resolve(train, loss="triplet", synthesis="hdml", steps=50)
    assert short.synthesis_options == {"calibrate": 5}
    long = resolve(train, loss="triplet", synthesis="hdml", steps=5000)
    assert long.synthesis_options == {"calibrate": 200}
    known = resolve(train, synthesis="hdml", synthesis_options={"alpha": 7})
    assert known.synthesis_options == {"alpha": 7}


@pytest.mark.parametrize(
    ("length", "start"), [({"epochs": 100}, 30), ({"epochs": 9}, 3), ({"steps": 2}, 0)]
)
def test_iaa_begins_after_a_third_of_the_run(length, start):
    recipe = resolve(pictures([20] * 8), synthesis="iaa", **length)
    assert recipe.synthesis_options == {"start_after": start}


def test_iaa_whose_strength_decays_knows_the_length_of_the_run():
    options = {"decay": [[0.4, 0.9]], "start_after": 2}
    recipe = resolve(pictures([20] * 8), synthesis="iaa", epochs=6, synthesis_options=options)
    assert recipe.synthesis_options == {"start_after": 2, "epochs": 6, **options}


def test_a_longer_run_keeps_what_the_shorter_one_chose():
    train = pictures([20] * 8)
    short = resolve(train, synthesis="iaa", epochs=9)
    longer = RetrievalRecipe(source="photos", synthesis="iaa", epochs=60)
    assert building.resolve(longer, train, short).synthesis_options == {"start_after": 3}
    assert building.resolve(longer, train).synthesis_options == {"start_after": 20}


def test_settings_of_the_schedule():
    recipe = resolve(pictures([4] * 4), schedule="step", step_at=[0.5, 0.7], step_factor=0.5)
    settings = building.build_settings(recipe)
    assert (settings.step_at, settings.step_factor) == ((0.5, 0.7), 0.5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"synthesis": "iaa", "synthesis_options": {"start_after": 30}, "epochs": 12},
            r"start_after=30 leaves nothing of a run of 12 epochs .* give start_after=4, or train",
        ),
        (
            {"synthesis": "iaa", "synthesis_options": {"start_after": 2}, "steps": 4},
            "start_after=2 leaves nothing of a run of 2 epochs",
        ),
        (
            {
                "synthesis": "iaa",
                "synthesis_options": {"start_after": 1, "warmup_epochs": 2},
                "epochs": 3,
            },
            "start_after=1 leaves nothing of a run of 3 epochs",
        ),
        (
            {
                "loss": "triplet",
                "synthesis": "hdml",
                "synthesis_options": {"calibrate": 200},
                "steps": 60,
            },
            "calibrate=200 leaves nothing of a run of 60 steps .* give calibrate=20",
        ),
    ],
)
def test_a_synthesis_that_would_never_begin_is_refused(options, reason):
    with pytest.raises(InputError, match=reason):
        resolve(pictures([20] * 8), **options)


def test_the_recipe_of_a_longer_run_on_other_pictures(tmp_path):
    long = resolve(pictures([20] * 8), synthesis="iaa", steps=300)
    path = tmp_path / "recipe.yaml"
    path.write_text(long.to_yaml())
    assert long.synthesis_options == {"start_after": 30}
    more = pictures([200] * 40)
    with pytest.raises(InputError, match="start_after=30 leaves nothing of a run of 3 epochs"):
        building.resolve(recipe_from(read_recipe(path)), more)
    given = merged(path, "photos", {"synthesis_options": ["start_after=1"]})
    assert building.resolve(recipe_from(given), more).synthesis_options == {"start_after": 1}
