"""DREML: classes merged at random, differently for each member, and what a member learns.

Source: Xuan, Souvenir, Pless, "Deep Randomized Ensembles for Metric Learning", ECCV 2018, and the
authors' code (`createID`).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.losses.tuples import class_indices
from tupelo.types import ClassLoss, Embedded

Bags = Int64[np.ndarray, "n m"]
"""The meta-class of each of n classes for each of m members."""


def meta_classes(n_classes: int, n_meta: int, learners: int, *, seed: int = 0) -> Bags:
    """Merge classes at random into meta-classes, for each member independently.

    As many random permutations of the meta-classes as are needed are joined, cut to one entry for
    each class, and shuffled. So the meta-classes of a member hold equally many classes, or differ
    by one. The column of a member depends on the seed and its number alone, so that members can be
    added later.

    Args:
        n_classes: C, training classes.
        n_meta: D, in [2, C]; C merges nothing.
        learners: L, members, >= 1.
        seed: >= 0.

    Returns:
        (C, L), entries in 0..D-1, each occurring in every column.

    Raises:
        InputError: an argument is out of its range.

    >>> bags = meta_classes(100, 12, learners=48)
    >>> bags.shape, sorted(np.bincount(bags[:, 0]).tolist())
    ((100, 48), [8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9])
    """
    if n_meta < 2:
        raise InputError(
            f"n_meta must be at least 2, since one meta-class leaves nothing to learn, got {n_meta}"
        )
    if n_meta > n_classes:
        raise InputError(
            f"n_meta must not exceed the {n_classes} classes, since each meta-class needs one, got "
            f"{n_meta}"
        )
    if learners < 1 or seed < 0:
        raise InputError(f"need learners >= 1 and seed >= 0, got {learners} and {seed}")
    return np.stack([_column(n_classes, n_meta, seed, number) for number in range(learners)], 1)


def _column(n_classes: int, n_meta: int, seed: int, number: int) -> Int64[np.ndarray, " n"]:
    rng = np.random.default_rng([seed, number])
    rounds = -(-n_classes // n_meta)
    drawn = np.concatenate([rng.permutation(n_meta) for _ in range(rounds)])[:n_classes]
    return rng.permutation(drawn)


class MetaClassification(ClassLoss):
    """Softmax over meta-classes: output number i of a network speaks for meta-class i.

    -log( exp(s_y) / sum_j exp(s_j) ), s = v P^T with fixed one-hot proxies P = I, so s = v: plain
    classification of the un-normalised output, as in the authors' later code. The others are:

    Args:
        n_meta: D, as wide as the embedding, >= 2.
        normalize: of unit rows, as in the code of August 2018. There is no temperature, so the
            loss cannot fall below log(1 + (D-1) exp(-sqrt(D/(D-1)))), 1.583 for D = 12; the
            authors advise against it.
        nca: the sum leaves the own meta-class out: the equation of Proxy-NCA that the paper refers
            to, and the authors' code does not follow.
        distance: minus squared distances of unit rows to the proxies take the place of s, as the
            paper is written.

    Raises:
        InputError: n_meta < 2; when called: embeddings of another width, labels that are no
            meta-classes, or a zero row where unit rows are needed.

    >>> loss = MetaClassification(3)
    >>> round(loss(Embedded.of(torch.tensor([[2.0, 1.0, 0.0]])), torch.tensor([1])).item(), 4)
    1.4076
    """

    def __init__(
        self, n_meta: int, *, normalize: bool = False, nca: bool = False, distance: bool = False
    ):
        super().__init__()
        if n_meta < 2:
            raise InputError(f"n_meta must be at least 2, got {n_meta}")
        self.n_meta = n_meta
        self.normalize = normalize
        self.nca = nca
        self.distance = distance

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items; `labels` are meta-classes."""
        if embedded.raw.shape[1] != self.n_meta:
            raise InputError(
                f"the embedding must be as wide as there are meta-classes, n_meta={self.n_meta}, "
                f"got width {embedded.raw.shape[1]}; build the model with dim={self.n_meta}"
            )
        labels = class_indices(labels, len(embedded.raw), self.n_meta, type(self).__name__)
        with torch.autocast(embedded.raw.device.type, enabled=False):
            scores = self._scores(embedded)
            if not self.nca:
                return F.cross_entropy(scores, labels, reduction="none")
            own = scores.gather(1, labels[:, None])
            return scores.scatter(1, labels[:, None], -math.inf).logsumexp(1) - own[:, 0]

    def _scores(self, embedded: Embedded) -> Float[Tensor, "b n"]:
        if not (self.normalize or self.distance):
            return embedded.raw if embedded.raw.dtype == torch.float64 else embedded.raw.float()
        z = embedded.z
        zero = torch.nonzero((z == 0).all(dim=1)).flatten().tolist()
        if zero:
            raise InputError(
                f"{len(zero)} of {len(z)} rows are zero and have no direction, the first is row "
                f"{zero[0]}; train with normalize=False and distance=False, or at a lower rate"
            )
        # |z - p_i|^2 = |z|^2 + 1 - 2 z_i, and |z| = 1
        return 2 * z - 2 if self.distance else z


def joined(features: Sequence[Float[np.ndarray, "n _"]], *, dtype=np.float32) -> np.ndarray:
    """Join the outputs of members that were kept one after the other.

    A member can be trained, asked for its output, and given up; its outputs are all that retrieval
    needs. Rows of each member are brought to unit length and joined, so that the product of two
    rows is the sum of the members' cosines and the squared length of a row is the number of
    members.

    Args:
        features: (n, d) of each member, of the same n pictures in the same order.
        dtype: of the result; `np.float16` halves a file.

    Returns:
        (n, sum of d).

    Raises:
        InputError: no member; different numbers of pictures; a row that is zero or not finite,
            which has no direction.

    >>> joined([np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])]).tolist()
    [[0.6000000238418579, 0.800000011920929, 0.0, 1.0]]
    """
    if not len(features):
        raise InputError("features must hold the output of one or more members, got none")
    counts = [len(rows) for rows in features]
    if len(set(counts)) > 1:
        raise InputError(
            f"all members must have embedded the same pictures, got {counts} rows of members 0 to "
            f"{len(counts) - 1}"
        )
    units = []
    for number, rows in enumerate(features):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        lost = np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)))
        if len(lost):
            raise InputError(
                f"features of member {number} have {len(lost)} rows without a direction (zero or "
                f"not finite), the first is row {lost[0]}; leave that picture or member out"
            )
        units.append(rows / lengths)
    return np.concatenate(units, axis=1).astype(dtype)
