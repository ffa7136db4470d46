"""Harder negatives by moving them towards their anchor, as far as training has come."""

import torch
from jaxtyping import Float
from torch import Tensor

from tupelo.errors import InputError

_SMALLEST_SQUARE = 1e-12  # keeps the gradient of the root finite at coincident rows


def pull(
    anchor: Float[Tensor, "t d"],
    positive: Float[Tensor, "t d"],
    negative: Float[Tensor, "t k d"],
    *,
    alpha: float | Tensor,
    j_avg: float | Tensor,
) -> Float[Tensor, "t k d"]:
    """Negatives moved along the line to their anchor, never nearer to it than the positive.

    With d+ and d- the distances of anchor to positive and negative, and lambda =
    exp(-alpha / j_avg), a negative with d- > d+ comes to lie at lambda d- + (1 - lambda) d+ from
    the anchor; one that is nearer already stays. Source: Zheng, Chen, Lu, Zhou, "Hardness-Aware
    Deep Metric Learning", CVPR 2019, as its released code computes it.

    Args:
        anchor: rows (t, d); the gradient flows into all rows, and through d+ and d-.
        positive: rows (t, d).
        negative: rows (t, k, d).
        alpha: >= 0; 0 leaves all negatives where they are.
        j_avg: recent mean of the metric loss; 0 or less pulls all the way to d+.

    Raises:
        InputError: alpha is negative.

    >>> anchor, positive = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    >>> pull(anchor, positive, torch.tensor([[[0.0, 4.0]]]), alpha=90.0, j_avg=30.0)
    tensor([[[0.0000, 1.1494]]])
    """
    if not isinstance(alpha, Tensor) and not alpha >= 0:
        raise InputError(f"alpha must be >= 0, got {alpha}")
    hardness = adaptive(alpha, torch.as_tensor(j_avg).to(anchor))
    return toward(anchor, negative, pull_shares(anchor, positive, negative, hardness))


def pull_shares(
    anchor: Float[Tensor, "t d"],
    positive: Float[Tensor, "t d"],
    negative: Float[Tensor, "t k d"],
    hardness: Tensor,
) -> Float[Tensor, "t k"]:
    """Share of the way to its anchor that each negative moves: (1 - lambda)(1 - d+/d-), or 0."""
    near = (anchor - positive).square().sum(-1, keepdim=True)
    far = (anchor[:, None] - negative).square().sum(-1)
    ratio = (near.clamp(min=_SMALLEST_SQUARE) / far.clamp(min=_SMALLEST_SQUARE)).sqrt()
    # decided on the squares: both roots are finite, so the branch not taken has no NaN gradient
    return torch.where(far > near, (1 - hardness) * (1 - ratio), 0.0)


def toward(
    anchor: Float[Tensor, "t d"], negative: Float[Tensor, "t k d"], shares: Float[Tensor, "t k"]
) -> Float[Tensor, "t k d"]:
    """Negatives moved by these shares of the way; a share of 0 keeps every bit."""
    return torch.lerp(negative, anchor[:, None], shares[..., None])


def adaptive(constant: float | Tensor, average: Tensor) -> Tensor:
    """exp(-constant / average): near 1 while the average is large, 0 when it is 0.

    >>> [round(float(adaptive(1e4, torch.tensor(mean))), 4) for mean in (1e6, 1e4, 0.0)]
    [0.99, 0.3679, 0.0]
    """
    constant = torch.as_tensor(constant).to(average)
    tiny = torch.finfo(average.dtype).tiny
    factor = torch.exp(-constant / average.clamp(min=tiny))
    return torch.where((average > 0) | (constant == 0), factor, 0.0)
