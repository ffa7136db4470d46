import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from tupelo.data.decode import (
    MAX_PIXELS,
    BadPicture,
    Frame,
    decode,
    fit,
    prepare,
    quiet_pillow,
    read_header,
)

from .conftest import encode, noise, png

SMALL = Frame(4, 4, 3)


def flat(colour, mode="RGB", size=(8, 8)):
    return Image.new(mode, size, colour)


def test_same_size_is_untouched():
    picture = noise(0, (12, 10))
    pixels = decode(encode(picture), Frame(10, 12, 3))
    assert np.array_equal(pixels, np.asarray(picture).transpose(2, 0, 1))


def test_crop_takes_the_middle_of_the_shorter_side():
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 4:12] = 255
    assert decode(encode(Image.fromarray(picture)), Frame(8, 8, 3)).min() == 255


@pytest.mark.parametrize("side", [28, 224, 299])
def test_crop_keeps_inside_whatever_the_rounding(side):
    """28 * (29 / 28) is a little more than 29 in floating point."""
    frame = Frame(side, side, 1)
    for width in range(1, 600):
        for size in ((width, 700), (700, width), (width, width)):
            assert fit(Image.new("L", size, 7), frame).min() == 7, size


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_any_box_of_any_picture_is_cut_within_it(resize):
    """Sevens where a bicubic kernel over the box may reach, zeros beyond: no zero is seen."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        sides = rng.integers(2, 400, 2)
        frame = Frame(*rng.integers(1, 260, 2).tolist(), 1, resize)
        ends = [np.sort(rng.choice(side + 1, 2, replace=False)) for side in sides]
        (top, bottom), (left, right) = ends
        reach = 3 + int(2 * max(bottom - top, right - left) / min(frame[:2]))
        pixels = np.zeros(sides, np.uint8)
        pixels[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach] = 7
        picture, box = Image.fromarray(pixels), (left, top, right - left, bottom - top)
        found = prepare(picture, frame, tuple(map(float, box)))
        assert found.shape == (1, *frame[:2])
        assert np.isin(found, [7, 255] if resize == "pad" else [7]).all(), (box, sides, frame)
        beyond = (left - 0.3, top - 0.7, 900.0, 900.0)  # cut at the border of the picture
        assert prepare(picture, frame, tuple(map(float, beyond))).shape == found.shape


def test_crop_without_scaling_is_exact():
    picture = noise(1, (13, 8))
    pixels = decode(encode(picture), Frame(8, 8, 3))
    assert np.array_equal(pixels, np.asarray(picture)[:, 2:10].transpose(2, 0, 1))


def test_squash_keeps_all_columns():
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 8:] = 255
    pixels = decode(encode(Image.fromarray(picture)), Frame(8, 8, 3, "squash"))
    assert pixels[:, :, :3].max() == 0
    assert pixels[:, :, 5:].min() == 255


def test_pad_fills_with_white():
    pixels = decode(encode(flat("black", size=(16, 8))), Frame(16, 16, 3, "pad"))
    assert pixels[:, :4].min() == 255
    assert pixels[:, 4:12].max() == 0


def test_exif_orientation_turns_upright():
    picture = noise(2, (12, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    data = encode(picture, "PNG", exif=exif)
    assert read_header(data) == (12, 10, False)
    pixels = decode(data, Frame(12, 10, 3))
    assert np.array_equal(pixels, np.rot90(np.asarray(picture), -1).transpose(2, 0, 1))


def test_box_is_cut_from_the_upright_picture_and_clipped():
    picture = noise(3, (12, 10))
    data = encode(picture)
    assert read_header(data, (8.0, 4.0, 100.0, 4.0)) == (4, 4, False)
    pixels = decode(data, Frame(4, 4, 3), (8.0, 4.0, 100.0, 4.0))
    assert np.array_equal(pixels, np.asarray(picture)[4:8, 8:12].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(flat((255, 0, 0, 0), "RGBA")), (255, 255, 255)),
        (encode(flat((255, 0, 0, 255), "RGBA")), (255, 0, 0)),
        (encode(flat((0, 0), "LA")), (255, 255, 255)),
        (encode(flat(1, "1")), (255, 255, 255)),
        (encode(flat(7, "L")), (7, 7, 7)),
        (encode(flat((0, 255, 0)).quantize(2)), (0, 255, 0)),
        (encode(flat((0, 255, 0)).quantize(2), transparency=0), (255, 255, 255)),
        (encode(flat((0, 255, 0)), transparency=(0, 255, 0)), (255, 255, 255)),
        (encode(flat((0, 0, 0, 0), "CMYK"), "TIFF"), (255, 255, 255)),
        (encode(Image.fromarray(np.full((8, 8), 257 * 80, np.uint16))), (80, 80, 80)),
        (encode(Image.fromarray(np.full((8, 8), 0.2, np.float32)), "TIFF"), (51, 51, 51)),
        (encode(Image.fromarray(np.full((8, 8), 90.0, np.float32)), "TIFF"), (90, 90, 90)),
        (encode(Image.fromarray(np.full((8, 8), 257 * 9, np.int32)), "TIFF"), (9, 9, 9)),
        (encode(flat((10, 20, 30)).convert("LAB"), "TIFF"), (10, 20, 30)),
        (encode(flat((0, 0, 255)), "GIF"), (0, 0, 255)),
        (encode(flat((9, 99, 199)), "BMP"), (9, 99, 199)),
    ],
)
def test_every_mode_becomes_rgb(data, expected):
    with quiet_pillow():
        pixels = decode(data, SMALL)
    assert pixels.shape == (3, 4, 4)
    assert np.abs(pixels[:, 0, 0].astype(int) - expected).max() <= 2


def test_colour_to_one_channel():
    assert decode(encode(flat((255, 255, 255))), Frame(4, 4, 1)).shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("mode", "grey"), [("1", True), ("L", True), ("LA", True), ("P", False), ("RGB", False)]
)
def test_header_knows_grey(mode, grey):
    assert read_header(encode(flat(0 if mode in "1LP" else "black", mode))).grey is grey


def test_large_jpeg_is_close_to_full_decoding():
    base = Image.fromarray(np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8))
    picture = base.resize((512, 512), Image.Resampling.BICUBIC)
    data = encode(picture, "JPEG", quality=95)
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(decode(data, Frame(32, 32, 1))[0] - expected).max() <= 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is text", "not an image: no reader knows its format"),
        (png(0)[:60], "damaged: "),
        (encode(noise(0, (64, 64)), "JPEG")[:700], "damaged: "),
    ],
)
def test_bad_bytes_say_why(data, reason):
    with pytest.raises(BadPicture, match=f"^{reason}"):
        decode(data, SMALL)


def test_damaged_in_the_middle():
    data = bytearray(png(0, (64, 64)))
    data[200:260] = bytes(60)
    with pytest.raises(BadPicture, match=r"^damaged: "):
        decode(bytes(data), SMALL)


def test_nan_pixels_are_damage():
    data = encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    with pytest.raises(BadPicture, match="damaged: pixels are NaN or infinite"):
        decode(data, SMALL)


@pytest.mark.parametrize("side", [9_500, 20_000])
def test_bombs_are_refused_from_the_header(side):
    data = encode(Image.new("1", (side, side)))
    assert side * side > MAX_PIXELS
    assert len(data) < 100_000
    with quiet_pillow(), pytest.raises(BadPicture, match=r"^too large: "):
        read_header(data)


def test_pillow_is_left_as_it_was():
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS


def test_box_beside_the_picture():
    with pytest.raises(BadPicture, match=r"box misses the picture: x, y, w, h = \(20"):
        read_header(png(0), (20.0, 0.0, 5.0, 5.0))


def test_quiet_pillow_restores_filters_whatever_the_order_of_leaving():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with quiet_pillow():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    with quiet_pillow():
        thread.start()
        inside.wait(5)
    assert len(warnings.filters) == len(before) + 1
    leave.set()
    thread.join()
    assert warnings.filters == before


def test_quiet_pillow_leaves_a_filter_of_the_user():
    warnings.filterwarnings("ignore", module=r"PIL\.")
    before = list(warnings.filters)
    with quiet_pillow():
        pass
    assert warnings.filters == before
