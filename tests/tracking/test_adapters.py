from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from tupelo.errors import InputError
from tupelo.tracking import Tracked, Tracker, TrackerSettings
from tupelo.tracking.adapters import boxes_of, with_ids


@dataclass
class Detections:
    """As supervision's: rows are taken by indexing, which copies every column."""

    xyxy: np.ndarray
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    tracker_id: np.ndarray | None = None
    data: dict = field(default_factory=dict)

    def __getitem__(self, rows):
        confidence = None if self.confidence is None else self.confidence[rows]
        return Detections(
            self.xyxy[rows],
            confidence,
            self.class_id[rows],
            data={name: column[rows] for name, column in self.data.items()},
        )


class Boxes:
    """As ultralytics': columns of one table, with or without ids."""

    def __init__(self, data):
        assert data.shape[-1] in (6, 7)
        self.data = data

    @property
    def xyxy(self):
        return self.data[:, :4]

    @property
    def conf(self):
        return self.data[:, -2]

    @property
    def cls(self):
        return self.data[:, -1]

    @property
    def id(self):
        return self.data[:, -3] if self.data.shape[-1] == 7 else None


class Results:
    """As ultralytics'."""

    def __init__(self, data):
        self.boxes = Boxes(data)

    def __getitem__(self, rows):
        return Results(self.boxes.data[rows])

    def update(self, boxes):
        self.boxes = Boxes(boxes)


def frame_of(step: int) -> np.ndarray:
    """Corners of three boxes; the middle one is too unsure to be tracked."""
    return np.array(
        [[10 + step, 20, 30 + step, 60], [200, 10, 220, 50], [100 - step, 20, 120 - step, 60]],
        float,
    )


CONFIDENCE, CLASSES = np.array([0.9, 0.05, 0.8]), np.array([2, 7, 0])


def test_supervision_gets_its_own_type_back_with_numbers():
    tracker = Tracker(TrackerSettings(confirm_after=2).with_uses())
    for step in range(4):
        given = Detections(
            frame_of(step), CONFIDENCE, CLASSES, data={"name": np.array(["a", "b", "c"])}
        )
        boxes, scores = boxes_of(given)
        assert np.array_equal(boxes[0], [10 + step, 20, 20, 40])
        kept = with_ids(given, tracker.update(boxes, scores))
    assert isinstance(kept, Detections)
    order = np.argsort(kept.tracker_id)
    assert sorted(kept.tracker_id) == [1, 2]
    assert np.array_equal(np.sort(kept.class_id), [0, 2])
    assert set(kept.data["name"]) == {"a", "c"}
    assert np.array_equal(np.sort(kept.xyxy[order][:, 0]), [13, 97])
    assert given.tracker_id is None


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_ultralytics_gets_its_own_type_back_with_numbers(make):
    tracker = Tracker(TrackerSettings(confirm_after=2).with_uses())
    for step in range(4):
        table = np.column_stack([frame_of(step), CONFIDENCE, CLASSES])
        given = Results(make(table))
        kept = with_ids(given, tracker.update(*boxes_of(given)))
    assert isinstance(kept, Results)
    assert type(kept.boxes.data) is type(given.boxes.data)
    assert sorted(int(each) for each in kept.boxes.id) == [1, 2]
    by_class = {
        int(c): (int(n), float(x))
        for c, n, x in zip(kept.boxes.cls, kept.boxes.id, kept.boxes.xyxy[:, 0], strict=True)
    }
    assert {c: x for c, (_, x) in by_class.items()} == {2: 13.0, 0: 97.0}
    assert sorted(float(each) for each in kept.boxes.conf) == [0.8, 0.9]


def test_a_frame_without_detections():
    tracker = Tracker(TrackerSettings().with_uses())
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert len(with_ids(nothing, tracker.update(*boxes_of(nothing))).tracker_id) == 0
    empty = Results(torch.zeros((0, 6)))
    assert len(with_ids(empty, tracker.update(*boxes_of(empty))).boxes.id) == 0


def test_proposals_are_left_out():
    tracked = Tracked(
        np.array([4, 9]),
        np.array([[0.0, 0, 5, 5], [9, 9, 5, 5]]),
        np.array([0.9, 0.8]),
        np.array([1, -1]),
        np.array([False, True]),
    )
    given = Detections(frame_of(0), CONFIDENCE, CLASSES)
    assert with_ids(given, tracked).tracker_id.tolist() == [4]


def test_no_confidence_means_certain_and_other_things_are_refused():
    assert boxes_of(Detections(frame_of(0)))[1].tolist() == [1, 1, 1]
    nothing = Tracker(TrackerSettings().with_uses()).update(np.zeros((0, 4)), [])
    for attempt in (lambda: boxes_of([1, 2]), lambda: with_ids([1, 2], nothing)):
        with pytest.raises(InputError, match=r"must have xyxy and confidence, or boxes.xyxy.*list"):
            attempt()
