"""`tupelo report`, and what `tupelo train` draws at its end."""

import builtins
import json
import shutil
from pathlib import Path

import pytest

from tupelo import report as reports
from tupelo.errors import MissingExtra
from tupelo.report import page

from .conftest import QUICK, said, tupelo


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "copy"))


def test_train_draws_its_report(trained):
    out, result = trained
    assert result.exit_code == 0, result.output
    html = (out / "report.html").read_text(encoding="utf-8")
    assert f"report {out / 'report.html'}" in said(result).replace(" /", " /")
    results = json.loads((out / "results.json").read_text())
    assert f"{results['after']['map@r']:.4f}" in html
    assert results["data"]["train"] == {"pictures": 24, "classes": 4}
    assert "on 24 pictures of 4 classes; measured on 12 test pictures of 2 classes" in html
    assert "Boundaries of the margin loss" in html
    assert html.count('class="query"') >= 6


def test_a_report_is_drawn_again_from_the_run(trained, copy):
    (copy / "report.html").unlink()
    result = tupelo("report", copy)
    assert result.exit_code == 0, result.output
    again = (copy / "report.html").read_text(encoding="utf-8")
    first = (trained[0] / "report.html").read_text(encoding="utf-8")
    titles = [
        [part.split('"')[0] for part in html.split('<li class="pic ')[1:]]
        for html in (first, again)
    ]
    assert titles[0] == titles[1]
    assert titles[0]


def test_another_part_and_file_may_be_asked_for(trained, tmp_path):
    out, _ = trained
    target = tmp_path / "new" / "page.html"
    result = tupelo("report", out, "--part", "validation", "--out", target)
    assert result.exit_code == 0, result.output
    assert "on which the best weights were chosen" in target.read_text(encoding="utf-8")


def test_a_moved_source_is_named_and_may_be_given(copy, photos, tmp_path):
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace(str(photos), str(tmp_path / "gone")))
    result = tupelo("report", copy)
    assert result.exit_code == 2
    assert "no longer at" in said(result)
    assert "give --source" in said(result)
    assert tupelo("report", copy, "--source", photos).exit_code == 0


def test_wrong_requests_are_refused(trained, tmp_path):
    out, _ = trained
    assert "--part must be train, validation or test, got all" in said(
        tupelo("report", out, "--part", "all")
    )
    assert "--out must be a file, got the folder" in said(tupelo("report", out, "--out", tmp_path))
    result = tupelo("report", tmp_path)
    assert result.exit_code == 2
    assert "holds no run" in said(result)


def test_an_unfinished_run_is_refused(copy):
    shutil.rmtree(copy / "model")
    result = tupelo("report", copy)
    assert result.exit_code == 2
    assert "has not finished; repeat its tupelo train command" in said(result)


def test_a_run_from_python_is_drawn_without_pictures(copy, photos):
    for name in ("recipe.yaml", "results.json"):
        (copy / name).unlink()
    result = tupelo("report", copy)
    assert result.exit_code == 0, result.output
    assert "no recipe names its pictures; give --source and --part" in said(result)
    assert "No pictures were given" in (copy / "report.html").read_text(encoding="utf-8")
    result = tupelo("report", copy, "--source", photos, "--part", "test")
    assert result.exit_code == 0, result.output
    assert 'id="map"' in (copy / "report.html").read_text(encoding="utf-8")


def test_a_report_that_fails_costs_no_run(photos, tmp_path, monkeypatch):
    def broken(*arguments, **more):
        raise RuntimeError("the pen is [dry]")

    monkeypatch.setattr(page, "write", broken)
    result = tupelo("train", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    assert "could not be drawn (RuntimeError: the pen is [dry]); the run itself" in said(result)
    assert (tmp_path / "run/model/model.safetensors").exists()
    assert "after" in json.loads((tmp_path / "run/results.json").read_text())

    monkeypatch.undo()
    again = tupelo("train", photos, "--out", tmp_path / "run", *QUICK)
    assert again.exit_code == 0, again.output
    assert "draws it" in said(again)
    assert not (tmp_path / "run/report.html").exists()


def test_a_repeated_run_keeps_its_report(trained, photos):
    out, _ = trained
    before = (out / "report.html").stat().st_mtime_ns
    result = tupelo("train", photos, "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    assert "report.html" in result.output
    assert (out / "report.html").stat().st_mtime_ns == before


def test_a_missing_extra_is_named_in_one_line(photos, tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *more):
        if name == "bokeh" or name.startswith("bokeh."):
            raise ImportError("no bokeh", name="bokeh")
        return whole(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    result = tupelo("train", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    assert "no report: drawing a report needs bokeh: pip install 'tupelo[report]'" in said(result)
    with pytest.raises(MissingExtra):
        reports.write(tmp_path / "run")
