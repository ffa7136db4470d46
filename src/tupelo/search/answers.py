"""What an index answers: `Found`, by exact or approximate search, and the recall of the latter."""

from dataclasses import dataclass

import numpy as np

from tupelo.errors import InputError
from tupelo.evaluation import Neighbours
from tupelo.search.snapshot import Snapshot


@dataclass(frozen=True)
class Found:
    """What one query found, nearest first.

    Attributes:
        paths: of the items.
        labels: of the items.
        similarity: cosine, from -1 to 1.
        exact: every item was compared; False: the approximate index was asked.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    similarity: tuple[float, ...]
    exact: bool

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, n: int) -> "Found":
        """The n nearest of them."""
        return Found(self.paths[:n], self.labels[:n], self.similarity[:n], self.exact)


def answers(
    snapshot: Snapshot,
    rows: np.ndarray,
    k: int,
    where: str | None,
    exact: bool | None,
    own: np.ndarray | None = None,
) -> list[Found]:
    """What each query finds; see `Index.search`.

    Args:
        snapshot: what is searched.
        rows: unit rows, the queries.
        k: at least 1.
        where: see `Index.search`.
        exact: see `Index.search`.
        own: position of each query's own item, which it does not find.
    """
    if exact is None:
        exact = snapshot.pointer.approximate is None
    found = []
    for near in _nearest(snapshot, rows, k, where, exact, own):
        within = np.clip(near.similarity, -1, 1)  # float32 rows are of length 1 up to rounding
        paths, labels = snapshot.paths(near.indices), snapshot.labels(near.indices)
        found.append(Found(tuple(paths), tuple(labels), tuple(within.tolist()), exact))
    return found


def recall(snapshot: Snapshot, rows: np.ndarray | None, k: int, sample: int, seed: int) -> float:
    """The share of the k nearest items that approximate search finds; see `Index.recall`."""
    own = None
    if rows is None:
        rng = np.random.default_rng(seed)
        own = rng.choice(snapshot.n, min(snapshot.n, sample), replace=False)
        rows = snapshot.vectors(own)
    if snapshot.n <= (own is not None):
        raise InputError(f"recall needs items to be found; the index holds {snapshot.n}")
    truth = _nearest(snapshot, rows, k, None, True, own)
    found = _nearest(snapshot, rows, k, None, False, own)
    pairs = zip(truth, found, strict=True)
    shares = [len(np.intersect1d(a.indices, b.indices)) / len(a.indices) for a, b in pairs]
    return float(np.mean(shares))


def _nearest(
    snapshot: Snapshot,
    rows: np.ndarray,
    k: int,
    where: str | None,
    exact: bool,
    own: np.ndarray | None,
) -> list[Neighbours]:
    if not exact and snapshot.pointer.approximate is None:
        raise InputError(
            "exact=False needs an approximate index; rebuild it with approximate=True "
            "(tupelo index RUN --rebuild --approximate)"
        )
    wanted = min(k if own is None else k + 1, snapshot.n)
    if exact:
        found = snapshot.exact(rows, wanted, where)
        each = [Neighbours(*both) for both in zip(found.indices, found.similarity, strict=True)]
    else:
        each = snapshot.approximate(rows, wanted, where)
    if own is None:
        return each
    left = []
    for query, one in enumerate(each):
        keep = one.indices != own[query]
        left.append(Neighbours(one.indices[keep][:k], one.similarity[keep][:k]))
    return left
