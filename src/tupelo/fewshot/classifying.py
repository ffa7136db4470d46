"""Answers for a user who has some items of each class: probabilities, and the nearest of them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.calibrating import in_use
from tupelo.fewshot.episodes import Episode
from tupelo.fewshot.learner import EpisodeHead

QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Classified:
    """What is said of each query.

    Attributes:
        probabilities: of the classes, (q, n).
        nearest: rows of the support items nearest to it, nearest first, (q, k).
        closeness: how near they are, by `measure`, (q, k).
        measure: "distance" (Euclidean) where the head goes by it, else "cosine similarity".
    """

    probabilities: Float[Tensor, "q n"]
    nearest: Int64[Tensor, "q k"]
    closeness: Float[Tensor, "q k"]
    measure: str


def classify(
    head: EpisodeHead,
    support: Float[Tensor, "_ _"],
    labels: Int64[Tensor, " _"],
    queries: Float[Tensor, "_ _"],
    *,
    temperature: float = 1.0,
    neighbours: int = 5,
) -> Classified:
    """Classify queries by a support of any number of classes and of items of each.

    Args:
        head: of the learner.
        support: embedded items of known class, (s, d).
        labels: their classes (s,), in 0..n-1, every one occurring.
        queries: embedded items of unknown class, (q, d).
        temperature: divides the logits; see `calibrate`.
        neighbours: support items told for each query; all where there are fewer.

    Raises:
        InputError: as `Episode`; rows of different widths, `temperature` not above 0, `neighbours`
            below 1, or the head takes no such number of classes.

    >>> from tupelo.fewshot import Prototypical
    >>> support = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 1.0]])
    >>> found = classify(Prototypical(), support, torch.tensor([0, 0, 1]), torch.tensor([[1.0, 1]]))
    >>> found.probabilities.argmax(1).tolist(), found.nearest[0].tolist()
    ([0], [0, 1, 2])
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature must be a number > 0, got {temperature}")
    if neighbours < 1:
        raise InputError(f"neighbours must be at least 1, got {neighbours}")
    if len(queries) and queries.shape[1] != support.shape[1]:
        raise InputError(
            f"queries must be rows of {support.shape[1]} numbers as the support, got "
            f"{queries.shape[1]}; embed both with one network"
        )
    n = int(labels.max()) + 1 if len(labels) else 2
    # whoever asks does not know the answers: a label is needed for the checks alone
    unknown = torch.zeros(len(queries), dtype=torch.int64, device=labels.device)
    Episode(support, labels, queries, unknown, n)
    parts = []
    with in_use(head):
        for some in queries.split(QUERIES_AT_ONCE):
            logits = head(support[None], labels[None], some[None], ways=n)[0]
            parts.append(torch.softmax(logits / temperature, 1))
    measure, closeness, nearest = _nearest(head, support, queries, min(neighbours, len(support)))
    return Classified(torch.cat(parts), nearest, closeness, measure)


def _nearest(
    head: EpisodeHead, support: Tensor, queries: Tensor, k: int
) -> tuple[str, Tensor, Tensor]:
    """Measure, closeness and rows of the nearest support items of each query."""
    if head.options().get("distance") == "euclidean":
        distance = torch.cdist(queries, support, compute_mode="donot_use_mm_for_euclid_dist")
        near = distance.sort(dim=1, stable=True)
        return "distance", near.values[:, :k], near.indices[:, :k]
    cosine = F.normalize(queries, dim=1) @ F.normalize(support, dim=1).T
    near = cosine.sort(dim=1, stable=True, descending=True)
    return "cosine similarity", near.values[:, :k], near.indices[:, :k]
