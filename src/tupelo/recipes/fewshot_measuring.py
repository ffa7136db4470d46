"""Judging a few-shot learner by episodes: accuracy, how far confidence is off, tasks to look at."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tupelo.data import ImageSet
from tupelo.fewshot import (
    Calibration,
    EpisodeHead,
    FewShot,
    Layout,
    Running,
    draw_episodes,
    embed_once,
    reliability,
    score,
)
from tupelo.fewshot.calibrating import logits_of

RELIABILITY_BY = 200  # episodes
EMBEDDED_AT_ONCE = 1024  # pictures between two reports
SHOWN_TASKS, SHOWN_QUERIES, SHOWN_PICTURES = 3, 3, 240
Scores = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """One episode with its answers, for the eye.

    Attributes:
        support: rows of the pictures, by class, (n, k).
        queries: the same of the queries, (n, q).
        answers: class of the episode that was answered, (n, q).
        probabilities: of the answers, (n, q).
    """

    support: Int64[np.ndarray, "n k"]
    queries: Int64[np.ndarray, "n q"]
    answers: Int64[np.ndarray, "n q"]
    probabilities: Float[np.ndarray, "n q"]


def measure(
    head: EpisodeHead,
    rows: Float[Tensor, "r d"],
    labels: Int64[np.ndarray, " r"],
    layout: Layout,
    calibration: Calibration | None = None,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[Running], None] | None = None,
) -> Scores:
    """Accuracy over episodes with its interval, and how far confidence is off.

    Args:
        head: of the learner.
        rows: embedded pictures of classes that did not train.
        labels: their classes.
        layout: of an episode.
        calibration: temperatures.
        episodes: how many.
        seed: of the draw.
        progress: called while episodes are scored.

    Returns:
        `accuracy` and `interval` (half of 95 %) over `episodes`, and how fast; with a calibration
        also the `temperature` and, `before` and `after` it, what a diagram of `reliability` shows,
        with the expected calibration error as `error`.
    """
    drawn = draw_episodes(labels, layout, episodes, seed=seed)
    began = time.perf_counter()
    found = score(head, rows, labels, drawn, layout, progress=progress)
    seconds = time.perf_counter() - began
    scores: Scores = {
        "ways": layout.ways,
        "shots": layout.shots,
        "queries": layout.queries,
        "episodes": episodes,
        "accuracy": found.mean,
        "interval": found.interval,
        "episodes_per_second": round(episodes / max(seconds, 1e-9), 1),
    }
    if calibration is None:
        return scores
    fitted = calibration.at(layout.ways, layout.shots - layout.unlabelled)
    logits, right = logits_of(head, rows, labels, layout, min(episodes, RELIABILITY_BY), seed=seed)
    told = {}
    for name, t in (("before", 1.0), ("after", fitted)):
        off = reliability(torch.softmax(logits.double() / t, 1), right)
        told[name] = {"error": off.error, **asdict(off)}
    return scores | {"temperature": fitted, "reliability": told}


def some_tasks(
    head: EpisodeHead,
    rows: Float[Tensor, "r d"],
    labels: Int64[np.ndarray, " r"],
    layout: Layout,
    calibration: Calibration | None,
    *,
    seed: int,
) -> tuple[Task, ...]:
    """A few episodes as they come, of at most as many pictures as a page shows.

    Args:
        head: of the learner.
        rows: embedded pictures.
        labels: their classes.
        layout: of the episodes that judge.
        calibration: of the probabilities.
        seed: of the draw.
    """
    few = replace(layout, queries=min(layout.queries, SHOWN_QUERIES), per_batch=1, query_ways=None)
    count = max(1, min(SHOWN_TASKS, SHOWN_PICTURES // few.rows))
    drawn = draw_episodes(labels, few, count, seed=seed)
    t = 1.0 if calibration is None else calibration.at(few.ways, few.shots - few.unlabelled)
    logits, _ = logits_of(head, rows, labels, few, count, seed=seed)
    best = torch.softmax(logits.double() / t, 1).max(1)
    shape = (count, few.ways, few.queries)
    answers, probabilities = (each.numpy().reshape(shape) for each in (best.indices, best.values))
    return tuple(
        Task(
            episode[: few.support].reshape(few.ways, few.shots),
            episode[few.support :].reshape(few.ways, few.queries),
            answers[number],
            probabilities[number],
        )
        for number, episode in enumerate(drawn)
    )


def embed(
    model: FewShot, pictures: ImageSet, progress: Callable[[int, int], None] | None = None
) -> Float[Tensor, "r d"]:
    """The rows of all pictures, as `fewshot.embed_once`, telling how many are done."""
    n = len(pictures)
    parts = []
    for first in range(0, n, EMBEDDED_AT_ONCE):
        some = np.arange(first, min(first + EMBEDDED_AT_ONCE, n))
        parts.append(embed_once(model, pictures.subset(some)))
        if progress is not None:
            progress(int(some[-1]) + 1, n)
    return torch.cat(parts)
