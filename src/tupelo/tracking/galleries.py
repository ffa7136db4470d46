"""What tracks looked like: the last embeddings of each, of strong detections only."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import ArrayLike

from tupelo.errors import InputError

UNIT = 1e-3  # how far the length of an embedding may be from 1
_FIRST_PLACES = 16
Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Galleries:
    """The galleries of all living tracks, in places that are used again.

    A gallery keeps its last `size` embeddings. The memory grows with the number of tracks that ever
    lived at once, and not with the number of frames.

    Args:
        size: embeddings of a track.
    """

    def __init__(self, size: int):
        self.size = size
        self.width: int | None = None
        self._rows = np.zeros((0, size, 0), dtype=np.float32)
        self._length = np.zeros(0, dtype=np.int64)
        self._added = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []

    @property
    def places(self) -> int:
        """How many there are, used and free."""
        return len(self._length)

    def opened(self, count: int) -> Int64[np.ndarray, " k"]:
        """Places of empty galleries."""
        short = count - len(self._free)
        if short > 0:
            more = max(short, self.places, _FIRST_PLACES)
            self._free = [*range(self.places + more - 1, self.places - 1, -1), *self._free]
            self._rows = np.concatenate([self._rows, self._empty(more)])
            self._length = np.concatenate([self._length, np.zeros(more, dtype=np.int64)])
            self._added = np.concatenate([self._added, np.zeros(more, dtype=np.int64)])
        places = np.array([self._free.pop() for _ in range(count)], dtype=np.int64)
        self._length[places] = self._added[places] = 0
        return places

    def close(self, places: Int64[np.ndarray, " k"]) -> None:
        """The tracks are gone."""
        self._free.extend(places.tolist())

    def lengths(self, places: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """How many embeddings each gallery holds."""
        return self._length[places]

    def add(self, places: Int64[np.ndarray, " k"], embeddings: Float32[np.ndarray, "k d"]) -> None:
        """One embedding for each gallery, in place of its oldest where it is full."""
        if not len(places):
            return
        if self.width is None:
            self.width = embeddings.shape[1]
            self._rows = self._empty(self.places)
        self._rows[places, self._added[places] % self.size] = embeddings
        self._added[places] += 1
        self._length[places] = np.minimum(self._added[places], self.size)

    def distances(
        self,
        places: Int64[np.ndarray, " n"],
        embeddings: Float32[np.ndarray, "m d"],
        wanted: Bool[np.ndarray, "n m"],
    ) -> Float64[np.ndarray, "n m"]:
        """Least cosine distance of each wanted embedding from each gallery.

        Args:
            places: of the tracks.
            embeddings: unit rows; rows of NaN are at infinite distance.
            wanted: pairs to compute; only these cost a product.

        Returns:
            1 - cosine; infinite where it is not wanted, and for empty galleries.
        """
        found = np.full(wanted.shape, np.inf)
        lengths = self._length[places]
        wanted = wanted & (lengths > 0)[:, None] & ~np.isnan(embeddings[:, :1]).T
        rows, columns = np.nonzero(wanted)
        if not len(rows):
            return found
        begins = np.searchsorted(rows, np.arange(len(places) + 1)).tolist()
        chosen = embeddings[columns].T  # one gather for all tracks
        nearest = np.empty(len(rows), dtype=np.float32)
        for row, (begin, end) in enumerate(pairwise(begins)):
            if begin < end:
                gallery = self._rows[places[row], : lengths[row]]
                (gallery @ chosen[:, begin:end]).max(axis=0, out=nearest[begin:end])
        found[rows, columns] = 1 - nearest.astype(np.float64)
        return found

    def _empty(self, places: int) -> Float32[np.ndarray, "p s d"]:
        # zeros are not touched: the system gives pages of memory when they are first written
        return np.zeros((places, self.size, self.width or 0), dtype=np.float32)


def checked_embeddings(
    embeddings: ArrayLike, count: int, width: int | None
) -> Float32[np.ndarray, "n d"]:
    """Unit rows as float32; a row of NaN stands for a box that cannot be seen.

    Args:
        embeddings: one row a box.
        count: of boxes.
        width: of earlier embeddings; None: any.

    Raises:
        InputError: another number or width of rows, partly NaN, or not of unit length.
    """
    rows: Float[np.ndarray, "n d"] = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != count:
        raise InputError(
            f"embeddings must hold one row for each of {count} boxes, got shape {rows.shape}"
        )
    if width is not None and count and rows.shape[1] != width:
        raise InputError(
            f"embeddings must have the width of earlier frames, {width}, got {rows.shape[1]}; use "
            "one network for all frames"
        )
    squares = np.einsum("nd,nd->n", rows, rows)
    hidden = np.isnan(squares)
    wrong = ~hidden & ~(np.abs(np.sqrt(squares) - 1) <= UNIT)
    wrong |= hidden & ~np.isnan(rows).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"embeddings must be unit rows (or all NaN where a box cannot be seen), got length "
            f"{np.sqrt(squares[row]):.4g} in row {row}; divide each row by its length"
        )
    return rows
