"""Made-up people for tests of faces: each a pattern of its own, every picture with noise."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tupelo import models
from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.trained import Trained, load

SIDE = 16


def people(names: str, pictures: int, seed: int = 0, noise: float = 12) -> ImageSet:
    """So many pictures of each; a name is a letter, and the same in every set."""
    rng = np.random.default_rng([seed, len(names)])
    pixels = [
        np.clip(_pattern(name) + rng.normal(0, noise, (SIDE, SIDE)), 0, 255)
        for name in names
        for _ in range(pictures)
    ]
    return ImageSet.from_arrays(
        np.stack(pixels).astype(np.uint8), [name for name in names for _ in range(pictures)]
    )


def write(folder: Path, names: str, pictures: int, seed: int = 0) -> Path:
    """The same as files, in a folder for each."""
    made = people(names, pictures, seed)
    for row, label in enumerate(made.labels.tolist()):
        path = folder / names[label] / f"{row % pictures}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(made, row)).save(path)
    return folder


def pixels_of(pictures: ImageSet, row: int) -> np.ndarray:
    """One picture, uint8 (h, w)."""
    return (pictures.batch([row]).images[0, 0] * 255).round().byte().numpy()


def untrained(folder: Path) -> Trained:
    """A network with random weights, which tells these patterns apart well enough."""
    torch.manual_seed(0)
    model = models.embedder("convnet", dim=16, size=SIDE, channels=1)
    about = {"pictures": Frame(SIDE, SIDE, 1)._asdict()}
    models.save(model, folder / "model", about=about)
    return load(folder)


def _pattern(name: str) -> np.ndarray:
    coarse = np.random.default_rng(ord(name)).integers(0, 256, (4, 4))
    return np.kron(coarse, np.ones((SIDE // 4, SIDE // 4)))
