"""Where pixels come from: files in a folder or a zip, or an array; read by threads, kept or not."""

import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from tupelo.data.decode import (
    BadPicture,
    Box,
    Frame,
    Header,
    decode,
    fit,
    quiet_pillow,
    read_header,
)
from tupelo.errors import DataError

# One member or file larger than this is refused unread: no picture to learn from is so large.
MAX_FILE_BYTES = 256 * 2**20
Progress = Callable[[str, int, int], None]
_Result = TypeVar("_Result")


class Probe(NamedTuple):
    """What one look at a picture tells: a digest of content and box, and the header."""

    digest: bytes
    header: Header


class FolderFiles:
    """Files below a folder, by relative or absolute name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """The content of one file; `BadPicture` when there is none or it is far too large."""
        path = self.root / name
        try:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise BadPicture(f"too large: {size} bytes")
            return path.read_bytes()
        except FileNotFoundError as error:
            raise BadPicture("file not found") from error
        except OSError as error:
            raise BadPicture(f"unreadable: {error.strerror}") from error


class ZipFiles:
    """Members of a zip archive, read one by one without extraction, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._archive: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])

    def archive(self) -> zipfile.ZipFile:
        """The open archive; each process opens its own."""
        with self._lock:
            if self._archive is None:
                try:
                    self._archive = zipfile.ZipFile(self.path)
                except (zipfile.BadZipFile, OSError) as error:
                    raise DataError(f"{self.path} cannot be read as a zip: {error}") from error
            return self._archive

    def read(self, name: str) -> bytes:
        """The content of one member; `BadPicture` when absent, damaged, locked or far too large."""
        archive = self.archive()
        try:
            member = archive.getinfo(name)
        except KeyError as error:
            raise BadPicture("file not found") from error
        if member.file_size > MAX_FILE_BYTES:  # zipfile never yields more than is declared
            raise BadPicture(f"too large: {member.file_size} bytes")
        try:
            return archive.read(member)
        except Exception as error:  # bad checksum, zlib errors, unknown methods, passwords
            raise BadPicture(f"damaged: {error}") from error


class FilePictures:
    """Pictures in files, each optionally cut to a box.

    Args:
        files: reads the bytes of a name.
        names: one a picture.
        boxes: left, top, width, height in pixels of the upright picture, or None, one a picture.
    """

    def __init__(
        self,
        files: FolderFiles | ZipFiles,
        names: Sequence[str],
        boxes: Sequence[Box | None] | None = None,
    ) -> None:
        self.files = files
        self.names = names
        self.boxes = boxes

    def __len__(self) -> int:
        return len(self.names)

    def probe(self, row: int) -> Probe:
        """Digest and header of one file."""
        data = self.files.read(self.names[row])
        box = self._box(row)
        digest = blake2b(data, digest_size=16)
        digest.update(repr(box).encode())
        return Probe(digest.digest(), read_header(data, box))

    def pixels(self, row: int, frame: Frame) -> UInt8[np.ndarray, "c h w"]:
        """One picture, decoded."""
        return decode(self.files.read(self.names[row]), frame, self._box(row))

    def _box(self, row: int) -> Box | None:
        return None if self.boxes is None else self.boxes[row]


class ArrayPictures:
    """Pictures held in one array `(n, h, w)` or `(n, h, w, 3)`."""

    def __init__(self, array: UInt8[np.ndarray, "n ..."]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def probe(self, row: int) -> Probe:
        """Digest and size of one picture."""
        picture = np.ascontiguousarray(self.array[row])
        digest = blake2b(picture.data, digest_size=16).digest()
        return Probe(digest, Header(*picture.shape[:2], grey=picture.ndim == 2))

    def pixels(self, row: int, frame: Frame) -> UInt8[np.ndarray, "c h w"]:
        """One picture, brought into `frame`."""
        picture = self.array[row]
        if picture.ndim == 2 and frame[:3] == (*picture.shape, 1):
            return picture[None]
        mode = "L" if frame.channels == 1 else "RGB"
        return fit(Image.fromarray(picture).convert(mode), frame)


Pictures = FilePictures | ArrayPictures


class Held:
    """Pixels of all pictures decoded into memory, uint8."""

    def __init__(self, pixels: UInt8[torch.Tensor, "n c h w"]) -> None:
        self.pixels = pixels

    def take(self, rows: np.ndarray) -> UInt8[torch.Tensor, "b c h w"]:
        """The pictures of `rows`."""
        return self.pixels[torch.from_numpy(rows)]


class OnDemand:
    """Pixels decoded anew whenever they are asked for, by threads.

    Args:
        pictures: where they come from.
        rows: the row in `pictures` of each picture offered here.
        names: for messages, one a row of `rows`.
        frame: the form they are brought into.
    """

    def __init__(self, pictures: Pictures, rows: np.ndarray, names: list[str], frame: Frame):
        self.pictures = pictures
        self.rows = rows
        self.names = names
        self.frame = frame

    def take(self, rows: np.ndarray) -> UInt8[torch.Tensor, "b c h w"]:
        """The pictures of `rows`; `DataError` when one can no longer be read."""
        frame = self.frame
        pixels = torch.empty((len(rows), *_shape(frame)), dtype=torch.uint8)

        def fill(place: int) -> None:
            row = int(rows[place])
            try:
                picture = self.pictures.pixels(int(self.rows[row]), frame)
            except BadPicture as error:
                raise DataError(
                    f"{self.names[row]} could be read when the data set was opened, but no "
                    f"longer: {error}; put the file back or open the data set again"
                ) from error
            pixels[place] = torch.from_numpy(np.ascontiguousarray(picture))

        in_threads(fill, range(len(rows)))
        return pixels


def hold(
    pictures: Pictures, rows: np.ndarray, frame: Frame, progress: Progress | None
) -> tuple[UInt8[torch.Tensor, "n c h w"], dict[int, str]]:
    """Decode `rows` into one tensor; the reasons of those that cannot be, by position."""
    pixels = torch.zeros((len(rows), *_shape(frame)), dtype=torch.uint8)
    array = pixels.numpy()
    return pixels, _decode(pictures, rows, frame, progress, array)


def check(
    pictures: Pictures, rows: np.ndarray, frame: Frame, progress: Progress | None
) -> dict[int, str]:
    """Decode `rows` keeping nothing; the reasons of those that cannot be, by position."""
    return _decode(pictures, rows, frame, progress, None)


def probe_all(pictures: Pictures, progress: Progress | None) -> list[Probe | str]:
    """Probe every picture: what was found, or the reason why it cannot be used."""

    def look(row: int) -> Probe | str:
        try:
            return pictures.probe(row)
        except BadPicture as error:
            return str(error)

    return in_threads(look, range(len(pictures)), progress, "looking")


def in_threads(
    do: Callable[[int], _Result],
    rows: Iterable[int],
    progress: Progress | None = None,
    stage: str = "",
) -> list[_Result]:
    """`[do(row) for row in rows]` by as many threads as there are processors, in order."""
    rows = list(rows)
    chunk = max(1, min(64, len(rows) // (4 * _THREADS)))
    chunks = [rows[start : start + chunk] for start in range(0, len(rows), chunk)]
    results: list[_Result] = []
    with quiet_pillow(), ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(lambda part: [do(row) for row in part], chunks):
            results += part
            if progress is not None:
                progress(stage, len(results), len(rows))
    return results


def _decode(
    pictures: Pictures,
    rows: np.ndarray,
    frame: Frame,
    progress: Progress | None,
    into: np.ndarray | None,
) -> dict[int, str]:
    reasons: dict[int, str] = {}

    def one(place: int) -> None:
        try:
            pixels = pictures.pixels(int(rows[place]), frame)
        except BadPicture as error:
            reasons[place] = str(error)
            return
        if into is not None:
            into[place] = pixels

    in_threads(one, range(len(rows)), progress, "decoding")
    return reasons


def _shape(frame: Frame) -> tuple[int, int, int]:
    return frame.channels, frame.height, frame.width


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


_THREADS = min(16, _processors())
