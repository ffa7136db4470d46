"""Other margins for graph networks, which the paper on large margins compares with.

Three are losses of the answers, for `OnEpisodes(loss=...)`: they work on the cosines of a linear
classifier, `GraphHead(scale=...)`. One is a loss on points, for `OnEpisodes(margin=...)`.
"""

import math
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.graph import GraphHead
from tupelo.fewshot.large_margin import PointLoss, TripletTable, squared_distances
from tupelo.fewshot.learner import EpisodeHead, unit_rows, wide
from tupelo.fewshot.objectives import Answering
from tupelo.losses.class_products import softmax_terms
from tupelo.losses.classes import wider
from tupelo.types import LossValue

CLOSEST = 1e-12  # squared distance below which the slope of its root is not followed


def norm_face(head: EpisodeHead) -> Answering:
    """Cross-entropy of s cos: weights and features count by their directions alone.

    Source: Wang, Xiang, Cheng, Yuille, "NormFace", ACM MM 2017. The scale s is that of the head.

    Args:
        head: a `GraphHead` with a scale.

    Raises:
        InputError: a head without a linear classifier, or one without a scale.

    >>> loss = norm_face(GraphHead(dim=64, ways=5, scale=10.0))
    >>> loss(torch.tensor([[10.0, 0, 0, 0, 0]]), torch.tensor([0])) < 1e-3
    tensor(True)
    """
    _scale(head, "NormFace")
    return F.cross_entropy


def cos_face(head: EpisodeHead, margin: float = 0.2) -> Answering:
    """Cross-entropy of s (cos - margin) for the right class, and s cos for the others.

    Source: Wang et al., "CosFace", CVPR 2018, eq. 4.

    Args:
        head: a `GraphHead` with a scale.
        margin: cosine units, in [0, 2); 0.2 in the paper on large margins.

    Raises:
        InputError: see `norm_face`; a margin out of range.
    """
    if not 0 <= margin < 2:
        raise InputError(f"margin must be in [0, 2), cosine units, got {margin}")
    return partial(_cos_face, scale=_scale(head, "CosFace"), margin=margin)


def arc_face(head: EpisodeHead, margin_radians: float = 0.1) -> Answering:
    """Cross-entropy of s cos(angle + margin) for the right class, and s cos for the others.

    Beyond pi the logit goes straight on, so that it never rises again. Source: Deng, Guo, Xue,
    Zafeiriou, "ArcFace", CVPR 2019, eq. 3, with the guard of the authors' code.

    Args:
        head: a `GraphHead` with a scale.
        margin_radians: in [0, pi/2); 0.1 in the paper on large margins, with which one-shot
            learning did not converge there.

    Raises:
        InputError: see `norm_face`; a margin out of range.
    """
    if not 0 <= margin_radians < math.pi / 2:
        raise InputError(f"margin_radians must be in [0, pi/2), got {margin_radians}")
    return partial(_arc_face, scale=_scale(head, "ArcFace"), margin=margin_radians)


class NormalisedContrastive(PointLoss):
    """Unit points of a slot are near each other, those of two slots at least a margin apart.

    The mean over the pairs of a table of d^2 for an anchor and its positive, and max(0, margin -
    d)^2 for it and a negative, with Euclidean distances d of unit points. Source: Wang et al.,
    "Large Margin Few-Shot Learning", arXiv 1807.02872, appendix; which pairs, and the margin, are
    not printed: here those of the triplets, so that the two losses compare the same points.

    Args:
        table: of triplets, from `graph_triplets` or `prototype_triplets`.
        margin: in (0, 2], unit points being at most 2 apart.

    Raises:
        InputError: a margin out of range; when called: points of another number than the table is
            for, or that are all zero.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def __init__(self, table: TripletTable, *, margin: float = 1.0):
        super().__init__()
        if not 0 < margin <= 2:
            raise InputError(f"margin must be in (0, 2], a distance of unit points, got {margin}")
        self.table = table
        self.margin = margin
        for name in ("anchors", "positives", "negatives"):
            self.register_buffer(name, torch.from_numpy(getattr(table, name)), persistent=False)

    def forward(self, points: Float[Tensor, "r d"]) -> LossValue:
        """The mean over all pairs of one batch."""
        self.table.check(points)
        with torch.autocast(points.device.type, enabled=False):
            near, far = squared_distances(
                unit_rows(wide(points)), self.anchors, self.positives, self.negatives
            )
            far = F.relu(self.margin - far.clamp(min=CLOSEST).sqrt()).square()
            total = torch.cat([near.flatten(), far.flatten()]).mean()
        active = float((far.detach() > 0).float().mean())
        return LossValue(total, {"loss": total.detach()}, {"active": active})


def _scale(head: EpisodeHead, loss: str) -> float:
    if not isinstance(head, GraphHead):
        raise InputError(
            f"{loss} works on the weights of a linear classifier, which {type(head).__name__} does "
            "not have; take GraphHead(scale=...), or LargeMargin, which any head can be given"
        )
    if head.scale is None:
        raise InputError(
            f"{loss} works on cosines, and this graph network has a plain linear classifier; "
            "build it with GraphHead(scale=10.0)"
        )
    return head.scale


def _cos_face(
    logits: Float[Tensor, "r n"], wanted: Int64[Tensor, " r"], *, scale: float, margin: float
) -> Float[Tensor, ""]:
    cosines, own = _cosines(logits, wanted, scale)
    return softmax_terms(cosines, wanted, own - margin, scale).mean()


def _arc_face(
    logits: Float[Tensor, "r n"], wanted: Int64[Tensor, " r"], *, scale: float, margin: float
) -> Float[Tensor, ""]:
    cosines, own = _cosines(logits, wanted, scale)
    return softmax_terms(cosines, wanted, wider(own, margin), scale).mean()


def _cosines(logits: Tensor, wanted: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    cosines = logits / scale
    return cosines, cosines.gather(1, wanted[:, None])[:, 0]
