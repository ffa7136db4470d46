"""`tupelo track evaluate` as a user types it, and the group whose `run` need not be named."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tupelo.cli.track import OrRun

from .conftest import said, tupelo
from .tracked import write_tracked


@pytest.fixture
def files(tmp_path):
    write_tracked(tmp_path)
    return tmp_path


def test_each_sequence_and_both_pooled(files):
    result = tupelo("track", "evaluate", files / "results", "--truth", files / "MOT17" / "train")
    assert result.exit_code == 0, result.output
    text = said(result)
    for part in ("MOT17-02", "MOT17-04", "pooled", "rules mot17; CLEAR MOT as trackeval"):
        assert part in text
    assert text.count("0.636 0.972 0.636 0.675 0.805 0.566") == 3
    told = json.loads((files / "results" / "scores.json").read_text())
    assert told["pooled"]["GT"] == 22
    assert told["pooled"]["FP"] == 2  # results on the distractor are excused
    assert told["sequences"]["MOT17-02"]["HOTA"] == pytest.approx(0.674771, abs=5e-7)
    assert told["sequences"]["MOT17-02"]["by_alpha"]["0.95"]["TP"] == 8
    assert told["convention"] == "trackeval"


def test_one_file_as_json_by_other_rules(files):
    truth = files / "MOT17/train/MOT17-02/gt/gt.txt"
    one = files / "results/MOT17-02.txt"
    options = ("--json", "--benchmark", "plain", "--convention", "motmetrics")
    result = tupelo("track", "evaluate", one, "--truth", truth, *options, "--out", files / "a.json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == json.loads((files / "a.json").read_text())
    assert (told["pooled"]["FP"], told["pooled"]["MT"]) == (3, 2)
    assert told["sequences"]["MOT17-02"]["benchmark"] == "plain"


def test_results_without_a_truth_are_told(files):
    (files / "results" / "other.txt").write_text("1,1,1,1,5,5,1\n")
    result = tupelo("track", "evaluate", files / "results", "--truth", files / "MOT17")
    assert "results without a truth are not scored: other" in said(result)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--benchmark", "mot99"], "--benchmark must be mot16, mot17, mot20, mot15, plain, got"),
        (["--convention", "mine"], "--convention must be trackeval or motmetrics, got mine"),
        (["--only", "MOT17-99"], "has nothing for MOT17-99; it has MOT17-02, MOT17-04"),
        (["--out", "nowhere/a.json"], "must be in a folder that is there"),
    ],
)
def test_refusals_are_one_panel(files, options, told):
    result = tupelo(
        "track", "evaluate", files / "results", "--truth", files / "MOT17/train", *options
    )
    assert result.exit_code == 2
    assert told in said(result)
    assert not (files / "results" / "scores.json").exists()


def test_run_need_not_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []
    group = typer.Typer(cls=OrRun, no_args_is_help=True)

    @group.command()
    def run(sequence: str, fast: bool = False) -> None:
        ran.append((sequence, fast))

    @group.command()
    def evaluate() -> None:
        ran.append("evaluate")

    def call(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(group, list(words))
        return result.exit_code, result.output

    for words in (["here"], ["run", "here"], ["--fast", "here"], ["here", "--fast"], ["evaluate"]):
        assert call(*words)[0] == 0
    assert ran == [("here", False)] * 2 + [("here", True)] * 2 + ["evaluate"]
    code, output = call("evaluat")
    assert code == 2
    assert "Did you mean 'evaluate'" in output
    (tmp_path / "evaluat").mkdir()
    assert call("evaluat")[0] == 0
    assert ran[-1] == ("evaluat", False)
    assert "run" in call("--help")[1]
    assert "Usage" in call()[1]
