"""Weights of tuples: which hinges the learners so far have left open."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.comparison import DISTANCE_EPSILON, Comparison
from tupelo.errors import InputError
from tupelo.losses import Margin, Triplet
from tupelo.losses.tuples import class_indices
from tupelo.types import TupleLoss, Tuples

HINGES = (Triplet, Margin)


def check_hinges(loss: nn.Module) -> None:
    """Refuse tuple losses whose tuples have no weight.

    Raises:
        InputError: neither `Triplet` nor `Margin`.
    """
    if type(loss) not in HINGES:
        raise InputError(
            "Boosted weighs tuples by the derivative of their hinge, which Triplet and Margin "
            f"have, got {type(loss).__name__}; take one of these, or a pair loss in OnPairs "
            "(losses.NPairs and losses.NTXent for tuples of many negatives)"
        )


def joined_rows(comparisons: Sequence[Comparison]) -> tuple[Tensor, Tensor]:
    """Anchors and candidates of the learners so far, whose inner products are s^i.

    See `ensemble_similarity`. Unit rows, without gradient.
    """
    shares: list[float] = []
    for i in range(1, len(comparisons) + 1):
        eta = 2 / (i + 1)
        shares = [*((1 - eta) * share for share in shares), eta]
    anchors, candidates = (
        torch.cat(
            [
                getattr(each, side).detach() * share**0.5
                for each, share in zip(comparisons, shares, strict=True)
            ],
            dim=1,
        )
        for side in ("anchors", "candidates")
    )
    return anchors, candidates


@torch.no_grad()
def open_hinges(
    loss: nn.Module, comparisons: Sequence[Comparison], tuples: Tuples, labels: Tensor | None
) -> tuple[Tensor, ...]:
    """Which hinges the learners so far have left open: 1, or 0 where nothing is left to correct.

    Args:
        loss: of the learner that is trained next; its margins and boundaries decide.
        comparisons: of each learner so far, at least one.
        tuples: that the next learner is trained on.
        labels: of the anchors of the tuples, where the loss learns something per class.

    Returns:
        (t, k) of triplets, whose hinge joins both pairs; of margin loss those of positives (t, 1)
        and of negatives (t, k).
    """
    anchors, candidates = joined_rows(comparisons)
    anchor, positive, negative = tuples
    rows = anchors[anchor], candidates[positive], candidates[negative]
    return tuple((hinge > 0).to(hinge.dtype) for hinge in _hinges(loss, *rows, labels))


class WeightedTuples(TupleLoss):
    """A hinge on tuples of which only the open ones count.

    Normalised as the loss alone is, so that a later learner has the smaller loss.

    Args:
        loss: `Triplet` or `Margin`.
        weights: of the hinges of the tuples it will be called with, see `open_hinges`.
    """

    def __init__(self, loss: nn.Module, weights: tuple[Tensor, ...]):
        super().__init__()
        self.loss = loss
        self.weights = weights

    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]:
        """Terms of t tuples."""
        hinges = _hinges(self.loss, anchor, positive, negative, labels)
        weighted = [h * w for h, w in zip(hinges, self.weights, strict=True)]
        if isinstance(self.loss, Triplet):
            return weighted[0].mean(1)
        active = torch.cat([hinge.flatten() for hinge in hinges]).gt(0).sum().clamp(min=1)
        return torch.cat(weighted, 1).sum(1) * (len(anchor) / active)


def _hinges(
    loss: nn.Module, anchor: Tensor, positive: Tensor, negative: Tensor, labels: Tensor | None
) -> list[Tensor]:
    near = (anchor - positive).square().sum(-1, keepdim=True)
    far = (anchor[:, None] - negative).square().sum(-1)
    if not (isinstance(loss, Triplet) and loss.squared):
        near, far = ((x + DISTANCE_EPSILON).sqrt() for x in (near, far))
    if isinstance(loss, Triplet):
        return [F.relu(near - far + loss.margin)]
    assert isinstance(loss, Margin)  # noqa: S101  (see check_hinges)
    beta = loss.beta
    if len(beta) > 1:
        what = "margin loss with one boundary per class"
        beta = beta[class_indices(labels, len(anchor), len(beta), what)]
    beta = beta.to(near.dtype)[:, None]
    return [F.relu(near - beta + loss.alpha), F.relu(beta - far + loss.alpha)]
