"""Recipes of papers: sound, and their commands run on miniatures of the data sets."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from tests.data.official.conftest import MADE
from typer.testing import CliRunner, Result

from tupelo.cli import app
from tupelo.cli.options import merged
from tupelo.recipes.reading import read_recipe, recipe_from
from tupelo.recipes.recipe import RetrievalRecipe

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples/papers").glob("*.yaml"))
SMALL = shlex.split(
    "--steps 2 --size 32 --no-pretrained --dim 8 --workers 0 --no-tensorboard --accelerator cpu"
)
DRAWN = {kind: ["--classes", "4"] for kind in ("n-pair", "triplets", "pairs")}
QUICK = ["hdml_npair_cub", "hdml_triplet_sop", "iaa_cars", "abe_cars", "bier_cub", "dreml_inshop"]
FEWER = {
    "abe": ["--learners", "2"],
    "bier": ["--learners", "2", "--ensemble-option", "widths=[2,6]"],
    "dreml": ["--learners", "2", "--ensemble-option", "meta_classes=2"],
}


def header(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#")]


def commands(path: Path) -> list[list[str]]:
    """The three commands of a header, as words without `tupelo`."""
    found = [line.strip() for line in header(path) if line.startswith("    tupelo ")]
    return [shlex.split(line, comments=True)[1:] for line in found]


def variants(path: Path) -> list[list[str]]:
    """Options of further rows of the paper's tables, as the header lists them."""
    return [shlex.split(line) for line in header(path) if line.startswith("    --")]


def tupelo(words: list[str]) -> Result:
    return CliRunner().invoke(app, words)


def test_each_method_has_each_data_set():
    names = {path.stem for path in FILES}
    sets = ("cars", "cub", "sop")
    assert names == {
        f"{kind}_{of}" for kind in ("hdml_npair", "hdml_triplet", "iaa") for of in sets
    } | {f"{kind}_{of}" for kind in FEWER for of in (*sets, "inshop")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_recipe_is_sound_and_its_header_whole(path):
    stated = read_recipe(path)
    recipe = recipe_from(merged(path, "known:x", {}))
    assert set(stated) <= set(RetrievalRecipe.model_fields)
    assert recipe.pretrained
    assert recipe.validation == 0  # all training classes train, as in the papers
    assert not recipe.advice
    prepare, train, evaluate = commands(path)
    name = prepare[2]
    assert prepare[:2] == ["datasets", "prepare"]
    expected = f"train known:{name} --recipe examples/papers/{path.name} --out runs/{path.stem}"
    assert " ".join(train) == expected
    assert " ".join(evaluate) == f"evaluate runs/{path.stem} known:{name} --part test"
    text = " ".join(header(path))
    assert re.search(r"Published, in %: .*R@1.* \d\d\.\d.*Not as published: .* - ", text)
    assert ("torchvision" in text) == (recipe.backbone == "googlenet" or "iaa" in path.stem)


def numbers_of_an_ensemble(recipe: RetrievalRecipe, name: str) -> None:
    """The constants of specs 3.6, 4.4 to 4.6 and 5.5."""
    options = recipe.ensemble_options
    if recipe.ensemble == "abe":
        assert (recipe.learners, recipe.dim, recipe.classes) == (8, 512, 32)
        assert recipe.batch_size == 64
        assert (options["divergence"], options["margin"]) == (1, 1)
        assert recipe.loss_options == {"margin": 1.0, "average": "pairs"}
    elif recipe.ensemble == "bier":
        assert options["widths"] == [96, 160, 256]
        assert sum(options["widths"]) == recipe.dim == 512
        assert options["diversity_weight"] * options["constraint_weight"] == pytest.approx(5)
        assert (recipe.lr, recipe.head_rate) == (1e-5, 10)
        large = name in ("bier_sop", "bier_inshop")
        assert (recipe.batch_size, recipe.steps) == ((128, 100_000) if large else (30, 20_000))
    else:
        assert recipe.dim == (recipe.learners or 0) * options["meta_classes"]
        assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("sgd", 0.01, 0)
        assert recipe.step_at == (0.5, 0.8)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_numbers_that_follow_from_each_other(path):
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "ensemble" in stated:
        drawn = {"per_class": 2} if stated["ensemble"] == "abe" else {}
        numbers_of_an_ensemble(recipe_from(merged(path, "known:x", drawn)), path.stem)
        return
    options = stated["synthesis_options"]
    if stated["synthesis"] == "iaa":
        assert stated["step_at"] == [0.4, 0.6, 0.8]
        assert options["start_after"] < stated["epochs"]
        return
    recipe = recipe_from(merged(path, "known:x", {"per_class": 2}))
    assert recipe.batch_size == (128 if stated["loss"] == "n-pair" else 120)
    assert stated["weight_decay"] == 0 < float(options["weight_decay"])
    if stated["schedule"] == "step":
        assert [round(share * stated["steps"]) for share in stated["step_at"]] == [5632, 6848]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem)
        for path in FILES
    ],
)
def test_the_three_commands_run_on_a_miniature(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUPELO_DATA", "data")
    prepare, train, evaluate = commands(path)
    MADE[prepare[2]](tmp_path / "data" / prepare[2])
    ready = tupelo([word for word in prepare if word != "--download"])
    assert ready.exit_code in (1, 2)  # a miniature is not what was published, and that is told
    recipe = recipe_from(merged(path, "known:x", {}))
    drawn = DRAWN.get(recipe.batches, ["--classes", "4", "--per-class", "2"])
    if recipe.synthesis == "iaa":
        drawn += ["--synthesis-option", "start_after=0"]
    train[train.index("--recipe") + 1] = str(path)
    small = list(SMALL)
    if recipe.ensemble != "none":
        drawn += FEWER[recipe.ensemble]
        method = f"ensemble   {recipe.ensemble}, 2 learners"
    else:
        method = f"synthesis  {recipe.synthesis}"
    if recipe.ensemble == "dreml":  # whose width follows from its meta-classes
        del small[small.index("--dim") : small.index("--dim") + 2]
    trained = tupelo([*train, *small, *drawn])
    assert trained.exit_code == 0, trained.output
    assert method in trained.output
    measured = tupelo(evaluate)
    assert measured.exit_code == 0, measured.output
    assert "MAP@R" in measured.output


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_further_rows_are_options_that_exist(path):
    found = variants(path)
    assert bool(found) == path.stem.startswith("iaa")
    for words in found:
        pairs = dict(zip(words[0::2], words[1::2], strict=True))
        options = {flag.removeprefix("--").replace("-", "_"): v for flag, v in pairs.items()}
        if text := options.pop("synthesis_option", ""):
            options["synthesis_options"] = [text]
        recipe = recipe_from(merged(path, "known:x", options))
        assert recipe.batch_size in (128, 180)


@pytest.mark.slow
def test_a_further_row_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUPELO_DATA", "data")
    MADE["cub200"](tmp_path / "data/cub200")
    path = ROOT / "examples/papers/iaa_cub.yaml"
    for place, words in enumerate(variants(path)):
        base = ["train", "known:cub200", "--recipe", str(path), "--out", f"runs/{place}"]
        drawn = ["--classes", "4", "--per-class", "2"]
        result = tupelo([*base, *words, *SMALL, *drawn])
        assert result.exit_code == 0, result.output
