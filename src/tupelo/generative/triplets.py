"""A fixed list of random triplets: made once, checked, written to disk, used for every epoch."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from tupelo.data.batches import LabelArray
from tupelo.errors import DataError, InputError
from tupelo.models.saving import replace_file

COLUMNS = ("anchor", "negative", "positive")  # in this order in the files of the authors


@dataclass(frozen=True, eq=False)
class TripletList:
    """Positions of t triplets in a set of pictures.

    Args:
        anchor: int64 (t,).
        positive: another picture of the anchor's class, (t,).
        negative: a picture of another class, (t,).

    Raises:
        InputError: the three differ in length, there is no triplet, a position is negative, or
            an anchor is its own positive.

    >>> one = TripletList(*np.array([[0], [1], [2]]))
    >>> len(one), one.swapped().positive.tolist()
    (1, [2])
    """

    anchor: Int64[np.ndarray, " t"]
    positive: np.ndarray
    negative: np.ndarray

    def __post_init__(self):
        counts = [len(self.anchor), len(self.positive), len(self.negative)]
        if len(set(counts)) > 1:
            raise InputError(
                f"anchor, positive and negative must be equally long, got {counts}; a triplet has "
                "one of each"
            )
        if counts[0] == 0:
            raise InputError("a list of triplets must hold at least one, got 0")
        least = min(int(part.min()) for part in (self.anchor, self.positive, self.negative))
        if least < 0:
            raise InputError(f"positions must be >= 0, got {least}")
        same = np.flatnonzero(self.anchor == self.positive)
        if len(same):
            raise InputError(
                f"an anchor must not be its own positive, got picture {self.anchor[same[0]]} as "
                f"both in triplet {same[0]} ({len(same)} such triplets); draw these again"
            )

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def rows(self) -> Int64[np.ndarray, "t 3"]:
        """Anchor, positive and negative of each triplet."""
        return np.stack([self.anchor, self.positive, self.negative], axis=1)

    @property
    def digest(self) -> str:
        """Hexadecimal digest by which a resumed run knows its list."""
        return sha256(np.ascontiguousarray(self.rows).tobytes()).hexdigest()[:16]

    def swapped(self) -> "TripletList":
        """Positives as negatives and the other way round: an accuracy a becomes 1 - a."""
        swapped = object.__new__(TripletList)  # whose positives are of other classes
        for name, part in (
            ("anchor", "anchor"),
            ("positive", "negative"),
            ("negative", "positive"),
        ):
            object.__setattr__(swapped, name, getattr(self, part))
        return swapped

    def check(self, labels: LabelArray) -> None:
        """Refuse a list that does not fit the labels of its pictures.

        Args:
            labels: class numbers (n,) of the pictures.

        Raises:
            InputError: a position is no picture, a positive has another label than its anchor,
                or a negative the same.
        """
        labels = np.asarray(labels)
        largest = int(self.rows.max())
        if largest >= len(labels):
            raise InputError(
                f"positions must be below the number of pictures, {len(labels)}, got {largest}; "
                "the list is of another set"
            )
        anchor, positive, negative = (labels[part] for part in self.rows.T)
        for name, wrong, must in (
            ("positive", np.flatnonzero(anchor != positive), "the label of its anchor"),
            ("negative", np.flatnonzero(anchor == negative), "another label than its anchor"),
        ):
            if len(wrong):
                first = int(wrong[0])
                other = labels[getattr(self, name)[first]]
                raise InputError(
                    f"a {name} must have {must}, but in triplet {first} the anchor has label "
                    f"{anchor[first]} and the {name} {other} "
                    f"({len(wrong)} of {len(self)} triplets); are its columns in the order "
                    f"{', '.join(COLUMNS)}?"
                )

    def write(self, path: str | Path) -> Path:
        """Write the list as CSV with the names of its columns, whole or not at all."""
        lines = [",".join(COLUMNS)]
        columns = [getattr(self, name) for name in COLUMNS]
        lines += [f"{a},{b},{c}" for a, b, c in np.stack(columns, axis=1).tolist()]
        replace_file(Path(path), ("\n".join(lines) + "\n").encode())
        return Path(path)


def random_triplets(
    labels: LabelArray,
    count: int,
    *,
    seed: int | Sequence[int] = 0,
    classes: Sequence[int] | None = None,
    among: Sequence[int] | Int64[np.ndarray, " m"] | None = None,
) -> TripletList:
    """Draw triplets at random, the same number of anchors from each class.

    Anchors and positives are drawn with replacement from a class, colliding positives anew, and
    negatives with replacement uniformly from all pictures of all other classes. Where `count` is
    no multiple of the classes, some have one anchor more. The authors of TVAE reshuffle the whole
    list of positives until none collides, which may never end for tiny classes.

    Args:
        labels: class numbers (n,).
        count: triplets, >= 1.
        seed: of the draw: a number, or several.
        classes: whose pictures are anchors; default all. Others are only negatives.
        among: positions of the pictures that may be drawn; default all.

    Raises:
        InputError: labels are tags, fewer than 2 classes, a class of anchors with fewer than 2
            pictures or none, `among` names no picture or one twice, or `count` below 1.

    >>> drawn = random_triplets(np.repeat(np.arange(10), 6), 100)
    >>> np.bincount(drawn.anchor // 6).tolist()
    [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise InputError(
            f"triplets need one class number a picture (n,), got labels of shape {labels.shape}; "
            "choose one tag for each picture"
        )
    if count < 1:
        raise InputError(f"count must be at least 1 triplet, got {count}")
    known = np.arange(len(labels)) if among is None else _positions(among, len(labels))
    labels = labels[known]
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2:
        raise InputError(
            f"triplets need at least 2 classes, got {len(values)}: a negative is of another class "
            "than its anchor"
        )
    if classes is not None and not (len(classes) and np.isin(classes, values).all()):
        strange = [int(each) for each in np.setdiff1d(classes, values)]
        raise InputError(
            "classes must name at least one class of labels, and no other, got "
            f"{strange[:5] or 'none'}"
        )
    chosen = np.arange(len(values)) if classes is None else np.flatnonzero(np.isin(values, classes))
    lonely = [int(values[place]) for place in chosen if counts[place] < 2]
    if lonely:
        raise InputError(
            f"a class of anchors must have at least 2 pictures, got class {lonely[:5]} with one; "
            "add pictures, or leave it out of classes"
        )
    rng = np.random.default_rng(seed)
    order = known[np.argsort(labels, kind="stable")]
    first = np.cumsum(counts) - counts
    more = rng.permutation(len(chosen)) < count % len(chosen)
    place = np.repeat(chosen, count // len(chosen) + more)  # (t,)
    anchor = rng.integers(counts[place])
    # one of the others: from that of the anchor on, they are moved up by one. This draws as the
    # repeated drawing of collisions would, in one go
    positive = rng.integers(counts[place] - 1)
    positive += positive >= anchor
    negative = rng.integers(len(labels) - counts[place])
    negative += np.where(negative >= first[place], counts[place], 0)
    return TripletList(
        order[first[place] + anchor], order[first[place] + positive], order[negative]
    )


def _positions(among: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Pictures that may be drawn, each once: twice, one could be its own positive."""
    known = np.asarray(among, dtype=np.int64)
    if len(known) and (known.min() < 0 or known.max() >= count):
        raise InputError(
            f"among must hold positions of the {count} labels, got {known.min()} to {known.max()}"
        )
    values, counts = np.unique(known, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"among must hold each position once, got {values[counts > 1][0]} again")
    return known


def read_triplets(path: str | Path, *, columns: Sequence[str] | None = None) -> TripletList:
    """Read a list that `TripletList.write` wrote, or one of the authors of TVAE.

    Args:
        path: of the file: a line of names, then three positions a line, with commas or spaces.
        columns: names of the columns of a file without a line of names. The authors' files have
            anchor, negative, positive, although a comment in their loader says otherwise.

    Raises:
        DataError: it cannot be read, or does not hold three whole numbers a line.
        InputError: the columns are not named, or `columns` are not these three; see
            `TripletList`.
    """
    try:
        # spreadsheets put a mark before the first name, which "utf-8-sig" takes away
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = [row for line in file if (row := next(csv.reader([_commas(line)]), None))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"triplets {path} cannot be read: {error}") from error
    names = list(columns) if columns is not None else []
    if columns is None and lines and not lines[0][0].lstrip("-").isdigit():
        names = [name.strip() for name in lines.pop(0)]
    if sorted(names) != sorted(COLUMNS):
        raise InputError(
            f"the columns of {path} must be named {', '.join(COLUMNS)} in its first line, got "
            f"{', '.join(names) or 'no names'}; give columns= in the order of the file"
        )
    try:
        table = np.array([[int(cell) for cell in row] for row in lines], dtype=np.int64)
        by_name = dict(zip(names, table.reshape(-1, 3).T, strict=True))
    except (ValueError, OverflowError) as error:
        raise DataError(f"triplets {path} must hold three whole numbers a line: {error}") from error
    if len(table) and table.shape[1] != 3:
        raise DataError(f"triplets {path} must hold three whole numbers a line")
    return TripletList(by_name["anchor"], by_name["positive"], by_name["negative"])


def _commas(line: str) -> str:
    return line if "," in line else ",".join(line.split())
