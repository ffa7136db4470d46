"""Retrieval metrics by counting ranks, exactly, in one pass over tiles of the similarity product.

The rank of a relevant item is one plus the number of candidates more similar to the query, so no
neighbour list is needed, there is no largest k, and memory does not grow with the gallery.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from torch import Tensor

from tupelo.errors import InputError
from tupelo.evaluation import products, relevance
from tupelo.evaluation.products import Array, Precision

_log = logging.getLogger(__name__)

COLLAPSED_BELOW = 1e-6  # largest distance between two rows
THRESHOLDS_AT_ONCE = 2_000_000  # bounds the memory of one thread to about 50 MB


@dataclass(frozen=True)
class RetrievalReport:
    """What `retrieval` measured. Shares are means over queries, from 0 to 1.

    Attributes:
        recall: for each k, share of queries with a relevant item among the k nearest.
        precision: for each k, mean share of relevant items among the k nearest.
        r_precision: mean share of relevant items among the R nearest, R being how many the query
            has.
        map_at_r: mean over queries of (1/R) sum of precision at i over the relevant ranks i <= R
            (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020).
        mrr: mean of 1 / rank of the nearest relevant item.
        n_queries: all queries given.
        n_gallery: all gallery items given.
        n_unmatched: queries without any relevant item. They have no `r_precision`, `map_at_r` and
            `mrr`, and count in `recall` and `precision` only with `include_unmatched`.
        collapsed: all rows lie within 1e-6 of each other: the embedding orders nothing, and every
            relevant item was ranked behind every other candidate.
        first_rank: `(n_queries,)` rank of the nearest relevant item from 1; 0 if unmatched.
        r_precisions: `(n_queries,)` R-precision of each query; NaN if unmatched.
        average_precisions: `(n_queries,)` MAP@R of each query; NaN if unmatched.
    """

    recall: dict[int, float]
    precision: dict[int, float]
    r_precision: float
    map_at_r: float
    mrr: float
    n_queries: int
    n_gallery: int
    n_unmatched: int
    collapsed: bool
    first_rank: np.ndarray
    r_precisions: np.ndarray
    average_precisions: np.ndarray

    def as_dict(self) -> dict[str, float]:
        """All shares and counts under flat names such as `recall@1` and `map@r`."""
        return {
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"precision@{k}": value for k, value in self.precision.items()},
            "r_precision": self.r_precision,
            "map@r": self.map_at_r,
            "mrr": self.mrr,
            "n_queries": self.n_queries,
            "n_gallery": self.n_gallery,
            "n_unmatched": self.n_unmatched,
            "collapsed": self.collapsed,
        }

    def __str__(self) -> str:
        lines = [f"{'k':>12} " + " ".join(f"{k:>7}" for k in self.recall)]
        for name, values in (("recall@k", self.recall), ("precision@k", self.precision)):
            lines.append(f"{name:>12} " + " ".join(f"{value:7.4f}" for value in values.values()))
        lines.append(
            f"R-precision {self.r_precision:.4f}   MAP@R {self.map_at_r:.4f}   MRR {self.mrr:.4f}"
        )
        unmatched = f", {self.n_unmatched} without a relevant item" if self.n_unmatched else ""
        lines.append(f"{self.n_queries} queries{unmatched}; gallery of {self.n_gallery}")
        if self.collapsed:
            lines.append("COLLAPSED: all embeddings are equal; these numbers mean nothing")
        return "\n".join(lines)


def retrieval(
    queries: Array,
    query_labels: Any = None,
    gallery: Array | None = None,
    gallery_labels: Any = None,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    relation: relevance.Relation | None = None,
    pairs: np.ndarray | Tensor | None = None,
    query_items: relevance.Labels | None = None,
    gallery_items: relevance.Labels | None = None,
    normalize: bool = True,
    precision: Precision = "auto",
    include_unmatched: bool = False,
) -> RetrievalReport:
    """Recall@K, precision@K, R-precision, MAP@R and MRR of an embedding, exactly.

    Similarity is the dot product of unit rows, summed in float64 from float32 rows; equal
    similarities are ordered by gallery row. The result does not depend on `precision`, on the
    number of threads (those of PyTorch) or on the order of work, to the last bit. The first call
    on a machine compiles for some seconds; the code is then kept on disk.

    Args:
        queries: `(q, d)` embeddings, NumPy or torch, floating, any device.
        query_labels: integers of any size, strings or tuples `(q,)`, each tuple one label; a
            set of tags per item, or a boolean multi-hot matrix `(q, tags)` (relevant: a shared
            tag), as in `tupelo.comparison.relate`; lists are refused; with `relation`,
            anything that can be sliced; with `pairs`, nothing.
        gallery: `(g, d)` embeddings to search. `None`: leave-one-out, every query searches all
            the others.
        gallery_labels: labels of the gallery, numbered like those of the queries.
        ks: the K of recall@K and precision@K, at least 1, of any size.
        relation: `(labels of a block of queries, gallery labels) -> (block, g)` booleans, in place
            of equal labels.
        pairs: `(m, 2)` relevant pairs of query row and gallery row, in place of labels.
        query_items: identities `(q,)` of the queries: a gallery item of the same identity is no
            candidate. Without a gallery they remove copies of the query besides itself.
        gallery_items: identities `(g,)` of the gallery; needed with `query_items` and a gallery.
        normalize: compare unit rows (cosine); `False` compares plain dot products.
        precision: of the fast product: what its error bound leaves open is scored again. `auto`
            times what the processor has on some queries and takes the fastest.
        include_unmatched: count queries without a relevant item as failures of recall@K and
            precision@K instead of leaving them out.

    Returns:
        The metrics, counts, and per-query ranks and precisions.

    Raises:
        InputError: embeddings that are not floating matrices of one width, hold NaN, infinity or
            zero rows, or are empty; labels or items of wrong length or kind; k < 1; labels, pairs
            and relation combined; or no query with any relevant item.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.8]])
        >>> retrieval(z, ["cat", "cat", "dog", "dog"], ks=(1, 2)).recall
        {1: 1.0, 2: 1.0}
    """
    ks = _checked_ks(ks)
    leave_one_out = gallery is None
    rows = products.float32_rows(queries, "queries", normalize=normalize)
    others = rows
    if gallery is not None:
        others = products.float32_rows(gallery, "gallery", normalize=normalize)
    products.check_widths(rows, others)
    products.check_precision(precision, rows.shape[1])
    lists = _relevance(
        query_labels, query_labels if leave_one_out else gallery_labels, relation, pairs,
        len(rows), len(others),
    )  # fmt: skip
    query_item, gallery_item = _items(
        query_items, gallery_items, len(rows), len(others), leave_one_out
    )
    collapsed = is_collapsed(rows, others)
    if collapsed:
        _log.warning(
            "all embeddings lie within %g of each other: the model has collapsed, and every "
            "relevant item is ranked last",
            COLLAPSED_BELOW,
        )
    result = _count(rows, others, query_item, gallery_item, lists, ks, precision, collapsed)
    return _report(result, ks, len(others), collapsed, include_unmatched)


@dataclass(frozen=True)
class _PerQuery:
    relevant: np.ndarray  # (q,) R
    first_rank: np.ndarray  # (q,)
    hits: np.ndarray  # (q, number of ks)
    r_precision: np.ndarray  # (q,)
    average_precision: np.ndarray  # (q,)


def _count(
    rows: np.ndarray,
    others: np.ndarray,
    query_item: np.ndarray,
    gallery_item: np.ndarray,
    lists: relevance.Relevance,
    ks: tuple[int, ...],
    precision: Precision,
    collapsed: bool,
) -> _PerQuery:
    from tupelo.evaluation import kernels, tiles  # compiled code: loaded when first needed

    candidates = candidates_of(query_item, gallery_item)
    deepest = np.array([min(k, len(others)) for k in ks], np.int64)
    q = len(rows)
    result = _PerQuery(
        np.zeros(q, np.int64), np.zeros(q, np.int64), np.zeros((q, len(ks)), np.int64),
        np.zeros(q), np.zeros(q),
    )  # fmt: skip

    def work(search: tiles.Search, block: slice) -> None:
        start, stop, members = lists(block)
        n = block.stop - block.start
        if n > 16 and (stop - start).sum() > THRESHOLDS_AT_ONCE:
            work(search, slice(block.start, block.start + n // 2))
            work(search, slice(block.start + n // 2, block.stop))
            return
        wanted = kernels.Wanted(start, stop, members)
        ranks = empty_ranks(stop - start)
        kernels.score_relevant(search.queries(block), search.gallery, wanted, ranks, deepest.max())
        if collapsed:
            matched = ranks.count > 0
            ranks.beaten[ranks.offset[matched]] = (candidates[block] - ranks.count)[matched]
        else:
            search.count(block, wanted, ranks)
        result.relevant[block] = ranks.count
        kernels.summarise(
            ranks, deepest, result.first_rank[block], result.hits[block],
            result.r_precision[block], result.average_precision[block],
        )  # fmt: skip

    search = tiles.prepare(rows, others, query_item, gallery_item, precision, work)
    tiles.over_blocks(q, lambda block: work(search, block))
    return result


def candidates_of(query_item: np.ndarray, gallery_item: np.ndarray) -> np.ndarray:
    """How many gallery items each query is compared with."""
    items, counts = np.unique(gallery_item, return_counts=True)
    at = np.minimum(np.searchsorted(items, query_item), len(items) - 1)
    return len(gallery_item) - np.where(items[at] == query_item, counts[at], 0)


def empty_ranks(sizes: np.ndarray):
    """Counting state for queries of which each has so many relevant items."""
    from tupelo.evaluation import kernels

    total = int(sizes.sum())
    n = len(sizes)
    return kernels.Ranks(
        offset=np.cumsum(sizes) - sizes,
        score=np.empty(total), index=np.empty(total, np.int64), beaten=np.empty(total, np.int64),
        count=np.empty(n, np.int64), alive=np.empty(n, np.int64), fresh=np.empty(n, np.int64),
        limit=np.empty(n, np.int64),
    )  # fmt: skip


def _report(
    result: _PerQuery,
    ks: tuple[int, ...],
    n_gallery: int,
    collapsed: bool,
    include_unmatched: bool,
) -> RetrievalReport:
    matched = result.relevant > 0
    n = len(matched)
    if not matched.any():
        raise InputError(
            f"query_labels: no query has a relevant gallery item ({n} queries, {n_gallery} gallery "
            "items); check that both sides use the same labels and that classes have 2 members"
        )
    counted = n if include_unmatched else int(matched.sum())
    return RetrievalReport(
        recall={k: float((result.hits[:, i] > 0).sum() / counted) for i, k in enumerate(ks)},
        precision={k: float(result.hits[:, i].sum() / (counted * k)) for i, k in enumerate(ks)},
        r_precision=float(result.r_precision[matched].mean()),
        map_at_r=float(result.average_precision[matched].mean()),
        mrr=float((1.0 / result.first_rank[matched]).mean()),
        n_queries=n,
        n_gallery=n_gallery,
        n_unmatched=n - int(matched.sum()),
        collapsed=collapsed,
        first_rank=result.first_rank,
        r_precisions=np.where(matched, result.r_precision, np.nan),
        average_precisions=np.where(matched, result.average_precision, np.nan),
    )


def _checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    if len(ks) == 0 or min(ks) < 1:
        raise InputError(f"ks must hold integers of at least 1; got {tuple(ks)}")
    return tuple(int(k) for k in ks)


def _relevance(
    query_labels: Any,
    gallery_labels: Any,
    relation: relevance.Relation | None,
    pairs: np.ndarray | Tensor | None,
    q: int,
    g: int,
) -> relevance.Relevance:
    if pairs is not None:
        if query_labels is not None or gallery_labels is not None or relation is not None:
            raise InputError("pairs must come alone; got labels or a relation besides")
        return relevance.by_pairs(pairs, q, g)
    if query_labels is None or gallery_labels is None:
        missing = "query_labels" if query_labels is None else "gallery_labels"
        raise InputError(f"{missing} must be given, or pairs in place of all labels; got None")
    if relation is not None:
        return relevance.by_relation(relation, query_labels, gallery_labels, q, g)
    return relevance.by_labels(query_labels, gallery_labels, q, g)


def _items(
    query_items: relevance.Labels | None,
    gallery_items: relevance.Labels | None,
    q: int,
    g: int,
    leave_one_out: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Identity codes; equal codes are never compared. Leave-one-out: every row is itself."""
    if leave_one_out:
        if gallery_items is not None:
            raise InputError("gallery_items must be None without a gallery; use query_items")
        if query_items is None:
            return np.arange(q), np.arange(q)
        gallery_items = query_items
    elif query_items is None and gallery_items is None:
        return np.full(q, -1), np.arange(g)
    elif query_items is None or gallery_items is None:
        raise InputError("query_items and gallery_items must be given together with a gallery")
    for items, n, name in ((query_items, q, "query_items"), (gallery_items, g, "gallery_items")):
        if len(items) != n:
            raise InputError(f"{name} must hold one identity per row; got {len(items)} for {n}")
    return relevance.number_together(
        relevance.as_items(query_items, "query_items"),
        relevance.as_items(gallery_items, "gallery_items"),
        "items",
    )


def is_collapsed(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether no two rows are 1e-6 apart or more.

    Distances from the first row settle it, unless the farthest is between half of 1e-6 and 1e-6;
    then all pairs are compared, block by block, until one is found that is too far apart.
    """
    centre = rows[0].astype(np.float64)
    sides = (rows,) if rows is others else (rows, others)
    blocks = [side[i : i + 1024] for side in sides for i in range(0, len(side), 1024)]
    farthest = 0.0
    for block in blocks:
        farthest = max(farthest, np.linalg.norm(block - centre, axis=1).max())
        if farthest >= COLLAPSED_BELOW:
            return False
    if farthest * 2 < COLLAPSED_BELOW:
        return True
    return all(
        cdist(one, other).max() < COLLAPSED_BELOW
        for i, one in enumerate(blocks)
        for other in blocks[i:]
    )
