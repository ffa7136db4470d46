"""What is tracked: detections frame by frame, with pictures and truth where there are some."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from tupelo.errors import DataError, InputError
from tupelo.evaluation import TrackingScores
from tupelo.recipes.tracks_evaluating import score_rows, usual_benchmark
from tupelo.tracking.mot_files import MotRows, Sequence, read_detections, read_sequence
from tupelo.tracking.scenes import RenderedScene
from tupelo.tracking.video import read_video, video_info

Pictures = Iterator[np.ndarray]


@dataclass(frozen=True)
class Footage:
    """A sequence of frames 1 to `length`.

    Attributes:
        name: of the sequence.
        length: frames; what a video file claims.
        frame_rate: frames a second.
        detections: rows of a detector.
        pictures: begins them anew, from the first frame on; None where there are none.
        truth: labelled rows; None where there are none.
    """

    name: str
    length: int
    frame_rate: float
    detections: MotRows
    pictures: Callable[[], Pictures] | None = None
    truth: MotRows | None = None

    def frames_of_detections(
        self,
    ) -> Callable[[int], tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, " n"]]]:
        """From the number of a frame to its boxes and confidence."""
        order = np.argsort(self.detections.frames, kind="stable")
        frames = self.detections.frames[order]
        boxes, scores = self.detections.boxes[order], self.detections.confidence[order]

        def of(number: int) -> tuple[np.ndarray, np.ndarray]:
            begin, end = np.searchsorted(frames, [number, number + 1])
            return boxes[begin:end], scores[begin:end]

        return of

    def scores(self, result: MotRows, frames: int | None = None) -> TrackingScores:
        """How well a result finds the truth, by the rules of the benchmark it looks like.

        Args:
            result: of a tracker.
            frames: score the first ones only.

        Raises:
            InputError: there is no truth; see also `tupelo.evaluation.preprocess_mot`.
        """
        if self.truth is None:
            raise InputError(f"{self.name} has no truth (gt/gt.txt) to compare with")
        last = self.length if frames is None else min(frames, self.length)
        truth = self.truth.take(self.truth.frames <= last)
        rule = usual_benchmark(self.name, self.truth)
        return score_rows(truth, result, rule, length=last)


def of_folder(folder: str | Path) -> Footage:
    """A sequence in MOTChallenge's layout.

    Raises:
        DataError: a file is missing, damaged, or disagrees with another.
    """
    return of_sequence(read_sequence(folder))


def of_sequence(sequence: Sequence) -> Footage:
    """A sequence that was read, with its pictures if they are there."""
    info = sequence.info
    return Footage(
        info.name,
        info.length,
        info.frame_rate,
        sequence.detections,
        _pictures_of(sequence) if sequence.pictures.is_dir() else None,
        sequence.truth,
    )


def of_video(path: str | Path, detections: str | Path) -> Footage:
    """A video file with detections in MOTChallenge's format.

    Raises:
        DataError: one cannot be read, or detections go on after the video.
        MissingExtra: OpenCV is not installed.
    """
    info, rows = video_info(path), read_detections(detections)
    last = int(rows.frames.max()) if len(rows.frames) else 0
    if info.frames and last > info.frames:
        raise DataError(
            f"{detections} has detections of frame {last}, and {path} {info.frames} frames; are "
            "they of the same video?"
        )
    name = Path(path).stem
    return Footage(name, info.frames or last, info.frame_rate, rows, lambda: read_video(path))


def of_scene(rendered: RenderedScene, name: str = "scene") -> Footage:
    """A rendered scene, its pictures made when they are asked for."""
    frames, walkers = rendered.visibility.shape
    n = len(rendered.detections)
    return Footage(
        name,
        frames,
        30.0,
        MotRows(
            rendered.detection_frames,
            np.full(n, -1),
            rendered.detections,
            rendered.confidence,
            np.full(n, -1),
            np.full(n, -1.0),
        ),
        rendered.pictures,
        MotRows(
            np.repeat(np.arange(1, frames + 1), walkers),
            np.tile(np.arange(1, walkers + 1), frames),
            rendered.boxes.reshape(-1, 4),
            np.ones(frames * walkers),
            np.ones(frames * walkers, np.int64),
            rendered.visibility.reshape(-1),
        ),
    )


def _pictures_of(sequence: Sequence) -> Callable[[], Pictures]:
    """Its frames in order, each checked against seqinfo.ini."""
    info = sequence.info

    def read() -> Pictures:
        for number in range(1, info.length + 1):
            yield _picture(sequence.frame_path(number), info.width, info.height)

    return read


def _picture(path: Path, width: int, height: int) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            if opened.size != (width, height):
                raise DataError(
                    f"{path} must have {width} x {height} pixels as seqinfo.ini says, got "
                    f"{opened.size[0]} x {opened.size[1]}"
                )
            return np.asarray(opened.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing; seqinfo.ini counts it among the frames. --frames N tracks the "
            "first N only"
        ) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}") from error


def ahead(pictures: Pictures) -> Pictures:
    """The same, each read by another thread while the one before is worked on."""
    with ThreadPoolExecutor(1, "tupelo-frames") as reader:
        coming = reader.submit(next, pictures, None)
        while (picture := coming.result()) is not None:
            coming = reader.submit(next, pictures, None)
            yield picture
