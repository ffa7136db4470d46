"""The recipe of an autoencoder: what follows from the method, what contradicts."""

import pytest
import yaml

from tupelo.errors import InputError
from tupelo.recipes.reading import checked, recipe_from
from tupelo.recipes.tvae_recipe import TvaeRecipe, as_retrieval, is_tvae


def made(**options) -> TvaeRecipe:
    return checked(TvaeRecipe, {"source": "photos", **options})


@pytest.mark.parametrize(
    ("method", "weights"),
    [("tvae", (0.01, 1.0, 0.001)), ("vae", (0.01, 0.0, 0.0)), ("triplet", (0.0, 1.0, 0.001))],
)
def test_methods_are_weights_as_published(method, weights):
    recipe = made(method=method)
    assert (recipe.weight_vae, recipe.weight_triplet, recipe.weight_regulariser) == weights
    assert (recipe.margin, recipe.batch, recipe.epochs, recipe.lr) == (0.2, 120, 10, 1e-3)


def test_a_recipe_is_what_its_file_says():
    recipe = made(margin=1.0, weight_vae=0.02, columns={"path": "file"})
    assert checked(TvaeRecipe, yaml.safe_load(recipe.to_yaml())) == recipe


def test_other_commands_read_the_pictures_as_the_run_did():
    recipe = made(size=32, split="items", test=0.3, validation=0.1, seed=5, dim=20)
    values = yaml.safe_load(recipe.to_yaml())
    assert is_tvae(values)
    assert not is_tvae({"source": "photos", "loss": "triplet"})
    other = recipe_from(as_retrieval(values))
    assert (other.size, other.split, other.test, other.seed) == (32, "items", 0.3, 5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"margin": -1}, "--margin: input should be greater than 0, got -1"),
        ({"labelled": 0}, "--labelled: input should be greater than 0, got 0"),
        ({"test_triplets": 0}, "--test-triplets: input should be greater than or equal to 1"),
        ({"marginn": 1}, "marginn is no option of a recipe; did you mean margin"),
        ({"method": "vae", "weight_triplet": 1}, "leaves that part out, got 1; take --method tvae"),
        ({"weight_vae": 0, "weight_triplet": 0}, "or nothing would be learned"),
    ],
)
def test_what_cannot_be_is_refused_in_the_words_of_the_command_line(options, text):
    with pytest.raises(InputError, match=text):
        made(**options)
