"""Prototypical networks: a class is the mean of its support."""

import torch
from torch import Tensor

from tupelo.errors import InputError
from tupelo.fewshot.learner import EpisodeHead


class Prototypical(EpisodeHead):
    """Placeholder for the first commit; see the next."""

    def __init__(self, distance: str = "euclidean", *, scale: float | None = None):
        super().__init__()
        if distance not in ("euclidean", "cosine"):
            raise InputError(f"distance must be 'euclidean' or 'cosine', got {distance!r}")
        self.distance = distance
        self.scale = scale

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor, *, ways: int) -> Tensor:
        """Logits."""
        member = torch.nn.functional.one_hot(labels, ways).to(support.dtype).transpose(1, 2)
        centres = member @ support / member.sum(2, keepdim=True)
        return -(queries[:, :, None] - centres[:, None]).square().sum(3)

    def options(self) -> dict:
        """The arguments that build this head again."""
        return {"distance": self.distance, "scale": self.scale}
