"""Scores of videos equal naive loops over their frames."""

import math

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.evaluation import videos as v


def made(seed=0, n=40, of=6):
    rng = np.random.default_rng(seed)
    videos = np.concatenate([np.arange(of), rng.integers(0, of, n - of)]) * 3
    return rng.normal(size=(n, 5)), videos, 3 * rng.integers(0, of, (20, 2))


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_means_of_unit_frames():
    rows, videos, pairs = made()

    def mean(video):
        frames = [row / math.sqrt(float(row @ row)) for row in rows[videos == video]]
        return sum(frames) / len(frames)

    expected = [cosine(mean(one), mean(other)) for one, other in pairs]
    assert v.video_scores(rows, videos, pairs) == pytest.approx(expected, abs=1e-12)
    scaled = rows * np.linspace(1, 50, len(rows))[:, None]  # length of a frame has no say
    assert v.video_scores(scaled, videos, pairs) == pytest.approx(expected, abs=1e-12)


def test_all_pairs_of_frames_where_they_are_few():
    rows, videos, pairs = made()
    expected = [
        np.mean([cosine(a, b) for a in rows[videos == one] for b in rows[videos == other]])
        for one, other in pairs
    ]
    assert v.frame_pair_scores(rows, videos, pairs) == pytest.approx(expected, abs=1e-12)


def test_drawn_pairs_of_frames_are_fixed_and_different_ones():
    rows, videos, pairs = made(n=200)
    found = v.frame_pair_scores(rows, videos, pairs, most=7)
    assert np.array_equal(found, v.frame_pair_scores(rows, videos, pairs, most=7))
    assert np.array_equal(found[::-1], v.frame_pair_scores(rows, videos, pairs[::-1], most=7))
    assert np.array_equal(found, v.frame_pair_scores(rows, videos, pairs[:, ::-1], most=7))
    assert not np.allclose(found, v.frame_pair_scores(rows, videos, pairs, most=7, seed=1))
    # frames whose products tell which pairs were drawn: all different, so the mean of 99 of 100
    # misses exactly one
    products = 10.0 ** -np.arange(100)
    left = np.array([[1.0, 0.0]])
    right = np.stack([products, np.sqrt(1 - products**2)], axis=1)
    score = v.frame_pair_scores(
        np.concatenate([left, right]), np.repeat([0, 1], [1, 100]), np.array([[0, 1]]), most=99
    )
    missing = products.sum() - 99 * score[0]
    assert np.abs(missing - products).min() < 1e-12


def test_refusals():
    rows, videos, pairs = made()
    with pytest.raises(InputError, match="pairs name 1 videos without frames, first 99; embed"):
        v.video_scores(rows, videos, np.array([[0, 99]]))
    with pytest.raises(InputError, match="frames of video 3 cancel to a mean of zero"):
        v.video_scores(np.array([[1.0], [-2.0]]), np.array([3, 3]), np.array([[3, 3]]))
    with pytest.raises(InputError, match="most must be at least 1 pair of frames, got 0"):
        v.frame_pair_scores(rows, videos, pairs, most=0)
    with pytest.raises(InputError, match="seed and numbers of videos must be at least 0, got -1"):
        v.frame_pair_scores(rows, videos, pairs, seed=-1)
    rows[4] = np.nan
    with pytest.raises(InputError, match="rows must be finite and not zero; 1 of 40 are not"):
        v.video_scores(rows, videos, pairs)
