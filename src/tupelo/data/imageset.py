"""`ImageSet`: labelled pictures in memory or on disk, given out in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from tupelo.data.decode import Frame, Resize
from tupelo.data.pictures import Held, OnDemand
from tupelo.errors import InputError

Augment = Callable[[Tensor, torch.Generator], Tensor]
Labels = np.ndarray | Sequence[int] | Sequence[str] | Sequence[Iterable[str]]


class Batch(NamedTuple):
    """Pictures `(b, c, h, w)` float32 in [0, 1], labels `(b,)` or `(b, tags)`, item numbers."""

    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"] | Bool[Tensor, "b tags"]
    items: Int64[Tensor, " b"]


class ImageSet:
    """Labelled pictures of one size.

    Args:
        source: gives uint8 pixels for rows.
        rows: the row in `source` of each picture.
        labels: class numbers `(n,)` or tags `(n, tags)`; see `labels`.
        class_names: one a class or tag.
        items: identity of each picture, unique over all parts of the data.
        paths: a name of each picture.
        groups: pictures with the same number must stay on one side of any split, or None.
        size: height and width in pixels.
        channels: 1 or 3.
        resize: how pictures of other shapes were made to fit.

    Attributes:
        labels: int64 `(n,)`, every number 0..n_classes-1 occurring, or bool `(n, tags)`.
    """

    def __init__(
        self,
        source: Held | OnDemand,
        *,
        rows: Int64[np.ndarray, " n"],
        labels: Int64[np.ndarray, " n"] | Bool[np.ndarray, "n tags"],
        class_names: Sequence[str],
        items: Int64[np.ndarray, " n"],
        paths: Sequence[str],
        groups: Int64[np.ndarray, " n"] | None,
        size: tuple[int, int],
        channels: int,
        resize: Resize = "crop",
    ) -> None:
        self._source = source
        self._rows = rows
        self.labels = labels
        self.class_names = tuple(class_names)
        self.items = items
        self.paths = tuple(paths)
        self.groups = groups
        self.size = size
        self.channels = channels
        self.resize: Resize = resize

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        height, width = self.size
        kind = "classes" if self.labels.ndim == 1 else "tags"
        return (
            f"ImageSet({len(self)} pictures, {self.n_classes} {kind}, "
            f"{self.channels} x {height} x {width})"
        )

    @property
    def n_classes(self) -> int:
        """Number of classes, or of tags."""
        return len(self.class_names)

    @property
    def frame(self) -> Frame:
        """The form every picture was brought into; other pictures for the same model need it."""
        return Frame(*self.size, self.channels, self.resize)

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held decoded, or decoded for every batch."""
        return isinstance(self._source, Held)

    @property
    def memory_bytes(self) -> int:
        """Bytes of held pixels, shared by all parts of the data; 0 when decoded on demand."""
        return self._source.pixels.nbytes if isinstance(self._source, Held) else 0

    @classmethod
    def from_arrays(
        cls,
        images: UInt8[np.ndarray, "n ..."],
        labels: Labels,
        *,
        paths: Sequence[str] | None = None,
        groups: Int64[np.ndarray, " n"] | None = None,
    ) -> ImageSet:
        """Wrap pictures already in an array, without a copy.

        Args:
            images: uint8 `(n, h, w)`, `(n, h, w, c)` or `(n, c, h, w)` with c 1 or 3; where both
                fit, the last axis is the channels.
            labels: whole numbers or strings `(n,)`, sets of tags, or booleans `(n, tags)`; numbers
                and strings are renumbered from 0 in sorted order, `class_names` keeps them.
            paths: a name of each picture; default its number.
            groups: see the class.

        Raises:
            InputError: the shape is none of these, or the counts of pictures, labels and names
                differ.

        >>> pixels = np.zeros((4, 8, 8), dtype=np.uint8)
        >>> pictures = ImageSet.from_arrays(pixels, ["cat", "cat", "dog", "dog"])
        >>> pictures.class_names, pictures.batch([0, 3]).labels.tolist()
        (('cat', 'dog'), [0, 1])
        """
        pixels = torch.from_numpy(np.ascontiguousarray(_channels_first(images)))
        n = len(pixels)
        numbers, class_names = number_labels(labels)
        names = [str(row) for row in range(n)] if paths is None else list(paths)
        if not n == len(numbers) == len(names):
            raise InputError(
                f"images, labels and paths must have one entry a picture, got {n}, "
                f"{len(numbers)} and {len(names)}"
            )
        return cls(
            Held(pixels),
            rows=np.arange(n),
            labels=numbers,
            class_names=class_names,
            items=np.arange(n),
            paths=names,
            groups=groups,
            size=(pixels.shape[2], pixels.shape[3]),
            channels=pixels.shape[1],
        )

    def subset(self, indices: np.ndarray | Sequence[int]) -> ImageSet:
        """Some of the pictures, by position, sharing pixels; classes are numbered anew from 0."""
        indices = np.asarray(indices, dtype=np.int64)
        numbers, used = renumber(self.labels[indices])
        return ImageSet(
            self._source,
            rows=self._rows[indices],
            labels=numbers,
            class_names=[self.class_names[old] for old in used],
            items=self.items[indices],
            paths=[self.paths[index] for index in indices],
            groups=None if self.groups is None else self.groups[indices],
            size=self.size,
            channels=self.channels,
            resize=self.resize,
        )

    def relabelled(self, labels: Labels) -> ImageSet:
        """The same pictures under other labels, as `from_arrays` takes them."""
        numbers, class_names = number_labels(labels)
        if len(numbers) != len(self):
            raise InputError(
                f"labels must have one entry a picture, got {len(numbers)} for {len(self)}"
            )
        return ImageSet(
            self._source,
            rows=self._rows,
            labels=numbers,
            class_names=class_names,
            items=self.items,
            paths=self.paths,
            groups=self.groups,
            size=self.size,
            channels=self.channels,
            resize=self.resize,
        )

    def take(self, indices: np.ndarray | Sequence[int]) -> UInt8[Tensor, "b c h w"]:
        """The pixels of the pictures at `indices`, as they are kept."""
        return self._source.take(self._rows[np.asarray(indices, dtype=np.int64)])

    def batch(
        self,
        indices: np.ndarray | Sequence[int],
        *,
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """The pictures at `indices`, with labels and identities.

        Args:
            indices: positions in this set.
            augment: maps pictures and a generator to pictures, e.g. `default_augmentation`.
            generator: its randomness; required with `augment`.

        Raises:
            InputError: `augment` without a generator.
            DataError: a file can no longer be read.
        """
        if augment is not None and generator is None:
            raise InputError("augment needs generator, a torch.Generator that fixes its randomness")
        indices = np.asarray(indices, dtype=np.int64)
        images = self.take(indices).float().div_(255)
        if augment is not None and generator is not None:
            images = augment(images, generator)
        return Batch(
            images,
            torch.from_numpy(self.labels[indices]),
            torch.from_numpy(self.items[indices]),
        )


def renumber(
    labels: Int64[np.ndarray, " n"] | Bool[np.ndarray, "n tags"],
) -> tuple[Int64[np.ndarray, " n"] | Bool[np.ndarray, "n kept"], Int64[np.ndarray, " kept"]]:
    """Number the classes that occur from 0 in order; also which old classes these are."""
    if labels.ndim == 2:
        used = np.flatnonzero(labels.any(axis=0))
        return labels[:, used], used
    used, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), used


def number_labels(
    labels: Labels,
) -> tuple[Int64[np.ndarray, " n"] | Bool[np.ndarray, "n tags"], tuple[str, ...]]:
    """Class numbers and names of whole numbers, strings, sets of tags or booleans `(n, tags)`.

    Raises:
        InputError: labels are none of these.
    """
    first = labels[0] if len(labels) else 0
    if not np.isscalar(first) and not isinstance(first, np.ndarray):
        sets = cast(Sequence[Iterable[str]], labels)
        tags = sorted({tag for row in sets for tag in row})
        column = {tag: place for place, tag in enumerate(tags)}
        hot = np.zeros((len(labels), len(tags)), dtype=np.bool_)
        for row, chosen in enumerate(sets):
            hot[row, [column[tag] for tag in chosen]] = True
        return hot, tuple(tags)
    array = np.asarray(labels)
    if array.ndim == 2 and array.dtype == np.bool_:
        return array, tuple(str(tag) for tag in range(array.shape[1]))
    if array.ndim == 1 and array.dtype.kind in "iuUS":
        values, numbers = np.unique(array, return_inverse=True)
        return numbers.astype(np.int64), tuple(str(value) for value in values)
    raise InputError(
        "labels must be whole numbers or strings (n,), sets of tags, or booleans (n, tags), got "
        f"{array.dtype} of shape {array.shape}"
    )


def _channels_first(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise InputError(
        "images must be uint8 (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3, got shape "
        f"{images.shape}"
    )
