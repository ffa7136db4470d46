"""What importing the package for tables loads, and that its names are real."""

import subprocess
import sys

import pytest

from tupelo import tabular

HEAVY = {"bokeh", "highspy", "numba", "polars", "pyscipopt", "torch"}


@pytest.mark.parametrize(
    "statement",
    [
        "import tupelo.tabular",
        "import tupelo.recipes.tabular, tupelo.recipes.comparing, tupelo.recipes.asking",
        "import tupelo.cli.table_screen, tupelo.report.tabular",
    ],
)
def test_nothing_heavy_is_loaded(statement):
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not set(result.stdout.split()) & HEAVY


def test_all_names_are_real():
    assert len(set(tabular.__all__)) == len(tabular.__all__)
    for name in tabular.__all__:
        assert hasattr(tabular, name), name
