"""Prototypical networks: a class is the mean of its support."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.learner import EpisodeHead, check_slots, unit_rows, wide


class Prototypical(EpisodeHead):
    """A query belongs to the class whose prototype, the mean of its support, is nearest.

    With prototypes c and a query z the logits are

        euclidean: -scale |z - c|^2        cosine: scale (cos(z, c) - 1)

    A fixed scale changes nothing where the encoder can stretch its rows, as with Euclidean
    distances; cosines are in [-1, 1] whatever it does, and without a scale the softmax cannot
    become sharp, which is why the cosine variant is published to be far worse and profits so much
    from a large margin. Source: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot
    Learning", NeurIPS 2017, eqs. 1-2; the cosine variant without scale as in Wang et al., "Large
    Margin Few-Shot Learning", arXiv 1807.02872.

    Args:
        distance: "euclidean" or "cosine".
        scale: factor of the logits, > 0; published 1.

    Raises:
        InputError: another distance, or `scale` not above 0; when called: labels outside
            0..ways-1, a class without support, or, with cosines, rows that are all zero.

    >>> support, queries = torch.tensor([[[0.0], [2.0], [5.0]]]), torch.tensor([[[2.0]]])
    >>> Prototypical()(support, torch.tensor([[0, 0, 1]]), queries, ways=2)
    tensor([[[-1., -9.]]])
    """

    def __init__(self, distance: str = "euclidean", *, scale: float = 1.0):
        super().__init__()
        if distance not in ("euclidean", "cosine"):
            raise InputError(f"distance must be 'euclidean' or 'cosine', got {distance!r}")
        if not scale > 0:
            raise InputError(f"scale must be > 0, got {scale}")
        self.distance = distance
        self.scale = scale

    def forward(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Float[Tensor, "e q n"]:
        """Logits, see `EpisodeHead.forward`."""
        counts = check_slots(labels, ways)
        with torch.autocast(support.device.type, enabled=False):
            support, queries = wide(support), wide(queries)
            member = F.one_hot(labels, ways).to(support.dtype).transpose(1, 2)
            prototypes = member @ support / counts[:, :, None]
            if self.distance == "cosine":
                cosine = unit_rows(queries) @ unit_rows(prototypes).transpose(1, 2)
                return self.scale * (cosine - 1)
            return -self.scale * _squared_distances(queries, prototypes)

    def options(self) -> dict:
        """The arguments that build this head again."""
        return {"distance": self.distance, "scale": self.scale}


def _squared_distances(
    queries: Float[Tensor, "e q d"], prototypes: Float[Tensor, "e n d"]
) -> Float[Tensor, "e q n"]:
    """By one product a pair of matrices; the origin is moved among the rows, where it is exact."""
    origin = prototypes.detach().mean(1, keepdim=True)
    queries, prototypes = queries - origin, prototypes - origin
    squares = queries.square().sum(2)[:, :, None] + prototypes.square().sum(2)[:, None]
    return torch.baddbmm(squares, queries, prototypes.transpose(1, 2), alpha=-2)
