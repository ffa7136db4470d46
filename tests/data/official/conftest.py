"""Small made-up trees of the official layouts: a few classes of tiny pictures, all different."""

import gzip
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tupelo.data.official.catalogue import Count, DataSet, entry

SIZE = (12, 10)  # width, height


@dataclass(frozen=True)
class Tree:
    """A folder of data sets, the folder of this one, and its entry with the counts it has."""

    root: Path
    folder: Path
    known: DataSet


_seeds = count()


def picture(kind: str = "JPEG", *, grey: bool = False) -> bytes:
    rng = np.random.default_rng(next(_seeds))
    shape = SIZE[::-1] if grey else (*SIZE[::-1], 3)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


def write(path: Path, content: bytes | str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(picture() if content is None else content)


def lines(path: Path, rows: Iterable[Iterable[object]]) -> None:
    write(path, "".join(" ".join(map(str, row)) + "\n" for row in rows))


def cub(folder: Path) -> dict[str, Count]:
    images, labels, boxes, number = [], [], [], 0
    classes = {1: "Ant", 2: "Bee", 99: "Cat", 100: "Dog", 101: "Emu", 200: "Fox"}
    for label, name in classes.items():
        for each in range(3):
            number += 1
            path = f"{label:03}.{name}/{name}_{each}.jpg"
            write(folder / "images" / path)
            images.append((number, path))
            labels.append((number, label))
            boxes.append((number, 2.0, 3.0, 6.0, 4.0))
    lines(folder / "images.txt", images)
    lines(folder / "image_class_labels.txt", labels)
    lines(folder / "bounding_boxes.txt", boxes)
    names = {**dict.fromkeys(range(1, 201), "None"), **classes}
    lines(folder / "classes.txt", ((n, f"{n:03}.{name}") for n, name in names.items()))
    return {"train": Count(12, 4), "test": Count(6, 2)}


CARS = (1, 2, 97, 98, 99, 196)
CAR_NAMES = np.array([f"Car {number} of it" for number in range(1, 197)], dtype=object)


def annotations(rows: list[tuple], path_field: str) -> np.ndarray:
    fields = [path_field, "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class"]
    return np.array(rows, dtype=[(name, object) for name in fields])


def cars(folder: Path) -> dict[str, Count]:
    rows = []
    for label in CARS:
        for _ in range(3):
            path = f"car_ims/{len(rows) + 1:06}.jpg"
            write(folder / path)
            rows.append((path, 3, 4, 8, 7, label))
    content = {"annotations": annotations(rows, "relative_im_path"), "class_names": CAR_NAMES}
    savemat(folder / "cars_annos.mat", content)
    return {"train": Count(12, 4), "test": Count(6, 2)}


def cars_in_halves(folder: Path) -> dict[str, Count]:
    for half, target in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for label in CARS:
            for _ in range(2):
                name = f"{len(rows) + 1:05}.jpg"
                write(folder / f"cars_{half}" / name)
                rows.append((name, 3, 4, 8, 7, label))
        (folder / target).parent.mkdir(exist_ok=True)
        savemat(folder / target, {"annotations": annotations(rows, "fname")})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": CAR_NAMES})
    return {"train": Count(16, 4), "test": Count(8, 2)}


def sop(folder: Path) -> dict[str, Count]:
    number = 0
    for name, products in (("Ebay_train.txt", range(1, 6)), ("Ebay_test.txt", range(11, 14))):
        rows: list[tuple[object, ...]] = [("image_id", "class_id", "super_class_id", "path")]
        for product in products:
            kind = ("bicycle", "sofa")[product % 2]
            for each in range(2):
                number += 1
                path = f"{kind}_final/{product}_{each}.JPG"
                write(folder / path)
                rows.append((number, product, product % 2 + 1, path))
        lines(folder / name, rows)
    return {"train": Count(10, 5), "test": Count(6, 3)}


def inshop(folder: Path) -> dict[str, Count]:
    """Queries name the items in another order than the gallery does."""
    rows = []
    orders = {
        "train": [1, 2, 3, 4],
        "query": [9, 7, 8],
        "gallery": [7, 8, 9],
    }
    for part, order in orders.items():
        for item in order:
            for each in range(2):
                name = f"img/WOMEN/Tees/id_{item:08}/{each:02}_{part}.jpg"
                write(folder / "Img" / name)
                rows.append((name.ljust(70), f"id_{item:08}", part))
    header = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    body = "".join(" ".join(row) + "\n" for row in rows)
    write(folder / "Eval" / "list_eval_partition.txt", header + body)
    return {"train": Count(8, 4), "query": Count(6, 3), "gallery": Count(6, 3)}


def vehicleid(folder: Path) -> dict[str, Count]:
    number = count(1)

    def made(vehicles: Iterable[int], each: int) -> list[tuple[str, int]]:
        rows = [(f"{next(number):07}", vehicle) for vehicle in vehicles for _ in range(each)]
        for name, _ in rows:
            write(folder / "image" / f"{name}.jpg")
        return rows

    split = folder / "train_test_split"
    lines(split / "train_list.txt", made(range(1, 6), 3))
    large = made(range(20, 26), 4)
    for name, vehicles in (("800", 3), ("1600", 4), ("2400", 6)):
        lines(split / f"test_list_{name}.txt", large[: 4 * vehicles])
    return {
        "train": Count(15, 5),
        "small": Count(None, 3),
        "medium": Count(None, 4),
        "large": Count(None, 6),
    }


def market(folder: Path) -> dict[str, Count]:
    for person in ("0002", "0007", "0010"):
        for camera in (1, 2, 3):
            write(folder / "bounding_box_train" / f"{person}_c{camera}s1_000451_03.jpg")
    for person in ("0001", "0003"):
        write(folder / "query" / f"{person}_c1s1_001051_00.jpg")
        for camera in (2, 4):
            write(folder / "bounding_box_test" / f"{person}_c{camera}s2_001051_01.jpg")
    write(folder / "bounding_box_test" / "0000_c6s3_094992_02.jpg")
    write(folder / "bounding_box_test" / "-1_c3s1_000001_00.jpg")
    write(folder / "bounding_box_test" / "Thumbs.db", b"litter")
    write(folder / "bounding_box_test" / "notes.txt", "not a picture")
    return {
        "train": Count(9, 3),
        "query": Count(2, 2),
        "gallery": Count(5, 3),
        "junk": Count(1, 1),
    }


def omniglot(folder: Path) -> dict[str, Count]:
    alphabets = {
        "images_background": ("Greek", "Latin", "Runes"),
        "images_evaluation": ("Ge", "Oj"),
    }
    for half, names in alphabets.items():
        for alphabet in names:
            for character in (1, 2):
                for drawer in range(1, 21):
                    path = folder / half / alphabet / f"character{character:02}"
                    write(path / f"{character:04}_{drawer:02}.png", picture("PNG", grey=True))
    return {"train": Count(120, 6), "test": Count(80, 4)}


def miniimagenet(folder: Path) -> dict[str, Count]:
    wnid = count(1532829)
    for part, classes in (("train", 3), ("val", 2), ("test", 2)):
        rows = ["filename,label"]
        for _ in range(classes):
            label = f"n{next(wnid):08}"
            for each in range(1, 3):
                name = f"{label}{each:08}.jpg"
                write(folder / "images" / name)
                rows.append(f"{name},{label}")
        write(folder / f"{part}.csv", "\n".join(rows) + "\n")
    return {"train": Count(6, 3), "validation": Count(4, 2), "test": Count(4, 2)}


def lfw(folder: Path) -> dict[str, Count]:
    people = {"Ann_Ace": 3, "Bob_Bee": 2, "Cy_Cox": 2, "Dee_Day": 2, "Ed_Eel": 2, "Flo_Fox": 2}
    for name, each in people.items():
        for number in range(1, each + 1):
            write(folder / "lfw_funneled" / name / f"{name}_{number:04}.jpg")
    write(folder / "lfw-names.txt", "".join(f"{name}\t{n}\n" for name, n in people.items()))
    write(folder / "pairs.txt", "1\t1\nAnn_Ace\t1\t3\nAnn_Ace\t2\tBob_Bee\t1\n")
    return {"all": Count(13, 6)}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def mnist(folder: Path) -> dict[str, Count]:
    rng = np.random.default_rng(0)
    for mark, n in (("train", 80), ("t10k", 20)):
        pictures = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)
        write(folder / f"{mark}-images-idx3-ubyte.gz", gzip.compress(idx(pictures)))
        labels = (np.arange(n) % 10).astype(np.uint8)
        write(folder / f"{mark}-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    return {"train": Count(80, 10), "test": Count(20, 10)}


MADE: dict[str, Callable[[Path], dict[str, Count]]] = {
    "cub200": cub,
    "cars196": cars,
    "sop": sop,
    "inshop": inshop,
    "vehicleid": vehicleid,
    "market1501": market,
    "omniglot": omniglot,
    "miniimagenet": miniimagenet,
    "lfw": lfw,
}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Tree]:
    """Makes the tree of a data set under tmp_path, in a folder of its name or another."""

    def make(name: str, where: str | None = None, writer: Callable | None = None) -> Tree:
        folder = tmp_path / (where or name)
        folder.mkdir(parents=True, exist_ok=True)
        counts = (writer or MADE[name])(folder)
        return Tree(tmp_path, folder, replace(entry(name), counts=counts))

    return make
