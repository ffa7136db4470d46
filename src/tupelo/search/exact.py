"""Exact neighbours among rows that stay the same for many searches."""

import numpy as np
import torch
from jaxtyping import Bool, Float32

from tupelo.evaluation import Neighbours
from tupelo.evaluation.products import Fast, approximate

PRECISION = "float32"  # its operand is the rows themselves: no second copy in memory


class Gallery:
    """Unit rows prepared once for `nearest`; any number of threads may search.

    `tupelo.evaluation.nearest` measures and bounds every row of its gallery anew, which takes
    longer than a few queries do.

    Args:
        rows: not changed afterwards.
    """

    def __init__(self, rows: Float32[np.ndarray, "n d"]) -> None:
        self.rows = rows
        self._fast: Fast | None = approximate(rows, PRECISION) if len(rows) else None
        self._number = np.arange(len(rows))

    def nearest(
        self,
        queries: Float32[np.ndarray, "q d"],
        k: int,
        among: Bool[np.ndarray, " n"] | None = None,
    ) -> Neighbours:
        """The k most similar rows of every query, or all where there are fewer.

        Args:
            queries: unit rows.
            k: at least 1.
            among: only these rows.

        Returns:
            As `tupelo.evaluation.nearest`: equal similarities by row.

        >>> gallery = Gallery(np.eye(3, dtype=np.float32))
        >>> gallery.nearest(gallery.rows[:1], 2).indices.tolist()
        [[0, 1]]
        """
        from tupelo.evaluation import tiles  # compiled code: loaded when first needed

        number = self._number if among is None else np.where(among, self._number, -1)
        k = min(k, len(number) if among is None else int(among.sum()))
        found = Neighbours(np.empty((len(queries), k), np.int64), np.empty((len(queries), k)))
        if k == 0:
            return found
        # a query never meets a row of its own item: here all are -1, as the rows left out
        item = np.full(len(queries), -1)
        search = tiles.Search(queries, self.rows, item, number, PRECISION, self._fast)

        def work(block: slice) -> None:
            filled = np.zeros(len(item[block]), np.int64)
            search.keep_nearest(block, found.similarity[block], found.indices[block], filled)

        # a thread for each share: one product on several threads would wait for them every tile
        share = -(-len(queries) // torch.get_num_threads())
        tiles.over_blocks(len(queries), work, min(tiles.QUERY_ROWS, share))
        return found


def merged(parts: list[Neighbours], k: int) -> Neighbours:
    """The k best of neighbours found apart, equal similarities by row.

    >>> a = Neighbours(np.array([[4]]), np.array([[0.5]]))
    >>> b = Neighbours(np.array([[2]]), np.array([[0.5]]))
    >>> merged([a, b], 2).indices.tolist()
    [[2, 4]]
    """
    indices = np.concatenate([part.indices for part in parts], axis=1)
    similarity = np.concatenate([part.similarity for part in parts], axis=1)
    order = np.lexsort((indices, -similarity))[:, :k]
    return Neighbours(
        np.take_along_axis(indices, order, 1), np.take_along_axis(similarity, order, 1)
    )
