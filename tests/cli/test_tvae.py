"""`tupelo tvae train` as a user types it, and other commands on its run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from .conftest import said, tupelo

QUICK = ["--epochs", "2", "--hidden", "16", "--dim", "4", "--test-triplets", "300",
         "--batch", "8", "--no-tensorboard"]  # fmt: skip


def train(*arguments: str | Path) -> Result:
    return tupelo("tvae", "train", *arguments)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "codes"
    return out, train(photos, "--out", out, *QUICK)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return Path(shutil.copytree(run[0], tmp_path / "copy"))


def test_train_says_what_it_does_and_leaves_a_run(run):
    out, result = run
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "train 16 8 2 validation 16 8 2 test 16 8 2" in text
    assert "method triplet variational autoencoder (TVAE)" in text
    assert "model mlp, 16 hidden units, codes of 4;" in text
    assert "loss 0.01 ELBO (bernoulli) + 1 triplets, margin 0.2 + 0.001 norms" in text
    assert "training 2 epochs of 16 triplets drawn once, 8 a step; Adam at rate 0.001" in text
    assert text.count("validation triplet accuracy") == 3
    assert "test: 300 triplets of 16 pictures, standard error" in text
    assert "-ELBO, nats" in text
    assert f"report {out}/report.html" in text.replace("report /", "report /")
    left = {"recipe.yaml", "results.json", "triplets.csv", "metrics.csv", "model", "report.html"}
    assert left <= {path.name for path in out.iterdir()}


def test_results_hold_scores_before_and_after(run):
    results = json.loads((run[0] / "results.json").read_text())
    assert results["kind"] == "tvae"
    assert results["part"] == "test"
    for when in ("before", "after"):
        scores = results[when]
        assert scores["n_triplets"] == 300
        assert 0 <= scores["triplet_accuracy"] <= 1
        assert scores["negative_elbo"] == pytest.approx(scores["reconstruction"] + scores["kl"])
    assert results["after"]["negative_elbo"] < results["before"]["negative_elbo"]


def test_the_list_of_triplets_is_written_once(run):
    with (run[0] / "triplets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert list(rows[0]) == ["anchor", "negative", "positive"]


def test_the_report_shows_what_the_model_draws(run):
    html = (run[0] / "report.html").read_text(encoding="utf-8")
    drawn = "Reconstructions", "Samples from the prior", "Latent traversals", "Latent means"
    for title in (*drawn, "Triplet accuracy", "-ELBO", "validation triplet accuracy was highest"):
        assert title in html, title
    assert "16 triplets drawn once, margin 0.2, trained on 16 pictures of 8 classes" in html
    assert "tupelo tvae train" in html


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Pages take most of the time of a run this small."""
    monkeypatch.setattr("tupelo.cli.tvae._draw", lambda result, screen: None)


def test_a_finished_run_is_told_again(copy, photos):
    before = (copy / "results.json").read_text()
    again = train(photos, "--out", copy, *QUICK)
    assert again.exit_code == 0, again.output
    assert "this run was finished before" in said(again)
    assert (copy / "results.json").read_text() == before


def test_a_longer_run_goes_on(copy, photos, undrawn):
    longer = [*QUICK, "--epochs", "3"]
    again = train(photos, "--out", copy, *longer)
    assert again.exit_code == 0, again.output
    assert "continuing from its last checkpoint" in said(again)
    assert json.loads((copy / "results.json").read_text())["training"]["epochs"] == 3


def test_the_recipe_of_a_run_gives_the_same_run(run, photos, tmp_path, undrawn):
    out, _ = run
    again = train(photos, "--recipe", out / "recipe.yaml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again/recipe.yaml").read_text() == (out / "recipe.yaml").read_text()
    one, other = (
        json.loads((folder / "results.json").read_text())["after"]
        for folder in (out, tmp_path / "again")
    )
    assert one == other


def test_evaluate_embed_index_and_search_take_the_run(copy, photos, tmp_path):
    found = tupelo("evaluate", copy, photos, "--part", "test")
    assert found.exit_code == 0, found.output
    assert "16 pictures of 8 classes" in said(found)
    recall = json.loads((copy / "results.json").read_text())["after"]["recall@1"]
    assert f"Recall@1 {recall:.4f}" in said(found)
    file = tmp_path / "rows.npz"
    embedded = tupelo("embed", copy, photos, "--out", file)
    assert embedded.exit_code == 0, embedded.output
    with np.load(file) as rows:
        assert rows["z"].shape == (48, 4)
        np.testing.assert_allclose(np.linalg.norm(rows["z"], axis=1), 1, rtol=1e-5)
    pytest.importorskip("lancedb")
    built = tupelo("index", copy, photos)
    assert built.exit_code == 0, built.output
    query = photos / "class3" / "0.png"
    answer = tupelo("search", copy, query)
    assert answer.exit_code == 0, answer.output
    assert "class3/0.png" in said(answer)


def test_report_draws_the_page_again(copy):
    (copy / "report.html").unlink()
    again = tupelo("report", copy)
    assert again.exit_code == 0, again.output
    html = (copy / "report.html").read_text(encoding="utf-8")
    assert "Latent means" in html
    assert "measured on 16 test pictures" in html


def test_part_of_the_classes_may_be_hidden(photos, tmp_path, undrawn):
    result = train(photos, "--out", tmp_path / "half", *QUICK, "--validation", "0", "--labelled",
                   "0.5", "--fresh", "--schedule", "cosine")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "drawn anew for every epoch, of 50 % of the pictures" in said(result)
    assert not (tmp_path / "half/triplets.csv").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--margin", "0"], "--margin: input should be greater than 0, got 0.0"),
        (["--weight-vae", "-1"], "--weight-vae: input should be greater than or equal to 0"),
        (["--dim", "0"], "--dim: input should be greater than or equal to 1, got 0"),
        (["--method", "vae", "--weight-triplet", "1"], "--weight-triplet must be 0 for --method"),
        (["--method", "triplet", "--weight-vae", "1"], "--weight-vae must be 0 for --method tri"),
        (["--weight-vae", "0", "--weight-triplet", "0"], "must be above 0, or nothing would be"),
        (["--model", "mlp", "--reconstruction", "squared"], "squared needs --model conv"),
        (["--model", "conv", "--hidden", "5"], "--hidden is for --model mlp; leave it out"),
        (["--validation", "0.5", "--test", "0.5"], "their sum must be below 1, got 0.5 and 0.5"),
        (["--patience", "2", "--validation", "0"], "--patience needs a validation part"),
        (["--model", "conv", "--size", "40"], "multiple of 16, these have 40; give --size 32"),
    ],
)
def test_options_that_cannot_be_are_refused(photos, tmp_path, options, text):
    result = train(photos, "--out", tmp_path / "none", *options)
    assert result.exit_code == 2
    assert text in said(result)


def test_a_run_of_another_command_is_not_overwritten(trained, photos):
    result = train(photos, "--out", trained[0], *QUICK)
    assert result.exit_code == 2
    assert "holds a run of another command; give another folder" in said(result)


def test_another_recipe_is_not_trained_into_a_run(copy, photos):
    result = train(photos, "--out", copy, *QUICK, "--margin", "1")
    assert result.exit_code == 2
    assert "holds another run: margin was 0.2, is 1.0" in said(result)
