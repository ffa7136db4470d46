"""Whether a data set is whole: its files against its lists, its counts against the catalogue."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tupelo.data import compact
from tupelo.data.decode import Frame
from tupelo.data.listing import Listing, visible, walk
from tupelo.data.official import BY_NAME, mnist
from tupelo.data.official.catalogue import Archive, Count, DataSet, entry
from tupelo.data.official.fetching import digest_of, mismatch
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Finding,
    Layout,
    Row,
    counts_of,
    lists_explained,
)
from tupelo.data.official.places import describe_expected, instead, locate, root_folder
from tupelo.data.pictures import (
    FilePictures,
    FolderFiles,
    Pictures,
    Progress,
    check,
    probe_all,
)
from tupelo.errors import DataError

_FRAME = Frame(32, 32, 3, "squash")


class PartFound(NamedTuple):
    """A part of a data set: pictures its lists name, those that are here, classes, what to be."""

    name: str
    listed: int
    here: int
    classes: int
    expected: Count | None


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        name: of the data set.
        folder: where its layout begins, or where it was looked for.
        form: "official", "compact" or "missing".
        parts: counts.
        findings: errors first, then what is only worth knowing.
    """

    name: str
    folder: Path
    form: str
    parts: tuple[PartFound, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing must be mended."""
        return not any(finding.wrong for finding in self.findings)

    def write(self, path: Path) -> None:
        """All findings as CSV: kind, path, message, advice, wrong; whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                writer = csv.writer(file)
                writer.writerow(Finding._fields)
                writer.writerows([*one[:-1], "yes" if one.wrong else "no"] for one in self.findings)
            partial.replace(path)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)


def check_data_set(
    name: str,
    root: str | Path | None = None,
    *,
    deep: bool = False,
    progress: Progress | None = None,
    known: DataSet | None = None,
) -> Report:
    """Compare a data set with its own lists and with the published counts.

    Args:
        name: of the catalogue.
        root: folder that holds its folder, or the folder itself; default TUPELO_DATA.
        deep: also decode each picture, and compare archives beside it with their checksums.
        progress: called with what is done, how many are done and how many there are.
        known: what to compare with; default the catalogue's entry.

    Raises:
        InputError: the name is not in the catalogue.
        DataError: there is no folder of data sets, or it cannot be read.
    """
    known = entry(name) if known is None else known
    base = root_folder(root, name)
    place = locate(name, base)
    if place is None:
        return _missing(known, base)
    again = f"unpack the archive again: tupelo datasets prepare {name} --root {base}"
    if place.layout is None:
        parts, findings, pictures = _compact(place.folder, known)
    else:
        parts, findings, pictures = _official(place.folder, place.layout, known, again)
    if deep and pictures is not None:
        findings += _undecodable(pictures, progress)
    if deep:
        findings += _archives(known, (base, place.folder), progress)
    findings.sort(key=lambda finding: not finding.wrong)
    form = "compact" if place.layout is None else "official"
    return Report(name, place.folder, form, tuple(parts), tuple(findings))


def _official(
    root: Path, layout: Layout, known: DataSet, again: str
) -> tuple[list[PartFound], list[Finding], Pictures | None]:
    findings = [
        Finding("missing", name, "a list that belongs to it is missing", again)
        for name in layout.lists(root)
        if not (root / name).is_file()
    ]
    try:
        with lists_explained(root):
            audit = layout.audit(root)
    except DataError as error:
        if not findings:
            findings.append(Finding("list", "", str(error), again))
        return [], findings, None
    findings += audit.findings
    if known.name in mnist.CONTENT:
        findings += mnist.wrong_content(root, known.name)
    if audit.counts:
        listing = layout.read(root, Asked())
        parts = _counted(audit.counts, known.counts, findings)
        return parts, findings, listing.pictures
    parts = _compare(root, audit, known, findings, again)
    lost = {one.path for one in findings if one.kind in ("missing", "unreadable")}
    paths = sorted({row.path for row in audit.rows} - lost)
    return parts, findings, FilePictures(FolderFiles(root), paths)


def _compare(
    root: Path, audit: Audit, known: DataSet, findings: list[Finding], again: str
) -> list[PartFound]:
    sizes = _sizes(root, {row.path.split("/")[0] for row in audit.rows} | {*audit.searched})
    told: set[str] = set()
    summaries, details, parts = [], [], []
    for part in dict.fromkeys([*known.counts, *(row.part for row in audit.rows)]):
        rows = [row for row in audit.rows if row.part == part]
        lost = [row for row in rows if not sizes.get(row.path)]
        for row in lost:
            if row.path not in told:
                told.add(row.path)
                details.append(_lost(root, row, row.path in sizes, again))
        expected = known.counts.get(part)
        found = PartFound(
            part, len(rows), len(rows) - len(lost), len({row.label for row in rows}), expected
        )
        parts.append(found)
        if lost:
            summaries.append(
                Finding(
                    "part",
                    part,
                    f"{part}: the list names {len(rows):,} pictures, {found.here:,} are here; "
                    f"{len(lost):,} missing or empty, first {lost[0].path}",
                    again,
                )
            )
        summaries += _miscounted(found)
    listed = {row.path for row in audit.rows}
    within = tuple(f"{folder}/" for folder in audit.searched)
    strange = [name for name in visible(sorted(sizes)) if name.startswith(within)]
    details += [
        Finding("unlisted", name, "here, but in no list: not read", wrong=False)
        for name in strange
        if name not in listed
    ]
    findings[:0] = summaries
    findings += details
    return parts


def _lost(root: Path, row: Row, here: bool, again: str) -> Finding:
    if here:
        return Finding("empty", row.path, "has no content", again)
    try:
        (root / row.path).stat()
    except PermissionError:
        advice = "change the permissions of its folder"
        return Finding("unreadable", row.path, "its folder must not be looked into", advice)
    except OSError:
        pass
    return Finding("missing", row.path, f"named by the {row.part} list, not here", again)


def _miscounted(part: PartFound) -> list[Finding]:
    expected = part.expected
    if expected is None:
        return [Finding("count", part.name, f"{part.name} is no part that is known", wrong=False)]
    wanted = (part.listed if expected.pictures is None else expected.pictures, expected.classes)
    if (part.listed, part.classes) == wanted:
        return []
    if (part.listed, part.classes) == expected.also:
        told = f"{part.name}: {expected.why}: {part.listed:,} pictures of {part.classes:,} classes"
        return [Finding("count", part.name, told, wrong=False)]
    return [
        Finding(
            "count",
            part.name,
            f"{part.name}: {part.listed:,} pictures of {part.classes:,} classes are listed, "
            f"{wanted[0]:,} of {wanted[1]:,} belong to it",
            "these are not the published lists or folders, or only a part of them: get them again",
        )
    ]


def _counted(
    counts: Mapping[str, tuple[int, int]], expected: Mapping[str, Count], findings: list[Finding]
) -> list[PartFound]:
    parts = []
    for name in dict.fromkeys([*expected, *counts]):
        pictures, classes = counts.get(name, (0, 0))
        parts.append(PartFound(name, pictures, pictures, classes, expected.get(name)))
        findings += _miscounted(parts[-1])
    return parts


def _compact(
    folder: Path, known: DataSet
) -> tuple[list[PartFound], list[Finding], Pictures | None]:
    form = known.compact
    if form is None:
        raise DataError(f"{known.name} has no compact form")
    advice = "copy the compact form again"
    findings = [
        Finding("missing", name, "belongs to the compact form, not here", advice)
        for name in form.files
        if not (folder / name).is_file()
    ]
    try:
        listing: Listing | None = compact.recognise(folder)
    except DataError as error:
        findings.append(Finding("list", form.mark, str(error), advice))
        listing = None
    if listing is None:
        return [], findings, None
    note = f"a compact form was checked: {form.what}"
    findings.append(Finding("form", "", note, wrong=False))
    return _counted(counts_of(listing), form.counts, findings), findings, listing.pictures


def _missing(known: DataSet, base: Path) -> Report:
    layout = BY_NAME.get(known.name)
    folders = [base / name for name in (known.name, *known.folders)]
    folder = next((one for one in folders if one.is_dir()), folders[0])
    there = instead(known.name, folder) if folder.is_dir() else ""
    findings = [
        Finding(
            "missing",
            str(folder),
            f"{known.title} is not recognised in {base}: {describe_expected(known, base)}" + there,
            f"tupelo datasets info {known.name} says what it looks like and where to get it",
        )
    ]
    if layout is not None and folder.is_dir() and not there:
        findings += [
            Finding("missing", name, "a list that belongs to it is missing")
            for name in layout.lists(folder)
            if not (folder / name).is_file()
        ]
    for archive in known.archives:
        for place in (base, folder):
            if (place / archive.name).is_file():
                findings.append(
                    Finding(
                        "archive",
                        str(place / archive.name),
                        "is there, but not unpacked",
                        f"tupelo datasets prepare {known.name} --root {base}",
                        wrong=False,
                    )
                )
    return Report(known.name, folder, "missing", (), tuple(findings))


def _undecodable(pictures: Pictures, progress: Progress | None) -> list[Finding]:
    probes = probe_all(pictures, progress)
    reasons = {row: probe for row, probe in enumerate(probes) if isinstance(probe, str)}
    rows = np.array([row for row in range(len(probes)) if row not in reasons], dtype=np.int64)
    decoded = check(pictures, rows, _FRAME, progress)
    reasons |= {int(rows[place]): reason for place, reason in decoded.items()}
    names: Sequence[str] = getattr(pictures, "names", [])
    return [
        Finding(
            "damaged",
            names[row] if len(names) else f"picture {row}",
            reasons[row],
            "unpack its archive again",
        )
        for row in sorted(reasons)
        if reasons[row] != "empty file"  # told already
    ]


def _archives(known: DataSet, places: tuple[Path, ...], progress: Progress | None) -> list[Finding]:
    if known.name in mnist.CONTENT:
        return []  # their content was compared, however it is compressed
    findings = []
    for archive in known.archives:
        for path in {place / archive.into / archive.name for place in places} | {
            place / archive.name for place in places
        }:
            if path.is_file() and (reason := wrong_archive(path, archive, progress)):
                findings.append(Finding("checksum", str(path), reason, "get it again"))
    return findings


def wrong_archive(path: Path, archive: Archive, progress: Progress | None = None) -> str:
    """Why a file is not the published archive, or nothing."""
    found = digest_of(path, archive.md5, archive.sha256, progress)
    return mismatch(path.stat().st_size, found, archive.size, archive.md5, archive.sha256)


def _sizes(root: Path, folders: set[str]) -> dict[str, int]:
    """Bytes of each file below some folders of `root`, by relative name."""
    sizes: dict[str, int] = {}
    for top in sorted(folders):
        for name in walk(root / top):
            try:
                sizes[f"{top}/{name}"] = (root / top / name).stat().st_size
            except OSError:  # a dangling link is as good as missing
                continue
    return sizes
