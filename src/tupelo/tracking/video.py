"""Videos read frame by frame, and clips with drawn tracks written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tupelo.errors import DataError, InputError, MissingExtra

CLIP_FRAMES = 600  # of an animation, whose frames are all kept in memory until it is written
PALETTE_FRAMES = 6
ANIMATIONS = (".gif", ".webp")
VIDEOS = (".mp4",)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        frame_rate: frames a second.
        frames: how many it claims to hold; some files claim wrongly, 0 means it does not say.
        width: pixels.
        height: pixels.
    """

    frame_rate: float
    frames: int
    width: int
    height: int


def video_info(path: str | Path) -> VideoInfo:
    """Size, rate and length of a video file.

    Raises:
        DataError: it is missing or cannot be read.
        MissingExtra: OpenCV is not installed.
    """
    cv2, video = _opened(Path(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        return VideoInfo(
            float(rate) if rate > 0 else 30.0,
            max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))),
            int(video.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
    finally:
        video.release()


def read_video(path: str | Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames of a video file as RGB, one in memory at a time.

    Raises:
        DataError: it is missing, cannot be read or holds no frame.
        MissingExtra: OpenCV is not installed.
    """
    cv2, video = _opened(Path(path))
    return _frames(cv2, video, Path(path))


def _frames(cv2, video, path: Path) -> Iterator[np.ndarray]:
    try:
        count = 0
        while True:
            read, picture = video.read()
            if not read:
                break
            count += 1
            yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if not count:
            raise DataError(f"{path} holds no frame that can be read; is it a video?")
    finally:
        video.release()


class VideoWriter:
    """Writes frames into `.mp4` (OpenCV), or an animated `.gif` or `.webp` (needs nothing more).

    Used as a context; the file is there, whole, when the context ends, and not at all when it ends
    with an error. Animations are for short clips, of 600 frames at most.

    Args:
        path: its ending decides.
        frame_rate: frames a second.

    Raises:
        InputError: another ending, a rate that is not positive.
        MissingExtra: an mp4 without OpenCV.
    """

    def __init__(self, path: str | Path, frame_rate: float = 30.0) -> None:
        self.path, self.frame_rate = Path(path), frame_rate
        self._ending = self.path.suffix.lower()
        if self._ending not in VIDEOS + ANIMATIONS:
            raise InputError(f"a video must end in .mp4, .gif or .webp, got {self.path}")
        if not 0 < frame_rate < 1000:
            raise InputError(f"frame_rate must be in (0, 1000), got {frame_rate:g}")
        if self._ending in VIDEOS:
            _cv2()
        self._unfinished = self.path.with_name(f".{self.path.stem}.writing{self._ending}")
        self._size: tuple[int, int] | None = None
        self._frames: list[Image.Image] = []
        self._video = None

    def __enter__(self) -> "VideoWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._video is not None:
                self._video.release()
            if kind is None and self._size is not None:
                if self._frames:
                    self._write_animation()
                self._unfinished.replace(self.path)
        finally:
            self._unfinished.unlink(missing_ok=True)

    def write(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """The next frame.

        Raises:
            InputError: it has another size than the first, or an animation grows too long.
            DataError: the file cannot be written.
        """
        height, width = image.shape[:2]
        if self._size is None:
            self._size = (width, height)
        if self._size != (width, height):
            raise InputError(
                f"frames must be {self._size[0]} x {self._size[1]} as the first, got {width} x "
                f"{height}"
            )
        if self._ending in ANIMATIONS:
            if len(self._frames) == CLIP_FRAMES:
                raise InputError(
                    f"an animation holds {CLIP_FRAMES} frames at most; write .mp4, or fewer frames"
                )
            self._frames.append(Image.fromarray(image))
            return
        cv2 = _cv2()
        if self._video is None:
            kind = cv2.VideoWriter.fourcc(*"mp4v")
            name = str(self._unfinished)
            self._video = cv2.VideoWriter(name, kind, self.frame_rate, (width, height))
            if not self._video.isOpened():
                raise DataError(f"{self.path} cannot be written by this OpenCV; give a .gif")
        self._video.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _write_animation(self) -> None:
        first, *others = self._frames
        last = round(1000 / self.frame_rate)
        if self._ending == ".gif":
            # one palette, of frames from all over the clip, so that nothing flickers
            some = self._frames[:: -(-len(self._frames) // PALETTE_FRAMES)]
            palette = Image.fromarray(np.concatenate([np.asarray(each) for each in some])).quantize(
                256
            )
            first, *others = (
                each.quantize(palette=palette, dither=Image.Dither.NONE) for each in self._frames
            )
            first.save(
                self._unfinished,
                save_all=True,
                append_images=others,
                duration=last,
                loop=0,
                optimize=True,
            )
        else:
            first.save(
                self._unfinished,
                save_all=True,
                append_images=others,
                duration=last,
                loop=0,
                quality=60,
                method=4,
            )


def _opened(path: Path):
    """OpenCV and a video it opened."""
    cv2 = _cv2()
    if not path.is_file():
        raise DataError(f"{path} is not there; give a video file")
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        video.release()
        raise DataError(f"{path} cannot be read as a video: OpenCV knows no such format")
    return cv2, video


def _cv2():
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(
            "video files need OpenCV: pip install 'tupelo[track]'; folders of pictures and .gif "
            "need nothing"
        ) from error
    return cv2
