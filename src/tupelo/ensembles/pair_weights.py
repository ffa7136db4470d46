"""Weights of pairs: what the learners so far have left over of the loss.

Every loss that is a sum over pairs is a penalty of margins x, where x > 0 is right and x < 0 wrong:
softplus(-x) in binomial deviance, max(-x, 0) or its square in contrastive losses. The weight of a
pair is the negative derivative of the penalty at the margin of the ensemble so far. Other pair
losses have no such weights; see `Redirected`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.comparison import DISTANCE_EPSILON, Comparison
from tupelo.errors import InputError
from tupelo.losses import BinomialDeviance, Contrastive, CosineContrastive, SquaredContrastive
from tupelo.types import PairLoss

START = 0.5  # of the additive rule
NEGATIVE_FACTOR = 2.0  # of the additive rule, on weights of negatives
NOTHING = 1e-30  # a sum of gradients below it counts as none
RULES = ("additive", "eta")


class _Margins(NamedTuple):
    """A loss that is a sum over pairs, in terms of margins."""

    of: str  # attribute of a comparison
    margin: Callable[[Any, Tensor, Tensor], Tensor]  # loss, similarity or distance, positive
    penalty: Callable[[Any, Tensor], Tensor]
    slope: Callable[[Any, Tensor], Tensor]  # -d penalty / d margin
    counts: Callable[[Any, Tensor, Tensor, int], tuple[Any, Any]]  # near, far, b; each >= 1


def _deviance_margin(loss: BinomialDeviance, similarity: Tensor, positive: Tensor) -> Tensor:
    x = (similarity - loss.beta) * loss.alpha
    return torch.where(positive, x, -loss.negative_cost * x)


def _contrastive_margin(loss: Contrastive, distance: Tensor, positive: Tensor) -> Tensor:
    return torch.where(positive, loss.positive_margin - distance, distance - loss.negative_margin)


def _squared_margin(loss: SquaredContrastive, distance: Tensor, positive: Tensor) -> Tensor:
    squares = distance.square()
    return torch.where(positive, -squares, squares - loss.margin)


def _cosine_margin(loss: CosineContrastive, similarity: Tensor, positive: Tensor) -> Tensor:
    return torch.where(positive, similarity - loss.positive, loss.negative - similarity)


def _hinge(loss: nn.Module, x: Tensor) -> Tensor:
    return F.relu(-x).square() if getattr(loss, "squared", False) else F.relu(-x)


def _hinge_slope(loss: nn.Module, x: Tensor) -> Tensor:
    return 2 * F.relu(-x) if getattr(loss, "squared", False) else (x < 0).to(x.dtype)


def _all(loss: nn.Module, near: Tensor, far: Tensor, b: int) -> tuple[int, int]:
    return max(len(near), 1), max(len(far), 1)


def _active(loss: nn.Module, near: Tensor, far: Tensor, b: int) -> tuple[Tensor, Tensor]:
    return (near > 0).sum().clamp(min=1), (far > 0).sum().clamp(min=1)


def _anchors(loss: nn.Module, near: Tensor, far: Tensor, b: int) -> tuple[int, int]:
    return b, b


def _averaged(loss: SquaredContrastive, near: Tensor, far: Tensor, b: int) -> tuple[int, int]:
    pairs = max(len(near) + len(far), 1)
    return (pairs, pairs) if loss.average == "pairs" else _all(loss, near, far, b)


SUMS: dict[type, _Margins] = {
    BinomialDeviance: _Margins(
        "similarity",
        _deviance_margin,
        lambda loss, x: F.softplus(-x),
        lambda loss, x: torch.sigmoid(-x),
        _all,
    ),
    Contrastive: _Margins("distance", _contrastive_margin, _hinge, _hinge_slope, _active),
    SquaredContrastive: _Margins("distance", _squared_margin, _hinge, _hinge_slope, _averaged),
    CosineContrastive: _Margins("similarity", _cosine_margin, _hinge, _hinge_slope, _anchors),
}
"""Losses that are sums over pairs; for all others see `Redirected`."""


def check_rule(loss: nn.Module, rule: str) -> None:
    """Refuse a rule that has no meaning for a loss.

    Raises:
        InputError: an unknown rule, or "additive" for another loss than `BinomialDeviance`.
    """
    if rule not in RULES:
        raise InputError(f"rule must be 'additive' or 'eta', got {rule!r}")
    if rule == "additive" and not isinstance(loss, BinomialDeviance):
        raise InputError(
            "rule='additive' adds up margins of BinomialDeviance, from 0.5 in steps of 0.06 of "
            f"them, which mean nothing for {type(loss).__name__}; leave rule out, or give 'eta'"
        )


def ensemble_similarity(
    similarities: Sequence[Float[Tensor, "b c"]], shrinkage: float = 1.0
) -> Float[Tensor, "b c"]:
    """Similarity of the learners so far: s^i = (1 - eta_i) s^(i-1) + eta_i s_i, s^0 = 0.

    With eta_i = 2 / (i + 1); learners count from 1.

    Args:
        similarities: of each learner so far, at least one.
        shrinkage: factor of each.

    >>> ensemble_similarity([torch.tensor([[0.6]]), torch.tensor([[0.9]])])
    tensor([[0.8000]])
    """
    joined = torch.zeros_like(similarities[0])
    for i, similarity in enumerate(similarities, start=1):
        eta = 2 / (i + 1)
        joined = (1 - eta) * joined + eta * shrinkage * similarity
    return joined


@torch.no_grad()
def pair_weights(
    loss: nn.Module,
    similarities: Sequence[Float[Tensor, "b c"]],
    positive: Bool[Tensor, "b c"],
    *,
    rule: str = "additive",
    shrinkage: float | None = None,
) -> Float[Tensor, "b c"]:
    """Weights of the pairs for the next learner, for a loss that is a sum over pairs.

    * "additive", the rule of the released code: act = 0.5 + shrinkage sum_i x_i, the weight is
      sigmoid(-act), twice that for negatives.
    * "eta", the rule of the paper: the slope of the penalty at the margin of
      `ensemble_similarity`. As the released code has it, the derivative is with respect to the
      margin; with respect to the similarity it has a further factor alpha, and for negatives the
      cost.

    Args:
        loss: one of `SUMS`.
        similarities: cosines of each learner so far; none for the first, whose weights are 1.
        positive: True where anchor and candidate belong together.
        rule: see above.
        shrinkage: > 0; None for the published one, 0.06 of "additive" and 1 of "eta".

    Raises:
        InputError: see `check_rule`; shrinkage not > 0; or a loss that is no sum over pairs.

    >>> from tupelo.losses import BinomialDeviance
    >>> s, positive = torch.tensor([[0.8, 0.6]]), torch.tensor([[True, False]])
    >>> pair_weights(BinomialDeviance(), [s], positive)
    tensor([[0.3691, 0.9003]])
    """
    check_rule(loss, rule)
    shrinkage = published_shrinkage(rule) if shrinkage is None else shrinkage
    check_shrinkage(shrinkage)
    kind = _sum_of(loss)
    if not similarities:
        return torch.ones(positive.shape, device=positive.device)
    if rule == "eta":
        joined = ensemble_similarity([s.detach() for s in similarities], shrinkage)
        at = joined if kind.of == "similarity" else _distances(joined)
        return kind.slope(loss, kind.margin(loss, at, positive))
    act = torch.full_like(similarities[0], START)
    for similarity in similarities:
        act = act + shrinkage * kind.margin(loss, similarity.detach(), positive)
    return torch.sigmoid(-act) * torch.where(positive, 1.0, NEGATIVE_FACTOR)


def published_shrinkage(rule: str) -> float:
    """0.06 of the additive rule, 1 of the eta rule."""
    return 0.06 if rule == "additive" else 1.0


def check_shrinkage(shrinkage: float) -> None:
    """Refuse what would leave every weight as it is, or turn it around.

    Raises:
        InputError: shrinkage not > 0.
    """
    if not shrinkage > 0:
        raise InputError(f"shrinkage must be > 0, got {shrinkage}")


class WeightedSum(PairLoss):
    """A loss that is a sum over pairs, each term times its weight.

    Args:
        loss: one of `SUMS`.
        weights: (b, c), without gradient.
        with_diagonal: positives are divided by their number and that of the anchors, as in the
            released code, whose sum of y has the diagonal in it; binomial deviance only.
    """

    def __init__(self, loss: nn.Module, weights: Tensor, *, with_diagonal: bool = False):
        super().__init__()
        self.loss = loss
        self.weights = weights
        self.with_diagonal = with_diagonal and isinstance(loss, BinomialDeviance)

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        kind, b = _sum_of(self.loss), len(comparison.anchors)
        positive, negative = comparison.positive, comparison.negative
        margins = kind.margin(self.loss, getattr(comparison, kind.of), positive)
        penalty = kind.penalty(self.loss, margins)
        near_count, far_count = kind.counts(self.loss, penalty[positive], penalty[negative], b)
        if self.with_diagonal:
            near_count += b
        weighted = penalty * self.weights
        near = torch.where(positive, weighted, 0.0).sum(1)
        far = torch.where(negative, weighted, 0.0).sum(1)
        return near * (b / near_count) + far * (b / far_count)


class Redirected(PairLoss):
    """Any other pair loss, whose gradient goes to the pairs that the learners so far leave over.

    The gradient with respect to the similarity of each pair is multiplied by |d loss / d
    similarity| at the similarity of the ensemble, and then scaled so that its sizes sum to what
    they were, over positives and over negatives. So later learners pull and push as strongly as
    with the loss alone, at other pairs; where nothing is left of what a learner would correct it
    learns nothing. The value stays that of the loss. Our generalisation: of binomial deviance and
    `CosineContrastive` it would be what `WeightedSum` does, up to the two scales.

    Slopes are taken on the pairs it is called with: with EPS on the positives that are kept.

    Args:
        loss: the pair loss.
        joined: similarity of the ensemble so far (b, c), without gradient.

    Raises:
        InputError: when called, of a loss that depends on no pair's similarity or distance.
    """

    def __init__(self, loss: nn.Module, joined: Tensor):
        super().__init__()
        self.loss = loss
        self.joined = joined

    def forward(self, comparison: Comparison) -> Float[Tensor, " b"]:
        """Terms of one comparison."""
        weights = slopes(self.loss, comparison, self.joined)
        kinds = comparison.positive, comparison.negative
        similarity = _Redirected.apply(comparison.similarity, weights, *kinds)
        distance = _Redirected.apply(comparison.distance, weights, *kinds)
        return self.loss(_replaced(comparison, similarity, distance))


def slopes(loss: nn.Module, comparison: Comparison, joined: Float[Tensor, "b c"]) -> Tensor:
    """|d loss / d similarity| of any pair loss, at given cosines.

    Args:
        loss: a pair loss.
        comparison: of the batch; its similarities are replaced.
        joined: cosines of the ensemble so far.

    Raises:
        InputError: the loss depends on neither similarity nor distance.
    """
    with torch.enable_grad():
        s = joined.detach().clone().requires_grad_()
        total = loss(_replaced(comparison, s, _distances(s))).mean()
        (gradient,) = torch.autograd.grad(total, s, allow_unused=True)
    if gradient is None:
        raise InputError(
            f"{type(loss).__name__} depends on neither similarity nor distance of the comparison, "
            "so its pairs cannot be weighted"
        )
    return gradient.abs()


class _Redirected(torch.autograd.Function):
    """The identity; its gradient is multiplied by weights, its sum of sizes kept in every mask."""

    @staticmethod
    def forward(ctx, x, weights, *masks):
        ctx.save_for_backward(weights, *masks)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,), (weights, *masks) = grad_outputs, ctx.saved_tensors
        redirected = torch.zeros_like(gradient)
        for mask in masks:
            own = torch.where(mask, gradient, 0.0)
            share = torch.where(mask, weights, 0.0)
            moved = own * (share / share.amax().clamp(min=NOTHING))
            redirected += moved * (own.abs().sum() / moved.abs().sum().clamp(min=NOTHING))
        return redirected, None, *(None for _ in masks)


def _sum_of(loss: nn.Module) -> _Margins:
    if type(loss) not in SUMS:
        names = ", ".join(kind.__name__ for kind in SUMS)
        raise InputError(
            f"loss must be a sum over pairs, one of {names}, got {type(loss).__name__}"
        )
    return SUMS[type(loss)]


def _distances(similarity: Tensor) -> Tensor:
    """Of unit rows with these cosines."""
    return ((2 - 2 * similarity).clamp(min=0) + DISTANCE_EPSILON).sqrt()


def _replaced(comparison: Comparison, similarity: Tensor, distance: Tensor) -> Comparison:
    """The same pairs with other similarities and distances."""
    other = comparison.with_pairs(comparison.positive, comparison.negative)
    other.__dict__["similarity"], other.__dict__["distance"] = similarity, distance
    return other
