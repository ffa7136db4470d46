"""MNIST and Fashion-MNIST: four idx files, compressed or not."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from tupelo.data.imageset import number_labels
from tupelo.data.listing import TEST, TRAIN, Listing
from tupelo.data.official.layout import Asked, Audit, Finding, Layout, counts_of
from tupelo.data.pictures import ArrayPictures
from tupelo.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# md5 of the content, compressed or not, of the copies this was tested with.
CONTENT = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
_PARTS = {"train": "train", "t10k": "test"}


def place_of(root: Path, name: str) -> Path:
    """The file, compressed where that is there."""
    packed = root / f"{name}.gz"
    return packed if packed.exists() else root / name


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An idx file of uint8; reads no more than its header promises.

    Raises:
        DataError: it is missing, damaged, truncated, or of other numbers.
    """
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


def _read(root: Path, asked: Asked) -> Listing:
    pictures, numbers, names, given = [], [], [], []
    for mark, part in _PARTS.items():
        pictures.append(read_idx(place_of(root, f"{mark}-images-idx3-ubyte"), 3))
        numbers.append(read_idx(place_of(root, f"{mark}-labels-idx1-ubyte"), 1).astype(np.int64))
        names += [f"{part}/{number:05}" for number in range(len(pictures[-1]))]
        given.append(np.full(len(pictures[-1]), TRAIN if part == "train" else TEST, dtype=np.int64))
        if len(pictures[-1]) != len(numbers[-1]):
            raise DataError(
                f"{root}: {mark} has {len(pictures[-1])} pictures but {len(numbers[-1])} labels"
            )
    labels, digits = number_labels(np.concatenate(numbers))
    called = " ".join(root.resolve().parts[-2:]).lower()
    if "fashion" in called and len(digits) == len(FASHION):
        class_names = [f"{digit} {FASHION[int(digit)]}" for digit in digits]
    else:
        class_names = digits
    return Listing(
        ArrayPictures(np.concatenate(pictures)),
        names, labels, class_names, given=np.concatenate(given), copies=True,
    )  # fmt: skip


def _find(folder: Path) -> Path | None:
    for place in (folder, folder / "raw"):  # torchvision's layout
        if place_of(place, FILES[0]).exists():
            return place
    return None


def _audit(root: Path) -> Audit:
    listing = _read(root, Asked())
    return Audit(counts=counts_of(listing))


def wrong_content(root: Path, name: str) -> list[Finding]:
    """Files whose content is not that of the data set `name`."""
    others = {digest: other for other, digests in CONTENT.items() for digest in digests}
    findings = []
    for file, wanted in zip(FILES, CONTENT[name], strict=True):
        path = place_of(root, file)
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
                digest = hashlib.file_digest(content, "md5").hexdigest()
        except (OSError, EOFError, zlib.error):
            continue  # told as missing or damaged
        if digest != wanted:
            other = others.get(digest)
            what = f"it is the file of {other}" if other else f"its content has md5 {digest}"
            findings.append(
                Finding("checksum", path.name, f"{what}, {name} has {wanted}", "get it again")
            )
    return findings


LAYOUT = Layout(
    ("mnist", "fashion_mnist"),
    _find,
    _read,
    _audit,
    lambda root: tuple(place_of(root, name).name for name in FILES),
)
