"""CUB-200-2011: images.txt, image_class_labels.txt, classes.txt, bounding_boxes.txt, images/."""

from pathlib import Path

from tupelo.data.listing import Listing
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Layout,
    Row,
    first_place,
    listing_of,
    read_table,
)
from tupelo.errors import DataError

LISTS = ("images.txt", "image_class_labels.txt", "classes.txt", "bounding_boxes.txt")
N_TRAIN_CLASSES = 100


def rows(root: Path, *, boxes: bool = False) -> list[Row]:
    """Classes 1 to 100 train, 101 to 200 test, as the field splits them for new classes.

    The split of the publisher itself (train_test_split.txt) shares all classes and is not used.

    Raises:
        DataError: a list is missing, or the lists disagree.
    """
    names = dict(read_table(root / "classes.txt", 2))
    label_of = dict(read_table(root / "image_class_labels.txt", 2))
    box_of = {}
    if boxes:
        for image, *numbers in read_table(root / "bounding_boxes.txt", 5):
            left, top, width, height = map(float, numbers)
            box_of[image] = (left, top, width, height)
    found = []
    for image, path in read_table(root / "images.txt", 2):
        number = label_of.get(image)
        if number is None or number not in names or (boxes and image not in box_of):
            raise DataError(
                f"{root}: picture {image} of images.txt has no class or box in the other lists; "
                "they are of different versions: unpack the archive again"
            )
        part = "train" if int(number) <= N_TRAIN_CLASSES else "test"
        found.append(Row(f"images/{path}", names[number], part, box_of.get(image)))
    return found


def _find(folder: Path) -> Path | None:
    return first_place(folder, ("CUB_200_2011",), "image_class_labels.txt")


def _read(root: Path, asked: Asked) -> Listing:
    return listing_of(root, rows(root, boxes=asked.boxes))


def _audit(root: Path) -> Audit:
    return Audit(rows(root, boxes=True), searched=("images",))


LAYOUT = Layout(("cub200",), _find, _read, _audit, lambda root: LISTS, boxes=True)
