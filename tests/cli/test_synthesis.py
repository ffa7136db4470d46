"""Training with synthetic embeddings from the command line: said, resumed, measured, reported."""

import json

import pytest
import yaml

from tupelo.training import read_rows

from .conftest import said, tupelo

FEW = ["--classes", "3", "--per-class", "3", "--dim", "8", "--no-tensorboard", "--log-every", "1"]
KINDS = {
    "hdml": (
        ["--loss", "triplet", "--synthesis", "hdml"],
        "synthesis hdml, harder negatives, alpha and beta found in 1 steps, batch normalisation",
        {"calibrate": 1},
        "Synthetic negatives (HDML)",
        {"lambda", "w", "label_accuracy"},
    ),
    "iaa": (
        ["--synthesis", "iaa", "--negatives", "random"],
        "synthesis iaa, further members of each class, after epoch 1",
        {"start_after": 1},
        "Synthetic members of classes",
        {"strength", "class_variance"},
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def begun(request, photos, tmp_path_factory):
    options, *expected = KINDS[request.param]
    out = tmp_path_factory.mktemp("runs") / request.param
    return (
        out,
        options,
        tupelo("train", photos, "--out", out, *options, *FEW, "--epochs", 3),
        expected,
    )


def test_what_is_made_is_said_and_written(begun):
    out, _, result, (shown, options, *_) = begun
    assert result.exit_code == 0, result.output
    assert shown in said(result)
    assert yaml.safe_load((out / "recipe.yaml").read_text())["synthesis_options"] == options


def test_the_report_shows_what_was_made(begun):
    out, *_, (_, _, title, columns) = begun
    assert title in (out / "report.html").read_text(encoding="utf-8")
    assert title in {
        section["title"] for section in json.loads((out / "sections.json").read_text())
    }
    assert columns <= set().union(*read_rows(out / "metrics.csv"))


def test_a_longer_run_goes_on_and_keeps_its_beginning(begun, photos):
    out, options, _, (_, resolved, *_) = begun
    result = tupelo("train", photos, "--out", out, *options, *FEW, "--epochs", 9)
    assert result.exit_code == 0, result.output
    assert "continuing from its last checkpoint" in said(result)
    assert json.loads((out / "results.json").read_text())["training"]["epochs"] == 9
    assert yaml.safe_load((out / "recipe.yaml").read_text())["synthesis_options"] == resolved


def test_the_model_is_measured_as_any_other(begun, photos):
    result = tupelo("evaluate", begun[0], photos, "--part", "test")
    assert result.exit_code == 0, result.output
    assert "MAP@R" in result.output


def test_another_synthesis_is_another_run(begun, photos):
    out, _, _, (_, options, *_) = begun
    other = "iaa" if "calibrate" in options else "hdml"
    result = tupelo("train", photos, "--out", out, "--loss", "triplet", "--synthesis", other, *FEW)
    assert result.exit_code == 2
    assert f"synthesis was '{out.name}', is '{other}'" in said(result)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--loss", "contrastive", "--synthesis", "hdml"],
            "weighs all pairs of the batch at once;",
        ),
        (["--synthesis", "iaa", "--synthesis-option", "copy=2"], "did you mean copies?"),
        (
            ["--synthesis", "iaa", "--synthesis-option", "copies"],
            "--synthesis-option must be NAME=",
        ),
        (["--loss-option", "alpha=0.3"], ""),
        (
            ["--synthesis", "iaa", "--synthesis-option", "copies=-1"],
            "--synthesis-option: copies mu",
        ),
    ],
)
def test_options_of_loss_and_synthesis(photos, tmp_path, options, reason):
    result = tupelo("train", photos, "--out", tmp_path / "run", *options, *FEW, "--steps", 1)
    assert result.exit_code == (2 if reason else 0), result.output
    assert reason in said(result)


def test_tuples_as_drawn_are_said(photos, tmp_path):
    drawn = ["--loss", "triplet", "--batches", "triplets", "--classes", "4", "--steps", "1"]
    result = tupelo("train", photos, "--out", tmp_path / "run", *drawn, "--dim", 8)
    assert result.exit_code == 0, result.output
    assert "objective triplet, tuples as they are drawn" in said(result)
    assert "batches of 2 triplets of 4 classes" in said(result)
