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
    unlabelled pictures that go with it. The last batch is smaller where the list does not divide,
    down to one triplet, whose step then weighs as much as that of a full batch, unless `even`.

    Args:
        triplets: the list.
        per_batch: triplets a batch, >= 1.
        seed: of the order.
        unlabelled: positions of pictures without label, for semi-supervised learning; each
            triplet is followed by `per_triplet` of them.
        per_triplet: unlabelled pictures a triplet, >= 1; not used without any.
        even: as many batches, but of sizes that differ by at most one, as those of `Shuffled`.

    Attributes:
        digest: of the list; a resumed run must have the same.

    Raises:
        InputError: `per_batch` or `per_triplet` is below 1, or a position is negative.

    >>> from tupelo.generative.triplets import random_triplets
    >>> triplets = random_triplets(np.array([0, 0, 1, 1]), 6)
    >>> [len(batch) for batch in TripletBatches(triplets, per_batch=4).epoch(0)]
    [12, 6]
    >>> [len(batch) for batch in TripletBatches(triplets, per_batch=4, even=True).epoch(0)]
    [9, 9]
    """

    even = False

    def __init__(
        self,
        triplets: TripletList,
        *,
        per_batch: int = PER_BATCH,
        seed: int = 0,
        unlabelled: Sequence[int] | Int64[np.ndarray, " u"] = (),
        per_triplet: int = 1,
        even: bool = False,
    ) -> None:
        self._unlabelled = _checked(per_batch, per_triplet, unlabelled)
        self._triplets = triplets
        self.digest = triplets.digest
        self.per_batch = per_batch
        self.seed = seed
        self.unlabelled = len(self._unlabelled)
        self.per_triplet = per_triplet if self.unlabelled else 0
        if even:  # only then an option by which a resumed run is recognised
            self.even = True

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number])
        rows = self._triplets.rows[rng.permutation(len(self._triplets))]
        rows = _with_unlabelled(rows, self._unlabelled, self.per_triplet, rng)
        return _divided(rows, self.per_batch, self.even)


class FreshTriplets:
    """Batches of triplets that are drawn anew for every epoch; ours, not of the paper.

    The triplets of an epoch follow from (seed, number) alone, so a run resumes in the middle.

    Args:
        labels: class numbers (n,).
        count: triplets an epoch, >= 1.
        per_batch, seed, unlabelled, per_triplet, even: as for `TripletBatches`.
        classes, among: see `random_triplets`.

    Raises:
        InputError: see `TripletBatches` and `random_triplets`.

    >>> fresh = FreshTriplets(np.array([0, 0, 1, 1]), 6, per_batch=4)
    >>> len(fresh.epoch(0)), len(fresh.epoch(0)[0])
    (2, 12)
    """

    even = False

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
        even: bool = False,
    ) -> None:
        self._unlabelled = _checked(per_batch, per_triplet, unlabelled)
        random_triplets(
            labels, count, classes=classes, among=among
        )  # refuses what cannot be drawn from
        self._labels = np.asarray(labels)
        self._among = among
        self.classes = None if classes is None else tuple(map(int, classes))
        self.count = count
        self.per_batch = per_batch
        self.seed = seed
        self.unlabelled = len(self._unlabelled)
        self.per_triplet = per_triplet if self.unlabelled else 0
        if even:  # see `TripletBatches`
            self.even = True

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
        rows = _with_unlabelled(rows, self._unlabelled, self.per_triplet, rng)
        return _divided(rows, self.per_batch, self.even)


def _checked(
    per_batch: int, per_triplet: int, unlabelled: Sequence[int] | np.ndarray
) -> np.ndarray:
    for name, value in (("per_batch", per_batch), ("per_triplet", per_triplet)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    positions = np.asarray(unlabelled, dtype=np.int64)
    if len(positions) and positions.min() < 0:
        raise InputError(f"unlabelled must be positions >= 0, got {positions.min()}")
    return positions


def _with_unlabelled(
    rows: np.ndarray, unlabelled: np.ndarray, each: int, rng: np.random.Generator
) -> np.ndarray:
    if not each:
        return rows
    wanted = len(rows) * each
    rounds = -(-wanted // len(unlabelled))
    shuffled = np.concatenate([rng.permutation(unlabelled) for _ in range(rounds)])
    return np.concatenate([rows, shuffled[:wanted].reshape(len(rows), each)], axis=1)


def _divided(rows: np.ndarray, size: int, even: bool) -> list[np.ndarray]:
    """Triplets (t, 3 + unlabelled) as flat batches."""
    if even:
        return [part.ravel() for part in np.array_split(rows, -(-len(rows) // size))]
    return [rows[start : start + size].ravel() for start in range(0, len(rows), size)]
