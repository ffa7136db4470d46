import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tupelo.errors import InputError
from tupelo.tracking.crops import cut, windows


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture without sharp edges, on which resampling with or without rounding agrees."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def by_pillow(image: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """The crop as Pillow makes it."""
    left, top, right, bottom = windows(box[None], height, width)[0]
    clipped = (
        max(0.0, left),
        max(0.0, top),
        min(image.shape[1], right),
        min(image.shape[0], bottom),
    )
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, clipped)
    return np.asarray(picture)


boxes_of_any_kind = st.tuples(
    st.floats(-60, 150), st.floats(-60, 110), st.floats(0.5, 160), st.floats(0.5, 140)
)


@settings(max_examples=40, deadline=None)
@given(boxes_of_any_kind, st.sampled_from([(64, 32), (32, 32), (9, 5), (1, 1)]))
def test_a_crop_is_what_pillow_makes_of_the_clipped_window(box, size):
    image = smooth(90, 120)
    box = np.array(box)
    crops, visible = cut(image, box[None], *size)
    assert visible[0] == pytest.approx(naive_share(box, 120, 90), abs=1e-6) or visible[0] == 0
    if visible[0] == 0:
        assert not crops.any()
        return
    expected = by_pillow(image, box, *size)
    assert np.abs(crops[0].astype(int) - expected).max() <= 3


def naive_share(box: np.ndarray, width: int, height: int) -> float:
    x, y, w, h = box
    across = max(0.0, min(width, x + w) - max(0.0, x))
    down = max(0.0, min(height, y + h) - max(0.0, y))
    return across * down / (w * h)


def test_a_window_of_the_size_of_the_crop_is_copied():
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    crops, visible = cut(image, np.array([[7.0, 11, 32, 64]]), 64, 32)
    assert np.array_equal(crops[0], image[11:75, 7:39])
    assert visible.tolist() == [1.0]


def test_boxes_take_the_aspect_of_the_crop_around_their_centre():
    wide, narrow = windows(np.array([[10.0, 20, 80, 40], [10, 20, 4, 40]]), 64, 32)
    assert wide.tolist() == [40, 20, 60, 60]
    assert narrow.tolist() == [2, 20, 22, 60]


def test_boxes_outside_have_no_crop():
    image = np.full((50, 60, 3), 9, np.uint8)
    boxes = np.array([[60.0, 0, 10, 10], [0, -10, 5, 10], [20, 20, 10, 20], [-99, 0, 100, 10]])
    crops, visible = cut(image, boxes, 8, 4)
    assert (visible == 0).tolist() == [True, True, False, True]  # the last: narrowed, it misses
    assert (crops.reshape(4, -1).max(axis=1) == [0, 0, 9, 0]).all()


def test_neither_layout_nor_strides_of_the_picture_matter():
    image = smooth(90, 120)
    boxes = np.array([[3.0, 4, 20, 40]])
    same = np.asfortranarray(image)
    turned = image[::-1][::-1]
    for other in (same, turned):
        assert np.array_equal(cut(other, boxes, 16, 8)[0], cut(image, boxes, 16, 8)[0])


def test_no_boxes_are_no_crops():
    crops, visible = cut(smooth(20, 20), np.zeros((0, 4)), 16, 8)
    assert crops.shape == (0, 16, 8, 3)
    assert visible.shape == (0,)


def test_what_is_no_picture_or_no_box_is_refused():
    image, box = smooth(20, 20), np.array([[1.0, 1, 5, 5]])
    with pytest.raises(InputError, match=r"finite and of positive width.*row 1"):
        cut(image, np.array([[1.0, 1, 5, 5], [1, 1, np.nan, 5]]), 8, 8)
    with pytest.raises(InputError, match="positive width and height"):
        cut(image, np.array([[1.0, 1, 0, 5]]), 8, 8)
    with pytest.raises(InputError, match=r"1 x 1 pixels or larger, got 0 x 4"):
        cut(image, box, 0, 4)
