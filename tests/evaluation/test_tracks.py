"""Boxes that overlap against boxes one by one; what MOTChallenge scores; refusals."""

import inspect

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tupelo.errors import InputError
from tupelo.evaluation import MOT20_DISTRACTORS, Tracks, preprocess_mot, score_tracks, tracks

from .toy_tracks import FOUND, RESULT, ROWS, TRUTH
from .toy_tracks import tracks as rows_of
from .tracking_peers import random_sequence, similarity


@pytest.mark.parametrize("seed", range(25))
def test_all_pairs_that_overlap_are_found(seed, monkeypatch):
    monkeypatch.setattr(tracks, "AT_ONCE", [1, 7, 10_000][seed % 3])
    truth, result = random_sequence(seed)
    found = tracks.overlaps(truth, result)
    got = {}
    for g, h, iou, cell in zip(
        found.truth_rows, found.result_rows, found.iou, found.cells, strict=True
    ):
        one, other = found.truth_order[g], found.result_order[h]
        assert truth.frames[one] == result.frames[other]
        got[int(one), int(other)] = iou
        columns = found.shapes[found.truth_frames[g], 1]
        beside = found.truth_frames[:g] == found.truth_frames[g]
        assert cell // columns == beside.sum()
        assert other == np.flatnonzero(result.frames == truth.frames[one])[cell % columns]
    expected = {
        (i, j): value
        for i in range(len(truth))
        for j in np.flatnonzero(result.frames == truth.frames[i]).tolist()
        if (value := similarity(truth.boxes[i : i + 1], result.boxes[j : j + 1])[0, 0]) > 0
    }
    assert got == expected  # to the bit
    assert found.truth_lengths.sum() == len(truth)
    assert found.n_frames == len(np.union1d(truth.frames, result.frames))


WITH_SIGN = [*ROWS, *((t, 7, 300, 100) for t in range(1, 7))]
FLAGS = np.array([1] * len(ROWS) + [0] * 6)
CLASSES = np.array([1] * len(ROWS) + [8] * 6)
WITH_GHOST = rows_of([*FOUND, (2, 9, 300, 100), (3, 9, 300, 100)])


def test_results_on_a_distractor_are_excused():
    truth, result = preprocess_mot(rows_of(WITH_SIGN), FLAGS, CLASSES, WITH_GHOST, length=6)
    assert len(truth) == 11
    assert sorted(result.ids.tolist()) == sorted(RESULT.ids.tolist())
    scores, expected = score_tracks(truth, result), score_tracks(TRUTH, RESULT)
    assert scores.clear == expected.clear
    assert scores.identity == expected.identity
    assert scores.hota.hota == expected.hota.hota == pytest.approx(0.674771, abs=5e-7)


def test_without_classes_they_are_false_positives():
    truth, result = preprocess_mot(rows_of(WITH_SIGN), FLAGS, None, WITH_GHOST)
    assert score_tracks(truth, result).clear.fp == 3
    assert score_tracks(truth, result).clear.fn == 1


@pytest.mark.parametrize(("kind", "excused"), [(2, 1), (3, 0), (6, 0), (7, 1), (8, 1), (12, 1)])
def test_distractors_by_class(kind, excused):
    box = rows_of([(1, 1, 0, 0)])
    scored, kept = preprocess_mot(box, np.array([1]), np.array([kind]), box)
    assert (len(scored), len(kept)) == (0, 1 - excused)
    _, kept = preprocess_mot(
        box, np.array([1]), np.array([kind]), box, distractors=MOT20_DISTRACTORS
    )
    assert len(kept) == (0 if kind == 6 else 1 - excused)


def test_a_pedestrian_takes_the_result_from_a_distractor():
    boxes = rows_of([(1, 1, 0, 0), (1, 2, 2, 0)])
    near_both = rows_of([(1, 4, 1, 0), (1, 5, 2, 0)])
    _, kept = preprocess_mot(boxes, np.array([1, 0]), np.array([1, 8]), near_both)
    assert kept.ids.tolist() == [4]


@pytest.mark.parametrize("seed", range(20))
def test_distractors_are_those_of_a_naive_loop(seed):
    truth, result = random_sequence(seed)
    rng = np.random.default_rng(seed)
    classes, flags = rng.choice([1, 1, 8, 3], len(truth)), rng.integers(0, 2, len(truth))
    expected = []
    for frame in np.unique(result.frames):
        g, h = np.flatnonzero(truth.frames == frame), np.flatnonzero(result.frames == frame)
        iou = similarity(truth.boxes[g], result.boxes[h])
        iou[iou < 0.5] = 0
        pairs = [pair for pair in zip(*linear_sum_assignment(-iou), strict=True) if iou[pair] > 0]
        expected += [h[j] for i, j in pairs if classes[g[i]] == 8]
    scored, kept = preprocess_mot(truth, flags, classes, result)
    left = np.delete(np.arange(len(result)), np.array(expected, np.int64))
    np.testing.assert_array_equal(kept.boxes, result.boxes[left])
    assert len(scored) == ((flags == 1) & (classes == 1)).sum()


BOX = np.array([[0.0, 0, 9, 9]])
ONE = np.array([1])


@pytest.mark.parametrize(
    ("frames", "ids", "boxes", "text"),
    [
        (
            [1],
            [1],
            BOX * [1, 1, 0, 1],
            r"w and h above 0; row 0 \(frame 1, id 1\) is \[0.0, 0.0, 0",
        ),
        ([1], [1], BOX * [1, 1, 1, -1], "w and h above 0"),
        ([1], [1], BOX * [np.nan, 1, 1, 1], "boxes must be finite"),
        ([1], [1], BOX * [1, 1, np.inf, 1], "boxes must be finite"),
        ([1, 2, 1], [3, 3, 3], np.repeat(BOX, 3, 0), "frame 1 has id 3 more than once, 1 such"),
    ],
)
def test_tracks_refuse(frames, ids, boxes, text):
    with pytest.raises(InputError, match=text):
        Tracks(np.array(frames), np.array(ids), boxes)


def test_arrays_of_unequal_length_are_refused():
    bare = object.__new__(Tracks)  # the type checker of these tests would refuse before we do
    for name, value in (("frames", ONE), ("ids", np.array([1, 2])), ("boxes", BOX)):
        object.__setattr__(bare, name, value)
    with pytest.raises(
        InputError, match=r"ids must be \(1,\) and boxes \(1, 4\) for 1 frames, got"
    ):
        bare.__post_init__()
    with pytest.raises(InputError, match="must be of the 1 true boxes, one each"):
        inspect.unwrap(preprocess_mot)(Tracks(ONE, ONE, BOX), np.array([1, 1]), ONE, TRUTH)


def test_preprocessing_refuses():
    one = Tracks(ONE, ONE, BOX)
    late = Tracks(np.array([7]), ONE, BOX)
    with pytest.raises(InputError, match=r"frames of the result must be 1 to 6, got 7 to 7"):
        preprocess_mot(one, ONE, ONE, late, length=6)
    with pytest.raises(InputError, match=r"frames of the truth must be 1 to 6"):
        preprocess_mot(late, ONE, ONE, one, length=6)
    with pytest.raises(InputError, match=r"must be 1 to \.\.\., got 0"):
        preprocess_mot(one, ONE, ONE, Tracks(np.array([0]), ONE, BOX))
    with pytest.raises(InputError, match=r"classes must be 1 to 13, got \[-1\]; give None"):
        preprocess_mot(one, ONE, np.array([-1]), one)
