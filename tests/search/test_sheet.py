"""The contact sheet: what is drawn where."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from tupelo.errors import InputError
from tupelo.search import Found, Row, contact_sheet
from tupelo.search.sheet import SIDE, right


def picture(colour, size=(20, 20)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def row(label="cat", labels=("cat", "dog"), pictures=None, name="q.png"):
    paths = tuple(f"a/{number}.png" for number in range(len(labels)))
    found = Found(paths, labels, tuple(0.9 for _ in labels), True)
    shown = pictures or [picture("blue"), picture("yellow")][: len(labels)]
    return Row(name, label, picture("white", (10, 30)), found, shown)


def colours(sheet):
    return {colour for _, colour in sheet.getcolors(1 << 20)}


GREEN, RED = (0x1A, 0x8F, 0x3C), (0xC6, 0x28, 0x28)


def test_right_and_wrong_are_marked_where_the_label_is_known():
    known, unknown = contact_sheet([row()]), contact_sheet([row(label="")])
    assert {GREEN, RED} <= colours(known)
    assert not {GREEN, RED} & colours(unknown)
    only_right = contact_sheet([row(labels=("cat", "cat"))]).crop((140, 60, 400, 400))
    assert GREEN in colours(only_right)
    assert RED not in colours(only_right)


def test_pictures_stand_in_order_after_the_query():
    sheet = np.asarray(contact_sheet([row(), row()]))
    blue = np.argwhere((sheet == (0, 0, 255)).all(axis=2))
    yellow = np.argwhere((sheet == (255, 255, 0)).all(axis=2))
    assert blue[:, 1].max() < yellow[:, 1].min()
    assert 0.7 * 2 * SIDE**2 < len(blue) <= 2 * SIDE**2
    one, two = contact_sheet([row()]), contact_sheet([row(), row()])
    assert one.width == two.width
    assert two.height > one.height + SIDE


def test_it_is_drawn_without_pictures_without_finds_and_with_odd_names():
    missing = row(pictures=[None, None], name="q" * 500, labels=("é" * 300, "日本\n\x00"))
    nothing = row(labels=())
    sheet = contact_sheet([missing, nothing, row()])
    assert sheet.width == contact_sheet([row()]).width
    sheet.save(io.BytesIO(), "PNG")


def test_very_long_names_are_drawn_quickly_and_thumbnails_may_be_anything():
    long = row(name="n" * 20_000, label="l" * 20_000, labels=("x" * 20_000, "y"))
    started = time.perf_counter()
    contact_sheet([long] * 3)
    assert time.perf_counter() - started < 5
    assert contact_sheet([row(pictures=[b"", b"no picture"])]).size == contact_sheet([row()]).size


def test_tags_agree_where_they_share_one():
    assert right("red|big", "big|blue")
    assert not right("red", "redder")
    assert right("", "red") is None


def test_without_rows_there_is_no_sheet():
    with pytest.raises(InputError, match="rows must hold at least one query, got none"):
        contact_sheet([])
