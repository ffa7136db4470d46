from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data.decode import Frame
from tupelo.trained import Trained


def picture(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, len(mode)), dtype=np.uint8).squeeze()
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def trained(backbone: str, frame: Frame, *, steps: int = 0, **options: object) -> Trained:
    """A model whose rows tell pictures apart, as random weights alone hardly do.

    Either after a few steps of training, or by centring its rows.
    """
    torch.manual_seed(0)
    model = models.embedder(backbone, dim=16, channels=frame.channels, **options)
    if steps:
        return Trained(_train(model, frame, steps).eval(), frame, Path("runs/photos"))
    with torch.no_grad():
        images = torch.rand(32, frame.channels, 3, 3)
        images = torch.nn.functional.interpolate(images, frame[:2], mode="bilinear")
        for _ in range(8):  # the statistics of batch normalisation become those of pictures
            model.train()(images)
        z = model.eval()(images).raw
        model.head[-1].bias.copy_(-z.mean(dim=0))
    return Trained(model, frame, Path("runs/photos"))


def _train(model: models.Embedder, frame: Frame, steps: int) -> models.Embedder:
    """Eight patterns, each to be found by its other noisy copy."""
    patterns = torch.rand(8, frame.channels, 5, 5).repeat(2, 1, 1, 1)
    partner = (torch.arange(16) + 8) % 16
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        noisy = 0.7 * patterns + 0.3 * torch.rand_like(patterns)
        z = model.train()(torch.nn.functional.interpolate(noisy, frame[:2], mode="bilinear")).z
        similarity = 10 * z @ z.T - 1e4 * torch.eye(16)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(similarity, partner).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="session")
def make() -> Callable[..., Trained]:
    return trained


@pytest.fixture(scope="session")
def colour() -> Trained:
    return trained("convnet", Frame(20, 28, 3, "crop"))


@pytest.fixture(scope="session")
def grey() -> Trained:
    return trained("convnet", Frame(24, 24, 1, "pad"), layer_norm=True, dropout=0.3, bias=True)
