"""Who found whom: the nearest neighbours of the pictures of a report, right or wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.evaluation import RetrievalReport, nearest, retrieval
from tupelo.inference import Embeddings
from tupelo.recipes.using import label_names, tag_sets

NEIGHBOURS = 6
QUERIES_AT_MOST = 20_000


@dataclass(frozen=True)
class Searched:
    """Queries and their nearest neighbours.

    Attributes:
        pictures: all that were embedded.
        searched: the gallery, or `pictures` again.
        own: `pictures` search each other.
        z: unit rows of `pictures`, (n, d).
        rows: which of `pictures` are the queries, (q,); all, or a sample of very many.
        neighbours: rows of `searched`, nearest first, (q, k).
        similarity: cosines, (q, k).
        right: the neighbour shares the class or a tag, (q, k).
        matched: the query has a relevant picture to find, (q,).
        average_precision: MAP@R of each query, NaN if unmatched, (q,).
        scores: of all queries, {} where none has a relevant picture.
        names: label of each picture in words, (n,).
        searched_names: the same of `searched`.
    """

    pictures: ImageSet
    searched: ImageSet
    own: bool
    z: np.ndarray
    rows: np.ndarray
    neighbours: np.ndarray
    similarity: np.ndarray
    right: np.ndarray
    matched: np.ndarray
    average_precision: np.ndarray
    scores: dict[str, float | int]
    names: list[str]
    searched_names: list[str]

    @property
    def tagged(self) -> bool:
        """Pictures bear tags instead of one class each."""
        return self.pictures.labels.ndim == 2

    @property
    def wrong_first(self) -> np.ndarray:
        """Queries whose first neighbour is wrong although there was a right one, (q,)."""
        return self.matched & ~self.right[:, 0]


def search(
    pictures: ImageSet,
    embedded: Embeddings,
    gallery: ImageSet | None = None,
    embedded_gallery: Embeddings | None = None,
    *,
    seed: int = 0,
) -> Searched:
    """Search the pictures among each other, or in a gallery.

    Args:
        pictures: the queries; of more than 20,000 as many are drawn at random.
        embedded: their embeddings, in the same order.
        gallery: what they search; None: each other, each without itself.
        embedded_gallery: its embeddings.
        seed: of the draw.

    Raises:
        InputError: numbers of pictures and embeddings differ, or there is nothing to find.
    """
    _check(pictures, embedded, "pictures")
    if (gallery is None) != (embedded_gallery is None):
        raise InputError("gallery and embedded_gallery must be given together")
    own = gallery is None or embedded_gallery is None
    searched = pictures if gallery is None else gallery
    others = embedded.z if embedded_gallery is None else embedded_gallery.z
    if embedded_gallery is not None:
        _check(searched, embedded_gallery, "gallery")
    if len(searched) <= own:
        raise InputError(f"pictures must hold at least 2 to search each other, got {len(pictures)}")
    rows = np.arange(len(pictures))
    if len(rows) > QUERIES_AT_MOST:
        drawn = np.random.default_rng(seed).choice(rows, QUERIES_AT_MOST, replace=False)
        rows = np.sort(drawn)
    k = min(NEIGHBOURS, len(searched) - own)
    queries = embedded.z[torch.from_numpy(rows)]
    close = nearest(queries, others, k + own)
    neighbours, similarity = close.indices, close.similarity
    if own:
        kept = _without_self(neighbours, rows)
        neighbours, similarity = (
            np.take_along_axis(found, kept, axis=1) for found in (neighbours, similarity)
        )
    truth = _Truth(pictures, searched)
    report = _measured(truth, rows, queries, others, own)
    return Searched(
        pictures=pictures,
        searched=searched,
        own=own,
        z=embedded.z.numpy(),
        rows=rows,
        neighbours=neighbours,
        similarity=similarity,
        right=truth.right(rows, neighbours),
        matched=np.zeros(len(rows), bool) if report is None else report.first_rank > 0,
        average_precision=(
            np.full(len(rows), np.nan) if report is None else report.average_precisions
        ),
        scores={} if report is None else dict(report.as_dict()),
        names=label_names(pictures.labels, pictures.class_names),
        searched_names=label_names(searched.labels, searched.class_names),
    )


def _check(pictures: ImageSet, embedded: Embeddings, what: str) -> None:
    if len(pictures) != len(embedded.z):
        raise InputError(
            f"{what} and their embeddings must be as many, got {len(pictures)} and "
            f"{len(embedded.z)}"
        )


def _without_self(neighbours: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns without the query itself; where copies pushed it out, without the last."""
    itself = neighbours == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    return np.flatnonzero(~itself.ravel()).reshape(len(rows), -1) % neighbours.shape[1]


class _Truth:
    """Which pictures match, by the names of their classes or tags, in one numbering."""

    def __init__(self, pictures: ImageSet, searched: ImageSet) -> None:
        self.tagged = pictures.labels.ndim == 2 or searched.labels.ndim == 2
        numbers: dict[str, int] = {}
        for name in (*pictures.class_names, *searched.class_names):
            numbers.setdefault(name, len(numbers))
        self.queries: Any = self._coded(pictures, numbers)
        self.gallery: Any = self._coded(searched, numbers)

    def _coded(self, side: ImageSet, numbers: dict[str, int]) -> Any:
        if not self.tagged:
            codes = np.array([numbers[name] for name in side.class_names], np.int64)
            return codes[side.labels]
        sets = tag_sets(side)
        at = np.repeat(np.arange(len(sets)), [len(tags) for tags in sets])
        tags = [numbers[tag] for chosen in sets for tag in chosen]
        shape = (len(sets), max(1, len(numbers)))
        return sparse.csr_matrix((np.ones(len(tags), np.int64), (at, tags)), shape=shape)

    def right(self, rows: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
        """Whether each neighbour of each query matches it, (q, k)."""
        if not self.tagged:
            return self.gallery[neighbours] == self.queries[rows][:, None]
        of = self.queries[rows]
        shared = [of.multiply(self.gallery[column]).sum(axis=1) for column in neighbours.T]
        return np.column_stack([np.asarray(column).ravel() > 0 for column in shared])

    def labels(self, rows: np.ndarray | None) -> np.ndarray:
        """Labels of query `rows`, or of the whole gallery, as `retrieval` takes them."""
        found = self.gallery if rows is None else self.queries[rows]
        return found.toarray() > 0 if self.tagged else found


def _measured(
    truth: _Truth, rows: np.ndarray, queries: torch.Tensor, others: torch.Tensor, own: bool
) -> RetrievalReport | None:
    try:
        return retrieval(
            queries,
            truth.labels(rows),
            others,
            truth.labels(None),
            query_items=rows if own else None,
            gallery_items=np.arange(len(others)) if own else None,
        )
    except InputError:  # nothing to find for anyone: a single picture of every class
        return None
