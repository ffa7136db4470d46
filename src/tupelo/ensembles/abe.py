"""Attention-based ensembles (ABE): a loss for each learner, and one that keeps them apart."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.objectives import ComparingObjective, PerLearner, Sum
from tupelo.sections import Curves, Section, Shown
from tupelo.types import Embedded, LossValue, Objective, PairLoss, Relation

_log = logging.getLogger(__name__)

FARTHEST = 4.0  # squared distance of opposite unit rows
UNIT_TOLERANCE = 1e-3


class Divergence(Objective):
    """Pushes the embeddings that different learners give the same picture apart.

    Over pictures i and pairs p < q of learners, with unit rows B:

        mean over i of sum over p < q of max(margin - |B_p(x_i) - B_q(x_i)|^2, 0)

    Labels play no part. Source: Kim, Goyal, Chawla, Lee, Kwon, "Attention-based Ensemble for Deep
    Metric Learning", ECCV 2018; the mean over pictures, where they have a sum, is ours, so that
    the weight does not depend on the size of the batch. `self_cosine` of the statistics is the
    mean cosine of these pairs: 1 - margin / 2 is where a pair stops counting.

    Args:
        margin: in squared distance, > 0 and at most 4, which opposite rows have.
        reduction: over pictures: "mean" or "sum".

    Raises:
        InputError: `margin` outside (0, 4] or another reduction; when called: one embedding
            instead of one for each learner, learners of different widths, or rows that are not
            of unit length.

    >>> same = Embedded.of(torch.tensor([[1.0, 0.0]]))
    >>> Divergence()((same, same, same), torch.tensor([0])).total
    tensor(3.)
    """

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean"):
        super().__init__()
        if not 0 < margin <= FARTHEST:
            raise InputError(
                f"margin must be > 0 and at most {FARTHEST:g}, the largest squared distance of "
                f"unit rows, got {margin}"
            )
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.margin = margin
        self.reduction = reduction

    def forward(
        self,
        output: Embedded | tuple[Embedded, ...],
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch; labels are not looked at."""
        rows = _unit_rows(output)
        p, q = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
        # differences and not inner products: equal rows are exactly 0 apart
        squares = (rows[p] - rows[q]).square().sum(2)
        hinges = F.relu(self.margin - squares)
        total = hinges.sum(0).sum()
        if self.reduction == "mean":
            total = total / rows.shape[1]
        statistics = {}
        if len(p):
            statistics = {
                "self_cosine": float(1 - squares.detach().mean() / 2),
                "active": float((hinges.detach() > 0).float().mean()),
            }
        return LossValue(total, {"loss": total.detach()}, statistics)

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """Curves of training: how alike the learners are."""
        text = (
            "The divergence loss pushes apart what different learners make of the same picture. "
            "self_cosine is the mean cosine of these pairs: 1 where all learners are the same, "
            f"and a pair counts no more below {1 - self.margin / 2:g}; active is the share of "
            "pairs that still count. A self_cosine that stays near 1 means that the divergence "
            "weighs too little; learners cannot complement each other then."
        )
        curves = Curves(["divergence/self_cosine", "divergence/active"], "cosine, share")
        return [Section("Divergence of learners", text, [curves])]


class OnDrawnPairs(ComparingObjective):
    """A pair loss on the pairs that a batch was drawn as, and on no other.

    Rows 2i and 2i + 1 are a pair, as `data.RandomPairs` draws them, positive if their labels say
    so. Attention-based ensembles were published with 16 positive and 16 negative pairs a batch
    and `losses.SquaredContrastive(average="pairs")`.

    Args:
        loss: the pair loss.
        normalize: compare unit rows.
        relation: see `tupelo.comparison.relate`.

    Raises:
        InputError: not a pair loss; when called: an odd number of rows, further candidates, as a
            memory adds them, or no positive or no negative pair.

    >>> from tupelo.losses import SquaredContrastive
    >>> objective = OnDrawnPairs(SquaredContrastive(average="pairs"))
    >>> output = Embedded.of(torch.eye(2)[[0, 1, 0, 0]])
    >>> objective(output, torch.tensor([0, 0, 0, 1])).total  # (2 + 1) / 2 pairs
    tensor(1.5000)
    """

    def __init__(
        self, loss: nn.Module, *, normalize: bool = True, relation: Relation | None = None
    ):
        super().__init__(normalize=normalize, relation=relation)
        if not isinstance(loss, PairLoss):
            raise InputError(
                f"OnDrawnPairs takes a PairLoss, got {type(loss).__name__}; tuple losses go into "
                "OnTuples and class losses into OnClasses"
            )
        self.loss = loss

    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""
        b, c = comparison.positive.shape
        if b % 2 or b != c:
            raise InputError(
                "a batch of pairs must hold an even number of rows, compared with themselves, got "
                f"{b} rows and {c} candidates; draw it with data.RandomPairs, and put no memory "
                "around the objective"
            )
        place = torch.arange(b, device=comparison.positive.device)
        drawn = place[:, None] == (place ^ 1)
        positive, negative = comparison.positive & drawn, comparison.negative & drawn
        for kind, mask in (("positive", positive), ("negative", negative)):
            if not mask.any():
                raise InputError(
                    f"no {kind} pair among the {b // 2} pairs of the batch (rows 0 and 1, 2 and 3, "
                    "...); draw it with data.RandomPairs"
                )
        terms = self.loss(comparison.with_pairs(positive, negative))
        total = terms.mean()
        active = float((terms.detach() > 0).float().mean())
        return LossValue(total, {"loss": total.detach()}, {"active": active})


def attention_based(
    objective: Objective | Sequence[Objective],
    learners: int,
    *,
    divergence: float = 1.0,
    margin: float = 1.0,
) -> Objective:
    """The objective of attention-based ensembles: sum of L_metric over learners + the divergence.

    Args:
        objective: of one learner, copied for each, or one for each.
        learners: m >= 1.
        divergence: weight lambda_div, >= 0.
        margin: of `Divergence`.

    Raises:
        InputError: `learners` < 1, `divergence` < 0 or not finite, or `margin` outside (0, 4].

    >>> from tupelo.losses import SquaredContrastive
    >>> from tupelo.objectives import OnPairs
    >>> objective = attention_based(OnPairs(SquaredContrastive()), learners=2)
    >>> one = Embedded.of(torch.eye(3)[[0, 0, 1]])
    >>> objective((one, one), torch.tensor([0, 0, 1])).total  # learners alike: the margin
    tensor(1.)
    """
    if not 0 <= divergence < float("inf"):
        raise InputError(f"divergence must be a weight >= 0, got {divergence}")
    if learners == 1 and divergence > 0:
        _log.warning(
            "divergence=%g has no effect: one learner has no other to be kept apart from",
            divergence,
        )
    return Sum(
        {
            "metric": PerLearner(objective, learners, reduction="sum"),
            "divergence": Divergence(margin),
        },
        {"divergence": divergence},
    )


def _unit_rows(output: Embedded | tuple[Embedded, ...]) -> Float[Tensor, "m b d"]:
    if isinstance(output, Embedded):
        raise InputError(
            "Divergence takes one embedding for each learner of an ensemble, such as "
            "models.attentive makes, got a single Embedded"
        )
    shapes = [tuple(learner.z.shape) for learner in output]
    if len(set(shapes)) != 1:
        raise InputError(
            f"learners must be of one width, so that their rows can be compared, got {shapes}"
        )
    rows = torch.stack([learner.z for learner in output])
    off = float((rows.detach().norm(dim=2) - 1).abs().amax())
    if not off <= UNIT_TOLERANCE:
        raise InputError(
            f"rows of learners must be of unit length, got norms off by up to {off:.3g}; use "
            "Embedded.of, and if a learner's whole output is 0 lower the learning rate"
        )
    return rows
