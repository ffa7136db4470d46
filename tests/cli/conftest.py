"""A folder of tiny pictures, a run trained on it, and commands as a user types them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tupelo.cli import app

QUICK = ["--steps", "2", "--classes", "2", "--per-class", "2", "--dim", "8", "--no-tensorboard"]


def tupelo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    """Output as one line, without the borders of panels."""
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight classes of six grey pictures, each class of its own brightness."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    rng = np.random.default_rng(0)
    for name in range(8):
        (folder / f"class{name}").mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(30 * name, 30 * name + 30, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "first"
    return out, tupelo("train", photos, "--out", out, *QUICK)
