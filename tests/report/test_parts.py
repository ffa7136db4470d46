"""Sections of models and objectives as blocks of the page."""

import math

import numpy as np
import pytest

from tupelo.report.parts import BARS, blocks
from tupelo.sections import Bars, Curves, Pictures, Points, Section, Table

ROWS = [{"step": 1, "hardness": 0.5}, {"step": 2, "hardness": 0.25, "late": math.nan}]


def shown(part, **more):
    return blocks(Section("Title", "", [part]), ROWS, "s", **more)


def test_curves_draw_known_columns_and_name_the_others():
    chart, note = shown(Curves(["hardness", "colour"], "share"))
    assert chart.chart is not None
    assert "hardness from 0.5 to 0.25" in chart.chart.alt
    assert note.note == "Not in metrics.csv, so not shown: colour."
    (only,) = shown(Curves(["colour"]))
    assert only.chart is None
    wrapped = [{"step": 1, "a/hardness": 0.5, "b/hardness": 0.1, "softhardness": 9.0}]
    (both,) = blocks(Section("Title", "", [Curves(["hardness"])]), wrapped, "s")
    assert [entry.label for entry in both.chart.legend] == ["a/hardness", "b/hardness"]
    (empty,) = shown(Curves(["late"]))
    assert empty.note == "These columns of metrics.csv hold no number yet."


def test_bars_start_at_zero_on_either_side():
    (block,) = shown(Bars(["a", "b", "c"], [3.0, -1.0, math.nan], "kg"))
    assert block.label == "kg"
    bars = [(bar.name, bar.value, bar.left, bar.width) for bar in block.bars]
    assert bars == [("a", "3", 25.0, 75.0), ("b", "-1", 0.0, 25.0), ("c", "nan", 0.0, 0.0)]


def test_many_bars_are_a_histogram_with_the_extremes():
    values = np.random.default_rng(0).permutation(100.0 * np.arange(BARS + 1)).tolist()
    chart, table = shown(Bars([f"n{value:g}" for value in values], values, "kg"))
    assert f"Histogram of {BARS + 1} values from 0 to {100 * BARS}" in chart.chart.alt
    first = [text for text, _ in table.rows[0]]
    assert first == ["n0", "0", f"n{100 * BARS}", "2400"]
    (none,) = shown(Bars(["x"] * 50, [math.nan] * 50))
    assert none.note == "None of the values is a number."


def test_points_without_a_place_are_left_out():
    (block,) = shown(Points([0.0, 1.0, math.nan], [0.0, 1.0, 2.0], ["real", "made", "real"]))
    assert block.chart.alt.startswith("2 points of 2 kinds. real: 1; made: 1")
    assert [entry.label for entry in block.chart.legend] == ["real", "made"]
    axes = shown(Points([0.0], [0.0], ["a"], x_label="width", y_label="height"))[0].chart.figure
    assert [axis.axis_label.text for axis in axes.axis] == ["width", "height"]
    (none,) = shown(Points([], [], []))
    assert none.note == "There is no point to show."


def test_numbers_of_a_table_have_four_digits_and_long_ones_are_cut():
    (block,) = shown(Table(["name", "n"], [["a", 0.123456], ["b", 12345]] * 40))
    assert block.rows[:2] == [[("a", False), ("0.1235", True)], [("b", False), ("12,345", True)]]
    assert len(block.rows) == 60
    assert block.note == "20 more rows stand in sections.json."


def test_pictures_keep_their_captions_and_their_budget():
    pixels = np.random.default_rng(0).integers(256, size=(2, 100, 100, 3), dtype=np.uint8)
    part = Pictures.of([list(pixels), list(pixels)], [["one", "two"]], ["first"])
    (block,) = shown(part)
    (head, row), (no_head, other) = block.pictures
    assert (head, [caption for _, caption in row]) == ("first", ["one", "two"])
    assert (no_head, [caption for _, caption in other]) == ("", ["", ""])
    assert len({uri for uri, _ in row}) == 2
    (cut,) = shown(part, budget_bytes=len(row[0][0]))
    assert cut.note == "3 more pictures stand in sections.json."
    (broken,) = shown(Pictures([["!", part.rows[0][0]]]))
    assert broken.note == "1 picture cannot be read."
    assert len(broken.pictures[0][1]) == 1


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Bars(["a"], [1.0, 2.0]), "1 names for 2 values"),
        (Points([0.0], [0.0], ["a", "b"]), "1 points with 2 kinds"),
        (Points([0.0, 1.0], [0.0], ["a"]), "A part of this section (Points) cannot be shown"),
    ],
)
def test_a_part_that_contradicts_itself_is_told_and_not_shown(part, said):
    (block,) = shown(part)
    assert said in block.note
