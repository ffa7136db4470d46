"""One triplet for each sample of a stream, from one remembered sample per class."""

from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.errors import InputError

NEGATIVES = {"author": 0, "latest": 1, "random": 2}
# Places in `Memory.counts`.
KNOWN, PREVIOUS, BEFORE, SAMPLES, TRIPLETS, SEED = range(6)
MASK = (1 << 64) - 1
NUMBERS = "biuf"


class Memory:
    """The latest sample of each class, and what decides who is compared with the next one.

    A sample whose class is known, once two classes are, forms one triplet. If the previous sample
    is of another class, it is the negative, and the positive is the latest of the own class.
    Otherwise the previous sample is the positive; the negative is then the latest sample

    - "author": of the class discovered last, or, if that is the own one, of the one before it;
    - "latest": of another class that came last;
    - "random": of any other class.

    Classes are numbered in the order of their discovery. Memory does not grow with the stream.

    Source: construction of Li et al., "OPML: A One-Pass Closed-Form Solution for Online Metric
    Learning", Pattern Recognition 75, 2018; "author" is what the released code does.

    Args:
        width: numbers of a sample as it is stored.
        negative: a name above.
        cold_start: while one class is known, a sample and the previous one form a pair: a triplet
            whose negative is the sample itself.
        seed: of the random negatives.
    """

    def __init__(self, width: int, negative: str, cold_start: bool, seed: int):
        self.latest = np.zeros((4, width))
        self.counts = np.zeros(6, np.int64)
        self.counts[[PREVIOUS, BEFORE, SEED]] = -1, -1, seed
        self.negative = NEGATIVES[negative]
        self.cold_start = cold_start

    def make_room(self, n_classes: int) -> None:
        """Hold one sample of so many classes."""
        have, width = self.latest.shape
        if n_classes > have:
            self.latest = np.vstack(
                [self.latest, np.zeros((max(n_classes, 2 * have) - have, width))]
            )

    def forget(self) -> None:
        """Begin another scan: no class is known, counters go on."""
        self.latest[:] = 0.0
        self.counts[[KNOWN, PREVIOUS, BEFORE]] = 0, -1, -1

    def pair_up(
        self, x: Float[ndarray, " w"], code: int
    ) -> tuple[Float[ndarray, " w"], Float[ndarray, " w"], bool] | None:
        """Positive and negative for a sample, which is then remembered.

        Args:
            x: the sample.
            code: number of its class; a new one has the next number.

        Returns:
            positive, negative, and whether they are only a pair; None where nothing is formed.
        """
        known, previous, before, sample = (int(n) for n in self.counts[:4])
        found = None
        if code < known and known > 1:
            if previous == code:
                positive, negative = code, self._negative(code, known, before, sample)
            else:
                positive, negative = code, previous
            found = self.latest[positive].copy(), self.latest[negative].copy(), False
        elif code < known and self.cold_start:
            found = self.latest[code].copy(), x, True
        self.counts[KNOWN] = max(known, code + 1)
        if code != previous:
            self.counts[BEFORE], self.counts[PREVIOUS] = previous, code
        self.counts[SAMPLES] += 1
        self.counts[TRIPLETS] += found is not None and not found[2]
        self.latest[code] = x
        return found

    def _negative(self, code: int, known: int, before: int, sample: int) -> int:
        if self.negative == NEGATIVES["latest"]:
            return before
        if self.negative == NEGATIVES["random"]:
            drawn = mixed(int(self.counts[SEED]), sample) % (known - 1)
            return drawn + (drawn >= code)
        return known - 1 if code != known - 1 else known - 2


def mixed(seed: int, position: int) -> int:
    """64 random bits for each place of a stream, the same however the stream is cut (SplitMix64).

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = ((seed ^ (position + 1)) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def unit_row(x: Float[ndarray, " d"]) -> Float[ndarray, " d"]:
    """A row that is not all zeros, divided by its length."""
    square = float(x @ x)
    if not 1e-300 < square < 1e300:
        x = x / np.abs(x).max()
        square = float(x @ x)
    return x / sqrt(square)


def same_kind(labels: ndarray, others: ndarray) -> None:
    """Labels can be ordered with each other.

    Raises:
        InputError: some are numbers, others are not.
    """
    if len(labels) and len(others):
        kinds = labels.dtype.kind in NUMBERS, others.dtype.kind in NUMBERS
        if kinds[0] != kinds[1]:
            raise InputError(
                f"y must be labels of one kind, got {labels.dtype} beside {others.dtype}; convert "
                "them to one"
            )


class Labels:
    """Numbers for labels, in the order of their discovery."""

    def __init__(self):
        self.names: list[Any] = []
        self._codes: dict[Any, int] = {}
        self._ordered: ndarray | None = None
        self._code_of_ordered: ndarray | None = None

    def codes(self, y: ndarray) -> Int[ndarray, " n"]:
        """The number of each label; new ones get the next.

        Raises:
            InputError: labels of a kind that cannot be ordered with the earlier ones.
        """
        if len(y) == 1 and (code := self._codes.get(y.item())) is not None:
            return np.array([code])
        if self._ordered is not None and self._code_of_ordered is not None:
            same_kind(y, self._ordered)
            place = np.minimum(np.searchsorted(self._ordered, y), len(self._ordered) - 1)
            if (self._ordered[place] == y).all():
                return self._code_of_ordered[place]
        found, first, place = np.unique(y, return_index=True, return_inverse=True)
        names = found.tolist()
        for i in np.argsort(first, kind="stable").tolist():
            if names[i] not in self._codes:
                self._codes[names[i]] = len(self.names)
                self.names.append(found[i])
        known = np.array(self.names, dtype=y.dtype if y.dtype.kind == "O" else None)
        order = np.argsort(known, kind="stable")
        self._ordered, self._code_of_ordered = known[order], order
        return np.array([self._codes[name] for name in names])[place.reshape(-1)]

    @property
    def ordered(self) -> ndarray:
        """Labels seen so far, in order."""
        return np.array([]) if self._ordered is None else self._ordered
