import numpy as np
import pytest

from tupelo import search
from tupelo.search import Items


def some_items(rows=600, width=24, seed=0, first=0, prefix="shop") -> Items:
    """Rows around ten centres; the label of a row is its centre."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(77).normal(size=(10, width))
    z = (centres[np.arange(rows) % 10] + rng.normal(size=(rows, width))).astype(np.float32)
    paths = [f"{prefix}/{row}.png" for row in range(first, first + rows)]
    return Items(z, paths, [f"class{row % 10}" for row in range(rows)])


@pytest.fixture(scope="session")
def items():
    return some_items()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def index(folder, items):
    return search.build(folder, items)


@pytest.fixture(scope="session")
def queries():
    return np.random.default_rng(5).normal(size=(6, 24))
