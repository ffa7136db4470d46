"""What each use of the appearance is worth: the same footage tracked with every choice of uses.

All trackers walk through the frames side by side, so that a picture is decoded once and detections
are embedded once; proposals, which differ, are embedded by each.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupelo.errors import DataError, InputError
from tupelo.evaluation import TrackingScores, pooled
from tupelo.recipes.footage import Footage, ahead
from tupelo.recipes.tracking import Cost, Embed, Kept, TimedEmbed, check_needs
from tupelo.tracking import Tracker, TrackerSettings

CHOICES: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))
COLUMNS = ("MOTA", "IDF1", "HOTA", "FP", "FN", "IDs", "Frag", "MT")
RATIOS = ("MOTA", "IDF1", "HOTA")


@dataclass(frozen=True)
class Row:
    """One choice of uses, over all sequences.

    Attributes:
        uses: of 1, 2 and 3.
        scores: pooled.
        proposals: boxes that the tracker found itself.
        association: frames a second without embedding.
    """

    uses: tuple[int, ...]
    scores: TrackingScores
    proposals: int
    association: float

    @property
    def name(self) -> str:
        """As in a table: "none", "1", "1+3", "all"."""
        return name_of(self.uses)

    def cells(self) -> list[str]:
        """The columns, as text."""
        values = self.scores.as_json()
        return [f"{values[c]:.3f}" if c in RATIOS else f"{values[c]:,}" for c in COLUMNS]


@dataclass(frozen=True)
class Ablation:
    """The table of an ablation.

    Attributes:
        rows: one for each choice of uses.
        sequences: names.
        frames: in all.
        each: scores of every sequence by choice and name.
    """

    rows: tuple[Row, ...]
    sequences: tuple[str, ...]
    frames: int
    each: dict[str, dict[str, TrackingScores]]

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "sequences": list(self.sequences),
            "frames": self.frames,
            "uses": {
                row.name: {
                    **row.scores.as_json(),
                    "proposals": row.proposals,
                    "association frames per second": row.association,
                }
                for row in self.rows
            },
            "each": {
                name: {sequence: scores.as_json() for sequence, scores in found.items()}
                for name, found in self.each.items()
            },
        }

    def markdown(self) -> str:
        """The table of the pooled scores."""
        lines = ["| uses | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
        lines += [f"| {row.name} | " + " | ".join(row.cells()) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def name_of(uses: Sequence[int]) -> str:
    """A choice of uses in words.

    >>> name_of(()), name_of((1, 3)), name_of((1, 2, 3))
    ('none', '1+3', 'all')
    """
    return {0: "none", 3: "all"}.get(len(uses), "+".join(map(str, uses)))


def ablation(
    footages: Sequence[Footage],
    settings: TrackerSettings,
    embed: Embed | None,
    *,
    choices: Sequence[tuple[int, ...]] = CHOICES,
    frames: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Ablation:
    """Track every sequence with every choice of uses and pool the scores.

    Args:
        footages: each with a truth.
        settings: of all trackers, whatever they say of uses.
        embed: from a picture and boxes to unit rows; None where no choice needs it.
        choices: of uses.
        frames: only so many of each sequence, the first ones.
        progress: called with name of the sequence, frames done and frames in all.

    Raises:
        InputError: there is no sequence, two share a name, one has no truth, or lacks what a
            choice needs.
    """
    names = [footage.name for footage in footages]
    if not names or len(set(names)) < len(names):
        raise InputError(f"sequences must be one or more of different names, got {names}")
    for footage in footages:
        if footage.truth is None:
            raise InputError(f"{footage.name} has no truth (gt/gt.txt) to compare with")
        for uses in choices:
            check_needs(footage, settings.with_uses(*uses), embed)
    found: dict[str, dict[str, TrackingScores]] = {name_of(uses): {} for uses in choices}
    costs: dict[str, list[Cost]] = {name: [] for name in found}
    proposals = dict.fromkeys(found, 0)
    for footage in footages:
        for name, (kept, cost) in _side_by_side(
            footage, settings, embed, choices, frames, progress
        ).items():
            found[name][footage.name] = footage.scores(kept.rows(), frames)
            costs[name].append(cost)
            proposals[name] += kept.proposals
    rows = []
    for uses in choices:
        name = name_of(uses)
        done = sum(cost.frames for cost in costs[name])
        seconds = sum(cost.association for cost in costs[name])
        scores = pooled(list(found[name].values()))
        rows.append(Row(tuple(uses), scores, proposals[name], done / max(seconds, 1e-9)))
    total = sum(cost.frames for cost in next(iter(costs.values())))
    return Ablation(tuple(rows), tuple(names), total, found)


def _side_by_side(
    footage: Footage,
    settings: TrackerSettings,
    embed: Embed | None,
    choices: Sequence[tuple[int, ...]],
    frames: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, tuple[Kept, Cost]]:
    """Results of one sequence by choice."""
    last = footage.length if frames is None else min(frames, footage.length)
    needed = any(settings.with_uses(*uses).needs_embeddings for uses in choices)
    clocks = {name_of(uses): None if embed is None else TimedEmbed(embed) for uses in choices}
    trackers = {
        name_of(uses): Tracker(settings.with_uses(*uses), clocks[name_of(uses)]) for uses in choices
    }
    kept = {name: Kept() for name in trackers}
    updating = dict.fromkeys(trackers, 0.0)
    of = footage.frames_of_detections()
    pictures = None if footage.pictures is None else ahead(footage.pictures())
    for number in range(1, last + 1):
        picture = None if pictures is None else next(pictures, None)
        if pictures is not None and picture is None:
            raise DataError(
                f"{footage.name} ends after frame {number - 1} of {last}; --frames {number - 1} "
                "compares on what is there"
            )
        boxes, scores = of(number)
        rows = _embedded(picture, boxes, scores, settings, embed) if needed else None
        for name, tracker in trackers.items():
            started = time.perf_counter()
            tracked = tracker.update(boxes, scores, picture, embeddings=rows, frame=number)
            updating[name] += time.perf_counter() - started
            kept[name].add(number, tracked)
        if progress is not None:
            progress(footage.name, number, last)
    costs = {}
    for name, clock in clocks.items():
        embedding = 0.0 if clock is None else clock.seconds
        costs[name] = Cost(last, updating[name] - embedding, embedding, 0.0)
    return {name: (kept[name], costs[name]) for name in trackers}


def _embedded(
    picture: np.ndarray | None,
    boxes: np.ndarray,
    scores: np.ndarray,
    settings: TrackerSettings,
    embed: Embed | None,
) -> np.ndarray | None:
    """Rows of all detections, NaN for those too weak to be looked at."""
    if picture is None or embed is None:
        return None
    looked_at = np.flatnonzero(scores >= settings.min_confidence)
    found = embed(picture, boxes[looked_at])
    rows = np.full((len(boxes), found.shape[1]), np.nan, np.float32)
    rows[looked_at] = found
    return rows
