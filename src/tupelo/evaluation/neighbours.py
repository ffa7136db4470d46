"""The k nearest gallery items of every query, exactly."""

from dataclasses import dataclass

import numpy as np

from tupelo.errors import InputError
from tupelo.evaluation import products
from tupelo.evaluation.products import Array, Precision


@dataclass(frozen=True)
class Neighbours:
    """Nearest first; equal similarities by gallery row.

    Attributes:
        indices: `(q, k)` int64 gallery rows.
        similarity: `(q, k)` float64 dot products of the (unit) rows.
    """

    indices: np.ndarray
    similarity: np.ndarray


def nearest(
    queries: Array,
    gallery: Array | None,
    k: int,
    *,
    exclude_self: bool = False,
    normalize: bool = True,
    precision: Precision = "auto",
) -> Neighbours:
    """Find the k most similar gallery rows of every query.

    The result is the same for every `precision` and number of threads, as in `retrieval`.

    Args:
        queries: `(q, d)` embeddings, NumPy or torch, floating, any device.
        gallery: `(g, d)` embeddings to search; `None`: the queries.
        k: how many, from 1 to the number of candidates.
        exclude_self: query `i` does not find gallery row `i`.
        normalize: compare unit rows (cosine); `False` compares plain dot products.
        precision: of the fast product, see `retrieval`.

    Raises:
        InputError: embeddings that are not floating matrices of one width, hold NaN, infinity or
            zero rows, or are empty; k outside 1 .. candidates.

    Example:
        >>> z = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest(z, None, 1, exclude_self=True).indices.ravel().tolist()
        [1, 0, 1]
    """
    rows = products.float32_rows(queries, "queries", normalize=normalize)
    others = rows
    if gallery is not None:
        others = products.float32_rows(gallery, "gallery", normalize=normalize)
    products.check_widths(rows, others)
    products.check_precision(precision, rows.shape[1])
    available = len(others) - exclude_self
    if not 1 <= k <= available:
        raise InputError(f"k must be from 1 to the number of candidates {available}; got {k}")
    from tupelo.evaluation import tiles  # compiled code: loaded when first needed

    own = np.arange(len(rows)) if exclude_self else np.full(len(rows), -1)
    best, index = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)

    def work(search: tiles.Search, block: slice) -> None:
        filled = np.zeros(len(best[block]), np.int64)
        search.keep_nearest(block, best[block], index[block], filled)

    search = tiles.prepare(rows, others, own, np.arange(len(others)), precision, work)
    tiles.over_blocks(len(rows), lambda block: work(search, block))
    return Neighbours(index, best)
