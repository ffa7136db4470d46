"""A user's pictures: any number of classes and of pictures of each, and what is wrong with them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo.data.decode import Frame
from tupelo.errors import DataError, InputError
from tupelo.fewshot import (
    Calibration,
    FewShot,
    GraphHead,
    Layout,
    Prototypical,
    Temperature,
    conv4,
)
from tupelo.recipes import fewshot_classifying as job
from tupelo.recipes import fewshot_using as using
from tupelo.recipes.fewshot import Watcher
from tupelo.recipes.fewshot_measuring import measure

SIDE = 16
TABLE = Calibration((Temperature(3, 1, 0.5, 0.8, 0.2, 0.1, 10), Temperature(3, 4, 2.0, 0.9, 0.2,
                     0.1, 10)))  # fmt: skip


@pytest.fixture(scope="module")
def opened() -> using.Opened:
    """A learner as it was initialised: brightness alone tells these classes apart."""
    torch.manual_seed(0)
    model = FewShot(conv4(width=8, size=SIDE), Prototypical()).eval()
    return using.Opened(model, Frame(SIDE, SIDE, 1), None, TABLE)


def draw(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for picture in range(count):
            pixels = rng.integers(80 * number, 80 * number + 20, (SIDE, SIDE), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{picture}.png")
    return folder


@pytest.fixture
def support(tmp_path) -> Path:
    return draw(tmp_path / "support", {"dark": 1, "grey": 4, "light": 2})


@pytest.fixture
def queries(tmp_path) -> Path:
    return draw(tmp_path / "queries", {"dark": 2, "grey": 2, "light": 2}, seed=1)


def answers(opened, support, asked, **options) -> job.Answers:
    known = job.read_support(opened, str(support))
    return job.classified(
        opened, known, job.read_queries(opened, [str(each) for each in asked]), **options
    )


def test_classes_of_any_number_of_pictures(opened, support, queries):
    found = answers(opened, support, [queries])
    assert found.support.counts == {"dark": 1, "grey": 4, "light": 2}
    assert found.queries.labels == ("dark", "dark", "grey", "grey", "light", "light")
    assert found.right == [True] * 6
    for place, label in enumerate(found.queries.labels):
        ranked = found.ranked(place)
        assert ranked[0][0] == label
        assert sum(p for _, p in ranked) == pytest.approx(1, abs=1e-5)
        nearest = found.near(place)[0][0]
        names = found.support.pictures.class_names
        assert names[int(found.support.pictures.labels[nearest])] == label


def test_pictures_files_and_folders_of_files(opened, support, queries):
    flat = queries.parent / "flat"
    shutil.copytree(queries / "grey", flat)
    found = answers(opened, support, [queries / "dark/0.png", flat, queries / "light/1.png"])
    paths = found.queries.pictures.paths
    assert [Path(path).name for path in paths] == ["0.png", "1.png", "0.png", "1.png"]
    assert str(queries / "dark/0.png") in paths
    assert str(flat / "0.png") in paths
    assert found.right == [None] * 4
    by_path = {path: found.ranked(place)[0][0] for place, path in enumerate(paths)}
    assert by_path[str(queries / "dark/0.png")] == "dark"
    assert by_path[str(flat / "1.png")] == "grey"


def test_labels_that_are_no_class_of_the_support_are_not_judged(opened, support, queries):
    (queries / "dark").rename(queries / "purple")
    found = answers(opened, support, [queries])
    assert sorted(map(str, found.right)) == ["None", "None", "True", "True", "True", "True"]


def test_the_temperature_is_that_for_so_many_pictures(opened, support, queries):
    found = answers(opened, support, [queries])
    assert found.temperature == pytest.approx(TABLE.at(3, 7 / 3))
    assert found.fitted is TABLE.near(3, 7 / 3)
    given = answers(opened, support, [queries], temperature=9.0)
    assert (given.temperature, given.fitted, given.given) == (9.0, None, True)
    sure = found.classified.probabilities.amax(1)
    assert (sure > given.classified.probabilities.amax(1)).all()


def test_without_calibration_the_temperature_is_1(opened, support, queries):
    found = answers(opened._replace(calibration=None), support, [queries])
    assert (found.temperature, found.fitted, found.given) == (1.0, None, False)


def test_copies_of_the_support_are_told(opened, support, queries):
    shutil.copy(support / "grey/2.png", queries / "grey/copy.png")
    found = answers(opened, support, [queries])
    told = dict(zip(found.queries.pictures.paths, found.copies, strict=True))
    assert told[str(queries / "grey/copy.png")] == "grey/2.png"
    assert sum(map(bool, found.copies)) == 1


def test_json_says_it_all(opened, support, queries):
    (queries / "dark/broken.png").write_bytes(b"\x89PNG")
    found = answers(opened, support, [queries], neighbours=2)
    told = json.loads(json.dumps(found.as_json()))
    assert told["support"]["classes"] == {"dark": 1, "grey": 4, "light": 2}
    assert told["measure"] == "distance"
    assert len(told["results"]) == 6
    (first, *_) = told["results"]
    assert set(first["probabilities"]) == {"dark", "grey", "light"}
    assert first["answer"] == next(iter(first["probabilities"]))
    assert len(first["nearest"]) == 2
    assert first["nearest"][0]["closeness"] <= first["nearest"][1]["closeness"]
    assert [each["path"] for each in told["left_out"]] == ["dark/broken.png"]


def test_damaged_pictures_are_left_out_while_a_class_keeps_one(opened, support, queries):
    (support / "grey/0.png").write_bytes(b"")
    found = answers(opened, support, [queries, queries / "none.png"])
    assert found.support.counts["grey"] == 3
    assert [(each.path, each.reason) for each in found.support.bad] == [
        ("grey/0.png", "empty file")
    ]
    assert [each.reason for each in found.queries.bad] == ["file not found"]


@pytest.mark.parametrize("content", [b"", None])
def test_a_class_without_a_usable_picture_is_refused(opened, support, content):
    (support / "dark/0.png").unlink()
    if content is not None:
        (support / "dark/0.png").write_bytes(content)
    reason = r" \(dark/0.png: empty file\)" if content is not None else ""
    with pytest.raises(DataError, match=f"class dark has no usable picture{reason}; give one"):
        job.read_support(opened, str(support))


def test_one_class_is_refused(opened, tmp_path):
    folder = draw(tmp_path / "one", {"dark": 3})
    with pytest.raises(InputError, match="has one class, dark, and an answer needs at least two"):
        job.read_support(opened, str(folder))


def test_a_support_without_class_folders_is_refused(opened, tmp_path):
    folder = draw(tmp_path / "flat", {"": 3})
    with pytest.raises(DataError, match=r"--support: .*flat holds no class folders"):
        job.read_support(opened, str(folder))


def test_queries_of_which_none_can_be_read(opened, support, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(
        DataError,
        match=r"none.png cannot be used: file not found; .*notes.txt cannot be used: not an image",
    ):
        job.read_queries(opened, [str(tmp_path / "none.png"), str(tmp_path / "notes.txt")])


@pytest.fixture(scope="module")
def graph() -> using.Opened:
    torch.manual_seed(0)
    model = FewShot(conv4(width=4, size=SIDE), GraphHead(dim=4, ways=3, growth=4)).eval()
    return using.Opened(model, Frame(SIDE, SIDE, 1), None, None)


def test_a_graph_network_answers_among_its_number_of_classes(graph, tmp_path, queries):
    folder = draw(tmp_path / "three", {"dark": 2, "grey": 2, "light": 2})
    found = answers(graph, folder, [queries])
    assert found.classified.probabilities.shape == (6, 3)
    assert found.classified.measure == "cosine similarity"


def test_a_graph_network_refuses_other_numbers_of_classes(graph, tmp_path):
    folder = draw(tmp_path / "two", {"dark": 2, "grey": 2})
    with pytest.raises(InputError) as caught:
        job.read_support(graph, str(folder))
    text = str(caught.value)
    assert "a graph network for exactly 3 classes" in text
    assert f"--support {folder} asks for 2" in text
    assert "--method pn or matching, which take any number" in text


def test_a_graph_network_refuses_unequal_numbers_of_pictures(graph, support):
    with pytest.raises(
        InputError, match=r"as many pictures of each class.*dark 1, grey 4, light 2"
    ):
        job.read_support(graph, str(support))


def test_judging_a_graph_network_by_other_ways_is_refused(graph, tmp_path):
    pictures = using.read_like(graph, str(draw(tmp_path / "p", {"a": 3, "b": 3}))).train
    with pytest.raises(InputError, match="--ways 2 asks for 2"):
        using.judged(graph, pictures, Layout(2, 1, 1), episodes=3, seed=0, watcher=Watcher())


def test_the_temperature_is_that_for_the_labelled_pictures(graph):
    rows, labels = torch.randn(15, 4), np.repeat(np.arange(3), 5)
    layout = Layout(3, 4, 1, unlabelled=3)
    found = measure(graph.model.head, rows, labels, layout, TABLE, episodes=2, seed=0)
    assert found["temperature"] == pytest.approx(TABLE.at(3, 1))


def test_a_part_that_is_not_there_is_named(opened, queries):
    data = using.read_like(opened, str(queries))
    assert using.part_of(opened, data, "all", str(queries)) == (data.train, "")
    with pytest.raises(InputError, match=r"--part test is empty: .* one; give --part all, or a"):
        using.part_of(opened, data, "test", str(queries))


def test_tasks_of_a_learner_without_a_recipe_cannot_be_shown(opened):
    with pytest.raises(InputError, match="holds no recipe that names its pictures"):
        using.tasks_of(opened, None, None)


def test_judging_counts_and_times(opened, queries):
    pictures = using.read_like(opened, str(queries)).train
    found = using.judged(opened, pictures, Layout(3, 1, 1), episodes=20, seed=0, watcher=Watcher())
    assert (found["classes"], found["episodes"], found["ways"]) == (3, 20, 3)
    assert found["accuracy"] > 0.9
    assert found["episodes_per_second"] > 0
    assert found["temperature"] == pytest.approx(0.5)
