"""Meta-training: it learns, validates, and resumes to the same bits after a kill."""

import csv
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from tests.fewshot.meta_cases import domain, learner, network

from tupelo.errors import CheckpointError, InputError, TrainingDiverged
from tupelo.fewshot import Direct, MetaSettings, Tasks, meta_fit

SETTINGS = MetaSettings(
    episodes=12, validate_every=4, validate_tasks=3, checkpoint_every=3, log_every=5, lr=1e-2
)


def tasks(seed=0, **options):
    domains = [domain("a", classes=3), domain("b", classes=5, first=50, seed=1)]
    return Tasks(domains, **{"shots": 2, "queries": 2, "seed": seed} | options)


def small(**options):
    """One convolution: what is tested here does not depend on the encoder."""
    return learner(smooth=True, **options)


def run(out=None, settings=SETTINGS, **options):
    model = small()
    found = meta_fit(model, tasks(), validate=tasks(7), out=out, settings=settings, **options)
    return model, found


@pytest.fixture(scope="module")
def straight():
    """A run without interruption."""
    return run()


def test_what_is_learned_is_c_0_and_the_cell():
    model = small()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    meta_fit(model, tasks(), settings=MetaSettings(episodes=2))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(before)
    assert "start" in changed


def test_a_run_tells_what_it_did(tmp_path):
    told = []
    _, found = run(tmp_path, progress=told.append)
    assert (found.episodes, found.stopped) == (12, "finished")
    assert [each.episode for each in told] == list(range(1, 13))
    assert told[0].row == {}
    assert told[-1].row == found.history[-1]
    assert set(found.best) == {"accuracy", "interval"}
    best = max(row["val/accuracy"] for row in found.history if "val/accuracy" in row)
    assert found.best["accuracy"] == best
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.history)
    steps = [int(row["episode"]) for row in rows if row["loss"]]
    assert steps == [5, 10, 12]
    assert [int(row["episode"]) for row in rows if row["val/accuracy"]] == [4, 8, 12]


def test_the_best_weights_stay_in_the_model():
    model, found = run(
        settings=MetaSettings(episodes=8, validate_every=1, validate_tasks=3, lr=1e-2)
    )
    again = small()
    meta_fit(again, tasks(), settings=MetaSettings(episodes=found.best_episode, lr=1e-2))
    assert torch.equal(model.start, again.start)


def test_patience_stops():
    settings = MetaSettings(
        episodes=200, validate_every=1, validate_tasks=1, patience=2, lr=1e-2, checkpoint_every=500
    )
    _, found = run(settings=settings)
    assert found.stopped == "patience"
    assert found.episodes < 200


def test_several_tasks_a_step_are_averaged():
    models = []
    for per_step in (1, 2):
        model = small()
        meta_fit(model, tasks(), settings=MetaSettings(episodes=3, per_step=per_step))
        models.append(model)
    assert not torch.equal(models[0].start, models[1].start)


def test_no_global_seed_is_touched():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    meta_fit(Direct(network()), tasks(), settings=MetaSettings(episodes=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_finished_run_is_not_trained_again_and_may_be_continued(tmp_path):
    model, found = run(tmp_path)
    told = []
    again, same = run(tmp_path, progress=told.append)
    assert told == []
    assert torch.equal(model.start, again.start)
    assert same.history == found.history
    longer = MetaSettings(**vars(SETTINGS) | {"episodes": 16})
    wanted, _ = run(settings=longer)
    resumed, _ = run(tmp_path, settings=longer)
    assert torch.equal(resumed.start, wanted.start)


def in_process(out, started, pause):
    torch.set_num_threads(1)

    def slow(progress):
        if progress.episode == 7:
            started.set()
            time.sleep(pause)

    run(Path(out), progress=slow)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, straight):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=in_process, args=(tmp_path, started, 600.0))
    process.start()
    assert started.wait(120)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    told = []
    resumed, found = run(tmp_path, progress=told.append)
    assert told[0].episode == 7  # the checkpoint at 6 was the last
    model, wanted = straight
    for (name, one), other in zip(
        resumed.state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert found.history == wanted.history
    assert (found.best, found.best_episode) == (wanted.best, wanted.best_episode)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    model, _ = run(tmp_path)
    newest = max((tmp_path / "checkpoint").glob("last-*"))
    (newest / "tensors.safetensors").write_bytes(b"")
    told = []
    resumed, _ = run(tmp_path, progress=told.append)
    assert "passing over a damaged checkpoint" in caplog.text
    assert told[0].episode == 10
    assert torch.equal(resumed.start, model.start)


def test_another_run_in_the_folder_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another run: settings.lr was 0.01, is"):
        run(tmp_path, settings=MetaSettings(**vars(SETTINGS) | {"lr": 0.5}))
    with pytest.raises(CheckpointError, match=r"options\..steps was 2, is 3"):
        meta_fit(small(steps=3), tasks(), validate=tasks(7), out=tmp_path, settings=SETTINGS)
    with pytest.raises(CheckpointError, match=r"tasks.seed was 0, is 1"):
        meta_fit(small(), tasks(1), validate=tasks(7), out=tmp_path, settings=SETTINGS)


def test_a_full_disk_loses_no_training(tmp_path, monkeypatch, caplog, straight):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("tupelo.checkpoints.save", full)
    model, _ = run(tmp_path)
    assert "cannot write to" in caplog.text
    assert torch.equal(model.start, straight[0].start)


def test_a_task_that_diverges_is_named():
    source = tasks()
    source.domains[0].items[:] = 0
    model = small()
    with torch.no_grad():
        model.start.fill_(float("inf"))
    with pytest.raises(
        TrainingDiverged, match=r"task 0: the loss became nan at update 1 of 2; low"
    ):
        meta_fit(model, source, settings=MetaSettings(episodes=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be above 0, got 0.0"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0, got -1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(InputError, match=message):
        MetaSettings(**arguments)
