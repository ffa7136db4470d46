"""All measures against TrackEval and py-motmetrics, on random sequences and on MOT17."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.evaluation import MOTMETRICS, TrackingScores, pooled, score_tracks

from .toy_tracks import RESULT, TRUTH, tracks
from .tracking_peers import by_motmetrics, by_trackeval, random_sequence

SAME = ("MOTA", "MODA", "MOTP", "MT", "PT", "ML", "Frag")
CLEAR = {"TP": "CLR_TP", "FN": "CLR_FN", "FP": "CLR_FP", "IDs": "IDSW", "recall": "CLR_Re"}
CLEAR |= {"precision": "CLR_Pr"} | {name: name for name in SAME}
HOTA = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")
MOTM = {"IDs": "num_switches", "FN": "num_misses", "FP": "num_false_positives"}
MOTM |= {"MT": "mostly_tracked", "PT": "partially_tracked", "ML": "mostly_lost"}
MOTM |= {"Frag": "num_fragmentations"}
MOTM |= {name: name.lower() for name in ("MOTA", "IDF1", "IDTP", "IDFP", "IDFN")}


def compare_with_trackeval(mine: TrackingScores, its: dict[str, dict], where: object) -> None:
    """Counts are the same numbers, ratios but for rounding."""
    told = mine.as_json()
    empty = told["GT"] == 0 or told["TP"] + told["FP"] == 0  # it then leaves ratios at 0
    for ours, name in CLEAR.items():
        if not (empty and ours in ("MOTA", "MODA")):
            assert told[ours] == pytest.approx(its["CLEAR"][name], abs=1e-12), (where, name)
    for name, value in its["Identity"].items():
        assert told[name] == pytest.approx(value, abs=1e-12), (where, name)
    for name in HOTA:
        assert told[name] == pytest.approx(its["HOTA"][name].mean(), abs=1e-11), (where, name)
    for name, ours in (("HOTA_TP", mine.hota.tp), ("HOTA_FN", mine.hota.fn)):
        assert (its["HOTA"][name] == ours).all(), (where, name)
    assert its["HOTA"]["HOTA"] == pytest.approx(mine.hota.hota_at, abs=1e-11), where


def agree_with_trackeval(seeds: range, step: float) -> dict[str, int]:
    """Compare sequences; the sums of some counts, by which a test sees that they say something."""
    pytest.importorskip("trackeval", reason="trackeval is not installed: pip install 'tupelo[dev]'")
    seen = dict.fromkeys(("IDs", "Frag", "FP", "FN", "MT", "ML"), 0)
    for seed in seeds:
        truth, result = random_sequence(seed, step)
        mine = score_tracks(truth, result)
        compare_with_trackeval(mine, by_trackeval(truth, result), (seed, step))
        told = mine.as_json()
        seen = {name: count + told[name] for name, count in seen.items()}
    return seen


def agree_with_motmetrics(seeds: range, step: float) -> None:
    """Compare sequences in which both sides have boxes: it divides by their number."""
    pytest.importorskip("motmetrics", reason="motmetrics is not installed: see 'tupelo[dev]'")
    for seed in seeds:
        truth, result = random_sequence(seed, step)
        if not len(truth) or not len(result):
            continue
        told = score_tracks(truth, result, MOTMETRICS).as_json()
        its = by_motmetrics(truth, result)
        for ours, name in MOTM.items():
            assert told[ours] == pytest.approx(its[name], abs=1e-12), (seed, step, name)
        assert told["TP"] == its["num_matches"] + its["num_switches"], seed
        if told["TP"]:
            assert 1 - told["MOTP"] == pytest.approx(its["motp"], abs=1e-12), seed


def test_random_sequences_are_as_trackeval_has_them():
    seen = agree_with_trackeval(range(70), 0)
    assert min(seen.values()) > 10, seen


def test_overlaps_that_are_equal_are_as_trackeval_has_them():
    agree_with_trackeval(range(1000, 1025), 5)


def test_random_sequences_are_as_motmetrics_has_them():
    agree_with_motmetrics(range(6), 0)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_thousands_of_sequences_are_as_trackeval_has_them(step):
    agree_with_trackeval(range(2000), step)


@pytest.mark.slow
def test_hundreds_of_sequences_are_as_motmetrics_has_them():
    agree_with_motmetrics(range(500), 0)


def test_pooled_scores_are_those_of_sequences_one_after_the_other():
    sequences = [random_sequence(seed) for seed in range(12)]
    sequences.append((TRUTH, tracks([])))
    sequences.append((tracks([]), RESULT))
    together = pooled([score_tracks(*each) for each in sequences])
    ours, theirs = [
        type(TRUTH)(
            np.concatenate([each[side].frames + 100 * k for k, each in enumerate(sequences)]),
            np.concatenate([each[side].ids + 1000 * k for k, each in enumerate(sequences)]),
            np.concatenate([each[side].boxes for each in sequences]),
        )
        for side in (0, 1)
    ]
    joined = score_tracks(ours, theirs)
    assert together.clear.as_json() == pytest.approx(joined.clear.as_json())
    assert together.identity == joined.identity
    for name, value in joined.hota.as_json().items():
        if name != "by_alpha":
            assert together.as_json()[name] == pytest.approx(value), name


def test_nothing_to_pool():
    with pytest.raises(InputError, match="scores must be of one sequence or more, got none"):
        pooled([])
