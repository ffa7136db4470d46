"""The commands as a user types them, on tiny generated folders."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tupelo.recipes import retrieval

from .conftest import QUICK, said, tupelo


def test_train_says_what_it_does_and_leaves_a_run(trained, photos):
    out, result = trained
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "train 24 4 6" in text
    assert "validation 12 2 6" in text
    assert "test 12 2 6" in text
    assert "convnet, 0.4 M weights, from random weights, to 8 dimensions" in text
    assert "margin, positives easiest, negatives distance-weighted" in text
    assert "validation MAP@R" in text
    assert "score before training after change" in text
    assert "test: 12 pictures of 2 classes, none of which trained" in text
    assert "nearest neighbours after training" in text
    assert text.count("✓") + text.count("✗") == 10
    assert f"tupelo evaluate {out}" in text
    left = {"recipe.yaml", "results.json", "metrics.csv", "bad_items.csv", "checkpoint", "model"}
    assert left <= {path.name for path in out.iterdir()}
    results = json.loads((out / "results.json").read_text())
    assert results["part"] == "test"
    assert results["before"]["n_queries"] == results["after"]["n_queries"] == 12
    assert results["training"]["steps"] == 2


def test_the_recipe_of_a_run_gives_the_same_run(trained, photos, tmp_path):
    out, _ = trained
    again = tupelo("train", photos, "--recipe", out / "recipe.yaml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again/recipe.yaml").read_text() == (out / "recipe.yaml").read_text()
    first, second = (
        json.loads((folder / "results.json").read_text()) for folder in (out, tmp_path / "again")
    )
    assert first["after"] == second["after"]
    assert first["found"] == second["found"]


def test_a_finished_command_repeated_reports_its_results(trained, photos):
    out, first = trained
    before = (out / "model/model.safetensors").stat().st_mtime_ns
    again = tupelo("train", photos, "--out", out, *QUICK)
    assert again.exit_code == 0, again.output
    assert "this run was finished before" in said(again)
    assert (out / "model/model.safetensors").stat().st_mtime_ns == before
    table = first.output[first.output.index("score ") : first.output.index("run directory")]
    assert table in again.output


def test_a_run_is_continued_with_more_steps(trained, photos, tmp_path):
    out = tmp_path / "longer"
    shutil.copytree(trained[0], out)
    result = tupelo("train", photos, "--out", out, *QUICK, "--steps", "3")
    assert result.exit_code == 0, result.output
    assert "continuing from its last checkpoint" in said(result)
    assert json.loads((out / "results.json").read_text())["training"]["steps"] == 3


def test_a_run_of_another_recipe_is_not_overwritten(trained, photos):
    out, _ = trained
    result = tupelo("train", photos, "--out", out, *QUICK, "--dim", "9")
    assert result.exit_code == 2
    assert "holds another run: dim was 8, is 9" in said(result)
    assert "Traceback" not in result.output


def test_a_command_that_could_not_begin_may_be_corrected(photos, tmp_path):
    out = tmp_path / "run"
    first = tupelo("train", photos, "--out", out, *QUICK, "--classes", "99")
    assert first.exit_code == 2
    second = tupelo("train", photos, "--out", out, *QUICK)
    assert second.exit_code == 0, second.output


def test_tags_in_a_table(photos, tmp_path):
    rows = [
        f"photos/class{name}/{number}.png,t{name % 3}|u{number % 3}"
        for name in range(8)
        for number in range(6)
    ]
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "tags.csv").write_text("\n".join(["file,tags", *rows]))
    columns = ["--column", "path=file", "--column", "label=tags"]
    out = tmp_path / "run"
    result = tupelo(
        "train", tmp_path / "tags.csv", "--out", out, *columns, "--split", "items", *QUICK
    )
    assert result.exit_code == 0, result.output
    assert tupelo("evaluate", out, tmp_path / "tags.csv").exit_code == 0  # columns of the recipe
    refused = tupelo(
        "train", tmp_path / "tags.csv", "--out", tmp_path / "x", *columns, "--split", "items",
        *QUICK, "--loss", "softmax",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "needs one label a picture" in said(refused)


def test_options_override_the_file(trained, photos, tmp_path):
    out, _ = trained
    recipe = out / "recipe.yaml"
    result = tupelo(
        "train", photos, "--recipe", recipe, "--out", tmp_path / "r", "--loss", "arcface"
    )
    assert result.exit_code == 0, result.output
    written = yaml.safe_load((tmp_path / "r/recipe.yaml").read_text())
    assert (written["loss"], written["positives"], written["negatives"]) == ("arcface", None, None)
    assert written["steps"] == 2


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("multi-similarity", ["--positives", "easiest"]),
        ("triplet", ["--positives", "hardest", "--negatives", "hardest", "--memory", "16"]),
        ("n-pair", []),
        ("proxy-anchor", []),
    ],
)
def test_other_losses_train(photos, tmp_path, loss, more):
    out = tmp_path / "run"
    result = tupelo("train", photos, "--out", out, *QUICK, "--steps", "1", "--loss", loss, *more)
    assert result.exit_code == 0, result.output
    assert f"objective {loss}" in said(result)


def test_without_validation_and_test_there_is_nothing_to_compare(photos, tmp_path):
    bare = ["--validation", "0", "--test", "0"]
    result = tupelo("train", photos, "--out", tmp_path / "run", *QUICK, *bare)
    assert result.exit_code == 0, result.output
    assert "no validation part: the weights of the last step are kept" in said(result)
    assert "before training" not in result.output


def test_bad_pictures_are_counted_and_listed(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "class0/broken.png").write_bytes(b"not a picture")
    refused = tupelo("train", folder, "--out", tmp_path / "a", *QUICK)
    assert refused.exit_code == 2
    assert "1 of 49 pictures cannot be used" in said(refused)
    assert "broken.png" in (tmp_path / "a/bad_items.csv").read_text()
    allowed = tupelo("train", folder, "--out", tmp_path / "b", *QUICK, "--allow-bad", "0.1")
    assert allowed.exit_code == 0, allowed.output
    assert "left out 1 (" in said(allowed)
    assert "broken.png" in (tmp_path / "b/bad_items.csv").read_text()


def test_evaluate(trained, photos):
    out, _ = trained
    result = tupelo("evaluate", out, photos)
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "48 pictures of 8 classes" in text
    assert "MAP@R" in text
    assert "48 queries in a gallery of 48" in text
    assert "these scores are too good; --part test" in text


def test_evaluate_the_test_part_gives_the_scores_of_the_run(trained, photos):
    out, _ = trained
    result = tupelo("evaluate", out, photos, "--part", "test")
    expected = json.loads((out / "results.json").read_text())["after"]
    assert f"MAP@R {expected['map@r']:.4f}" in said(result)
    assert "too good" not in said(result)


def test_evaluate_with_other_numbers_of_neighbours(trained, photos):
    result = tupelo("evaluate", trained[0], photos, "--part", "test", "--ks", "100, 1,5")
    assert result.exit_code == 0, result.output
    assert re.findall(r"Recall@(\d+) (\d\.\d{4})", said(result))[2] == ("100", "1.0000")
    assert re.findall(r"Recall@(\d+)", said(result)) == ["1", "5", "100"]


def test_evaluate_against_a_gallery(trained, photos):
    result = tupelo("evaluate", trained[0], photos, "--gallery", photos)
    assert result.exit_code == 0, result.output
    assert "Recall@1 1.0000" in said(result)  # each picture finds itself in the other set


def test_embed(trained, photos, tmp_path):
    result = tupelo("embed", trained[0], photos, "--out", tmp_path / "z.npz")
    assert result.exit_code == 0, result.output
    assert "48 unit rows of 8 numbers" in said(result)
    with np.load(tmp_path / "z.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(np.linalg.norm(stored["z"], axis=1), 1, rtol=1e-5)
        pairs = sorted(zip(stored["paths"].tolist(), stored["labels"].tolist(), strict=True))
    assert pairs[0] == ("class0/0.png", "class0")


def test_embed_as_parquet(trained, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `tables`")
    result = tupelo("embed", trained[0], photos, "--out", tmp_path / "z.parquet")
    assert result.exit_code == 0, result.output
    table = parquet.read_table(tmp_path / "z.parquet")
    assert table.column_names == ["path", "label", "z"]
    assert len(table["z"][0].as_py()) == 8


def refusals(photos: Path, run: Path, tmp: Path) -> dict[str, tuple[list[str | Path], str]]:
    train = ["train", photos, "--out", tmp / "never"]
    return {
        "no such source": (["train", tmp / "nowhere", "--out", tmp / "x"], "does not exist"),
        "out within source": (
            ["train", photos, "--out", photos / "run", *QUICK],
            "must not lie in the source",
        ),
        "unknown backbone": ([*train, "--backbone", "resnett18"], "did you mean resnet18"),
        "range": ([*train, "--per-class", "1"], "--per-class: input should be greater"),
        "two mistakes": ([*train, "--dim", "0", "--lr", "-1"], "--lr: input should be greater"),
        "positives of a class loss": (
            [*train, "--loss", "arcface", "--positives", "easiest"],
            "compares pictures with a learned row per class, so there are no positives to choose",
        ),
        "bad recipe": ([*train, "--recipe", tmp / "none.yaml"], "cannot be read: No such file"),
        "column": ([*train, "--column", "path"], "--column must be NAME=YOURS"),
        "too many classes": ([*train, *QUICK, "--classes", "99"], "hold 4 classes"),
        "no run": (["evaluate", tmp, photos], "holds no run"),
        "part": (["evaluate", run, photos, "--part", "best"], "--part must be all, train"),
        "ks": (["evaluate", run, photos, "--ks", "1;10"], "--ks must be whole numbers of at least"),
        "no neighbour": (["evaluate", run, photos, "--ks", "0,1"], "such as 1,10,100, got '0,1'"),
        "target": (["embed", run, photos, "--out", "z.csv"], "must end in .npz or .parquet"),
    }


@pytest.mark.parametrize("name", list(refusals(Path(), Path(), Path())))
def test_refusals_are_one_panel_with_exit_code_2(name, trained, photos, tmp_path):
    arguments, reason = refusals(photos, trained[0], tmp_path)[name]
    result = tupelo(*arguments)
    assert result.exit_code == 2, result.output
    assert reason in said(result)
    assert "Traceback" not in result.output
    assert result.output.count("╭") == 1
    shutil.rmtree(photos / "run", ignore_errors=True)


def test_debug_shows_where_an_error_came_from(tmp_path):
    result = tupelo("train", tmp_path / "nowhere", "--out", tmp_path / "x", "--debug")
    assert type(result.exception).__name__ == "DataError"


def test_an_empty_part_is_refused(trained, photos, tmp_path):
    run = tmp_path / "run"
    tupelo("train", photos, "--out", run, *QUICK, "--test", "0")
    result = tupelo("evaluate", run, photos, "--part", "test")
    assert result.exit_code == 2
    assert "--part test is empty" in said(result)


def test_an_unfinished_run_cannot_be_used_yet(photos, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    result = tupelo("embed", tmp_path, photos, "--out", tmp_path / "z.npz")
    assert result.exit_code == 2
    assert "a run that has not finished; repeat its tupelo train command" in said(result)


def test_an_interrupt_says_how_to_go_on(photos, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(retrieval, "run", interrupt)
    result = tupelo("train", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 130
    assert f"Interrupted. repeat the command to resume {tmp_path}" in said(result)


def test_version_and_help():
    assert tupelo("--version").output.startswith("tupelo 0.")
    for command in ("train", "evaluate", "embed", "demo"):
        text = tupelo(command, "--help").output
        assert "Example" in text
        assert f"tupelo {command}" in text


def test_help_loads_no_torch():
    code = (
        "import sys\nfrom tupelo.cli import app\n"
        "try:\n    app(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('TORCH' if 'torch' in sys.modules else 'QUICK')"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    assert result.stdout.endswith("QUICK\n")


def test_as_a_program_piped_into_a_file(photos, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tupelo", "train", photos, "--out", tmp_path / "run", *QUICK],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert "MAP@R" in result.stdout
