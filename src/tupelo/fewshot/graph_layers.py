"""Layers on graphs whose edges are computed: who listens to whom, and convolution over neighbours.

Shape letters: `g` graphs, `v` nodes of a graph, `f` features of a node, `r` rows of the adjacency
that are computed, `p` pairs of nodes; the others are those of `episodes`.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.01  # of every leaky ReLU here
EPS, MOMENTUM = 1e-5, 0.1  # of every batch normalisation


class RowLayer(nn.Module):
    """A linear layer on rows, batch normalisation and leaky ReLU.

    In training the rows may stand for more positions than there are, of the same mean and
    variance; only the running variance, which is unbiased, knows the difference. In evaluation
    the normalisation is part of the linear layer.

    Args:
        before: features of a row.
        after: features that come out.
        slope: of the leaky ReLU for numbers below 0; 1 is no activation.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, before: int, after: int, *, slope: float = SLOPE):
        super().__init__()
        self.linear = nn.Linear(before, after, bias=False)  # the normalisation takes a bias away
        self.weight = nn.Parameter(torch.ones(after))
        self.bias = nn.Parameter(torch.zeros(after))
        self.register_buffer("running_mean", torch.zeros(after))
        self.register_buffer("running_var", torch.ones(after))
        self.slope = slope

    def forward(
        self, rows: Float[Tensor, "rows f"], *, positions: int | None = None
    ) -> Float[Tensor, "rows o"]:
        """New features of the rows, which stand for `positions`; None for themselves."""
        if self.training:
            out = self._normalised(self.linear(rows), positions or len(rows))
        else:
            scale = self.weight * (self.running_var + EPS).rsqrt()
            shift = self.bias - self.running_mean * scale
            out = F.linear(rows, self.linear.weight * scale[:, None], shift)
        return out if self.slope == 1 else F.leaky_relu_(out, self.slope)

    def _normalised(self, rows: Tensor, positions: int) -> Tensor:
        out, mean, inverse = torch.native_batch_norm(
            rows, self.weight, self.bias, None, None, True, 0.0, EPS
        )
        with torch.no_grad():
            variance = (inverse**-2 - EPS) * (positions / (positions - 1))
            self.running_mean.lerp_(mean.to(self.running_mean), MOMENTUM)
            self.running_var.lerp_(variance.to(self.running_var), MOMENTUM)
        return out


class CosineLayer(nn.Module):
    """Scaled cosines of rows and weights: s cos(w_k, x).

    Args:
        before: features of a row.
        after: weights, one for each number that comes out.
        scale: s.
    """

    def __init__(self, before: int, after: int, *, scale: float):
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(before, after, bias=False).weight.detach())
        self.scale = scale

    def forward(self, rows: Float[Tensor, "rows f"]) -> Float[Tensor, "rows o"]:
        """Numbers from -s to s."""
        return self.scale * F.normalize(rows, dim=1) @ F.normalize(self.weight, dim=1).T


class Adjacency(nn.Module):
    """How much each node listens to each other one: rows that add up to 1, and a zero diagonal.

    A_ij is the softmax over j of MLP(|x_i - x_j|), where the MLP is linear layers on every pair,
    each with batch normalisation over all v x v positions of all graphs and leaky ReLU, and a last
    one to a single number. The diagonal has no part in the softmax but counts in the statistics.
    Source: Garcia, Bruna, "Few-Shot Learning with Graph Neural Networks", ICLR 2018, eqs. 3-4, and
    the authors' code.

    |x_i - x_j| does not depend on the order, so half of the positions are enough: each pair once,
    and v/2 zeros a graph for the diagonal, have the mean and the variance of all. All positions
    are computed where g v is odd, and behind dropout, which tells (i, j) from (j, i). In evaluation
    the diagonal is left out.

    Args:
        features: of a node.
        widths: of the layers of the MLP.
        dropout: behind the first activation, in [0, 1).
    """

    def __init__(self, features: int, widths: tuple[int, ...], *, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.ModuleList(
            RowLayer(before, after) for before, after in pairwise((features, *widths))
        )
        self.score = nn.Linear(widths[-1], 1, bias=False)  # the softmax would take a bias away
        self.dropout = dropout

    def forward(
        self, nodes: Float[Tensor, "g v f"], *, first_only: bool = False
    ) -> Float[Tensor, "g r v"]:
        """All rows of A, or that of node 0 alone, which saves most of the work in evaluation."""
        g, v, _ = nodes.shape
        if self.training:
            pairs, rows = self._in_training(nodes)
        else:
            pairs = (Pairs.of_first if first_only else Pairs.each_once)(v, nodes.device)
            rows = pairs.differences(nodes)
            for layer in self.layers:
                rows = layer(rows)
        scores = self.score(rows).view(g, -1)[:, pairs.back].unflatten(1, (-1, v))
        itself = torch.eye(v, dtype=torch.bool, device=nodes.device)[: scores.shape[1]]
        weights = scores.masked_fill(itself, -torch.inf).softmax(2)
        return weights[:, :1] if first_only else weights

    def _in_training(self, nodes: Tensor) -> tuple["Pairs", Tensor]:
        """Pairs, and what the MLP makes of them."""
        g, v, _ = nodes.shape
        half = g * v % 2 == 0
        pairs = (Pairs.each_once if half else Pairs.in_both_orders)(v, nodes.device)
        rows = pairs.differences(nodes)
        real = len(rows)
        if half:
            rows = torch.cat([rows, rows.new_zeros(g * v // 2, rows.shape[1])])
        first, *others = self.layers
        rows = first(rows, positions=g * v * v)
        if self.dropout:
            if half:
                rows = rows[pairs.positions(g)]
                pairs, real = Pairs.in_both_orders(v, nodes.device), len(rows)
            rows = F.dropout(rows, self.dropout)
        for layer in others:
            rows = layer(rows, positions=g * v * v)
        return pairs, rows[:real]


class Pairs(NamedTuple):
    """Which pairs of the v nodes of a graph are computed, and where a position finds its own.

    Attributes:
        first: node of each pair, (p,).
        second: the other, (p,).
        back: the pair of each position (i, j), row by row; any where i = j.
    """

    first: Int[Tensor, " p"]
    second: Int[Tensor, " p"]
    back: Int[Tensor, " positions"]

    @classmethod
    def each_once(cls, v: int, device: torch.device) -> "Pairs":
        """i < j.

        >>> Pairs.each_once(3, torch.device("cpu")).back.view(3, 3)
        tensor([[0, 0, 1],
                [0, 0, 2],
                [1, 2, 0]])
        """
        first, second = torch.triu_indices(v, v, 1, device=device)
        back = torch.zeros(v, v, dtype=torch.int64, device=device)
        back[first, second] = back[second, first] = torch.arange(len(first), device=device)
        return cls(first, second, back.flatten())

    @classmethod
    def in_both_orders(cls, v: int, device: torch.device) -> "Pairs":
        """All v x v positions."""
        nodes, every = torch.arange(v, device=device), torch.arange(v * v, device=device)
        return cls(nodes.repeat_interleave(v), nodes.repeat(v), every)

    @classmethod
    def of_first(cls, v: int, device: torch.device) -> "Pairs":
        """Those of node 0, i = 0 < j."""
        others = torch.arange(1, v, device=device)
        return cls(torch.zeros_like(others), others, torch.arange(-1, v - 1, device=device))

    def differences(self, nodes: Float[Tensor, "g v f"]) -> Float[Tensor, "rows f"]:
        """|x_i - x_j| of every pair, graph by graph."""
        pairs = nodes.index_select(1, self.first) - nodes.index_select(1, self.second)
        return pairs.abs().flatten(0, 1)

    def positions(self, g: int) -> Int[Tensor, " rows"]:
        """Rows of all positions of g graphs, where the pairs are followed by rows of zeros."""
        p, v = len(self.first), round(len(self.back) ** 0.5)
        start = p * torch.arange(g, device=self.back.device)
        rows = start[:, None] + self.back
        rows[:, :: v + 1] = g * p  # the diagonal
        return rows.flatten()


class GraphConvolution(nn.Module):
    """A layer on what a node has and what its neighbours have.

    It sees [x_i ; sum_j A_ij x_j], or with the second operator "ones" the sum of all x_j in place
    of x_i.

    Args:
        layer: from rows of 2 f numbers to new features.
        second_operator: "identity" as in the code of Garcia and Bruna, or "ones", the matrix of
            ones that the paper on large margins writes.
    """

    def __init__(self, layer: nn.Module, *, second_operator: str = "identity"):
        super().__init__()
        self.layer = layer
        self.second_operator = second_operator

    def forward(
        self, nodes: Float[Tensor, "g v f"], adjacency: Float[Tensor, "g r v"]
    ) -> Float[Tensor, "g r o"]:
        """New features of the first r nodes."""
        seen = self.gathered(nodes, adjacency)
        return self.layer(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])

    def gathered(
        self, nodes: Float[Tensor, "g v f"], adjacency: Float[Tensor, "g r v"]
    ) -> Float[Tensor, "g r f2"]:
        """What the layer sees of the first r nodes."""
        r = adjacency.shape[1]
        if self.second_operator == "identity":
            other = nodes[:, :r]
        else:
            other = nodes.sum(1, keepdim=True).expand(-1, r, -1)
        return torch.cat([other, adjacency @ nodes], 2)
