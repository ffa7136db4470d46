"""A run of an autoencoder as a job: what it leaves, how it resumes, what does not end it."""

import csv
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from tupelo.errors import InputError
from tupelo.recipes import tvae as job
from tupelo.recipes.tvae_recipe import TvaeRecipe
from tupelo.sections import from_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    source = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for name in range(3):
        (source / f"class{name}").mkdir(parents=True)
        for number in range(8):
            pixels = (80 * name + rng.integers(60, size=(8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(source / f"class{name}" / f"{number}.png")
    return source


def recipe(folder, **options) -> TvaeRecipe:
    small = {"epochs": 2, "hidden": 8, "dim": 3, "batch": 4, "test_triplets": 50}
    return TvaeRecipe(source=str(folder), tensorboard=False, **{**small, **options})


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> job.Result:
    return job.run(recipe(folder), tmp_path_factory.mktemp("runs") / "run")


def test_a_run_measures_before_and_after_on_the_test_part(finished):
    assert finished.part == "test"
    assert not finished.repeated
    assert finished.after != finished.before
    assert finished.embedded is not None
    assert len(finished.embedded.z) == len(finished.judged or ()) == 6
    assert {"recall@1", "triplet_accuracy", "negative_elbo", "n_ties"} <= finished.after.keys()


def test_sections_are_of_pictures_that_are_judged_with_a_latent_map(finished):
    kept = from_json(json.loads((finished.folder / "sections.json").read_text()))
    assert [section.title for section in kept][-1] == "Latent means"
    assert len(kept[-1].parts[0].x) == 6
    assert sorted(set(kept[-1].parts[0].kinds)) == ["class0", "class1", "class2"]


def test_a_repeated_run_measures_nothing_again(finished, folder, monkeypatch):
    monkeypatch.setattr(job, "measure", None)
    again = job.run(recipe(folder), finished.folder)
    assert again.repeated
    assert again.after == finished.after


def test_other_test_triplets_are_measured_without_training(finished, folder, tmp_path):
    copy = shutil.copytree(finished.folder, tmp_path / "copy")
    again = job.run(recipe(folder, test_triplets=70), copy)
    assert not again.repeated
    assert again.after["n_triplets"] == again.before["n_triplets"] == 70
    assert again.after["recall@1"] == finished.after["recall@1"]
    assert again.before["negative_elbo"] == finished.before["negative_elbo"]


def test_without_parts_to_judge_all_pictures_train(folder, tmp_path):
    result = job.run(recipe(folder, validation=0.0, test=0.0), tmp_path / "run")
    assert (result.part, result.before, result.after) == ("", {}, {})
    assert (result.folder / "model").is_dir()


def test_squared_differences_train_the_convolutional_model(folder, tmp_path):
    options = {"hidden": None, "model": "conv", "reconstruction": "squared", "size": 16}
    result = job.run(recipe(folder, **options), tmp_path / "run")
    assert result.after["reconstruction"] < result.before["reconstruction"]


def test_weights_that_order_all_triplets_early_are_not_kept_for_that(folder, tmp_path):
    """Brightness is easily told: accuracy is 1 from the first epoch on, and nothing is drawn."""
    options = {"epochs": 8, "hidden": 32, "validation": 0.3, "lr": 1e-2}
    job.run(recipe(folder, **options), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/choice"]]
    highest = max(float(row["val/accuracy"]) for row in rows)
    best = [row for row in rows if float(row["val/accuracy"]) == highest]
    lowest = min(best, key=lambda row: float(row["val/negative_elbo"]))
    kept = json.loads((tmp_path / "run" / "results.json").read_text())["training"]["validation"]
    assert len(best) > 2
    assert kept["negative_elbo"] == pytest.approx(float(lowest["val/negative_elbo"]))
    assert int(lowest["step"]) > int(best[0]["step"])


@pytest.mark.parametrize("method", ["tvae", "vae"])
def test_a_model_without_triplets_is_not_chosen_by_them(folder, tmp_path, monkeypatch, method):
    class Caught(Exception):
        pass

    def caught(*_, judge, **__):
        assert judge.best == "choice"
        assert judge.measure.by_elbo == (method == "vae")
        raise Caught

    monkeypatch.setattr(job, "fit", caught)
    with pytest.raises(Caught):
        job.run(recipe(folder, method=method), tmp_path / "run")


def test_sections_that_fail_do_not_end_the_run(folder, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(job, "sections", broken)
    with caplog.at_level(logging.WARNING, "tupelo"):
        result = job.run(recipe(folder, epochs=1), tmp_path / "run")
    assert result.after
    assert "the run keeps no sections: OSError: no space left" in caplog.text


def test_a_run_within_its_pictures_is_refused(folder):
    with pytest.raises(InputError, match="must not lie in the source"):
        job.run(recipe(folder), folder / "run")
    assert not (folder / "run").exists()
