"""Track what is in a sequence, as `tupelo track` does: the frame loop with its clock."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.errors import DataError, InputError
from tupelo.evaluation import TrackingScores
from tupelo.recipes.footage import Footage, ahead
from tupelo.recipes.places import write_text
from tupelo.tracking import Tracked, Tracker, TrackerSettings
from tupelo.tracking.mot_files import MotRows, write_results

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """A frame that was tracked.

    Attributes:
        number: of the frame, from 1.
        picture: RGB; None where there are none.
        tracked: what was seen in it.
    """

    number: int
    picture: np.ndarray | None
    tracked: Tracked


@dataclass(frozen=True)
class Cost:
    """Seconds that frames took, without detection.

    Attributes:
        frames: how many.
        association: prediction, assignment, choice among proposals.
        embedding: cutting boxes and the network.
        reading: waiting for pictures.
    """

    frames: int
    association: float
    embedding: float
    reading: float

    def rates(self) -> dict[str, float]:
        """Frames a second of each part, and of tracking as a whole without reading."""
        parts = {
            "association": self.association,
            "embedding": self.embedding,
            "tracking": self.association + self.embedding,
        }
        return {name: self.frames / seconds for name, seconds in parts.items() if seconds > 0}


class TimedEmbed:
    """An `embed` with a clock.

    Args:
        embed: whose time is taken.
    """

    def __init__(self, embed: Embed) -> None:
        self.embed, self.seconds = embed, 0.0

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """What `embed` returns."""
        started = time.perf_counter()
        rows = self.embed(image, boxes)
        self.seconds += time.perf_counter() - started
        return rows


class Following:
    """Iterates over the frames of footage while a tracker follows them; `cost` grows meanwhile.

    Args:
        footage: what is tracked.
        settings: of the tracker.
        embed: from a picture and boxes to unit rows; None where no use of the appearance is on.
        frames: only so many, the first ones.

    Raises:
        InputError: the settings need pictures or a network that are not there.
    """

    def __init__(
        self,
        footage: Footage,
        settings: TrackerSettings,
        embed: Embed | None = None,
        *,
        frames: int | None = None,
    ) -> None:
        check_needs(footage, settings, embed)
        self.footage, self.settings = footage, settings
        self.last = footage.length if frames is None else min(frames, footage.length)
        self._embed = None if embed is None else TimedEmbed(embed)
        self._updating = self._reading = 0.0
        self._done = 0

    @property
    def cost(self) -> Cost:
        """Of the frames so far."""
        embedding = 0.0 if self._embed is None else self._embed.seconds
        return Cost(self._done, self._updating - embedding, embedding, self._reading)

    def __iter__(self) -> Iterator[Step]:
        tracker = Tracker(self.settings, self._embed)
        of = self.footage.frames_of_detections()
        pictures = None if self.footage.pictures is None else ahead(self.footage.pictures())
        for number in range(1, self.last + 1):
            started = time.perf_counter()
            picture = None if pictures is None else next(pictures, None)
            if pictures is not None and picture is None:
                self._check_end(number - 1)
                return
            begun = time.perf_counter()
            tracked = tracker.update(*of(number), picture, frame=number)
            self._reading += begun - started
            self._updating += time.perf_counter() - begun
            self._done = number
            yield Step(number, picture, tracked)

    def _check_end(self, read: int) -> None:
        """Videos often claim more frames than they hold; detections of those are a mistake."""
        frames = self.footage.detections.frames
        beyond = frames[(frames > read) & (frames <= self.last)]
        if len(beyond):
            raise DataError(
                f"{self.footage.name} ends after frame {read}, and there are detections up to "
                f"frame {beyond.max()}; are they of it? --frames {read} tracks what is there"
            )


class Kept:
    """The rows of a result, collected frame by frame."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self.proposals = 0

    def add(self, number: int, tracked: Tracked) -> None:
        """What was seen in a frame."""
        if len(tracked):
            frames = np.full(len(tracked), number)
            self._parts.append((frames, tracked.ids, tracked.boxes, tracked.scores))
            self.proposals += int(tracked.proposed.sum())

    def rows(self) -> MotRows:
        """All of it."""
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
        frames, ids, boxes, scores = (
            np.concatenate(parts) for parts in zip(empty, *self._parts, strict=True)
        )
        nothing = np.full(len(frames), -1)
        return MotRows(frames, ids, boxes, scores, nothing, nothing.astype(np.float64))


@dataclass(frozen=True)
class Result:
    """What tracking came to.

    Attributes:
        name: of the sequence.
        rows: every track in every frame in which it was seen.
        proposals: how many of them the tracker found without a detection.
        cost: seconds.
        settings: of the tracker.
        scores: against the truth; None where there is none.
    """

    name: str
    rows: MotRows
    proposals: int
    cost: Cost
    settings: TrackerSettings
    scores: TrackingScores | None

    def as_json(self) -> dict[str, Any]:
        """What is written beside the result file."""
        return {
            "sequence": self.name,
            "frames": self.cost.frames,
            "tracks": len(np.unique(self.rows.ids)),
            "boxes": len(self.rows.ids),
            "proposals": self.proposals,
            "seconds": asdict(self.cost),
            "frames_per_second": self.cost.rates(),
            "settings": asdict(self.settings),
            "scores": None if self.scores is None else self.scores.as_json(),
        }


def run(
    footage: Footage,
    settings: TrackerSettings,
    embed: Embed | None = None,
    *,
    frames: int | None = None,
    watch: Sequence[Callable[[Step, Cost], None]] = (),
) -> Result:
    """Track a sequence from its first frame to its last.

    Args:
        footage: what is tracked.
        settings: of the tracker.
        embed: see `Following`.
        frames: only so many, the first ones.
        watch: called after every frame.

    Raises:
        InputError: see `Following`.
        DataError: a picture is missing or has another size.
    """
    following, kept = Following(footage, settings, embed, frames=frames), Kept()
    for step in following:
        kept.add(step.number, step.tracked)
        for each in watch:
            each(step, following.cost)
    rows = kept.rows()
    scores = None if footage.truth is None else footage.scores(rows, frames)
    return Result(footage.name, rows, kept.proposals, following.cost, settings, scores)


def write(result: Result, folder: Path) -> Path:
    """Write `NAME.txt` in MOTChallenge's format and `NAME.json`, each whole or not at all.

    Returns:
        The path of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.txt"
    write_results(path, result.rows)
    write_text(path.with_suffix(".json"), json.dumps(result.as_json(), indent=1) + "\n")
    return path


def check_needs(footage: Footage, settings: TrackerSettings, embed: Embed | None) -> None:
    """Refuse settings for which pictures or a network are missing.

    Raises:
        InputError: see `Following`.
    """
    if footage.pictures is None and settings.propose:
        raise InputError(
            f"{footage.name} has no pictures, and proposals (use 3) look into them; give the "
            "pictures, or --uses 1,2 with embeddings of the detections, or --uses none"
        )
    if settings.needs_embeddings and embed is None:
        raise InputError(
            "the uses of the appearance need a network: give --embedder RUN, or --uses none to "
            "track by motion and overlap alone"
        )
    if settings.needs_embeddings and footage.pictures is None:
        raise InputError(
            f"{footage.name} has no pictures from which to embed its detections; give them, or "
            "--uses none"
        )
