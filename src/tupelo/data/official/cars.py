"""Cars196: car_ims with cars_annos.mat, or cars_train and cars_test with their development kit."""

from pathlib import Path

import numpy as np

from tupelo.data.listing import Listing
from tupelo.data.official.layout import Asked, Audit, Layout, Row, first_place, listing_of
from tupelo.errors import DataError

N_TRAIN_CLASSES = 98
_WHOLE = "cars_annos.mat"
_PICTURES = "car_ims"
_TRAIN, _TEST = "cars_train_annos.mat", "cars_test_annos_withlabels.mat"
_KIT = (_TRAIN, _TEST, "cars_meta.mat")
_FIELDS = ("class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def rows(root: Path, *, boxes: bool = False) -> list[Row]:
    """Classes 1 to 98 train, 99 to 196 test, whatever half of the publisher a picture is in.

    Raises:
        DataError: an annotation file is missing, damaged, has no classes, or is of the layout
            whose pictures are not here.
    """
    if _is_whole(root):
        if not (root / _PICTURES).is_dir() and (root / "cars_train").is_dir():
            raise DataError(
                f"{root / _WHOLE} names the pictures of {_PICTURES}/, which is not there, and says "
                f"nothing of cars_train/ and cars_test/: these need {', '.join(_KIT)} of the "
                "development kit"
            )
        content = _load(root / _WHOLE)
        tables = [(content, "relative_im_path", "")]
        names = content
    else:
        tables = [
            (_load(_place(root, _TRAIN)), "fname", _half(root, "cars_train")),
            (_load(_place(root, _TEST)), "fname", _half(root, "cars_test")),
        ]
        names = _load(_place(root, "cars_meta.mat"))
    class_names = [str(name) for name in np.atleast_1d(names["class_names"])]
    found = []
    for content, path_field, folder in tables:
        annotations = np.atleast_1d(content["annotations"])
        missing = {path_field, *_FIELDS} - set(annotations.dtype.names or ())
        if missing:
            raise DataError(
                f"{root}: annotations of {folder or _WHOLE} have no {', '.join(sorted(missing))}; "
                f"test pictures need {_TEST}, which names their classes"
            )
        for one in annotations:
            number = int(one["class"])
            left, top, right, bottom = (float(one[name]) for name in _FIELDS[1:])
            # MATLAB counts pixels from 1, both ends included.
            box = (left - 1, top - 1, right - left + 1, bottom - top + 1) if boxes else None
            label = f"{number:03} {class_names[number - 1]}"
            part = "train" if number <= N_TRAIN_CLASSES else "test"
            found.append(Row(folder + str(one[path_field]), label, part, box))
    return found


def _load(path: Path) -> dict:
    from scipy.io import loadmat  # slow to import, and few need it

    try:
        return loadmat(str(path), squeeze_me=True)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; it is part of the annotations of Cars196") from error
    except Exception as error:  # scipy raises anything on damaged files
        raise DataError(f"{path} is damaged or no MATLAB file: {error}") from error


def _is_whole(root: Path) -> bool:
    """Whether the pooled layout is read: where both lists are there, the one with its pictures."""
    if not (root / _WHOLE).exists():
        return False
    return (root / _PICTURES).is_dir() or not _place(root, _TRAIN).exists()


def _half(root: Path, name: str) -> str:
    """The folder of a half; copies are about that nest it in one of the same name."""
    return f"{name}/{name}/" if (root / name / name).is_dir() else f"{name}/"


def _place(root: Path, name: str) -> Path:
    return root / name if (root / name).exists() else root / "devkit" / name


def _find(folder: Path) -> Path | None:
    below = ("stanford_cars", "cars196")
    for mark in (_WHOLE, f"devkit/{_TRAIN}", _TRAIN):
        place = first_place(folder, below, mark)
        if place is not None:
            return place
    return None


def _lists(root: Path) -> tuple[str, ...]:
    if _is_whole(root):
        return (_WHOLE,)
    return tuple(_place(root, name).relative_to(root).as_posix() for name in _KIT)


def _read(root: Path, asked: Asked) -> Listing:
    return listing_of(root, rows(root, boxes=asked.boxes))


def _audit(root: Path) -> Audit:
    found = rows(root, boxes=True)
    return Audit(found, searched=tuple(sorted({row.path.split("/")[0] for row in found})))


LAYOUT = Layout(("cars196",), _find, _read, _audit, _lists, boxes=True)
