"""Which pictures make a batch: P classes x K items, plain shuffles, and tuples of classes.

Every maker has `epoch(number)`, the list of index arrays of that epoch, a function of the seed and
the number alone: a run resumes in the middle with `epoch(number)[step:]`.
"""

import math

import numpy as np
from jaxtyping import Bool, Int64

from tupelo.errors import InputError

LabelArray = Int64[np.ndarray, " n"] | Bool[np.ndarray, "n tags"]


class ClassBalanced:
    """Batches of P distinct classes with K distinct items each; every item in every epoch.

    Classes smaller than K give all they have; the batch is then filled with further classes and
    cut to P * K rows, as the released code of IAA does. Every batch has a positive if P >= 2. Where
    classes differ in size, small ones are drawn again, all equally often as far as possible, so
    that an epoch is no longer than its largest class, or the number of items, demands, or little
    longer. With tags, each item stands, for one epoch, for one of its tags, the one with the
    fewest items so far; items without a tag stand alone.

    Args:
        labels: class numbers `(n,)`, or tags `(n, tags)`.
        classes: P, classes a batch.
        per_class: K >= 2, items a class.
        seed: of all draws.

    Raises:
        InputError: K < 2, more classes asked for than there are, no class with 2 items, or too
            few items for a full batch.

    >>> batches = ClassBalanced(np.repeat(np.arange(4), 6), classes=2, per_class=3).epoch(0)
    >>> len(batches), len(np.unique(np.concatenate(batches)))
    (4, 24)
    """

    def __init__(self, labels: LabelArray, *, classes: int, per_class: int, seed: int = 0) -> None:
        if per_class < 2:
            raise InputError(
                f"per_class must be at least 2, so that every item has a positive, got {per_class}"
            )
        if classes < 1:
            raise InputError(f"classes must be at least 1, got {classes}")
        self.labels = labels
        self.classes = classes
        self.per_class = per_class
        self.seed = seed
        self._numbers(0)

    @property
    def batch_size(self) -> int:
        """P * K, the number of rows of every batch."""
        return self.classes * self.per_class

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch; the items of a class stand together."""
        rng = np.random.default_rng([self.seed, number])
        numbers = self._numbers(number)
        shuffled = rng.permutation(len(numbers))
        order = shuffled[np.argsort(numbers[shuffled], kind="stable")]
        counts = np.bincount(numbers)
        queues = _Queues(order, counts, rng)
        take = np.minimum(counts, self.per_class)
        draws = _plan(counts, take, self.batch_size, self.per_class, rng)
        batches = []
        while queues.unseen:
            picked = self._pick(draws, take, queues.drawn, rng)
            room = self.batch_size
            rows = []
            for label in picked:
                chunk = queues.draw(label, min(room, int(take[label])))
                rows.append(chunk)
                room -= len(chunk)
                still = -(-queues.fresh[label] // self.per_class)
                draws[label] = max(draws[label] - 1, still)
            batches.append(np.concatenate(rows))
        return batches

    def _pick(
        self, draws: np.ndarray, take: np.ndarray, drawn: np.ndarray, rng: np.random.Generator
    ) -> list[int]:
        """Distinct classes that fill a batch: those that cannot wait, then by draws left."""
        left = max(1, int(draws.max()), -(-int(draws @ take) // self.batch_size))
        wait = rng.standard_exponential(len(draws))
        # A race in which a class runs as fast as it has draws left, or 0 when none may be spared.
        ready = np.flatnonzero(draws)
        time = np.where(draws[ready] >= left, -1.0, wait[ready] / draws[ready])
        near = ready
        if len(ready) > 4 * self.batch_size:
            near_time = np.argpartition(time, self.batch_size)[: self.batch_size]
            near, time = ready[near_time], time[near_time]
        picked = near[np.argsort(time)]
        if take[picked].sum() < self.batch_size:
            rest = np.flatnonzero(draws == 0)
            picked = np.concatenate([picked, rest[np.lexsort((wait[rest], drawn[rest]))]])
        up_to = np.cumsum(take[picked])
        picked = picked[: int(np.searchsorted(up_to, self.batch_size)) + 1]
        kept = take[picked] - np.maximum(up_to[: len(picked)] - self.batch_size, 0)
        if self.classes > 1 and kept.max() == 1:  # no positive: a larger class goes before them
            larger = np.flatnonzero(take > 1)
            first = larger[np.lexsort((wait[larger], drawn[larger]))[:1]]
            rest = picked[picked != first]
            picked = np.concatenate([first, rest[: self.batch_size - int(take[first[0]])]])
        return picked.tolist()

    def _numbers(self, epoch: int) -> np.ndarray:
        """One class number an item, 0 and up without gaps, checked to fill a batch."""
        if self.labels.ndim == 2:
            numbers = _one_tag(self.labels, np.random.default_rng([self.seed, epoch, 1]))
        else:
            numbers = self.labels
        counts = np.unique(numbers, return_counts=True)[1]
        numbers = np.unique(numbers, return_inverse=True)[1]
        _check_counts(counts, self.classes, self.per_class)
        return numbers


class WithShifted:
    """Batches that end in some of their own rows again, for crops moved off their object.

    Args:
        batches: draws so many rows every time.
        share: of the rows of a batch that come again, rounded up, in (0, 1].
        seed: of who comes again.

    Raises:
        InputError: `share` is out of its range.

    >>> whole = ClassBalanced(np.repeat(np.arange(4), 6), classes=2, per_class=2)
    >>> [len(batch) for batch in WithShifted(whole, 0.25).epoch(0)][:2]
    [5, 5]
    """

    def __init__(self, batches: ClassBalanced, share: float = 0.25, seed: int = 0) -> None:
        if not 0 < share <= 1:
            raise InputError(f"share must be in (0, 1], got {share}")
        self.batches = batches
        self.share = share
        self.seed = seed

    @property
    def rows(self) -> int:
        """Rows of every batch before those that come again."""
        return self.batches.batch_size

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number, 2])  # apart from the draws of the batches
        extra = math.ceil(round(self.share * self.rows, 9))
        return [
            np.concatenate([rows, np.sort(rng.choice(rows, extra, replace=False))])
            for rows in self.batches.epoch(number)
        ]


class Shuffled:
    """Every item once an epoch, in random order, in batches whose sizes differ by at most one.

    Args:
        n: number of items.
        batch_size: the most rows a batch has.
        seed: of the order.

    Raises:
        InputError: n or batch_size below 1.

    >>> [len(batch) for batch in Shuffled(10, 4).epoch(0)]
    [4, 3, 3]
    """

    def __init__(self, n: int, batch_size: int, seed: int = 0) -> None:
        if n < 1 or batch_size < 1:
            raise InputError(f"n and batch_size must be at least 1, got {n} and {batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        order = np.random.default_rng([self.seed, number]).permutation(self.n)
        return np.array_split(order, -(-self.n // self.batch_size))


class NPair:
    """N distinct classes with 2 distinct items each, ordered [anchors, positives].

    Source: specification of HDML's samplers; every item in every epoch, as `ClassBalanced`.

    Args:
        labels: class numbers `(n,)`.
        n: classes a batch, half its rows.
        seed: of all draws.

    Raises:
        InputError: more classes asked for than there are, or a class with fewer than 2 items.

    >>> NPair(np.array([0, 0, 1, 1]), 2).epoch(0)[0].shape
    (4,)
    """

    def __init__(self, labels: Int64[np.ndarray, " n"], n: int, seed: int = 0) -> None:
        _check_pairs(labels)
        self._pairs = ClassBalanced(labels, classes=n, per_class=2, seed=seed)
        self.batch_size = 2 * n

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        return [np.concatenate([rows[0::2], rows[1::2]]) for rows in self._pairs.epoch(number)]


class Triplets:
    """2n distinct classes: n give an anchor and a positive, n a negative; [anchors, pos., neg.].

    Drawn in twos, the second batch with the roles of the classes exchanged, so that every item
    comes in every epoch.

    Args:
        labels: class numbers `(n,)`.
        n: triplets a batch, a third of its rows.
        seed: of all draws.

    Raises:
        InputError: 2n exceeds the number of classes, or a class has fewer than 2 items.

    >>> Triplets(np.array([0, 0, 1, 1]), 1).epoch(0)[0].shape
    (3,)
    """

    def __init__(self, labels: Int64[np.ndarray, " n"], n: int, seed: int = 0) -> None:
        _check_pairs(labels)
        self._pairs = ClassBalanced(labels, classes=2 * n, per_class=2, seed=seed)
        self.n = n
        self.batch_size = 3 * n

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        batches = []
        for rows in self._pairs.epoch(number):
            near, far = rows[: 2 * self.n], rows[2 * self.n :]
            batches.append(np.concatenate([near[0::2], near[1::2], far[0::2]]))
            batches.append(np.concatenate([far[0::2], far[1::2], near[1::2]]))
        return batches


class RandomPairs:
    """Pairs drawn at random, some of one class and the rest of two; partners stand together.

    Rows are [a0, b0, a1, b1, ...], positive pairs first. The first of a pair comes from a shuffled
    list of all items, or of those with a partner, the second is drawn among all that fit. An
    epoch has as many rows as there are items, rounded up to full batches; an item may come twice.
    Source: 32 pairs, half of them positive, in Kim et al., "Attention-based Ensemble for Deep
    Metric Learning", ECCV 2018.

    Args:
        labels: class numbers `(n,)`.
        pairs: of a batch, half its rows.
        positive: how many of them are of one class; default half.
        seed: of all draws.

    Raises:
        InputError: no pair of one of the two kinds is asked for, no class has 2 items, or there
            is only one class.

    >>> labels = np.array([0, 0, 1, 1])
    >>> batch = labels[RandomPairs(labels, pairs=2).epoch(0)[0]]
    >>> batch[0] == batch[1], batch[2] == batch[3]
    (np.True_, np.False_)
    """

    def __init__(
        self,
        labels: Int64[np.ndarray, " n"],
        pairs: int = 32,
        *,
        positive: int | None = None,
        seed: int = 0,
    ) -> None:
        positive = pairs // 2 if positive is None else positive
        if not 1 <= positive < pairs:
            raise InputError(
                "pairs must be at least 2 and positive from 1 to pairs - 1, so that a batch has "
                f"pairs of both kinds, got pairs={pairs}, positive={positive}"
            )
        numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
        largest = counts.max(initial=0)
        if largest < 2 or len(counts) < 2:
            raise InputError(
                "pairs of both kinds need at least 2 classes and a class with 2 items, got "
                f"{len(counts)} classes of at most {largest} items"
            )
        self.pairs = pairs
        self.positive = positive
        self.seed = seed
        self.batch_size = 2 * pairs
        self._place = np.argsort(numbers, kind="stable")  # items class by class
        self._rank = np.argsort(self._place)  # where each item stands there
        self._count = counts[numbers]
        self._first = (np.cumsum(counts) - counts)[numbers]  # of the item's class, there

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number])
        n = len(self._count)
        batches = -(-n // self.batch_size)
        near = _cycled(np.flatnonzero(self._count > 1), batches * self.positive, rng)
        far = _cycled(np.arange(n), batches * (self.pairs - self.positive), rng)
        # a step forward in the class, or in all that stands behind it, never the item's own place
        step = 1 + rng.integers(self._count[near] - 1)
        inside = (self._rank[near] - self._first[near] + step) % self._count[near]
        partner = self._place[self._first[near] + inside]
        beyond = rng.integers(n - self._count[far])
        other = self._place[(self._first[far] + self._count[far] + beyond) % n]
        positive = np.stack([near, partner], axis=1).reshape(batches, -1)
        negative = np.stack([far, other], axis=1).reshape(batches, -1)
        return list(np.concatenate([positive, negative], axis=1))


def _cycled(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of these rows: all of them, shuffled, as often as it takes."""
    rounds = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:count]


class _Queues:
    """The items of each class in random order, dealt from the top; reshuffled when used up."""

    def __init__(self, order: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> None:
        self.items = np.split(order, np.cumsum(counts)[:-1])
        self.waiting = [items.tolist() for items in self.items]
        self.fresh = counts.tolist()
        self.unseen = len(order)
        self.drawn = np.zeros(len(counts), dtype=np.int64)
        self.rng = rng

    def draw(self, label: int, size: int) -> np.ndarray:
        """`size` distinct items of a class, those not seen in this round first."""
        queue = self.waiting[label]
        chunk = queue[:size]
        rest = queue[size:]
        if len(chunk) < size:
            again = self.items[label][self.rng.permutation(len(self.items[label]))].tolist()
            taken = set(chunk)
            others = [item for item in again if item not in taken]
            fill = others[: size - len(chunk)]
            rest = others[size - len(chunk) :] + chunk
            chunk = chunk + fill
        self.waiting[label] = rest
        self.drawn[label] += 1
        seen = min(size, self.fresh[label])
        self.fresh[label] -= seen
        self.unseen -= seen
        return np.array(chunk, dtype=np.int64)


def _plan(
    counts: np.ndarray, take: np.ndarray, rows: int, per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of each class in an epoch: what covers its items, small classes levelled up.

    The least number of batches is set by the items, or by the largest class, which can be in each
    batch once; what room is then left goes to the classes drawn least.
    """
    needed = -(-counts // per_class)
    batches = max(int(needed.max()), -(-int(needed @ take) // rows))
    low, high = 0, batches
    while low < high:  # the highest level all classes can be raised to
        level = (low + high + 1) // 2
        if int(np.maximum(needed, level) @ take) <= batches * rows:
            low = level
        else:
            high = level - 1
    draws = np.maximum(needed, low)
    room = batches * rows - int(draws @ take)
    more = rng.permutation(np.flatnonzero((draws == low) & (low < batches)))
    more = more[np.cumsum(take[more]) <= room]
    draws[more] += 1
    return draws


def _one_tag(tags: Bool[np.ndarray, "n tags"], rng: np.random.Generator) -> np.ndarray:
    """One tag of each item, the one that has got the fewest items so far."""
    n, n_tags = tags.shape
    got = np.zeros(n_tags, dtype=np.int64)
    numbers = np.arange(n_tags, n_tags + n)
    order = rng.permutation(n)
    for item in order[np.argsort(tags.sum(axis=1)[order], kind="stable")].tolist():
        own = np.flatnonzero(tags[item])
        if len(own):
            tag = own[np.argmin(got[own])]
            numbers[item] = tag
            got[tag] += 1
    return numbers


def _check_counts(counts: np.ndarray, classes: int, per_class: int) -> None:
    if classes > len(counts):
        raise InputError(
            f"classes={classes} a batch, but the labels hold {len(counts)} classes; ask for at "
            f"most {len(counts)}"
        )
    if counts.max() < 2:
        raise InputError(
            f"no class has 2 items, so no batch has a positive: {len(counts)} classes of 1 item; "
            "check that labels are classes and not identities of items"
        )
    offered = int(np.minimum(counts, per_class).sum())
    if offered < classes * per_class:
        raise InputError(
            f"a batch of classes={classes} x per_class={per_class} has {classes * per_class} rows, "
            f"but {len(counts)} classes with {counts.min()} to {counts.max()} items offer only "
            f"{offered} at {per_class} a class; lower classes or per_class"
        )


def _check_pairs(labels: np.ndarray) -> None:
    values, counts = np.unique(labels, return_counts=True)
    few = np.flatnonzero(counts < 2)
    if len(few):
        raise InputError(
            f"every class must have 2 items, but {len(few)} have 1, first class {values[few[0]]}; "
            "leave those out or use ClassBalanced"
        )
