import pytest

from tupelo.errors import InputError
from tupelo.tracking import TrackerSettings


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"appearance": 0.0}, r"appearance must be in \(0, 2\], got 0"),
        ({"reidentify": 2.1}, r"reidentify must be in \(0, 2\], got 2.1"),
        ({"proposal": float("nan")}, r"proposal must be in \(0, 2\], got nan"),
        ({"iou_distance": 1.5}, r"iou_distance must be in \[0, 1\], got 1.5"),
        ({"nms_overlap": -0.1}, r"nms_overlap must be in \[0, 1\]"),
        ({"gate": 0.0}, r"gate must be in \(0, inf\], got 0"),
        ({"min_height": -1.0}, r"min_height must be in \[0, inf\]"),
        ({"confirm_after": 0}, "confirm_after must be 1 or more, got 0"),
        ({"max_age": 0}, "max_age must be 1 or more, got 0"),
        ({"gallery": 0}, "gallery must be 1 or more, got 0"),
        ({"samples": -1}, "samples must be 0 or more, got -1"),
        (
            {"min_confidence": 0.7},
            "low_confidence <= min_confidence <= strong_confidence must hold, got 0.1, 0.7, 0.6",
        ),
        ({"low_confidence": -0.1}, "0 <= low_confidence"),
        ({"candidates": "all"}, "candidates must be one of samples, grid, got 'all'"),
        ({"occlusion_cost": "look"}, "occlusion_cost must be one of appearance, motion"),
    ],
)
def test_values_out_of_range_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        TrackerSettings(**values)


def test_uses_and_what_they_need():
    settings = TrackerSettings(appearance=0.3).with_uses(2)
    assert (settings.against_switches, settings.through_occlusion, settings.propose) == (
        False,
        True,
        False,
    )
    assert settings.appearance == 0.3
    assert settings.needs_embeddings
    assert settings.lifetime == 30
    assert not TrackerSettings(occlusion_cost="motion").with_uses(2).needs_embeddings
    assert TrackerSettings().with_uses().lifetime == 3
    with pytest.raises(InputError, match="uses must be of 1, 2, 3"):
        settings.with_uses(4)


def test_thresholds_of_a_network():
    assert TrackerSettings.calibrated(0.5, 0.3).appearance == 0.5
    settings = TrackerSettings.calibrated(0.5, 0.7)
    assert (settings.appearance, settings.reidentify, settings.proposal) == (0.7, 0.4, 0.4)
    settings = TrackerSettings.calibrated(0.5, proposal=0.1)
    assert (settings.appearance, settings.reidentify, settings.proposal) == (0.5, 0.4, 0.1)
