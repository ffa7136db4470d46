import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tupelo.checkpoints import newest
from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.losses import Contrastive, Margin, ProxyAnchor
from tupelo.models import embedder
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples, Sum
from tupelo.selection import PerAnchor
from tupelo.training import fit, launching, read_rows
from tupelo.training.launching import _relay


def rows(path):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_rows(path)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="needs fork")
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_and_resumed_is_bit_equal_to_uninterrupted(tmp_path, seed):
    script = Path(__file__).with_name("killed.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "18 kills"
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    weights = Path("model") / "model.safetensors"
    assert (whole / weights).read_bytes() == (resumed / weights).read_bytes()
    one, other = (newest(folder / "checkpoint", "last") for folder in (whole, resumed))
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert rows(whole / "metrics.csv") == rows(resumed / "metrics.csv")
    assert not list((resumed / "checkpoint").glob(".writing-*"))


class Single:
    """Batches of one row, which two processes cannot share."""

    def epoch(self, number):
        return [np.arange(1)]


def spawned():
    torch.manual_seed(0)
    return embedder("convnet", dim=4, channels=1, freeze_batchnorm=True)


def large(classes=4, each=6):
    pixels = np.random.default_rng(0).integers(256, size=(classes * each, 32, 32), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, np.repeat(np.arange(classes), each))


def everything():
    torch.manual_seed(1)
    return Sum(
        {
            "memory": Memory(OnPairs(Contrastive(), positives="easiest"), size=10, dim=4),
            "margin": OnTuples(PerAnchor("easiest", "distance-weighted"), Margin(n_classes=4)),
            "proxies": OnClasses(ProxyAnchor(4, 4)),
        }
    )


def in_processes(settings, processes, out=None, **values):
    model, objective, events = spawned(), everything(), []
    run = fit(
        model,
        objective,
        large(),
        validate=large(),
        out=out,
        settings=settings(processes=processes, accelerator="cpu", clip_norm=1.0, **values),
        batches=launching.ClassBalanced(large().labels, classes=3, per_class=3),
        progress=events.append,
    )
    return {**model.state_dict(), **objective.state_dict()}, run, events


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 2])
def test_two_processes_train_the_weights_of_one(tmp_path, settings, chunk):
    one, alone, told = in_processes(settings, 1, optimizer="sgd")
    two, shared, events = in_processes(settings, 2, tmp_path, optimizer="sgd", chunk=chunk)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    assert shared.steps == alone.steps
    assert shared.best["map@r"] == pytest.approx(alone.best["map@r"], abs=1e-3)
    assert [event[:4] for event in events] == [event[:4] for event in told]
    for row, other in zip(shared.history, alone.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert rows(tmp_path / "metrics.csv")
    again, finished, _ = in_processes(settings, 2, tmp_path, optimizer="sgd", chunk=chunk)
    assert finished.steps == shared.steps
    assert all(torch.equal(again[name], two[name]) for name in two)


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_here(settings):
    with pytest.raises(InputError, match="shared by 2 ranks"):
        fit(
            spawned(),
            OnPairs(Contrastive()),
            large(),
            settings=settings(processes=2, accelerator="cpu"),
            batches=Single(),
        )


def test_messages_of_another_process_are_reported_until_it_ends():
    told = []
    with _relay(told.append) as sender:
        for number in range(3):
            sender.send(number)
    assert told == [0, 1, 2]


def test_an_empty_training_set_and_useless_validation_are_refused(
    pictures, network, objective, settings
):
    empty = pictures().subset([])
    with pytest.raises(InputError, match="train must hold at least one picture, got none"):
        fit(network(), objective(), empty, settings=settings())
    single = pictures().subset([0, 6, 12])
    with pytest.raises(InputError, match="validate must hold a class with at least two pictures"):
        fit(network(), objective(), pictures(), validate=single, settings=settings())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_accelerator_is_refused(pictures, network, objective, settings):
    with pytest.raises(InputError, match="accelerator='cuda' is not on this machine; use 'auto'"):
        fit(network(), objective(), pictures(), settings=settings(accelerator="cuda"))


def test_more_processes_than_gpus_are_refused(pictures, network, objective, settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="got 2 processes and 0 GPUs; lower it"):
        fit(
            network(),
            objective(),
            pictures(),
            settings=settings(accelerator="cuda", processes=2),
        )
