"""`tupelo fewshot` as a user types it, on tiny generated folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from .conftest import said, tupelo

QUICK = ["--ways", "2", "--steps", "4", "--evaluate-every", "2", "--width", "4",
         "--validation-episodes", "10", "--test-episodes", "20", "--no-tensorboard"]  # fmt: skip


def fewshot(*arguments: str | Path) -> Result:
    return tupelo("fewshot", *arguments)


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    """Twelve classes of eight grey pictures, each class of its own brightness."""
    folder = tmp_path_factory.mktemp("pictures") / "letters"
    rng = np.random.default_rng(0)
    for name in range(12):
        (folder / f"class{name:02}").mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(20 * name, 20 * name + 30, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name:02}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(letters, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "few"
    return out, fewshot("train", letters, "--out", out, *QUICK)


@pytest.fixture
def support(letters, tmp_path) -> Path:
    """Three classes with one, two and three pictures."""
    for count, name in enumerate(("class01", "class05", "class09"), 1):
        (tmp_path / "support" / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(letters / name / f"{number}.png", tmp_path / "support" / name)
    return tmp_path / "support"


def test_train_says_what_it_does_and_leaves_a_run(run):
    out, result = run
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "train 64 8 8 validation 16 2 8 test 16 2 8" in text
    assert "method prototypical network (PN), euclidean" in text
    assert "conv4, 4 channels" in text
    assert "tasks 2-way 1-shot, 7 queries a class; 10 episodes choose, 20 judge" in text
    assert (
        "training 4 steps of 1 episode, 8-way 1-shot, 5 queries a class; Adam from rate 0.001, "
        "halved every 2,000 steps" in text
    )
    assert text.count("validation") >= 3
    assert "step 2 " in text
    assert "step 4 " in text
    assert "best validation" in text
    assert "test: 20 episodes of classes that did not train, 2-way 1-shot" in text
    assert "before training after change" in text
    assert "expected calibration error" in text
    assert f"tupelo fewshot classify {out}" in text
    assert f"report {out}/report.html" in text
    left = {"recipe.yaml", "results.json", "calibration.json", "metrics.csv", "model"}
    assert left <= {path.name for path in out.iterdir()}


def test_the_recipe_of_a_run_gives_the_same_run(run, letters, tmp_path):
    out, _ = run
    again = fewshot("train", letters, "--recipe", out / "recipe.yaml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again/recipe.yaml").read_text() == (out / "recipe.yaml").read_text()
    first, second = (
        json.loads((folder / "results.json").read_text())["after"]
        for folder in (out, tmp_path / "again")
    )
    assert first["accuracy"] == second["accuracy"]
    assert first["reliability"] == second["reliability"]


def test_a_finished_command_repeated_reports_its_results(run, letters):
    out, first = run
    again = fewshot("train", letters, "--out", out, *QUICK)
    assert again.exit_code == 0, again.output
    assert "this run was finished before" in said(again)
    table = said(first).partition("after change")[2].partition("run directory")[0]
    assert table
    assert table in said(again)


def test_a_run_is_continued_with_more_steps(run, letters, tmp_path):
    out = tmp_path / "longer"
    shutil.copytree(run[0], out)
    result = fewshot("train", letters, "--out", out, *QUICK, "--steps", "6")
    assert result.exit_code == 0, result.output
    assert "continuing from its last checkpoint" in said(result)
    assert json.loads((out / "results.json").read_text())["training"]["steps"] == 6


@pytest.mark.parametrize("method", ["l-pn", "matching", "gnn", "l-gnn"])
def test_every_method_trains(letters, tmp_path, method):
    size = ["--size", "28", "--per-batch", "2"] if method.endswith("gnn") else []
    out = tmp_path / method
    result = fewshot("train", letters, "--method", method, "--out", out, *QUICK, *size)
    assert result.exit_code == 0, result.output
    text = said(result)
    assert ("triplet margin rule, weight 1" in text) == method.startswith("l-")
    judged = fewshot("evaluate", out, letters, "--episodes", "5")
    assert judged.exit_code == 0, judged.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--margin", "1"], "--margin needs --method l-pn or l-gnn, got pn"),
        (["--ways", "9"], "has 2 classes and --ways 9 needs as many"),
        (["--shots", "8"], "only 0 of 8 training classes have them; lower --shots"),
        (["--width", "0"], "--width: input should be greater than or equal to 1"),
        (["--head-option", "growth"], "--head-option must be NAME=VALUE"),
    ],
)
def test_train_refuses(letters, tmp_path, options, text):
    result = fewshot("train", letters, "--out", tmp_path / "run", *QUICK, *options)
    assert result.exit_code == 2
    assert text in said(result)
    assert "Traceback" not in result.output


def test_the_help_of_train_names_values_in_words():
    text = said(fewshot("train", "--help"))
    assert "--margin X|rule of it: a number" in text.replace("  ", " ")
    assert "typing." not in text


def test_a_run_of_another_recipe_is_not_overwritten(run, letters):
    result = fewshot("train", letters, "--out", run[0], *QUICK, "--width", "5")
    assert result.exit_code == 2
    assert "holds another run: width was 4, is 5" in said(result)


def test_known_data_sets_are_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    result = fewshot("train", "omniglot", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "no folder to read omniglot from" in said(result)


def test_evaluate_takes_the_test_part_of_its_own_pictures(run, letters):
    out, _ = run
    result = fewshot("evaluate", out, letters, "--episodes", "30", "--shots", "3")
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "16 pictures of 2 classes" in text
    assert "2-way 3-shot, 5 queries a class" in text  # as trained they were 7
    assert "(95 % interval over 30 episodes)" in text
    assert "episodes/s" in text
    told = json.loads((out / "evaluated/2-way-3-shot-test.json").read_text())
    assert (told["part"], told["ways"], told["shots"], told["episodes"]) == ("test", 2, 3, 30)
    assert 0 <= told["accuracy"] <= 1
    assert told["interval"] >= 0
    assert told["reliability"]["after"]["error"] >= 0


def test_evaluate_on_other_pictures_takes_all(run, letters, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(letters, other)
    numbers = tmp_path / "numbers.json"
    result = fewshot(
        *("evaluate", run[0], other, "--ways", "10", "--episodes", "10", "--out", numbers)
    )
    assert result.exit_code == 0, result.output
    assert "96 pictures of 12 classes" in said(result)
    assert json.loads(numbers.read_text())["part"] == "all"
    whole = fewshot("evaluate", run[0], letters, "--part", "all", "--episodes", "5")
    assert "these scores are too good" in said(whole)


def test_evaluate_refuses(run, letters):
    out, _ = run
    cases = [
        (["--ways", "3"], "the test part, whose classes the run keeps apart: an episode takes 3 c"),
        (["--ways", "3"], "lower ways, shots or queries; or give --part all"),
        (["--ways", "13", "--part", "all"], "or queries"),
        (["--ways", "0"], "ways must be at least 2, got 0"),
        (["--shots", "0"], "shots must be at least 1, got 0"),
        (["--queries", "0"], "queries must be at least 1, got 0"),
        (["--part", "tests"], "--part must be all, train, validation or test"),
        (["--episodes", "0"], "at least 1"),
    ]
    for options, text in cases:
        result = fewshot("evaluate", out, letters, *options)
        assert result.exit_code == 2
        assert text in said(result)


def test_classify_answers_with_probabilities_and_neighbours(run, support, letters):
    result = fewshot(
        *("classify", run[0], "--support", support, letters / "class05/7.png"),
        *(letters / "class09/7.png", support / "class09/0.png"),
    )
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "support 6 pictures of 3 classes, 1 to 3 each" in text
    assert "% right answers: so many were among" in text
    assert "calibration by" in text
    assert text.count("near class") == 3
    assert "is a copy of class09/0.png of the support, so its answer was known" in text


def test_classify_does_as_it_is_told(run, support, letters, tmp_path):
    page = tmp_path / "answers.html"
    result = fewshot(
        *("classify", run[0], "--support", support, letters / "class05/7.png", "--html", page),
        *("--temperature", "1", "--neighbours", "6"),
    )
    text = said(result)
    assert "temperature 1, given" in text
    assert "not calibrated" not in text
    assert "not calibrated" not in page.read_text()
    (near,) = [line for line in text.partition(" near ")[2:] if line]
    assert near.count(".png") == 6


def test_classify_marks_answers_by_folders(run, support, letters):
    (support.parent / "asked").mkdir()
    for name in ("class05", "class09"):
        shutil.copytree(letters / name, support.parent / "asked" / name)
    result = fewshot("classify", run[0], "--support", support, support.parent / "asked")
    text = said(result)
    assert "of 16 right (" in text
    assert "✓" in text


def test_classify_as_json_prints_nothing_else(run, support, letters):
    result = fewshot(
        *("classify", run[0], "--support", support, letters / "class05/7.png", "--json"),
        *("--neighbours", "2"),
    )
    told = json.loads(result.stdout)
    assert told["support"]["classes"] == {"class01": 1, "class05": 2, "class09": 3}
    (answer,) = told["results"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert len(answer["nearest"]) == 2


def test_classify_writes_a_page(run, support, letters, tmp_path):
    page = tmp_path / "answers.html"
    result = fewshot(
        *("classify", run[0], "--support", support, letters / "class05/7.png", "--html", page)
    )
    assert result.exit_code == 0, result.output
    assert f"page {page}" in said(result)
    assert "data:image" in page.read_text()


def test_classify_refuses(run, support, letters, tmp_path):
    out, _ = run
    query = letters / "class05/7.png"
    cases = [
        ([out, "--support", support, tmp_path / "none.png"], "none.png cannot be used: file not"),
        ([out, "--support", tmp_path / "no", query], "--support: source"),
        ([out, "--support", tmp_path / "no", query], "does not exist"),
        ([out, "--support", support / "class05", query], "holds no class folders"),
        ([out, "--support", support, query, "--temperature", "-1"], "temperature must be a number"),
        ([out, "--support", support, query, "--html", tmp_path], "--html must be a file"),
        ([tmp_path, "--support", support, query], "holds no run; give the folder that tupelo f"),
        ([tmp_path, "--support", support, query], "Cannot use what was saved"),
    ]
    for arguments, text in cases:
        result = fewshot("classify", *arguments)
        assert result.exit_code == 2, arguments
        assert text in said(result)
        assert "Traceback" not in result.output


def test_a_graph_network_says_how_many_classes_it_takes(letters, support, tmp_path):
    out = tmp_path / "gnn"
    options = ["--method", "gnn", "--size", "28", "--per-batch", "2", "--out", out]
    assert fewshot("train", letters, *options, *QUICK).exit_code == 0
    result = fewshot("classify", out, "--support", support, letters / "class05/7.png")
    assert result.exit_code == 2
    assert "a graph network for exactly 2 classes" in said(result)
    assert "--method pn or matching, which take any number" in said(result)
    judged = fewshot("evaluate", out, letters, "--ways", "3")
    assert "--ways 3 asks for 3" in said(judged)


def test_the_report_of_a_run_is_drawn_anew(run, letters):
    out, _ = run
    (out / "report.html").unlink()
    result = tupelo("report", out)
    assert result.exit_code == 0, result.output
    assert "few-shot report" in (out / "report.html").read_text()


def test_commands_for_retrieval_say_what_the_run_is(run, letters):
    result = tupelo("evaluate", run[0], letters)
    assert result.exit_code == 2
    assert "few-shot learner; tupelo fewshot evaluate and classify use it" in said(result)


def test_an_interrupt_says_how_to_go_on(letters, tmp_path, monkeypatch):
    from tupelo.recipes import fewshot as job

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run", interrupted)
    result = fewshot("train", letters, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 130
    assert f"repeat the command to resume {tmp_path / 'run'}" in said(result)
