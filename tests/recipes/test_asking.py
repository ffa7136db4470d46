"""What to label next: rows and regions, answers that are never lost or mistaken."""

import csv
from itertools import pairwise

import numpy as np
import pytest

from tupelo.errors import DataError, InputError
from tupelo.recipes.asking import ask, read_answers, write
from tupelo.recipes.tables import Table
from tupelo.tabular.generated import rings

QUICK = {"time_limit": 5.0}


def table_of(labelled: int, n: int = 60, *, numbers: bool = False) -> Table:
    X, y = rings(n, np.random.default_rng(0))
    columns = {f"f{place}": X[:, place] for place in range(4)}
    if numbers:
        kinds = np.where(np.arange(n) < labelled, y + 1.0, np.nan)
    else:
        words = [["in", "out"][label] if row < labelled else None for row, label in enumerate(y)]
        kinds = np.array(words, dtype=object)
    return Table("rings.csv", {**columns, "ring": kinds})


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def answer(path, labels):
    rows = rows_of(path)
    for row, label in zip(rows, labels, strict=True):
        row["ring"] = label
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_rows_are_those_of_the_file(tmp_path):
    table, out = table_of(20), tmp_path / "ask.csv"
    asked = ask(table, "ring", out, n=5, options=QUICK)
    assert len(asked.questions) == 5
    for one in asked.questions:
        assert one.row > 20
        assert [table.columns[f"f{place}"][one.row - 1] for place in range(4)] == list(one.center)
        assert 0 <= one.uncertainty <= 1
        assert one.kind in ("outlier", "boundary", "uncertain")
    named = [int(word) for one in asked.questions for word in _rows_in(one.reason)]
    assert all(1 <= row <= 20 for row in named)


def _rows_in(reason):
    words = reason.replace(",", " ").split()
    return [after for word, after in pairwise(words) if word == "row"]


def test_answers_are_kept_and_more_is_asked(tmp_path):
    table, out = table_of(20), tmp_path / "ask.csv"
    asked = ask(table, "ring", out, n=3, options=QUICK)
    write(asked, table, "ring", out)
    answer(out, ["in", "", "out"])
    again = ask(table, "ring", out, n=3, options=QUICK)
    assert (again.answered, len(again.y)) == (2, 22)
    assert asked.questions[0].row not in {one.row for one in again.questions}
    write(again, table, "ring", out)
    found = rows_of(out)
    assert [row["ring"] for row in found] == ["in", "out", "", "", ""]
    assert [row["why"] for row in found[:2]] == ["answered", "answered"]
    third = ask(table, "ring", out, n=3, options=QUICK)
    assert third.answered == 2


def test_classes_that_are_numbers(tmp_path):
    table, out = table_of(20, numbers=True), tmp_path / "ask.csv"
    write(ask(table, "ring", out, n=2, options=QUICK), table, "ring", out)
    answer(out, ["1", "2.0"])
    again = ask(table, "ring", out, n=2, options=QUICK)
    assert np.unique(again.y).tolist() == ["1", "2"]


def test_without_a_pool_regions_are_asked(tmp_path):
    table, out = table_of(60), tmp_path / "regions.csv"
    asked = ask(table, "ring", out, n=4, options=QUICK)
    assert asked.questions
    assert all(one.row is None for one in asked.questions)
    write(asked, table, "ring", out)
    for row, one in zip(rows_of(out), asked.questions, strict=True):
        for place in range(4):
            low, middle, high = (float(row[f"f{place}{end}"]) for end in (" from", "", " to"))
            assert low <= middle <= high
            assert middle == pytest.approx(one.center[place], rel=1e-5)
    assert ask(table, "ring", out, n=4, options=QUICK).answered == 0  # regions hold no answers


def test_regions_when_asked_although_there_is_a_pool(tmp_path):
    asked = ask(table_of(20), "ring", tmp_path / "r.csv", regions=True, options=QUICK)
    assert asked.questions[0].row is None


def test_a_column_called_as_ours(tmp_path):
    table = table_of(20)
    table = Table(
        "t.csv", {"row": table.columns["f0"], "why": table.columns["f1"], **table.columns}
    )
    out = tmp_path / "ask.csv"
    write(ask(table, "ring", out, n=2, options=QUICK), table, "ring", out)
    assert {"row", "row (table)", "why", "why (table)"} <= set(rows_of(out)[0])
    answer(out, ["in", "out"])
    assert ask(table, "ring", out, n=2, options=QUICK).answered == 2


def test_texts_of_the_pool_are_known(tmp_path):
    table = table_of(20)
    kinds = np.array(["a", "b"] * 10 + ["c"] * 40, dtype=object)
    table = Table("t.csv", {"kind": kinds, **table.columns})
    asked = ask(table, "ring", tmp_path / "ask.csv", n=2, options=QUICK)
    assert "kind=c" in asked.columns.features


def test_answers_of_another_table_are_refused(tmp_path):
    table, out = table_of(20), tmp_path / "ask.csv"
    write(ask(table, "ring", out, n=2, options=QUICK), table, "ring", out)
    answer(out, ["in", ""])
    row = int(rows_of(out)[0]["row"])
    table.columns["f1"][row - 1] += 1
    with pytest.raises(DataError, match=rf"row {row} has f1 .* another table, so name a new --out"):
        read_answers(out, table, "ring")
    with pytest.raises(DataError, match=r"rings.csv has no row '"):
        read_answers(out, table.rows(np.arange(5)), "ring")


def test_a_file_of_other_things_is_left_alone(tmp_path):
    out = tmp_path / "thesis.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is no file of questions about ring; name a new one"):
        ask(table_of(20), "ring", out)
    out.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot be read: .*; name a new file"):
        ask(table_of(20), "ring", out)


def test_refusals(tmp_path):
    out = tmp_path / "ask.csv"
    with pytest.raises(InputError, match="--n must be at least 1, got 0"):
        ask(table_of(20), "ring", out, n=0)
    with pytest.raises(InputError, match=r"--target rin: .*did you mean ring\?"):
        ask(table_of(20), "rin", out)
    with pytest.raises(
        InputError, match="two labelled rows of at least two classes, counts are in:"
    ):
        ask(table_of(2), "ring", out)
    with pytest.raises(InputError, match=r"mio has no such option; did you mean margin\?"):
        ask(table_of(20), "ring", out, options={"margn": 1.0})
