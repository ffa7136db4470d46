import errno
import logging
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tupelo import checkpoints
from tupelo.checkpoints import TENSORS, newest
from tupelo.errors import CheckpointError
from tupelo.losses import Contrastive, ProxyAnchor, Triplet
from tupelo.objectives import OnClasses, OnPairs, OnTuples
from tupelo.selection import PerAnchor
from tupelo.training.resuming import Position, Store, describe, identity


def store(folder, *, kind="a", width=3):
    torch.manual_seed(0)
    model, objective = nn.Linear(2, width), OnClasses(ProxyAnchor(4, 3))
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=0.1)
    return Store(folder, model, objective, optimizer, {"kind": kind}), model


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_fresh_folder_starts_at_the_beginning(tmp_path):
    assert store(tmp_path / "none")[0].restore() == Position()
    assert store(None)[0].restore() == Position()


def test_position_and_weights_come_back(tmp_path):
    first, model = store(tmp_path)
    with torch.no_grad():
        model.weight.fill_(0.1)
    position = Position(2, 3, 17, {"map@r": 1 / 3}, 16, 1, 5, 2.5)
    first.save(position)
    second, model = store(tmp_path)
    assert second.restore() == position
    assert (model.weight == 0.1).all()
    assert not second.load_best()


def test_two_checkpoints_and_the_best_they_refer_to_are_kept(tmp_path):
    run, model = store(tmp_path)
    position = Position()
    for step in range(1, 6):
        position.step = step
        if step in (1, 4):
            with torch.no_grad():
                model.weight.fill_(step)
            run.remember_best()
            position.best, position.best_step = {"map@r": step / 10}, step
        run.save(position)
        present = names(tmp_path)
        for name in present:
            best = checkpoints.load(tmp_path / name).record.get("best")
            assert best is None or best in present
    assert names(tmp_path) == ["best-000000004", "last-000000004", "last-000000005"]
    with torch.no_grad():
        model.weight.fill_(9)
    assert run.load_best()
    assert (model.weight == 4).all()


def test_a_damaged_newest_checkpoint_falls_back_with_its_own_best(tmp_path):
    run, model = store(tmp_path)
    for step in (1, 2):
        with torch.no_grad():
            model.weight.fill_(step)
        run.remember_best()
        run.save(Position(step=step, best={"map@r": step / 10}, best_step=step))
    shutil.rmtree(tmp_path / "last-000000002")
    again, model = store(tmp_path)
    assert again.restore().best == {"map@r": 0.1}
    assert again.load_best()
    assert (model.weight == 1).all()


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda path: (path / TENSORS).write_bytes(b"")])
def test_a_damaged_best_is_dropped_with_a_warning_and_the_run_goes_on(tmp_path, caplog, damage):
    run, model = store(tmp_path)
    with torch.no_grad():
        model.weight.fill_(5)
    run.remember_best()
    run.save(Position(step=4, best={"map@r": 0.9}, best_step=4, stale=1))
    damage(tmp_path / "best-000000004")
    again, model = store(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.restore() == Position(step=4)
    assert "the best weights so far are lost" in caplog.text
    assert (model.weight == 5).all()
    assert not again.load_best()
    again.remember_best()
    again.save(Position(step=5, best={"map@r": 0.8}, best_step=4))
    third, model = store(tmp_path)
    assert third.restore().best == {"map@r": 0.8}
    assert third.load_best()


def test_a_full_disk_is_logged_and_the_best_is_written_when_there_is_room(
    tmp_path, monkeypatch, caplog
):
    run, _ = store(tmp_path)
    run.save(Position(step=1))

    def full(path, payload):
        raise OSError(errno.ENOSPC, "No space left on device")

    run.remember_best()
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(checkpoints, "_write", full)
        run.save(Position(step=2, best={"map@r": 0.5}, best_step=2))
    assert "no checkpoint at step 2" in caplog.text
    assert "No space left on device" in caplog.text
    assert names(tmp_path) == ["last-000000001"]
    run.save(Position(step=3, best={"map@r": 0.5}, best_step=2))
    assert names(tmp_path) == ["best-000000002", "last-000000001", "last-000000003"]


def test_another_process_only_reads(tmp_path):
    run, model = store(tmp_path)
    reader = Store(
        tmp_path, model, nn.Identity(), torch.optim.SGD([model.weight]), {}, writes=False
    )
    reader.save(Position(step=1))
    assert not names(tmp_path)
    run.save(Position(step=1))
    assert newest(tmp_path, "last").record["position"]["step"] == 1


def test_what_differs_is_named(tmp_path):
    store(tmp_path)[0].save(Position(step=1))
    with pytest.raises(CheckpointError, match=r"another run: kind was 'a', is 'b'\. Use these"):
        store(tmp_path, kind="b")[0].restore()
    with pytest.raises(CheckpointError, match="does not fit"):
        store(tmp_path, width=4)[0].restore()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OnPairs(Contrastive()), OnPairs(Contrastive(), positives="easiest")),
        (OnPairs(Contrastive()), OnPairs(Contrastive(negative_margin=0.5))),
        (OnClasses(ProxyAnchor(4, 3)), OnClasses(ProxyAnchor(5, 3))),
        (
            OnTuples(PerAnchor("easiest"), Triplet()),
            OnTuples(PerAnchor("hardest"), Triplet()),
        ),
        (
            OnTuples(PerAnchor(negatives=1), Triplet()),
            OnTuples(PerAnchor(negatives=2), Triplet()),
        ),
    ],
)
def test_other_options_are_another_identity(pictures, network, settings, one, other):
    def known(objective):
        return identity(network(), objective, pictures(), settings())

    assert known(one) == known(one)
    assert known(one) != known(other)


def test_data_model_and_settings_are_part_of_the_identity(pictures, network, settings):
    objective = OnPairs(Contrastive())
    known = identity(network(), objective, pictures(), settings())
    assert known == identity(network(seed=7), objective, pictures(seed=1), settings(epochs=9))
    assert known != identity(network(dropout=0.5), objective, pictures(), settings())
    assert known != identity(network(), objective, pictures(classes=5), settings())
    assert known != identity(network(), objective, pictures(), settings(lr=0.5))
    assert known != identity(network(), objective, pictures(), settings(), precision="bf16-mixed")


def test_the_validation_set_is_part_of_the_identity(pictures, network, settings):
    def known(validate):
        arguments = network(), OnPairs(Contrastive()), pictures(), settings()
        return identity(*arguments, validate=validate)

    data = pictures()
    assert known(data) == known(pictures())
    assert known(data) != known(None)
    assert known(data) != known(pictures(classes=3))
    relabelled = data.relabelled(np.roll(data.labels, 1))
    assert known(data) != known(relabelled)
    halves = [data.subset(np.flatnonzero(np.arange(len(data)) % 2 == half)) for half in (0, 1)]
    assert np.array_equal(halves[0].labels, halves[1].labels)
    assert known(halves[0]) != known(halves[1])


def test_descriptions_hold_options_and_no_addresses():
    class Plain:
        def __init__(self):
            self.rate, self.rule, self.kinds = 0.5, describe, {3, 1}
            self._private = object()

    text = describe({"a": (np.int64(1), None), "plain": Plain(), "cut": partial(round, ndigits=2)})
    assert text["a"] == [1, None]
    assert text["plain"]["rate"] == 0.5
    assert text["plain"]["kinds"] == ["1", "3"]
    assert text["plain"]["rule"].endswith("resuming.describe")
    assert text["cut"] == {"partial": ["builtins.round", [], {"ndigits": 2}]}
    assert "_private" not in text["plain"]
    assert " at 0x" not in repr(text)
