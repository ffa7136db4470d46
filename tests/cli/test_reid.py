"""`tupelo reid train` and `evaluate` as a user types them, and other commands on the run."""

import json
import shutil
from pathlib import Path

import pytest
from tests.recipes import crops
from typer.testing import Result

from .conftest import said, tupelo

QUICK = ["--network", "reid-small", "--size", "32x16", "--epochs", "2", "--identities", "4",
         "--per-identity", "2", "--validation", "0.3", "--no-tensorboard"]  # fmt: skip


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    return crops.market(tmp_path_factory.mktemp("market"), 14, 4)


@pytest.fixture(scope="module")
def run(market, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "people"
    return out, tupelo("reid", "train", market, "--out", out, *QUICK)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return Path(shutil.copytree(run[0], tmp_path / "copy"))


def test_train_says_what_it_does_and_leaves_a_run(run):
    out, result = run
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "train 28 7 validation 12 3 query 4 4 gallery 13 5" in text
    assert "crops squeezed to 32 x 16 pixels" in text
    assert "cameras are not known" not in text
    assert "model reid-small, rows of 64; 0.03 M weights" in text
    assert "loss Siamese: all same pairs and as many of the hardest different ones" in text
    assert "2 epochs, 4 identities x 2 crops a step, and 25 % of them again off" in text
    assert text.count("single-shot rank-1") == 2
    assert "test: 4 queries, 13 pictures to search" in text
    assert "mAP, trapezoid" in text
    assert "distances of one identity 95 % within" in text
    assert {"reid.html", "calibration.json"} <= {path.name for path in out.iterdir()}


def test_the_page_shows_ranks_distances_and_queries(run):
    html = (run[0] / "reid.html").read_text(encoding="utf-8")
    titles = ("rank-1", "mAP", "Calibration", "Best queries", "Worst queries")
    drawn = ("data:image/", "Upright lines: far (solid)", "camera is passed over")
    for text in (*titles, *drawn):
        assert text in html, text


def test_evaluate_measures_the_published_test_part(copy, market):
    result = tupelo("reid", "evaluate", copy, market)
    assert result.exit_code == 0, result.output
    assert "4 queries, 13 pictures to search" in said(result)
    numbers = json.loads((copy / "evaluated" / "reid.json").read_text())
    trained = json.loads((copy / "results.json").read_text())["after"]
    assert numbers["map"] == pytest.approx(trained["map"])
    assert len(numbers["cmc"]) == 50
    assert (copy / "evaluated" / "reid.html").is_file()


def test_without_cameras_it_says_that_the_rule_is_off(copy, tmp_path):
    folder = crops.folder_of(tmp_path / "others", 4, 3)
    out = tmp_path / "scores.json"
    result = tupelo("reid", "evaluate", copy, folder, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cameras"] is False
    assert "the same-camera rule is off" in said(result)
    both = tupelo("reid", "evaluate", copy, folder, "--gallery", folder, "--out", out)
    assert "12 queries, 12 pictures to search" in said(both)


def test_other_commands_use_the_run(copy, market, tmp_path):
    rows = tmp_path / "rows.npz"
    folder = crops.folder_of(tmp_path / "others", 2, 2)
    assert tupelo("embed", copy, folder, "--out", rows).exit_code == 0
    result = tupelo("evaluate", copy, folder)
    assert result.exit_code == 0, result.output
    refused = tupelo("evaluate", copy, folder, "--part", "test")
    assert refused.exit_code == 2


def test_a_recipe_file_is_overridden(run, market, tmp_path):
    recipe = run[0] / "recipe.yaml"
    other = ["--loss", "softmax", "--loss-option", "scale=5", "--epochs", "1"]
    out = tmp_path / "again"
    result = tupelo("reid", "train", market, "--recipe", recipe, *other, "--out", out)
    assert result.exit_code == 0, result.output
    assert "loss softmax over cosines" in said(result)
    assert "off their object" not in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--validation", "1"], "--validation: input should be less than 1"),
        (["--size", "4x4"], "--size: input should be greater than or equal to 8"),
        (["--loss", "softmax", "--shifted", "0.2"], "--shifted must be 0 for --loss softmax"),
        (["--loss-option", "scale=2"], "--loss-option must be scale or learning_rate of"),
    ],
)
def test_train_refuses(market, tmp_path, arguments, message):
    result = tupelo("reid", "train", market, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in said(result)


def test_evaluate_refuses_targets_before_the_work(copy, market, tmp_path):
    folder = tupelo("reid", "evaluate", copy, market, "--out", tmp_path)
    assert "--out must be a file, got the folder" in said(folder)
    page = tmp_path / "page.html"
    same = tupelo("reid", "evaluate", copy, market, "--out", page, "--html", page)
    assert "must be two files" in said(same)


def test_report_says_where_the_page_of_the_run_is(copy):
    result = tupelo("report", copy)
    assert result.exit_code == 2
    assert "drew the page of this run" in said(result)
