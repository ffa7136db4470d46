"""Judging a few-shot learner: every picture is embedded once, thousands of episodes are scored."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from tupelo.data import ImageSet
from tupelo.data.batches import LabelArray
from tupelo.errors import InputError
from tupelo.fewshot.calibrating import in_use
from tupelo.fewshot.episodes import Layout, draw_episodes
from tupelo.fewshot.learner import EpisodeHead, FewShot, device_of, wide

PICTURES_AT_ONCE = 256
ROWS_AT_ONCE = 16384
NORMAL = 1.96  # 95 % of a normal distribution


class Running(NamedTuple):
    """What a progress callback is told.

    Attributes:
        episodes: scored so far; 0 while pictures are embedded.
        planned: episodes in all.
        mean: accuracy over them so far, in [0, 1].
        interval: half of its 95 % interval.
    """

    episodes: int
    planned: int
    mean: float
    interval: float


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracy over episodes; printed, it is mean ± half of the 95 % interval in per cent.

    Attributes:
        of_episodes: the accuracy of each episode, float64 (e,).
    """

    of_episodes: Float64[np.ndarray, " e"]

    @property
    def mean(self) -> float:
        """Over episodes, in [0, 1]."""
        return float(self.of_episodes.mean())

    @property
    def interval(self) -> float:
        """Half of the 95 % interval of the mean over episodes, 1.96 std / sqrt(e).

        >>> round(Accuracy(np.array([0.5, 1.0])).interval, 4)  # std 0.25 over 2 episodes
        0.3465
        """
        e = len(self.of_episodes)
        return NORMAL * float(self.of_episodes.std()) / math.sqrt(e)

    def __str__(self) -> str:
        return (
            f"{100 * self.mean:.2f} ± {100 * self.interval:.2f} % "
            f"(95 % interval over {len(self.of_episodes)} episodes)"
        )


def evaluate(
    model: FewShot,
    dataset: ImageSet,
    layout: Layout,
    *,
    episodes: int = 1000,
    seed: int = 0,
    at_once: int | None = None,
    progress: Callable[[Running], None] | None = None,
) -> Accuracy:
    """Accuracy on drawn episodes of a data set, with its interval over episodes.

    Every picture is embedded once: in evaluation mode an embedding does not depend on the episode
    it is in, so this is exact, and the price of an episode is that of the head alone. Run it
    under `torch.autocast` for an encoder in lower precision.

    Args:
        model: the learner.
        dataset: classes that did not train.
        layout: of an episode; `per_batch` plays no part.
        episodes: how many, >= 1.
        seed: of the draw.
        at_once: episodes scored together, >= 1; default as many as make some thousand rows.
        progress: called while episodes are scored.

    Raises:
        InputError: the classes do not allow such episodes, see `Episodes`, or a number below 1.
    """
    rows = embed_once(model, dataset)
    drawn = draw_episodes(dataset.labels, layout, episodes, seed=seed)
    return score(
        model.head, rows, dataset.labels, drawn, layout, at_once=at_once, progress=progress
    )


def embed_once(model: nn.Module, dataset: ImageSet) -> Float[Tensor, "r d"]:
    """The rows of all pictures of a data set, in order, as the head takes them.

    Args:
        model: from pictures to `Embedded`.
        dataset: of pictures.

    Raises:
        InputError: the data set is empty.
    """
    if len(dataset) == 0:
        raise InputError("the data set to embed must hold at least one picture, got none")
    device = device_of(model)
    parts = np.array_split(np.arange(len(dataset)), -(-len(dataset) // PICTURES_AT_ONCE))
    with in_use(model):
        return torch.cat([wide(model(dataset.batch(part).images.to(device)).raw) for part in parts])


def score(
    head: EpisodeHead,
    rows: Float[Tensor, "r d"],
    labels: LabelArray,
    episodes: Int64[np.ndarray, "e b"],
    layout: Layout,
    *,
    at_once: int | None = None,
    progress: Callable[[Running], None] | None = None,
) -> Accuracy:
    """Accuracy of a head on episodes of embedded items.

    Args:
        head: gives logits.
        rows: embedded items.
        labels: their classes.
        episodes: rows of each episode, from `draw_episodes`.
        layout: of an episode.
        at_once: episodes scored together, >= 1.
        progress: called after each of these.

    Raises:
        InputError: an episode with the same item twice, `at_once` below 1, or rows that are not
            laid out so.
    """
    if at_once is not None and at_once < 1:
        raise InputError(f"at_once must be at least 1 episode, got {at_once}")
    if (np.diff(np.sort(episodes, axis=1), axis=1) == 0).any():
        raise InputError(
            "an item must occur once in an episode, or a query may be its own support; draw "
            "them with draw_episodes"
        )
    size = at_once or max(1, ROWS_AT_ONCE // layout.rows)
    of = torch.from_numpy(np.ascontiguousarray(labels))
    found = np.empty(len(episodes))
    with in_use(head):
        for first in range(0, len(episodes), size):
            some = torch.from_numpy(episodes[first : first + size]).flatten()
            support, queries = layout.split(rows[some.to(rows.device)])
            known, wanted = layout.slots(of[some])
            logits = head(support, known.to(rows.device), queries, ways=layout.ways)
            right = logits.argmax(2).cpu() == wanted
            found[first : first + size] = right.double().mean(1).numpy()
            if progress is not None:
                so_far = Accuracy(found[: first + size])
                progress(Running(len(so_far.of_episodes), len(found), so_far.mean, so_far.interval))
    return Accuracy(found)


class ByEpisodes:
    """Measures a learner by the same episodes each time, for `tp.fit(..., judge=Judge(...))`.

    Args:
        dataset: validation classes, never those of the test.
        layout: of an episode.
        episodes: how many.
        seed: of the draw.

    Raises:
        InputError: see `evaluate`.
    """

    def __init__(
        self, dataset: ImageSet, layout: Layout, *, episodes: int = 200, seed: int = 0
    ) -> None:
        self.pictures = len(dataset)
        self.layout = layout
        self.episodes = episodes
        self.seed = seed
        self._dataset = dataset  # private, so that a run is not described by all its paths
        self._drawn = draw_episodes(dataset.labels, layout, episodes, seed=seed)

    def __call__(self, model: FewShot) -> dict[str, float]:
        """Accuracy and half of its 95 % interval."""
        rows = embed_once(model, self._dataset)
        found = score(model.head, rows, self._dataset.labels, self._drawn, self.layout)
        return {"accuracy": found.mean, "interval": found.interval}
