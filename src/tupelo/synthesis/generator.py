"""What HDML trains beside the embedder: from embeddings back to features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureGenerator(nn.Module):
    """Embeddings (n, d) back to features (n, f): linear, ReLU, then batch normalisation, linear.

    Args:
        dim: width d.
        hidden: width between the two linear layers.
        features: width f.

    >>> FeatureGenerator(8, 16, 32)(torch.randn(5, 8)).shape
    torch.Size([5, 32])
    """

    def __init__(self, dim: int, hidden: int, features: int):
        super().__init__()
        self.first = glorot(dim, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.second = glorot(hidden, features)

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """Features of embeddings."""
        return self.second(self.norm(F.relu(self.first(rows))))

    def of_tuples(
        self, z: Float[Tensor, "b d"], chosen: Int[Tensor, " s"], pulled: Float[Tensor, "u d"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "v f"]]:
        """Features of `z`, and of `[z[chosen]; pulled]`, as one call on all these rows gives them.

        Rows that occur twice count twice in batch normalisation, but pass the linear layers once.
        """
        b, s, u = len(z), len(chosen), len(pulled)
        hidden, new = F.relu(self.first(torch.cat([z, pulled]))).split([b, u])
        hidden, _, new = self.norm(torch.cat([hidden, hidden[chosen], new])).split([b, s, u])
        again, new = self.second(torch.cat([hidden, new])).split([b, u])
        return again, torch.cat([again[chosen], new])


def glorot(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and no bias yet."""
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
