"""Clustering quality of an embedding: k-means against the labels, over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from tupelo.errors import InputError
from tupelo.evaluation import relevance


@dataclass(frozen=True)
class ClusteringReport:
    """Mean and standard deviation (ddof 0) over k-means seeds; every score is at most 1.

    Attributes:
        nmi: normalised mutual information, arithmetic mean of the entropies.
        ami: mutual information adjusted for chance, arithmetic mean.
        f1: F1 of the pairs put together against the pairs of one label.
        n_clusters: k of k-means.
        n_items: rows clustered.
        seeds: one k-means run each.
    """

    nmi: float
    nmi_std: float
    ami: float
    ami_std: float
    f1: float
    f1_std: float
    n_clusters: int
    n_items: int
    seeds: tuple[int, ...]

    def as_dict(self) -> dict[str, float]:
        """Scores and counts under flat names."""
        names = ("nmi", "nmi_std", "ami", "ami_std", "f1", "f1_std", "n_clusters", "n_items")
        return {name: getattr(self, name) for name in names}


def clustering(
    z: np.ndarray,
    labels: relevance.Labels,
    *,
    n_clusters: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> ClusteringReport:
    """NMI, AMI and pairwise F1 of k-means on unit rows, averaged over seeds.

    Each seed is one k-means++ start (`n_init=1`): the spread over seeds is reported instead of
    hidden by keeping the best of several starts, and 10,000 rows of 128 with hundreds of clusters
    stay a matter of seconds.

    Args:
        z: `(n, d)` floating embeddings, finite, no zero rows.
        labels: `(n,)` integers of any size, strings or tuples, numbered exactly.
        n_clusters: k, from 1 to n; `None`: the number of distinct labels.
        seeds: of k-means, at least one.

    Raises:
        InputError: embeddings not a floating, finite matrix of nonzero rows; labels of another
            length or type; n_clusters outside 1 .. n; no seeds.

    Example:
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> clustering(z, ["a", "a", "b", "b"]).f1
        1.0
    """
    if z.ndim != 2 or 0 in z.shape or z.dtype.kind != "f":
        raise InputError(
            f"z must be a floating matrix (items, width); got {z.dtype} of shape {z.shape}"
        )
    norms = np.linalg.norm(z.astype(np.float64), axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
        raise InputError(
            f"z must be finite without zero rows; {len(bad)} of {len(z)} rows are not, first row "
            f"{bad[0]}; drop them"
        )
    truth = relevance.as_items(labels, "labels")
    if len(truth) != len(z) or (isinstance(truth, np.ndarray) and truth.ndim > 1):
        raise InputError(
            f"labels must be {len(z)} integers or strings, one per row of z; got {len(truth)}"
        )
    if not len(seeds):
        raise InputError("seeds must hold at least one seed; got none")
    codes = relevance.number_together(truth, truth[:0], "labels")[0]
    k = int(codes.max()) + 1 if n_clusters is None else n_clusters
    if not 1 <= k <= len(z):
        raise InputError(f"n_clusters must be from 1 to the number of rows {len(z)}; got {k}")
    unit = (z / norms[:, None]).astype(np.float32)
    fillable = min(k, len(np.unique(unit, axis=0)))  # equal rows cannot fill different clusters
    scores = []
    for seed in seeds:
        one_start = KMeans(fillable, n_init=1, random_state=seed)  # pyright: ignore[reportArgumentType]
        found = one_start.fit_predict(unit)
        scores.append(
            (
                normalized_mutual_info_score(codes, found),
                adjusted_mutual_info_score(codes, found),
                pairwise_f1(codes, found),
            )
        )
    (nmi, ami, f1), (nmi_std, ami_std, f1_std) = np.mean(scores, axis=0), np.std(scores, axis=0)
    return ClusteringReport(
        float(nmi), float(nmi_std), float(ami), float(ami_std), float(f1), float(f1_std),
        k, len(z), tuple(int(seed) for seed in seeds),
    )  # fmt: skip


def pairwise_f1(labels: np.ndarray, clusters: np.ndarray) -> float:
    """F1 over unordered pairs: 2 TP / (pairs in one cluster + pairs of one label); 0 if TP is 0.

    Args:
        labels: `(n,)` integer codes from 0.
        clusters: `(n,)` integer codes from 0.

    Example:
        >>> pairwise_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]))
        0.5
    """
    table = sparse.coo_matrix((np.ones(len(labels), np.int64), (clusters, labels))).tocsr()
    together = _pairs(table.data)
    if together == 0:
        return 0.0
    return 2 * together / (_pairs(np.bincount(clusters)) + _pairs(np.bincount(labels)))


def _pairs(sizes: np.ndarray) -> int:
    sizes = sizes.astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())
