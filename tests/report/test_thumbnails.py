"""Small pictures within their budget."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tupelo.data import ImageSet
from tupelo.errors import DataError
from tupelo.report.thumbnails import encode, shrink, thumbnails


def pixels_of(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head in ("data:image/webp;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


@pytest.fixture(scope="module")
def noise() -> ImageSet:
    """Pictures that compress badly."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(200, 224, 224, 3), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, np.arange(200) % 4)


def test_each_row_is_its_own_picture():
    brightness = np.array([0, 90, 180, 250], np.uint8)
    pixels = np.broadcast_to(brightness[:, None, None], (4, 20, 30)).copy()
    found = thumbnails(ImageSet.from_arrays(pixels, [0, 1, 2, 3]), [3, 1, 1], side=112)
    assert sorted(found) == [1, 3]
    for row in (1, 3):
        shown = pixels_of(found[row])
        assert shown.shape == (20, 30, 3)
        assert np.abs(shown.astype(int) - int(brightness[row])).max() < 6


def test_a_budget_is_kept_by_smaller_pictures(noise):
    rows = range(200)
    generous = thumbnails(noise, rows, side=112, budget_bytes=10_000_000)
    tight = thumbnails(noise, rows, side=112, budget_bytes=500_000)
    assert max(pixels_of(generous[0]).shape) == 112
    assert sum(map(len, tight.values())) <= 500_000 < sum(map(len, generous.values()))
    assert len(tight) == 200
    assert thumbnails(noise, rows, budget_bytes=20_000) == {}
    assert thumbnails(noise, []) == {}


def test_a_picture_that_is_gone_is_left_out(noise, monkeypatch):
    whole = ImageSet.batch

    def batch(self, indices, **more):
        if 7 in indices:
            raise DataError("7 can no longer be read")
        return whole(self, indices, **more)

    monkeypatch.setattr(ImageSet, "batch", batch)
    assert sorted(thumbnails(noise, range(10))) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_a_section_s_png_is_shrunk_and_rubbish_is_not_shown():
    file = io.BytesIO()
    Image.new("RGB", (300, 100), (200, 10, 10)).save(file, "PNG")
    uri = shrink(base64.b64encode(file.getvalue()).decode(), 60)
    assert pixels_of(uri).shape == (20, 60, 3)
    assert shrink("no base64!", 60) == ""
    assert shrink(base64.b64encode(b"no picture").decode(), 60) == ""
    assert encode(np.zeros((8, 8, 3), np.uint8), 8).startswith("data:image/")
