"""`tupelo index` and `tupelo search` as a user types them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from tupelo import models
from tupelo.cli import app
from tupelo.cli.searching import SHOWN_QUERIES
from tupelo.recipes.indexing import SHEET_COLUMNS


def tupelo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    """Output as one line, without the borders of panels."""
    return " ".join(result.output.replace("│", " ").split())


def ran(*arguments: str | Path) -> str:
    result = tupelo(*arguments)
    assert result.exit_code == 0, result.output
    return said(result)


def refused(*arguments: str | Path) -> str:
    result = tupelo(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return said(result)


def write(folder: Path, classes, each=6, seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / f"class{name}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(30 * name, 30 * name + 30, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name}" / f"{number}.png")


def model(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    made = models.embedder("convnet", dim=8, size=16, channels=3)
    frame = {"height": 16, "width": 16, "channels": 3, "resize": "crop"}
    models.save(made, folder / "model", about={"pictures": frame})


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with photos/, more/, query.png and the run `run`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photos", range(5))
    write(tmp_path / "more", (2, 6), each=3, seed=1)
    shutil.copy(tmp_path / "photos/class3/2.png", tmp_path / "query.png")
    model(tmp_path / "run", 0)
    return tmp_path


@pytest.fixture
def indexed(here) -> Path:
    ran("index", "run", "photos/")
    return here


def test_index_add_delete_rebuild_and_what_is_there(here):
    text = ran("index", "run", "photos/")
    assert "run/index: 30 items, 5 labels, 8 numbers an item" in text
    assert "search is exact" in text
    assert "next tupelo search run QUERY" in text
    text = refused("index", "run", "photos/")
    assert "--add adds these pictures to it, --rebuild replaces it" in text
    text = ran("index", "run", "more", "--add")
    assert "added 6, replaced 0" in text
    assert "36 items, 6 labels" in text
    assert "added 0, replaced 6" in ran("index", "run", "./more/", "--add")
    assert "36 items" in ran("index", "run")
    text = ran("index", "run", "--delete", "more/*", "--delete", "*/class4/1.png")
    assert "deleted 7" in text
    assert "29 items" in text
    assert "29 items" in ran("index", "run", "--rebuild")
    assert "6 items" in ran("index", "run", "more", "--rebuild")
    assert "next tupelo search run QUERY --index elsewhere" in ran(
        "index", "run", "more", "--out", "elsewhere"
    )
    assert (here / "elsewhere/index.json").is_file()


def test_an_approximate_index_prints_its_recall(here):
    write(here / "many", range(8), each=40, seed=2)
    text = ran("index", "run", "many", "--approximate")
    told = json.loads((here / "run/index/index.json").read_text())["approximate"]
    assert f"recall@10 {told['recall']:.4f}, measured on 256 of its items" in text
    assert "added 6, replaced 0" in (text := ran("index", "run", "more", "--add"))
    assert "6 items came later and are compared one by one; --rebuild takes them in" in text
    text = ran("search", "run", "query.png", "-k", "3")
    assert f"326 items, approximate: recall@10 was {told['recall']:.4f} when built" in text
    assert "exact: every item was compared" in ran("search", "run", "query.png", "--exact")
    assert "came later" not in ran("index", "run", "--rebuild")
    assert "search is exact" in ran("index", "run", "--rebuild", "--exact")
    assert "exact=False needs an approximate index" in refused(
        "search", "run", "query.png", "--approximate"
    )
    text = refused("index", "run", "photos", "--rebuild", "--approximate")
    assert "needs at least 256 items, got 30" in text
    assert "326 items" in ran("index", "run")


def test_search_by_picture_shows_a_table_and_a_sheet(indexed):
    text = ran("search", "run", "query.png", "-k", "3")
    assert "query.png" in text
    assert "1 1.0000 class3 photos/class3/2.png" in text
    assert "30 items, exact: every item was compared" in text
    assert "contact sheet run/search.png" in text
    with Image.open("run/search.png") as sheet:
        assert sheet.width > 4 * 112


def test_labelled_queries_are_marked(indexed):
    result = tupelo("search", "run", "more", "query.png", "-k", "4", "--sheet", "sheets/a.png")
    assert result.exit_code == 0, result.output
    assert result.output.count("✓") + result.output.count("✗") == 6 * 4
    assert "more/class6/0.png class6" in said(result)
    assert "contact sheet sheets/a.png" in said(result)
    assert Path("sheets/a.png").is_file()
    shutil.rmtree("photos")  # neither pictures nor source are needed any more
    ran("search", "run", "query.png", "--sheet", "b.png")


def test_json_alone_is_printed(indexed):
    result = tupelo("search", "run", "query.png", "-k", "2", "--json", "--where", "label='class1'")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["items"] == 30
    (found,) = told["results"]
    assert found["query"] == "query.png"
    assert found["labels"] == ["class1", "class1"]
    assert found["exact"]
    assert len(found["similarity"]) == len(found["paths"]) == 2
    assert not Path("run/search.png").exists()
    ran("search", "run", "query.png", "--json", "--sheet", "c.png")
    assert Path("c.png").is_file()


def test_items_and_vectors_as_queries_need_no_model(indexed):
    ran("embed", "run", "more", "--out", "more.npz")
    shutil.rmtree("run/model")
    one, two = "photos/class0/1.png", "photos/class4/5.png"
    told = json.loads(ran("search", "run", "--item", one, "--item", two, "--json"))
    assert [found["query"] for found in told["results"]] == [one, two]
    assert all(found["query"] not in found["paths"] for found in told["results"])
    assert told["results"][1]["label"] == "class4"
    told = json.loads(ran("search", "run", "--vectors", "more.npz", "--json"))
    assert [found["label"] for found in told["results"]] == ["class2"] * 3 + ["class6"] * 3
    z = np.load("more.npz")["z"]
    np.save("one.npy", 5 * z[0])
    again = json.loads(ran("search", "run", "--vectors", "one.npy", "--json"))
    assert again["results"][0]["paths"] == told["results"][0]["paths"]
    assert again["results"][0]["query"] == "row 0"
    ran("search", "run", "--vectors", "one.npy")
    assert Path("run/search.png").is_file()


def test_many_queries_are_cut_on_the_screen_and_on_the_sheet(indexed):
    np.save("many.npy", np.random.default_rng(0).normal(size=(50, 8)))
    text = ran("search", "run", "--vectors", "many.npy", "-k", "2")
    assert f"and {50 - SHOWN_QUERIES} more queries; --json prints all" in text
    assert "(the first 40 queries)" in text


def test_json_is_alone_on_the_output_and_errors_are_not_there(indexed):
    result = tupelo("search", "run", "none.jpg", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "none.jpg" in result.stderr


def test_one_picture_is_added_under_its_own_path(indexed):
    shutil.copy("query.png", "odd[1].png")
    assert "added 1, replaced 0" in ran("index", "run", "odd[1].png", "--add")
    assert "photos/class0/1.png" in ran("search", "run", "--item", "photos/class0/1.png", "-k", "1")
    ran("search", "run", "--item", "odd[1].png", "--sheet", "a.png")
    assert "added 0, replaced 1" in ran("index", "run", "photos/class0/1.png", "--add")
    assert "deleted 1" in ran("index", "run", "--delete", "odd[1].png")
    assert "1 item, 0 labels" in ran("index", "run", "odd[1].png", "--out", "flat")


def test_a_sheet_is_as_wide_as_fits_and_may_fail_where_none_was_asked_for(indexed):
    ran("search", "run", "more", "-k", "30", "--sheet", "b.png")
    write(indexed / "many", range(8), each=10, seed=2)
    ran("index", "run", "many", "--out", "many.index")
    ran("search", "run", "query.png", "-k", "80", "--index", "many.index", "--sheet", "c.png")
    with Image.open("c.png") as sheet:
        assert sheet.width < (SHEET_COLUMNS + 2) * 130
    Path("run/search.png").mkdir()
    text = ran("search", "run", "query.png")
    assert "no contact sheet" in text
    assert "1 1.0000 class3" in text


def test_without_thumbnails(here):
    ran("index", "run", "photos", "--no-thumbnails")
    ran("search", "run", "query.png")
    ran("search", "run", "--item", "photos/class0/1.png")


def test_pictures_that_cannot_be_read_are_counted_and_listed(here):
    for number in range(8):
        (here / f"photos/class0/broken{number}.png").write_bytes(b"no picture")
    text = ran("index", "run", "photos", "--allow-bad", "0.5")
    assert "left out 8" in text
    assert "class0/broken0.png" in text
    assert "and 3 more" in text
    assert "30 items" in text
    assert "cannot be used" in refused("index", "run", "photos", "--rebuild")
    text = ran("search", "run", "photos", "-k", "1", "--allow-bad", "0.5")
    assert "left out 8" in text
    assert "photos/class0/broken0.png" in refused("search", "run", "photos/class0/broken0.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index", "run", "more", "--add", "--rebuild"), "give one of --add, --rebuild and"),
        (("index", "run", "--add"), "--add needs SOURCE"),
        (("index", "run", "more", "--delete", "*"), "--delete goes without SOURCE"),
        (("index", "run", "--approximate"), "--approximate goes with a new index or with"),
        (("index", "run", "more", "--add", "--approximate"), "--approximate goes with a new"),
        (("index", "run", "--exact"), "--exact goes with --rebuild alone"),
        (("index", "run", "--delete", "x*"), "no item's path matches 'x*'; the first ones are"),
        (("index", "none"), "none/index holds no index"),
        (("index", "none", "more"), "none holds no run"),
        (("search", "run"), "give one kind of query: pictures, --item PATH, or --vectors FILE"),
        (("search", "run", "query.png", "--item", "x"), "give one kind of query"),
        (("search", "run", "none.jpg"), "none.jpg"),
        (("search", "run", "query.png", "-k", "0"), "k must be at least 1, got 0"),
        (("search", "run", "query.png", "--where", "colour = 3"), "where must be a filter on the"),
        (("search", "run", "query.png", "--sheet", "a.doc"), "--sheet a.doc cannot be written"),
        (("search", "run", "query.png", "--index", "none"), "none holds no index; make one"),
        (("search", "run", "--item", "x/1.png"), "no item has the path 'x/1.png'; there are such"),
        (("search", "run", "--vectors", "none.npy"), "--vectors none.npy cannot be read as"),
        (("search", "run", "--vectors", "query.png"), "--vectors query.png cannot be read as"),
        (("search", "run", "--vectors", "cut.npz"), "--vectors cut.npz cannot be read as"),
        (("search", "run", "--vectors", "narrow.npy"), "queries must have 8 numbers a row"),
        (("search", "run", "--vectors", "other.npz"), "must hold a matrix (rows, width)"),
        (("search", "other", "query.png", "--index", "run/index"), "was built with another model"),
        (("index", "other", "more", "--out", "run/index", "--add"), "was built with another mod"),
    ],
)
def test_mistakes_are_told(indexed, arguments, message):
    model(indexed / "other", 1)
    np.save("narrow.npy", np.ones((2, 7)))
    np.savez("other.npz", rows=np.ones((2, 8)))
    Path("cut.npz").write_bytes(Path("other.npz").read_bytes()[:-30])
    assert message in refused(*arguments)
    assert "30 items" in ran("index", "run")


def test_the_how_to_runs_as_written(here, capsys):
    shutil.move("run", "runs/photos")
    shutil.copytree("photos/class0", "photos/cat")
    for file in Path("photos/cat").iterdir():
        with Image.open(file) as picture:
            picture.rotate(90).save(file.with_suffix(".jpg"))
        file.unlink()
    shutil.copy("query.png", "query.jpg")
    text = (Path(__file__).parents[2] / "docs/howto/search.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(example, "example.py", "exec"), names)
    assert "class3/2.png" in capsys.readouterr().out


def test_the_examples_of_help_run_in_order(here):
    shutil.move("run", "runs/photos")
    shutil.copy("query.png", "query.jpg")
    for command in ("index", "search"):
        info = next(each for each in app.registered_commands if each.callback.__name__ == command)
        lines = [line for line in info.epilog.split("\n\n") if line.startswith("tupelo ")]
        assert len(lines) == 5
        for line in lines:
            result = tupelo(*shlex.split(line)[1:])
            assert result.exit_code == 0, (line, result.output)
