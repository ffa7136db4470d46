"""From the files a publisher offers to a data set that is checked."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tupelo.data.official.catalogue import Archive, DataSet, entry
from tupelo.data.official.checking import Report, check_data_set, wrong_archive
from tupelo.data.official.fetching import fetch
from tupelo.data.official.unpacking import is_archive, unpack
from tupelo.data.pictures import Progress
from tupelo.errors import DataError, InputError


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Args:
        folder: of the data set.
        done: one line a step.
        lacking: published files that are needed and were not found.
        report: of the check afterwards.
    """

    folder: Path
    done: tuple[str, ...]
    lacking: tuple[Archive, ...]
    report: Report


def prepare(
    name: str,
    root: str | Path,
    *,
    download: bool = False,
    progress: Progress | None = None,
    known: DataSet | None = None,
) -> Prepared:
    """Unpack the published archives found in a folder, fetched first if that is wanted, and check.

    A data set that is in order already is left as it is. Repeating it after any end goes on.

    Args:
        name: of the catalogue.
        root: folder that holds, or will hold, the folder of the data set; archives are looked for
            in both.
        download: fetch what is offered as a plain file; nothing is fetched without it.
        progress: called with what is done, how much is done and how much there is.
        known: what to prepare; default the catalogue's entry.

    Raises:
        InputError: the name is not in the catalogue; a download is wanted that is not offered.
        DataError: an archive is damaged, unsafe or another one; a download failed; no room; the
            folder cannot be written.
    """
    known = entry(name) if known is None else known
    try:
        return _prepare(known, Path(root), download, progress)
    except OSError as error:
        raise DataError(
            f"{root} cannot be used: {error}; choose another folder, or change its permissions"
        ) from error


def _prepare(known: DataSet, root: Path, download: bool, progress: Progress | None) -> Prepared:
    name = known.name
    if download and not known.downloadable:
        raise InputError(
            f"--download: {known.title} is not offered as plain files; get it from {known.where} "
            f"({known.terms}), put the files in {root} and repeat without --download"
        )
    home = next((root / each for each in known.folders if (root / each).is_dir()), root / name)
    report = check_data_set(name, root, progress=progress, known=known)
    if report.ok and report.form == "official":
        return Prepared(report.folder, ("it is in order: nothing to do",), (), report)
    done: list[str] = []
    lacking: list[Archive] = []
    before: list[tuple[Path, Archive]] = []
    for archive in known.archives:
        path = _find(archive, root, home)
        if path is None and download and archive.url:
            place = home / archive.name
            fetch(
                archive.url,
                place,
                size=archive.size,
                md5=archive.md5,
                sha256=archive.sha256,
                progress=progress,
            )
            done.append(f"fetched {place}")
            path = place
        elif path is not None:
            reason = wrong_archive(path, archive, progress)
            if reason:
                raise DataError(
                    f"{path} is not the published file: {reason}; get it again from {known.where}"
                )
        if path is None:
            if archive.needed:
                lacking.append(archive)
            continue
        if is_archive(archive.name) and not unpack(path, home / archive.into, progress):
            before.append((path, archive))
        else:
            done.append(_placed(path, archive, home))
    report = check_data_set(name, root, progress=progress, known=known)
    if before and not report.ok:  # something was lost since
        for path, archive in before:
            unpack(path, home / archive.into, progress, again=True)
            done.append(_placed(path, archive, home))
        report = check_data_set(name, root, progress=progress, known=known)
    return Prepared(home, tuple(done), () if report.ok else tuple(lacking), report)


def _placed(path: Path, archive: Archive, home: Path) -> str:
    """Put a plain file where it belongs, and say what was done with a file or an archive."""
    target = home / archive.into
    if is_archive(archive.name):
        return f"unpacked {path} into {target}"
    place = target / archive.name
    if path != place:
        target.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        shutil.copyfile(path, partial)
        partial.replace(place)
    return f"{place} is in its place"


def _find(archive: Archive, root: Path, home: Path) -> Path | None:
    for folder in (home / archive.into, home, root):
        if (folder / archive.name).is_file():
            return folder / archive.name
    return None
