"""Streams of boxes and embeddings for `benchmarks/tracking.py`: many objects, no pictures."""

from dataclasses import dataclass

import numpy as np

from tupelo.tracking.boxes import overlaps

WIDTH, HEIGHT, DIM = 1920, 1080, 128
COVERED = 0.7  # an object covered by more is not detected
LOOK = 0.35  # length of the noise of an embedding beside its identity


@dataclass(frozen=True)
class Stream:
    """What all trackers are given, and the truth.

    Attributes:
        detections: boxes x, y, w, h of each frame.
        scores: of each.
        embeddings: unit rows of each.
        truth: numbers and boxes of each frame.
    """

    detections: list[np.ndarray]
    scores: list[np.ndarray]
    embeddings: list[np.ndarray]
    truth: list[tuple[np.ndarray, np.ndarray]]


def stream(objects: int, frames: int, seed: int) -> Stream:
    """People of near-constant velocity before a fixed camera, who hide each other.

    Those lower in the picture are nearer: they are taller and cover the others. Detections are
    missed in bursts and where an object is covered; there is noise and there are false ones. The
    embedding of a person who is partly covered holds a part of who covers him.
    """
    rng = np.random.default_rng((seed, objects))
    looks = _unit(rng.standard_normal((objects, DIM)))
    feet = rng.uniform((0, 350), (WIDTH, HEIGHT), (objects, 2))
    speed = rng.normal(0, (4, 0.8), (objects, 2))
    missing = np.zeros(objects, dtype=np.int64)
    found = Stream([], [], [], [])
    for _ in range(frames):
        speed += rng.normal(0, (0.15, 0.04), speed.shape)
        feet += speed
        for axis, (low, high) in enumerate(((0, WIDTH), (350, HEIGHT))):
            out = (feet[:, axis] < low) | (feet[:, axis] > high)
            speed[out, axis] *= -1
            feet[:, axis] = np.clip(feet[:, axis], low, high)
        tall = 0.22 * feet[:, 1]
        boxes = np.stack([feet[:, 0] - 0.2 * tall, feet[:, 1] - tall, 0.4 * tall, tall], 1)
        covered, by = _covered(boxes, feet[:, 1])
        missing = np.maximum(missing - 1, 0)
        begins = rng.random(objects) < 0.01
        missing[begins] = rng.integers(3, 12, begins.sum())
        seen = np.flatnonzero((missing == 0) & (covered < COVERED))
        noisy = boxes[seen] + rng.normal(0, 0.02, (len(seen), 4)) * tall[seen, None]
        noisy[:, 2:] = np.maximum(noisy[:, 2:], 4)
        mixed = (1 - covered[seen, None]) * looks[seen] + covered[seen, None] * looks[by[seen]]
        rows = _unit(mixed + LOOK * _unit(rng.standard_normal(mixed.shape)))
        score = np.clip(0.9 - 0.5 * covered[seen] + rng.normal(0, 0.05, len(seen)), 0.05, 1)
        false = rng.poisson(0.02 * objects)
        places = rng.uniform((0, 300), (WIDTH, HEIGHT - 200), (false, 2))
        extra = np.concatenate([places, np.tile([60.0, 150.0], (false, 1))], axis=1)
        found.detections.append(np.concatenate([noisy, extra]))
        found.scores.append(np.concatenate([score, rng.uniform(0.2, 0.7, false)]))
        found.embeddings.append(
            np.concatenate([rows, _unit(rng.standard_normal((false, DIM)))]).astype(np.float32)
        )
        found.truth.append((np.arange(1, objects + 1), boxes))
    return found


def far_distance(rate: float = 0.01, pairs: int = 200_000) -> float:
    """The cosine distance below which this share of pairs of different people lies.

    What calibration on held-out identities would find; the streams' own people play no role.
    """
    rng = np.random.default_rng(10**6)
    people = _unit(rng.standard_normal((2 * 1000, DIM)))
    rows = _unit(people + LOOK * _unit(rng.standard_normal(people.shape)))
    first, second = rng.integers(0, 1000, pairs), rng.integers(1000, 2000, pairs)
    return float(np.quantile(1 - np.einsum("nd,nd->n", rows[first], rows[second]), rate))


def _covered(boxes: np.ndarray, nearness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of each box that the nearer box covers most, and which one that is."""
    area = boxes[:, 2] * boxes[:, 3]
    shared = overlaps(boxes, boxes)
    shared = shared * (area[:, None] + area) / (1 + shared) / area[:, None]
    shared[nearness[None] <= nearness[:, None]] = 0
    return shared.max(axis=1), shared.argmax(axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
