"""Embeddings drawn in two dimensions: a sample, its projection, and how each point looks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

POINTS = 2_000  # t-SNE of as many takes some 10 s on one core
COMPONENTS = 50  # kept for t-SNE, which is slow in more
LEAST_FOR_TSNE = 8  # points
SPREAD = 1e-6  # rows nearer to each other than this have no shape to be drawn


class Projection(NamedTuple):
    """Places in two dimensions, and how they were found: "t-SNE" or "PCA"."""

    xy: Float[np.ndarray, "n 2"]
    method: str


def sample(labels: np.ndarray, at_most: int = POINTS, seed: int = 0) -> Int64[np.ndarray, " n"]:
    """Rows in which every class has its share, ascending; all of them when they are few.

    Args:
        labels: class numbers (n,), or tags (n, tags), of which the first counts.
        at_most: how many rows.
        seed: of the draw.

    >>> sample(np.repeat([0, 1], [30, 10]), 4).tolist() == sorted(sample(np.zeros(40), 4).tolist())
    False
    >>> (sample(np.repeat([0, 1], [30, 10]), 4) >= 30).sum()
    np.int64(1)
    """
    classes = first_label(labels)
    if len(classes) <= at_most:
        return np.arange(len(classes))
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    ordered = shuffled[np.argsort(classes[shuffled], kind="stable")]
    places = np.linspace(0, len(ordered), at_most, endpoint=False).astype(np.int64)
    return np.sort(ordered[places])


def first_label(labels: np.ndarray) -> np.ndarray:
    """One number a picture: its class, or the first of its tags."""
    return labels.argmax(axis=1) if labels.ndim == 2 else labels


def project(z: Float[np.ndarray, "n d"], seed: int = 0) -> Projection | None:
    """Two dimensions in which neighbours stay neighbours as far as possible.

    t-SNE started from the first two principal components; below 8 points the components alone.

    Args:
        z: unit rows.
        seed: of t-SNE.

    Returns:
        None where there is nothing to draw: one row, or all at one point.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(z)
    centred = z.astype(np.float64) - z.mean(axis=0)
    if n < 2 or np.abs(centred).max() < SPREAD:
        return None
    components = min(COMPONENTS, n, z.shape[1])
    reduced = PCA(components, svd_solver="full").fit_transform(centred)
    flat = np.column_stack([reduced, np.zeros(n)])[:, :2]  # a second axis where there is only one
    if n < LEAST_FOR_TSNE or z.shape[1] < 2:
        return Projection(flat, "PCA")
    start = flat / flat[:, 0].std() * 1e-4
    start += np.random.default_rng(seed).normal(0, 1e-6, start.shape)  # equal rows must part
    tsne = TSNE(
        2,
        perplexity=min(30.0, (n - 1) / 3),
        init=start.astype(np.float32),
        random_state=seed,
    )
    return Projection(tsne.fit_transform(reduced.astype(np.float32)).astype(np.float64), "t-SNE")
