import builtins

import numpy as np
import pytest
from PIL import Image

from tupelo.errors import DataError, InputError, MissingExtra
from tupelo.tracking.video import VideoWriter, read_video, video_info


def frames(count: int = 5) -> list[np.ndarray]:
    """A red square that moves over blue."""
    made = []
    for number in range(count):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 2] = 200
        picture[10:30, 5 + 6 * number : 25 + 6 * number] = (220, 10, 10)
        made.append(picture)
    return made


def write(path, pictures) -> None:
    with VideoWriter(path, 10.0) as video:
        for picture in pictures:
            video.write(picture)


def test_an_mp4_comes_back_as_rgb(tmp_path):
    pytest.importorskip("cv2")
    write(tmp_path / "new" / "clip.mp4", frames())
    info = video_info(tmp_path / "new" / "clip.mp4")
    assert (info.frame_rate, info.frames, info.width, info.height) == (10.0, 5, 64, 48)
    back = list(read_video(tmp_path / "new" / "clip.mp4"))
    for one, other in zip(back, frames(), strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).mean() < 12  # red and blue are not exchanged


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_animations_need_pillow_only(tmp_path, ending, monkeypatch):
    without_opencv(monkeypatch)
    write(tmp_path / f"clip{ending}", frames())
    with Image.open(tmp_path / f"clip{ending}") as back:
        assert (back.n_frames, back.size) == (5, (64, 48))
        back.seek(3)
        fourth = np.asarray(back.convert("RGB")).astype(int)
    assert np.abs(fourth - frames()[3]).mean() < 12


def without_opencv(monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)


def test_opencv_is_named_where_it_is_missing(tmp_path, monkeypatch):
    without_opencv(monkeypatch)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[track\]'"):
        read_video(tmp_path / "a.mp4")
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[track\]'"):
        VideoWriter(tmp_path / "b.mp4")


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_a_failure_leaves_no_file(tmp_path, ending):
    pytest.importorskip("cv2")

    def fail():
        with VideoWriter(tmp_path / f"clip{ending}") as video:
            video.write(frames()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_is_no_video_is_refused(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(DataError, match="is not there; give a video file"):
        read_video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match="cannot be read as a video"):
        video_info(tmp_path / "text.mp4")


def test_bad_names_rates_and_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must end in .mp4, .gif or .webp"):
        VideoWriter(tmp_path / "clip.avi")
    with pytest.raises(InputError, match=r"frame_rate must be in \(0, 1000\), got 0"):
        VideoWriter(tmp_path / "clip.gif", 0.0)
    with VideoWriter(tmp_path / "clip.gif") as video:
        video.write(frames()[0])
        with pytest.raises(InputError, match="frames must be 64 x 48 as the first, got 10 x 10"):
            video.write(np.zeros((10, 10, 3), np.uint8))


def test_animations_are_short(tmp_path, monkeypatch):
    monkeypatch.setattr("tupelo.tracking.video.CLIP_FRAMES", 2)
    with pytest.raises(InputError, match="holds 2 frames at most"):
        write(tmp_path / "clip.gif", frames())
