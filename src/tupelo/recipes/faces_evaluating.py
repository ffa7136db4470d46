"""The protocols of LFW and YouTube Faces, on features of any origin.

    tupelo faces evaluate lfw runs/faces

Expected time: that of embedding the pictures; the protocols take seconds.
Expected result: accuracy of ten folds with its standard error, AUC, EER, TAR at FAR, a page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tupelo import evaluation
from tupelo.data.features import match
from tupelo.data.official import ytf
from tupelo.data.official.protocol import PairList
from tupelo.errors import InputError
from tupelo.evaluation import FoldAccuracy, Roc
from tupelo.evaluation.verification import is_constant
from tupelo.recipes.face_features import Faces

FARS = (0.1, 0.01, 0.001)
COLLAPSED = "all scores are equal: the features have collapsed, and the accuracy is that of chance"
OPTIMISTIC = (
    "the threshold was chosen on these very pairs, so the accuracy is too good; give "
    "--threshold-pairs, a list of other people"
)
VideoScore = Callable[
    [Float[np.ndarray, "n d"], Int[np.ndarray, " n"], Int[np.ndarray, "p 2"]],
    Float[np.ndarray, " p"],
]


@dataclass(frozen=True, eq=False)
class PairsJudged:
    """What pairs in folds came to.

    Attributes:
        protocol: "LFW" or "YTF".
        about: what was compared, and how.
        listed: the pairs.
        scores: of each pair, as it was decided.
        accuracy: over folds; None where the list is one fold.
        at: accuracy at one threshold, where the list is one fold.
        threshold: of `at`.
        roc: of the scores.
        notes: to be read beside the numbers.
    """

    protocol: str
    about: dict[str, Any]
    listed: PairList
    scores: Float[np.ndarray, " n"]
    accuracy: FoldAccuracy | None
    at: float | None
    threshold: float | None
    roc: Roc
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain values; null where a rate cannot be measured."""
        found: dict[str, Any] = {
            "protocol": self.protocol,
            **self.about,
            "pairs": len(self.scores),
            "folds": self.listed.n_folds,
        }
        if self.accuracy is None:
            found |= {"accuracy": self.at, "threshold": self.threshold}
        else:
            found |= {
                "accuracy": self.accuracy.accuracy,
                "standard_error": self.accuracy.standard_error,
                "per_fold": list(self.accuracy.per_fold),
                "thresholds": list(self.accuracy.thresholds),
            }
        return found | {
            "collapsed": is_constant(self.scores),
            "auc": self.roc.auc,
            "eer": self.roc.eer,
            "tar_at_far": {f"{far:g}": self.roc.tar_at(far) for far in FARS},
            "threshold_at_far": {f"{far:g}": self.roc.threshold_at(far) for far in FARS},
            "notes": list(self.notes),
        }


def judge_lfw(
    faces: Faces,
    listed: PairList,
    *,
    center: bool = False,
    choose_on: PairList | None = None,
    about: dict[str, Any] | None = None,
) -> PairsJudged:
    """Pairs of pictures.

    Args:
        faces: their features.
        listed: the pairs, in folds.
        center: subtract the mean feature of the other folds before normalising.
        choose_on: for a list of one fold, other pairs to choose the threshold on; None: its own.
        about: what else is to stand in the results.

    Raises:
        DataError: a picture is missing.
        InputError: `center` with one fold, or `choose_on` with several.
    """
    if listed.n_folds > 1 and choose_on is not None:
        raise InputError(
            "--threshold-pairs is for a list of one fold; this one chooses the threshold of each "
            "fold on the others"
        )
    if listed.n_folds == 1 and center:
        raise InputError("--center takes the mean of other folds, and this list is one fold")
    others = () if choose_on is None else choose_on.names
    names = list(dict.fromkeys((*listed.names, *others)))
    rows = faces.rows(match(names, faces.names, faces.where), None)
    told = {**faces.told, "center": center, **(about or {})}
    if center:
        scores = evaluation.centred_scores(rows, listed.pairs, listed.folds)
    else:
        scores = evaluation.pair_scores(rows, listed.pairs)
    if choose_on is None:
        return _judged("LFW", told, listed, scores)
    number = {name: place for place, name in enumerate(names)}
    place = np.array([number[name] for name in choose_on.names])
    apart = evaluation.pair_scores(rows, place[choose_on.pairs])
    threshold = evaluation.best_threshold(apart, choose_on.same)
    return _judged("LFW", told, listed, scores, threshold)


def judge_ytf(
    faces: Faces,
    listed: PairList,
    *,
    score: VideoScore = evaluation.video_scores,
    frames: int | None = None,
    about: dict[str, Any] | None = None,
) -> PairsJudged:
    """Pairs of videos.

    Args:
        faces: features of frames.
        listed: the pairs, in folds.
        score: of pairs of videos.
        frames: of each video, evenly spread; None: all.
        about: what else is to stand in the results.

    Raises:
        DataError: a video has no frames.
    """
    places, videos = ytf.frames(faces.names, listed.names, faces.where, most=frames)
    rows = faces.rows(places, None)
    told = {**faces.told, "frames": len(places), "videos": len(listed.names), **(about or {})}
    return _judged("YTF", told, listed, score(rows, videos, listed.pairs))


def _judged(
    protocol: str,
    about: dict[str, Any],
    listed: PairList,
    scores: Float[np.ndarray, " n"] | Float[np.ndarray, "f n"],
    threshold: float | None = None,
) -> PairsJudged:
    notes = []
    if listed.n_folds > 1:
        accuracy = evaluation.fold_accuracy(scores, listed.same, listed.folds)
        if scores.ndim == 2:
            fold = np.unique(listed.folds, return_inverse=True)[1]
            scores = scores[fold, np.arange(len(fold))]
        at = None
    else:
        accuracy = None
        if threshold is None:
            threshold = evaluation.best_threshold(scores, listed.same)
            notes.append(OPTIMISTIC)
        at = evaluation.accuracy_at(scores, listed.same, threshold)
        if is_constant(scores):
            at = 0.5
    if is_constant(scores):
        notes.insert(0, COLLAPSED)
    roc = evaluation.roc(scores, listed.same)
    return PairsJudged(protocol, about, listed, scores, accuracy, at, threshold, roc, tuple(notes))
