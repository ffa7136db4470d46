"""Episodes: small classification tasks drawn from a labelled set, and how their rows are laid out.

Shape letters of few-shot learning: `e` episodes, `n` ways (classes of an episode), `k` shots a
class, `s` support items of an episode, `q` its queries, `d` embedding width. The slot of a class
is its position in the episode, 0 and up.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from tupelo.data.batches import LabelArray
from tupelo.errors import InputError

log = logging.getLogger(__name__)

UNLABELLED = -1


@dataclass(frozen=True)
class Layout:
    """Which row of a batch is what, in balanced episodes.

    A batch is `per_batch` episodes, one after the other. The rows of an episode are its support,
    class by class, and then its queries, class by class:

        support of class 0 (k rows), of class 1, ..., queries of class 0 (`queries` rows), ...

    Args:
        ways: classes of an episode, >= 2.
        shots: support items a class, >= 1.
        queries: queries a class, >= 1.
        per_batch: episodes a batch, >= 1.
        unlabelled: the first so many support items of each class are given without their label,
            in [0, shots).
        query_ways: classes of an episode that are asked about, chosen at random, in
            [1, ways]; None asks about all. Graph networks are trained with one query of one class.

    Raises:
        InputError: a number is outside its range.

    >>> layout = Layout(ways=5, shots=1, queries=3)
    >>> layout.support, layout.asked, layout.batch_size
    (5, 15, 20)
    """

    ways: int
    shots: int
    queries: int
    per_batch: int = 1
    unlabelled: int = 0
    query_ways: int | None = None

    def __post_init__(self):
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("per_batch", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.unlabelled < self.shots:
            raise InputError(
                "unlabelled must leave a labelled support item in every class, so be in "
                f"[0, shots), got {self.unlabelled} of {self.shots} shots"
            )
        if self.query_ways is not None and not 1 <= self.query_ways <= self.ways:
            raise InputError(
                f"query_ways must be in [1, ways], got {self.query_ways} of {self.ways} ways"
            )

    @property
    def support(self) -> int:
        """Support items of an episode, n k."""
        return self.ways * self.shots

    @property
    def asked(self) -> int:
        """Queries of an episode."""
        return (self.query_ways or self.ways) * self.queries

    @property
    def rows(self) -> int:
        """Rows of an episode."""
        return self.support + self.asked

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self.per_batch * self.rows

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Support (e, s, ...) and queries (e, q, ...) of the rows (e * rows, ...) of e episodes.

        Raises:
            InputError: the rows are not whole episodes.

        >>> support, queries = Layout(2, 1, 2).split(torch.zeros(12, 7))
        >>> support.shape, queries.shape
        (torch.Size([2, 2, 7]), torch.Size([2, 4, 7]))
        """
        if len(rows) == 0 or len(rows) % self.rows:
            raise InputError(
                f"a batch must be whole episodes of {self.rows} rows ({self}), got {len(rows)} "
                "rows; draw batches with Episodes(labels, layout) of the same layout"
            )
        episodes = rows.unflatten(0, (-1, self.rows))
        return episodes[:, : self.support], episodes[:, self.support :]

    def slots(
        self, labels: Int64[Tensor, " b"]
    ) -> tuple[Int64[Tensor, "e s"], Int64[Tensor, "e q"]]:
        """Slots of support (-1 where it is unlabelled) and queries, from the labels of the rows.

        Raises:
            InputError: the labels are not laid out like this: a class's shots have several
                labels, two classes the same, or a query is of none of them.

        >>> Layout(2, 1, 1).slots(torch.tensor([7, 3, 7, 3]))
        (tensor([[0, 1]]), tensor([[0, 1]]))
        """
        support, queries = self.split(labels)
        by_class = support.unflatten(1, (self.ways, self.shots))
        classes = by_class[:, :, 0]
        same = queries[:, :, None] == classes[:, None]  # (e, q, n)
        sound = (
            bool((by_class == classes[:, :, None]).all())
            and bool((classes.sort(1).values.diff(dim=1) > 0).all())
            and bool(same.any(2).all())
        )
        if not sound:
            raise InputError(
                f"labels must be laid out class by class, support before queries ({self}), and "
                "every query be of a class of its episode; draw batches with "
                "Episodes(labels, layout) of the same layout"
            )
        slots = torch.arange(self.ways, device=labels.device)[:, None].repeat(1, self.shots)
        slots[:, : self.unlabelled] = UNLABELLED
        return slots.flatten().expand(len(support), -1), same.to(torch.uint8).argmax(2)


class Episodes:
    """Batches of episodes for `tp.fit`: distinct classes, distinct items, seeded.

    The batches of an epoch follow from (seed, number) alone, so they are the same with any number
    of workers, and a run resumes in the middle. Classes with fewer items than an episode takes
    are never drawn, which is logged.

    Args:
        labels: class numbers (n,).
        layout: of the batches.
        per_epoch: batches an epoch, >= 1.
        seed: of all draws.

    Raises:
        InputError: fewer than `layout.ways` classes have enough items, labels are tags, or
            `per_epoch` is below 1.

    >>> labels = np.repeat(np.arange(6), 4)
    >>> batches = Episodes(labels, Layout(ways=2, shots=1, queries=2), per_epoch=3).epoch(0)
    >>> len(batches), labels[batches[0]].tolist()
    (3, [5, 1, 5, 5, 1, 1])
    """

    def __init__(
        self,
        labels: LabelArray,
        layout: Layout,
        *,
        per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        if per_epoch < 1:
            raise InputError(f"per_epoch must be at least 1, got {per_epoch}")
        self.layout = layout
        self.per_epoch = per_epoch
        self.seed = seed
        self._classes = _Classes(labels, layout.shots + layout.queries, layout.ways)

    @property
    def batch_size(self) -> int:
        """Rows of every batch."""
        return self.layout.batch_size

    def epoch(self, number: int) -> list[Int64[np.ndarray, " b"]]:
        """The batches of one epoch."""
        rng = np.random.default_rng([self.seed, number])
        count = self.per_epoch * self.layout.per_batch
        rows = self._classes.draw(self.layout, count, rng)
        return list(rows.reshape(self.per_epoch, -1))


def draw_episodes(
    labels: LabelArray, layout: Layout, count: int, *, seed: int = 0
) -> Int64[np.ndarray, "e rows"]:
    """Rows of `count` episodes to judge a model by; `layout.per_batch` plays no part.

    Args:
        labels: class numbers (n,).
        layout: of an episode.
        count: episodes, >= 1.
        seed: of the draw.

    Raises:
        InputError: `count` below 1, labels are tags, or see `Episodes`.

    >>> draw_episodes(np.repeat(np.arange(6), 4), Layout(5, 1, 3), 1000).shape
    (1000, 20)
    """
    if count < 1:
        raise InputError(f"count must be at least 1 episode, got {count}")
    classes = _Classes(labels, layout.shots + layout.queries, layout.ways)
    return classes.draw(layout, count, np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class Episode:
    """One task of any shape: classes may have different numbers of items.

    Args:
        support: what is known, (s, ...): pictures, tokens or embeddings.
        support_labels: slots of the support, (s,), every one of 0..n_classes-1 occurring.
        queries: what is asked, (q, ...).
        query_labels: their slots (q,).
        n_classes: classes of the task, >= 2.
        support_items: identities (s,), None where they are not known.
        query_items: identities (q,).

    Raises:
        InputError: fewer than 2 classes, support or queries empty or of different shapes, as many
            labels or items as there are rows is violated, labels outside 0..n_classes-1, a class
            without support, a query of one, or an item that is both support and query.

    >>> task = Episode(torch.rand(3, 4), torch.tensor([0, 0, 1]), torch.rand(1, 4),
    ...                torch.tensor([1]), 2)
    >>> task.counts.tolist()
    [2, 1]
    """

    support: Tensor
    support_labels: Int64[Tensor, " s"]
    queries: Tensor
    query_labels: Int64[Tensor, " q"]
    n_classes: int
    support_items: Int[Tensor, " s"] | None = None
    query_items: Int[Tensor, " q"] | None = None

    def __post_init__(self):
        if self.n_classes < 2:
            raise InputError(f"a task must have at least 2 classes, got n_classes={self.n_classes}")
        for name in ("support", "queries"):
            if len(getattr(self, name)) == 0:
                raise InputError(f"{name} must hold at least one item, got none")
        if self.support.shape[1:] != self.queries.shape[1:]:
            raise InputError(
                f"support and queries must be items of one shape, got {tuple(self.support.shape)} "
                f"and {tuple(self.queries.shape)}; encode texts of both together, and resize "
                "pictures alike"
            )
        for rows, name in (
            ("support", "support_labels"),
            ("queries", "query_labels"),
            ("support", "support_items"),
            ("queries", "query_items"),
        ):
            given, many = getattr(self, name), len(getattr(self, rows))
            if given is not None and len(given) != many:
                raise InputError(f"{name} must have one entry for each of {many}, got {len(given)}")
        _check_support(self.support_labels, self.n_classes)
        known = self.support_labels.unique()
        strange = self.query_labels[~torch.isin(self.query_labels, known)]
        if len(strange):
            raise InputError(
                f"query_labels must be of classes with support, 0..{self.n_classes - 1}, got "
                f"{strange.unique().tolist()}; leave these queries out or give support for them"
            )
        if self.support_items is not None and self.query_items is not None:
            both = self.support_items[torch.isin(self.support_items, self.query_items)]
            if len(both):
                raise InputError(
                    "no item may be support and query of one task, or the answer is known; "
                    f"{both.unique().tolist()[:5]} is in support_items and in query_items"
                )

    @property
    def counts(self) -> Int64[Tensor, " n"]:
        """Support items of each class."""
        return self.support_labels.bincount(minlength=self.n_classes)


def _check_support(labels: Tensor, n_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise InputError(
            f"support_labels must be in 0..{n_classes - 1}, the slots of {n_classes} classes, got "
            f"{low}..{high}; number the classes of each task anew from 0"
        )
    missing = (labels.bincount(minlength=n_classes) == 0).nonzero().flatten().tolist()
    if missing:
        raise InputError(
            f"every class needs a support item, got none of {missing[:10]} of {n_classes} classes; "
            "give one, or lower n_classes"
        )


class _Classes:
    """The items of each class that has enough of them, ready to be drawn from."""

    def __init__(self, labels: np.ndarray, needed: int, ways: int) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 1:
            raise InputError(
                "episodes need one class number an item (n,), got labels of shape "
                f"{labels.shape}; choose one tag for each item"
            )
        values, counts = np.unique(labels, return_counts=True)
        enough = counts >= needed
        if enough.sum() < ways:
            raise InputError(
                f"an episode takes {ways} classes with at least {needed} items each (shots and "
                f"queries), but only {int(enough.sum())} of {len(values)} classes have them; the "
                f"largest have {np.sort(counts)[::-1][:5].tolist()}: lower ways, shots or queries"
            )
        if not enough.all():
            log.warning(
                "%d of %d classes have fewer than %d items and are in no episode: %s ...",
                int((~enough).sum()),
                len(values),
                needed,
                values[~enough][:5].tolist(),
            )
        self.order = np.argsort(labels, kind="stable")
        self.first = (np.cumsum(counts) - counts)[enough]
        self.counts = counts[enough]

    def draw(self, layout: Layout, count: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of `count` episodes, int64 (count, layout.rows)."""
        ways, shots, each = layout.ways, layout.shots, layout.shots + layout.queries
        classes = _distinct(np.full(count, len(self.counts)), ways, rng)
        places = _distinct(self.counts[classes.ravel()], each, rng)
        items = self.order[self.first[classes.ravel()][:, None] + places]
        items = items.reshape(count, ways, each)
        support, queries = items[:, :, :shots], items[:, :, shots:]
        if layout.query_ways is not None:  # classes of an episode are in random order, not sorted
            chosen = np.sort(_distinct(np.full(count, ways), layout.query_ways, rng), axis=1)
            queries = np.take_along_axis(queries, chosen[:, :, None], axis=1)
        return np.concatenate([support.reshape(count, -1), queries.reshape(count, -1)], axis=1)


def _distinct(sizes: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray:
    """For each size, m distinct numbers below it in random order, int64 (len(sizes), m).

    The j-th draw is among the size - j numbers not yet taken: it is moved up by one for each
    smaller or equal number that is, which costs nothing per item of a large class.
    """
    drawn = np.empty((len(sizes), m), dtype=np.int64)
    taken = np.empty((len(sizes), m), dtype=np.int64)  # the same, sorted
    for j in range(m):
        number = rng.integers(sizes - j)
        for i in range(j):
            number += number >= taken[:, i]
        drawn[:, j] = number
        taken[:, j] = number
        taken[:, : j + 1].sort(axis=1)
    return drawn
