import logging
import math

import pytest
import torch
from torch import nn

from tupelo import checkpoints
from tupelo.data.augment import HorizontalFlip
from tupelo.errors import CheckpointError, TrainingDiverged
from tupelo.losses import Contrastive, ProxyAnchor
from tupelo.models import load
from tupelo.objectives import OnClasses, OnPairs
from tupelo.training import fit, read_rows
from tupelo.types import LossValue, Objective


class Killed(BaseException):
    """Stands for a kill at a known step; the real ones are in test_launching.py."""


def killing_after(steps):
    left = [steps]

    def progress(event):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return progress


def without_speed(rows):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.fixture
def whole(pictures, network, objective, settings, weights):
    """An uninterrupted run in memory: model, objective, run."""

    def train(**values):
        model, learned = network(), objective()
        run = fit(
            model, learned, pictures(), validate=pictures(seed=1), settings=settings(**values)
        )
        return weights(model), weights(learned), run

    return train


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("every", [1, 3, None])
def test_a_run_interrupted_anywhere_equals_the_uninterrupted_one(
    tmp_path, pictures, network, objective, settings, weights, whole, every, optimizer
):
    values = {"epochs": 3, "checkpoint_every": every, "log_every": 2, "optimizer": optimizer}
    expected, remembered, run = whole(**values)
    for killed_after in (1, 2, 4, 1, 3, 100):
        model, learned = network(seed=9), objective()
        if not (tmp_path / "checkpoint").exists():
            model = network()
        try:
            resumed = fit(
                model,
                learned,
                pictures(),
                validate=pictures(seed=1),
                out=tmp_path,
                settings=settings(**values),
                progress=killing_after(killed_after),
            )
            break
        except Killed:
            continue
    assert equal(weights(model), expected)
    assert equal(weights(learned), remembered)
    assert without_speed(resumed.history) == without_speed(run.history)
    assert (resumed.best, resumed.steps, resumed.stopped) == (run.best, run.steps, run.stopped)


def test_a_finished_run_returns_at_once_and_more_epochs_extend_it(
    tmp_path, pictures, network, objective, settings, weights
):
    def train(epochs, progress=None):
        model = network()
        run = fit(
            model,
            objective(),
            pictures(),
            out=tmp_path,
            settings=settings(epochs=epochs, schedule="constant"),
            progress=progress,
        )
        return run, weights(model)

    run, first = train(2)
    again, second = train(2, killing_after(1))
    assert equal(first, second)
    assert again == run
    longer, third = train(3)
    assert longer.epochs == 3
    assert longer.steps == 3 * run.steps / 2
    straight = network()
    fit(straight, objective(), pictures(), settings=settings(epochs=3, schedule="constant"))
    assert equal(third, weights(straight))


def test_other_settings_or_objective_are_refused_by_name(
    tmp_path, pictures, network, objective, settings
):
    fit(network(), objective(), pictures(), out=tmp_path, settings=settings())
    with pytest.raises(CheckpointError, match=r"settings\.lr was 0\.01, is 0\.5"):
        fit(network(), objective(), pictures(), out=tmp_path, settings=settings(lr=0.5))
    with pytest.raises(CheckpointError, match=r"model\.architecture\.dropout was 0\.2, is 0\.1"):
        fit(network(dropout=0.1), objective(), pictures(), out=tmp_path, settings=settings())
    with pytest.raises(CheckpointError, match=r"objective\.class was .*Memory', is .*OnPairs"):
        fit(network(), OnPairs(Contrastive()), pictures(), out=tmp_path, settings=settings())
    other = {"out": tmp_path, "settings": settings(), "validate": pictures()}
    with pytest.raises(CheckpointError, match=r"validate\.items was 'absent', is 24"):
        fit(network(), objective(), pictures(), **other)
    again = {"out": tmp_path, "settings": settings(), "augment": HorizontalFlip()}
    with pytest.raises(CheckpointError, match=r"augment was None, is .*; augment\.class was 'abs"):
        fit(network(), objective(), pictures(), **again)


def test_the_random_state_of_the_caller_is_left_alone(pictures, network, objective, settings):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    fit(network(), objective(), pictures(), settings=settings())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_callers_random_state_does_not_matter_and_the_seed_does(whole):
    torch.manual_seed(1)
    one = whole()[0]
    torch.manual_seed(2)
    assert equal(one, whole()[0])
    assert not equal(one, whole(seed=1)[0])


def test_what_a_run_leaves_behind(tmp_path, pictures, network, objective, settings):
    model = network()
    run = fit(
        model,
        objective(),
        pictures(),
        validate=pictures(seed=1),
        out=tmp_path,
        settings=settings(log_every=3),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint",
        "metrics.csv",
        "model",
    ]
    rows = read_rows(tmp_path / "metrics.csv")
    assert rows == run.history
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert {"loss", "active", "remembered", "gradient", "lr", "epoch"} <= rows[0].keys()
    evaluated = [row["val/map@r"] for row in rows if "val/map@r" in row]
    assert len(evaluated) == run.epochs == 2
    assert run.best["map@r"] == max(evaluated)
    assert run.seconds > 0
    images = pictures().batch(range(4)).images
    saved = load(tmp_path / "model", backbone=network().backbone)
    assert torch.equal(saved(images).z, model.eval()(images).z)


def test_the_best_weights_are_in_the_model_and_patience_stops(
    pictures, network, objective, settings, monkeypatch, weights
):
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.9])
    seen = []

    class Report:
        learners = None

        def as_dict(self):
            return {"map@r": next(scores)}

    def evaluate(model, dataset, **options):
        seen.append(weights(model))
        return Report()

    monkeypatch.setattr("tupelo.inference.evaluate", evaluate)
    model = network()
    run = fit(
        model,
        objective(),
        pictures(),
        validate=pictures(seed=1),
        settings=settings(epochs=9, patience=2),
    )
    assert (run.stopped, run.epochs, run.best) == ("patience", 4, {"map@r": 0.5})
    assert equal(weights(model), seen[1])
    assert not equal(seen[1], seen[3])


def test_steps_end_a_run_within_an_epoch(pictures, network, objective, settings):
    events = []
    run = fit(
        network(),
        objective(),
        pictures(each=9),
        validate=pictures(seed=1),
        settings=settings(steps=8, evaluate_every=50),
        progress=events.append,
    )
    per_epoch = events[0].batches
    assert 8 % per_epoch
    assert (run.steps, len(events)) == (8, 8)
    assert [event.batch for event in events[per_epoch:]] == [
        i % per_epoch + 1 for i in range(8 - per_epoch)
    ]
    assert "val/map@r" in run.history[-1]
    assert run.history[-1]["lr"] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * 7 / 8)))


class Breaking(Objective):
    """Becomes NaN, or has such a gradient, at a chosen step."""

    def __init__(self, at, *, gradient):
        super().__init__()
        self.at, self.gradient = at, gradient
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, output, labels, *, items=None, generator=None):
        pull, push = output.z.square().sum(), output.raw.square().mean()
        if self.steps == self.at:
            if self.gradient:
                push = push + (output.raw.sum() * 0).sqrt() * output.raw.sum() * 0
            else:
                push = push * math.nan
        self.steps += 1
        return LossValue(pull + push, {"pull": pull, "push": push})


@pytest.mark.parametrize("gradient", [False, True])
def test_divergence_names_part_and_step_and_keeps_the_last_good_checkpoint(
    tmp_path, pictures, network, settings, weights, gradient
):
    message = r"a gradient became (nan|inf) at step 5" if gradient else r"at step 5, in push;"
    model = network()
    with pytest.raises(TrainingDiverged, match=message):
        fit(
            model,
            Breaking(5, gradient=gradient),
            pictures(),
            out=tmp_path,
            settings=settings(checkpoint_every=2),
        )
    assert all(value.isfinite().all() for value in weights(model).values())
    found = checkpoints.newest(tmp_path / "checkpoint", "last")
    assert found.record["position"]["step"] == 4
    assert all(value.isfinite().all() for value in found.tensors.values())


def test_training_goes_on_when_the_disk_is_full(
    tmp_path, pictures, network, objective, settings, monkeypatch, caplog, weights, whole
):
    expected = whole(checkpoint_every=1)[0]
    calls = [0]
    write = checkpoints._write

    def sometimes_full(path, payload):
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise OSError(28, "No space left on device")
        write(path, payload)

    monkeypatch.setattr(checkpoints, "_write", sometimes_full)
    model = network()
    with caplog.at_level(logging.WARNING):
        fit(
            model,
            objective(),
            pictures(),
            validate=pictures(seed=1),
            out=tmp_path,
            settings=settings(checkpoint_every=1),
        )
    assert "No space left on device" in caplog.text
    assert equal(weights(model), expected)


def test_the_objective_is_trained_at_its_own_rate(pictures, network, settings):
    learned = OnClasses(ProxyAnchor(4, 4, learning_rate=0.3))
    before = learned.loss.proxies.detach().clone()
    fit(network(), learned, pictures(), settings=settings(steps=1, schedule="constant"))
    moved = (learned.loss.proxies.detach() - before).abs()
    assert float(moved.max()) == pytest.approx(0.3, rel=1e-3)  # a first step of Adam is the rate


def test_clipping_bounds_the_gradient_of_the_network(pictures, network, settings):
    model = network()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    fit(
        model,
        OnPairs(Contrastive()),
        pictures(),
        settings=settings(
            steps=1, optimizer="sgd", lr=1.0, clip_norm=1e-3, schedule="constant", weight_decay=0.0
        ),
    )
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


class Observing(OnPairs):
    """Notes what it is given at the beginning and end of epochs."""

    def __init__(self):
        super().__init__(Contrastive())
        self._seen = []

    def begin_epoch(self, embed_train):
        parts = list(embed_train())
        self._seen.append((torch.cat([e.z for e, _ in parts]), torch.cat([y for _, y in parts])))

    def end_epoch(self):
        self._seen.append("end")


def test_epochs_begin_with_the_embedded_training_set(pictures, network, settings):
    data, model, learned = pictures(), network(), Observing()
    expected = network().eval()(data.batch(range(len(data))).images).z
    fit(model, learned, data, settings=settings(epochs=2), augment=lambda images, g: images * 0)
    (z, labels), end, (later, _), last = learned._seen
    assert (end, last) == ("end", "end")
    torch.testing.assert_close(z, expected)
    assert not z.requires_grad
    assert labels.tolist() == data.labels.tolist()
    assert not torch.equal(z, later)
    assert model.training


def test_resuming_within_an_epoch_does_not_begin_it_again(tmp_path, pictures, network, settings):
    options = {"out": tmp_path, "settings": settings(epochs=1, checkpoint_every=1)}
    with pytest.raises(Killed):
        fit(network(), Observing(), pictures(), **options, progress=killing_after(2))
    learned = Observing()
    fit(network(), learned, pictures(), **options)
    assert learned._seen == ["end"]


def test_augmentation_reaches_the_network(pictures, network, objective, settings):
    seen = []

    class Watched(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            seen.append(images.clone())
            return self.inner(images)

    fit(
        Watched(network()),
        objective(),
        pictures(),
        settings=settings(steps=1),
        augment=lambda images, generator: images * 0 + torch.rand(1, generator=generator),
    )
    assert len(seen[0].unique()) == 1


def test_training_in_chunks_equals_training_in_one_piece(pictures, network, settings, weights):
    results = []
    for chunk in (None, 4):
        model = network(dropout=0.0)
        fit(model, OnPairs(Contrastive()), pictures(), settings=settings(chunk=chunk))
        results.append(weights(model))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-3, atol=1e-5)


def test_bfloat16_trains_and_keeps_weights_and_state_in_float32(
    tmp_path, pictures, network, objective, settings
):
    model = network()
    run = fit(model, objective(), pictures(), out=tmp_path, settings=settings(precision="bfloat16"))
    saved = checkpoints.newest(tmp_path / "checkpoint", "last").tensors
    assert run.steps > 0
    assert {v.dtype for v in saved.values() if v.is_floating_point()} == {torch.float32}
