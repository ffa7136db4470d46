"""`tupelo export`, as a user types it."""

import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from typer.testing import CliRunner, Result

from tupelo import models
from tupelo.cli import app
from tupelo.data.decode import Frame


def tupelo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("runs") / "photos"
    about = {"pictures": Frame(20, 28, 3)._asdict()}
    models.save(models.embedder("convnet", dim=8), out / "model", about=about)
    return out


def test_it_writes_into_the_run_and_says_what(run):
    result = tupelo("export", run)
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "model.onnx: 1.6 MB, float32" in text
    assert "checked against torch: rows of 12 pictures differ by at most" in text
    assert "input pictures uint8 (batch, 20, 28, 3), pixels as Pillow gives them" in text
    assert "output embedding float32 (batch, 8), unit rows" in text
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == ["batch", 8]


def test_half_precision_unchecked_elsewhere(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused = tupelo("export", run, "--fp16")
    assert refused.exit_code == 2
    assert "needs onnxruntime: pip install 'tupelo[export]'" in said(refused)
    assert not (run / "model-fp16.onnx").exists()
    result = tupelo("export", run, "--fp16", "--no-check", "--opset", "20")
    assert result.exit_code == 0, result.output
    assert "0.8 MB, float16" in said(result)
    assert "not checked against torch" in said(result)
    assert (run / "model-fp16.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "model.bin"], "path must be a file that ends in .onnx, got model.bin"),
        (["--opset", "3"], "opset must be 18 to"),
    ],
)
def test_what_cannot_be_is_told_without_a_traceback(run, arguments, message):
    result = tupelo("export", run, *arguments)
    assert result.exit_code == 2
    assert message in said(result)
    assert "Traceback" not in result.output


def test_a_folder_without_a_run(tmp_path):
    result = tupelo("export", tmp_path)
    assert result.exit_code == 2
    assert "holds no run" in said(result)
