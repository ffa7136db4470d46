import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.errors import InputError
from tupelo.recipes.fields import to_yaml
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.recipes.reid_recipe import ReidRecipe
from tupelo.recipes.tracking_scenes import CROPS, draw_crops, read_crops


def pictures(counts: list[int], channels: int = 3) -> ImageSet:
    """Identities of as many crops as stated, every crop of a shade of its own."""
    labels = np.repeat([f"id{n}" for n in range(len(counts))], counts)
    shades = np.arange(len(labels), dtype=np.uint8)
    pixels = np.broadcast_to(shades[:, None, None, None], (len(labels), channels, 6, 4))
    return ImageSet.from_arrays(np.ascontiguousarray(pixels), labels)


def test_crops_are_drawn_by_identity():
    drawn = draw_crops(pictures([3, 1, 60, 2]), 3, seed=1)
    shades = [sorted(int(crop[0, 0, 0]) for crop in of_one) for of_one in drawn]
    assert sorted(len(each) for each in shades) == [2, 3, CROPS]
    assert [0, 1, 2] in shades
    assert [64, 65] in shades
    assert all(crop.shape == (6, 4, 3) for of_one in drawn for crop in of_one)
    again = draw_crops(pictures([3, 1, 60, 2]), 3, seed=1)
    for one, other in zip(drawn, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_grey_crops_become_rgb_and_too_few_identities_are_refused():
    assert draw_crops(pictures([2, 2], channels=1), 1)[0][0].shape == (6, 4, 3)
    with pytest.raises(InputError, match=r"with 2 crops or more, got 1; give more.*--walkers 1"):
        draw_crops(pictures([2, 1]), 2)


@pytest.fixture
def folder(tmp_path):
    """Ten identities of two crops of 20 x 10 pixels, each of a shade of its own."""
    for identity in range(10):
        (tmp_path / "people" / f"id{identity}").mkdir(parents=True)
        for number in range(2):
            shade = 20 * identity + number + 10
            Image.new("RGB", (10, 20), (shade,) * 3).save(
                tmp_path / "people" / f"id{identity}" / f"{number}.png"
            )
    return tmp_path / "people"


def test_identities_that_a_run_trained_on_are_left_out(folder, tmp_path):
    run = tmp_path / "run"
    model = models.embedder("reid-small", dim=8, size=(64, 32)).eval()
    models.save(model, run, about={"pictures": Frame(64, 32, 3, "squash")._asdict()})
    with pytest.raises(InputError, match="does not say which identities trained"):
        read_crops(str(folder), 2, unseen_by=run, allow_bad=1.0)
    whole = RetrievalRecipe(source=str(folder), split="classes", validation=0, test=0)
    (run / "recipe.yaml").write_text(to_yaml(whole))
    with pytest.raises(InputError, match="trained on all identities of this source"):
        read_crops(str(folder), 2, unseen_by=run, allow_bad=1.0)
    recipe = ReidRecipe(source=str(folder), network="reid-small", validation=0.3, seed=4)
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    unseen = read_crops(str(folder), 3, unseen_by=run)
    assert all(crop.shape == (64, 32, 3) for of_one in unseen for crop in of_one)
    held_out = {int(of_one[0][0, 0, 0]) // 20 for of_one in unseen}
    assert len(held_out) == 3
    with pytest.raises(InputError, match="needs as many identities"):
        read_crops(str(folder), 4, unseen_by=run)
    every = read_crops(str(folder), 10)
    assert all(crop.shape == (20, 10, 3) for of_one in every for crop in of_one)


def test_torch_state_is_left_alone(folder):
    before = torch.random.get_rng_state()
    read_crops(str(folder), 2)
    assert torch.equal(before, torch.random.get_rng_state())
