"""Unpacking a published archive: nothing outside its folder, whole or not at all."""

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFMT, S_ISDIR, S_ISREG

from tupelo.data.official.fetching import check_space
from tupelo.data.pictures import Progress
from tupelo.errors import DataError

# No plain tar: one that is cut off between two members cannot be told from a whole one.
SUFFIXES = (".zip", ".tgz", ".tar.gz")
# Pictures hardly compress: a compressed tar does not say how large its content is.
_TAR_GROWTH = 1.3


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(SUFFIXES)


def unpack(
    archive: Path, target: Path, progress: Progress | None = None, *, again: bool = False
) -> bool:
    """Unpack into `target`, beside what is there; files of the archive replace their namesakes.

    It is written into a hidden folder of `target`, which is renamed when it is complete, so that
    a repeat after a sudden end begins again or goes on. A hidden stamp tells that it was done.

    Args:
        archive: a .zip, .tgz or .tar.gz.
        target: where its content goes.
        progress: called with what is done, bytes done and bytes in all.
        again: also when it was unpacked before.

    Returns:
        Whether anything was done; an archive that was unpacked before is left.

    Raises:
        DataError: the archive is damaged or locked, would write outside `target`, holds links or
            devices, or the disk is too small.
    """
    status = archive.stat()
    state = f"{status.st_size} {status.st_mtime_ns}\n"
    stamp = target / f".{archive.name}.unpacked"
    if not again and stamp.exists() and stamp.read_text() == state:
        return False
    target.mkdir(parents=True, exist_ok=True)
    complete = target / f".{archive.name}.{status.st_size}.complete"
    if not complete.exists():
        partial = target / f".{archive.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with _explained(archive):
                _extract(archive, partial, progress)
            partial.replace(complete)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _move(complete, target)
    shutil.rmtree(complete)
    partial_stamp = stamp.with_name(f"{stamp.name}.{os.getpid()}")
    partial_stamp.write_text(state)
    partial_stamp.replace(stamp)
    return True


def _extract(archive: Path, into: Path, progress: Progress | None) -> None:
    into.mkdir()
    if archive.name.lower().endswith(".zip"):
        _extract_zip(archive, into, progress)
    else:
        _extract_tar(archive, into, progress)


def _extract_zip(archive: Path, into: Path, progress: Progress | None) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = packed.infolist()
        for member in members:
            mode = member.external_attr >> 16
            if S_IFMT(mode) and not (S_ISREG(mode) or S_ISDIR(mode)):
                raise DataError(_strange(archive, member.filename))
        total = sum(member.file_size for member in members)
        check_space(into, total, archive.name)
        done = 0
        for member in members:
            path = into / _safe(archive, member.filename)
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, 2**20)
            done += member.file_size
            if progress is not None:
                progress(f"unpacking {archive.name}", done, total)


def _extract_tar(archive: Path, into: Path, progress: Progress | None) -> None:
    total = archive.stat().st_size
    check_space(into, int(total * _TAR_GROWTH), archive.name)
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as packed:
        for member in packed:
            if not (member.isreg() or member.isdir()):
                raise DataError(_strange(archive, member.name))
            path = into / _safe(archive, member.name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            check_space(into, member.size, f"{archive.name}: {member.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            source = packed.extractfile(member)
            if source is not None:
                with source, path.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
            if progress is not None:
                progress(f"unpacking {archive.name}", min(raw.tell(), total), total)


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = PureWindowsPath(name).drive
    if path.is_absolute() or ".." in path.parts or drive or "\0" in name:
        raise DataError(
            f"{archive} is not unpacked: its member {name!r} would be written outside its folder; "
            "no official archive has such a member: get it from the data set's page"
        )
    return path


def _strange(archive: Path, name: str) -> str:
    return (
        f"{archive} is not unpacked: its member {name!r} is a link or a device, which no official "
        "archive has: get it from the data set's page"
    )


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{archive} is damaged or incomplete: {error}; delete it and get it again"
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # zipfile: locked, or a rare method
        raise DataError(
            f"{archive} cannot be unpacked here: {error}; unpack it with the publisher's password "
            "and another program into the folder of the data set"
        ) from error
    except OSError as error:
        raise DataError(
            f"{archive} cannot be unpacked: {error.strerror or error}; what was written is removed"
        ) from error


def _move(folder: Path, target: Path) -> None:
    """Move the content of `folder` into `target`, folder by folder where both have one."""
    for path in sorted(folder.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _move(path, place)
        else:
            path.replace(place)
