"""Small runs written by hand: pictures with embeddings, and the files of a run."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet
from tupelo.inference import Embeddings

SCORES = {
    "recall@1": 0.75, "recall@2": 0.8, "precision@1": 0.75, "r_precision": 0.5, "map@r": 0.4321,
    "mrr": 0.9, "n_queries": 24, "n_gallery": 24, "n_unmatched": 0, "collapsed": False,
    "nmi": 0.6, "nmi_std": 0.0123,
}  # fmt: skip
METRICS = """\
step,epoch,lr,loss,pulled,gradient,active,images_per_second,val/map@r,val/recall@1,val/n_queries
10,0,0.001,0.9,0.5,2.0,1.0,100.0,,,
20,1,0.0005,0.7,0.4,1.5,0.9,101.0,0.2,0.3,8
30,1,0.0002,nan,0.3,inf,0.8,99.0,,,
40,2,0.0001,0.5,0.2,1.0,0.7,100.5,0.5,0.6,8
50,3,0.0,0.4,0.1,0.9,0.6,100.5,0.45,0.7,8
"""
RECIPE = "source: photos\nbackbone: convnet\ndim: 8\nloss: margin\npositives: easiest\nseed: 3\n"


def _embedded(pictures: ImageSet, z: np.ndarray) -> Embeddings:
    rows = torch.nn.functional.normalize(torch.from_numpy(np.asarray(z, np.float32)), dim=1)
    return Embeddings(rows, pictures.labels, torch.arange(len(rows)), pictures.paths)


def _around_classes(labels: np.ndarray, spread: float, seed: int = 0, dim: int = 6) -> np.ndarray:
    """Rows near a centre for each class, so that some are taken for others."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(int(labels.max()) + 1, dim))
    return centres[labels] + rng.normal(scale=spread, size=(len(labels), dim))


def _grey(labels, n: int | None = None, side: int = 8, **more) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(n or len(labels), side, side), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, labels, **more)


@pytest.fixture
def grey():
    """Makes small grey pictures with given labels."""
    return _grey


@pytest.fixture
def embedded():
    """Makes embeddings of pictures from rows of any length."""
    return _embedded


@pytest.fixture
def around_classes():
    """Makes rows near a centre for each class."""
    return _around_classes


@pytest.fixture(scope="session")
def pictures() -> ImageSet:
    """Six pictures of each of four classes."""
    names = np.repeat(["ant", "bee", "cat", "dog"], 6)
    return _grey(names, paths=[f"{name}/{row}.png" for row, name in enumerate(names)])


@pytest.fixture(scope="session")
def vague(pictures) -> Embeddings:
    """Embeddings that confuse some classes."""
    return _embedded(pictures, _around_classes(pictures.labels, 1.2))


def _run(parent: Path) -> Path:
    folder = parent / "my run"
    folder.mkdir()
    before = SCORES | {"map@r": 0.1, "recall@1": 0.8}
    results = {
        "part": "test",
        "data": {
            "train": {"pictures": 100, "classes": 7},
            "test": {"pictures": 24, "classes": 4},
            "shared_classes": False,
        },
        "before": before,
        "after": SCORES,
        "training": {"epochs": 3, "steps": 50, "seconds": 83.2, "stopped": "finished"},
        "environment": {"torch": "2.6", "begun": "2026-01-02T03:04:05+00:00"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "sections.json").write_text("[]")
    (folder / "bad_items.csv").write_text(
        "path,reason\na.png,truncated: 3 bytes\nb.png,truncated: 9 bytes\nc.png,no picture\n"
    )
    return folder


@pytest.fixture(scope="session")
def make_run() -> Callable[[Path], Path]:
    """Writes all files of a run but the model into a new folder."""
    return _run


@pytest.fixture
def run(tmp_path) -> Path:
    """All files of a run but the model."""
    return _run(tmp_path)


class Page(HTMLParser):
    """What a browser would see, less what scripts draw."""

    def __init__(self, path: Path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._ignored = 0
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._ignored += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._ignored -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._ignored:
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def having(self, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            found
            for _, found in self.tags
            if all(found.get(name) == value for name, value in wanted.items())
        ]


@pytest.fixture(scope="session")
def opened() -> Callable[[Path], Page]:
    return Page
