"""A few-shot run: what it leaves, that it resumes to the bit, that others are not overwritten."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tupelo.errors import CheckpointError, InputError
from tupelo.recipes import fewshot
from tupelo.recipes import fewshot_building as building
from tupelo.recipes import fewshot_using as using
from tupelo.recipes.fewshot_measuring import embed
from tupelo.recipes.fewshot_recipe import FewShotRecipe
from tupelo.recipes.reading import checked
from tupelo.training import Progress

QUICK = {"ways": 2, "steps": 6, "evaluate_every": 2, "width": 4, "validation_episodes": 10,
         "test_episodes": 20, "tensorboard": False}  # fmt: skip


def recipe(folder: Path, **values) -> FewShotRecipe:
    return checked(FewShotRecipe, {"source": str(folder), **QUICK, **values})


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve classes of eight grey pictures, each class of its own brightness."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    rng = np.random.default_rng(0)
    for name in range(12):
        (folder / f"class{name:02}").mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(20 * name, 20 * name + 30, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name:02}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> fewshot.Result:
    return fewshot.run(recipe(photos), tmp_path_factory.mktemp("runs") / "first")


class Stopped(Exception):
    """Stands for a kill."""


class StopsAt(fewshot.Watcher):
    def __init__(self, step: int) -> None:
        self.left = step

    def training(self, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped


def test_what_a_run_leaves(trained):
    left = {"recipe.yaml", "results.json", "metrics.csv", "bad_items.csv", "checkpoint", "model",
            "calibration.json"}  # fmt: skip
    assert left <= {path.name for path in trained.folder.iterdir()}
    results = json.loads((trained.folder / "results.json").read_text())
    assert results["kind"] == "fewshot"
    assert results["part"] == "test"
    assert results["after"] == json.loads(json.dumps(trained.after))
    assert results["training"]["steps"] == 6
    assert results["data"]["test"]["classes"] == 2
    assert results["environment"]["torch"] == torch.__version__
    assert trained.after["episodes"] == 20
    assert 0 <= trained.after["accuracy"] <= 1
    assert trained.after["reliability"]["after"]["error"] >= 0
    assert len(trained.tasks) == 3


def test_the_best_weights_of_validation_are_kept(trained):
    results = json.loads((trained.folder / "results.json").read_text())
    best = results["training"]["validation"]["accuracy"]
    rows = (trained.folder / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/accuracy")
    seen = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert best == max(seen)
    assert len(seen) == 3


def test_temperatures_are_of_validation_classes(trained):
    found = fewshot.read_calibration(trained.folder)
    assert found == trained.calibration
    assert found is not None
    assert {(one.ways, one.shots) for one in found.temperatures} >= {(2, 1), (2, 5)}
    assert trained.after["temperature"] == pytest.approx(found.at(2, 1))


def test_no_temperature_sees_the_test_classes(trained, photos, tmp_path, monkeypatch):
    seen, calibrate = [], fewshot.calibrate

    def watched(head, rows, labels, layouts, **options):
        seen.append(rows)
        return calibrate(head, rows, labels, layouts, **options)

    monkeypatch.setattr(fewshot, "calibrate", watched)
    shutil.copytree(trained.folder, tmp_path / "run")
    (tmp_path / "run/calibration.json").unlink()
    again = fewshot.run(recipe(photos), tmp_path / "run")
    assert again.calibration == trained.calibration
    data = building.read_data(recipe(photos), None, None)
    model = using.open_run(trained.folder).model
    (rows,) = seen
    assert torch.equal(rows, embed(model, data.validation))
    assert not torch.allclose(rows, embed(model, data.test))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/fewshot.safetensors")


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_run_resumes_to_the_bit(trained, photos, tmp_path, step):
    out = tmp_path / "run"
    options = {"checkpoint_every": 1}
    with pytest.raises(Stopped):
        fewshot.run(recipe(photos, **options), out, StopsAt(step))
    resumed = fewshot.run(recipe(photos, **options), out)
    assert not resumed.repeated
    for name, tensor in weights(trained.folder).items():
        assert torch.equal(weights(out)[name], tensor), name
    assert resumed.after == {**trained.after, "episodes_per_second": pytest.approx(0, abs=1e9)}
    assert resumed.calibration == trained.calibration


def test_a_finished_run_repeated_computes_nothing(trained, photos):
    before = (trained.folder / "model/fewshot.safetensors").stat().st_mtime_ns
    again = fewshot.run(recipe(photos), trained.folder)
    assert again.repeated
    assert again.after == json.loads(json.dumps(trained.after))
    assert again.calibration == trained.calibration
    assert (trained.folder / "model/fewshot.safetensors").stat().st_mtime_ns == before


def test_a_longer_run_begins_as_the_shorter_did(trained, photos, tmp_path):
    out = tmp_path / "longer"
    shutil.copytree(trained.folder, out)
    longer = fewshot.run(recipe(photos, steps=8), out)
    straight = fewshot.run(recipe(photos, steps=8), tmp_path / "straight")
    assert longer.training["steps"] == 8
    assert not longer.repeated
    for name, tensor in weights(straight.folder).items():
        assert torch.equal(weights(out)[name], tensor), name


def test_more_test_episodes_are_judged_without_training(trained, photos, tmp_path):
    out = tmp_path / "judged"
    shutil.copytree(trained.folder, out)
    again = fewshot.run(recipe(photos, test_episodes=30), out)
    assert not again.repeated
    assert (again.before["episodes"], again.after["episodes"]) == (30, 30)
    assert again.training["steps"] == 6


def test_another_recipe_is_refused(trained, photos):
    with pytest.raises(InputError, match="holds another run: width was 4, is 8"):
        fewshot.run(recipe(photos, width=8), trained.folder)


def test_other_distances_of_validations_are_another_run(trained, photos):
    """Episodes are drawn between them; the recipe of the run stays what it was."""
    before = (trained.folder / "recipe.yaml").read_text()
    with pytest.raises(InputError, match="holds another run: evaluate_every was 2, is 3"):
        fewshot.run(recipe(photos, evaluate_every=3, steps=9), trained.folder)
    assert (trained.folder / "recipe.yaml").read_text() == before


def test_a_run_in_its_pictures_is_refused(photos):
    with pytest.raises(InputError, match="must not lie in the source"):
        fewshot.run(recipe(photos), photos / "class00" / "run")
    assert not (photos / "class00" / "run").exists()


def test_the_callers_random_state_stays(photos, tmp_path):
    before = torch.random.get_rng_state()
    fewshot.run(recipe(photos, steps=1), tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_validation_and_test_a_run_still_ends(photos, tmp_path):
    found = fewshot.run(recipe(photos, validation=0.0, test=0.0, steps=1), tmp_path / "run")
    assert (found.part, found.before, found.after) == ("", {}, {})
    assert found.calibration is None
    assert using.open_run(tmp_path / "run").calibration is None


def test_a_part_with_too_few_pictures_is_named(photos, tmp_path):
    with pytest.raises(InputError, match="the validation part: an episode takes 2 classes with at"):
        fewshot.run(recipe(photos, queries=9), tmp_path / "run")
    with pytest.raises(InputError, match="the test part: an episode takes 2 classes with at least"):
        fewshot.run(recipe(photos, queries=9, validation=0.0), tmp_path / "run")


def test_a_run_opens_with_all_that_belongs_to_it(trained):
    opened = using.open_run(trained.folder)
    assert opened.frame[:3] == (16, 16, 1)
    assert opened.recipe == trained.recipe
    assert opened.calibration == trained.calibration
    assert opened.fixed_ways is None


def test_damaged_temperatures_are_as_none_but_told(trained, tmp_path, caplog):
    assert fewshot.read_calibration(tmp_path) is None
    assert caplog.text == ""
    (tmp_path / "calibration.json").write_text('{"temperatures": [')
    assert fewshot.read_calibration(tmp_path) is None
    assert "calibration.json cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ([], "holds no run; give the folder that tupelo fewshot train wrote"),
        (["recipe.yaml"], "has not finished; repeat its tupelo fewshot train command"),
        (["model/model.safetensors"], "holds an embedding for retrieval"),
    ],
)
def test_folders_that_are_no_finished_run(tmp_path, files, text):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=text):
        using.open_run(tmp_path)


def test_a_model_without_the_form_of_its_pictures(trained, tmp_path):
    using.open_run(trained.folder).model.save(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="does not say how pictures are prepared"):
        using.open_run(tmp_path / "bare")
