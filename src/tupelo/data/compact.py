"""Readers of compact forms of known data sets, recognised by the names of their files."""

import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tupelo.data.listing import TEST, TRAIN, VALIDATION, Listing, list_tree, visible, zip_names
from tupelo.data.pictures import ArrayPictures, ZipFiles
from tupelo.errors import DataError, InputError


def recognise(source: Path, labels: str = "class") -> Listing | None:
    """The listing of a compact form in `source`, its folder or main file, or None.

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
    given = np.where(official[listing.labels], TRAIN, TEST)
    return _with(
        listing, class_names, given, "half of Cars196, cut to the car: not comparable with papers"
    )


def _cub(folder: Path) -> Listing:
    listing = _zipped(folder / "cub200_100classes_72.zip")
    official = np.array([int(name[:3]) <= 100 for name in listing.class_names])
    given = np.where(official[listing.labels], TRAIN, TEST)
    note = "100 of CUB's 200 classes, cut to the bird: not comparable with papers"
    return _with(listing, listing.class_names, given, note)


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


_READERS: dict[str, Callable[[Path], Listing]] = {
    "cars196_train_bbox64.zip": _cars,
    "cub200_100classes_72.zip": _cub,
    "tiny_imagenet_cap32.zip": _tiny_imagenet,
    "lfw_deepfunneled_crop64.zip": _lfw,
    "orl_faces.npz": _orl,
    "omniglot_105.npz": _omniglot,
}


def _zipped(path: Path) -> Listing:
    files = ZipFiles(path)
    return list_tree(files, visible(zip_names(files)), str(path))


def _with(
    listing: Listing, class_names: Sequence[str], given: np.ndarray, note: str = ""
) -> Listing:
    given = given.astype(np.int64)
    notes = (note,) if note else ()
    return replace(listing, class_names=class_names, given=given, notes=notes)


def _npz(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or not the known data set: {error}") from error
