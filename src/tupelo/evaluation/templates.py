"""Templates, which are sets of pictures and video frames of one person: pooling and searching.

The rules are those of IJB-A: Klare et al., "Pushing the Frontiers of Unconstrained Face Detection
and Recognition", CVPR 2015. A template is searched for, or compared, as one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from tupelo.errors import InputError
from tupelo.evaluation.verification import cosines, threshold_for, unit

LOWEST = -1.0  # score of a template in which no face was found: the smallest cosine
BETAS = tuple(float(beta) for beta in range(21))


@dataclass(frozen=True)
class Pooled:
    """Templates as rows.

    Attributes:
        templates: their numbers, ascending, those without a face too.
        z: unit rows; zeros where no face was found.
        enrolled: whether there is a face to compare.
        media: unit rows of media, by template and then by medium.
        starts: the first medium of each enrolled template.
    """

    templates: Int[np.ndarray, " t"]
    z: Float[np.ndarray, "t d"]
    enrolled: Bool[np.ndarray, " t"]
    media: Float[np.ndarray, "m d"]
    starts: Int[np.ndarray, " e"]

    def rows(self, templates: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The rows of templates by their numbers.

        Raises:
            InputError: one is not there.
        """
        place = np.searchsorted(self.templates, templates).clip(max=len(self.templates) - 1)
        absent = np.unique(templates[self.templates[place] != templates])
        if len(absent):
            raise InputError(
                f"{len(absent)} templates have no pictures listed, first {absent[0]}; give the "
                "pictures of every template that is compared"
            )
        return place


def pool(
    rows: Float[np.ndarray, "n d"],
    templates: Int[np.ndarray, " n"],
    media: Int[np.ndarray, " n"],
    *,
    weights: Float[np.ndarray, " n"] | None = None,
    found: Bool[np.ndarray, " n"] | None = None,
) -> Pooled:
    """Frames to media to templates: means of means, then unit rows.

    Args:
        rows: features of pictures and frames, taken at length 1.
        templates: number of the template of each row.
        media: number of the video or still of each row; frames of one are averaged first.
        weights: of frames within their medium, above 0; None: all the same.
        found: whether a face was found; rows without one are not looked at, and a template
            without any is not enrolled. None: in all.

    Raises:
        InputError: a row is not finite or zero, weights are not above 0, or rows cancel.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> pool(rows, np.array([5, 5, 5]), np.array([1, 2, 2])).z.round(3)
        array([[0.707, 0.707]])
    """
    found = np.ones(len(rows), bool) if found is None else found
    weights = np.ones(len(rows)) if weights is None else weights
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError(
            f"weights must be finite and above 0, got {weights.min():g}; drop such rows"
        )
    numbers = np.unique(templates)
    z = unit(rows[found], "rows of templates") * weights[found, None]
    keys = np.stack([templates[found], media[found]], axis=1)
    both, place = np.unique(keys, axis=0, return_inverse=True)
    frames = np.zeros((len(both), rows.shape[1]))
    np.add.at(frames, place.reshape(-1), z)
    total = np.bincount(place.reshape(-1), weights[found], minlength=len(both))
    means = frames / total[:, None]
    row = np.searchsorted(numbers, both[:, 0])
    pooled = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(pooled, row, means)
    n_media = np.bincount(row, minlength=len(numbers))
    enrolled = n_media > 0
    pooled[enrolled] /= n_media[enrolled, None]
    _check_direction(pooled[enrolled], numbers[enrolled])
    _check_direction(means, both[:, 0])
    pooled[enrolled] = unit(pooled[enrolled], "templates")
    starts = np.searchsorted(row, np.flatnonzero(enrolled))
    return Pooled(numbers, pooled, enrolled, unit(means, "media"), starts)


def template_scores(pooled: Pooled, pairs: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """Cosine of two templates; -1 where no face was found in one.

    Args:
        pooled: the templates.
        pairs: numbers of two templates.

    Raises:
        InputError: a pair names a template that is not there.
    """
    place = pooled.rows(pairs.reshape(-1)).reshape(pairs.shape)
    return np.where(pooled.enrolled[place].all(axis=1), cosines(pooled.z, place), LOWEST)


def softmax_scores(
    pooled: Pooled, pairs: Int[np.ndarray, "n 2"], *, betas: Sequence[float] = BETAS
) -> Float[np.ndarray, " n"]:
    """Cosines of all media of two templates, weighted by their own softmax; -1 without a face.

    The mean over beta of sum(s exp(beta s)) / sum(exp(beta s)): from the mean of all cosines
    (beta 0) towards the largest.

    Source: Masi et al., "Pose-Aware Face Recognition in the Wild", CVPR 2016, as recalled; the
    paper was not at hand.

    Args:
        pooled: the templates.
        pairs: numbers of two templates.
        betas: one or more.

    Raises:
        InputError: a pair names a template that is not there.
    """
    place = pooled.rows(pairs.reshape(-1)).reshape(pairs.shape)
    ends = np.append(pooled.starts[1:], len(pooled.media))
    rank = np.cumsum(pooled.enrolled) - 1  # among the enrolled
    scores = np.full(len(pairs), LOWEST)
    both = pooled.enrolled[place].all(axis=1)
    for first in np.unique(place[both, 0]):
        mine = np.flatnonzero(both & (place[:, 0] == first))
        others = rank[place[mine, 1]]
        sizes = ends[others] - pooled.starts[others]
        begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        chosen = np.repeat(pooled.starts[others] - begins, sizes) + np.arange(sizes.sum())
        own = pooled.media[pooled.starts[rank[first]] : ends[rank[first]]]
        s = own @ pooled.media[chosen].T
        means = []
        for beta in betas:
            weight = np.exp(beta * (s - 1))
            above = np.add.reduceat((s * weight).sum(axis=0), begins)
            means.append(above / np.add.reduceat(weight.sum(axis=0), begins))
        scores[mine] = np.mean(means, axis=0)
    return scores


@dataclass(frozen=True)
class Identified:
    """Probes searched for in a gallery; `identify` makes it.

    Attributes:
        ranks: of the mate of each mated probe, from 1; ties count against it.
        mate_scores: of the same probes.
        highest: score of each probe without a mate, over the whole gallery.
        n_gallery: subjects searched.
    """

    ranks: Int[np.ndarray, " m"]
    mate_scores: Float[np.ndarray, " m"]
    highest: Float[np.ndarray, " o"]
    n_gallery: int

    def cmc(self, rank: int) -> float:
        """Share of mated probes whose mate is among the first `rank`.

        Raises:
            InputError: rank below 1.
        """
        if rank < 1:
            raise InputError(f"rank must be at least 1, got {rank}")
        return float((self.ranks <= rank).mean())

    def threshold_at(self, fpir: float) -> float:
        """The smallest threshold that at most a share of the probes without a mate lie above.

        Raises:
            InputError: fpir outside (0, 1), or every probe has a mate.
        """
        if not len(self.highest):
            raise InputError(
                f"fpir={fpir} cannot be measured: all probes have a mate in the gallery; give "
                "probes of subjects that are not in it, or measure the closed set alone"
            )
        return threshold_for(self.highest, fpir, "fpir")

    def tpir_at(self, fpir: float, *, max_rank: int = 20) -> float:
        """Share of mated probes found: mate above `threshold_at(fpir)`, at rank `max_rank` or less.

        Args:
            fpir: share of probes without a mate that may raise an alarm.
            max_rank: length of the list of candidates.

        Raises:
            InputError: see `threshold_at`; max_rank below 1.
        """
        if max_rank < 1:
            raise InputError(f"max_rank must be at least 1, got {max_rank}")
        found = (self.mate_scores > self.threshold_at(fpir)) & (self.ranks <= max_rank)
        return float(found.mean())


def identify(
    scores: Float[np.ndarray, "p g"],
    probes: Int[np.ndarray, " p"],
    gallery: Int[np.ndarray, " g"],
) -> Identified:
    """Search every probe in the gallery.

    The rank of a mate is 1 + the number of other subjects' templates that score as high or higher;
    of several templates of the mate the highest counts.

    Args:
        scores: of probes against the gallery, finite.
        probes: subject of each probe.
        gallery: subject of each template of the gallery.

    Raises:
        InputError: no probe has a mate, scores are not finite, or one side is empty.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.7]])
        >>> found = identify(scores, np.array([1, 2, 3]), np.array([1, 2]))
        >>> found.ranks.tolist(), found.cmc(1), found.tpir_at(0.5)
        ([1, 2], 0.5, 0.5)
    """
    if not scores.size:
        raise InputError(
            f"probes and gallery must both hold templates, got {len(probes)} and {len(gallery)}"
        )
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise InputError(
            f"scores must be finite; those of {len(bad)} probes are not, first {bad[0]}; look for "
            "NaN features"
        )
    mates = probes[:, None] == gallery[None]
    mated = mates.any(axis=1)
    if not mated.any():
        raise InputError(
            f"none of the {len(probes)} probes has a mate among the {len(gallery)} templates of "
            "the gallery; are their subjects numbered alike?"
        )
    mate = np.where(mates[mated], scores[mated], -np.inf).max(axis=1)
    rivals = np.where(mates[mated], -np.inf, scores[mated])
    ranks = 1 + (rivals >= mate[:, None]).sum(axis=1)
    return Identified(ranks, mate, scores[~mated].max(axis=1), len(np.unique(gallery)))


@dataclass(frozen=True)
class Spread:
    """A measure over splits.

    Attributes:
        mean: None where no split could be measured.
        std: with ddof 1; None with fewer than two splits.
        n_splits: splits in which it could be measured.
    """

    mean: float | None
    std: float | None
    n_splits: int

    def __str__(self) -> str:
        if self.mean is None:
            return "not measurable"
        spread = "" if self.std is None else f" ± {100 * self.std:.2f}"
        return f"{100 * self.mean:.2f}{spread} %"


def over_splits(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of what could be measured.

    Example:
        >>> print(over_splits([0.9, None, 0.8]))
        85.00 ± 7.07 %
    """
    known = [value for value in values if value is not None]
    if not known:
        return Spread(None, None, 0)
    mean = math.fsum(known) / len(known)
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(mean, std, len(known))


def _check_direction(means: Float[np.ndarray, "n d"], templates: Int[np.ndarray, " n"]) -> None:
    lost = np.flatnonzero(np.linalg.norm(means, axis=1) < 1e-12)
    if len(lost):
        raise InputError(
            f"the pictures of template {templates[lost[0]]} cancel to a mean of zero, which has no "
            "direction; look at its features"
        )
