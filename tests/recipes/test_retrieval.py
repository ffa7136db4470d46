"""The recipe of the retrieval job, called from Python; the commands are tested in tests/cli."""

from datetime import datetime

import numpy as np
import pytest
import torch
from PIL import Image

import tupelo
from tupelo.data import ImageSet
from tupelo.inference import Embeddings
from tupelo.models import embedder
from tupelo.recipes import digits, retrieval
from tupelo.recipes.places import surroundings
from tupelo.recipes.recipe import RetrievalRecipe


def test_neighbours_of_tags_are_right_when_one_is_shared():
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=1)
    tags = [{"red"}, {"red", "big"}, {"big"}]
    pictures = ImageSet.from_arrays(np.zeros((3, 4, 4), np.uint8), tags, paths=["a", "b", "c"])
    embedded = Embeddings(z, pictures.labels, torch.arange(3), pictures.paths)
    first = next(f for f in retrieval.neighbours(pictures, None, (embedded,)) if f.label == "red")
    assert (first.query, first.label, first.paths) == ("a", "red", ["b", "c"])
    assert first.labels == ["big|red", "big"]
    assert first.right == [True, False]
    assert first.similarity == pytest.approx([0.9950, 0.0], abs=1e-4)


def test_neighbours_in_a_gallery_are_matched_by_the_names_of_classes():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    queries = ImageSet.from_arrays(np.zeros((1, 4, 4), np.uint8), ["dog"], paths=["q"])
    gallery = ImageSet.from_arrays(
        np.zeros((3, 4, 4), np.uint8), ["cat", "dog", "cat"], paths=["a", "b", "c"]
    )
    embedded = [
        Embeddings(z, pictures.labels, torch.from_numpy(pictures.items), pictures.paths)
        for z, pictures in ((rows[:1], queries), (rows, gallery))
    ]
    (found,) = retrieval.neighbours(queries, gallery, tuple(embedded))
    assert found.paths == ["a", "b", "c"]
    assert found.labels == ["cat", "dog", "cat"]
    assert found.right == [False, True, False]


def test_a_gallery_is_searched_where_there_is_one():
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(8, 16, 16), dtype=np.uint8)
    queries = ImageSet.from_arrays(pixels[:3], ["u", "v", "w"])
    gallery = ImageSet.from_arrays(pixels[[0, 2, 3, 4, 1]], ["u", "w", "x", "y", "v"])
    model = embedder("convnet", dim=8, channels=1)
    watcher = retrieval.Watcher()
    report, embedded = retrieval.measure(model, queries, gallery, watcher=watcher)
    assert report.as_dict()["recall@1"] == 1.0  # each finds its own copy, whose class has its name
    assert report.as_dict()["n_gallery"] == 5
    assert [len(each.z) for each in embedded] == [3, 5]


def test_digits_are_written_once_five_for_each_side(tmp_path):
    folder = digits.write(tmp_path / "digits")
    assert {path.name for path in (folder / "train").iterdir()} == set("01234")
    assert {path.name for path in (folder / "test").iterdir()} == set("56789")
    files = sorted(folder.rglob("*.png"))
    assert len(files) == 1797
    with Image.open(files[0]) as picture:
        assert (picture.size, picture.mode) == ((digits.SIDE, digits.SIDE), "L")
    files[0].unlink()
    digits.write(folder)
    assert len(list(folder.rglob("*.png"))) == 1796  # a folder that is there is left alone


@pytest.mark.slow
def test_the_demonstration_improves_on_digits_it_never_saw(tmp_path):
    source = digits.write(tmp_path / "digits")
    recipe = RetrievalRecipe(source=str(source), **digits.OPTIONS)
    result = retrieval.run(recipe, tmp_path / "run")
    assert result.after["map@r"] > result.before["map@r"] + 0.08
    assert result.after["recall@1"] > result.before["recall@1"]


def test_the_random_state_of_the_caller_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcdef":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(256, size=(16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    before = torch.random.get_rng_state()
    recipe = RetrievalRecipe(
        source=str(tmp_path / "photos"), steps=1, classes=2, per_class=2, validation=0,
    )  # fmt: skip
    result = retrieval.run(recipe, tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert result.part == "test"
    assert not result.repeated
    assert retrieval.run(recipe, tmp_path / "run").repeated


def test_a_run_says_what_it_ran_on():
    told = surroundings()
    assert told["tupelo"] == tupelo.__version__
    assert told["torch"] == torch.__version__
    assert told["threads"] == torch.get_num_threads()
    assert datetime.fromisoformat(str(told["begun"])).tzinfo is not None
