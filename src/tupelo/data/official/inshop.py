"""In-Shop Clothes Retrieval (DeepFashion): Eval/list_eval_partition.txt and Img/img/."""

from pathlib import Path

from tupelo.data.listing import Listing
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Finding,
    Layout,
    Row,
    first_place,
    listing_of,
    read_table,
    read_text,
)
from tupelo.errors import DataError

_LIST = "list_eval_partition.txt"
_PARTS = ("train", "query", "gallery")
_BELOW = ("In-shop Clothes Retrieval Benchmark", "In-shop_Clothes_Retrieval_Benchmark")


def rows(root: Path) -> list[Row]:
    """The one published list: the class is the item it names, for queries and gallery alike.

    So an item has one identity in both, however the list orders them.

    Raises:
        DataError: the list is missing or damaged.
    """
    pictures = _pictures(root)
    found = []
    for path, item, part in read_table(root / _list(root), 3, skip=2):
        if part not in _PARTS:
            raise DataError(
                f"{root / _list(root)}: {path} is marked {part!r}, which must be train, query or "
                "gallery; the file is damaged: unpack it again"
            )
        found.append(Row(f"{pictures}/{path.removeprefix('img/')}", item, part))
    return found


def _pictures(root: Path) -> str:
    """The folder that the list calls img/; the large pictures have the same names."""
    for folder in ("Img/img", "img", "Img/img_highres", "img_highres"):
        if (root / folder).is_dir():
            return folder
    return "Img/img"


def _note(root: Path) -> str:
    if not _pictures(root).endswith("highres"):
        return ""
    return "In-Shop: the large pictures of img_highres are read; papers mostly use those of img.zip"


def _list(root: Path) -> str:
    return _LIST if (root / _LIST).exists() else f"Eval/{_LIST}"


def _find(folder: Path) -> Path | None:
    return first_place(folder, _BELOW, f"Eval/{_LIST}") or first_place(folder, _BELOW, _LIST)


def _read(root: Path, asked: Asked) -> Listing:
    note = _note(root)
    return listing_of(root, rows(root), [note] if note else [])


def _audit(root: Path) -> Audit:
    found, findings = rows(root), []
    stated = read_text(root / _list(root)).split(maxsplit=1)[0]
    if stated != str(len(found)):
        findings.append(
            Finding(
                "list",
                _list(root),
                f"its first line promises {stated} pictures, it names {len(found)}",
                "the list is truncated: get it again",
            )
        )
    if _note(root):
        findings.append(Finding("form", "", _note(root), wrong=False))
    return Audit(found, findings, (_pictures(root),))


LAYOUT = Layout(("inshop",), _find, _read, _audit, lambda root: (_list(root),))
