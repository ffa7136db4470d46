"""Batches of triplets for `tp.fit`: from one fixed list, or drawn anew for every epoch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from tupelo.data.batches import LabelArray
from tupelo.errors import InputError
from tupelo.generative.triplets import TripletList, random_triplets

PER_BATCH = 120  # triplets, as in the run whose numbers were published


class TripletBatches:
    """Batches of a fixed list of triplets, in an order that every epoch has anew.

    The rows of a batch are triplet by triplet: anchor, positive, negative, and then the
    unlabelled pictures that go with it. The last batch is smaller where it does not divide.

    Args:
        triplets: the list.
        per_batch: triplets a batch, >= 1.
        seed: of the order.
        unlabelled: positions of pictures without label, for semi-supervised learning; each
            triplet is followed by `per_triplet` of them.
        per_triplet: unlabelled pictures a triplet, >= 1; not used without any.

    Attributes:
        digest: of the list; a resumed run must have the same.

    Raises:
        InputError: `per_batch` or `per_triplet` is below 1.

    >>> from tupelo.generative.triplets import random_triplets
    >>> batches = TripletBatches(random_triplets(np.array([0, 0, 1, 1]), 6), per_batch=4)
    >>> [len(batch) for batch in batches.epoch(0)]
    [12, 6]
    """

    def __init__(
        self,
        triplets: TripletList,
        *,
        per_batch: int = PER_BATCH,
        seed: int = 0,
        unlabelled: Sequence[int] | Int64[np.ndarray, " u"] = (),
        per_triplet: int = 1,
    ) -> None:
        _check(per_batch, per_triplet)
        self._triplets = triplets
        self._unlabelled = np.asarray(unlabelled, dtype=np.int64)
        self.digest = triplets.digest
        self.per_batch = per_batch
        self.seed = seed
        self.unlabelled = len(self._unlabelled)
        self.per_triplet = per_triplet if self.unlabelled else 0

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number])
        rows = self._triplets.rows[rng.permutation(len(self._triplets))]
        return _batches(rows, self._unlabelled, self.per_triplet, self.per_batch, rng)


class FreshTriplets:
    """Batches of triplets that are drawn anew for every epoch; ours, not of the paper.

    The triplets of an epoch follow from (seed, number) alone, so a run resumes in the middle.

    Args:
        labels: class numbers (n,).
        count: triplets an epoch, >= 1.
        per_batch, seed, unlabelled, per_triplet: as for `TripletBatches`.
        classes, among: see `random_triplets`.

    Raises:
        InputError: see `TripletBatches` and `random_triplets`.

    >>> fresh = FreshTriplets(np.array([0, 0, 1, 1]), 6, per_batch=4)
    >>> len(fresh.epoch(0)), len(fresh.epoch(0)[0])
    (2, 12)
    """

    def __init__(
        self,
        labels: LabelArray,
        count: int,
        *,
        per_batch: int = PER_BATCH,
        seed: int = 0,
        classes: Sequence[int] | None = None,
        among: Sequence[int] | Int64[np.ndarray, " m"] | None = None,
        unlabelled: Sequence[int] | Int64[np.ndarray, " u"] = (),
        per_triplet: int = 1,
    ) -> None:
        _check(per_batch, per_triplet)
        random_triplets(
            labels, count, classes=classes, among=among
        )  # refuses what cannot be drawn from
        self._labels = np.asarray(labels)
        self._among = among
        self._unlabelled = np.asarray(unlabelled, dtype=np.int64)
        self.classes = None if classes is None else tuple(map(int, classes))
        self.count = count
        self.per_batch = per_batch
        self.seed = seed
        self.unlabelled = len(self._unlabelled)
        self.per_triplet = per_triplet if self.unlabelled else 0

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number])
        drawn = random_triplets(
            self._labels,
            self.count,
            seed=(self.seed, number),
            classes=self.classes,
            among=self._among,
        )
        rows = drawn.rows[rng.permutation(self.count)]
        return _batches(rows, self._unlabelled, self.per_triplet, self.per_batch, rng)


def _check(per_batch: int, per_triplet: int) -> None:
    for name, value in (("per_batch", per_batch), ("per_triplet", per_triplet)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")


def _batches(
    rows: np.ndarray, unlabelled: np.ndarray, each: int, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    if each:
        wanted = len(rows) * each
        rounds = -(-wanted // len(unlabelled))
        shuffled = np.concatenate([rng.permutation(unlabelled) for _ in range(rounds)])
        rows = np.concatenate([rows, shuffled[:wanted].reshape(len(rows), each)], axis=1)
    return [rows[start : start + size].ravel() for start in range(0, len(rows), size)]
