"""The folder of an index: which table of it counts, and how it is written.

An index is a folder of LanceDB tables and one small file, `index.json`, which names the table and
the version of it that count. Every write prepares all it needs beside what is there, brings it to
the disk, and then replaces `index.json` by one rename: whoever reads sees the content before or
after, whole, whenever a writer is killed. What an interrupted write left is removed by the next
one; readers remove nothing and wait for nobody. Two writers are kept apart by a lock that the
system releases when its process ends, however it ends.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from tupelo.errors import CheckpointError, InputError, MissingExtra

FORMAT = 1
POINTER, LOCK = "index.json", "lock"
AGAIN = "build it again: tupelo index RUN SOURCE --rebuild"
_TABLE = re.compile(r"items-[0-9a-f]{12}")
_UNFINISHED = f".{POINTER}.writing"
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Pointer:
    """What `index.json` says.

    Attributes:
        table: name of the LanceDB table that counts.
        version: of it.
        next_number: of the next item; numbers grow in the order of insertion.
        width: of a row.
        identity: of the model that made the rows, see `tupelo.trained.Trained`; "" where the rows
            came from elsewhere.
        frame: height, width, channels and resize of the pictures, or None.
        approximate: settings and measured recall of the IVF-PQ index, or None.
    """

    table: str
    version: int
    next_number: int
    width: int
    identity: str
    frame: list[Any] | None
    approximate: dict[str, Any] | None


def read_pointer(folder: Path) -> Pointer:
    """What the folder holds.

    Raises:
        CheckpointError: it holds no index, or `index.json` is damaged or of a newer version.
    """
    path = folder / POINTER
    try:
        body = json.loads(path.read_bytes())
        if body["format"] > FORMAT:
            raise CheckpointError(
                f"{path} has format {body['format']}, this version reads up to {FORMAT}; update "
                "tupelo"
            )
        names = Pointer.__dataclass_fields__
        pointer = Pointer(**{name: body[name] for name in names})
        if not _TABLE.fullmatch(pointer.table) or min(pointer.version, pointer.width) < 1:
            raise ValueError(f"table {pointer.table!r}, version {pointer.version}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder} holds no index; make one: tupelo index RUN SOURCE --out {folder}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); {AGAIN}"
        ) from error
    return pointer


def write_pointer(folder: Path, pointer: Pointer) -> None:
    """Make this table and version the ones that count, in one step that survives a power cut."""
    body = {"format": FORMAT, "metric": "cosine", **asdict(pointer)}
    unfinished = folder / _UNFINISHED
    unfinished.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    _flush(unfinished)
    unfinished.replace(folder / POINTER)
    _flush(folder)


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder in which no index can be built, before the work is done.

    Raises:
        InputError: it holds an index that is not to be overwritten, or something else.
        MissingExtra: LanceDB is not installed.
    """
    _lancedb()
    if (folder / POINTER).exists():
        if not overwrite:
            raise InputError(
                f"{folder} holds an index; open it to add to it, or pass overwrite=True to "
                "replace it"
            )
    elif folder.exists():
        others = [path.name for path in _entries(folder) if not _ours(path)]
        if others:
            raise InputError(
                f"{folder} is no index and holds {others[0]}; give a new or an empty folder"
            )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer; the folder is made, and what interrupted writers left is removed.

    Raises:
        CheckpointError: another process, or another thread, is writing; or nothing can be
            written there.
    """
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in made:
            _flush(place.parent)
        with (folder / LOCK).open("ab") as file:
            if not _locked(file.fileno()):
                raise CheckpointError(
                    f"{folder} is being written by another process; wait until it has finished"
                )
            _sweep(folder)
            yield
    except OSError as error:
        raise _unwritten(folder, error) from error


def create(folder: Path, batches: Any) -> Any:
    """A new table beside the others, of Arrow batches or a table; `write_pointer` makes it count.

    Raises:
        CheckpointError: it could not be written, for example because the disk is full.
    """
    name = f"items-{uuid.uuid4().hex[:12]}"
    with changing(folder):
        return connect(folder).create_table(name, batches)


def change(folder: Path, pointer: Pointer, work: Callable[[Any], _Result]) -> tuple[int, _Result]:
    """Do `work` on the table in one commit; the new version, once it is on the disk.

    Raises:
        CheckpointError: the table cannot be read or changed.
    """
    before = _files(folder / f"{pointer.table}.lance")
    with reading(folder):
        table = connect(folder).open_table(pointer.table)
        if table.version != pointer.version:  # a writer was killed after its commit
            table.checkout(pointer.version)
            table.restore()
    with changing(folder):
        result = work(table)
    flush(folder, pointer.table, known=before)
    return table.version, result


def open_table(folder: Path, pointer: Pointer) -> Any:
    """The table at the version that counts.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    with reading(folder):
        table = connect(folder).open_table(pointer.table)
        table.checkout(pointer.version)
    return table


def connect(folder: Path) -> Any:
    """The LanceDB database of a folder.

    Raises:
        MissingExtra: LanceDB is not installed.
    """
    return _lancedb().connect(folder)


def _lancedb() -> Any:
    try:
        import lancedb
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("an index needs LanceDB: pip install 'tupelo[search]'") from error
    return lancedb


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Turn whatever LanceDB says of a write that failed into one error.

    Raises:
        CheckpointError: the disk is full, or what is there is damaged.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise _unwritten(folder, error) from error


def _unwritten(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the index {folder} could not be written ({short(error)}) and is as it was; make room "
        f"or give another folder, and where it is damaged, {AGAIN}"
    )


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn whatever LanceDB says of a table it cannot read into one error.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise CheckpointError(
            f"the index {folder} cannot be read ({short(error)}); {AGAIN}"
        ) from error


def flush(folder: Path, table: str, known: frozenset[Path] = frozenset()) -> None:
    """Bring the files of a table to the disk, but for those that were there before."""
    root = folder / f"{table}.lance"
    new = _files(root) - known
    folders = {place for path in new for place in path.parents if place.is_relative_to(root)}
    for path in {*new, *folders, root, folder}:
        _flush(path)


def bytes_on_disk(folder: Path, pointer: Pointer) -> int:
    """Size of the table that counts, with its index."""
    sizes = 0
    for path in _files(folder / f"{pointer.table}.lance"):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:  # replaced meanwhile
            continue
    return sizes


def quoted(text: str) -> str:
    """A string of the filter language.

    >>> print("path =", quoted("it's.png"))
    path = 'it''s.png'
    """
    return "'" + text.replace("'", "''") + "'"


def _sweep(folder: Path) -> None:
    """Remove tables that do not count, and a pointer half written."""
    try:
        keep = f"{read_pointer(folder).table}.lance"
    except CheckpointError:
        if (folder / POINTER).exists():  # damaged: leave what a person may still want to save
            return
        keep = ""
    for path in _entries(folder):
        if path.name == _UNFINISHED:
            path.unlink(missing_ok=True)
        elif path.suffix == ".lance" and _TABLE.fullmatch(path.stem) and path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


def _ours(path: Path) -> bool:
    return path.name in (LOCK, _UNFINISHED) or bool(_TABLE.fullmatch(path.stem))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else [folder]


def _files(root: Path) -> frozenset[Path]:
    return frozenset(path for path in root.rglob("*") if path.is_file())


def _locked(handle: int) -> bool:
    """Take the lock of an open file; the system gives it back when the file or process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        lock, arguments = getattr(msvcrt, "locking"), (handle, getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009
    else:
        lock, arguments = fcntl.flock, (handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        lock(*arguments)
    except OSError:
        return False
    return True


def _flush(path: Path) -> None:
    if path.is_dir() and os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def short(error: BaseException) -> str:
    """The first sentence of an error of LanceDB, without the places in its own source."""
    text = " ".join(str(error).split())
    return re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", text)[:200]
