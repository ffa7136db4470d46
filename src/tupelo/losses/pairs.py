"""Losses on all pairs of a comparison: `Comparison -> terms (b,)` whose mean is the loss.

Memory is O(b c) for every one of them: positives are few and handled as a list, negatives as
masked rows. All work on whatever the comparison holds: a batch, a memory, synthetic candidates.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.losses.triplet_sums import triplet_sums
from tupelo.types import PairLoss

# stands for log(0) in masked rows: finite, so that a row without any entry has no NaN gradient
NOTHING = -1e30
EMPTY = -1e29  # a log-sum at or below this had no entry


class Contrastive(PairLoss):
    """Positives nearer than one margin, negatives farther than another.

    The mean over active positive pairs of max(D - positive_margin, 0) plus the mean over active
    negative pairs of max(negative_margin - D, 0), D Euclidean, or their squares. Source: Hadsell,
    Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, who
    square both (`squared=True`) and have no positive margin.

    `Contrastive(squared=True, average="pairs")` is their equation 4, and the usual loss of a
    Siamese network: mean over pairs of [y D^2 + (1 - y) max(margin - D, 0)^2] / 2. It wants as many
    pairs of different classes as of the same, see `objectives.OnBalancedPairs`.

    Args:
        positive_margin: distance units, >= 0.
        negative_margin: distance units, > positive_margin.
        squared: square the two hinges.
        average: over the "active" pairs of each kind, the two means being added; or half the mean
            over all "pairs" of both kinds.

    Raises:
        InputError: margins out of order or negative, or another average.
    """

    def __init__(
        self,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        *,
        squared: bool = False,
        average: str = "active",
    ):
        super().__init__()
        if average not in ("active", "pairs"):
            raise InputError(f"average must be 'active' or 'pairs', got {average!r}")
        if not 0 <= positive_margin < negative_margin:
            raise InputError(
                "contrastive loss needs 0 <= positive_margin < negative_margin, got "
                f"{positive_margin} and {negative_margin}"
            )
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        self.squared = squared
        self.average = average

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        distance = comparison.distance
        near = F.relu(distance[rows, columns] - self.positive_margin)
        far = F.relu(self.negative_margin - distance)
        far = torch.where(comparison.negative, far, 0.0)
        active_near, active_far = ((x > 0).sum().clamp(min=1).to(x.dtype) for x in (near, far))
        if self.average == "pairs":
            active_near = active_far = 2 * (len(rows) + comparison.negative.sum()).to(far.dtype)
        if self.squared:
            near, far = near.square(), far.square()
        b = len(distance)
        return _by_row(near, rows, b) * (b / active_near) + far.sum(1) * (b / active_far)


class SquaredContrastive(PairLoss):
    """Contrastive loss on squared distances: D^2 of positives, max(margin - D^2, 0) of negatives.

    Source: Kim et al., "Attention-based Ensemble for Deep Metric Learning", ECCV 2018, who sum
    over their pairs and divide by the number of them. With unit rows D^2 = 2 - 2 s, so at margin
    1 a negative counts while its cosine s is above 1/2.

    Args:
        margin: in squared distance, > 0; unit rows are at most 4 apart.
        average: "kinds", the mean over positive pairs plus the mean over negative pairs, whatever
            their numbers; or "pairs", the mean over all of them, for pairs drawn in equal shares.

    Raises:
        InputError: `margin` is not > 0, or another average.
    """

    def __init__(self, margin: float = 1.0, *, average: str = "kinds"):
        super().__init__()
        if not margin > 0:
            raise InputError(f"margin must be > 0, in squared distance, got {margin}")
        if average not in ("kinds", "pairs"):
            raise InputError(f"average must be 'kinds' or 'pairs', got {average!r}")
        self.margin = margin
        self.average = average

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        squares = comparison.distance.square()
        b = len(squares)
        near = _by_row(squares[rows, columns], rows, b)
        far = torch.where(comparison.negative, F.relu(self.margin - squares), 0.0).sum(1)
        kinds = (comparison.positive, comparison.negative)
        positives, negatives = (kind.sum().to(squares.dtype) for kind in kinds)
        if self.average == "pairs":
            positives = negatives = positives + negatives
        return near * (b / positives.clamp(min=1)) + far * (b / negatives.clamp(min=1))


class CosineContrastive(PairLoss):
    """Cosine form of the contrastive loss, summed over pairs and divided by the anchors.

    Terms: sum over positives of max(positive - s, 0) + sum over negatives of max(s - negative, 0).
    Source: the form and thresholds that Fu et al., "Intra-class Adaptive Augmentation", IEEE TMM
    2022, train with.

    Args:
        positive: cosine that positives should exceed.
        negative: cosine that negatives should stay below.
    """

    def __init__(self, positive: float = 0.8, negative: float = 0.5):
        super().__init__()
        self.positive = positive
        self.negative = negative

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        similarity = comparison.similarity
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        near = F.relu(self.positive - similarity[rows, columns])
        far = torch.where(comparison.negative, F.relu(similarity - self.negative), 0.0)
        return _by_row(near, rows, len(similarity)) + far.sum(1)


class MultiSimilarity(PairLoss):
    """Soft sums over mined positives and negatives.

    1/alpha log(1 + sum_P exp(-alpha (s - base))) + 1/beta log(1 + sum_N exp(beta (s - base))),
    averaged over all anchors, as the authors do; code that averages over the anchors left after
    mining differs by that factor. Mining keeps a negative if s + slack > the smallest positive
    similarity and a positive if s - slack < the largest negative one; an anchor without one of
    the two contributes 0. The authors leave the row itself out by dropping positives with a cosine
    of 1 - 1e-5 or more; here it is left out by its place, and another picture that looks the same
    stays a positive, unless `items` say that it is the same. Source: Wang, Han, Huang, Dong,
    Scott, "Multi-Similarity Loss with General Pair Weighting", CVPR 2019, eqs. 10-14, there with
    beta = 50.

    Args:
        alpha: weight of positives, > 0.
        beta: weight of negatives, > 0; 40 as in the experiments that EPS and IAA build on.
        base: similarity at the centre.
        slack: mining slack; None switches mining off.
        negative_reference: where positives were filtered (EPS): compare negatives with the
            positives that are left ("kept"), or with all that the labels give ("all").

    Raises:
        InputError: alpha or beta not > 0, or an unknown `negative_reference`.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 40.0,
        base: float = 0.5,
        slack: float | None = 0.1,
        *,
        negative_reference: str = "kept",
    ):
        super().__init__()
        if not (alpha > 0 and beta > 0):
            raise InputError(f"alpha and beta must be > 0, got {alpha} and {beta}")
        if negative_reference not in ("kept", "all"):
            raise InputError(
                f"negative_reference must be 'kept' or 'all', got {negative_reference!r}"
            )
        self.alpha, self.beta, self.base, self.slack = alpha, beta, base, slack
        self.negative_reference = negative_reference

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        similarity, b = comparison.similarity, len(comparison.anchors)
        rows, columns, negative = self._mined(comparison)
        up = log_one_plus_sums((self.base - similarity[rows, columns]) * self.alpha, rows, b)
        down = _masked_logsumexp(similarity, negative, self.beta) - self.beta * self.base
        terms = up / self.alpha + F.softplus(down) / self.beta
        pulled = torch.zeros_like(terms, dtype=torch.bool).index_fill(0, rows, True)
        return torch.where(pulled & (down > EMPTY), terms, 0.0)

    @torch.no_grad()
    def _mined(self, comparison: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        """The positive pairs that are kept, as rows and columns, and the mask of negatives."""
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        negative = comparison.negative
        if self.slack is None:
            return rows, columns, negative
        similarity = comparison.similarity.detach()
        near, reference = similarity[rows, columns], (rows, columns)
        if self.negative_reference == "all":
            reference = comparison.labelled_positive.nonzero(as_tuple=True)
        lowest = similarity.new_full((len(similarity),), math.inf)
        lowest.scatter_reduce_(0, reference[0], similarity[reference], "amin")
        highest = similarity.masked_fill(~negative, -math.inf).amax(1)
        kept = near < highest[rows] + self.slack
        return (
            rows[kept],
            columns[kept],
            negative & (similarity > (lowest - self.slack)[:, None]),
        )


class BinomialDeviance(PairLoss):
    """Softplus of signed similarities, positives and negatives averaged apart.

    mean_P log(1 + exp(-alpha (s - beta))) + mean_N log(1 + exp(alpha C (s - beta))). Source: Yi,
    Lei, Li, "Deep Metric Learning for Practical Person Re-Identification", 2014, eq. 4; constants
    of Ustinova, Lempitsky, NeurIPS 2016.

    Args:
        alpha: slope, > 0.
        beta: similarity at the boundary.
        negative_cost: the C above, > 0.

    Raises:
        InputError: alpha or negative_cost not > 0.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 0.5, negative_cost: float = 25.0):
        super().__init__()
        if not (alpha > 0 and negative_cost > 0):
            raise InputError(
                f"alpha and negative_cost must be > 0, got {alpha} and {negative_cost}"
            )
        self.alpha, self.beta, self.negative_cost = alpha, beta, negative_cost

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        similarity = comparison.similarity
        b = len(similarity)
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        near = F.softplus((self.beta - similarity[rows, columns]) * self.alpha)
        far = F.softplus((similarity - self.beta) * (self.alpha * self.negative_cost))
        far = torch.where(comparison.negative, far, 0.0).sum(1)
        negatives = comparison.negative.sum().clamp(min=1).to(far.dtype)
        return _by_row(near, rows, b) * (b / max(len(rows), 1)) + far * (b / negatives)


class NTXent(PairLoss):
    """Cross-entropy of each positive pair against all negatives of its anchor (InfoNCE).

    The mean over positive pairs of -log( e^(s_ap/t) / (e^(s_ap/t) + sum_N e^(s_an/t)) ). Source:
    Sohn, NeurIPS 2016; van den Oord, Li, Vinyals, 2018; name and temperature form of Chen,
    Kornblith, Norouzi, Hinton, "SimCLR", ICML 2020, eq. 1. Other positives are not in the
    denominator. Computed from one log-sum per row, never from pairs times pairs.

    Args:
        temperature: t, > 0.

    Raises:
        InputError: temperature not > 0.
    """

    def __init__(self, temperature: float = 0.07):
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature must be > 0, got {temperature}")
        self.temperature = temperature

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        similarity, scale = comparison.similarity, 1 / self.temperature
        b = len(similarity)
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        against = _masked_logsumexp(similarity, comparison.negative, scale)
        near = F.softplus(against[rows] - similarity[rows, columns] * scale)
        return _by_row(near, rows, b) * (b / max(len(rows), 1))


class NPairs(PairLoss):
    """Multi-class N-pair loss on all pairs: each anchor with one positive against its negatives.

    log(1 + sum_N exp(s_an - s_ap)) + l2 |a|^2, averaged over anchors with a positive; the
    similarity is the plain inner product of un-normalised embeddings. Source: Sohn, "Improved
    Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016, eq. 6; with one
    anchor and one positive a class it is that equation, with larger batches every further item
    is a further negative. Where an anchor has several positives its term is their mean.

    Args:
        l2_weight: weight of the squared norm of the anchors, >= 0.

    Raises:
        InputError: negative `l2_weight`.
    """

    def __init__(self, l2_weight: float = 0.002):
        super().__init__()
        if l2_weight < 0:
            raise InputError(f"l2_weight must be >= 0, got {l2_weight}")
        self.l2_weight = l2_weight

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        similarity = comparison.similarity
        b = len(similarity)
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        against = _masked_logsumexp(similarity, comparison.negative)
        near = F.softplus(against[rows] - similarity[rows, columns])
        per_anchor = comparison.positive.sum(1)
        anchors = (per_anchor > 0).sum().clamp(min=1).to(near.dtype)
        mean = _by_row(near, rows, b) / per_anchor.clamp(min=1) * (b / anchors)
        return mean + self.l2_weight * comparison.anchors.square().sum(1).to(mean.dtype)


class LiftedStructure(PairLoss):
    """Each positive pair against the soft nearest negatives of both of its ends.

    Mean over positive pairs of max(J, 0)^2 / 2 with J_ij = D_ij + log( sum_{k in N_i}
    exp(margin - D_ik) + sum_{l in N_j} exp(margin - D_jl) ). Source: Oh Song, Xiang, Jegelka,
    Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016, eqs. 3-4.
    The paper compares un-normalised embeddings (`OnPairs(..., normalize=False)`); among unit rows,
    which cannot move apart, the soft nearest negative keeps pulling positives and classes collapse.
    The negatives of a candidate are looked for among the anchors, so in a batch both ends count
    fully; with a memory a remembered candidate brings the anchors it is a negative of.

    Args:
        margin: distance units, > 0.

    Raises:
        InputError: margin not > 0.
    """

    def __init__(self, margin: float = 1.0):
        super().__init__()
        if not margin > 0:
            raise InputError(f"margin must be > 0, got {margin}")
        self.margin = margin

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        distance = comparison.distance
        b = len(distance)
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        of_anchor = _masked_logsumexp(distance, comparison.negative, -1.0)
        of_candidate = _masked_logsumexp(distance, comparison.negative, -1.0, 0)
        soft = torch.logaddexp(of_anchor[rows], of_candidate[columns]) + self.margin
        soft = soft + distance[rows, columns]
        return _by_row(F.relu(soft).square() / 2, rows, b) * (b / max(len(rows), 1))


class AllTriplets(PairLoss):
    """The triplet hinge over every (anchor, positive, negative), averaged over the active ones.

    max(D_ap - D_an + margin, 0). Source: Schroff et al., CVPR 2015; "batch all" of Hermans,
    Beyer, Leibe, "In Defense of the Triplet Loss", 2017. Exact in O(b c log c) time and O(b c)
    memory: no list of triplets is built.

    Args:
        margin: distance units, > 0.
        average: over the "active" triplets (Hermans et al.) or over "all".

    Raises:
        InputError: margin not > 0 or an unknown `average`.
    """

    def __init__(self, margin: float = 0.2, *, average: str = "active"):
        super().__init__()
        if not margin > 0:
            raise InputError(f"margin must be > 0, in distance units, got {margin}")
        if average not in ("active", "all"):
            raise InputError(f"average must be 'active' or 'all', got {average!r}")
        self.margin = margin
        self.average = average

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        sums, active = triplet_sums(
            comparison.distance, comparison.positive, comparison.negative, self.margin
        )
        if self.average == "active":
            count = active.sum()
        else:
            count = (comparison.positive.sum(1) * comparison.negative.sum(1)).sum()
        return sums * (len(sums) / count.clamp(min=1).to(sums.dtype))


class HardestNegativeTriplets(PairLoss):
    """The triplet hinge of every positive of an anchor against its single nearest negative.

    max(D_ap - min_n D_an + margin, 0), put together over the positives of an anchor and averaged
    over the anchors. Source: Fu et al., "Intra-class Adaptive Augmentation", IEEE TMM 2022,
    eq. 19, who state neither the margin nor whether the sum over positives is divided.

    Args:
        margin: distance units, > 0.
        average: over the "active" positives of each anchor, over "all" of them, or the "sum" that
            the equation prints.

    Raises:
        InputError: margin not > 0 or an unknown `average`.
    """

    def __init__(self, margin: float = 0.2, *, average: str = "active"):
        super().__init__()
        if not margin > 0:
            raise InputError(f"margin must be > 0, in distance units, got {margin}")
        if average not in ("active", "all", "sum"):
            raise InputError(f"average must be 'active', 'all' or 'sum', got {average!r}")
        self.margin = margin
        self.average = average

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        distance = comparison.distance
        b = len(distance)
        rows, columns = comparison.positive.nonzero(as_tuple=True)
        nearest = distance.masked_fill(~comparison.negative, math.inf).amin(1)
        hinge = F.relu(distance[rows, columns] - nearest[rows] + self.margin)
        sums = _by_row(hinge, rows, b)
        if self.average == "sum":
            return sums
        counted = hinge > 0 if self.average == "active" else torch.ones_like(hinge)
        return sums / _by_row(counted.to(hinge.dtype), rows, b).clamp(min=1)


def log_one_plus_sums(exponents: Tensor, groups: Tensor, n: int) -> Float[Tensor, " n"]:
    """log(1 + sum of exp) of each of n groups.

    >>> log_one_plus_sums(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0, 0, 2]), 3)
    tensor([1.0986, 0.0000, 1.3133])
    """
    # the largest exponent, and that of the 1, is taken out
    top = exponents.new_zeros(n).scatter_reduce(0, groups, exponents.detach(), "amax")
    return top + torch.exp(-top).index_add(0, groups, torch.exp(exponents - top[groups])).log()


def _masked_logsumexp(x: Tensor, mask: Tensor, scale: float = 1.0, dim: int = 1) -> Tensor:
    return _MaskedLogSumExp.apply(x, mask, scale, dim)


class _MaskedLogSumExp(torch.autograd.Function):
    """log sum exp(scale x) over the True of a mask, keeping one (b, c) matrix for backward."""

    @staticmethod
    def forward(ctx, x, mask, scale, dim):
        exponentials = (x * scale).masked_fill_(~mask, NOTHING)
        top = exponentials.amax(dim, keepdim=True).clamp_(min=EMPTY)
        # from e^-50 on nothing adds to a sum >= 1 in float64, and exp is 30 times slower there
        exponentials.sub_(top).clamp_(min=-50).exp_()
        # at least 1 wherever there is an entry: the largest one
        total = exponentials.sum(dim, keepdim=True).clamp_(min=0.5)
        ctx.save_for_backward(exponentials, total)
        ctx.scale, ctx.dim = scale, dim
        return (top + total.log()).squeeze(dim)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,), (exponentials, total) = grad_outputs, ctx.saved_tensors
        return exponentials * (gradient.unsqueeze(ctx.dim) * ctx.scale / total), None, None, None


def _by_row(values: Tensor, rows: Tensor, b: int) -> Tensor:
    return values.new_zeros(b).index_add(0, rows, values)
