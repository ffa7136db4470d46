import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tupelo import losses
from tupelo.distributed import gather, leaves, rebuilt, share_number, world_size
from tupelo.types import ClassLoss, Embedded, PairLoss, TupleLoss

SCRIPT = Path(__file__).with_name("two_processes.py")
spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
two = importlib.util.module_from_spec(spec)
spec.loader.exec_module(two)

DTYPES = (torch.float32, torch.float64)
# 1.2e-6 was seen, in gradients of 1e4 J_soft, and 3e-6, in those of margins of negatives times 50
FLOAT32_ERROR = {"HardnessAware": 3e-6, "Boosted": 1e-5}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What each of two processes computed."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(two.WORLD)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(two.WORLD)]


def far(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", two.OBJECTIVES)
def test_two_processes_equal_one_in_loss_and_gradients(of_two, name, dtype):
    one = two.steps(name, dtype, lambda network: network, lambda step, tensor: tensor)
    assert any("/network/" in key for key in one)
    most = FLOAT32_ERROR.get(name, 1e-6) if dtype == torch.float32 else 1e-12
    for rank in of_two:
        here = {key for key in rank if key.startswith(f"{dtype}/{name}/")}
        assert here == {f"{dtype}/{key}" for key in one}
        for key, value in one.items():
            assert far(rank[f"{dtype}/{key}"], value) < most


def test_both_processes_have_the_same_bits_of_what_the_objective_learns(of_two):
    first, second = of_two
    kept = [key for key in first if "/objective/" in key]
    assert kept
    assert all(torch.equal(first[key], second[key]) for key in kept)


def test_every_loss_is_among_the_cases():
    kinds = (PairLoss, TupleLoss, ClassLoss)
    public = {name: getattr(losses, name) for name in losses.__all__}
    classes = {name: made for name, made in public.items() if isinstance(made, type)}
    all_losses = {name for name, made in classes.items() if issubclass(made, kinds)}
    assert all_losses
    assert all_losses <= set(two.OBJECTIVES)


def test_refused_in_both_processes_without_hanging(of_two):
    for rank in of_two:
        refused = [key for key in rank if key.startswith("refused")]
        assert any("labels must be a tensor" in text for text in refused)
        assert any("every process needs at least one row, got [0, 1]" in text for text in refused)


def test_tags_of_uneven_batches_are_gathered(of_two):
    for rank in of_two:
        assert rank["tags"].tolist() == [[True, False], [True, False], [False, True]]


def test_one_process_gathers_nothing():
    output, labels = Embedded.of(torch.eye(2)), ["any", "labels"]
    assert world_size() == 1
    assert gather(output, labels) == (output, labels, None)
    assert share_number(0.1, torch.device("cpu")) == 0.1


def test_nested_outputs_keep_their_kind():
    output = (Embedded.of(torch.eye(2)), Embedded.of(torch.ones(2, 3)))
    twice = rebuilt(output, lambda tensor: tensor * 2)
    assert [type(part) for part in twice] == [Embedded, Embedded]
    assert [float(tensor.sum()) for tensor in leaves(twice)] == [
        2 * float(tensor.sum()) for tensor in leaves(output)
    ]
