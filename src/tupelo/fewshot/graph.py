"""The graph network of Garcia and Bruna: an episode is a graph, its query a node without label."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.episodes import UNLABELLED
from tupelo.fewshot.graph_layers import Adjacency, CosineLayer, GraphConvolution, RowLayer
from tupelo.fewshot.learner import Answer, EpisodeHead

NUMBERS_AT_ONCE = 2**22  # of the pairs of nodes in one layer, in evaluation


class _Variant(NamedTuple):
    """What differs between the two published networks.

    Attributes:
        ratios: widths of the layers of the adjacency, in shares of a base.
        of_nodes: the base is the width of the nodes; else twice what a block adds.
        dropout: in the last adjacency.
        final_norm: batch normalisation of the logits.
    """

    ratios: tuple[float, ...]
    of_nodes: bool
    dropout: float
    final_norm: bool


VARIANTS = {
    "omniglot": _Variant((2, 1.5, 1, 1), of_nodes=True, dropout=0.3, final_norm=True),
    "miniimagenet": _Variant((2, 2, 1, 1), of_nodes=False, dropout=0.0, final_norm=False),
}
CHOICES = {
    "variant": tuple(VARIANTS),
    "second_operator": ("identity", "ones"),
    "unknown": ("zeros", "uniform"),
    "embed": ("concat", "last"),
}


class GraphHead(EpisodeHead):
    """Labels travel from the support to the query over a graph whose edges are learned.

    Each query and the support of its episode are the nodes of a graph, the query first. A node
    starts as its embedding and its label, one number a class. A block computes edges
    (`Adjacency`), adds `growth` features to every node (`GraphConvolution`, batch normalisation and
    leaky ReLU) and keeps the old ones; after the last, one more convolution gives the logits
    of the query. Source: Garcia, Bruna, "Few-Shot Learning with Graph Neural Networks", ICLR 2018,
    and the authors' code. The number of classes is part of the network.

    Args:
        dim: width of the embeddings.
        ways: classes of every episode, n >= 2.
        variant: "omniglot", whose adjacency is as wide as the nodes, with dropout in the last, and
            whose logits are batch-normalised; or "miniimagenet", with neither and of one width.
        blocks: M >= 1.
        growth: features that a block adds, >= 1; half of what the paper calls nf.
        dropout: in the last adjacency, in [0, 1); None for that of the variant.
        second_operator: beside the adjacency: "identity", or "ones", the matrix of ones in the
            paper on large margins.
        unknown: the label of queries and unlabelled items: "zeros", as in the code, or
            "uniform", 1/n as in the paper.
        embed: what a margin is asked of: "concat", all features of the nodes after the last block,
            or "last", those that it added.
        scale: None for a linear classifier; a number s > 0 for logits s cos, with the cosine of
            weights and features and no bias or normalisation of logits, as NormFace, `CosFace`
            and `ArcFace` need it.

    Raises:
        InputError: a number is out of its range or a choice unknown; when called: another number
            of ways or width, labels outside -1..ways-1, or classes with different numbers of
            labelled items, or none.

    >>> head = GraphHead(dim=64, ways=5).eval()
    >>> support, queries = torch.rand(2, 5, 64), torch.rand(2, 3, 64)
    >>> head(support, torch.arange(5).expand(2, 5), queries, ways=5).shape
    torch.Size([2, 3, 5])
    """

    moves_nodes = True

    def __init__(
        self,
        dim: int,
        ways: int,
        *,
        variant: str = "omniglot",
        blocks: int = 2,
        growth: int = 48,
        dropout: float | None = None,
        second_operator: str = "identity",
        unknown: str = "zeros",
        embed: str = "concat",
        scale: float | None = None,
    ):
        super().__init__()
        self._options = {
            "dim": dim,
            "ways": ways,
            "variant": variant,
            "blocks": blocks,
            "growth": growth,
            "dropout": dropout,
            "second_operator": second_operator,
            "unknown": unknown,
            "embed": embed,
            "scale": scale,
        }
        _check(self._options)
        kind = VARIANTS[variant]
        dropout = kind.dropout if dropout is None else dropout
        self.dim, self.ways, self.growth = dim, ways, growth
        self.unknown, self.embed, self.scale = unknown, embed, scale
        widths = [dim + ways + growth * block for block in range(blocks + 1)]
        # the base of the last adjacency is that of the last block, though its nodes are wider
        bases = [*widths[:-1], widths[-2]] if kind.of_nodes else [2 * growth] * (blocks + 1)
        self.adjacencies = nn.ModuleList(
            Adjacency(
                width,
                tuple(int(base * ratio) for ratio in kind.ratios),
                dropout=dropout if number == blocks else 0.0,
            )
            for number, (width, base) in enumerate(zip(widths, bases, strict=True))
        )
        self.convolutions = nn.ModuleList(
            GraphConvolution(RowLayer(2 * width, growth), second_operator=second_operator)
            for width in widths[:-1]
        )
        self._widest = max(int(base * kind.ratios[0]) for base in bases)
        self.normed_logits = kind.final_norm and scale is None
        last = 2 * widths[-1]
        if scale is not None:
            classifier = CosineLayer(last, ways, scale=scale)
        elif self.normed_logits:
            classifier = RowLayer(last, ways, slope=1.0)
        else:
            classifier = nn.Linear(last, ways)
        self.classifier = GraphConvolution(classifier, second_operator=second_operator)

    def options(self) -> dict:
        """The arguments that build this head again."""
        return dict(self._options)

    def forward(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Float[Tensor, "e q ways"]:
        """Logits of every query, each in a graph of its own.

        Labels may be -1: an unlabelled item is a node like the others, whose label is unknown.
        """
        return self._through(support, labels, queries, ways)[0]

    def answer(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Answer:
        """Logits, and `nodes` in rows: graph after graph, the query before the support."""
        logits, nodes = self._through(support, labels, queries, ways)
        return Answer(logits, self._embedded(nodes).flatten(0, 1))

    def nodes(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Float[Tensor, "g v f"]:
        """Features of the nodes after the last block, as `embed` says, in e q graphs."""
        return self._embedded(self._through(support, labels, queries, ways)[1])

    def _embedded(self, nodes: Tensor) -> Tensor:
        return nodes if self.embed == "concat" else nodes[..., -self.growth :]

    def _through(
        self, support: Tensor, labels: Tensor, queries: Tensor, ways: int
    ) -> tuple[Tensor, Tensor]:
        self._check_episodes(support, labels, ways)
        with torch.autocast(support.device.type, enabled=False):
            graphs = self._graphs(support, labels, queries)
            parts = [self._on(part) for part in graphs.split(self._at_once(graphs))]
        logits, nodes = (torch.cat(part) for part in zip(*parts, strict=True))
        return logits.view(*queries.shape[:2], ways), nodes

    def _at_once(self, graphs: Tensor) -> int:
        """Graphs in one pass: in training all, since they share the statistics of the batch."""
        g, v, _ = graphs.shape
        if self.training:
            return g
        return max(1, NUMBERS_AT_ONCE // (v * v * self._widest))

    def _graphs(self, support: Tensor, labels: Tensor, queries: Tensor) -> Float[Tensor, "g v f"]:
        """The nodes at the start: embedding and label, the query before the support."""
        e, q, _ = queries.shape
        own = next(self.parameters())
        known = F.one_hot(labels.clamp(min=0), self.ways).to(own)
        blank = 0.0 if self.unknown == "zeros" else 1 / self.ways
        known = torch.where(labels[:, :, None] == UNLABELLED, blank, known)
        items = torch.cat([support.to(own), known], 2)
        asked = F.pad(queries.to(own), (0, self.ways), value=blank)
        items = items[:, None].expand(e, q, *items.shape[1:])
        return torch.cat([asked[:, :, None], items], 2).flatten(0, 1)

    def _on(self, nodes: Tensor) -> tuple[Float[Tensor, "g n"], Float[Tensor, "g v f"]]:
        """Logits and nodes after the last block."""
        *adjacencies, last = self.adjacencies
        for adjacency, convolution in zip(adjacencies, self.convolutions, strict=True):
            nodes = torch.cat([nodes, convolution(nodes, adjacency(nodes))], 2)
        # the statistics of normalised logits are those of all nodes, not of the queries alone
        edges = last(nodes, first_only=not (self.training and self.normed_logits))
        return self.classifier(nodes, edges)[:, 0], nodes

    def _check_episodes(self, support: Tensor, labels: Tensor, ways: int) -> None:
        if ways != self.ways:
            raise InputError(
                f"ways must be {self.ways}, the classes this graph network was built for (they are "
                f"part of its layers), got {ways}; train one with ways={ways}"
            )
        if support.shape[2] != self.dim:
            raise InputError(
                f"dim must be the width of the embeddings, got dim={self.dim} for embeddings of "
                f"width {support.shape[2]}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < UNLABELLED or high >= ways:
            raise InputError(
                f"labels must be slots 0..{ways - 1}, or -1 where an item is unlabelled, got "
                f"{low}..{high}; number the classes of each episode anew from 0"
            )
        counts = (labels[:, :, None] == torch.arange(ways, device=labels.device)).sum(1)
        worst = counts[(counts != counts[:, :1]).any(1) | (counts == 0).any(1)]
        if len(worst):
            raise InputError(
                "every class of an episode needs equally many labelled items, at least one, in a "
                f"graph network, got {worst[0].tolist()} of classes 0..{ways - 1}; give as many of "
                "each, or take a prototypical network, which allows any numbers"
            )


def _check(options: dict) -> None:
    for name, least in (("dim", 1), ("ways", 2), ("blocks", 1), ("growth", 1)):
        if options[name] < least:
            raise InputError(f"{name} must be at least {least}, got {options[name]}")
    for name, choices in CHOICES.items():
        if options[name] not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {options[name]!r}")
    dropout, scale = options["dropout"], options["scale"]
    if dropout is not None and not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1), got {dropout}")
    if scale is not None and not 0 < scale < float("inf"):
        raise InputError(f"scale must be a number > 0, got {scale}")
