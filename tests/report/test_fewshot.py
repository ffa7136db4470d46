"""Pages of few-shot runs and answers: what they show, that names stay text, that they are whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tupelo.data import BadItem, ImageSet
from tupelo.errors import InputError
from tupelo.fewshot import Temperature, classify, reliability
from tupelo.fewshot.prototypical import Prototypical
from tupelo.recipes.fewshot_classifying import Answers, Queries, Support
from tupelo.recipes.fewshot_measuring import Task
from tupelo.report import fewshot as pages
from tupelo.report.reliability import diagram

HOSTILE = ["<script>alert(7*7)</script>", 'a"onload="x', "{{ 7 * 7 }}", "]]>&amp;"]
METRICS = """\
step,epoch,lr,loss,gradient,accuracy,images_per_second,val/accuracy,val/interval
2,1,0.001,2.0,3.0,0.3,100,0.5,0.02
4,2,0.001,1.0,2.0,0.6,100,0.9,0.02
6,3,0.0005,0.9,2.0,0.7,100,0.8,0.02
"""
RECIPE = "source: /photos\nmethod: l-pn\nencoder: conv4\nrotations: true\nways: 2\nseed: 5\n"


def told(error: float) -> dict:
    share = [0.0] * 14 + [1.0]
    return {"error": error, "confidence": share, "accuracy": share, "share": share}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "my few"
    folder.mkdir()
    score = {"ways": 2, "shots": 1, "episodes": 1000, "interval": 0.004}
    results = {
        "kind": "fewshot",
        "part": "test",
        "data": {
            "train": {"pictures": 4000, "classes": 200},
            "test": {"pictures": 24, "classes": 4},
        },
        "before": {**score, "accuracy": 0.41234},
        "after": {
            **score,
            "accuracy": 0.98765,
            "temperature": 1.5,
            "reliability": {"before": told(0.21), "after": told(0.012)},
        },
        "training": {"steps": 6, "seconds": 83.2, "stopped": "finished"},
        "environment": {"torch": "2.6"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "recipe.yaml").write_text(RECIPE)
    entry = {"ways": 2, "shots": 1, "temperature": 1.5, "accuracy": 0.9, "before": 0.2,
             "after": 0.01, "episodes": 200}  # fmt: skip
    (folder / "calibration.json").write_text(json.dumps({"temperatures": [entry]}))
    return folder


def task(classes: list[int]) -> Task:
    """The second query of the first class is answered wrongly."""
    rows = np.array([[6 * each] for each in classes])
    answers = np.array([[0, 1], [1, 1]])
    return Task(rows, rows + np.array([1, 2]), answers, np.full((2, 2), 0.8))


def test_a_run_in_numbers_curves_and_recipe(run, opened):
    page = opened(pages.of_run(run))
    assert page.text.startswith("Tupelo few-shot report my few") or "my few" in page.text
    assert "L-PN) on conv4, trained on 4,000 pictures of 200 classes, turned ones" in page.text
    assert "1,000 2-way 1-shot episodes of 4 test classes, none of which trained" in page.text
    assert "98.77 %" in page.text
    assert "41.23 %" in page.text
    assert "1 min 23 s" in page.text
    assert "step 4, where validation accuracy was highest" in page.text
    assert "Expected calibration error 21.0 %." in page.text
    assert "Expected calibration error 1.2 %." in page.text
    assert "method: l-pn" in page.text
    assert "tupelo fewshot train /photos --recipe" in page.text
    assert "Tasks" not in page.text


def test_tasks_show_their_pictures_and_which_answers_are_wrong(run, opened, pictures):
    page = opened(pages.of_run(run, pictures, [task([0, 1]), task([2, 3])]))
    shown = page.having(class_="pic right") + page.having(class_="pic wrong")
    assert len(shown) == 8
    assert len(page.having(class_="pic wrong")) == 2
    assert "✗ 80 % bee" in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * (2 + 4)
    assert all(str(each["src"]).startswith("data:image/") for each in images)


def test_pages_ask_nothing_of_the_network(run, opened, pictures):
    page = opened(pages.of_run(run, pictures, [task([0, 1])]))
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href") and value
    ]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    anchors = {value[1:] for value in links if value.startswith("#")}
    assert anchors <= {attributes.get("id") for _, attributes in page.tags}


def test_an_unfinished_run_says_so(run, opened):
    results = json.loads((run / "results.json").read_text())
    del results["after"], results["training"]
    (run / "results.json").write_text(json.dumps(results))
    (run / "calibration.json").unlink()
    page = opened(pages.of_run(run))
    assert "The run has not finished" in page.text
    assert "Calibration" not in page.text


def test_scores_of_validation_classes_are_marked(run, opened):
    results = json.loads((run / "results.json").read_text()) | {"part": "validation"}
    (run / "results.json").write_text(json.dumps(results))
    assert "somewhat too good; the run had no test classes" in opened(pages.of_run(run)).text


def test_another_place_for_the_page(run, tmp_path):
    assert pages.of_run(run, out=tmp_path / "page.html") == tmp_path / "page.html"
    assert not (run / "report.html").exists()


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        pages.of_run(tmp_path)


def answers(names: list[str], labels: list[str], *, fitted: Temperature | None) -> Answers:
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(len(names), 8, 8), dtype=np.uint8)
    known = ImageSet.from_arrays(pixels, names, paths=[f"{name}/p.png" for name in names])
    n = len(labels)
    paths = [f"q/{place}.png" for place in range(n)]
    asked = ImageSet.from_arrays(pixels[:n], [0] * n, paths=paths)
    rows = torch.from_numpy(rng.normal(size=(len(names), 4))).float()
    found = classify(
        Prototypical(), rows, torch.from_numpy(known.labels), rows[: len(labels)], neighbours=3
    )
    support = Support("shop/", known, rows, (BadItem("cat/x.png", "empty file"),))
    queries = Queries(asked, tuple(labels), rows[: len(labels)], ())
    t, copies = 2.0 if fitted else 1.0, ("",) * len(labels)
    return Answers(support, queries, found, t, fitted, copies, given=False)


FITTED = Temperature(5, 1, 2.0, 0.87, 0.2, 0.03, 100)


def test_answers_show_probabilities_and_neighbours(tmp_path, opened):
    found = answers(["cat", "cat", "dog", "eel"], ["cat", "", "eel"], fitted=FITTED)
    page = opened(pages.of_answers(found, tmp_path / "page.html", run="few"))
    assert "3 pictures among 3 classes" in page.text
    assert "Answered by few from 4 pictures in shop/" in page.text
    assert "87.0 %" in page.text
    assert "without temperature 20.0 %" in page.text
    assert "1 of 2, by the names of their folders" in page.text
    assert page.text.count("really eel") == 1
    assert len(page.having(class_="neighbours")) == 3
    assert "Euclidean distance" in page.text
    assert "cat/x.png: empty file" in page.text
    for place in range(3):
        for name, p in found.ranked(place):
            assert f"{100 * p:.1f} %" in page.text, name
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 3 * 3 + 4


def test_answers_without_calibration_are_marked(tmp_path, opened):
    found = answers(["cat", "dog"], [""], fitted=None)
    page = opened(pages.of_answers(found, tmp_path / "page.html"))
    assert "probabilities are not calibrated" in page.text
    page = opened(pages.of_answers(replace(found, given=True), tmp_path / "given.html"))
    assert "probabilities are not calibrated" not in page.text


def test_many_classes_and_pictures_are_cut_and_counted(tmp_path, opened, monkeypatch):
    names = [f"class{place:02}" for place in range(30)]
    found = answers(names, [""] * 30, fitted=FITTED)
    monkeypatch.setattr(pages, "QUERIES", 4)
    page = opened(pages.of_answers(found, tmp_path / "page.html"))
    assert "26 more pictures were answered; --json prints all" in page.text
    assert page.text.count("25 other classes share") == 4


def test_hostile_names_stay_text(tmp_path, run, opened):
    found = answers([*HOSTILE, "fine"], [HOSTILE[0], ""], fitted=FITTED)
    page = opened(pages.of_answers(found, tmp_path / "page.html", run=HOSTILE[0]))
    known = found.support.pictures
    (run / "recipe.yaml").write_text(RECIPE + 'columns: {"<script>": x}\n')
    other = opened(pages.of_run(run, known, [task([0, 0])][:0]))
    for each in (page, other):
        assert "49" not in each.text.split()
        assert not [name for _, attributes in each.tags for name in attributes if name[:2] == "on"]
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text


def test_a_diagram_says_what_it_shows():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.1, 0.0], [0.0, 3.0]])
    found = reliability(torch.softmax(logits, 1), torch.tensor([0, 0, 1, 1]))
    drawn = diagram(
        {"error": found.error, "confidence": found.confidence, "accuracy": found.accuracy,
         "share": found.share},
        "Calibrated",
    )  # fmt: skip
    assert drawn.title == "Calibrated"
    assert "88% sure, 100% right" in drawn.alt
    assert "52% sure, 0% right" in drawn.alt
    assert f"{100 * found.error:.1f} %" in drawn.note
