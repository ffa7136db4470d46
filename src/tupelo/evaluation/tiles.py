"""One pass over tiles of the similarity product, on several threads, in reused buffers."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from tupelo.evaluation import kernels
from tupelo.evaluation.products import Fast, Precision, approximate, usable_precisions

_log = logging.getLogger(__name__)

QUERY_ROWS = 256  # a tile of float32 products is 1 MB and stays in the cache of a core
GALLERY_ROWS = 1024
SAMPLE_ROWS = 128
# Less is done before a trial would be: pairs in all, and queries, over which the cost of preparing
# the gallery in every precision is spread.
WORTH_TRYING, TRIED_FROM = 2**24, 32 * SAMPLE_ROWS


class Search:
    """Queries and gallery prepared for exact comparison through a fast product.

    Args:
        queries: `(q, d)` float32.
        gallery: `(g, d)` float32; the same array as `queries` is prepared once.
        query_item: `(q,)` identities.
        gallery_item: `(g,)` identities; a query is not compared with an item of its own identity.
        precision: of the fast product: `float32`, `bfloat16` or `int8`.
        prepared: the gallery in that precision, where it is searched more than once.
    """

    def __init__(
        self,
        queries: np.ndarray,
        gallery: np.ndarray,
        query_item: np.ndarray,
        gallery_item: np.ndarray,
        precision: str,
        prepared: Fast | None = None,
    ):
        self._right = right = prepared or approximate(gallery, precision)
        self._left = left = right if queries is gallery else approximate(queries, precision)
        self._queries = _side(queries, query_item, left)
        self.gallery = _side(gallery, gallery_item, right)
        self._worst_norm, self._worst_error = right.norm.max(), right.error.max()
        self._local = threading.local()

    def queries(self, block: slice) -> kernels.Side:
        """The queries of a block."""
        return kernels.Side(*(field[block] for field in self._queries))

    def count(self, block: slice, wanted: kernels.Wanted, ranks: kernels.Ranks) -> None:
        """Count every gallery item against the thresholds of the block's queries."""
        mine = self.queries(block)
        worst = self._worst(mine)
        for first, tile, keep, place in self._tiles(block):
            kernels.count_tile(
                tile, first, self._left.relative, worst, mine, self.gallery,
                wanted, ranks, keep, place,
            )  # fmt: skip

    def keep_nearest(
        self, block: slice, best: np.ndarray, index: np.ndarray, filled: np.ndarray
    ) -> None:
        """Fill `best` and `index` (block, k) with the nearest items of the block's queries."""
        mine = self.queries(block)
        worst = self._worst(mine)
        for first, tile, keep, _ in self._tiles(block):
            kernels.keep_nearest(
                tile, first, self._left.relative, worst, mine, self.gallery,
                best, index, filled, keep,
            )  # fmt: skip

    def _worst(self, mine: kernels.Side) -> np.ndarray:
        return mine.error * self._worst_norm + mine.norm * self._worst_error

    def _tiles(self, block: slice):
        if not hasattr(self._local, "buffers"):
            self._local.buffers = _Buffers(self._left.operand.dtype)
        buffers = self._local.buffers
        left = self._left.operand[block]
        for first in range(0, len(self.gallery.rows), GALLERY_ROWS):
            right = self._right.operand[first : first + GALLERY_ROWS].T
            yield first, buffers.multiply(left, right), buffers.keep, buffers.place


class _Buffers:
    """Scratch of one thread. A fresh output for every product would cost page faults."""

    def __init__(self, dtype: torch.dtype):
        size = QUERY_ROWS * GALLERY_ROWS
        self._product = torch.empty(size, dtype=torch.int32 if dtype == torch.int8 else dtype)
        self._wide = torch.empty(size if dtype == torch.bfloat16 else 0)
        self.keep = np.empty(GALLERY_ROWS, np.int64)
        self.place = np.empty(GALLERY_ROWS, np.int64)

    def multiply(self, left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
        """Product as float32 or int32, valid until the next call."""
        shape = (left.shape[0], right.shape[1])
        out = self._product[: shape[0] * shape[1]].view(shape)
        if left.dtype == torch.int8:
            torch._int_mm(left, right, out=out)  # pyright: ignore[reportPrivateImportUsage]
            return out.numpy()
        torch.mm(left, right, out=out)
        if left.dtype == torch.bfloat16:
            out = self._wide[: out.numel()].view(shape).copy_(out)
        return out.numpy()


def prepare(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_item: np.ndarray,
    gallery_item: np.ndarray,
    precision: Precision,
    work: Callable[[Search, slice], None],
) -> Search:
    """Build the search; for `auto`, with the precision that does a sample of the work fastest.

    Which one that is depends on the processor and on the data: a coarser product is faster, but
    leaves more pairs to be scored again. The result is the same.
    """

    def build(name: str) -> Search:
        return Search(queries, gallery, query_item, gallery_item, name)

    if precision != "auto":
        return build(precision)
    if len(queries) * len(gallery) < WORTH_TRYING or len(queries) < TRIED_FROM:
        return build("float32")
    searches = {name: build(name) for name in usable_precisions(queries.shape[1])}
    seconds = {name: _seconds(search, work) for name, search in searches.items()}
    chosen = min(seconds, key=seconds.__getitem__)
    _log.debug("fast product in %s: seconds for a sample of queries: %s", chosen, seconds)
    return searches[chosen]


def _seconds(search: Search, work: Callable[[Search, slice], None]) -> float:
    def timed() -> float:
        work(search, slice(0, 1))  # compiles, and warms up what is lazy
        start = time.thread_time()
        work(search, slice(0, SAMPLE_ROWS))
        return time.thread_time() - start

    with _workers(1) as pool:
        return pool.submit(timed).result()


def over_blocks(n: int, work: Callable[[slice], None], rows: int = QUERY_ROWS) -> None:
    """Run `work` on blocks of so many query rows, on as many threads as PyTorch uses.

    Each thread multiplies and counts its own blocks: there is nothing to wait for in between.
    """
    blocks = [slice(first, min(first + rows, n)) for first in range(0, n, rows)]
    if len(blocks) == 1:
        work(blocks[0])
        return
    with _workers(min(len(blocks), torch.get_num_threads())) as pool:
        for _ in pool.map(work, blocks):
            pass


@contextmanager
def _workers(n: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in which PyTorch computes on one thread each; its setting here stays."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(n, initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # also what threads started later will use


def _side(rows: np.ndarray, item: np.ndarray, fast: Fast) -> kernels.Side:
    return kernels.Side(rows, item, fast.norm, fast.error, fast.scale)
