"""What the README shows runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_python_example_runs_as_written(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for name in range(26):
        (tmp_path / "photos" / f"{name:02d}").mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(8 * name, 8 * name + 40, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{name:02d}" / f"{number}.png")
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert "MAP@R" in capsys.readouterr().out
    assert (tmp_path / "runs/photos/model/model.safetensors").is_file()


def test_the_first_commands_are_targets_of_the_makefile():
    text = README.read_text(encoding="utf-8")
    first = text[: text.index("## What it prints")]
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\$ make (\w+)", first, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert f"\n{target}:" in makefile
