"""How alike two pictures must be: thresholds at false-accept rates, kept in the run.

They are set on people who did not train, and measured on others, who chose nothing.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tupelo.data import ImageSet
from tupelo.errors import CheckpointError, InputError
from tupelo.evaluation import Roc, roc
from tupelo.inference import embed
from tupelo.recipes.face_features import BothSides
from tupelo.recipes.places import write_text
from tupelo.trained import Trained

log = logging.getLogger(__name__)
NAME = "verification.json"
FARS = (0.1, 0.01, 0.001, 0.0001)
COMPARED_AT_MOST = 3000  # pictures of a part: 4.5 million pairs
OF_A_PERSON = 10  # pictures: pairs grow with their square, and a few people would decide
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Setting:
    """A threshold, and what it comes to.

    Attributes:
        far: false-accept rate it was set for, on validation.
        threshold: pairs with a higher similarity are accepted.
        tar: share of genuine pairs of validation accepted.
        test_far: false accepts among pairs of test, which chose nothing; None without a test part.
        test_tar: true accepts among them.
    """

    far: float
    threshold: float
    tar: float
    test_far: float | None
    test_tar: float | None


@dataclass(frozen=True)
class Thresholds:
    """How alike two pictures must be, by false-accept rate.

    Attributes:
        settings: from the highest rate to the lowest that could be measured.
        flip: rows are of picture and mirror image.
        pairs: genuine and impostor pairs of validation and test.
        auc: of test, or of validation where there is no test part.
        eer: of the same.
    """

    settings: tuple[Setting, ...]
    flip: bool
    pairs: dict[str, int]
    auc: float
    eer: float

    def at(self, far: float | None) -> Setting:
        """The setting of that rate; None: 0.001, or the lowest there is above it.

        Raises:
            InputError: these pairs could not tell it.
        """
        known = {each.far: each for each in self.settings}
        if far is None:
            return known.get(0.001, self.settings[-1])
        if far not in known:
            raise InputError(
                f"--far must be one the run was measured at, {', '.join(f'{f:g}' for f in known)}, "
                f"got {far:g}; lower rates need more pictures of validation"
            )
        return known[far]


def set_thresholds(
    trained: Trained,
    validation: ImageSet,
    test: ImageSet | None,
    *,
    flip: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Thresholds:
    """Thresholds at false-accept rates from people who did not train; they stand in the run.

    All pairs of the pictures of a part are compared: at most 10 of a person and 3,000 in all,
    which are drawn.

    Args:
        trained: the model.
        validation: its pictures set the thresholds.
        test: its pictures show what these are worth; None: nothing does.
        flip: compare rows of picture and mirror image.
        seed: of the draw.
        progress: called while pictures are embedded.

    Raises:
        InputError: a part has no two pictures of one person, or one person only, or too few pairs
            for any rate.
    """
    chosen = _pairs_of(trained, validation, "validation", flip, seed, progress)
    judged = None
    if test is not None and _comparable(test):
        judged = _pairs_of(trained, test, "test", flip, seed, progress)
    elif test is not None:
        log.warning("the test part has no two pictures of one person, so it judges no threshold")
    settings = []
    for far in FARS:
        threshold, tar = chosen.threshold_at(far), chosen.tar_at(far)
        if threshold is None or tar is None:
            continue
        there = (None, None)
        if judged is not None:
            there = (judged.far_at(threshold), float((judged.genuine > threshold).mean()))
        settings.append(Setting(far, threshold, tar, *there))
    if not settings:
        raise InputError(
            f"validation has {len(chosen.impostor)} pairs of different people, too few for a "
            f"false-accept rate of {FARS[0]}; give more pictures, or a larger --validation"
        )
    best = chosen if judged is None else judged
    pairs = {"validation genuine": len(chosen.genuine), "validation impostor": len(chosen.impostor)}
    if judged is not None:
        pairs |= {"test genuine": len(judged.genuine), "test impostor": len(judged.impostor)}
    found = Thresholds(tuple(settings), flip, pairs, best.auc, best.eer)
    about = {"identity": trained.identity, **asdict(found)}
    write_text(trained.folder / NAME, json.dumps(about, indent=2) + "\n")
    return found


def thresholds_of(trained: Trained) -> Thresholds:
    """The thresholds that a run keeps.

    Raises:
        CheckpointError: there are none, they cannot be read, or the model is another one now.
    """
    path = trained.folder / NAME
    if not path.exists():
        raise CheckpointError(
            f"{trained.folder} has no {NAME}: the run was not made by tupelo faces train, or was "
            "stopped before its end; repeat that command"
        )
    try:
        stated = json.loads(path.read_text())
        settings = tuple(Setting(**each) for each in stated.pop("settings"))
        identity = stated.pop("identity")
        found = Thresholds(settings, **stated)
        found.at(None)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; repeat tupelo faces train, which sets them anew"
        ) from error
    if identity != trained.identity:
        raise CheckpointError(
            f"{path} was made for other weights; repeat tupelo faces train, which sets them anew"
        )
    return found


def rows_of_files(
    trained: Trained, files: Sequence[Path], *, flip: bool
) -> Float[np.ndarray, "n d"]:
    """Unit rows of pictures; with `flip` those of picture and mirror image, joined.

    Raises:
        DataError: a picture is missing or damaged.
    """
    model = BothSides(trained.model) if flip else trained.model
    return embed(model, trained.prepare(list(files))).z.double().numpy()


def rows_of_set(
    trained: Trained, pictures: ImageSet, flip: bool, progress: Progress | None
) -> Float[np.ndarray, "n d"]:
    """Unit rows of a set; with `flip` those of picture and mirror image, joined."""
    model = BothSides(trained.model) if flip else trained.model
    return embed(model, pictures, progress=progress).z.double().numpy()


def _pairs_of(
    trained: Trained,
    pictures: ImageSet,
    part: str,
    flip: bool,
    seed: int,
    progress: Progress | None,
) -> Roc:
    pictures = _some(pictures, np.random.default_rng(seed))
    rows = rows_of_set(trained, pictures, flip, progress)
    first, second = np.triu_indices(len(pictures), k=1)
    scores = (rows @ rows.T)[first, second]
    same = pictures.labels[first] == pictures.labels[second]
    if not _comparable(pictures):
        raise InputError(
            f"the {part} part has {len(pictures)} pictures of {pictures.n_classes} people, and "
            "needs two people, one of them with two pictures; give more of them"
        )
    return roc(scores, same)


def _comparable(pictures: ImageSet) -> bool:
    """Whether there are pairs of both kinds."""
    counts = np.bincount(pictures.labels)
    return int(counts.max()) > 1 and int((counts > 0).sum()) > 1


def _some(pictures: ImageSet, rng: np.random.Generator) -> ImageSet:
    """At most so many of a person, and in all."""
    order = rng.permutation(len(pictures))
    labels = pictures.labels[order]
    by_person = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=pictures.n_classes)
    number = np.arange(len(order)) - (np.cumsum(counts) - counts)[labels[by_person]]
    kept = order[by_person[number < OF_A_PERSON]]
    return pictures.subset(np.sort(rng.permutation(kept)[:COMPARED_AT_MOST]))
