import errno
import json
import logging

import pytest
import torch
from torch import nn

from tupelo import checkpoints
from tupelo.checkpoints import load, newest, prune, save
from tupelo.errors import CheckpointError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}
RECORD = {"epoch": 3, "rate": 0.1 + 0.2, "best": None}


def full(path, payload):
    path.write_bytes(payload[: len(payload) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_saved_comes_back_exactly(tmp_path):
    name = save(tmp_path / "new", "last", 12, TENSORS, RECORD)
    found = load(tmp_path / "new" / name)
    assert name == "last-000000012"
    assert found.record == RECORD
    assert all(torch.equal(found.tensors[key], TENSORS[key]) for key in TENSORS)


def test_views_tied_and_strided_tensors_are_saved(tmp_path):
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    name = save(tmp_path, "last", 0, {"w": weight, "tied": weight, "part": weight[1]}, {})
    found = load(tmp_path / name).tensors
    assert torch.equal(found["w"], weight)
    assert torch.equal(found["tied"], weight)
    assert torch.equal(found["part"], weight[1])


def test_a_full_disk_leaves_the_earlier_checkpoint_and_no_litter(tmp_path, monkeypatch):
    save(tmp_path, "last", 1, TENSORS, RECORD)
    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, "last", 2, TENSORS, RECORD)
    assert [path.name for path in tmp_path.iterdir()] == ["last-000000001"]
    assert newest(tmp_path, "last").record == RECORD


@pytest.mark.parametrize("file", [checkpoints.TENSORS, checkpoints.RECORD])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_falls_back_with_a_warning(tmp_path, caplog, file, keep):
    save(tmp_path, "last", 1, TENSORS, {"epoch": 1})
    path = tmp_path / save(tmp_path, "last", 2, TENSORS, {"epoch": 2}) / file
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path, "last").record == {"epoch": 1}
    assert "passing over a damaged checkpoint" in caplog.text
    assert "last-000000002" in caplog.text


def test_altered_bytes_of_the_same_length_are_noticed(tmp_path):
    path = tmp_path / save(tmp_path, "last", 1, TENSORS, {"epoch": 1})
    tensors, record = path / checkpoints.TENSORS, path / checkpoints.RECORD
    good = tensors.read_bytes()
    tensors.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"is damaged.*delete it to use an earlier one"):
        load(path)
    tensors.write_bytes(good)
    record.write_text(record.read_text().replace('"epoch": 1', '"epoch": 7'))
    with pytest.raises(CheckpointError, match="is damaged"):
        load(path)


def test_a_missing_file_and_all_damaged_are_errors(tmp_path):
    path = tmp_path / save(tmp_path, "last", 1, TENSORS, RECORD)
    (path / checkpoints.TENSORS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path)
    with pytest.raises(CheckpointError, match=r"all 1 checkpoints in .* are damaged"):
        newest(tmp_path, "last")


def test_a_newer_format_asks_for_an_update(tmp_path, monkeypatch):
    path = tmp_path / save(tmp_path, "last", 1, TENSORS, RECORD)
    monkeypatch.setattr(checkpoints, "FORMAT", 0)
    with pytest.raises(CheckpointError, match="format 1, this version reads up to 0; update"):
        load(path)


def test_newest_counts_steps_and_kinds(tmp_path):
    assert newest(tmp_path / "none", "last") is None
    for step in (9, 10, 2_000_000_000):
        save(tmp_path, "last", step, TENSORS, {"step": step})
    save(tmp_path, "best", 3_000_000_000, TENSORS, {})
    assert newest(tmp_path, "last").record == {"step": 2_000_000_000}


def test_prune_removes_the_rest_and_interrupted_writes_but_nothing_else(tmp_path):
    kept = save(tmp_path, "last", 2, TENSORS, RECORD)
    save(tmp_path, "last", 1, TENSORS, RECORD)
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / "notes").mkdir()
    prune(tmp_path, [kept])
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept, "notes"]


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, "last", 1, TENSORS, {"try": 1})
    save(tmp_path, "last", 1, TENSORS, {"try": 2})
    assert newest(tmp_path, "last").record == {"try": 2}


def test_nothing_is_pickled(tmp_path):
    path = tmp_path / save(tmp_path, "last", 1, TENSORS, RECORD)
    assert sorted(file.name for file in path.iterdir()) == ["record.json", "tensors.safetensors"]
    assert json.loads((path / "record.json").read_text())["record"] == RECORD

    class Odd(nn.Module):
        def get_extra_state(self):
            return {"any": object()}

        def set_extra_state(self, state): ...

    with pytest.raises(CheckpointError, match="_extra_state in the state of Odd is dict, not a"):
        checkpoints.module_tensors(Odd(), "model/")


def test_a_module_of_another_shape_is_refused():
    tensors = checkpoints.module_tensors(nn.Linear(2, 3), "model/")
    with pytest.raises(CheckpointError, match=r"does not fit.*size mismatch"):
        checkpoints.restore_module(nn.Linear(2, 4), tensors, "model/")


def test_optimizer_state_comes_back_with_the_strides_of_its_parameter(tmp_path):
    def trained(steps, state=None):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
        names = {id(p): name for name, p in layer.named_parameters()}
        if state is not None:
            checkpoints.restore_module(layer, state, "model/")
            checkpoints.restore_optimizer(optimizer, state, names)
        for step in steps:
            optimizer.zero_grad()
            images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            layer(images).square().mean().backward()
            optimizer.step()
        return {
            **checkpoints.module_tensors(layer, "model/"),
            **checkpoints.optimizer_tensors(optimizer, names),
        }

    name = save(tmp_path, "last", 3, trained(range(3)), {})
    resumed = trained(range(3, 6), load(tmp_path / name).tensors)
    whole = trained(range(6))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
