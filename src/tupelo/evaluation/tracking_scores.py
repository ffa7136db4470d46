"""CLEAR MOT, IDF1 and HOTA of one sequence or of several pooled."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from tupelo.errors import InputError
from tupelo.evaluation.clear_mot import TRACKEVAL, ClearMot, ClearRules, clear_of
from tupelo.evaluation.hota import Hota, hota_of
from tupelo.evaluation.identity import Identity, identity_of
from tupelo.evaluation.tracks import Tracks, overlaps

Counts = TypeVar("Counts", ClearMot, Identity, Hota)


@dataclass(frozen=True, eq=False)
class TrackingScores:
    """The three measures of a tracker.

    Attributes:
        clear: misses, false positives, switches.
        identity: whether whole tracks keep to one object.
        hota: detection and association over all thresholds.
    """

    clear: ClearMot
    identity: Identity
    hota: Hota

    def as_json(self) -> dict[str, Any]:
        """Names of the field and values."""
        return self.clear.as_json() | self.identity.as_json() | self.hota.as_json()


def score_tracks(truth: Tracks, result: Tracks, rules: ClearRules = TRACKEVAL) -> TrackingScores:
    """All three measures from one pass over the boxes.

    Args:
        truth: the objects.
        result: of the tracker.
        rules: of CLEAR MOT.

    Example:
        >>> import numpy as np
        >>> boxes = np.tile(np.array([[0.0, 0, 10, 20]]), (4, 1))
        >>> truth = Tracks(np.arange(1, 5), np.array([1, 1, 1, 1]), boxes)
        >>> result = Tracks(np.arange(1, 4), np.array([5, 5, 6]), boxes[:3])
        >>> found = score_tracks(truth, result)
        >>> found.clear.mota, round(found.identity.idf1, 3), round(found.hota.hota, 3)
        (0.5, 0.571, 0.559)
    """
    found = overlaps(truth, result)
    return TrackingScores(clear_of(found, rules), identity_of(found), hota_of(found))


def pooled(scores: Sequence[TrackingScores]) -> TrackingScores:
    """Scores of all sequences together: counts are added and ratios computed anew.

    Raises:
        InputError: no sequence.
    """
    if not scores:
        raise InputError("scores must be of one sequence or more, got none")
    return TrackingScores(
        _sum_of([each.clear for each in scores]),
        _sum_of([each.identity for each in scores]),
        _sum_of([each.hota for each in scores]),
    )


def _sum_of(counts: Sequence[Counts]) -> Counts:
    names = [each.name for each in fields(counts[0])]
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in counts) for name in names}
    return type(counts[0])(**sums)
