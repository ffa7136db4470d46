import dataclasses
import json

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.training import Settings
from tupelo.training.settings import MAY_CHANGE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"classes": 1}, "classes must be >= 2, got 1"),
        ({"per_class": 1}, "per_class must be >= 2, got 1"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0, got -1"),
        ({"chunk": 0}, "chunk must be >= 1, got 0"),
        ({"patience": 0}, "patience must be >= 1, got 0"),
        ({"processes": 0}, "processes must be >= 1, got 0"),
        ({"lr": 0.0}, "lr must be a number > 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be a number > 0, got nan"),
        ({"head_rate": 0.0}, "head_rate must be a number > 0, got 0.0"),
        ({"clip_norm": -1.0}, "clip_norm must be a number > 0, got -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay must be a number >= 0, got inf"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"step_at": (0.5, 1.0)}, r"step_at must be shares of the run in \(0, 1\)"),
        ({"step_factor": 0.0}, r"step_factor must be in \(0, 1\], got 0.0"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*63\), got -1"),
    ],
)
def test_values_outside_their_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Settings(**values)


def unchecked(**values):
    # types are checked at run time in tests, so the record is built without its constructor
    settings = object.__new__(Settings)
    for field in dataclasses.fields(Settings):
        object.__setattr__(settings, field.name, values.get(field.name, field.default))
    settings.__post_init__()
    return settings


def test_unknown_choices_are_refused_by_name():
    with pytest.raises(InputError, match="schedule must be one of cosine, constant, step, halving"):
        unchecked(schedule="linear")


@pytest.mark.parametrize("name", ["epochs", "classes", "seed", "chunk", "workers"])
def test_settings_that_count_are_integers(name):
    with pytest.raises(InputError, match=rf"{name} must be an integer, got 2\.5; round it"):
        unchecked(**{name: 2.5})
    settings = unchecked(**{name: np.int64(3)})
    assert type(getattr(settings, name)) is int
    assert json.loads(json.dumps(settings.as_dict()))[name] == 3


def test_settings_are_frozen_and_survive_json():
    settings = Settings(epochs=3, step_at=(0.5,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.epochs = 4
    values = json.loads(json.dumps(settings.as_dict()))
    assert Settings(**{**values, "step_at": tuple(values["step_at"])}) == settings


def test_what_may_change_are_settings():
    assert {field.name for field in dataclasses.fields(Settings)} >= MAY_CHANGE


def test_what_does_not_halve_is_described_as_before():
    """A run that was begun without the setting can be resumed."""
    assert "halve_every" not in Settings().as_dict()
    assert Settings(schedule="halving", halve_every=7).as_dict()["halve_every"] == 7
