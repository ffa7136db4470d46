import numpy as np
import pytest
from tests.tracking.naive_tracker import iou

from tupelo.errors import InputError
from tupelo.tracking import boxes as functions


def some(rng, count):
    return np.concatenate([rng.uniform(-20, 60, (count, 2)), rng.uniform(1, 50, (count, 2))], 1)


def test_overlaps_equal_a_loop():
    rng = np.random.default_rng(0)
    a, b = some(rng, 13), some(rng, 7)
    expected = [[iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(functions.overlaps(a, b), expected, atol=1e-12)
    assert functions.overlaps(a[:0], b).shape == (0, 7)
    np.testing.assert_allclose(np.diag(functions.overlaps(a, a)), 1)


def test_visible_share_equals_counting_pixels():
    rng = np.random.default_rng(1)
    boxes = some(rng, 20).round()
    for box, share in zip(boxes, functions.visible_share(boxes, 40, 30), strict=True):
        x, y, w, h = box.astype(int)
        inside = sum(0 <= u < 40 and 0 <= v < 30 for u in range(x, x + w) for v in range(y, y + h))
        assert share == pytest.approx(inside / (w * h))


def test_there_and_back():
    boxes = some(np.random.default_rng(2), 9)
    np.testing.assert_allclose(functions.from_measured(functions.measured(boxes)), boxes)
    np.testing.assert_allclose(functions.from_corners(functions.to_corners(boxes)), boxes)


def test_suppression_equals_the_greedy_loop():
    rng = np.random.default_rng(3)
    for _ in range(50):
        boxes, scores = some(rng, 12), rng.integers(0, 4, 12) / 4
        expected = np.zeros(12, dtype=bool)
        for row in sorted(range(12), key=lambda row: (-scores[row], row)):
            expected[row] = all(iou(boxes[row], boxes[k]) <= 0.3 for k in np.flatnonzero(expected))
        np.testing.assert_array_equal(functions.kept(boxes, scores, 0.3), expected)
    assert functions.kept(boxes, scores, 1.0).all()


def test_no_boxes_and_more_than_one_wrong_row():
    rows, scores = functions.checked([], [])
    assert rows.shape == (0, 4)
    assert scores.shape == (0,)
    with pytest.raises(InputError, match=r"in row 0; 2 rows are wrong"):
        functions.checked([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, -1]], [1, 1, 1])
