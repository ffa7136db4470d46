"""Made-up crops of people for tests: each wears a pattern, and is seen by several cameras."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 32, 16


def crop(person: int, seed: int) -> np.ndarray:
    """Pixels uint8 (h, w, 3) of somebody, with noise."""
    pattern = np.random.default_rng(person).integers(0, 256, (4, 2, 3))
    noise = np.random.default_rng([person, seed]).normal(0, 15, (HEIGHT, WIDTH, 3))
    return np.clip(np.kron(pattern, np.ones((8, 8, 1))) + noise, 0, 255).astype(np.uint8)


def folder_of(root: Path, people: int, each: int) -> Path:
    """A folder of a folder for everybody."""
    for person in range(people):
        for number in range(each):
            _save(crop(person, number), root / f"p{person:02d}" / f"{number}.png")
    return root


def market(root: Path, people: int, each: int, *, tested: int = 4) -> Path:
    """Market-1501's layout: the last people are queries and gallery, with junk and a distractor."""
    for person in range(people):
        test = person >= people - tested
        for number in range(each):
            camera = number % 3 + 1
            folder = "bounding_box_test" if test else "bounding_box_train"
            folder = "query" if test and number == 0 else folder
            name = f"{person + 1:04d}_c{camera}s1_{number:06d}_00.jpg"
            _save(crop(person, number), root / folder / name)
    _save(crop(90, 0), root / "bounding_box_test" / "-1_c1s1_000001_00.jpg")
    _save(crop(91, 0), root / "bounding_box_test" / "0000_c1s1_000002_00.jpg")
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
