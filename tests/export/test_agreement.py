import numpy as np
import pytest

from tupelo.data.decode import Frame
from tupelo.errors import InputError
from tupelo.export import Agreement, agreement


@pytest.mark.parametrize("frame", [Frame(32, 48, 3), Frame(28, 28, 1), Frame(1, 1, 3)])
def test_pictures_to_compare_by_are_always_the_same_twelve(frame):
    pixels = agreement.some_pictures(frame)
    assert pixels.shape == (12, *frame[:3])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, agreement.some_pictures(frame))
    if frame.height > 1:
        assert len({each.tobytes() for each in pixels}) == 12


def test_what_agrees_and_rows_that_are_not_finite_never():
    assert Agreement(12, (1, 3, 8), 1e-5, 1.0, 1e-4).good
    assert not Agreement(12, (1, 3, 8), 2e-4, 1.0, 1e-4).good
    assert not Agreement(12, (1, 3, 8), 9e-3, 0.998, 1e-2).good
    assert not Agreement(12, (1, 3, 8), float("nan"), float("nan"), 1e-4).good


def test_a_file_that_onnxruntime_cannot_run():
    pixels = agreement.some_pictures(Frame(8, 8, 3))
    with pytest.raises(InputError, match="onnxruntime cannot run the exported network: "):
        agreement.compare(b"no model", pixels, np.zeros((12, 4), np.float32), half=False)


@pytest.mark.parametrize(
    ("n", "sizes"), [(12, [1, 3, 8]), (13, [1, 3, 8, 1]), (28, [1, 3, 8, 8, 8])]
)
def test_sizes_of_batches(n, sizes):
    assert list(agreement._sizes(n)) == sizes
