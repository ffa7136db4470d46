import numpy as np
import pytest
import torch

from tupelo.data.augment import (
    BoxJitter,
    ColourJitter,
    Compose,
    HorizontalFlip,
    RandomCrop,
    RandomResizedCrop,
    ShiftedBoxes,
    default_augmentation,
    moved,
)
from tupelo.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(b=8, c=3, height=20, width=16):
    return torch.rand((b, c, height, width), generator=generator(9))


EVERY = [
    RandomResizedCrop((20, 16)),
    RandomCrop(3),
    HorizontalFlip(),
    ColourJitter(),
    BoxJitter(),
    ShiftedBoxes(3),
    default_augmentation((20, 16)),
    Compose((RandomCrop(2), ColourJitter(0.5, 0.5, 0.5))),
]


@pytest.mark.parametrize("augment", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_determinism_and_no_side_effect(augment, channels):
    images = pictures(c=channels)
    before = images.clone()
    out = augment(images, generator())
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert images.equal(before)
    assert out.equal(augment(images, generator()))
    assert not out.equal(augment(images, generator(1)))


@pytest.mark.parametrize("augment", EVERY)
def test_the_global_generator_is_not_drawn_from(augment):
    state = torch.random.get_rng_state()
    augment(pictures(), generator())
    assert torch.random.get_rng_state().equal(state)


def test_crop_of_everything_is_the_picture():
    images = pictures(height=16)
    crop = RandomResizedCrop((16, 16), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.allclose(crop(images, generator()), images, atol=1e-6)


def test_crops_have_the_stated_area_and_cover_the_picture():
    ramp = torch.arange(64.0).expand(500, 1, 64, 64) / 64
    out = RandomResizedCrop((32, 32), scale=(0.25, 0.25), ratio=(1.0, 1.0))(ramp, generator())
    span = (out[:, 0, 0, -1] - out[:, 0, 0, 0]) * 64
    assert torch.allclose(span, torch.full((500,), 31.0), atol=1.5)
    left = out[:, 0, 0, 0] * 64
    assert left.min() < 1
    assert left.max() > 31
    assert abs(left.mean() - 16) < 1.5


def test_flip_mirrors_the_stated_share():
    images = pictures(b=1000, c=1, height=2, width=3)
    out = HorizontalFlip(0.3)(images, generator())
    flipped = (out == images.flip(-1)).all(dim=(1, 2, 3))
    assert 240 < flipped.sum() < 360
    assert out[~flipped].equal(images[~flipped])


def test_random_crop_shifts_by_at_most_the_padding():
    images = pictures(b=50, c=1)
    out = RandomCrop(2)(images, generator())
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for place in range(50):
        windows = [
            padded[place, :, top : top + 20, left : left + 16]
            for top in range(5)
            for left in range(5)
        ]
        assert any(np.array_equal(out[place].numpy(), window) for window in windows)


def test_jitter_of_nothing_is_nothing():
    images = pictures()
    assert torch.allclose(ColourJitter(0.0, 0.0, 0.0)(images, generator()), images, atol=1e-6)


def test_refusals():
    with pytest.raises(InputError, match=r"scale must be a range within \(0, 1\], got \(0.0"):
        RandomResizedCrop((8, 8), scale=(0.0, 1.0))
    with pytest.raises(InputError, match=r"ratio must be a range of positive numbers"):
        RandomResizedCrop((8, 8), ratio=(2.0, 1.0))


def mirrored(row: np.ndarray, start: int) -> np.ndarray:
    """Pixels from `start` on, the border mirrored outwards with its last pixel repeated."""
    n = len(row)
    places = np.arange(start, start + n) % (2 * n)
    return row[np.where(places < n, places, 2 * n - 1 - places)]


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-5, 2), (0, -7), (0, 0)])
def test_whole_pixels_moved_are_those_of_a_mirrored_picture(right, down):
    images = pictures(b=2, height=20, width=16)
    move = torch.tensor([[right / 16, down / 20]]).repeat(2, 1)
    out = moved(images, move, torch.ones(2, 2)).numpy()
    rows = np.apply_along_axis(mirrored, 2, images.numpy(), down)
    np.testing.assert_allclose(out, np.apply_along_axis(mirrored, 3, rows, right), atol=1e-5)


def test_boxes_are_shifted_by_the_shares_that_were_asked_for():
    # each pixel holds where it came from, so that the middle tells how far a picture moved
    grid = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij"))
    images = (grid / 40).expand(500, 2, 40, 40)
    out = ShiftedBoxes(100, least=0.3, most=0.4)(images, generator())
    assert out[:100].equal(images[:100])
    # the corner that the box moves to lies outside; the opposite one shows inside
    at = torch.stack([out[100:, :, 0, 0], out[100:, :, 39, 39]]) * 40
    far = torch.maximum((at[0] - 0).abs(), (at[1] - 39).abs()).amax(1) / 40
    assert 0.29 < far.min() < 0.32
    assert 0.38 < far.max() < 0.41


def test_nothing_is_shifted_where_no_rows_follow():
    images = pictures()
    assert ShiftedBoxes(8)(images, generator()) is images


def test_jitter_without_extent_is_the_picture():
    images = pictures()
    torch.testing.assert_close(BoxJitter(0.0, 0.0)(images, generator()), images)


def test_jitter_stays_within_its_shares():
    ramp = torch.linspace(0, 1, 100).expand(300, 1, 100, 100)
    out = BoxJitter(0.05, 0.0)(ramp, generator())
    middle = out[:, 0, 50, 50] - ramp[0, 0, 50, 50]
    assert 0.045 < middle.abs().max() < 0.052


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BoxJitter(shift=1.0), r"shift must be a share in \[0, 1\), got 1"),
        (lambda: BoxJitter(scale=-0.1), r"scale must be a share in \[0, 1\), got -0.1"),
        (lambda: ShiftedBoxes(-1), "rows >= 0 and 0 < least <= most < 1, got rows=-1"),
        (lambda: ShiftedBoxes(1, 0.6, 0.3), "least=0.6, most=0.3"),
    ],
)
def test_boxes_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
