import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.tracking.naive_tracker import NaiveTracker

from tupelo.errors import InputError, TrackingDiverged
from tupelo.tracking import Tracker, TrackerSettings
from tupelo.tracking.boxes import from_corners

SIZE = (160, 120)
ALONE = TrackerSettings().with_uses()
USES = [uses for count in range(4) for uses in itertools.combinations((1, 2, 3), count)]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def colours(image, boxes):
    """Unit rows of what is seen at six places of each box."""
    rows = []
    for x, y, w, h in boxes:
        at = [(x + w * i, y + h * j) for i in (0.3, 0.7) for j in (0.2, 0.5, 0.8)]
        inside = [
            image[int(np.clip(v, 0, SIZE[1] - 1)), int(np.clip(u, 0, SIZE[0] - 1))] for u, v in at
        ]
        rows.append(np.concatenate(inside).astype(np.float64) - 110.0)
    return unit(np.array(rows)) if rows else np.zeros((0, 18), np.float32)


def walk(seed, frames=15, walkers=5):
    """Coloured walkers with misses, weak, false and overlapping detections."""
    rng = np.random.default_rng(seed)
    paint = rng.integers(0, 256, (walkers, 3, 2, 3), dtype=np.uint8)
    place = rng.uniform((20, 20), (110, 70), (walkers, 2))
    speed = rng.uniform(-4, 4, (walkers, 2))
    for _ in range(frames):
        image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        boxes, scores = [], []
        for k in range(walkers):
            place[k] += speed[k]
            x, y = place[k].round().astype(int)
            for (i, j), (top, left) in zip(
                itertools.product(range(3), range(2)),
                itertools.product((0, 10, 20), (0, 8)),
                strict=True,
            ):
                rows = slice(max(y + top, 0), max(y + top + 10, 0))
                columns = slice(max(x + left, 0), max(x + left + 8, 0))
                image[rows, columns] = paint[k, i, j]
            if rng.random() < 0.75:
                boxes.append([*(place[k] + rng.normal(0, 0.8, 2)), 16 + rng.normal(), 30.0])
                scores.append(rng.uniform(0.05, 1))
        if rng.random() < 0.3:
            boxes.append([*rng.uniform(0, 100, 2), 12.0, 25.0])
            scores.append(rng.uniform(0.1, 0.9))
        yield np.array(boxes).reshape(-1, 4), np.array(scores), image


@pytest.mark.parametrize("uses", USES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_naive_tracker(uses, seed):
    changes = {"confirm_after": 2, "gallery": 4, "samples": 6, "max_age": 8, "max_proposals": 3}
    other = seed == 1
    settings = TrackerSettings(
        **changes,
        cascade=other,
        hidden_first=not other,
        candidates="grid" if other else "samples",
        min_height=0.0 if other else 27.0,
    ).with_uses(*uses)
    ours, naive = Tracker(settings, colours, size=SIZE), NaiveTracker(settings, colours, SIZE)
    seen = proposed = 0
    for boxes, scores, image in walk(seed):
        found = ours.update(boxes, scores, image)
        expected = naive.update(boxes, scores, image)
        assert found.ids.tolist() == [each[0] for each in expected]
        np.testing.assert_allclose(
            found.boxes, np.array([each[1] for each in expected]).reshape(-1, 4), atol=1e-8
        )
        assert found.detections.tolist() == [each[2] for each in expected]
        np.testing.assert_allclose(found.scores, [each[3] for each in expected], atol=1e-5)
        np.testing.assert_array_equal(found.proposed, found.detections < 0)
        seen, proposed = seen + len(found), proposed + found.proposed.sum()
    assert seen > 5
    assert (proposed > 0) == (3 in uses)


def test_occlusion_by_motion_equals_the_naive_tracker():
    settings = TrackerSettings(occlusion_cost="motion", confirm_after=1).with_uses(2)
    ours, naive = Tracker(settings), NaiveTracker(settings)
    for number, (boxes, scores, _) in enumerate(walk(5), 1):
        frame = 3 * number  # frames in between were left out
        found = ours.update(boxes, scores, frame=frame)
        expected = naive.update(boxes, scores, frame=frame)
        assert found.ids.tolist() == [each[0] for each in expected]


def test_the_same_twice():
    runs = []
    for _ in range(2):
        tracker = Tracker(TrackerSettings(confirm_after=2), colours)
        runs.append([tracker.update(*each).boxes.tolist() for each in walk(7)])
    assert runs[0] == runs[1]


def test_given_embeddings_equal_those_of_embed():
    settings = TrackerSettings(confirm_after=2).with_uses(1, 2)
    given, asked = Tracker(settings, size=SIZE), Tracker(settings, colours)
    for boxes, scores, image in walk(8):
        first = given.update(boxes, scores, embeddings=colours(image, boxes).reshape(-1, 18))
        second = asked.update(boxes, scores, image)
        assert first.ids.tolist() == second.ids.tolist()
        np.testing.assert_array_equal(first.boxes, second.boxes)


def test_a_proposal_bridges_a_missed_frame_and_ends():
    image = np.full((120, 160, 3), 90, np.uint8)
    image[40:70, 50:66] = (200, 30, 60)
    image[40:50, 50:66] = (20, 230, 60)
    box = [[50.0, 40, 16, 30]]
    settings = TrackerSettings(confirm_after=1, max_proposals=2)
    tracker = Tracker(settings, colours)
    for _ in range(3):
        tracker.update(box, [0.9], image)
    for _ in range(2):
        seen = tracker.update([], [], image)
        assert seen.proposed.tolist() == [True]
        assert seen.detections.tolist() == [-1]
        np.testing.assert_allclose(seen.boxes, box, atol=5)
    assert len(tracker.update([], [], image)) == 0  # no third one without a detection
    assert len(tracker) == 1


def test_a_hidden_track_is_found_by_its_look_and_not_by_another():
    rows = unit(np.eye(3) + 0.05)
    settings = TrackerSettings(confirm_after=1).with_uses(2)
    for look, number in ((0, 1), (1, 2)):
        tracker = Tracker(settings)
        for _ in range(3):
            tracker.update([[50, 40, 16, 30]], [0.9], embeddings=rows[:1])
        for _ in range(5):
            tracker.update([], [], embeddings=np.zeros((0, 3)))
        seen = tracker.update([[52, 40, 16, 30]], [0.9], embeddings=rows[look : look + 1])
        assert seen.ids.tolist() == [number]


def test_use_1_keeps_neighbours_apart_where_they_pass():
    rows = unit(np.eye(2) + 0.01)
    truth = []
    for uses in ((), (1,)):
        tracker = Tracker(TrackerSettings(confirm_after=1).with_uses(*uses))
        for step in range(3):
            tracker.update([[20 + step, 20, 20, 40], [34 - step, 20, 20, 40]], [0.9, 0.9],
                           embeddings=rows)  # fmt: skip
        # they swap their places between two frames
        seen = tracker.update([[34, 20, 20, 40], [20, 20, 20, 40]], [0.9, 0.9], embeddings=rows)
        truth.append(dict(zip(seen.detections.tolist(), seen.ids.tolist(), strict=True)))
    assert truth[0] == {0: 2, 1: 1}
    assert truth[1] == {0: 1, 1: 2}


def test_an_empty_frame_and_a_gap_in_the_frames():
    tracker = Tracker(TrackerSettings(confirm_after=1, max_age_without=4).with_uses())
    tracker.update([[10, 10, 20, 40]], [0.9])
    assert len(tracker.update([], [])) == 0
    assert tracker.misses.tolist() == [1]
    tracker.update(np.zeros((0, 4)), np.zeros(0), frame=5)
    assert tracker.misses.tolist() == [4]
    assert tracker.update([[10, 10, 20, 40]], [0.9], frame=10**9).ids.tolist() == [2]


def test_a_thousand_detections():
    corners = [[x, y, x + 9, y + 20] for x in range(0, 1000, 10) for y in range(0, 250, 25)]
    boxes, rng = from_corners(corners), np.random.default_rng(0)
    rows = unit(rng.standard_normal((1000, 16)))
    tracker = Tracker(TrackerSettings(confirm_after=2).with_uses(1, 2))
    for _ in range(3):
        order = rng.permutation(1000)
        seen = tracker.update(boxes[order], np.full(1000, 0.9), embeddings=rows[order])
    assert len(seen) == 1000
    np.testing.assert_array_equal(np.sort(seen.ids), np.arange(1, 1001))


STREAM = """
import sys
from pathlib import Path
import numpy as np
from tupelo.tracking import Tracker, TrackerSettings

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

frames = int(sys.argv[1])
looks = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
looks /= np.linalg.norm(looks, axis=1, keepdims=True)
tracker = Tracker(TrackerSettings(gallery=10).with_uses(1, 2), size=(800, 600))
for number in range(frames):
    # an object enters every tenth frame, crosses the picture and leaves
    inside = np.arange(max(0, number // 10 - 6), number // 10 + 1)
    x = (number - 10 * inside) * 12.0
    boxes = np.stack([x, 40 + 70 * (inside % 7), 0 * x + 30, 0 * x + 60], axis=1)
    tracker.update(boxes, np.full(len(boxes), 0.9), embeddings=looks[inside % 64])
    if number == frames // 3:
        early = resident()
print(tracker.ids.max(), tracker._galleries.places, resident() - early)
"""


@pytest.mark.parametrize("frames", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_is_flat_over_a_stream(frames):
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(frames)], capture_output=True, text=True, check=True
    )
    born, places, grown = map(int, done.stdout.split())
    assert born > frames // 12
    assert places < 64
    assert grown < 500_000


def test_nothing_changes_where_a_frame_is_refused():
    image = np.zeros((120, 160, 3), np.uint8)
    tracker = Tracker(TrackerSettings(confirm_after=1).with_uses(1))
    box, look = [[10.0, 10, 20, 40]], [[1.0, 0.0]]
    tracker.update(box, [0.9], image, embeddings=look)
    wrong = [
        (([[10, 10, 20, np.nan]], [0.9]), {}, r"boxes must be finite, got .*nan\] in row 0"),
        (([[1, 1, 1, 1], [10, 10, 0, 5]], [0.9, 0.9]), {}, "above 0, got .* in row 1"),
        (([[10, 10, 20, -5]], [0.9]), {}, "boxes must have width and height above 0"),
        (([[10, 10, 20]], [0.9]), {}, r"boxes must be rows of x, y, w, h, got shape \(1, 3\)"),
        ((box, [0.9, 0.8]), {}, "scores must hold one number for each of 1 boxes"),
        ((box, [np.inf]), {}, "scores must be finite, got inf in row 0"),
        ((box, [0.9]), {"frame": 1}, "frame must be above 1, the last one, got 1"),
        ((box, [0.9], image[:60]), {}, "as large as the frames before, 160 x 120, got 160 x 60"),
        ((box, [0.9], image[..., 0]), {}, r"image must be \(h, w, 3\) of uint8, RGB"),
        ((box, [0.9], image / 255), {}, r"image must be .* got .* of float64"),
        ((box, [0.9]), {"embeddings": [[2.0, 0.0]]}, "must be unit rows .* length 2 in row 0"),
        ((box, [0.9]), {"embeddings": [[np.nan, 1.0]]}, "must be unit rows"),
        ((box, [0.9]), {"embeddings": [[1.0, 0.0, 0.0]]}, "width of earlier frames, 2, got 3"),
        ((box, [0.9]), {"embeddings": [[1.0, 0.0]] * 2}, "one row for each of 1 boxes"),
        ((box, [0.9]), {}, "embeddings must be given, or image and embed"),
    ]
    before = tracker.boxes
    for arguments, named, text in wrong:
        with pytest.raises(InputError, match=text):
            tracker.update(*arguments, **named)
        np.testing.assert_array_equal(tracker.boxes, before)
        assert tracker.frame == 1
    assert tracker.update(box, [0.9], embeddings=look).ids.tolist() == [1]


def test_proposals_need_pictures_and_a_network():
    with pytest.raises(InputError, match="propose needs the pictures and a network: image must"):
        Tracker(TrackerSettings(), colours).update([], [])
    with pytest.raises(InputError, match="propose needs the pictures and a network: embed must"):
        Tracker().update([], [], np.zeros((9, 9, 3), np.uint8))


def test_a_box_that_cannot_be_seen_is_matched_by_place_only():
    tracker = Tracker(TrackerSettings(confirm_after=1).with_uses(1, 2))
    hidden = np.full((1, 2), np.nan, np.float32)
    for look in (hidden, hidden, [[1.0, 0.0]], hidden):
        assert tracker.update([[10, 10, 20, 40]], [0.9], embeddings=look).ids.tolist() == [1]
    assert tracker._galleries.lengths(tracker._places).tolist() == [1]


def test_weak_and_overlapping_detections_are_not_remembered():
    tracker = Tracker(TrackerSettings(confirm_after=1).with_uses(1))
    box, look = [10.0, 10, 20, 40], [[1.0, 0.0]]
    for score, expected in ((0.9, 1), (0.4, 1), (0.9, 2)):
        tracker.update([box], [score], embeddings=look)
        assert tracker._galleries.lengths(tracker._places)[0] == expected
    tracker.update([box, [12.0, 10, 20, 40]], [0.9, 0.4], embeddings=look * 2)
    assert tracker._galleries.lengths(tracker._places)[0] == 2


def test_a_track_that_leaves_the_picture_ends():
    tracker = Tracker(ALONE, size=(100, 100))
    for x in (70.0, 80.0, 90.0):
        tracker.update([[x, 10, 10, 20]], [0.9])
    tracker.update([], [])
    assert len(tracker) == 0


def test_a_tentative_track_ends_with_its_first_miss_and_numbers_are_not_used_again():
    tracker = Tracker(ALONE)
    for _ in range(2):
        assert len(tracker.update([[10, 10, 20, 40]], [0.9])) == 0
        tracker.update([], [])
        assert len(tracker) == 0
    for _ in range(3):
        seen = tracker.update([[10, 10, 20, 40]], [0.9])
    assert seen.ids.tolist() == [3]


def test_a_filter_that_breaks_down_names_track_and_frame():
    tracker = Tracker(ALONE)
    tracker.update([[0, 0, 1e-200, 1e-200]], [0.9])
    with pytest.raises(TrackingDiverged, match=r"track 1 is not positive definite in frame 2"):
        tracker.update([], [])


def test_lists_of_the_living_tracks():
    tracker = Tracker(TrackerSettings(confirm_after=2).with_uses())
    tracker.update([[10, 10, 20, 40]], [0.9])
    assert tracker.confirmed.tolist() == [False]
    tracker.update([[10, 10, 20, 40], [60, 10, 20, 40]], [0.9, 0.9])
    assert tracker.confirmed.tolist() == [True, False]
    assert tracker.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracker.boxes, [[10, 10, 20, 40], [60, 10, 20, 40]])


@pytest.mark.parametrize("hidden_first", [True, False])
def test_a_lost_track_takes_its_object_from_a_new_one(hidden_first):
    rows = unit(np.array([[1.0, 0, 0], [1.0, 0.9, 0]]))  # itself, and half covered
    settings = TrackerSettings(confirm_after=3, hidden_first=hidden_first).with_uses(2)
    tracker, box = Tracker(settings), [[50.0, 40, 16, 30]]
    for look in (0, 0, 0, None, None, 1, 0):
        given = (box, [0.9]) if look is not None else ([], [])
        looks = rows[[look]] if look is not None else rows[:0]
        seen = tracker.update(*given, embeddings=looks)
    assert seen.ids.tolist() == ([1] if hidden_first else [])
