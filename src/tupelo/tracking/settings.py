"""What a tracker is told, with the defaults of DeepSORT where it has them."""

import math
from dataclasses import dataclass, replace
from typing import Any

from tupelo.errors import InputError
from tupelo.tracking.kalman import GATE


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """Thresholds and switches of `Tracker`.

    Only the three uses, strong detections and the motion model are read in the paper (Thoreau &
    Kottege, 2018); everything else is our reconstruction, on the numbers of DeepSORT where it has
    them (`docs/tracker.md`).

    Attributes:
        against_switches: use 1 of the appearance: it decides between neighbours.
        through_occlusion: use 2: a track that was hidden is found again.
        propose: use 3: where the detector fails, the tracker looks for the object itself.
        min_confidence: detections below are not associated.
        strong_confidence: detections from here on begin tracks and are remembered.
        low_confidence: those between this and `min_confidence` are proposals.
        min_height: smaller detections are dropped; pixels.
        nms_overlap: intersection over union above which the weaker of two goes; 1: none goes.
        appearance: greatest cosine distance of a match, in (0, 2].
        reidentify: the same after an occlusion, stricter.
        proposal: the same for a proposal.
        samples: candidates drawn for a track that the detector missed.
        candidates: "samples" about the predicted place, or a fixed "grid" of 75.
        max_proposals: accepted one after another, before a detection must confirm them.
        confirm_after: detections in a row that make a track.
        max_age: frames that a track outlives without being seen, with use 2.
        max_age_without: the same without use 2.
        gallery: embeddings remembered for a track.
        gallery_overlap: a detection that overlaps another by so much is not remembered.
        iou_distance: greatest 1 - intersection over union of a match by place.
        gate: greatest squared Mahalanobis distance.
        occlusion_cost: "appearance", or "motion" where there are no pictures (ours).
        hidden_first: lost tracks look for themselves before anything is matched by place (ours: it
            keeps a new track from taking the object that a lost one waits for); False: after it.
        cascade: after an occlusion, tracks missed for fewer frames choose first.
        seed: of the samples.

    Raises:
        InputError: a threshold out of its range.
    """

    against_switches: bool = True
    through_occlusion: bool = True
    propose: bool = True
    min_confidence: float = 0.3
    strong_confidence: float = 0.6
    low_confidence: float = 0.1
    min_height: float = 0.0
    nms_overlap: float = 1.0
    appearance: float = 0.25
    reidentify: float = 0.20
    proposal: float = 0.20
    samples: int = 32
    candidates: str = "samples"
    max_proposals: int = 15
    confirm_after: int = 3
    max_age: int = 30
    max_age_without: int = 3
    gallery: int = 100
    gallery_overlap: float = 0.5
    iou_distance: float = 0.7
    gate: float = GATE
    occlusion_cost: str = "appearance"
    hidden_first: bool = True
    cascade: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("appearance", "reidentify", "proposal"):
            _between(name, getattr(self, name), 0.0, 2.0, open_below=True)
        for name in ("iou_distance", "nms_overlap", "gallery_overlap"):
            _between(name, getattr(self, name), 0.0, 1.0)
        _between("gate", self.gate, 0.0, math.inf, open_below=True)
        _between("min_height", self.min_height, 0.0, math.inf)
        for name in ("confirm_after", "max_age", "max_age_without", "gallery"):
            _at_least(name, getattr(self, name), 1)
        for name in ("samples", "max_proposals", "seed"):
            _at_least(name, getattr(self, name), 0)
        ordered = (self.low_confidence, self.min_confidence, self.strong_confidence)
        if not (0 <= ordered[0] <= ordered[1] <= ordered[2]):
            raise InputError(
                "0 <= low_confidence <= min_confidence <= strong_confidence must hold, got "
                f"{', '.join(f'{value:g}' for value in ordered)}"
            )
        _one_of("candidates", self.candidates, ("samples", "grid"))
        _one_of("occlusion_cost", self.occlusion_cost, ("appearance", "motion"))

    @classmethod
    def calibrated(
        cls, far_distance: float, same_distance: float = 0.0, **changes: Any
    ) -> "TrackerSettings":
        """Thresholds of a network.

        `reidentify` and `proposal` are 0.8 of the first distance, since a mistake costs most there.
        `appearance` is the greater of the two: where motion allows one or two neighbours only, true
        matches that are refused cost more than strangers who would pass.

        Args:
            far_distance: cosine distance at which 1 % of different identities are taken for the
                same, of `load_reid(run)`.
            same_distance: within which 95 % of pairs of one identity lie, of the same.
            changes: of other attributes, or of these.

        >>> TrackerSettings.calibrated(0.25).reidentify
        0.2
        """
        stricter = 0.8 * far_distance
        near = max(far_distance, same_distance)
        distances = {"appearance": near, "reidentify": stricter, "proposal": stricter}
        return cls(**{**distances, **changes})

    def with_uses(self, *uses: int) -> "TrackerSettings":
        """The same with these uses of the appearance only, of 1, 2 and 3.

        >>> TrackerSettings().with_uses(2).propose
        False
        """
        if not set(uses) <= {1, 2, 3}:
            raise InputError(f"uses must be of 1, 2, 3, got {uses}")
        return replace(
            self, against_switches=1 in uses, through_occlusion=2 in uses, propose=3 in uses
        )

    @property
    def needs_embeddings(self) -> bool:
        """Whether any part looks at what detections look like."""
        by_look = self.through_occlusion and self.occlusion_cost == "appearance"
        return self.against_switches or by_look or self.propose

    @property
    def lifetime(self) -> int:
        """Frames that a track outlives without being seen."""
        return self.max_age if self.through_occlusion else self.max_age_without


def _between(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    if not (low < value or (low == value and not open_below)) or not value <= high:
        bracket = "(" if open_below else "["
        raise InputError(f"{name} must be in {bracket}{low:g}, {high:g}], got {value:g}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} must be {least} or more, got {value}")


def _one_of(name: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise InputError(f"{name} must be one of {', '.join(names)}, got {value!r}")
