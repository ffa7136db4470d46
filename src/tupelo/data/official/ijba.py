"""IJB-A: tables of templates, pairs of them to compare, and galleries to search, in ten splits.

In the published archives a split N lies in `IJB-A_11_sets/splitN/` (comparing) with
`verify_metadata_N.csv` and `verify_comparisons_N.csv`, and in `IJB-A_1N_sets/splitN/` (searching)
with `search_gallery_N.csv` and `search_probe_N.csv`. Comparisons are two numbers of templates a
line, without a heading. The other tables have one line for each picture of each template, with the
columns TEMPLATE_ID, SUBJECT_ID, FILE and MEDIA_ID, and also SIGHTING_ID and FACE_X, FACE_Y,
FACE_WIDTH and FACE_HEIGHT, the face in pixels; others are not read.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tupelo.data.decode import Box
from tupelo.data.official.layout import read_text
from tupelo.errors import DataError

NEEDED = ("TEMPLATE_ID", "SUBJECT_ID", "FILE", "MEDIA_ID")
FACE = ("FACE_X", "FACE_Y", "FACE_WIDTH", "FACE_HEIGHT")


@dataclass(frozen=True)
class Table:
    """Pictures of templates, one row for each picture of each.

    Attributes:
        templates: number of the template.
        subjects: whose face it is.
        media: number of the still or video.
        files: as the table names them, such as img/123.jpg.
        sightings: number of the face in its picture; "" where the table has none.
        faces: where it is in the picture; None where the table does not say.
    """

    templates: Int[np.ndarray, " n"]
    subjects: Int[np.ndarray, " n"]
    media: Int[np.ndarray, " n"]
    files: tuple[str, ...]
    sightings: tuple[str, ...]
    faces: tuple[Box | None, ...]

    def subjects_of(self, templates: Int[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
        """The subject of each template, all of which are in the table."""
        numbers, first = np.unique(self.templates, return_index=True)
        return self.subjects[first[np.searchsorted(numbers, templates)]]


@dataclass(frozen=True)
class Comparing:
    """1:1: templates, and pairs of them by number."""

    split: int
    table: Table
    pairs: Int[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Searching:
    """1:N: templates that are searched, and templates that are searched for."""

    split: int
    gallery: Table
    probes: Table


def read(folder: Path) -> tuple[list[Comparing], list[Searching]]:
    """Every split below a folder, checked.

    Raises:
        DataError: there is none; a table is missing, damaged or without a column; a template is
            of two subjects; a pair names an unknown template; a probe is also in the gallery.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one the IJB-A tables were unpacked in")
    comparing = [
        _comparing(number, path) for number, path in _splits(folder, "verify_metadata_*.csv")
    ]
    searching = [
        _searching(number, path) for number, path in _splits(folder, "search_gallery_*.csv")
    ]
    if not comparing and not searching:
        raise DataError(
            f"{folder} holds no split of IJB-A: expected verify_metadata_1.csv with "
            "verify_comparisons_1.csv, or search_gallery_1.csv with search_probe_1.csv, in it or "
            "in folders below; unpack the archives there"
        )
    return comparing, searching


def read_table(path: Path) -> Table:
    """A table of templates.

    Raises:
        DataError: it is missing or damaged, lacks a column or rows, or a template is of two
            subjects.
    """
    lines = csv.reader(read_text(path).splitlines())
    heading = [name.strip().upper() for name in next(lines, [])]
    absent = [name for name in NEEDED if name not in heading]
    if absent:
        raise DataError(
            f"{path} has no column {', '.join(absent)}; a table of templates has "
            f"{', '.join(NEEDED)}"
        )
    at = {name: heading.index(name) for name in (*NEEDED, "SIGHTING_ID", *FACE) if name in heading}
    boxed = all(name in at for name in FACE)
    numbers: list[tuple[int, int, int]] = []
    files: list[str] = []
    sightings: list[str] = []
    faces: list[Box | None] = []
    for row in lines:
        if not row:
            continue
        try:
            template, subject, file, medium = (row[at[name]].strip() for name in NEEDED)
            numbers.append((int(template), int(subject), int(medium)))
            files.append(file)
            sightings.append(row[at["SIGHTING_ID"]].strip() if "SIGHTING_ID" in at else "")
            faces.append(_face([row[at[name]] for name in FACE]) if boxed else None)
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {lines.line_num} is no picture of a template: {row[:6]}; unpack the "
                "archive again"
            ) from error
    if not numbers:
        raise DataError(f"{path} holds no rows; unpack the archive again")
    templates, subjects, media = np.array(numbers, np.int64).T
    owners = np.unique(np.stack([templates, subjects], axis=1), axis=0)
    twice = owners[1:][owners[1:, 0] == owners[:-1, 0]]
    if len(twice):
        of = owners[owners[:, 0] == twice[0, 0], 1].tolist()
        raise DataError(
            f"{path}: template {twice[0, 0]} is of subjects {of[0]} and {of[1]}; numbers of "
            "templates must not be given twice"
        )
    return Table(templates, subjects, media, tuple(files), tuple(sightings), tuple(faces))


def _splits(folder: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob(pattern)):
        match = re.search(r"_(\d+)\.csv$", path.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataError(
                f"{folder} holds split {number} twice: {found[number]} and {path}; keep one"
            )
        found[number] = path
    yield from sorted(found.items())


def _comparing(split: int, path: Path) -> Comparing:
    table = read_table(path)
    listed = path.with_name(f"verify_comparisons_{split}.csv")
    pairs = []
    for number, line in enumerate(read_text(listed).splitlines(), start=1):
        fields = line.split(",")
        try:
            if line.strip():
                one, other = map(int, fields[:2])
                pairs.append((one, other))
        except ValueError as error:
            if number > 1:  # a heading is passed over
                raise DataError(
                    f"{listed}, line {number} must be the numbers of two templates, it is "
                    f"{line!r}; unpack the archive again"
                ) from error
    if not pairs:
        raise DataError(f"{listed} holds no pairs; unpack the archive again")
    found = np.array(pairs, np.int64)
    absent = np.setdiff1d(found, table.templates)
    if len(absent):
        raise DataError(
            f"{listed} compares {len(absent)} templates that {path.name} does not have, first "
            f"{absent[0]}; both must be of one version"
        )
    return Comparing(split, table, found)


def _searching(split: int, path: Path) -> Searching:
    gallery = read_table(path)
    probes = read_table(path.with_name(f"search_probe_{split}.csv"))
    for template in np.intersect1d(gallery.templates, probes.templates).tolist():
        of = [set(each.media[each.templates == template].tolist()) for each in (gallery, probes)]
        if of[0] == of[1]:
            raise DataError(
                f"{path.parent}: probe {template} is also in the gallery, with the same media, so "
                "it would find itself; take it out of one of the two"
            )
    return Searching(split, gallery, probes)


def _face(values: list[str]) -> Box | None:
    if not any(value.strip() for value in values):
        return None
    left, top, width, height = map(float, values)
    return (left, top, width, height) if width > 0 and height > 0 else None
