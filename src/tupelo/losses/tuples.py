"""Losses on the gathered rows of tuples: `(anchor, positive, negative) -> terms (t,)`.

The mean of the terms is the loss. Distances are sqrt(sum of squares + 1e-8): easy positives are
often almost coincident, where the plain root has no gradient.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.comparison import DISTANCE_EPSILON
from tupelo.errors import InputError
from tupelo.sections import Bars, Section, Shown
from tupelo.types import TupleLoss


class Triplet(TupleLoss):
    """Positives nearer than negatives by a margin: max(D_ap - D_an + margin, 0).

    Averaged over the negatives of a tuple. Source: Schroff, Kalenichenko, Philbin, "FaceNet",
    CVPR 2015, eq. 3, who square the distances.

    Args:
        margin: > 0, in distance units (squared units with `squared`).
        squared: use squared distances.

    Raises:
        InputError: margin not > 0.

    >>> a, p, n = torch.zeros(1, 2), torch.tensor([[0.6, 0.8]]), torch.tensor([[[0.0, 1.1]]])
    >>> Triplet(margin=0.2)(a, p, n)
    tensor([0.1000])
    """

    def __init__(self, margin: float = 0.2, *, squared: bool = False):
        super().__init__()
        if not margin > 0:
            raise InputError(f"margin must be > 0, got {margin}")
        self.margin = margin
        self.squared = squared

    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]:
        """Terms of t tuples."""
        to_positive = (anchor - positive).square().sum(-1, keepdim=True)
        to_negative = (anchor[:, None] - negative).square().sum(-1)
        if not self.squared:
            to_positive = (to_positive + DISTANCE_EPSILON).sqrt()
            to_negative = (to_negative + DISTANCE_EPSILON).sqrt()
        return F.relu(to_positive - to_negative + self.margin).mean(1)


class SoftTriplet(TupleLoss):
    """Positives nearer than negatives, without a margin: log(1 + exp(D_ap - D_an)).

    Averaged over the negatives of a tuple. Source: Hermans, Beyer, Leibe, "In Defense of the
    Triplet Loss for Person Re-Identification", 2017, section 2, who choose the farthest positive
    and the nearest negative of each anchor (`PerAnchor("hardest", "hardest")`: batch hard).

    >>> a, p, n = torch.zeros(1, 2), torch.tensor([[0.6, 0.8]]), torch.tensor([[[0.0, 1.0]]])
    >>> SoftTriplet()(a, p, n)
    tensor([0.6931])
    """

    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]:
        """Terms of t tuples."""
        to_positive = ((anchor - positive).square().sum(-1, keepdim=True) + DISTANCE_EPSILON).sqrt()
        to_negative = ((anchor[:, None] - negative).square().sum(-1) + DISTANCE_EPSILON).sqrt()
        return F.softplus(to_positive - to_negative).mean(1)


class Margin(TupleLoss):
    """Positives nearer than `beta - alpha`, negatives farther than `beta + alpha`.

    max(D_ap - beta + alpha, 0) + max(beta - D_an + alpha, 0), summed over all pairs of all tuples
    and divided by the number of strictly positive ones; beta is learned, one per class, and that
    of the anchor's class is used. Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling Matters in
    Deep Embedding Learning", ICCV 2017, eqs. 4-5, without their regulariser (nu = 0).

    Args:
        n_classes: number of boundaries; 1 shares one among all classes.
        beta: initial boundary, in distance units, > 0.
        alpha: half the width of the empty band, > 0.
        learning_rate: rate of the boundaries; 0 keeps them fixed.

    Raises:
        InputError: n_classes < 1, beta or alpha not > 0; when called: a label outside
            [0, n_classes), or labels missing while n_classes > 1.
    """

    def __init__(
        self,
        n_classes: int = 1,
        *,
        beta: float = 1.2,
        alpha: float = 0.2,
        learning_rate: float = 5e-4,
    ):
        super().__init__()
        if n_classes < 1:
            raise InputError(f"n_classes must be >= 1, got {n_classes}")
        if not (beta > 0 and alpha > 0):
            raise InputError(
                f"beta and alpha must be > 0, in distance units, got {beta} and {alpha}"
            )
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.beta = nn.Parameter(torch.full((n_classes,), beta), requires_grad=learning_rate > 0)

    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]:
        """Terms of t tuples."""
        beta = self._boundary(labels, len(anchor))[:, None].to(anchor.dtype)
        to_positive = ((anchor - positive).square().sum(-1, keepdim=True) + DISTANCE_EPSILON).sqrt()
        to_negative = ((anchor[:, None] - negative).square().sum(-1) + DISTANCE_EPSILON).sqrt()
        near = F.relu(to_positive - beta + self.alpha)
        far = F.relu(beta - to_negative + self.alpha)
        active = ((near > 0).sum() + (far > 0).sum()).clamp(min=1).to(near.dtype)
        return (near.sum(1) + far.sum(1)) * (len(anchor) / active)

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """The learned boundaries, for the report; nothing where they are fixed."""
        if not self.beta.requires_grad:
            return []
        learned = self.beta.detach().float().cpu().tolist()
        parts = []
        of, meaning = "all classes share one boundary", ""
        if len(learned) > 1:
            more = range(len(shown.trained_names), len(learned))
            names = [*shown.trained_names, *(f"class {number}" for number in more)][: len(learned)]
            parts = [Bars(names, learned, "boundary, in distance of unit rows (0 to 2)")]
            of = f"each of the {len(learned):,} classes that trained learned its own"
            meaning = (
                " A class with a low boundary is drawn tightly together, one with a high boundary "
                "has pictures that stay far apart."
            )
        low, high = min(learned), max(learned)
        values = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        text = (
            f"The margin loss wants positives nearer than a boundary less {self.alpha:g} and "
            f"negatives farther than the boundary plus {self.alpha:g}; {of}: {values}."
            f"{meaning}"
        )
        return [Section("Boundaries of the margin loss", text, parts)]

    def _boundary(self, labels: Tensor | None, t: int) -> Tensor:
        if len(self.beta) == 1:
            return self.beta.expand(t)
        what = "margin loss with one boundary per class"
        return self.beta[class_indices(labels, t, len(self.beta), what)]


class NPair(TupleLoss):
    """Cross-entropy of one positive against the k negatives of its tuple.

    log(1 + sum_k exp(<a, n_k> - <a, p>)) + l2 |a|^2 on un-normalised rows. Source: Sohn,
    "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016, eq. 6.
    For whole batches `losses.NPairs` does the same without gathering rows.

    Args:
        l2_weight: weight of the squared norm of the anchors, >= 0.
        l2_everywhere: also of the others of each tuple, averaged over positive and negatives. With
            a quarter of TensorFlow's `reg_lambda` as weight this is the loss its users know.

    Raises:
        InputError: negative `l2_weight`.
    """

    def __init__(self, l2_weight: float = 0.002, *, l2_everywhere: bool = False):
        super().__init__()
        if l2_weight < 0:
            raise InputError(f"l2_weight must be >= 0, got {l2_weight}")
        self.l2_weight = l2_weight
        self.l2_everywhere = l2_everywhere

    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]:
        """Terms of t tuples."""
        to_positive = (anchor * positive).sum(-1)
        to_negative = (negative @ anchor[:, :, None])[:, :, 0]
        terms = F.softplus(to_negative.logsumexp(1) - to_positive)
        squares = anchor.square().sum(-1)
        if self.l2_everywhere:
            others = positive.square().sum(-1) + negative.square().sum((1, 2))
            squares = squares + others / (1 + negative.shape[1])
        return terms + self.l2_weight * squares


def class_indices(labels: Tensor | None, rows: int, n_classes: int, what: str) -> Int[Tensor, " n"]:
    """Labels as int64, after refusing those that cannot index one learned row per class.

    Raises:
        InputError: labels missing, not integers (n,), not one per row, or outside [0, n_classes).
    """
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        came = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise InputError(
            f"{what} needs class indices (n,) as labels, got {came}; tags and pairs work with "
            "pair losses and with a single boundary"
        )
    if len(labels) != rows:
        raise InputError(f"{what} needs one label per row, got {len(labels)} for {rows} rows")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < n_classes):
        raise InputError(
            f"labels must lie in [0, {n_classes}) for {what}, got "
            f"[{int(labels.min())}, {int(labels.max())}]; set n_classes to the number of classes"
        )
    return labels.long()
