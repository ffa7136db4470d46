"""Where a known data set lies: under the folder of data sets, by any of its published names."""

import os
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tupelo.data.official import BY_NAME, LAYOUTS
from tupelo.data.official.catalogue import CATALOGUE, DataSet, entry
from tupelo.data.official.layout import Asked, Layout, lists_explained
from tupelo.errors import DataError

PREFIX = "known:"
SOUGHT = 1000  # entries of a folder that are looked into


class Place(NamedTuple):
    """A data set found: where its layout begins; `layout` is None for a compact form."""

    folder: Path
    layout: Layout | None


def root_folder(root: str | Path | None, name: str) -> Path:
    """The folder of data sets, by default the environment's TUPELO_DATA.

    Raises:
        DataError: there is none.
    """
    root = os.environ.get("TUPELO_DATA") if root is None else root
    if root is None:
        raise DataError(
            f"no folder to read {name} from: give root=, or set TUPELO_DATA to the folder that "
            f"holds {name}/"
        )
    return Path(root)


def locate(name: str, root: Path) -> Place | None:
    """The official layout of a data set under `root`, else a compact form of it, else None.

    `root` may also be the folder of the data set itself.

    Raises:
        DataError: a folder or list cannot be read.
    """
    with lists_explained(root):
        return _locate(name, root)


def _locate(name: str, root: Path) -> Place | None:
    known = entry(name)
    layout = BY_NAME.get(name)
    folders = [root / called for called in (name, *known.folders)]
    if layout is not None:
        for folder in (*folders, root):
            found = layout.find(folder)
            if found is not None:
                return Place(found, layout)
    if known.compact is not None:
        for folder in (*folders, root / known.compact.folder, root):
            if (folder / known.compact.mark).exists():
                return Place(folder, None)
    return None


def find(name: str, root: str | Path | None = None) -> Place:
    """As `locate`, or an error that says what to do.

    Raises:
        InputError: the name is not in the catalogue.
        DataError: there is no folder of data sets, it cannot be read, or the data set is not in
            it, or is there without the files it is recognised by.
    """
    known = entry(name)
    base = root_folder(root, name)
    place = locate(name, base)
    if place is not None:
        return place
    for folder in (base / called for called in (name, *known.folders)):
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(
                f"{folder} holds no layout of {name} that is known{instead(name, folder)}: "
                f"`tupelo datasets check {name} --root {base}` says what is missing, `tupelo "
                f"datasets info {name}` what is expected"
            )
    raise DataError(
        f"{name} is not in {base}: {describe_expected(known, base)}; "
        f"`tupelo datasets info {name}` says where to get it, `tupelo datasets prepare {name} "
        f"--root {base}` unpacks it"
    )


def instead(name: str, folder: Path) -> str:
    """A phrase: where in a folder the data set begins after all, or which other one is there."""
    layout = BY_NAME.get(name)
    for pattern in ("*", "*/*", "*/*/*"):
        for place in islice(sorted(folder.glob(pattern)), SOUGHT):
            found = layout.find(place) if layout is not None and place.is_dir() else None
            if found is not None:
                return (
                    f", but it begins in {found}: give that folder as root, or move its content "
                    f"to {folder}"
                )
    others = [one.names[0] for one in LAYOUTS if one is not layout and one.find(folder)]
    return f", it looks like {' or '.join(others)}" if others else ""


def describe_expected(known: DataSet, base: Path) -> str:
    """One phrase: the folders that were looked for."""
    names = dict.fromkeys((known.name, *known.folders))
    if known.compact is not None:
        names[known.compact.folder] = None
    return f"expected its folder there as {', '.join(f'{each}/' for each in names)}"


def from_source(source: str, asked: Asked) -> tuple[Path, Asked]:
    """The folder and the variant of a source such as "known:cub200" or "known:vehicleid:large".

    Raises:
        InputError: the name is not in the catalogue.
        DataError: the data set is not under TUPELO_DATA.
    """
    name, _, variant = source.removeprefix(PREFIX).partition(":")
    return find(name).folder, asked._replace(variant=variant or None)


def is_named(source: str | Path) -> bool:
    """Whether a source is the name of a known data set, such as "known:cub200"."""
    return str(source).startswith(PREFIX)


def folder_of(source: str | Path) -> Path:
    """The folder that the names of a source's pictures are relative to; a file for what is none.

    Raises:
        InputError: the source is a name that is not in the catalogue.
        DataError: that data set is not under TUPELO_DATA.

    >>> folder_of("photos/").as_posix()
    'photos'
    """
    if is_named(source):
        return from_source(str(source), Asked())[0]
    folder = Path(source)
    if not folder.is_dir():
        return folder
    places = (layout.find(folder) for layout in LAYOUTS)
    return next((place for place in places if place is not None), folder)


def hint(source: Path) -> str:
    """What to write instead, where the name of a data set was given for a path."""
    if str(source) in CATALOGUE:
        return f'; the known data set under TUPELO_DATA is "{PREFIX}{source}"'
    return ""
