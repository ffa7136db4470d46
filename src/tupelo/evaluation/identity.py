"""IDF1: how long results keep to one object, by the best pairing of whole tracks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from tupelo.evaluation.tracks import OVERLAP, Overlaps, Tracks, overlaps


@dataclass(frozen=True)
class Identity:
    """Counts of boxes under the best pairing of objects and result tracks, and their ratios.

    Attributes:
        idtp: true boxes found by the result track that is paired with their object.
        idfp: all other result boxes.
        idfn: all other true boxes.
    """

    idtp: int
    idfp: int
    idfn: int

    @property
    def idf1(self) -> float:
        """2 IDTP / (2 IDTP + IDFP + IDFN); 0 where there are no boxes."""
        return self._share((self.idfp + self.idfn) / 2)

    @property
    def idp(self) -> float:
        """IDTP / (IDTP + IDFP)."""
        return self._share(self.idfp)

    @property
    def idr(self) -> float:
        """IDTP / (IDTP + IDFN)."""
        return self._share(self.idfn)

    def _share(self, others: int | float) -> float:
        return self.idtp / (self.idtp + others) if self.idtp else 0.0

    def as_json(self) -> dict[str, Any]:
        """Names of the field and values."""
        return {
            "IDF1": self.idf1,
            "IDP": self.idp,
            "IDR": self.idr,
            "IDTP": self.idtp,
            "IDFP": self.idfp,
            "IDFN": self.idfn,
        }


def identity(truth: Tracks, result: Tracks) -> Identity:
    """IDF1 at an IoU of 0.5.

    Source: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking", 2016. Their cost counts the boxes of both tracks, and twice those they share less; so
    the cheapest pairing is the one that shares the most boxes, and no rows for unpaired tracks
    are needed.

    Example:
        >>> boxes = np.tile(np.array([[0.0, 0, 10, 20]]), (4, 1))
        >>> truth = Tracks(np.arange(1, 5), np.array([1, 1, 1, 1]), boxes)
        >>> result = Tracks(np.arange(1, 5), np.array([5, 5, 5, 6]), boxes)
        >>> identity(truth, result)
        Identity(idtp=3, idfp=1, idfn=1)
    """
    return identity_of(overlaps(truth, result))


def identity_of(found: Overlaps) -> Identity:
    """As `identity`, of boxes that were compared before."""
    near = found.iou >= OVERLAP
    shape = len(found.truth_lengths), len(found.result_lengths)
    key = found.truth_tracks[found.truth_rows[near]] * shape[1]
    key += found.result_tracks[found.result_rows[near]]
    shared = np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)
    together = int(shared[linear_sum_assignment(shared, maximize=True)].sum())
    return Identity(
        together, len(found.result_frames) - together, len(found.truth_frames) - together
    )
