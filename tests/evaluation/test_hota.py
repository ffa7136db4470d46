"""HOTA: the golden sequence at every threshold."""

import numpy as np
import pytest

from tupelo.evaluation import ALPHAS, hota

from .toy_tracks import RESULT, TRUTH, tracks


def test_the_golden_sequence():
    found = hota(TRUTH, RESULT)
    expected = {
        "hota": 0.674771,
        "det_a": 0.804704,
        "ass_a": 0.566196,
        "loc_a": 0.975555,
        "det_re": 0.889952,
        "det_pr": 0.889952,
        "ass_re": 0.587247,
        "ass_pr": 0.848952,
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=5e-7), name


@pytest.mark.parametrize(
    ("places", "values", "tp"),
    [
        (range(16), (0.69272, 0.83333, 0.57583, 0.97229), 10),  # 0.05 to 0.80
        (range(16, 18), (0.62788, 0.69231, 0.56944, 0.98942), 9),
        (range(18, 19), (0.48137, 0.57143, 0.40551, 1.0), 8),
    ],
)
def test_the_golden_sequence_at_every_threshold(places, values, tp):
    found = hota(TRUTH, RESULT)
    for place in places:
        got = [each[place] for each in (found.hota_at, found.det_a_at, found.ass_a_at)]
        assert [*got, found.loc_a_at[place]] == pytest.approx(values, abs=5e-6)
        assert (found.tp[place], found.fn[place], found.fp[place]) == (tp, 11 - tp, 11 - tp)
        assert found.as_json()["by_alpha"][f"{ALPHAS[place]:.2f}"]["TP"] == tp


def test_nothing_on_either_side():
    none = tracks([])
    missed, invented = hota(TRUTH, none), hota(none, RESULT)
    assert (missed.hota, missed.loc_a, missed.fn.tolist()) == (0, 1, [11] * 19)
    assert (invented.hota, invented.loc_a, invented.fp.tolist()) == (0, 1, [11] * 19)
    assert hota(none, none).hota == 0


def test_a_perfect_tracker_and_one_that_halves_every_track():
    assert hota(TRUTH, TRUTH).hota == 1
    frames = np.arange(1, 9)
    whole = tracks([(t, 1, 0, 0) for t in frames])
    halved = tracks([(t, 1 + t // 5, 0, 0) for t in frames])
    found = hota(whole, halved)
    assert (found.det_a, found.ass_a) == (1, pytest.approx(0.5))
