"""Classify pictures by a user's own: a folder with some pictures of each class.

    tupelo fewshot classify runs/omniglot --support letters/ unknown.png

Expected time: that of reading and embedding the pictures; the answers take milliseconds.
Expected result: for each picture calibrated probabilities of the classes, and the nearest pictures.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tupelo import fewshot
from tupelo.data import BadItem, ImageSet
from tupelo.data.decode import BadPicture, Frame, decode
from tupelo.data.listing import visible
from tupelo.data.official.places import folder_of, is_named
from tupelo.data.pictures import FolderFiles, Progress
from tupelo.errors import DataError, InputError
from tupelo.fewshot import Classified, Temperature
from tupelo.recipes.fewshot_building import source_of
from tupelo.recipes.fewshot_measuring import embed
from tupelo.recipes.fewshot_using import Opened, check_ways, read_like

TABLES = (".csv", ".tsv", ".parquet", ".zip")


@dataclass(frozen=True, eq=False)
class Support:
    """A user's pictures of known classes.

    Attributes:
        source: where they came from.
        pictures: prepared for the learner.
        rows: embedded, (s, d).
        bad: what was left out.
    """

    source: str
    pictures: ImageSet
    rows: Float[Tensor, "s d"]
    bad: tuple[BadItem, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each class, by name."""
        counts = np.bincount(self.pictures.labels).tolist()
        return dict(zip(self.pictures.class_names, counts, strict=True))


@dataclass(frozen=True, eq=False)
class Queries:
    """Pictures to classify.

    Attributes:
        pictures: prepared for the learner.
        labels: the class of each where its folder names one, else "".
        rows: embedded, (q, d).
        bad: what could not be read.
    """

    pictures: ImageSet
    labels: tuple[str, ...]
    rows: Float[Tensor, "q d"]
    bad: tuple[BadItem, ...]


@dataclass(frozen=True, eq=False)
class Answers:
    """What was said of the queries.

    Attributes:
        support: what it was said by.
        queries: of whom.
        classified: probabilities and nearest support pictures.
        temperature: of the probabilities.
        fitted: the entry of the run's calibration most like this support; None: the temperature
            is 1 for want of one, or was given.
        copies: of each query the support picture it is a copy of, "" where of none.
        given: the temperature is the user's.
    """

    support: Support
    queries: Queries
    classified: Classified
    temperature: float
    fitted: Temperature | None
    copies: tuple[str, ...]
    given: bool

    @property
    def right(self) -> list[bool | None]:
        """Of each query whether the answer is its class; None where that is not known."""
        names = self.support.pictures.class_names
        found = self.classified.probabilities.argmax(1).tolist()
        return [
            None if label not in names else names[answer] == label
            for label, answer in zip(self.queries.labels, found, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, classes in the order of their probability."""
        return {
            "support": {"source": self.support.source, "classes": self.support.counts},
            "temperature": self.temperature,
            "measure": self.classified.measure,
            "results": [self._result(place) for place in range(len(self.queries.labels))],
            "left_out": [
                {"path": each.path, "reason": each.reason}
                for each in (*self.support.bad, *self.queries.bad)
            ],
        }

    def ranked(self, place: int) -> list[tuple[str, float]]:
        """Classes with their probabilities for one query, the likeliest first."""
        names = self.support.pictures.class_names
        probabilities = self.classified.probabilities[place]
        order = probabilities.argsort(descending=True, stable=True).tolist()
        return [(names[number], float(probabilities[number])) for number in order]

    def near(self, place: int) -> list[tuple[int, float]]:
        """Rows of the support pictures nearest to one query, with their closeness."""
        rows = self.classified.nearest[place].tolist()
        return list(zip(rows, self.classified.closeness[place].tolist(), strict=True))

    def _result(self, place: int) -> dict[str, Any]:
        ranked = self.ranked(place)
        pictures = self.support.pictures
        return {
            "query": self.queries.pictures.paths[place],
            "label": self.queries.labels[place],
            "answer": ranked[0][0],
            "probability": round(ranked[0][1], 6),
            "probabilities": {name: round(p, 6) for name, p in ranked},
            "nearest": [
                {
                    "path": pictures.paths[row],
                    "class": pictures.class_names[int(pictures.labels[row])],
                    "closeness": round(closeness, 6),
                }
                for row, closeness in self.near(place)
            ],
            "copy_of": self.copies[place],
        }


def read_support(
    opened: Opened,
    source: str,
    *,
    reading: Progress | None = None,
    embedding: Callable[[int, int], None] | None = None,
) -> Support:
    """The pictures a user has of each class: any number of classes, and of pictures of each.

    Unusable pictures are left out, as long as every class keeps one.

    Raises:
        DataError: as `data.images`, or a class has no usable picture.
        InputError: fewer than 2 classes, or the learner answers among another number of classes or
            needs as many pictures of each.
    """
    try:
        data = read_like(opened, source, allow_bad=1.0, progress=reading)
    except DataError as error:
        raise DataError(f"--support: {error}") from error
    pictures = data.train
    for name, reason in _without_pictures(source, pictures, data.bad).items():
        raise DataError(
            f"--support {source}: class {name} has no usable picture{reason}; give one, or take "
            "the folder away"
        )
    if pictures.n_classes < 2:
        raise InputError(
            f"--support {source} has one class, {pictures.class_names[0]}, and an answer needs at "
            "least two to choose from; give a folder with a sub-folder for each class"
        )
    check_ways(opened, pictures.n_classes, f"--support {source}")
    counts = np.bincount(pictures.labels)
    if opened.fixed_ways is not None and len(set(counts.tolist())) > 1:
        told = dict(zip(pictures.class_names, counts.tolist(), strict=True))
        raise InputError(
            f"this run is a graph network, which needs as many pictures of each class, and "
            f"--support {source} has {', '.join(f'{name} {n}' for name, n in told.items())}; give "
            "as many of each, or train --method pn or matching, which take any numbers"
        )
    return Support(source, pictures, embed(opened.model, pictures, embedding), data.bad)


def read_queries(
    opened: Opened,
    asked: Sequence[str],
    *,
    reading: Progress | None = None,
    embedding: Callable[[int, int], None] | None = None,
) -> Queries:
    """Pictures to classify: files, folders of files, or folders with a sub-folder per class.

    A file that cannot be read is left out, as long as one is left.

    Raises:
        DataError: nothing is left, or a folder is not there.
    """
    parts: list[ImageSet] = []
    labels: list[str] = []
    bad: list[BadItem] = []
    files = [query for query in asked if not _is_source(query)]
    if files:
        found, left_out = _read_files(files, opened.frame)
        bad += left_out
        if found is not None:
            parts.append(found)
            labels += [""] * len(found)
    for source in asked:
        if not _is_source(source):
            continue
        data = read_like(opened, source, labels="any", allow_bad=1.0, progress=reading)
        place = Path(folder_of(source_of(source)))
        folder = place if place.is_dir() else place.parent
        parts.append(
            _renamed(data.train, [(folder / name).as_posix() for name in data.train.paths])
        )
        labels += [data.train.class_names[number] for number in data.train.labels.tolist()]
        bad += data.bad
    if not parts:
        raise DataError("; ".join(f"{each.path} cannot be used: {each.reason}" for each in bad[:5]))
    rows = torch.cat([embed(opened.model, part, embedding) for part in parts])
    return Queries(_joined(parts), tuple(labels), rows, tuple(bad))


def classified(
    opened: Opened,
    support: Support,
    queries: Queries,
    *,
    neighbours: int = 5,
    temperature: float | None = None,
) -> Answers:
    """Classify queries by a support.

    Args:
        opened: the learner.
        support: pictures of known class.
        queries: pictures of unknown class.
        neighbours: support pictures told for each query.
        temperature: of the probabilities; None: that of the run for so many classes and pictures.

    Raises:
        InputError: as `fewshot.classify`.
    """
    counts = np.bincount(support.pictures.labels)
    t, fitted = 1.0 if temperature is None else temperature, None
    if temperature is None and opened.calibration is not None:
        asked = len(counts), float(counts.mean())
        t, fitted = opened.calibration.at(*asked), opened.calibration.near(*asked)
    found = fewshot.classify(
        opened.model.head,
        support.rows,
        torch.from_numpy(support.pictures.labels).to(support.rows.device),
        queries.rows,
        temperature=t,
        neighbours=neighbours,
    )
    known = {digest: row for row, digest in reversed(list(enumerate(_digests(support.pictures))))}
    copies = tuple(
        support.pictures.paths[known[digest]] if digest in known else ""
        for digest in _digests(queries.pictures)
    )
    return Answers(support, queries, found, t, fitted, copies, given=temperature is not None)


def _is_source(query: str) -> bool:
    named = is_named(source_of(query))
    return named or Path(query).is_dir() or Path(query).suffix.lower() in TABLES


def _without_pictures(source: str, pictures: ImageSet, bad: Sequence[BadItem]) -> dict[str, str]:
    """Class folders of which nothing can be used, with the reason where there is one."""
    folder = Path(source)
    if not all((folder / name).is_dir() for name in pictures.class_names):
        return {}  # a manifest, a zip, or classes that lie deeper
    lost = {
        each.name: ""
        for each in sorted(folder.iterdir())
        if each.is_dir() and each.name not in pictures.class_names and visible([each.name])
    }
    for one in reversed(bad):
        name = one.path.partition("/")[0]
        if name in lost:
            lost[name] = f" ({one.path}: {one.reason})"
    return lost


def _read_files(files: Sequence[str], frame: Frame) -> tuple[ImageSet | None, list[BadItem]]:
    pixels, paths, bad = [], [], []
    for name in files:
        try:
            pixels.append(decode(FolderFiles(Path()).read(name), frame))
            paths.append(name)
        except BadPicture as error:
            bad.append(BadItem(name, str(error)))
    if not pixels:
        return None, bad
    return ImageSet.from_arrays(np.stack(pixels), [0] * len(pixels), paths=paths), bad


def _renamed(pictures: ImageSet, paths: Sequence[str]) -> ImageSet:
    return ImageSet.from_arrays(_pixels(pictures), pictures.labels, paths=paths)


def _joined(parts: Sequence[ImageSet]) -> ImageSet:
    if len(parts) == 1:
        return parts[0]
    paths = [path for part in parts for path in part.paths]
    pixels = np.concatenate([_pixels(part) for part in parts])
    return ImageSet.from_arrays(pixels, [0] * len(paths), paths=paths)


def _pixels(pictures: ImageSet) -> np.ndarray:
    return pictures.take(np.arange(len(pictures))).numpy()


def _digests(pictures: ImageSet) -> list[bytes]:
    return [
        hashlib.blake2b(pixels.tobytes(), digest_size=16).digest() for pixels in _pixels(pictures)
    ]
