"""A known data set by its name through the commands: a small In-Shop tree, its gallery searched."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tupelo.cli import app

QUICK = ["--steps", "2", "--classes", "2", "--per-class", "2", "--dim", "8", "--no-tensorboard"]


def tupelo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    """Output as one line, without the borders of panels."""
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Data sets: an In-Shop of ten items, the last of which has queries but nothing to find."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    parts = {item: ["train"] * 3 for item in range(1, 6)}
    parts |= {item: ["query", "gallery", "query", "gallery"] for item in range(6, 10)}
    for item, each in {**parts, 10: ["query"]}.items():
        for number, part in enumerate(each):
            name = f"img/WOMEN/Tees/id_{item:08}/{number:02}_1_front.jpg"
            path = root / "inshop" / "Img" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
            rows.append((name.ljust(70), f"id_{item:08}".ljust(16), part))
    text = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    text += "".join(" ".join(row) + "\n" for row in rows)
    (root / "inshop" / "Eval").mkdir()
    (root / "inshop" / "Eval" / "list_eval_partition.txt").write_text(text)
    return root


@pytest.fixture(autouse=True)
def elsewhere(root, tmp_path, monkeypatch):
    """Every command runs in another folder."""
    monkeypatch.setenv("TUPELO_DATA", str(root))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> tuple[Path, Result]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUPELO_DATA", str(root))
        out = tmp_path_factory.mktemp("runs") / "shop"
        return out, tupelo("train", "known:inshop", "--out", out, "--validation", "0", *QUICK)


def test_queries_search_the_gallery_as_counted_by_hand(trained, tmp_path):
    run, result = trained
    assert result.exit_code == 0, result.output
    assert "source: known:inshop" in (run / "recipe.yaml").read_text()
    scores = json.loads((run / "results.json").read_text())["after"]
    assert (scores["n_queries"], scores["n_gallery"], scores["n_unmatched"]) == (9, 8, 1)
    assert "1 without a match are left out" in said(result)

    assert tupelo("embed", run, "known:inshop", "--out", tmp_path / "all.npz").exit_code == 0
    with np.load(tmp_path / "all.npz") as file:
        z, paths, labels = file["z"], file["paths"].tolist(), file["labels"]
    # numbers 0 and 2 of items 6 to 9 are the queries, 1 and 3 the gallery
    number = np.array([int(Path(path).name[:2]) for path in paths])
    item = np.array([int(label.removeprefix("id_")) for label in labels])
    query = np.flatnonzero((item > 5) & (item < 10) & (number % 2 == 0))
    gallery = np.flatnonzero((item > 5) & (number % 2 == 1))
    first = gallery[(z[query] @ z[gallery].T).argmax(axis=1)]
    assert scores["recall@1"] == pytest.approx((item[first] == item[query]).mean())

    assert "nmi" not in scores  # as evaluate: clusters of queries alone are no measure of a search
    told = said(tupelo("evaluate", run, "known:inshop", "--part", "test"))
    assert "NMI" not in told
    assert f"Recall@1 {scores['recall@1']:.4f}" in told
    assert "9 queries in a gallery of 8; 1 without a match are left out" in told
    assert "too good" not in told


def test_a_run_is_used_from_any_folder(trained):
    run, _ = trained
    repeated = tupelo("train", "known:inshop", "--out", run, "--validation", "0", *QUICK)
    assert "this run was finished before" in said(repeated)
    (run / "report.html").unlink()
    assert tupelo("report", run).exit_code == 0
    assert "9 queries searched a gallery of 8 pictures" in said_by(run / "report.html")


def said_by(page: Path) -> str:
    return " ".join(page.read_text(encoding="utf-8").split())


def test_pictures_that_trained_are_told(trained, root, tmp_path, monkeypatch):
    run, _ = trained
    for source in ("known:inshop", root / "inshop", root / "inshop" / "."):
        assert "these scores are too good" in said(tupelo("evaluate", run, source))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("TUPELO_DATA", str(tmp_path / "data"))
    assert "too good" not in said(tupelo("evaluate", run, root / "inshop"))


def test_its_files_are_indexed_and_asked(trained, root, tmp_path):
    run, _ = trained
    index = tmp_path / "index"
    assert tupelo("index", run, "known:inshop", "--out", index).exit_code == 0
    asked = tupelo("search", run, "known:inshop", "--index", index, "-k", "1", "--json")
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.output)
    assert len(str(found)) > 0
    path = root / "inshop" / "Img" / "img" / "WOMEN" / "Tees" / "id_00000006" / "00_1_front.jpg"
    assert str(path) in asked.output
