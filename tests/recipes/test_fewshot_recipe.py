"""The few-shot recipe: equal to the options, checked together, filled as published."""

import pytest
import yaml

from tupelo.cli.fewshot import merged
from tupelo.errors import InputError
from tupelo.recipes.fewshot_recipe import TITLES, FewShotRecipe, Method
from tupelo.recipes.fields import panel_of
from tupelo.recipes.reading import checked, read_recipe


def recipe(**values) -> FewShotRecipe:
    return checked(FewShotRecipe, {"source": "photos", **values})


def test_every_option_is_explained_and_grouped():
    for name, field in FewShotRecipe.model_fields.items():
        assert field.description, name
        assert panel_of(field) or name == "source"
    assert set(TITLES) == set(Method.__args__)


@pytest.mark.parametrize("method", Method.__args__)
def test_yaml_round_trip(tmp_path, method):
    made = recipe(method=method, columns={"path": "file"})
    path = tmp_path / "recipe.yaml"
    path.write_text(made.to_yaml())
    assert checked(FewShotRecipe, read_recipe(path)) == made
    assert set(yaml.safe_load(path.read_text())) == set(FewShotRecipe.model_fields)


def test_what_follows_from_the_method():
    assert recipe().similarity == "euclidean"
    assert recipe(method="matching").similarity == "cosine"
    assert recipe(method="gnn").encoder == "graph"
    assert recipe(method="pn").margin is None
    large = recipe(method="l-pn", similarity="cosine")
    assert (large.margin, large.margin_weight, large.margin_loss) == ("rule", 1.0, "triplet")
    assert recipe(method="l-gnn", margin_loss="contrastive").margin == 1.0
    assert recipe(method="gnn", answer_loss="cosface").scale == 10.0
    assert recipe(method="gnn", answer_loss="arcface").answer_margin == 0.1


def test_margins_are_numbers_or_the_rule():
    assert recipe(method="l-pn", margin="10").margin == 10.0
    assert recipe(method="l-pn", margin="rule").margin == "rule"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ways": 1}, "--ways: input should be greater than or equal to 2, got 1"),
        ({"margn": 1}, "margn is no option of a recipe; did you mean margin"),
        ({"method": "pnn"}, "--method: input should be 'pn'"),
        ({"margin": 1.0}, "--margin needs --method l-pn or l-gnn, got pn"),
        ({"method": "gnn", "margin_weight": 1.0}, "--margin-weight needs --method l-pn or l-gnn"),
        ({"method": "l-pn", "margin": "large"}, "--margin"),
        ({"method": "l-pn", "margin": -1.0}, "--margin"),
        ({"method": "l-pn", "margin_weight": -1.0}, "--margin-weight"),
        (
            {"method": "l-gnn", "margin_loss": "contrastive", "margin": "rule"},
            "--margin must be a number for --margin-loss contrastive",
        ),
        ({"similarity": "dot"}, "--similarity must be euclidean or cosine for --method pn"),
        ({"method": "matching", "similarity": "euclidean"}, "must be cosine or dot"),
        ({"method": "gnn", "similarity": "cosine"}, "whose similarities are learned"),
        ({"method": "gnn", "scale": 3.0}, "whose similarities are learned"),
        ({"answer_loss": "cosface"}, "--answer-loss cosface needs --method gnn or l-gnn"),
        (
            {"method": "gnn", "answer_margin": 0.1},
            "--answer-margin needs --answer-loss cosface or arcface",
        ),
        ({"context": True}, "--context is for --method matching"),
        ({"unlabelled": 1, "shots": 2}, "--unlabelled needs --method gnn or l-gnn"),
        ({"method": "gnn", "unlabelled": 1}, "below --shots 1"),
        ({"method": "gnn", "train_ways": 20}, "--train-ways must be --ways 5 for --method gnn"),
        ({"method": "gnn", "size": 32}, "--size must be 28 or 84 for --encoder graph"),
        ({"head_options": {"growth": 3}}, "--head-option growth is none of --method pn; it has n"),
        ({"method": "gnn", "head_options": {"grow": 3}}, "its options are variant, blocks, growth"),
        ({"method": "matching", "head_options": {"steps": 2}}, "of --context, which must be given"),
        ({"validation": 0.6, "test": 0.5}, "their sum must be below 1"),
        ({"validation": 0.0, "patience": 3}, "--patience needs a validation part"),
    ],
)
def test_contradictions_are_refused_with_the_reason(values, text):
    with pytest.raises(InputError) as caught:
        recipe(**values)
    assert text in str(caught.value)


def test_a_file_is_overridden_by_options(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("method: l-pn\nmargin: 10\nways: 20\ntrain-ways: 30\nlr: 2e-3\n")
    kept = checked(FewShotRecipe, merged(path, "photos", {"seed": 3}))
    assert (kept.method, kept.margin, kept.train_ways, kept.seed) == ("l-pn", 10.0, 30, 3)
    other = checked(FewShotRecipe, merged(path, "photos", {"method": "gnn", "ways": 5}))
    assert (other.margin, other.train_ways, other.lr) == (None, None, 2e-3)
    fewer = checked(FewShotRecipe, merged(path, "photos", {"ways": 5}))
    assert (fewer.margin, fewer.train_ways) == (10.0, None)


def test_options_of_the_head_are_overridden_one_by_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("method: gnn\nhead_options: {growth: 24, blocks: 3}\n")
    found = merged(path, "photos", {"head_options": ["growth=12"]})
    assert found["head_options"] == {"growth": 12, "blocks": 3}
