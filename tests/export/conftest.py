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


def trained(backbone: str, frame: Frame, **options: object) -> Trained:
    """A model whose rows tell pictures apart, as random weights alone hardly do."""
    torch.manual_seed(0)
    model = models.embedder(backbone, dim=16, channels=frame.channels, **options)
    with torch.no_grad():
        images = torch.rand(32, frame.channels, 3, 3)
        images = torch.nn.functional.interpolate(images, frame[:2], mode="bilinear")
        for _ in range(8):  # the statistics of batch normalisation become those of pictures
            model.train()(images)
        z = model.eval()(images).raw
        model.head[-1].bias.copy_(-z.mean(dim=0))
    return Trained(model, frame, Path("runs/photos"))


@pytest.fixture(scope="session")
def make() -> Callable[..., Trained]:
    return trained


@pytest.fixture(scope="session")
def colour() -> Trained:
    return trained("convnet", Frame(20, 28, 3, "crop"))


@pytest.fixture(scope="session")
def grey() -> Trained:
    return trained("convnet", Frame(24, 24, 1, "pad"), layer_norm=True, dropout=0.3, bias=True)
