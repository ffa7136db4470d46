"""Small pictures whose class is their brightness, and a small model for them."""

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet
from tupelo.models import VAE, mlp_vae

SIDE = 8


@pytest.fixture(scope="session")
def pictures() -> ImageSet:
    """Sixty pictures of three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = (80 * labels[:, None, None] + rng.integers(60, size=(60, SIDE, SIDE))).astype(np.uint8)
    return ImageSet.from_arrays(pixels, labels)


@pytest.fixture
def model() -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mlp_vae(dim=3, hidden=16, size=SIDE)
