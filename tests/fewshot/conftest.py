import numpy as np
import pytest

from tupelo.data import ImageSet


@pytest.fixture
def characters():
    """A function that makes classes of similar 28 x 28 pictures, dark strokes on white."""

    def make(classes=6, each=8, seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.random((classes, 1, 28, 28)) < 0.3
        drawn = centres ^ (rng.random((classes, each, 28, 28)) < 0.1)
        pixels = np.where(drawn, 0, 255).astype(np.uint8).reshape(-1, 28, 28)
        return ImageSet.from_arrays(pixels, np.repeat(np.arange(classes), each))

    return make
