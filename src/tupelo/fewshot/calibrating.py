"""Probabilities that can be believed: a temperature for logits, and how far they are off.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017:
softmax(logits / T), with the T that makes held-out answers most likely, and the expected
calibration error. A head's logits mean something else for two classes than for twenty, and for one
support item a class than for ten, so a temperature belongs to a layout: there is a small table.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.fewshot.episodes import Layout, draw_episodes
from tupelo.fewshot.learner import EpisodeHead

WAYS, SHOTS = (2, 3, 5, 10, 20, 50), (1, 2, 5, 10)
SUPPORT_AT_MOST = 200  # items of an episode of the table
SHARPEST = 1e4  # bounds of 1 / T, in units of the logits
BISECTIONS = 60
NUMBERS_AT_ONCE = 5_000_000  # of queries x ways x width, which bounds the memory of a chunk


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width.

    Attributes:
        confidence: mean probability of the given answers, by bin; 0 where a bin is empty.
        accuracy: share of them that are right.
        share: of all answers.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    share: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, in [0, 1]."""
        return sum(
            share * abs(confidence - accuracy)
            for confidence, accuracy, share in zip(
                self.confidence, self.accuracy, self.share, strict=True
            )
        )


@dataclass(frozen=True)
class Temperature:
    """A temperature and what it does, each on other episodes than it was fitted to.

    Attributes:
        ways: classes of the episodes.
        shots: support items a class.
        temperature: T, > 0.
        accuracy: share of right answers.
        before: expected calibration error of softmax(logits).
        after: the same of softmax(logits / T).
        episodes: it was fitted to, and as many it was judged by.
    """

    ways: int
    shots: int
    temperature: float
    accuracy: float
    before: float
    after: float
    episodes: int


@dataclass(frozen=True)
class Calibration:
    """Temperatures of some layouts.

    >>> table = (Temperature(5, 1, 2.0, 0.8, 0.1, 0.0, 100), Temperature(20, 1, 3.0, 0.6, 0.1, 0.0,
    ...     100))
    >>> Calibration(table).near(8, 1.5).ways, round(Calibration(table).at(8, 1.5), 6)
    (5, 2.0)
    """

    temperatures: tuple[Temperature, ...]

    def near(self, ways: int, shots: float | int) -> Temperature:
        """Of the layout most like this one, by ratios of classes and of support items a class."""
        return min(
            self.temperatures,
            key=lambda one: abs(math.log(one.ways / ways)) + abs(math.log(one.shots / shots)),
        )

    def at(self, ways: int, shots: float | int) -> float:
        """The temperature for a layout.

        That of the table's number of classes nearest to this one, and between its numbers of
        support items on straight lines of log T over log shots: T depends on them far more.
        """
        like = min((one.ways for one in self.temperatures), key=lambda n: abs(math.log(n / ways)))
        known = sorted(
            (one.shots, one.temperature) for one in self.temperatures if one.ways == like
        )
        at, of = np.log(np.array(known, dtype=np.float64)).T
        return math.exp(float(np.interp(math.log(shots), at, of)))

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {"temperatures": [asdict(one) for one in self.temperatures]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibration":
        """What `as_dict` gave.

        Raises:
            InputError: it is something else.
        """
        try:
            found = tuple(Temperature(**one) for one in values["temperatures"])
            if not found or not all(0 < one.temperature < math.inf for one in found):
                raise ValueError("no temperature > 0")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the calibration cannot be read: {error!r}") from error
        return cls(found)


def temperature(logits: Float[Tensor, "r n"], labels: Int64[Tensor, " r"]) -> float:
    """The T for which softmax(logits / T) makes the labels most likely.

    The likelihood is concave in 1 / T, whose root of the derivative is found by bisection in
    float64. As in Platt (1999) a label counts a little less than all, by one part in r + 2, spread
    over the classes: answers that were always right get no certainty, and T stays above 0.

    Args:
        logits: of r answers among n classes.
        labels: what was right.

    Raises:
        InputError: there is none, one is not finite, or a label is no class.

    >>> logits = 8.0 * torch.eye(2)[[0, 1, 0, 1]]
    >>> temperature(logits, torch.tensor([0, 1, 1, 1])) > 5
    True
    """
    _check(logits, labels)
    z = logits.double()
    z = z - z.mean(1, keepdim=True)
    scale = float(z.abs().max())
    if scale == 0:
        return 1.0
    z = z / scale  # so that bounds mean the same whatever the unit
    spread = 1 / (len(z) + 2)
    wanted = (1 - spread) * z.gather(1, labels[:, None]).sum()  # the mean of z is 0
    low, high = math.log(1 / SHARPEST), math.log(SHARPEST)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        p = torch.softmax(z * math.exp(middle), 1)
        low, high = (low, middle) if (p * z).sum() > wanted else (middle, high)
    return scale / math.exp((low + high) / 2)


def reliability(
    probabilities: Float[Tensor, "r n"], labels: Int64[Tensor, " r"], *, bins: int = 15
) -> Reliability:
    """Confidence against accuracy of the likeliest class.

    Args:
        probabilities: of r answers among n classes.
        labels: what was right.
        bins: of equal width over [0, 1]; 15 as published.

    Raises:
        InputError: `bins` below 1, or as `temperature`.

    >>> reliability(torch.eye(2), torch.tensor([0, 0])).error
    0.5
    """
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}")
    _check(probabilities, labels)
    confidence, answer = probabilities.double().max(1)
    right = (answer == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # (low, high], as published
    count = place.bincount(minlength=bins).double()
    sums = [place.bincount(each, bins) / count.clamp(min=1) for each in (confidence, right)]
    return Reliability(*(tuple(each.tolist()) for each in (*sums, count / len(place))))


def calibrate(
    head: EpisodeHead,
    rows: Float[Tensor, "r d"],
    labels: Int64[np.ndarray, " r"],
    layouts: Sequence[tuple[int, int]],
    *,
    episodes: int = 200,
    queries: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Fit a temperature for each layout, and judge it, on episodes of classes that did not train.

    Args:
        head: gives logits.
        rows: embedded items of validation classes.
        labels: their classes.
        layouts: (ways, shots) of the episodes; see `layouts_to_calibrate`.
        episodes: to fit a temperature to, and as many again to judge it by.
        queries: asked of each class, where it has as many.
        seed: of all draws.
        progress: called with (layouts done, layouts in all).

    Raises:
        InputError: the classes do not allow a layout, see `Episodes`, or there is no layout.
    """
    if not layouts:
        raise InputError(
            "layouts must hold at least one pair of ways and shots, got none; calibrate on more "
            "classes or more items a class"
        )
    counts = np.unique(labels, return_counts=True)[1]
    found = []
    for ways, shots in layouts:
        layout = Layout(ways, shots, max(1, _queries(counts, ways, shots, queries)))
        seeds = np.random.default_rng([seed, ways, shots]).integers(2**31, size=2)
        fitted, judged = (
            logits_of(head, rows, labels, layout, episodes, seed=int(each)) for each in seeds
        )
        t = temperature(*fitted)
        logits, right = judged
        before = reliability(torch.softmax(logits.double(), 1), right)
        after = reliability(torch.softmax(logits.double() / t, 1), right)
        accuracy = float((logits.argmax(1) == right).double().mean())
        found.append(Temperature(ways, shots, t, accuracy, before.error, after.error, episodes))
        if progress is not None:
            progress(len(found), len(layouts))
    return Calibration(tuple(found))


def layouts_to_calibrate(
    labels: Int64[np.ndarray, " r"], ways: int, shots: int, *, fixed_ways: bool = False
) -> list[tuple[int, int]]:
    """Layouts for the table: those the items allow of some usual ones, and the one asked for.

    Args:
        labels: classes of the items there are.
        ways: of the layout asked for.
        shots: of it.
        fixed_ways: the head takes no other number of classes.

    >>> layouts_to_calibrate(np.repeat(np.arange(6), 4), 5, 1)
    [(2, 1), (2, 2), (3, 1), (3, 2), (5, 1), (5, 2)]
    """
    counts = np.unique(labels, return_counts=True)[1]
    all_ways = [ways] if fixed_ways else sorted({ways, *WAYS})
    return [
        (n, k)
        for n in all_ways
        for k in sorted({shots, *SHOTS})
        if _queries(counts, n, k, 1) >= 1 and (n * k <= SUPPORT_AT_MOST or (n, k) == (ways, shots))
    ]


def logits_of(
    head: EpisodeHead,
    rows: Float[Tensor, "r d"],
    labels: Int64[np.ndarray, " r"],
    layout: Layout,
    episodes: int,
    *,
    seed: int = 0,
) -> tuple[Float[Tensor, "a n"], Int64[Tensor, " a"]]:
    """Logits of all queries of some drawn episodes, and the slots that are right.

    Args:
        head: gives logits.
        rows: embedded items.
        labels: their classes.
        layout: of an episode.
        episodes: how many.
        seed: of the draw.
    """
    drawn = torch.from_numpy(draw_episodes(labels, layout, episodes, seed=seed))
    of = torch.from_numpy(np.ascontiguousarray(labels))
    size = max(1, NUMBERS_AT_ONCE // (layout.asked * layout.ways * rows.shape[1]))
    logits, right = [], []
    with in_use(head):
        for some in drawn.split(size):
            support, queries = layout.split(rows[some.flatten().to(rows.device)])
            known, wanted = layout.slots(of[some.flatten()])
            given = head(support, known.to(rows.device), queries, ways=layout.ways)
            logits.append(given.flatten(0, 1).cpu())
            right.append(wanted.flatten())
    return torch.cat(logits), torch.cat(right)


@contextmanager
def in_use(module: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradient; every part in its former mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _queries(counts: np.ndarray, ways: int, shots: int, most: int) -> int:
    """Queries a class that as many classes as an episode needs can give; 0: no such episode."""
    if len(counts) < ways:
        return 0
    spare = int(np.sort(counts)[-ways]) - shots
    typical = int(np.median(counts)) - shots  # so that most classes take part
    return max(0, min(most, spare, typical if typical >= 1 else spare))


def _check(values: Tensor, labels: Tensor) -> None:
    if len(values) == 0:
        raise InputError("there must be at least one answer, got none; draw more episodes")
    if int(labels.min()) < 0 or int(labels.max()) >= values.shape[1]:
        raise InputError(
            f"labels must be in 0..{values.shape[1] - 1}, the slots of the classes, got "
            f"{int(labels.min())}..{int(labels.max())}"
        )
    if not values.isfinite().all():
        raise InputError(
            "answers must be finite, got NaN or infinity; look at what the network embeds"
        )
