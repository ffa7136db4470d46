"""Ensembles from the command line: trained, resumed, measured, searched, exported, refused."""

import json

import numpy as np
import onnxruntime
import pytest
import yaml

from tupelo import load
from tupelo.training import read_rows

from .conftest import said, tupelo

FEW = ["--classes", "3", "--per-class", "3", "--no-tensorboard", "--log-every", "1"]
KINDS = {
    "abe": (["--learners", "4", "--dim", "16", "--loss", "contrastive"], (4, 4, 4, 4)),
    "heads": (["--learners", "2", "--dim", "8", "--ensemble-option", "divergence=1"], (4, 4)),
    "bier": (["--dim", "12", "--loss", "binomial-deviance"], (2, 4, 6)),
    "dreml": (["--learners", "2", "--ensemble-option", "meta_classes=3"], (3, 3)),
}


QUICK = ("abe", "dreml")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in KINDS],
)
def begun(request, photos, tmp_path_factory):
    options, widths = KINDS[request.param]
    words = ["--ensemble", request.param, *options]
    out = tmp_path_factory.mktemp("runs") / request.param
    result = tupelo("train", photos, "--out", out, *words, *FEW, "--epochs", 1)
    assert result.exit_code == 0, result.output
    return out, words, result, widths


def test_learners_are_said_written_and_reported(begun):
    out, _, result, widths = begun
    assert f"ensemble {out.name}, {len(widths)} learners" in said(result)
    measured = json.loads((out / "results.json").read_text())["learners"]
    assert tuple(one["width"] for one in measured["alone"]) == widths
    assert {"recall@1", "map@r", "mean_recall@1", "gap", "correlation"} <= measured.keys()
    assert ("self_cosine" in measured) == (len(set(widths)) == 1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Learners</h2>" in page
    assert f"{len(widths)} learners" in said(result)
    if out.name != "dreml":  # whose members are not watched
        columns = set().union(*read_rows(out / "metrics.csv"))
        assert {"val/mean_recall@1", "val/correlation"} <= columns


def test_the_recipe_is_written_in_full(begun):
    out, _, _, widths = begun
    written = yaml.safe_load((out / "recipe.yaml").read_text())
    assert (written["ensemble"], written["learners"]) == (out.name, len(widths))
    assert written["dim"] == sum(widths)


def test_the_model_is_the_ensemble(begun):
    assert load(begun[0]).model.learners.widths == begun[3]


def test_a_longer_run_goes_on(begun, photos):
    out, words, *_ = begun
    more = ["--epochs", 2]
    if out.name == "dreml":
        before = (out / "members/000/model/model.safetensors").read_bytes()
        words = [*words, "--learners", "3"]
        more = ["--epochs", 1]
    result = tupelo("train", photos, "--out", out, *words, *FEW, *more)
    assert result.exit_code == 0, result.output
    if out.name == "dreml":  # more members join those that are there
        assert load(out).model.learners.widths == (3, 3, 3)
        assert (out / "members/000/model/model.safetensors").read_bytes() == before
    else:
        assert "continuing from its last checkpoint" in said(result)
        assert json.loads((out / "results.json").read_text())["training"]["epochs"] == 2


def test_it_is_used_as_any_other_model(begun, photos, tmp_path):
    out = begun[0]
    dim = load(out).model.dim
    measured = tupelo("evaluate", out, photos, "--part", "test")
    assert measured.exit_code == 0, measured.output
    assert "learners by themselves" in measured.output
    assert tupelo("embed", out, photos, "--out", tmp_path / "z.npz").exit_code == 0
    z = np.load(tmp_path / "z.npz")["z"]
    assert z.shape == (48, dim)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    exported = tupelo("export", out)
    assert exported.exit_code == 0, exported.output
    assert "checked against torch" in exported.output
    session = onnxruntime.InferenceSession(out / "model.onnx")
    assert session.get_outputs()[0].shape[1] == dim


def test_it_is_indexed_and_searched(begun, photos):
    index = tupelo("index", begun[0], photos)
    assert index.exit_code == 0, index.output
    found = tupelo("search", begun[0], photos / "class3/2.png")
    assert found.exit_code == 0, found.output
    assert "class3" in found.output


@pytest.mark.slow
def test_engines_make_the_same_members(photos, tmp_path):
    options, _ = KINDS["dreml"]
    base = ["--ensemble", "dreml", *options, *FEW, "--epochs", 1]
    digests = []
    for engine in (["--engine", "sequential"], ["--engine", "processes", "--jobs", "2"]):
        out = tmp_path / engine[1]
        result = tupelo("train", photos, "--out", out, *base, *engine)
        assert result.exit_code == 0, result.output
        records = [json.loads(p.read_text()) for p in sorted(out.glob("members/*/done.json"))]
        digests.append([record["record"]["sha256"] for record in records])
    assert digests[0] == digests[1]
    again = tupelo("train", photos, "--out", tmp_path / "processes", *base)  # by another engine
    assert again.exit_code == 0, again.output
    assert "this run was finished before" in again.output


REFUSED = {
    "--learners 3": "--learners needs --ensemble heads, abe, bier or dreml",
    "--ensemble-option cut=x": "--ensemble-option needs --ensemble heads, abe, bier or dreml",
    "--ensemble abe --dim 12": "--dim must be a multiple of --learners for --ensemble abe",
    "--ensemble abe --learners 2 --ensemble-option diverg=2": "did you mean divergence?",
    "--ensemble abe --learners 2 --ensemble-option margin=far": "--ensemble-option margin: input",
    "--ensemble abe --learners 2 --ensemble-option margin=5": "--ensemble-option: margin must be",
    "--ensemble abe --learners 2 --ensemble-option cut=x": "--ensemble-option: cut must",
    "--ensemble bier --ensemble-option rul=eta": "did you mean rule?",
    "--ensemble bier --loss contrastive --ensemble-option rule=x": "--ensemble-option: rule must",
    "--ensemble bier --ensemble-option widths=[4,4] --learners 3": "--learners must be the number",
    "--ensemble bier --loss arcface": "boosting weighs pairs of pictures",
    "--ensemble bier --loss contrastive --memory 64": "a memory keeps rows of one learner",
    "--ensemble bier --loss lifted": "boosting adds up cosines of its learners; give --normalize",
    "--ensemble bier --loss contrastive --batches pairs": "--batches pairs cannot be used",
    "--ensemble bier --loss n-pair --batches n-pair": "weighs tuples by their hinge, and",
    "--ensemble abe --loss triplet --synthesis hdml": "a generator for each learner and its head",
    "--ensemble dreml --dim 64": "--dim must be left out for --ensemble dreml, or be 12 learners",
    "--ensemble dreml --loss arcface": "--loss has no effect with --ensemble dreml, whose learners",
    "--ensemble dreml --loss-option margin=0.1": "--loss-option has no effect with --ensemble",
    "--ensemble dreml --positives random": "--positives has no effect with --ensemble dreml",
    "--ensemble dreml --batches triplets": "--batches has no effect with --ensemble dreml, whose",
    "--ensemble dreml --jobs 2": "--jobs 2 needs --engine processes or ray",
    "--ensemble dreml --patience 2": "--patience cannot be used with --ensemble dreml",
    "--ensemble dreml --ensemble-option metaclasses=4": "did you mean meta_classes?",
    "--ensemble dreml --ensemble-option meta_classes=1": "meta_classes must be at least 2",
    "--ensemble abe --engine processes": "--engine, --jobs and --threads need",
    "--batches pairs --loss triplet": "each batch is drawn as pairs, for --loss contrastive,",
}


@pytest.mark.parametrize("words", list(REFUSED))
def test_refused_with_the_reason(words, photos, tmp_path):
    options = [*FEW[:4], "--steps", "1", "--no-tensorboard", *words.split()]
    result = tupelo("train", photos, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2, result.output
    assert REFUSED[words] in said(result)


def test_pairs_as_published(photos, tmp_path):
    words = ["--ensemble", "abe", "--learners", "2", "--dim", "8", "--loss", "squared-contrastive"]
    words += ["--loss-option", "average=pairs", "--batches", "pairs", "--classes", "4"]
    result = tupelo("train", photos, "--out", tmp_path / "run", *words, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "batches of 4 pairs" in said(result)


def test_members_may_train_with_any_loss(photos, tmp_path):
    words = ["--ensemble", "dreml", "--learners", "2", "--loss", "triplet", "--synthesis", "iaa"]
    words += ["--ensemble-option", "learns=recipe", "--ensemble-option", "meta_classes=2"]
    words += ["--ensemble-option", "width=6"]
    result = tupelo("train", photos, "--out", tmp_path / "run", *words, *FEW, "--epochs", 2)
    assert result.exit_code == 0, result.output
    assert "objective triplet" in said(result)
    assert load(tmp_path / "run").model.learners.widths == (6, 6)


def test_another_ensemble_drops_what_belonged_to_the_first(photos, tmp_path):
    recipe = tmp_path / "abe.yaml"
    recipe.write_text("ensemble: abe\nlearners: 4\nensemble_options: {divergence: 2}\ndim: 12\n")
    words = ["--recipe", recipe, "--ensemble", "bier", "--loss", "contrastive", "--steps", 1]
    result = tupelo("train", photos, "--out", tmp_path / "run", *words, *FEW)
    assert result.exit_code == 0, result.output
    written = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert (written["learners"], written["ensemble_options"]) == (3, {})
