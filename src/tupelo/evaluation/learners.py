"""How good the learners of an ensemble are alone and together, and how alike they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupelo.errors import InputError
from tupelo.evaluation import products, relevance
from tupelo.evaluation.products import Array
from tupelo.evaluation.retrieval import retrieval

CORRELATED_AT_MOST = 10_000  # rows; more change no digit that is shown


@dataclass(frozen=True)
class Alone:
    """One learner: its width, and what its own rows retrieve."""

    width: int
    recall_at_1: float
    map_at_r: float


@dataclass(frozen=True)
class LearnersReport:
    """What `learners` measured.

    Attributes:
        alone: each learner, in the order of the joined rows.
        recall_at_1: of the joined rows.
        map_at_r: of the joined rows.
        correlation: mean absolute correlation over the rows between dimensions of different
            learners; a dimension that never changes counts as uncorrelated. NaN for one learner.
        self_cosine: mean over rows and pairs of learners of the cosine of two learners' rows of the
            same picture. NaN for one learner, and where learners differ in width.
    """

    alone: tuple[Alone, ...]
    recall_at_1: float
    map_at_r: float
    correlation: float
    self_cosine: float

    @property
    def mean_recall_at_1(self) -> float:
        """Of the learners."""
        return float(np.mean([learner.recall_at_1 for learner in self.alone]))

    @property
    def mean_map_at_r(self) -> float:
        """Of the learners."""
        return float(np.mean([learner.map_at_r for learner in self.alone]))

    @property
    def gap(self) -> float:
        """Recall@1 of the ensemble above that of the mean learner."""
        return self.recall_at_1 - self.mean_recall_at_1

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain values; those that are not defined are left out."""
        numbers = {
            "recall@1": self.recall_at_1,
            "map@r": self.map_at_r,
            "mean_recall@1": self.mean_recall_at_1,
            "mean_map@r": self.mean_map_at_r,
            "gap": self.gap,
            "correlation": self.correlation,
            "self_cosine": self.self_cosine,
        }
        alone = [
            {"width": one.width, "recall@1": one.recall_at_1, "map@r": one.map_at_r}
            for one in self.alone
        ]
        return {"alone": alone} | {k: v for k, v in numbers.items() if not np.isnan(v)}

    def __str__(self) -> str:
        lines = [f"{'learner':>12} {'width':>6} {'recall@1':>9} {'MAP@R':>7}"]
        for number, one in enumerate(self.alone, 1):
            lines.append(f"{number:>12} {one.width:>6} {one.recall_at_1:9.4f} {one.map_at_r:7.4f}")
        lines.append(f"{'mean':>19} {self.mean_recall_at_1:9.4f} {self.mean_map_at_r:7.4f}")
        lines.append(f"{'ensemble':>19} {self.recall_at_1:9.4f} {self.map_at_r:7.4f}")
        alike = [("correlation", self.correlation), ("self-pair cosine", self.self_cosine)]
        known = [f"{name} {value:.4f}" for name, value in alike if not np.isnan(value)]
        return "\n".join([*lines, *(["   ".join(known)] if known else [])])


def learners(
    queries: Array,
    query_labels: Any,
    widths: Sequence[int],
    gallery: Array | None = None,
    gallery_labels: Any = None,
    *,
    query_items: relevance.Labels | None = None,
    gallery_items: relevance.Labels | None = None,
) -> LearnersReport:
    """Measure every learner of an ensemble by itself, beside the ensemble.

    Args:
        queries: joined rows `(q, d)` of the ensemble; the scale of a learner's part has no effect
            on that learner.
        query_labels: see `retrieval`.
        widths: of the learners' parts, in their order; they add up to d.
        gallery: joined rows `(g, d)` to search; `None`: every query searches all the others.
        gallery_labels: see `retrieval`.
        query_items: see `retrieval`.
        gallery_items: see `retrieval`.

    Returns:
        Recall@1 and MAP@R of each learner and of the ensemble; correlation and cosine are those of
        the queries.

    Raises:
        InputError: no width, one below 1, or a sum that is not d; a learner's part of some row
            is zero; see `retrieval` for the rest.

    Example:
        >>> z = np.array([[1.0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
        >>> report = learners(z, [0, 0, 1, 1], widths=(2, 2))
        >>> [learner.recall_at_1 for learner in report.alone], report.self_cosine
        ([1.0, 0.0], 0.5)
    """
    rows = products.float32_rows(queries, "queries", normalize=True)
    _check_widths(widths, rows.shape[1])
    ends = np.cumsum(widths)[:-1]
    parts = _parts(rows, ends, "queries")
    others: list[Any] = [None] * len(widths)
    if gallery is not None:
        searched = products.float32_rows(gallery, "gallery", normalize=True)
        products.check_widths(rows, searched)
        others = _parts(searched, ends, "gallery")
    items: dict[str, Any] = {"query_items": query_items, "gallery_items": gallery_items}
    together = retrieval(rows, query_labels, gallery, gallery_labels, ks=(1,), **items)
    alone = []
    for width, part, other in zip(widths, parts, others, strict=True):
        report = together
        if len(widths) > 1:
            report = retrieval(part, query_labels, other, gallery_labels, ks=(1,), **items)
        alone.append(Alone(int(width), report.recall[1], report.map_at_r))
    return LearnersReport(
        tuple(alone), together.recall[1], together.map_at_r, _correlation(parts), _cosine(parts)
    )


def _check_widths(widths: Sequence[int], dim: int) -> None:
    if len(widths) == 0 or min(widths) < 1 or sum(widths) != dim:
        raise InputError(
            f"widths must be numbers >= 1 that add up to the width of the rows, {dim}; got "
            f"{tuple(widths)}"
        )


def _parts(rows: np.ndarray, ends: np.ndarray, name: str) -> list[np.ndarray]:
    """Unit rows of each learner."""
    return [
        products.float32_rows(part, f"learner {number} of {name}", normalize=True)
        for number, part in enumerate(np.split(rows, ends, axis=1))
    ]


def _correlation(parts: Sequence[np.ndarray]) -> float:
    if len(parts) < 2:
        return float("nan")
    n = len(parts[0])
    chosen = np.linspace(0, n - 1, min(n, CORRELATED_AT_MOST)).round().astype(int)
    standard = [_standardized(part[chosen]) for part in parts]
    total, count = 0.0, 0
    for place, one in enumerate(standard[:-1]):
        later = np.concatenate(standard[place + 1 :], axis=1)
        total += float(np.abs(one.T @ later).sum())
        count += one.shape[1] * later.shape[1]
    return total / count


def _standardized(part: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and length 1; a column that only rounding changes becomes 0."""
    wide = part.astype(np.float64)
    wide -= wide.mean(axis=0)
    lengths = np.linalg.norm(wide, axis=0)
    moving = lengths > 1e-6 * np.sqrt(len(wide))
    return wide * np.where(moving, 1 / np.where(moving, lengths, 1), 0)


def _cosine(parts: Sequence[np.ndarray]) -> float:
    """From the sum over learners: |sum|^2 = m + twice the sum over pairs."""
    m = len(parts)
    if m < 2 or len({part.shape[1] for part in parts}) > 1:
        return float("nan")
    total = np.zeros(parts[0].shape)
    for part in parts:
        total += part
    return float(((np.square(total).sum(axis=1) - m) / (m * (m - 1))).mean())
