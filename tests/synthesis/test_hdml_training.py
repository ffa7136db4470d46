"""HDML in `fit`: resumed, chunked, in two processes; what it must show while it learns."""

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tupelo.data import ImageSet, Triplets
from tupelo.errors import TrainingDiverged
from tupelo.losses import Margin, NPair, Triplet
from tupelo.models import embedder
from tupelo.objectives import OnTuples
from tupelo.sections import Shown, from_json
from tupelo.selection import AsDrawn, PerAnchor
from tupelo.synthesis import HardnessAware
from tupelo.training import Settings, fit
from tupelo.training.steps import Seeds, in_chunks, one_piece

OBJECTIVES = {
    "margin": lambda: OnTuples(
        PerAnchor("easiest", "distance-weighted"), Margin(n_classes=4, beta=1.0)
    ),
    "n-pair": lambda: OnTuples(PerAnchor("random", negatives=3), NPair(), normalize=False),
}


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    centres = rng.integers(60, 196, size=(4, 1, 8, 8))
    pixels = (centres + rng.integers(-60, 60, size=(4, 8, 8, 8))).astype(np.uint8)
    return ImageSet.from_arrays(pixels.reshape(-1, 8, 8), np.repeat(np.arange(4), 8))


def build(name="margin", *, seed=0, batch_norm=True, dropout=0.2, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
        model = embedder(
            backbone, features=36, dim=4, channels=1, batch_norm=batch_norm, dropout=dropout
        )
        options = {"hidden": 16, "window": 3, "calibrate": 4} | options
        return model, HardnessAware(OBJECTIVES[name](), model, 4, **options)


def settings(**values):
    short = {"epochs": 3, "classes": 4, "per_class": 3, "lr": 0.01, "precision": "float32"}
    return Settings(**{**short, "tensorboard": False, "log_every": 1, **values})


def state(*modules):
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


class Killed(Exception):
    pass


def killing_after(steps):
    left = [steps]

    def progress(_):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return progress


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_interrupted_anywhere_equals_the_uninterrupted_one(tmp_path, pictures, name):
    options = {"settings": settings(checkpoint_every=2)}
    model, objective = build(name, max_negatives=2)
    whole = fit(model, objective, pictures, **options)
    for attempt, after in enumerate((3, 3, 1, 100)):
        again, resumed = build(name, seed=attempt, max_negatives=2)
        try:
            run = fit(
                again, resumed, pictures, out=tmp_path, progress=killing_after(after), **options
            )
        except Killed:
            continue
    assert int(resumed.schedule.steps) == whole.steps == run.steps > 6
    assert float(resumed.schedule.constants[0]) != 90
    expected, found = state(model, objective), state(again, resumed)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def gradients(name, chunk, batch, **options):
    model, objective = build(name, batch_norm=False, dropout=0.0, calibrate=0, **options)
    objective.schedule.j_avg.value.fill_(60.0)
    objective.schedule.j_gen_avg.value.fill_(2e4)
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped = fabric.setup_module(model.train())
    step = (
        one_piece(fabric, wrapped, objective)
        if chunk is None
        else in_chunks(fabric, wrapped, objective, chunk)
    )
    value = step(batch, Seeds(seed=0, epoch=0, batch=0, rank=0, step=0))
    assert value.statistics["skipped"] == 0
    return [p.grad for p in (*model.parameters(), *objective.parameters())]


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_chunks_equal_one_piece(pictures, name, chunk):
    batch = pictures.batch(np.arange(0, 32, 2))
    whole = gradients(name, None, batch, weight_decay=0.01)
    for one, other in zip(whole, gradients(name, chunk, batch, weight_decay=0.01), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-4 * float(one.abs().max()) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 5])
def test_two_processes_train_the_weights_of_one(pictures, chunk):
    found = []
    for processes in (1, 2):
        model, objective = build(
            "n-pair", batch_norm=False, dropout=0.0, weight_decay=0.01, generator_rate=1e-4
        )
        run = fit(
            model,
            objective,
            pictures,
            settings=settings(
                processes=processes, accelerator="cpu", optimizer="sgd", lr=1e-5, chunk=chunk
            ),
        )
        losses = [row["loss"] for row in run.history if "loss" in row]
        found.append((state(model, objective), losses))
    (one, alone), (two, shared) = found
    assert alone == pytest.approx(shared, rel=1e-4)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def test_dropout_in_the_head_is_drawn_from_the_generator_of_the_call(pictures):
    model, objective = build()
    objective.requires_grad_(True)
    with torch.no_grad():
        output = model(pictures.batch(np.arange(32)).images)
    labels = torch.from_numpy(pictures.labels)
    found = []
    for seed in (0, 1):  # as in processes of other ranks
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        value = objective(output, labels, generator=torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(value.statistics["J_syn"])
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def learned():
    """A run of the published triplet variant, full pull as in its regime, on 20 noisy classes."""
    rng = np.random.default_rng(0)
    centres = rng.integers(40, 216, size=(20, 1, 8, 8))
    pixels = np.clip(centres + rng.normal(0, 50, size=(20, 10, 8, 8)), 0, 255).astype(np.uint8)
    data = ImageSet.from_arrays(pixels.reshape(-1, 8, 8), np.repeat(np.arange(20), 10))
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
    model = embedder(backbone, features=32, dim=8, channels=1, batch_norm=True)
    objective = HardnessAware(
        OnTuples(AsDrawn("triplets"), Triplet(1.0, squared=True), normalize=False),
        model,
        20,
        alpha=3.0,
        soft_scale=80.0,
        beta=80.0,
        hidden=64,
        generator_reduction="row",
        j_avg_source="plain",
    )
    run = fit(
        model,
        objective,
        data,
        settings=Settings(steps=260, lr=1e-3, precision="float32", tensorboard=False, log_every=1),
        batches=Triplets(data.labels, 10),
    )
    rows = [row for row in run.history if "J_m" in row]
    return model, objective, rows, data


def mean(rows, name):
    return float(np.mean([row[name] for row in rows]))


def test_hardness_and_weight_fall_as_training_goes_on(learned):
    """M2."""
    rows = learned[2]
    assert rows[0]["lambda"] > 0.999
    assert rows[0]["w"] > 0.999
    assert mean(rows[64:128], "lambda") < 0.5
    assert mean(rows[-64:], "lambda") < 0.01
    assert mean(rows[64:128], "w") > mean(rows[-64:], "w")
    assert rows[-1]["w"] < 0.5


def test_synthetic_tuples_are_harder_than_real_ones(learned):
    """M3, over windows of 64 steps and more."""
    rows = learned[2]
    assert mean(rows[-128:], "J_syn") > 1.2 * mean(rows[-128:], "J_m")


def test_the_generator_keeps_the_classes(learned):
    """M4."""
    rows = learned[2]
    assert mean(rows[-50:], "label_accuracy") > 2 * mean(rows[:20], "label_accuracy")
    assert mean(rows[-50:], "J_recon") < 0.7 * mean(rows[:20], "J_recon")


def test_sections_show_curves_and_synthetic_embeddings(learned):
    model, objective, rows, data = learned
    model.eval()
    objective.eval()
    some = data.batch(np.arange(40))
    shown = Shown(some.images, some.labels, data.class_names, data.class_names)
    with torch.no_grad():
        (section,) = objective.sections(model, shown)
        *curves, points = section.parts
        assert {name for part in curves for name in part.columns} <= set(rows[0])
        assert [points.kinds.count(k) for k in ("real", "pulled", "synthetic")] == [40, 40, 40]
        assert len(points.names) == 120
        alone = Shown(some.images[:3], some.labels[:3], ["0"], ["0"])
        assert len(objective.sections(model, alone)[0].parts) == 4
        tags = torch.nn.functional.one_hot(some.labels).bool()
        tagged = Shown(some.images, tags, data.class_names, data.class_names)
        assert objective.sections(model, tagged)[0].parts[-1].names == []


def test_the_run_keeps_them(tmp_path, pictures):
    model, objective = build()
    fit(model, objective, pictures, out=tmp_path, settings=settings(epochs=1))
    (section,) = [
        section
        for section in from_json(json.loads((tmp_path / "sections.json").read_text()))
        if "HDML" in section.title
    ]
    assert len(section.parts) == 5


def test_a_run_that_only_skips_ends(pictures):
    model, objective = build(soft_scale=1e38, skip_limit=2)
    with pytest.raises(TrainingDiverged, match="in 2 steps in a row"):
        fit(model, objective, pictures, settings=settings())
