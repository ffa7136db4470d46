"""Omniglot: images_background and images_evaluation, alphabet/character/drawing.png."""

from pathlib import Path

from tupelo.data.listing import Listing, visible, walk
from tupelo.data.official.layout import Asked, Audit, Finding, Layout, Row, first_place, listing_of
from tupelo.errors import DataError

FOLDERS = {"images_background": "train", "images_evaluation": "test"}
DRAWINGS = 20


def rows(root: Path, labels: str = "class") -> list[Row]:
    """Background alphabets train, evaluation alphabets test; alphabets are groups.

    Raises:
        DataError: a folder is missing.
    """
    found = []
    for folder, part in FOLDERS.items():
        if not (root / folder).is_dir():
            raise DataError(
                f"{root / folder} is missing; unpack {folder}.zip of Omniglot beside the other one"
            )
        for name in visible(walk(root / folder)):
            places = name.split("/")
            if len(places) != 3 or not name.lower().endswith(".png"):
                continue
            label = places[0] if labels == "alphabet" else f"{places[0]}/{places[1]}"
            found.append(Row(f"{folder}/{name}", label, part, group=places[0]))
    return found


def _find(folder: Path) -> Path | None:
    return first_place(folder, ("omniglot-py", "python"), "images_background")


def _read(root: Path, asked: Asked) -> Listing:
    return listing_of(root, rows(root, asked.labels))


def _audit(root: Path) -> Audit:
    found = rows(root)
    drawings: dict[str, int] = {}
    for row in found:
        character = row.path.rsplit("/", 1)[0]
        drawings[character] = drawings.get(character, 0) + 1
    findings = [
        Finding(
            "count",
            character,
            f"{count} drawings, {DRAWINGS} belong to each character",
            f"unpack {character.split('/')[0]}.zip again",
        )
        for character, count in drawings.items()
        if count != DRAWINGS
    ]
    return Audit(found, findings, tuple(FOLDERS))


LAYOUT = Layout(("omniglot",), _find, _read, _audit, labels=("class", "alphabet"))
