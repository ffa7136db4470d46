"""One version of an index, read: nothing in it changes, so any number of threads may use it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.errors import CheckpointError, InputError
from tupelo.evaluation import Neighbours
from tupelo.search import store
from tupelo.search.exact import Gallery, merged
from tupelo.search.store import Pointer, reading

CHUNK_ROWS = 65_536  # read at once
_SLACK = 1e-3  # of the length of a unit row that was stored
_QUERIES_AT_ONCE = 64  # of LanceDB


class Snapshot:
    """The items that `pointer` names, in the order of insertion.

    Args:
        folder: of the index.
        pointer: what counts.
        memory_bytes: rows are kept in memory up to this, else read for every search.

    Raises:
        CheckpointError: the table is missing or damaged.
    """

    def __init__(self, folder: Path, pointer: Pointer, memory_bytes: int) -> None:
        self.folder = folder
        self.pointer = pointer
        self.table = store.open_table(folder, pointer)
        with reading(folder):
            columns = (
                self.table.search()
                .select(["number", "path", "label"])
                .with_row_id(True)
                .to_arrow()
                .combine_chunks()
            )
            order = np.argsort(columns["number"].to_numpy(), kind="stable")
            in_order = (order == np.arange(len(order))).all()
            self._columns = columns if in_order else columns.take(order)
        self.numbers: np.ndarray = self._columns["number"].to_numpy()  # ascending, (n,)
        self.n = len(self.numbers)
        self.held = self.n * pointer.width * 4 <= memory_bytes
        self._lock = threading.Lock()
        self._prepared: Gallery | None = None

    def _gallery(self) -> Gallery:
        """All rows, read when they are first needed."""
        with self._lock:
            if self._prepared is None:
                rows = np.empty((self.n, self.pointer.width), np.float32)
                for numbers, vectors in self._chunks(None):
                    rows[self.rows_of(numbers)] = vectors
                self._prepared = Gallery(rows)
            return self._prepared

    def paths(self, rows: np.ndarray) -> list[str]:
        """The names of items."""
        return self._columns["path"].take(rows).to_pylist()

    def labels(self, rows: np.ndarray) -> list[str]:
        """The labels of items."""
        return self._columns["label"].take(rows).to_pylist()

    def n_labels(self) -> int:
        """How many different labels or tags items have."""
        joined = _compute().unique(self._columns["label"]).to_pylist()
        return len({tag for label in joined for tag in label.split("|")} - {""})

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """Positions of items by number."""
        rows = np.searchsorted(self.numbers, numbers)
        if len(rows) and (rows.max() >= self.n or (self.numbers[rows] != numbers).any()):
            raise CheckpointError(f"the index {self.folder} is damaged; {store.AGAIN}")
        return rows

    def find(self, paths: list[str]) -> np.ndarray:
        """Positions of items by path.

        Raises:
            InputError: there is no such item; names some that are like it.
        """
        import pyarrow as pa

        valid = [_valid(path) for path in paths]
        wanted = _compute().is_in(self._columns["path"], value_set=pa.array(valid, pa.string()))
        rows = np.flatnonzero(wanted.to_numpy())
        by_path = dict(zip(self.paths(rows), rows.tolist(), strict=True))
        for path in paths:
            if path not in by_path:
                raise InputError(f"no item has the path {path!r}; {self._like(path)}")
        return np.array([by_path[path] for path in paths], np.int64)

    def _like(self, path: str) -> str:
        names = self._columns["path"]
        ends = _compute().ends_with(names, _valid(path.rsplit("/", 1)[-1]))
        near = names.filter(ends).slice(0, 3).to_pylist() or names.slice(0, 3).to_pylist()
        return f"there are such as {', '.join(map(repr, near))}" if near else "the index is empty"

    def matching(self, where: str) -> np.ndarray:
        """Positions of the items that a filter lets through, ascending.

        Raises:
            InputError: it is no valid filter.
        """
        with self._asking(where):
            found = self.table.search().where(where).select(["number"]).to_arrow()
        return np.sort(self.rows_of(found["number"].to_numpy()))

    @contextmanager
    def _asking(self, where: str | None) -> Iterator[None]:
        """Tell a bad filter from a table that cannot be read: LanceDB raises the same for both."""
        try:
            with reading(self.folder):
                yield
        except CheckpointError as error:
            if where is None or error.__cause__ is None:
                raise
            with reading(self.folder):
                self.table.search().select(["number"]).limit(1).to_arrow()
            raise InputError(
                "where must be a filter on the columns path, label and number, such as "
                f"\"label = 'cat'\", got {where!r}: {store.short(error.__cause__)}"
            ) from error

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The stored rows of items."""
        if self.held:
            return self._gallery().rows[rows]
        with reading(self.folder):
            ids = self._columns["_rowid"].take(rows).to_pylist()
            got = self.table.take_row_ids(ids).select(["number", "vector"]).to_arrow()
            place = {number: at for at, number in enumerate(got["number"].to_pylist())}
            matrix = _matrix(got["vector"], self.pointer.width)
        return matrix[[place[number] for number in self.numbers[rows].tolist()]]

    def thumbnails(self, rows: np.ndarray) -> list[bytes | None]:
        """The small pictures of items, None where one has none."""
        if not len(rows):
            return []
        with reading(self.folder):
            ids = self._columns["_rowid"].take(rows).to_pylist()
            got = self.table.take_row_ids(sorted(set(ids))).select(["number", "thumbnail"])
            found = got.to_arrow().to_pydict()
        kept = dict(zip(found["number"], found["thumbnail"], strict=True))
        return [kept[number] for number in self.numbers[rows].tolist()]

    def exact(self, queries: np.ndarray, k: int, where: str | None) -> Neighbours:
        """The k most similar items of every query, equal similarities by insertion."""
        if self.held:
            if where is None:
                return self._gallery().nearest(queries, k)
            among = np.zeros(self.n, np.bool_)
            among[self.matching(where)] = True
            return self._gallery().nearest(queries, k, among)
        best = Neighbours(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0)))
        for numbers, vectors in self._chunks(where):
            near = Gallery(vectors).nearest(queries, k)
            found = Neighbours(self.rows_of(numbers)[near.indices], near.similarity)
            best = merged([best, found], k)
        return best

    def approximate(self, queries: np.ndarray, k: int, where: str | None) -> list[Neighbours]:
        """What the IVF-PQ index finds for each query, with exact similarities in exact order."""
        if k == 0:  # the index is empty
            return [Neighbours(np.empty(0, np.int64), np.empty(0))] * len(queries)
        found: list[Neighbours] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            found += self._ask(queries[start : start + _QUERIES_AT_ONCE], k, where)
        return found

    def _ask(self, queries: np.ndarray, k: int, where: str | None) -> list[Neighbours]:
        settings = self.pointer.approximate
        assert settings is not None, "asked only where there is one"  # noqa: S101
        with self._asking(where):
            asked: Any = queries[0] if len(queries) == 1 else list(queries)
            query = self.table.search(asked, vector_column_name="vector").distance_type("cosine")
            query = query.nprobes(settings["probes"]).refine_factor(settings["refine"])
            query = query if where is None else query.where(where, prefilter=True)
            got = query.limit(k).select(["number", "vector", "_distance"]).to_arrow()
            rows = self.rows_of(got["number"].to_numpy())
            vectors = _matrix(got["vector"], self.pointer.width)
        of = got["query_index"].to_numpy() if len(queries) > 1 else np.zeros(len(rows), np.int64)
        parts = [np.flatnonzero(of == query) for query in range(len(queries))]
        return [
            _sorted(queries[place], vectors[part], rows[part]) for place, part in enumerate(parts)
        ]

    def _chunks(self, where: str | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers and rows of items, some at a time, each time in the order of insertion."""
        with self._asking(where):
            query = self.table.search().select(["number", "vector"])
            query = query if where is None else query.where(where)
            for batch in query.to_batches(CHUNK_ROWS):
                vectors = _matrix(batch["vector"], self.pointer.width)
                lengths = np.linalg.norm(vectors, axis=1)
                if not (np.abs(lengths - 1) < _SLACK).all():
                    raise CheckpointError(
                        f"the index {self.folder} is damaged: it holds rows whose length is not "
                        f"1; {store.AGAIN}"
                    )
                numbers = batch["number"].to_numpy()
                order = np.argsort(numbers)  # LanceDB promises none
                yield numbers[order], vectors[order]

    def batches(self) -> Iterator[Any]:
        """All columns, in the order of insertion as far as the table keeps it."""
        with reading(self.folder):
            yield from (
                self.table.search()
                .select(["number", "path", "label", "vector", "thumbnail"])
                .to_batches(CHUNK_ROWS)
            )


def _sorted(query: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> Neighbours:
    from tupelo.evaluation import kernels  # compiled code: loaded when first needed

    similarity = np.array([kernels.similarity(query, row) for row in vectors], np.float64)
    order = np.lexsort((rows, -similarity))
    return Neighbours(rows[order], similarity[order])


def _valid(path: str) -> str:
    """A path that Arrow takes; one of bytes that are no text is in no index."""
    return path.encode("utf-8", "replace").decode()


def _compute() -> Any:
    from pyarrow import compute  # functions that are made when it is loaded

    return compute


def _matrix(vectors: Any, width: int) -> np.ndarray:
    """A fixed-size list column as `(n, d)`, without a copy where it is one piece."""
    import pyarrow as pa

    if isinstance(vectors, pa.ChunkedArray):
        vectors = vectors.combine_chunks()
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
