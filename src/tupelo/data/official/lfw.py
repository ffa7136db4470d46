"""Labeled Faces in the Wild: NAME/NAME_0001.jpg, and the lists of people and pairs."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tupelo.data.listing import Listing, visible, walk
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Finding,
    Layout,
    Row,
    listing_of,
    read_table,
    read_text,
)
from tupelo.data.official.protocol import PairList, check_folds, pair_list
from tupelo.errors import DataError

VARIANTS = {
    "original": ("lfw",),
    "funneled": ("lfw_funneled", "lfw-funneled"),
    "deepfunneled": ("lfw-deepfunneled", "lfw_deepfunneled"),
}
LISTS = ("lfw-names.txt", "people.txt", "pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt")
_NAME = re.compile(r"(?:.*/)?([^/]+)/\1_\d{4}\.jpg")


def rows(root: Path, variant: str | None = None) -> list[Row]:
    """Every picture of a version, its person as the class; LFW trains nothing, so no parts.

    Raises:
        DataError: the version is not there.
    """
    folder = _people(root, variant)
    if folder is None:
        raise DataError(
            f"{root} holds no {variant or 'version of'} LFW: expected one of "
            f"{', '.join(name for names in VARIANTS.values() for name in names)} with a folder a "
            "person; unpack its archive there"
        )
    prefix = folder.relative_to(root).as_posix()
    names = [name if prefix == "." else f"{prefix}/{name}" for name in visible(walk(folder))]
    return [Row(name, match[1], "all") for name in names if (match := _NAME.fullmatch(name))]


def pairs(path: Path) -> list[tuple[str, str, bool]]:
    """A published list of pairs: two pictures as NAME/NAME_0001.jpg, and whether one person.

    Raises:
        DataError: a line is not of the format.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        fields = line.split()
        try:
            if len(fields) == 3:
                name, one, two = fields
                found.append((_picture(name, one), _picture(name, two), True))
            elif len(fields) == 4:
                found.append((_picture(*fields[:2]), _picture(*fields[2:]), False))
            elif len(fields) > 4:
                raise ValueError(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is no pair: {line!r}; get it again") from error
    return found


def folds(path: Path) -> PairList:
    """A published list of pairs with the folds its first line states, checked.

    "10<tab>300" is ten folds of 300 matched and then 300 mismatched pairs each, as in `pairs.txt`;
    one number, as in `pairsDevTrain.txt`, is one fold.

    Raises:
        DataError: see `pairs`; also a first line that is none, or folds of other sizes.
    """
    first = read_text(path).partition("\n")[0].split()
    if not (1 <= len(first) <= 2 and all(each.isdecimal() and int(each) for each in first)):
        raise DataError(
            f"{path}, line 1 must state the number of folds and of matched pairs in each, such as "
            f"'10 300', it is {' '.join(first)!r}; get the list again"
        )
    n_folds, each = (int(number) for number in (["1", *first] if len(first) == 1 else first))
    found = pairs(path)
    if len(found) != 2 * n_folds * each:
        raise DataError(
            f"{path} must hold {2 * n_folds * each} pairs, {n_folds} folds of {each} matched and "
            f"{each} mismatched ones, it holds {len(found)}; the list is cut or changed: get it "
            "again"
        )
    numbers = [1 + place // (2 * each) for place in range(len(found))]
    return check_folds(pair_list(found, numbers), path, each, each)


def _picture(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04}.jpg"


def _people(root: Path, variant: str | None) -> Path | None:
    """The folder that holds a folder a person, `root` itself where it is one."""
    chosen = VARIANTS if variant is None else {variant: VARIANTS[variant]}
    for names in reversed(chosen.values()):  # the best aligned version first
        for name in names:
            for place in (root / name, root / name / name):  # some archives nest it twice
                if _is_version(place):
                    return place
    return root if variant is None and _is_version(root) else None


def _is_version(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    people = (path for path in folder.iterdir() if path.is_dir())
    return any((path / f"{path.name}_0001.jpg").exists() for path in islice(people, 5))


def _find(folder: Path) -> Path | None:
    below = any(_is_version(folder / name) for names in VARIANTS.values() for name in names)
    listed = any((folder / name).exists() for name in LISTS)
    called = folder.name.lower().startswith("lfw")
    if below or ((listed or called) and _people(folder, None) is not None):
        return folder
    return None


def _read(root: Path, asked: Asked) -> Listing:
    found = rows(root, asked.variant)
    listing = listing_of(root, [row._replace(part="train") for row in found])
    return replace(listing, given=None)


def _audit(root: Path) -> Audit:
    found = rows(root)
    folder = _people(root, None) or root
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    listed = {row.path for row in found}
    findings = []
    names = _beside(root, folder, "lfw-names.txt")
    if names is not None:
        stated = [
            Row(prefix + _picture(name, str(number)), name, "all")
            for name, count in read_table(names, 2)
            for number in range(1, int(count) + 1)
        ]
        known = {row.path for row in stated}
        strange = sorted(listed - known)
        findings += [
            Finding("unlisted", path, "not in lfw-names.txt", wrong=False) for path in strange
        ]
        found = stated
    for name in LISTS[2:]:
        path = _beside(root, folder, name)
        if path is None:
            continue
        lost = [
            picture
            for pair in pairs(path)
            for picture in pair[:2]
            if not (root / (prefix + picture)).exists()
        ]
        if lost:
            findings.append(
                Finding(
                    "list",
                    name,
                    f"{len(lost)} pictures of its pairs are missing, first {lost[0]}",
                    "unpack the archive of pictures again",
                )
            )
    return Audit(found, findings)


def _beside(root: Path, folder: Path, name: str) -> Path | None:
    for place in (root / name, folder / name, folder.parent / name):
        if place.exists():
            return place
    return None


LAYOUT = Layout(("lfw",), _find, _read, _audit, variants=tuple(VARIANTS))
