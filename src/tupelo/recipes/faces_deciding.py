"""Decide by a trained embedding of faces: the same person or not, and who.

    tupelo faces verify runs/faces one.jpg other.jpg
    tupelo faces identify runs/faces probe.jpg --gallery people/

Expected time: that of embedding the pictures.
Expected result: a decision, its threshold, and the false-accept rate at which that was set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.recipes.face_thresholds import (
    Progress,
    Setting,
    rows_of_files,
    rows_of_set,
    thresholds_of,
)
from tupelo.trained import Trained


@dataclass(frozen=True)
class Decision:
    """Whether two pictures show one person.

    Attributes:
        similarity: cosine of their rows.
        setting: whose threshold decided.
        same: the similarity lies above it.
    """

    similarity: float
    setting: Setting
    same: bool


@dataclass(frozen=True)
class Match:
    """Somebody of the gallery: name, similarity of the most alike picture, and that picture."""

    person: str
    similarity: float
    path: str


@dataclass(frozen=True)
class Identified:
    """Who a picture may show.

    Attributes:
        probe: the picture.
        matches: people by similarity, the most alike first.
        person: the first of them where it lies above the threshold, else None: not in the gallery.
    """

    probe: str
    matches: tuple[Match, ...]
    person: str | None


def verify(trained: Trained, one: Path, other: Path, *, far: float | None = None) -> Decision:
    """Decide whether two pictures show one person.

    Args:
        trained: the model of a run of `tupelo faces train`.
        one: a file.
        other: a file.
        far: false-accept rate; None: 0.001, or what the run could measure.

    Raises:
        CheckpointError: see `thresholds_of`.
        InputError: see `Thresholds.at`.
        DataError: a picture is missing or damaged.
    """
    known = thresholds_of(trained)
    setting = known.at(far)
    rows = rows_of_files(trained, [one, other], flip=known.flip)
    similarity = float(rows[0] @ rows[1])
    return Decision(similarity, setting, similarity > setting.threshold)


def identify(
    trained: Trained,
    probes: Sequence[Path],
    gallery: ImageSet,
    *,
    far: float | None = None,
    most: int = 5,
    progress: Progress | None = None,
) -> tuple[list[Identified], Setting]:
    """Name the person in each picture, or nobody, from a gallery of known people.

    A person is as alike as the most alike of the person's pictures. The threshold is that of one
    comparison: in a gallery of n people a stranger is taken for one of them up to n times as often.

    Args:
        trained: the model of a run of `tupelo faces train`.
        probes: files.
        gallery: pictures by person.
        far: see `verify`.
        most: people told for each probe.
        progress: called while the gallery is embedded.

    Raises:
        CheckpointError: see `thresholds_of`.
        InputError: see `Thresholds.at`; `most` below 1.
        DataError: a picture is missing or damaged.
    """
    if most < 1:
        raise InputError(f"-k must be at least 1, got {most}")
    known = thresholds_of(trained)
    setting = known.at(far)
    asked = rows_of_files(trained, probes, flip=known.flip)
    rows = rows_of_set(trained, gallery, known.flip, progress)
    found = []
    for probe, similarities in zip(probes, asked @ rows.T, strict=True):
        order = np.argsort(-similarities, kind="stable")
        labels = gallery.labels[order]
        first = np.sort(np.unique(labels, return_index=True)[1])[:most]  # the best of each person
        matches = tuple(
            Match(
                gallery.class_names[int(gallery.labels[row])],
                float(similarities[row]),
                gallery.paths[row],
            )
            for row in order[first].tolist()
        )
        sure = matches[0].similarity > setting.threshold
        found.append(Identified(str(probe), matches, matches[0].person if sure else None))
    return found, setting
