"""CLEAR MOT: the golden sequence, and what the two usual implementations do differently."""

import numpy as np
import pytest

from tupelo.evaluation import MOTMETRICS, TRACKEVAL, ClearMot, clear_mot

from .toy_tracks import RESULT, TRUTH, tracks
from .tracking_peers import random_sequence


def test_the_golden_sequence():
    found = clear_mot(TRUTH, RESULT)
    counts = (found.tp, found.fn, found.fp, found.switches, found.fragments, found.frames)
    assert counts == (10, 1, 1, 2, 1, 6)
    assert (found.mostly_tracked, found.partly_tracked, found.mostly_lost) == (1, 1, 0)
    assert found.mota == pytest.approx(0.636364, abs=5e-7)
    assert found.motp == pytest.approx(0.972294, abs=5e-7)
    assert found.recall == found.precision == pytest.approx(0.909091, abs=5e-7)
    assert found.moda == pytest.approx(9 / 11)
    assert found.as_json()["GT"] == 11


def test_eighty_per_cent_are_mostly_for_motmetrics():
    found = clear_mot(TRUTH, RESULT, MOTMETRICS)
    assert (found.mostly_tracked, found.partly_tracked, found.mostly_lost) == (2, 0, 0)
    assert 1 - found.motp == pytest.approx(0.027706, abs=5e-7)
    assert (found.switches, found.fragments, found.mota) == (
        2,
        1,
        pytest.approx(0.636364, abs=5e-7),
    )


def test_a_pair_is_kept_though_another_overlaps_more():
    truth = tracks([(1, 1, 0, 0), (2, 1, 0, 0)])
    result = tracks([(1, 8, 0, 0), (2, 8, 2, 0), (2, 9, 0, 0)])
    assert clear_mot(truth, result).switches == 0
    apart = tracks([(1, 8, 0, 0), (2, 8, 6, 0), (2, 9, 0, 0)])  # IoU 0.25: not kept
    assert clear_mot(truth, apart).switches == 1


def test_rules_differ_after_a_frame_without_the_object():
    truth = tracks([(1, 1, 0, 0), (1, 2, 90, 0), (2, 2, 90, 0), (3, 1, 0, 0), (3, 2, 90, 0)])
    result = tracks(
        [(1, 8, 0, 0), (1, 5, 90, 0), (2, 5, 90, 0), (3, 8, 2, 0), (3, 9, 0, 0), (3, 5, 90, 0)]
    )
    one, other = clear_mot(truth, result), clear_mot(truth, result, MOTMETRICS)
    assert (one.switches, other.switches) == (1, 0)
    assert (one.fragments, other.fragments) == (1, 0)  # absence interrupts for TrackEval alone


def test_a_frame_without_any_result_interrupts_for_motmetrics_alone():
    truth = tracks([(t, 1, 0, 0) for t in (1, 2, 3)])
    result = tracks([(1, 8, 0, 0), (3, 8, 0, 0)])
    assert clear_mot(truth, result).fragments == 0
    assert clear_mot(truth, result, MOTMETRICS).fragments == 1


def test_nothing_on_either_side():
    none = tracks([])
    assert clear_mot(TRUTH, none) == ClearMot(0, 11, 0, 0, 0, 0, 0, 2, 0.0, 6)
    missed = clear_mot(none, RESULT)
    assert (missed.fp, missed.fn, missed.mota, missed.motp) == (11, 0, 0.0, 0.0)
    assert clear_mot(none, none).mota == 0
    assert clear_mot(TRUTH, none, MOTMETRICS).mota == 0


def test_the_order_of_rows_does_not_matter():
    truth, result = random_sequence(3)
    rng = np.random.default_rng(0)
    moved = truth.rows(rng.permutation(len(truth))), result.rows(rng.permutation(len(result)))
    for rules in (TRACKEVAL, MOTMETRICS):
        one, other = clear_mot(truth, result, rules), clear_mot(*moved, rules)
        assert one.iou_sum == pytest.approx(other.iou_sum)
        assert one.as_json() == pytest.approx(other.as_json())
