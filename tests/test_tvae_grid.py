"""The grid of `benchmarks/tvae.py`: what is chosen as ours, what the notebook's meter shows."""

import pytest

from results import Page
from tvae import CANDIDATES, PARTS, SEEDS, as_logged, chosen, key_of, rows_of, write
from tvae_cells import Plan

FIRST, SECOND, *_ = CANDIDATES


def page_of(folder, scores: dict[str, tuple[float, float]]) -> Page:
    page = Page("tvae", "TVAE", folder)
    found = dict.fromkeys(CANDIDATES, (0.5, 200.0)) | scores
    for name, (accuracy, elbo) in found.items():
        page.numbers["cells"][f"mnist/choosing/{name}/0"] = cell(accuracy, elbo)
    return page


def cell(accuracy: float, elbo: float) -> dict:
    names = "reconstruction", "kl", "train accuracy", "as logged", "recall@1", "training seconds"
    rest = dict.fromkeys(names, 1.0)
    return {"accuracy": accuracy, "negative elbo": elbo, "sweeps": [accuracy]} | rest


def test_the_best_that_rebuilds_no_worse_than_tvae_is_chosen(tmp_path):
    page = page_of(tmp_path, {"TVAE": (0.94, 110.0), FIRST: (0.96, 109.0), SECOND: (0.99, 111.0)})
    assert chosen(page) == (FIRST, True)
    assert rows_of(page, "digits")["ours"] == CANDIDATES[FIRST]


def test_where_none_does_that_which_rebuilds_best_is_taken_and_said(tmp_path):
    page = page_of(tmp_path, {"TVAE": (0.94, 100.0), FIRST: (0.96, 109.0), SECOND: (0.99, 111.0)})
    assert chosen(page) == (FIRST, False)


def test_nothing_is_chosen_before_all_are_measured(tmp_path):
    page = page_of(tmp_path, {})
    assert chosen(page) is None
    assert "ours" not in rows_of(page, "digits")


def test_a_page_is_written_of_what_there_is(tmp_path):
    page = page_of(tmp_path, {"TVAE": (0.94, 110.0), FIRST: (0.96, 109.0)})
    plan = PARTS["digits"][0]
    for seed in SEEDS:
        for name in ("VAE", "TVAE", "ours"):
            page.numbers["cells"][key_of(page, plan, name, seed)] = cell(0.9 + 0.01 * seed, 110.0)
    write(page)
    page.write("command", SEEDS)
    text = page.path.with_suffix(".md").read_text()
    assert "| ours | 91.00 ± 1.00 | 110.00 ± 0.00 |" in text
    assert f"{FIRST} (chosen)" in text
    assert "Fashion-MNIST" not in text


def test_the_meter_of_the_notebook_mixes_training_and_test_triplets():
    plan = Plan(triplets=60_000, judged=10_000)
    assert as_logged(plan, 0.98, 0.94, 6) == pytest.approx(0.96)
    assert as_logged(plan, 0.98, 0.94, 0) == 0.98
