"""Generated pictures: small, coloured by class, all different."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def noise(seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode=None)


def png(seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> bytes:
    return encode(noise(seed, size, mode))


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of class folders; every picture is another one."""

    def make(classes: dict[str, int], *, where: str = "set", start: int = 0) -> Path:
        root = tmp_path / where
        seed = start
        for name, count in classes.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (root / name / f"{number:03}.png").write_bytes(png(seed))
                seed += 1
        return root

    return make
