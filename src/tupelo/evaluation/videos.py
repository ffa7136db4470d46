"""Scores of pairs of videos, each a set of frames."""

import numpy as np
from jaxtyping import Float, Int

from tupelo.errors import InputError
from tupelo.evaluation.verification import cosines, unit

FRAME_PAIRS = 100


def video_scores(
    rows: Float[np.ndarray, "n d"], videos: Int[np.ndarray, " n"], pairs: Int[np.ndarray, "p 2"]
) -> Float[np.ndarray, " p"]:
    """Cosine of two videos, each the normalised mean of its normalised frames.

    Args:
        rows: features of frames.
        videos: number of the video of each frame.
        pairs: numbers of two videos.

    Raises:
        InputError: a row is not finite or zero, a video of a pair has no frames, or its frames
            cancel.

    Example:
        >>> frames = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> video_scores(frames, np.array([7, 7, 9]), np.array([[7, 9]])).round(4)
        array([0.7071])
    """
    z = _checked(rows, videos, pairs)
    numbers, place = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(numbers), z.shape[1]))
    np.add.at(sums, place, z)
    norms = np.linalg.norm(sums, axis=1)
    lost = np.flatnonzero(norms < 1e-12 * np.bincount(place))
    if len(lost):
        raise InputError(
            f"the frames of video {numbers[lost[0]]} cancel to a mean of zero, which has no "
            "direction; look at its features"
        )
    return cosines(sums / norms[:, None], np.searchsorted(numbers, pairs))


def frame_pair_scores(
    rows: Float[np.ndarray, "n d"],
    videos: Int[np.ndarray, " n"],
    pairs: Int[np.ndarray, "p 2"],
    *,
    most: int = FRAME_PAIRS,
    seed: int = 0,
) -> Float[np.ndarray, " p"]:
    """Mean cosine over pairs of a frame of one video and a frame of the other.

    All pairs of frames where they are `most` or fewer, else so many drawn without replacement. The
    draw depends on the two videos and the seed alone, neither on their order nor on other pairs.

    Args:
        rows: features of frames.
        videos: number of the video of each frame, from 0.
        pairs: numbers of two videos.
        most: pairs of frames, at least 1.
        seed: of the draw, at least 0.

    Raises:
        InputError: a row is not finite or zero, a video of a pair has no frames, `most` is below 1
            or a number below 0.

    Example:
        >>> frames = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> frame_pair_scores(frames, np.array([7, 7, 9]), np.array([[7, 9]]))
        array([0.5])
    """
    if most < 1:
        raise InputError(f"most must be at least 1 pair of frames, got {most}")
    z = _checked(rows, videos, pairs)
    if seed < 0 or videos.min() < 0:
        raise InputError(
            f"seed and numbers of videos must be at least 0, got {min(seed, int(videos.min()))}"
        )
    order = np.argsort(videos, kind="stable")
    numbers, starts = np.unique(videos[order], return_index=True)
    members = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
    found = np.empty(len(pairs))
    for row, (one, other) in enumerate(np.sort(pairs, axis=1).tolist()):
        left, right = members[one], members[other]
        n = len(left) * len(right)
        chosen = np.arange(n)
        if n > most:
            chosen = np.random.default_rng([seed, one, other]).choice(n, most, replace=False)
        a, b = np.divmod(chosen, len(right))
        found[row] = cosines(z, np.stack([left[a], right[b]], axis=1)).mean()
    return found


def _checked(
    rows: Float[np.ndarray, "n d"], videos: Int[np.ndarray, " n"], pairs: Int[np.ndarray, "p 2"]
) -> Float[np.ndarray, "n d"]:
    absent = np.setdiff1d(pairs, videos)
    if len(absent):
        raise InputError(
            f"pairs name {len(absent)} videos without frames, first {absent[0]}; embed their "
            "frames too"
        )
    return unit(rows, "rows")
