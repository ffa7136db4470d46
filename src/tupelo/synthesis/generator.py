"""What HDML trains beside the embedder: embeddings back to features, and running means."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def feature_generator(dim: int, hidden: int, features: int) -> nn.Sequential:
    """Embeddings (n, d) to features (n, f): linear, ReLU, then batch normalisation, linear.

    >>> feature_generator(8, 16, 32)(torch.randn(5, 8)).shape
    torch.Size([5, 32])
    """
    return nn.Sequential(
        glorot(dim, hidden), nn.ReLU(), nn.BatchNorm1d(hidden), glorot(hidden, features)
    )


def glorot(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and no bias yet."""
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class WindowMean(nn.Module):
    """The mean of the last completed window of recorded numbers, in buffers.

    Args:
        start: value before the first window is complete.
    """

    value: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, start: float):
        super().__init__()
        self.register_buffer("value", torch.tensor(start))
        self.register_buffer("total", torch.tensor(0.0))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def record(self, number: Float[Tensor, ""], window: int) -> None:
        """Take in a finite number; a window of so many sets the value."""
        self.total += number
        self.count += 1
        if int(self.count) >= window:
            self.value.copy_(self.total / self.count)
            self.total.zero_()
            self.count.zero_()
