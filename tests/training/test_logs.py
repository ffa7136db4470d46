import importlib.util
import logging
import math
from pathlib import Path

import pytest
import torch

from tupelo.errors import MissingExtra, TrainingDiverged
from tupelo.training import logs
from tupelo.training.logs import Log, Window, read_rows
from tupelo.types import LossValue


def value(total, *, pull=0.0, **statistics):
    parts = {"pull": torch.tensor(pull), "push": torch.tensor(total - pull)}
    return LossValue(torch.tensor(total), parts, statistics)


def test_a_window_averages_its_steps():
    window = Window()
    window.add(1, value(1.0, pull=0.25, active=0.5), torch.tensor(3.0), 8)
    window.add(2, value(2.0, pull=0.75), torch.tensor(5.0), 8)
    row = window.means()
    assert row.pop("images_per_second") > 0
    assert row == {"loss": 1.5, "pull": 0.5, "push": 1.0, "gradient": 4.0, "active": 0.5}
    assert Window().means() == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_reported_by_part_and_step(bad):
    window = Window()
    window.add(7, value(1.0), torch.tensor(1.0), 8)
    window.add(8, value(1.0, pull=bad), torch.tensor(1.0), 8)
    window.add(9, value(bad), torch.tensor(1.0), 8)
    with pytest.raises(TrainingDiverged, match=r"became 1.0 at step 8, in pull, push; the last"):
        window.check()


def test_a_total_that_overflows_while_its_parts_do_not_is_reported():
    window = Window()
    window.add(3, LossValue(torch.tensor(math.inf), {"loss": torch.tensor(1.0)}), torch.ones(()), 8)
    with pytest.raises(TrainingDiverged, match="became inf at step 3, in the total"):
        window.means()


def test_a_gradient_that_is_not_finite_is_reported():
    window = Window()
    window.add(3, value(1.0), torch.tensor(math.inf), 8)
    with pytest.raises(TrainingDiverged, match="a gradient became inf at step 3"):
        window.check()


def test_rows_are_appended_and_new_columns_rewrite_the_file(tmp_path):
    log = Log(tmp_path, tensorboard=False)
    log.write({"step": 1, "loss": 0.1 + 0.2})
    log.write({"step": 2, "loss": 0.5})
    log.write({"step": 3, "val/map@r": 1.0})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["step,loss,val/map@r", "1,0.30000000000000004,", "2,0.5,", "3,,1.0"]
    assert read_rows(tmp_path / "metrics.csv") == log.rows


def test_a_resumed_log_drops_later_rows_and_a_row_cut_short(tmp_path):
    first = Log(tmp_path, tensorboard=False)
    for step in range(5):
        first.write({"step": step, "loss": 1.0})
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text()[:-4])
    resumed = Log(tmp_path, keep=3, tensorboard=False)
    resumed.write({"step": 3, "loss": 2.0})
    assert [row["loss"] for row in read_rows(path)] == [1.0, 1.0, 1.0, 2.0]
    assert len(Log(tmp_path, keep=9, tensorboard=False).rows) == 4
    path.write_text("step,loss\n1,2.0\n3")
    assert Log(tmp_path, keep=9, tensorboard=False).rows == [{"step": 1, "loss": 2.0}]


def test_a_resumed_log_writes_the_rows_as_they_were(tmp_path):
    first = Log(tmp_path, tensorboard=False)
    first.write({"step": 1, "loss": 2.0})
    before = (tmp_path / "metrics.csv").read_text()
    resumed = Log(tmp_path, keep=1, tensorboard=False)
    resumed.write({"step": 2, "loss": 1e-7})
    assert (tmp_path / "metrics.csv").read_text() == before + "2,1e-07\n"


def test_the_folder_of_a_new_run_is_made(tmp_path, caplog):
    log = Log(tmp_path / "runs" / "new", tensorboard=False)
    log.write({"step": 1})
    assert read_rows(tmp_path / "runs" / "new" / "metrics.csv") == [{"step": 1}]
    assert not caplog.records


def test_a_full_disk_loses_no_rows(tmp_path, monkeypatch, caplog):
    log = Log(tmp_path, tensorboard=False)
    log.write({"step": 1})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(Path, "open", full)
        log.write({"step": 2})
    assert "No space left on device" in caplog.text
    log.write({"step": 3})
    assert [row["step"] for row in read_rows(tmp_path / "metrics.csv")] == [1, 2, 3]


def test_no_folder_writes_nothing():
    log = Log(None, tensorboard=True)
    log.write({"step": 1})
    assert log.rows == [{"step": 1}]


def test_tensorboard_that_is_asked_for_and_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[logs\]'"):
        Log(tmp_path, tensorboard=True)
    assert Log(tmp_path, tensorboard=None)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_gets_the_rows(tmp_path):
    log = Log(tmp_path, tensorboard=True)
    log.write({"step": 1, "loss": 0.5})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
