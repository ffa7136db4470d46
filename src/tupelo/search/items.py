"""What is indexed: rows with names, labels and small pictures."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from tupelo.data import Batch, ImageSet
from tupelo.errors import InputError
from tupelo.evaluation import products
from tupelo.inference import embed, named_labels
from tupelo.trained import Trained

THUMBNAIL_SIDE = 96  # pixels, the longer side at most
_QUALITY = 85


@dataclass(frozen=True)
class Items:
    """Rows to index, one an item.

    Args:
        vectors: `(n, d)`, NumPy or torch, floating; unit rows are made of them.
        paths: a name of each, unique: the key of `add` and `delete`.
        labels: one each, several tags of one joined by `|`; default "".
        thumbnails: a small picture file of each, such as JPEG, or None; default none.
    """

    vectors: Any
    paths: Sequence[str]
    labels: Sequence[str] = ()
    thumbnails: Sequence[bytes | None] = ()


def items_of(
    model: Trained,
    pictures,
    *,
    thumbnails: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Items:
    """Embed pictures, keeping their paths, labels and thumbnails; each is read once.

    Args:
        model: from `tupelo.load`.
        pictures: an `ImageSet` in the model's form, or what `Trained.prepare` returns. A path
            that occurs again, as in manifests of boxes, is told apart as `PATH#2`.
        thumbnails: keep a JPEG of each, as it was prepared, the longer side at most 96 pixels.
        progress: see `tupelo.embed`.

    Raises:
        InputError: the set is empty or of another form.
    """
    if pictures.frame != model.frame:
        raise InputError(
            f"pictures must be read as the model's were, {model.frame}; got {pictures.frame}"
        )
    seen = _Seen(pictures, thumbnails)
    z = embed(model.model, seen, progress=progress).z
    labels = _label_names(pictures) if isinstance(pictures, ImageSet) else ()
    paths = _told_apart([in_unicode(path) for path in pictures.paths])
    return Items(z, paths, [in_unicode(label) for label in labels], tuple(seen.thumbnails))


def thumbnail(pixels: UInt8[np.ndarray, "c h w"]) -> bytes:
    """A JPEG of at most 96 pixels a side.

    >>> small = Image.open(io.BytesIO(thumbnail(np.zeros((3, 200, 100), np.uint8))))
    >>> small.size
    (48, 96)
    """
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def unit_rows(vectors: Any, name: str) -> Float32[np.ndarray, "n d"]:
    """Rows as they are stored and compared: float32 of length 1.

    Raises:
        InputError: no floating matrix, NaN, infinity or a zero row.
    """
    return products.float32_rows(vectors, name, normalize=True)


def in_unicode(name: str) -> str:
    r"""A file's name as it can be stored and shown: bytes that are no text are spelled out.

    >>> print(in_unicode("caf\udce9.jpg"))
    caf\udce9.jpg
    """
    return name.encode("utf-8", "backslashreplace").decode()


def arrow_table(items: Items, first: int, width: int | None = None) -> Any:
    """Items as an Arrow table with the columns of an index.

    Args:
        items: checked here.
        first: number of the first.
        width: that rows must have.

    Raises:
        InputError: counts differ, a path is empty or occurs twice, or the rows do not fit.
    """
    z = unit_rows(items.vectors, "vectors")
    n = len(z)
    if width is not None and z.shape[1] != width:
        raise InputError(
            f"vectors must have {width} numbers a row, as those of the index; got {z.shape[1]}"
        )
    paths = [str(path) for path in items.paths]
    labels = [str(label) for label in items.labels] or [""] * n
    thumbnails = list(items.thumbnails) or [None] * n
    if not n == len(paths) == len(labels) == len(thumbnails):
        raise InputError(
            "vectors, paths, labels and thumbnails must have one entry an item, got "
            f"{n}, {len(paths)}, {len(labels)} and {len(thumbnails)}"
        )
    bad = next((path for path, times in Counter(paths).items() if not path or times > 1), None)
    if bad is not None:
        raise InputError(f"paths must be unique and not empty: they name items; got {bad!r}")
    bad = next((text for text in (*paths, *labels) if text != in_unicode(text)), None)
    if bad is not None:
        raise InputError(f"paths and labels must be valid Unicode, got {bad!r}")
    return _table(np.arange(first, first + n), paths, labels, z, thumbnails)


def _table(numbers: np.ndarray, paths: Any, labels: Any, z: np.ndarray, thumbnails: Any) -> Any:
    import pyarrow as pa

    return pa.table(
        {
            "number": pa.array(numbers, pa.int64()),
            "path": pa.array(paths, pa.string()),
            "label": pa.array(labels, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1]),
            "thumbnail": pa.array(thumbnails, pa.binary()),
        }
    )


def _label_names(pictures: ImageSet) -> list[str]:
    named = named_labels(pictures)
    return [label if isinstance(label, str) else "|".join(sorted(label)) for label in named]


def _told_apart(paths: Sequence[str]) -> list[str]:
    """
    >>> _told_apart(["a", "b", "a"])
    ['a', 'b', 'a#2']
    """
    times: Counter[str] = Counter()
    names = []
    for path in paths:
        times[path] += 1
        names.append(path if times[path] == 1 else f"{path}#{times[path]}")
    return names


class _Seen:
    """A data set that keeps a thumbnail of every picture it gives out, in order."""

    def __init__(self, pictures, thumbnails: bool) -> None:
        self._pictures = pictures
        self._wanted = thumbnails
        self._by_row: dict[int, bytes] = {}
        self.labels = pictures.labels

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def thumbnails(self) -> list[bytes]:
        return [self._by_row[row] for row in sorted(self._by_row)]

    def batch(self, indices: np.ndarray) -> Batch:
        batch = self._pictures.batch(indices)
        if self._wanted:
            pixels = (batch.images * 255).round().byte().numpy()
            for row, picture in zip(indices.tolist(), pixels, strict=True):
                self._by_row[row] = thumbnail(picture)
        return batch
