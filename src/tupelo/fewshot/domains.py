"""Tasks from several domains: alphabets, or subjects of conversation, each with its own classes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.fewshot.episodes import Episode

log = logging.getLogger(__name__)

FIVE_VS_THREE = (0.5, 0.2, 0.3)
THREE_VS_FIVE = (0.3, 0.2, 0.5)
"""Shares of a domain's classes for meta-training, meta-validation and meta-test."""

PADDING = 0  # token of a place without a word


@dataclass(frozen=True, eq=False)
class Domain:
    """Labelled items of one source.

    Args:
        name: of the domain.
        items: (n, ...), uint8 pictures, which are given out in [0, 1], or rows of tokens int64,
            filled up with 0.
        labels: class numbers (n,), every one of 0..n_classes-1 occurring.
        class_names: one a class.
        identities: (n,), unique over all domains used together.

    Raises:
        InputError: as many labels, names or identities as there are items or classes is violated.
    """

    name: str
    items: Tensor
    labels: Int64[np.ndarray, " _"]
    class_names: tuple[str, ...]
    identities: Int64[np.ndarray, " _"]

    def __post_init__(self):
        n = len(self.items)
        if not n == len(self.labels) == len(self.identities):
            raise InputError(
                f"labels and identities must have one entry for each of {n} items of domain "
                f"{self.name!r}, got {len(self.labels)} and {len(self.identities)}"
            )
        if not np.array_equal(np.unique(self.labels), np.arange(len(self.class_names))):
            raise InputError(
                f"labels of domain {self.name!r} must be 0..{len(self.class_names) - 1}, every "
                "class occurring; number them anew"
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def only(self, classes: Sequence[int]) -> "Domain":
        """The items of some classes, numbered anew in this order."""
        new = np.full(self.n_classes, -1, dtype=np.int64)
        new[list(classes)] = np.arange(len(classes))
        rows = np.flatnonzero(new[self.labels] >= 0)
        return Domain(
            self.name,
            self.items[torch.from_numpy(rows)],
            new[self.labels[rows]],
            tuple(self.class_names[old] for old in classes),
            self.identities[rows],
        )

    def divide(self, shares: Sequence[float], *, seed: int = 0) -> list["Domain"]:
        """Parts with disjoint classes, drawn at random.

        Args:
            shares: of the classes, adding up to 1; every part gets 2 classes at least.
            seed: of the draw; each domain draws from its name too.

        Raises:
            InputError: the shares do not add up to 1, or there are fewer than 2 classes a part.
        """
        if not np.isclose(sum(shares), 1) or min(shares) <= 0:
            raise InputError(f"shares must be above 0 and add up to 1, got {tuple(shares)}")
        if self.n_classes < 2 * len(shares):
            raise InputError(
                f"domain {self.name!r} has {self.n_classes} classes, too few for {len(shares)} "
                "parts of 2; leave it out"
            )
        sizes = _sizes(self.n_classes, shares)
        order = np.random.default_rng([seed, *self.name.encode()]).permutation(self.n_classes)
        return [self.only(part.tolist()) for part in np.split(order, np.cumsum(sizes)[:-1])]

    def task(
        self,
        shots: int | tuple[int, int],
        queries: int,
        rng: np.random.Generator,
        *,
        max_classes: int | None = None,
    ) -> Episode:
        """A task of all classes, or of some drawn at random.

        Args:
            shots: support items a class; a range (low, high) draws a number for each class.
            queries: a class, at least 1 and at most so many as are left of it.
            rng: draws.
            max_classes: at most so many classes, >= 2.

        Raises:
            InputError: fewer than 2 classes have enough items.
        """
        low, high = shots if isinstance(shots, tuple) else (shots, shots)
        by_class = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels, minlength=self.n_classes)
        first = np.cumsum(counts) - counts
        usable = np.flatnonzero(counts > low)
        if len(usable) < 2:
            raise InputError(
                f"a task of domain {self.name!r} needs 2 classes of {low + 1} items (support and "
                f"a query), got {len(usable)}; lower shots"
            )
        if max_classes is not None and max_classes < len(usable):
            usable = np.sort(rng.choice(usable, max_classes, replace=False))
        support, asked = [], []
        for c in usable:
            k = int(rng.integers(low, min(high, counts[c] - 1) + 1))
            drawn = by_class[first[c] + rng.permutation(counts[c])[: k + queries]]
            support.append(drawn[:k])
            asked.append(drawn[k:])
        slots = np.arange(len(usable))
        rows = np.concatenate(support), np.concatenate(asked)
        labels = [np.repeat(slots, [len(each) for each in half]) for half in (support, asked)]
        items = _given_out(self.items[torch.from_numpy(np.concatenate(rows))])
        known, unknown = items.split([len(half) for half in rows])
        return Episode(
            known,
            torch.from_numpy(labels[0]),
            unknown,
            torch.from_numpy(labels[1]),
            len(usable),
            torch.from_numpy(self.identities[rows[0]]),
            torch.from_numpy(self.identities[rows[1]]),
        )


class Tasks:
    """A source of tasks that follow from (seed, number) alone.

    Args:
        domains: one is drawn for each task.
        shots: support items a class, or a range, see `Domain.task`; 2 is one for the support D_S
            and one for D_T.
        queries: a class, >= 1.
        max_classes: at most so many classes a task; None takes all of the domain.
        seed: of all draws.

    Raises:
        InputError: no domain, or a number below its least.

    >>> items, labels = torch.zeros(12, 1, 4, 4, dtype=torch.uint8), np.repeat(np.arange(3), 4)
    >>> domain = Domain("a", items, labels, ("x", "y", "z"), np.arange(12))
    >>> Tasks([domain], shots=2, queries=2).task(7).counts.tolist()
    [2, 2, 2]
    """

    def __init__(
        self,
        domains: Sequence[Domain],
        *,
        shots: int | tuple[int, int],
        queries: int,
        max_classes: int | None = None,
        seed: int = 0,
    ):
        if not domains:
            raise InputError("domains must hold at least one domain, got none")
        least, most = shots if isinstance(shots, tuple) else (shots, shots)
        if not 1 <= least <= most:
            raise InputError(f"shots must be at least 1, or a range (low, high), got {shots}")
        if queries < 1:
            raise InputError(f"queries must be at least 1 a class, got {queries}")
        if max_classes is not None and max_classes < 2:
            raise InputError(f"max_classes must be at least 2, got {max_classes}")
        self.domains = list(domains)
        self.shots = shots
        self.queries = queries
        self.max_classes = max_classes
        self.seed = seed

    def task(self, number: int) -> Episode:
        """The task of that number, of a domain drawn at random."""
        rng = np.random.default_rng([self.seed, 0, number])
        return self._draw(int(rng.integers(len(self.domains))), rng)

    def of(self, domain: int, number: int) -> Episode:
        """The task of that number of one domain."""
        return self._draw(domain, np.random.default_rng([self.seed, 1, domain, number]))

    def identity(self) -> dict:
        """What decides the tasks, as JSON values."""
        digest = sha256()
        for domain in self.domains:
            for part in (domain.name.encode(), domain.labels, domain.identities):
                digest.update(part if isinstance(part, bytes) else part.tobytes())
        return {
            "domains": len(self.domains),
            "items": digest.hexdigest()[:16],
            "shots": list(self.shots) if isinstance(self.shots, tuple) else self.shots,
            "queries": self.queries,
            "max_classes": self.max_classes,
            "seed": self.seed,
        }

    def _draw(self, domain: int, rng: np.random.Generator) -> Episode:
        return self.domains[domain].task(
            self.shots, self.queries, rng, max_classes=self.max_classes
        )


def picture_domains(
    dataset: ImageSet, domain_of: Callable[[str], str] | None = None
) -> list[Domain]:
    """The domains of a set of pictures, as the names of its classes tell them.

    Args:
        dataset: with one class a picture.
        domain_of: from the name of a class to that of its domain; default what is before the
            first "/", as Omniglot's "Greek/character03".

    Raises:
        InputError: the set has tags.
    """
    if dataset.labels.ndim != 1:
        raise InputError("domains need one class an item, this set has tags")
    names = [(domain_of or _before_slash)(name) for name in dataset.class_names]
    found = []
    for name in dict.fromkeys(names):
        classes = [c for c, own in enumerate(names) if own == name]
        rows = np.flatnonzero(np.isin(dataset.labels, classes))
        pixels = dataset.batch(rows).images.mul(255).round().to(torch.uint8)
        labels = np.searchsorted(classes, dataset.labels[rows])
        of_class = tuple(dataset.class_names[c] for c in classes)
        found.append(Domain(name, pixels, labels, of_class, dataset.items[rows]))
    return found


def _before_slash(name: str) -> str:
    return name.split("/", 1)[0]


def _given_out(items: Tensor) -> Tensor:
    """Pictures in [0, 1]; tokens without columns that are empty in all of them."""
    if items.dtype == torch.uint8:
        return items.float().div_(255)
    if items.dtype == torch.int64 and items.ndim == 2:
        length = int((items != PADDING).sum(1).max())
        return items[:, : max(length, 1)]
    return items


def _sizes(n: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers near these shares of n, at least 2 each."""
    sizes = [max(2, round(n * share)) for share in shares]
    while sum(sizes) != n:  # of the parts that may change, the one that is farthest off
        step = 1 if sum(sizes) < n else -1
        free = [i for i, size in enumerate(sizes) if step > 0 or size > 2]
        sizes[max(free, key=lambda i: step * (n * shares[i] - sizes[i]))] += step
    return sizes
