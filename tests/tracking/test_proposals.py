import numpy as np
import pytest

from tupelo.tracking import TrackerSettings, kalman
from tupelo.tracking.boxes import overlaps
from tupelo.tracking.proposals import Candidates, accepted, candidates

SETTINGS = TrackerSettings()


def states(*rows):
    return kalman.predicted(kalman.initiated(np.array(rows, dtype=np.float64)))


@pytest.mark.parametrize("kind", ["samples", "grid"])
def test_candidates_begin_with_the_prediction_and_keep_its_shape(kind):
    settings = TrackerSettings(candidates=kind, samples=40)
    place = states([100, 200, 0.5, 80], [400, 100, 0.4, 60])
    found = candidates(place, np.array([3, 9]), np.zeros((0, 4)), (640, 480), 7, settings)
    count = 41 if kind == "samples" else 76
    assert found.owner.tolist() == [0] * count + [1] * count
    np.testing.assert_allclose(found.measurements[[0, count]], place.position)
    np.testing.assert_allclose(found.measurements[:count, 2], 0.5)
    heights = found.measurements[:count, 3]
    assert (heights >= 0.8 * 80 - 1e-9).all()
    assert (heights <= 1.2 * 80 + 1e-9).all()
    assert found.motion[0] == 0
    own = kalman.distances(place, found.measurements)[found.owner, np.arange(len(found))]
    np.testing.assert_allclose(found.motion, own, atol=1e-9)


def test_samples_depend_on_seed_track_and_frame_alone():
    place = states([100, 200, 0.5, 80])
    nothing = np.zeros((0, 4))

    def drawn(track, frame, seed):
        settings = TrackerSettings(seed=seed)
        found = candidates(place, np.array([track]), nothing, (640, 480), frame, settings)
        return found.boxes.tolist()

    assert drawn(1, 5, 0) == drawn(1, 5, 0)
    assert drawn(1, 5, 0) != drawn(2, 5, 0)
    assert drawn(1, 5, 0) != drawn(1, 6, 0)
    assert drawn(1, 5, 0) != drawn(1, 5, 1)


def test_weak_detections_within_the_gate_are_candidates():
    place = states([100, 200, 0.5, 80])
    weak = np.array([[82.0, 161, 41, 79], [300.0, 160, 40, 80]])
    settings = TrackerSettings(samples=0)
    found = candidates(place, np.array([1]), weak, (640, 480), 1, settings)
    np.testing.assert_allclose(found.boxes, [[80, 160, 40, 80], weak[0]])


def test_what_is_mostly_outside_or_too_low_is_no_candidate():
    settings = TrackerSettings(samples=0, min_height=70.0)
    place = states([639, 200, 0.5, 80], [650, 200, 0.5, 80], [300, 200, 0.5, 60])
    found = candidates(place, np.array([1, 2, 3]), np.zeros((0, 4)), (640, 480), 1, settings)
    assert found.owner.tolist() == [0]


def test_one_a_track_the_best_by_look_and_motion():
    boxes = np.array([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [50.0, 0, 10, 10], [90.0, 0, 10, 10]])
    found = Candidates(np.array([0, 0, 1, 2]), boxes, boxes, np.array([0.0, 9.0, 0.0, 0.0]))
    looks = np.array([0.15, 0.10, 0.19, 0.21])
    # 0.10 is nearer in looks, but its motion costs almost 0.1
    assert accepted(found, looks, np.zeros((0, 4)), SETTINGS).tolist() == [0, 2]
    occluder = np.array([[51.0, 0, 10, 10]])
    assert accepted(found, looks, occluder, SETTINGS).tolist() == [0]


def test_of_overlapping_proposals_the_nearest_look_stays():
    boxes = np.array([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [30.0, 0, 10, 10]])
    assert overlaps(boxes, boxes)[0, 1] > 0.7
    found = Candidates(np.arange(3), boxes, boxes, np.zeros(3))
    looks = np.array([0.12, 0.11, 0.1])
    assert accepted(found, looks, np.zeros((0, 4)), SETTINGS).tolist() == [1, 2]
