"""`Index`: build, open, search, add, delete, rebuild."""

import fnmatch
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from tupelo.data import ImageSet
from tupelo.errors import CheckpointError, InputError
from tupelo.search import answers, store
from tupelo.search import approximate as ivfpq
from tupelo.search.answers import Found
from tupelo.search.approximate import Approximate
from tupelo.search.items import Items, arrow_table, items_of, unit_rows
from tupelo.search.snapshot import Snapshot
from tupelo.search.store import Pointer
from tupelo.trained import Trained

Progress = Callable[[int, int], None]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Info:
    """What an index holds.

    Attributes:
        folder: of the index.
        items: their number.
        labels: number of different ones, of tags where items have several; without "".
        width: of a row.
        identity: of the model, "" where the rows came from elsewhere.
        version: grows with every write of a table; a rebuild starts at 1 again.
        approximate: settings of IVF-PQ with `recall`, the share of the `at` nearest that
            it found for `queries` stored rows when it was built, and `asked`, the settings that
            were given; or None.
        unindexed: items added since, which the approximate index compares one by one.
        bytes: on the disk.
    """

    folder: Path
    items: int
    labels: int
    width: int
    identity: str
    version: int
    approximate: dict[str, Any] | None
    unindexed: int
    bytes: int


class Index:
    """Rows of items on disk, searched by cosine similarity; `build` and `open` make it.

    Any number of threads and processes may search while one writes; a search sees the content
    before or after a write, and the next one after. See `open` for the arguments.
    """

    def __init__(self, folder: Path, model: Trained | None, memory_bytes: int) -> None:
        self.folder = folder
        self.model = model
        self._memory_bytes = memory_bytes
        self._identity = "" if model is None else model.identity
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._current()

    def __len__(self) -> int:
        return self._read(lambda snapshot: snapshot.n)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self)} items)"

    def info(self) -> Info:
        """Counts, settings and size."""

        def work(snapshot: Snapshot) -> Info:
            pointer = snapshot.pointer
            return Info(
                self.folder,
                snapshot.n,
                snapshot.n_labels(),
                pointer.width,
                pointer.identity,
                pointer.version,
                pointer.approximate,
                ivfpq.unindexed(snapshot.table) if pointer.approximate else 0,
                store.bytes_on_disk(self.folder, pointer),
            )

        return self._read(work)

    def paths(self, pattern: str = "*") -> list[str]:
        """Paths of the items in the order of insertion; those that match a shell pattern."""
        paths = self._read(lambda snapshot: snapshot.paths(np.arange(snapshot.n)))
        return paths if pattern == "*" else fnmatch.filter(paths, pattern)

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: str | None = None,
        exact: bool | None = None,
    ) -> list[Found]:
        """The k items most similar to every query.

        Exact search compares every item: the result is that of `tupelo.evaluation.nearest`, and
        items of equal similarity stand in the order of insertion. A picture that is itself in the
        index finds itself first; `like` leaves it out.

        Args:
            queries: rows `(n, d)` or one `(d,)`, floating, NumPy or torch, of any length; or, with
                a model, one or several pictures as `Trained.embed` takes them.
            k: at least 1; where there are fewer items, all of them are found.
            where: only items for which this holds: SQL as LanceDB understands it, on the columns
                `path`, `label` and `number` (of insertion), such as `label = 'cat'`,
                `label IN ('cat', 'dog')`, `path LIKE 'shop/%'`.
            exact: compare every item; default unless the index is approximate.

        Returns:
            One `Found` for each query.

        Raises:
            InputError: k is below 1; rows of another width, with NaN or of zeros; pictures without
                a model; a bad filter; approximate search without an approximate index.
            CheckpointError: the model is not the one the index was built with, or the index is
                damaged.
            DataError: a picture cannot be read.
        """
        _check_k(k)
        rows = self._rows(queries)
        from_model = not _is_rows(queries)

        def work(snapshot: Snapshot) -> list[Found]:
            if from_model:
                self._check_model(snapshot.pointer)
            _check_width(rows, snapshot.pointer)
            return answers.answers(snapshot, rows, k, where, exact)

        return self._read(work)

    def like(
        self,
        paths: str | Sequence[str],
        k: int = 10,
        *,
        where: str | None = None,
        exact: bool | None = None,
    ) -> list[Found]:
        """The k items most similar to items of the index, which do not find themselves.

        Args:
            paths: of the items that are the queries.
            k: see `search`.
            where: see `search`.
            exact: see `search`.

        Raises:
            InputError: there is no such item, or see `search`.
        """
        _check_k(k)
        wanted = [paths] if isinstance(paths, str) else list(paths)
        if not wanted:
            raise InputError("paths must name at least one item, got none")

        def work(snapshot: Snapshot) -> list[Found]:
            own = snapshot.find(wanted)
            return answers.answers(snapshot, snapshot.vectors(own), k, where, exact, own)

        return self._read(work)

    def labels(self, paths: Sequence[str]) -> list[str]:
        """The labels of items.

        Raises:
            InputError: there is no such item.
        """
        return self._read(lambda snapshot: snapshot.labels(snapshot.find(list(paths))))

    def thumbnails(self, paths: Sequence[str]) -> list[bytes | None]:
        """The small pictures of items, None where one was stored without.

        Raises:
            InputError: there is no such item.
        """
        return self._read(lambda snapshot: snapshot.thumbnails(snapshot.find(list(paths))))

    def recall(
        self,
        queries: Any = None,
        *,
        k: int = ivfpq.MEASURED_AT,
        sample: int = ivfpq.SAMPLE,
        seed: int = 0,
    ) -> float:
        """The share of the k nearest items that the approximate index finds.

        Args:
            queries: rows, see `search`; default stored rows, each of which leaves itself out: of
                all n in the order of insertion
                `numpy.random.default_rng(seed).choice(n, min(n, sample), replace=False)`.
            k: how many.
            sample: number of stored rows.
            seed: of their choice.

        Raises:
            InputError: the index is not approximate or holds too few items, or see `search`.
        """
        _check_k(k)
        rows = None if queries is None else self._rows(queries)
        return self._read(lambda snapshot: answers.recall(snapshot, rows, k, sample, seed))

    def add(
        self, source: ImageSet | Items, *, thumbnails: bool = True, progress: Progress | None = None
    ) -> int:
        """Add items in one step; an item whose path is there is replaced, and is then the newest.

        Args:
            source: pictures, which are embedded by the model of this index, or rows.
            thumbnails: see `build`.
            progress: see `tupelo.embed`.

        Returns:
            How many were new.

        Raises:
            InputError: the items do not fit the index.
            CheckpointError: the model is not the one the index was built with; another process is
                writing; the index is damaged.
        """
        if not isinstance(source, Items):
            self.check_model()
            source = items_of(
                self._needed_model(), source, thumbnails=thumbnails, progress=progress
            )
        with self._writing() as snapshot:
            pointer = snapshot.pointer
            if pointer.identity and self._identity:
                self._check_model(pointer)
            table = arrow_table(source, pointer.next_number, pointer.width)

            def merge(existing: Any) -> int:
                done = (
                    existing.merge_insert("path")
                    .when_matched_update_all()
                    .when_not_matched_insert_all()
                    .execute(table)
                )
                return done.num_inserted_rows

            version, new = store.change(self.folder, pointer, merge)
            after = pointer.next_number + len(table)
            store.write_pointer(self.folder, replace(pointer, version=version, next_number=after))
        return new

    def delete(self, paths: str | Sequence[str]) -> int:
        """Remove items in one step; returns how many.

        Args:
            paths: of the items, see `paths` for those that match a pattern.

        Raises:
            InputError: there is no such item.
            CheckpointError: another process is writing, or the index is damaged.
        """
        unwanted = [paths] if isinstance(paths, str) else list(dict.fromkeys(paths))
        with self._writing() as snapshot:
            numbers = snapshot.numbers[snapshot.find(unwanted)].tolist()
            if not numbers:
                return 0
            condition = f"number IN ({', '.join(map(str, numbers))})"
            pointer = snapshot.pointer
            version, _ = store.change(
                self.folder, pointer, lambda existing: existing.delete(condition)
            )
            store.write_pointer(self.folder, replace(pointer, version=version))
        return len(numbers)

    def rebuild(self, *, approximate: bool | Approximate | None = None) -> None:
        """Write all items anew: one compact table, in which every item is indexed.

        Args:
            approximate: as in `build`; default as it is, what was not given chosen anew for the
                present number.

        Raises:
            InputError: there are too few items for an approximate index.
            CheckpointError: another process is writing, or the index is damaged.
        """
        with self._writing() as snapshot:
            asked = _asked(approximate)
            if approximate is None and snapshot.pointer.approximate is not None:
                asked = Approximate(**snapshot.pointer.approximate["asked"])
            if asked is not None:
                asked.resolved(snapshot.n, snapshot.pointer.width)
            _write(self.folder, snapshot.pointer, _again(snapshot), asked)

    def _rows(self, queries: Any) -> np.ndarray:
        if _is_rows(queries):
            rows = queries[None] if queries.ndim == 1 else queries
            return unit_rows(rows, "queries")
        self.check_model()
        return unit_rows(self._needed_model().embed(queries), "queries")

    def check_model(self) -> None:
        """Whether pictures may be searched and added; each does so itself, after embedding too.

        Raises:
            InputError: the index was opened without a model.
            CheckpointError: it was built with another model.
        """
        self._check_model(self._current().pointer)

    def _needed_model(self) -> Trained:
        if self.model is None:
            raise InputError(
                "pictures need a model: open the index with model=tupelo.load(RUN); or pass rows "
                "as a NumPy array or tensor"
            )
        return self.model

    def _check_model(self, pointer: Pointer) -> None:
        self._needed_model()
        if pointer.identity and pointer.identity != self._identity:
            raise CheckpointError(
                f"the index {self.folder} was built with another model (identity "
                f"{pointer.identity[:12]}, this one has {self._identity[:12]}): give the run that "
                f"it was built with, or {store.AGAIN}"
            )

    @contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Be the only writer of what counts, which is given."""
        self._current()  # else a folder that is gone would be made
        with store.writing(self.folder):
            yield self._current()

    def _current(self) -> Snapshot:
        """What counts now; read anew after a write."""
        with self._lock:
            while True:
                pointer = store.read_pointer(self.folder)
                if self._snapshot is not None and self._snapshot.pointer == pointer:
                    return self._snapshot
                try:
                    self._snapshot = Snapshot(self.folder, pointer, self._memory_bytes)
                except CheckpointError:  # damaged, or replaced since its pointer was read
                    if store.read_pointer(self.folder) == pointer:
                        raise

    def _read(self, work: Callable[[Snapshot], _Result]) -> _Result:
        """`work` on what counts; once more where its table was replaced meanwhile."""
        while True:
            snapshot = self._current()
            try:
                return work(snapshot)
            except CheckpointError:
                if self._current() is snapshot:
                    raise


def build(
    folder: str | Path,
    source: ImageSet | Items,
    *,
    model: Trained | None = None,
    approximate: bool | Approximate = False,
    thumbnails: bool = True,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> Index:
    """Write an index and open it; until it is complete, what was there before stays in use.

    Args:
        folder: of the index; new or empty.
        source: pictures, which are embedded by the model, or rows.
        model: from `tupelo.load`; needed for pictures. With rows it says where they came from.
        approximate: also build an IVF-PQ index, which is then asked by default, and measure what
            it misses (`Info.approximate`); settings of your own as `Approximate`.
        thumbnails: keep a small JPEG of each picture.
        overwrite: replace the index that is there.
        memory_bytes: see `open`.
        progress: see `tupelo.embed`.

    Raises:
        InputError: there is an index; the folder holds something else; pictures without a model;
            rows, paths and labels do not fit each other; too few items for `approximate`.
        CheckpointError: another process is writing.
        MissingExtra: LanceDB is not installed.

    >>> import tempfile
    >>> items = Items(np.eye(3), ["a.png", "b.png", "c.png"], ["cat", "cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = build(folder, items)
    ...     index.search(np.array([0.1, 1.0, 0.2]), k=2)[0].paths
    ('b.png', 'c.png')
    """
    folder = Path(folder)
    store.check_place(folder, overwrite=overwrite)
    asked = _asked(approximate)
    if not isinstance(source, Items):
        if model is None:
            raise InputError("pictures need model, from tupelo.load; or pass Items of rows")
        source = items_of(model, source, thumbnails=thumbnails, progress=progress)
    table = arrow_table(source, 0)
    width = table.schema.field("vector").type.list_size
    if asked is not None:
        asked.resolved(len(table), width)
    identity = "" if model is None else model.identity
    frame = None if model is None else list(model.frame)
    pointer = Pointer("", 0, len(table), width, identity, frame, None)
    with store.writing(folder):
        store.check_place(folder, overwrite=overwrite)  # an index may be there meanwhile
        _write(folder, pointer, table, asked)
    return Index(folder, model, _budget(memory_bytes))


def open(
    folder: str | Path, *, model: Trained | None = None, memory_bytes: int | None = None
) -> Index:
    """Open an index for searching and changing.

    Args:
        folder: that `build` or `tupelo index` wrote.
        model: the one it was built with, from `tupelo.load`; needed for pictures.
        memory_bytes: rows are kept in memory up to this, else they are read for every search, in
            parts; default a quarter of the machine's memory.

    Raises:
        CheckpointError: the folder holds no index, or it is damaged or of a newer version.
        MissingExtra: LanceDB is not installed.
    """
    return Index(Path(folder), model, _budget(memory_bytes))


def _write(folder: Path, like: Pointer, content: Any, asked: Approximate | None) -> None:
    """Write a table, its index and at last the pointer; only for the one that writes."""
    table = store.create(folder, content)
    pointer = replace(like, table=table.name, version=table.version, approximate=None)
    if asked is not None:
        settings = asked.resolved(table.count_rows(), like.width)
        with store.changing(folder):
            ivfpq.make(table, settings)
        told = asdict(settings) | {"asked": asdict(asked)}
        pointer = replace(pointer, version=table.version, approximate=told)
        written = Snapshot(folder, pointer, _budget(None))
        recall = answers.recall(written, None, ivfpq.MEASURED_AT, ivfpq.SAMPLE, 0)
        told |= {"recall": recall, "at": ivfpq.MEASURED_AT}
        pointer = replace(pointer, approximate=told | {"queries": min(written.n, ivfpq.SAMPLE)})
    store.flush(folder, table.name)
    store.write_pointer(folder, pointer)


def _again(snapshot: Snapshot) -> Any:
    """All items of a snapshot as an Arrow stream."""
    import pyarrow as pa

    schema = snapshot.table.schema
    return pa.RecordBatchReader.from_batches(schema, snapshot.batches())


def _asked(approximate: bool | Approximate | None) -> Approximate | None:
    if isinstance(approximate, Approximate):
        return approximate
    return Approximate() if approximate else None


def _is_rows(queries: Any) -> bool:
    if isinstance(queries, torch.Tensor):
        return True
    return isinstance(queries, np.ndarray) and queries.dtype != np.uint8


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")


def _check_width(rows: np.ndarray, pointer: Pointer) -> None:
    if rows.shape[1] != pointer.width:
        raise InputError(
            f"queries must have {pointer.width} numbers a row, as those of the index; got "
            f"{rows.shape[1]}"
        )


def _budget(memory_bytes: int | None) -> int:
    if memory_bytes is not None:
        return memory_bytes
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 4 * 2**30
