"""`tupelo tabular` as a user types it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tupelo.cli import app
from tupelo.tabular.generated import rings
from tupelo.tabular.saving import load


def tabular(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["tabular", *(str(each) for each in arguments)])


def said(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Rings with noise, text and an identifier; of partly.csv a third has a class."""
    folder = tmp_path_factory.mktemp("tables")
    X, y = rings(90, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for name, labelled in (("rings.csv", 90), ("partly.csv", 30)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "a", "b", "noise", "more", "shade", "ring"])
            for place, (row, label) in enumerate(zip(X, y, strict=True)):
                shade = "dark" if rng.random() < 0.5 else "light"
                ring = ["inner", "outer"][label] if place < labelled else ""
                writer.writerow([f"no {place}", *row.round(4), shade, ring])
    return folder


@pytest.fixture(scope="module")
def fitted(tables, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "rings"
    options = ["--drop", "id", "--method", "mio", "--option", "time_limit=10.0"]
    return out, tabular("fit", tables / "rings.csv", "--target", "ring", "--out", out, *options)


def test_fit_says_what_it_does_and_leaves_a_metric(fitted):
    out, result = fitted
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "rings.csv: 90 rows, 5 features, 2 classes in column ring" in text
    assert "note text became features, one a text: shade 1" in text
    assert "5 nearest neighbours, 22 held-out rows Euclidean mio change" in text
    assert "fitted to 90 rows in" in text
    assert "status converged after" in text
    assert "weights a " in text or "weights b " in text
    metric = load(out)
    weights = dict(zip(metric.columns.features, metric.learner.weights_, strict=True))
    assert weights["a"] + weights["b"] > 0.9
    assert metric.about["held_out"]["after"] > metric.about["held_out"]["before"]


def test_an_identifier_is_refused_with_what_to_do(tables, tmp_path):
    result = tabular("fit", tables / "rings.csv", "--target", "ring", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "column id holds 90 different texts in 90 rows" in said(result)
    assert "leave it out with --drop id" in said(result)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--target", "rng"], "--target rng: rings.csv has no such column; did you mean ring?"),
        (["--target", "noise"], "these are measurements, to be predicted by regression"),
        (["--target", "ring", "--method", "mioo"], "did you mean mio?"),
        (["--target", "ring", "--option", "gamma"], "--option must be NAME=VALUE"),
        (["--target", "ring", "--option", "gama=0.1"], "did you mean gamma"),
        (["--target", "ring", "--option", "gamma=-1.0"], "gamma must be a number > 0, got -1.0"),
    ],
)
def test_fit_refuses(tables, tmp_path, options, text):
    result = tabular(
        "fit", tables / "rings.csv", "--out", tmp_path / "run", "--drop", "id", *options
    )
    assert result.exit_code == 2
    assert text in said(result)


def test_data_that_cannot_be_used(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1\n")
    result = tabular("fit", tmp_path / "t.csv", "--target", "b", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "Cannot use this table" in said(result)
    assert "row 2: 1 cells where the header has 2" in said(result)


def test_embed_writes_every_row(fitted, tables, tmp_path):
    out, _ = fitted
    result = tabular("embed", out, tables / "partly.csv", "--out", tmp_path / "z.csv")
    assert result.exit_code == 0, result.output
    assert "90 rows of" in said(result)
    with (tmp_path / "z.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    assert rows[0]["ring"] in ("inner", "outer")
    assert rows[-1]["ring"] == ""


def test_embed_refuses(fitted, tables, tmp_path):
    out, _ = fitted
    result = tabular("embed", tables, tables / "rings.csv", "--out", tmp_path / "z.csv")
    assert result.exit_code == 2
    assert "holds no tabular.json; give a folder that tupelo tabular fit wrote" in said(result)
    (tmp_path / "t.csv").write_text("a,b,noise,more\n1,2,3,4\n")
    result = tabular("embed", out, tmp_path / "t.csv", "--out", tmp_path / "z.csv")
    assert "rows must have the column shade, as when the metric was fitted" in said(result)


def test_compare_measures_and_resumes(tables, tmp_path):
    command = [
        *("compare", tables / "rings.csv", "--target", "ring", "--drop", "id"),
        *("--method", "opml", "--method", "mio", "--folds", "2", "--repeats", "1"),
        *("--out", tmp_path / "out"),
    ]
    result = tabular(*command)
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "90 rows, 5 features, 2 classes; 2 folds, 1 times, 5 nearest neighbours" in text
    assert text.index("mio") < text.index("euclidean 0.")
    numbers = json.loads((tmp_path / "out/compared.json").read_text())
    assert {score["method"] for score in numbers["scores"]} == {"euclidean", "opml", "mio"}
    again = tabular(*command)
    assert "every split was measured before" in said(again)
    assert json.loads((tmp_path / "out/compared.json").read_text())["scores"] == numbers["scores"]


def test_ask_reads_its_answers(tables, tmp_path):
    out = tmp_path / "ask.csv"
    command = [
        *("ask", tables / "partly.csv", "--target", "ring", "--drop", "id", "--n", "4"),
        *("--out", out),
    ]
    result = tabular(*command)
    assert result.exit_code == 0, result.output
    assert "30 labelled rows, 60 without ring" in said(result)
    assert "fill in ring in" in said(result)
    with out.open() as file:
        header, *rows = csv.reader(file)
    assert header == ["row", "ring", "why", "uncertainty", "reason", "id", "a", "b", "noise",
                      "more", "shade"]  # fmt: skip
    assert len(rows) == 4
    assert all(row[5] == f"no {int(row[0]) - 1}" for row in rows)
    rows[0][1], rows[2][1] = "inner", "outer"
    with out.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    again = tabular(*command)
    assert "32 labelled rows, 2 of them answered in ask.csv, 58 without ring" in said(again)
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert {(row["row"], row["ring"]) for row in found if row["ring"]} == {
        (rows[0][0], "inner"),
        (rows[2][0], "outer"),
    }
    assert len(found) == 6


def test_ask_for_regions(tables, tmp_path):
    out = tmp_path / "regions.csv"
    options = ["--target", "ring", "--drop", "id", "--out", out]
    result = tabular("ask", tables / "rings.csv", *options)
    assert result.exit_code == 0, result.output
    assert "measure new rows there" in said(result)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert float(row["a from"]) <= float(row["a"]) <= float(row["a to"])


def test_pages_are_written(fitted, tables, tmp_path):
    result = tabular(
        *("ask", tables / "partly.csv", "--target", "ring", "--drop", "id"),
        *("--out", tmp_path / "ask.csv", "--html"),
    )
    assert "page" in said(result)
    assert "What to label in ring" in (tmp_path / "ask.html").read_text()


def test_no_network_library_is_loaded(tables, tmp_path):
    """Commands for tables start without torch."""
    command = [
        *("tabular", "fit", str(tables / "rings.csv"), "--target", "ring", "--drop", "id"),
        *("--method", "nca", "--out", str(tmp_path / "run"), "--html"),
    ]
    code = (
        "import sys\nfrom tupelo.cli import app\n"
        f"try:\n    app({command!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == "False"
