"""Recipes of re-identification: what is read, held out, trained, calibrated and measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet, images
from tupelo.data.decode import Frame, decode
from tupelo.errors import CheckpointError, InputError
from tupelo.evaluation import reid as measured
from tupelo.models import embedder
from tupelo.objectives import Misplaced, OnClasses
from tupelo.recipes import reid, reid_calibration
from tupelo.recipes import reid_building as building
from tupelo.recipes.reading import checked
from tupelo.recipes.reid_calibration import NAME, calibrate, calibration_of, pairs_of
from tupelo.recipes.reid_judging import ByReid, best_and_worst, judge
from tupelo.recipes.reid_recipe import ReidRecipe, as_retrieval, is_reid
from tupelo.recipes.using import open_run
from tupelo.trained import load

from . import crops

QUICK = {
    "network": "reid-small",
    "size": (32, 16),
    "epochs": 2,
    "identities": 4,
    "per_identity": 2,
    "validation": 0.3,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    return crops.market(tmp_path_factory.mktemp("market"), 14, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return crops.folder_of(tmp_path_factory.mktemp("crops"), 9, 4)


@pytest.fixture(scope="module")
def trained(market, tmp_path_factory) -> reid.Result:
    out = tmp_path_factory.mktemp("runs") / "market"
    return reid.run(ReidRecipe(source=str(market), **QUICK), out)


def read(source, **changes) -> building.ReidData:
    recipe = ReidRecipe(source=str(source), **{**QUICK, **changes})
    return building.read_data(building.with_network(recipe), None, None)


def test_identities_of_market_are_held_out_and_its_test_part_is_whole(market):
    data = read(market)
    assert (data.train.n_classes, data.validation.n_classes) == (7, 3)
    assert not set(data.train.class_names) & set(data.validation.class_names)
    assert len(data.query) == 4
    assert len(data.gallery) == 4 * 3 + 1  # with the distractor, without the junk
    assert data.cameras["query"].tolist() == [1, 1, 1, 1]
    assert data.train.size == (32, 16)
    assert data.notes == ()  # the rule that the reader speaks of is kept here


def test_a_folder_has_neither_test_part_nor_cameras(folder):
    data = read(folder)
    assert (data.train.n_classes, data.validation.n_classes) == (6, 3)
    assert data.query is None
    assert set(data.cameras.values()) == {None}


def test_identities_of_one_crop_are_skipped_and_counted(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for person in ("p00", "p01"):
        for number in (1, 2, 3):
            (copy / person / f"{number}.png").unlink()
    data = read(copy)
    assert data.skipped == 2
    assert data.train.n_classes + data.validation.n_classes == 7


def test_too_few_identities_are_refused(folder, tmp_path):
    for person in range(3):
        shutil.copytree(folder / f"p0{person}", tmp_path / "three" / f"p{person}")
    with pytest.raises(InputError, match="at least 4 identities with 2 crops, two to train on"):
        read(tmp_path / "three")
    for person in range(3):
        for number in (1, 2, 3):
            (tmp_path / "three" / f"p{person}" / f"{number}.png").unlink()
    with pytest.raises(InputError, match=r"no identity of .* has 2 crops.*3 identities of 1 crop"):
        read(tmp_path / "three")


def test_crops_are_squeezed_whole(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :10], wide[:, -10:] = 255, 128
    crops._save(wide, tmp_path / "wide.png")
    for person in range(4):
        for number in range(2):
            crops._save(np.roll(wide, 7 * number, 1) // (person + 1),
                        tmp_path / "all" / f"p{person}" / f"{number}.png")  # fmt: skip
    data = read(tmp_path / "all", size=(16, 8))
    whole = decode((tmp_path / "wide.png").read_bytes(), Frame(16, 8, 3, "squash"))
    row = next(
        part.take([part.paths.index(path)])[0]
        for part in (data.train, data.validation)
        for path in part.paths
        if path.endswith("p0/0.png")
    )
    assert row.numpy().tolist() == whole.tolist()
    assert data.train.frame.resize == "squash"


def test_cameras_need_somebody_seen_by_two():
    labels = np.array([0, 0, 1, 1])
    assert building.crossing(labels, np.array([1, 1, 2, 2])) is None
    assert building.crossing(labels, np.array([1, 2, 2, 2])) is not None
    assert building.crossing(labels, None) is None


def test_a_run_leaves_what_a_tracker_needs(trained, market):
    left = {"recipe.yaml", "results.json", "metrics.csv", "calibration.json", "model"}
    assert left <= {path.name for path in trained.folder.iterdir()}
    known = reid.load_reid(trained.folder)
    assert (known.height, known.width) == (32, 16)
    assert known.far_distance == trained.calibration.far_distance
    assert known.same_distance == trained.calibration.same_distance
    z = known.model(torch.rand(2, 3, 32, 16)).z
    torch.testing.assert_close(z.norm(dim=1), torch.ones(2))
    results = json.loads((trained.folder / "results.json").read_text())
    assert results["kind"] == "reid"
    assert results["data"]["train"] == {"pictures": 28, "classes": 7}
    assert results["after"]["n_queries"] == 4
    assert results["after"]["cameras"] is True
    assert trained.after["rank-1"] >= trained.before["rank-1"] - 0.5


def test_scores_are_those_of_the_protocol(trained):
    judged = trained.judged
    names = lambda side: [side.class_names[label] for label in side.labels]  # noqa: E731
    found = measured(
        judged.query_rows, names(judged.query), judged.gallery_rows, names(judged.gallery),
        query_cameras=judged.query_cameras, gallery_cameras=judged.gallery_cameras,
    )  # fmt: skip
    assert found.map == trained.after["map"]
    assert trained.after["map_trapezoid"] <= trained.after["map"]


def test_a_finished_run_is_told_again_and_a_longer_one_goes_on(trained, market, tmp_path):
    copy = Path(shutil.copytree(trained.folder, tmp_path / "copy"))
    again = reid.run(ReidRecipe(source=str(market), **QUICK), copy)
    assert again.repeated
    assert again.after == trained.after
    assert again.calibration == trained.calibration
    longer = reid.run(ReidRecipe(source=str(market), **{**QUICK, "epochs": 3}), copy)
    assert longer.training["epochs"] == 3
    with pytest.raises(InputError, match="holds another run: loss was 'contrastive'"):
        reid.run(ReidRecipe(source=str(market), **{**QUICK, "loss": "triplet"}), copy)


def test_a_run_of_another_command_is_not_resumed(trained, market, tmp_path):
    copy = Path(shutil.copytree(trained.folder, tmp_path / "copy"))
    (copy / "recipe.yaml").write_text("source: x\nweight_triplet: 1\n")
    with pytest.raises(InputError, match="holds a run of another command"):
        reid.run(ReidRecipe(source=str(market), **QUICK), copy)


def test_other_commands_read_crops_as_the_run_did(trained, market):
    opened = open_run(trained.folder)
    assert opened.recipe.resize == "squash"
    whole = reid.evaluate(opened, str(market))
    assert whole.as_dict()["map"] == pytest.approx(trained.after["map"])
    assert is_reid({"per_identity": 4})
    assert not is_reid(as_retrieval({"source": "crops", "per_identity": 4}))


def test_other_crops_search_each_other_or_a_gallery(trained, folder):
    opened = open_run(trained.folder)
    alone = reid.evaluate(opened, str(folder))
    assert alone.report.n_queries == alone.report.n_gallery == 36
    assert not alone.report.cameras
    between = reid.evaluate(opened, str(folder), str(folder))
    assert between.report.rank(1) == 1.0  # each finds itself


@pytest.mark.parametrize("loss", ["triplet", "softmax"])
def test_other_losses_train(folder, loss, tmp_path):
    found = reid.run(ReidRecipe(source=str(folder), loss=loss, **QUICK), tmp_path / loss)
    assert found.part == "validation"
    assert np.isfinite(found.after["map"])


def test_the_objective_follows_the_recipe(folder):
    data = read(folder)
    recipe = building.resolve(
        building.with_network(ReidRecipe(source=str(folder), **QUICK)), data.train
    )
    objective = building.build_objective(recipe, data.train)
    assert isinstance(objective, Misplaced)
    batches = building.build_batches(recipe, data.train)
    assert next(len(batch) for batch in batches.epoch(0)) == 8 + 2
    assert objective.rows == 8
    plain = recipe.model_copy(update={"loss": "softmax", "shifted": 0.0})
    assert isinstance(building.build_objective(plain, data.train), OnClasses)
    assert len(building.build_batches(plain, data.train).epoch(0)[0]) == 8
    with pytest.raises(InputError, match="must be scale or learning_rate of --loss softmax, got m"):
        building.build_objective(recipe.model_copy(update={"loss_options": {"m": 1}}), data.train)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match=r"--shifted must be 0 for --loss softmax.* got 0.25"):
        checked(ReidRecipe, {"source": "crops", "loss": "softmax", "shifted": 0.25})
    with pytest.raises(InputError, match="--validation: input should be greater than 0"):
        checked(ReidRecipe, {"source": "crops", "validation": 0})


def test_the_network_decides_size_and_width():
    small = building.with_network(ReidRecipe(source="crops", network="reid-small"))
    large = building.with_network(ReidRecipe(source="crops", network="reid"))
    assert (small.size, small.dim) == ((64, 32), 64)
    assert (large.size, large.dim) == ((128, 64), 128)
    known = building.with_network(ReidRecipe(source="crops", accelerator="cpu"))
    assert known.network == "reid-small"


def test_distances_against_sorted_pairs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 80)
    rows = rng.normal(size=(12, 6))[labels] + 0.6 * rng.normal(size=(80, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = calibrate(rows, labels)
    first, second = np.triu_indices(80, 1)
    distance = 1 - (rows[first] * rows[second]).sum(1)
    same = labels[first] == labels[second]
    assert found.same_distance == pytest.approx(np.quantile(distance[same], 0.95))
    nearer = (distance[~same] < found.far_distance - 1e-9).mean()
    assert nearer <= 0.01
    assert (distance[~same] < found.far_distance + 1e-9).mean() > 0.01 - 2 / (~same).sum()
    assert (found.genuine, found.impostor) == (same.sum(), (~same).sum())


def test_few_pairs_take_the_nearest_and_say_so(caplog):
    found = calibrate(np.eye(4)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]))
    assert found.far_distance == 1.0
    assert "4 pairs of different identities cannot tell" in caplog.text


def test_pairs_of_one_kind_are_refused():
    for labels in ([0, 0], [0, 1]):
        with pytest.raises(InputError, match="pairs of the same and of different identities"):
            pairs_of(np.eye(2), np.array(labels))


def test_many_crops_are_drawn_from(monkeypatch):
    monkeypatch.setattr(reid_calibration, "COMPARED_AT_MOST", 30)
    found = pairs_of(np.tile(np.eye(2), (40, 1)), np.tile([0, 1], 40))
    assert len(found.genuine) + len(found.impostor) == 30 * 29 / 2


def test_calibrations_that_cannot_be_used_are_refused(trained, tmp_path):
    copy = Path(shutil.copytree(trained.folder, tmp_path / "copy"))
    path, text = copy / NAME, (copy / NAME).read_text()
    path.write_text(text.replace(json.loads(text)["identity"], "other"))
    with pytest.raises(CheckpointError, match="was made for other weights"):
        reid.load_reid(copy)
    for damaged in ("{", "[]", "{}", text.replace('"far_distance": ', '"far_distance": 9')):
        path.write_text(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            calibration_of(load(copy))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"has no calibration.json: the run was not made by"):
        reid.load_reid(copy)


def test_validation_in_training_is_the_same_rule(market):
    data = read(market)
    model = embedder("reid-small", size=(32, 16), dim=8)
    watcher = ByReid(data.validation, data.cameras["validation"])
    assert watcher.rule
    found = watcher(model)
    judged = judge(model, data.validation, query_cameras=data.cameras["validation"])
    assert found["map"] == pytest.approx(judged.report.map)
    assert 0 <= found["rank-1"] <= 1


def test_best_and_worst_queries_pass_over_what_the_rule_does(trained):
    judged = trained.judged
    best, worst = best_and_worst(judged, 2)
    assert len(best) == len(worst) == 2
    assert min(one.precision for one in best) >= max(one.precision for one in worst)
    for found in (*best, *worst):
        camera = judged.query_cameras[found.query]
        for row, right in zip(found.rows, found.right, strict=True):
            same = (
                judged.gallery.class_names[judged.gallery.labels[row]]
                == (judged.query.class_names[judged.query.labels[found.query]])
            )
            assert same == right
            assert not (same and judged.gallery_cameras[row] == camera)
        assert found.similarity == sorted(found.similarity, reverse=True)


def test_tags_are_no_identities(tmp_path, folder):
    rows = "\n".join(f"{p.relative_to(folder)},a|b" for p in sorted(folder.rglob("*.png")))
    table = folder / "tags.csv"
    table.write_text(f"path,label\n{rows}\n")
    try:
        tagged = images(table, split="none")
        if tagged.train.labels.ndim == 2:
            with pytest.raises(InputError, match="needs one identity a picture"):
                read(table)
    finally:
        table.unlink()


def test_sets_know_their_shape():
    assert ImageSet.from_arrays(np.zeros((2, 32, 16, 3), np.uint8), [0, 1]).size == (32, 16)
