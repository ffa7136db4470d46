import numpy as np
import pytest
import torch
from torch import nn

from tupelo.data import ImageSet
from tupelo.losses import Contrastive
from tupelo.models import embedder
from tupelo.objectives import Memory, OnPairs
from tupelo.training import Settings


@pytest.fixture
def pictures():
    """A function that makes classes of similar 8 x 8 pictures."""

    def make(classes=4, each=6, seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.integers(60, 196, size=(classes, 1, 8, 8))
        noise = rng.integers(-60, 60, size=(classes, each, 8, 8))
        pixels = (centres + noise).astype(np.uint8).reshape(-1, 8, 8)
        return ImageSet.from_arrays(pixels, np.repeat(np.arange(classes), each))

    return make


@pytest.fixture
def network():
    """A function that makes the same small network, with dropout, each time."""

    def make(dropout=0.2, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            backbone = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
            return embedder(backbone, features=36, dim=4, channels=1, dropout=dropout)

    return make


@pytest.fixture
def objective():
    """A function that makes an objective with state: a memory of recent embeddings."""

    def make():
        return Memory(OnPairs(Contrastive(), positives="random"), size=20, dim=4)

    return make


@pytest.fixture
def settings():
    """A function that makes settings of a short run in float32."""

    def make(**values):
        short = {"epochs": 2, "classes": 3, "per_class": 2, "lr": 0.01, "precision": "float32"}
        return Settings(**{**short, "tensorboard": False, **values})

    return make


@pytest.fixture
def weights():
    """A function that copies the state of a module."""

    def copy(module):
        return {name: value.clone() for name, value in module.state_dict().items()}

    return copy
