import pytest

from tupelo.data.decode import Frame
from tupelo.export import description


@pytest.mark.parametrize(
    ("frame", "phrases"),
    [
        (Frame(20, 28, 3, "crop"), ["mode RGB", "W = 28, H = 20", "scale = min(w / W, h / H)"]),
        (Frame(20, 28, 1, "squash"), ["mode L", "resample all of it", "uint8 (batch, 20, 28, 1)"]),
        (Frame(20, 28, 1, "pad"), ["paste it on white W x H", "f = min(w, h) / 56"]),
    ],
    ids=lambda value: value.resize if isinstance(value, Frame) else "",
)
def test_steps_follow_the_frame(frame, phrases):
    steps = description.steps(frame)
    for phrase in phrases:
        assert any(phrase in step for step in steps), phrase
    order = ["open it", "upright", "transparent", "convert it", "with W", "give its bytes"]
    places = [next(n for n, step in enumerate(steps) if word in step) for word in order]
    assert places == sorted(places)


def test_a_description_is_texts_by_name(colour):
    said = description.describe(colour.model, colour.frame, half=True)
    assert all(isinstance(value, str) for value in said.values())
    assert said["preparation"].startswith("1. open it with Pillow")
    assert "keep their licence" in said["licence"]
    assert said["identity"] == colour.identity
