"""Sections are kept in the run of `fit`, and no failure of one costs the run."""

import json
import os

import numpy as np
import pytest
import torch

from tupelo import training
from tupelo.data import ImageSet
from tupelo.losses import Contrastive
from tupelo.objectives import Memory, OnPairs, Sum
from tupelo.sections import Bars, Section, from_json
from tupelo.training import showing


class Showing(Contrastive):
    """A loss that shows what it was asked with, or fails."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def sections(self, model, shown):
        if self.error is not None:
            raise self.error
        assert not any([model.training, self.training, torch.is_grad_enabled()])
        z = model(shown.images).z
        names = [shown.class_names[label] for label in shown.labels]
        values = torch.cat([z[:, 0], torch.rand(1)])
        about = [*shown.trained_names, *np.unique(names)]
        return [Section("Asked", " ".join(about), [Bars([*names, "chance"], values)])]


def kept(folder):
    return from_json(json.loads((folder / showing.NAME).read_text()))


@pytest.fixture
def asked(pictures, network, settings, tmp_path):
    def fit(objective, **more):
        options = {"validate": pictures(3, seed=9), "out": tmp_path / "run"} | more
        return training.fit(network(), objective, pictures(), settings=settings(), **options)

    return fit


def test_what_wrappers_hold_is_asked_with_validation_pictures(asked, tmp_path):
    asked(Sum({"one": Memory(OnPairs(Showing()), 20, 4)}))
    (section,) = kept(tmp_path / "run")
    assert section.text == "0 1 2 3 0 1 2"
    assert len(section.parts[0].names) == 3 * 6 + 1
    mode = (tmp_path / "run" / showing.NAME).stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    assert mode == 0o666 & ~umask


def test_without_validation_training_pictures_are_shown(asked, tmp_path):
    asked(OnPairs(Showing()), validate=None)
    assert kept(tmp_path / "run")[0].text == "0 1 2 3 0 1 2 3"


def test_a_run_in_two_parts_shows_the_same(asked, tmp_path):
    whole = tmp_path / "whole"
    asked(OnPairs(Showing()), out=whole)

    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(OnPairs(Showing()), progress=interrupt)
    assert not (tmp_path / "run" / showing.NAME).exists()
    asked(OnPairs(Showing()))
    assert kept(tmp_path / "run") == kept(whole)
    (tmp_path / "run" / showing.NAME).unlink()  # killed just before it was written
    asked(OnPairs(Showing()))
    assert kept(tmp_path / "run") == kept(whole)


def test_a_section_that_fails_costs_no_run(asked, tmp_path, caplog):
    run = asked(OnPairs(Showing(RuntimeError("no ink"))))
    assert run.stopped == "finished"
    assert (tmp_path / "run/model/model.safetensors").exists()
    assert kept(tmp_path / "run")[0].text == "This section failed: RuntimeError: no ink"
    assert "no section of Showing: RuntimeError: no ink" in caplog.text


def test_a_file_that_cannot_be_written_costs_no_run(asked, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(showing, "replace_file", lambda *_: (_ for _ in ()).throw(OSError("full")))
    assert asked(OnPairs(Showing())).stopped == "finished"
    assert "the run keeps no sections: OSError: full" in caplog.text
    assert not (tmp_path / "run" / showing.NAME).exists()


def test_nothing_to_show_writes_nothing(asked, tmp_path):
    asked(OnPairs(Contrastive()))
    assert not (tmp_path / "run" / showing.NAME).exists()


@pytest.mark.parametrize("classes", [1, 3, 5, 60])
def test_pictures_of_a_few_classes_are_shown(classes):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), 50))
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    rows = showing.some_rows(ImageSet.from_arrays(pixels, labels))
    assert len(set(rows.tolist())) == len(rows) == 40 // min(classes, 5) * min(classes, 5)
    assert len(np.unique(labels[rows])) == min(classes, 5)


def test_pictures_with_tags_are_shown():
    tags = [{"a"}, {"b", "c"}] * 50
    rows = showing.some_rows(ImageSet.from_arrays(np.zeros((100, 2, 2), np.uint8), tags))
    assert len(set(rows.tolist())) == 40
