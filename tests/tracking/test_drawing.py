from itertools import pairwise

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tracking.drawing import ContactSheet, colour, draw_tracks

GREY = np.full((90, 120, 3), 128, np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 4)


def test_tracks_keep_their_colours_and_neighbours_differ():
    found = [colour(number) for number in range(1, 60)]
    assert found == [colour(number) for number in range(1, 60)]
    for one, other in pairwise(found):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 100


def test_borders_have_the_colour_of_their_track_and_proposals_are_dashed():
    drawn = draw_tracks(
        GREY, np.array([3, 8]), boxes((5, 30, 40, 50), (70, 30, 40, 50)), np.array([False, True])
    )
    assert np.array_equal(GREY, np.full_like(GREY, 128))
    whole = (drawn[35:75, 5] == colour(3)).all(axis=1)
    dashed = (drawn[35:75, 70] == colour(8)).all(axis=1)
    assert whole.all()
    assert 0.3 < dashed.mean() < 0.8
    assert (drawn[40:70, 20:30] == 128).all()


def test_boxes_may_reach_outside_or_be_tiny():
    rows = boxes((-50, -50, 60, 60), (500, 500, 5, 5), (10, 10, 0.01, 0.01), (0, 0, 120, 90))
    for proposed in (np.ones(4, bool), np.zeros(4, bool)):
        assert draw_tracks(GREY, np.arange(1, 5), rows, proposed).shape == GREY.shape
    assert np.array_equal(draw_tracks(GREY, np.zeros(0, np.int64), boxes()), GREY)


def test_a_sheet_has_a_row_for_each_track_in_time():
    sheet = ContactSheet(columns=4, height=20, width=10)
    for shade in (10, 90, 250):
        frame = np.full((40, 60, 3), shade, np.uint8)
        ids = np.array([2, 5]) if shade > 50 else np.array([5])
        rows = boxes((5, 5, 10, 20), (30, 5, 10, 20))[: len(ids)]
        sheet.add(frame, ids, rows)
    drawn = sheet.draw()
    assert drawn.shape == (2 * 22, 30 + 3 * 12, 3)
    middles = [drawn[row * 22 + 10, 30 + 12 * place + 5, 0] for row in (0, 1) for place in range(3)]
    assert middles == [90, 250, 255, 10, 90, 250]  # track 2 has two crops, then white paper
    assert tuple(drawn[15, 1]) == colour(2)


def test_long_tracks_are_thinned_evenly_and_memory_is_bounded():
    sheet = ContactSheet(columns=8, rows=3, height=8, width=8)
    for number in range(200):
        frame = np.full((20, 20, 3), number, np.uint8)
        sheet.add(frame, np.array([1]), boxes((2, 2, 8, 8)))
    drawn = sheet.draw()
    shades = drawn[4, 34::10, 0]
    assert 4 <= len(shades) <= 8
    assert set(np.diff(shades.astype(int))) == {32}
    assert shades[0] == 0
    for number in range(2, 100):  # short ones pass by
        sheet.add(GREY, np.array([number]), boxes((2, 2, 8, 8)))
    assert len(sheet) <= 12
    assert sheet.draw().shape[0] == 3 * 10


def test_an_empty_sheet_and_small_numbers_are_refused():
    with pytest.raises(InputError, match="a contact sheet needs a track"):
        ContactSheet().draw()
    with pytest.raises(InputError, match="columns must be 2 or more, got 1"):
        ContactSheet(columns=1)
