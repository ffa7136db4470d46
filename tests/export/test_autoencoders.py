"""Autoencoders are exported as any model: pixels to unit means, without noise or decoder."""

import numpy as np
import onnxruntime
import torch

import tupelo
from tupelo import export, models
from tupelo.data.decode import Frame


def test_the_file_gives_the_unit_means(tmp_path):
    torch.manual_seed(0)
    model = models.mlp_vae(dim=5, hidden=16, size=12).eval()
    about = {"pictures": Frame(12, 12, 1)._asdict()}
    trained = tupelo.load(models.save(model, tmp_path / "run", about=about))
    written = export.onnx(trained, tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(256, size=(3, 12, 12, 1), dtype=np.uint8)
    session = onnxruntime.InferenceSession(written.path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    np.testing.assert_allclose(found, trained.embed(list(pixels[..., 0])).numpy(), atol=1e-5)
    again = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    np.testing.assert_array_equal(found, again)
