"""Readers of known data sets, recognised by the names of their files."""

import csv
import gzip
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tupelo.data.imageset import number_labels
from tupelo.data.listing import TEST, TRAIN, VALIDATION, Listing, list_tree, visible, zip_names
from tupelo.data.pictures import ArrayPictures, ZipFiles
from tupelo.errors import DataError, InputError

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_IDX = {"train": "train", "t10k": "test"}


def recognise(source: Path, labels: str = "class") -> Listing | None:
    """The listing of a known data set in `source`, its folder or main file, or None.

    Raises:
        DataError: a file of it is missing or damaged.
        InputError: `labels` is not one it has.
    """
    folder = source if source.is_dir() else source.parent
    for mark, reader in _READERS.items():
        if (source.is_dir() and (folder / mark).exists()) or source.name == mark:
            if labels != "class" and reader is not _omniglot:
                raise InputError(f'labels={labels!r} is for Omniglot only; leave it "class"')
            try:
                return _omniglot(folder, labels) if reader is _omniglot else reader(folder)
            except (OSError, KeyError, IndexError) as error:
                raise DataError(
                    f"{folder} holds {mark}, but what belongs to it is missing or different: "
                    f"{error!r}; compare it with the data set's own README"
                ) from error
    return None


def _cars(folder: Path) -> Listing:
    listing = _zipped(folder / "cars196_train_bbox64.zip")
    lines = (folder / "class_names.txt").read_text(encoding="utf-8").splitlines()
    names = {line[:3]: line for line in lines}
    class_names = [names[number] for number in listing.class_names]
    official = np.array([int(number) <= 98 for number in listing.class_names])
    return _with(listing, class_names, np.where(official[listing.labels], TRAIN, TEST))


def _cub(folder: Path) -> Listing:
    listing = _zipped(folder / "cub200_100classes_72.zip")
    official = np.array([int(name[:3]) <= 100 for name in listing.class_names])
    return _with(listing, listing.class_names, np.where(official[listing.labels], TRAIN, TEST))


def _tiny_imagenet(folder: Path) -> Listing:
    listing = _zipped(folder / "tiny_imagenet_cap32.zip")
    words, part = {}, {}
    with (folder / "classes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            words[row["wnid"]] = f"{row['wnid']} {row['words']}"
            part[row["wnid"]] = {"train": TRAIN, "val": VALIDATION, "test": TEST}[row["split_ours"]]
    parts = np.array([part[name] for name in listing.class_names], dtype=np.int64)
    return _with(listing, [words[name] for name in listing.class_names], parts[listing.labels])


def _lfw(folder: Path) -> Listing:
    return _zipped(folder / "lfw_deepfunneled_crop64.zip")


def _orl(folder: Path) -> Listing:
    columns = _npz(folder / "orl_faces.npz", ("image", "label", "index"))
    numbers = columns["label"].astype(np.int64)
    names = [
        f"s{label + 1:02}/{index}" for label, index in zip(numbers, columns["index"], strict=True)
    ]
    class_names = [f"s{label + 1:02}" for label in range(int(numbers.max()) + 1)]
    return Listing(ArrayPictures(columns["image"]), names, numbers, class_names)


def _omniglot(folder: Path, labels: str = "class") -> Listing:
    columns = _npz(
        folder / "omniglot_105.npz",
        ("bits", "label", "drawer", "class_name", "class_split", "class_alphabet", "alphabet_name"),
    )
    ink = np.unpackbits(columns["bits"], axis=1)[:, : 105 * 105].reshape(-1, 105, 105)
    character = columns["label"].astype(np.int64)
    alphabet = columns["class_alphabet"].astype(np.int64)[character]
    names = [
        f"{columns['class_name'][number]}/{drawer:02}"
        for number, drawer in zip(character, columns["drawer"], strict=True)
    ]
    if labels == "class":
        numbers, class_names = character, columns["class_name"].tolist()
    elif labels == "alphabet":
        numbers, class_names = alphabet, columns["alphabet_name"].tolist()
    else:
        raise InputError(f'labels must be "class" or "alphabet" for Omniglot, got {labels!r}')
    given = np.where(columns["class_split"][character] == 0, TRAIN, TEST).astype(np.int64)
    # Black ink on white; alphabets are groups, so that validation characters are of new alphabets.
    return Listing(
        ArrayPictures((1 - ink) * np.uint8(255)),
        names, numbers, class_names, groups=alphabet, given=given,
    )  # fmt: skip


def _mnist(folder: Path) -> Listing:
    suffix = ".gz" if (folder / "train-images-idx3-ubyte.gz").exists() else ""
    pictures, numbers, names, given = [], [], [], []
    for mark, part in _IDX.items():
        pictures.append(_idx(folder / f"{mark}-images-idx3-ubyte{suffix}", 3))
        numbers.append(_idx(folder / f"{mark}-labels-idx1-ubyte{suffix}", 1).astype(np.int64))
        names += [f"{part}/{number:05}" for number in range(len(pictures[-1]))]
        given.append(np.full(len(pictures[-1]), TRAIN if part == "train" else TEST, dtype=np.int64))
        if len(pictures[-1]) != len(numbers[-1]):
            raise DataError(
                f"{folder}: {mark} has {len(pictures[-1])} pictures but {len(numbers[-1])} labels"
            )
    labels, digits = number_labels(np.concatenate(numbers))
    fashion = "fashion" in folder.resolve().name.lower() and len(digits) == len(_FASHION)
    class_names = [f"{digit} {_FASHION[int(digit)]}" for digit in digits] if fashion else digits
    return Listing(
        ArrayPictures(np.concatenate(pictures)),
        names, labels, class_names, given=np.concatenate(given),
    )  # fmt: skip


_READERS: dict[str, Callable[[Path], Listing]] = {
    "cars196_train_bbox64.zip": _cars,
    "cub200_100classes_72.zip": _cub,
    "tiny_imagenet_cap32.zip": _tiny_imagenet,
    "lfw_deepfunneled_crop64.zip": _lfw,
    "orl_faces.npz": _orl,
    "omniglot_105.npz": _omniglot,
    "train-images-idx3-ubyte.gz": _mnist,
    "train-images-idx3-ubyte": _mnist,
}


def _zipped(path: Path) -> Listing:
    files = ZipFiles(path)
    return list_tree(files, visible(zip_names(files)), str(path))


def _with(listing: Listing, class_names: Sequence[str], given: np.ndarray) -> Listing:
    return Listing(
        listing.pictures,
        listing.names,
        listing.labels,
        class_names,
        given=given.astype(np.int64),
        bad=listing.bad,
    )


def _npz(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or not the known data set: {error}") from error


def _idx(path: Path, axes: int) -> np.ndarray:
    """An idx file of uint8; reads no more than its header promises."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
            if head[:4] != bytes([0, 0, 8, axes]):
                raise DataError(f"{path} is not an idx file of bytes with {axes} axes")
            shape = np.frombuffer(head, dtype=">u4", offset=4).astype(np.int64)
            wanted = int(shape.prod())
            data = file.read(wanted)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) != wanted:
        raise DataError(f"{path} is truncated: {len(data)} of {wanted} bytes")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
