import numpy as np
import pytest
import torch

import tupelo
from tupelo import models
from tupelo.data.decode import Frame
from tupelo.errors import CheckpointError
from tupelo.recipes import crop_embedding
from tupelo.recipes.crop_embedding import CropEmbedder, open_embedder
from tupelo.tracking.crops import cut


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.embedder("convnet", dim=8, size=16).eval()


BOXES = np.array([[5.0, 5, 20, 20], [200, 0, 9, 9], [-5, 30, 16, 16], [40.2, 20.7, 10, 30]])


def test_rows_are_those_of_the_crops_and_nan_where_nothing_is_seen(picture, model):
    embed = CropEmbedder(model, Frame(16, 16, 3))
    found = embed(picture, BOXES)
    assert found.dtype == np.float32
    assert np.isnan(found[1]).all()
    seen = [0, 2, 3]
    assert np.linalg.norm(found[seen], axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    crops, _ = cut(picture, BOXES[seen], 16, 16)
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = model(pixels).z.numpy()
    assert 1 - (found[seen] * expected).sum(axis=1) == pytest.approx(np.zeros(3), abs=2e-3)


def test_no_box_no_row(picture, model):
    assert CropEmbedder(model, Frame(16, 16, 3))(picture, np.zeros((0, 4))).shape == (0, 8)
    outside = CropEmbedder(model, Frame(16, 16, 3))(picture, BOXES[1:2])
    assert outside.shape == (1, 8)
    assert np.isnan(outside).all()


def test_batches_of_any_size_give_the_same_rows(picture, model, monkeypatch):
    embed = CropEmbedder(model, Frame(16, 16, 3))
    whole = embed(picture, BOXES)
    monkeypatch.setattr(crop_embedding, "AT_ONCE", 2 * 16 * 16)
    np.testing.assert_allclose(embed(picture, BOXES), whole, atol=5e-3)


def test_a_network_in_training_is_used_without_training(picture, model):
    model.train()
    embed = CropEmbedder(model, Frame(16, 16, 3))
    assert np.array_equal(embed(picture, BOXES), embed(picture, BOXES), equal_nan=True)
    assert model.training


def test_grey_networks_see_grey(picture):
    grey = models.embedder("convnet", dim=8, size=16, channels=1).eval()
    embed = CropEmbedder(grey, Frame(16, 16, 1))
    shades = np.repeat((picture @ np.array([299, 587, 114]) / 1000)[..., None], 3, axis=2)
    np.testing.assert_allclose(
        embed(picture, BOXES), embed(shades.round().astype(np.uint8), BOXES), atol=0.03
    )


def test_a_run_is_opened_as_it_was_saved(picture, model, tmp_path):
    frame = Frame(16, 16, 3)
    models.save(model, tmp_path / "run", about={"pictures": frame._asdict()})
    opened = open_embedder(tmp_path / "run")
    assert opened.far_distance is None
    assert opened.same_distance is None
    expected = CropEmbedder(tupelo.load(tmp_path / "run").model, frame)(picture, BOXES)
    assert np.array_equal(opened.embed(picture, BOXES), expected, equal_nan=True)
    with pytest.raises(CheckpointError, match="holds no run"):
        open_embedder(tmp_path / "other")
