"""An ensemble is one ONNX graph that answers as the model does."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tupelo import export
from tupelo.data.decode import Frame
from tupelo.inference import rows_of, scales_of
from tupelo.models import attentive, divided, embedder, load, many_heads, members, save
from tupelo.trained import Trained


def single(dim: int = 12):
    return embedder("convnet", dim=dim, channels=1, size=28)


MADE = {
    "attention": lambda: attentive(single(), learners=3),
    "heads": lambda: many_heads(single(), learners=3),
    "divided": lambda: divided(single(), learners=3),
    "divided-official": lambda: divided(single(), [2, 4, 6], scale="official"),
    "members": lambda: members([single(4), single(4), single(4)]),
}


@pytest.mark.parametrize("kind", list(MADE))
def test_one_graph_within_1e_4(kind, tmp_path: Path):
    torch.manual_seed(0)
    model = MADE[kind]()
    with torch.no_grad():
        for _ in range(4):  # statistics of batch normalisation become those of pictures
            model.train()(torch.rand(16, 1, 28, 28))
    model = load(save(model, tmp_path / "model"))
    trained = Trained(model, Frame(28, 28, 1, "crop"), tmp_path)
    written = export.onnx(trained, tmp_path / "m.onnx", check=True)
    assert written.agreement is not None
    graph = onnx.load(written.path)
    assert [one.name for one in graph.graph.output] == ["embedding"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    session = onnxruntime.InferenceSession(written.path)
    (answer,) = session.run(None, {session.get_inputs()[0].name: pixels})
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        expected = rows_of(model(images), scales_of(model))
    assert answer.shape == (5, 12)
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-4)
    # not merely alike because all pictures are: rows differ by more than the tolerance
    assert np.abs(answer - answer[:1]).max() > 1e-2
