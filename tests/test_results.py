"""Grids of benchmarks: every cell is measured once, whoever measures it."""

import importlib.util

import pytest

from results import Page

CELLS = {name: (dict, [("length", len(name))]) for name in ("a", "bc", "def")}
HAS_RAY = importlib.util.find_spec("ray") is not None
ENGINES = [
    "processes",
    pytest.param(
        "ray",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not HAS_RAY, reason="needs Ray: pip install 'tupelo[ray]'"),
            pytest.mark.filterwarnings("ignore"),  # of Ray and of sockets it leaves behind
        ],
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_grid_measures_what_is_missing(tmp_path, engine):
    page = Page("grid", "Grid", tmp_path)
    page.once("a", lambda: {"length": -1})
    page.all(CELLS, 1, engine=engine)
    stored = Page("grid", "Grid", tmp_path).numbers["cells"]
    assert {name: cell["length"] for name, cell in stored.items()} == {"a": -1, "bc": 2, "def": 3}
    assert all(cell["seconds"] >= 0 for cell in stored.values())


def test_nothing_is_started_for_a_finished_grid(tmp_path):
    page = Page("grid", "Grid", tmp_path)
    for name in CELLS:
        page.once(name, dict)
    page.all(CELLS, 2, engine="none")


def test_unknown_engines_are_refused(tmp_path):
    with pytest.raises(ValueError, match="engine must be 'processes' or 'ray', got 'threads'"):
        Page("grid", "Grid", tmp_path).all(CELLS, 2, engine="threads")
