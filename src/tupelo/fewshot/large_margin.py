"""Large margin: triplets chosen once before training, and what they add to the loss."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.episodes import UNLABELLED, Layout
from tupelo.fewshot.learner import unit_rows, wide
from tupelo.types import LossValue

# a product of all points with all is cheaper than gathered rows up to so many distances per pair
DENSE_UP_TO = 64


@dataclass(frozen=True, eq=False)
class TripletTable:
    """Which points are compared: every batch of a layout has the same class at the same place.

    Attributes:
        layout: of the batches it is for.
        points: how many there are to compare.
        anchors: int64 (a,).
        positives: of each anchor, int64 (a, p).
        negatives: of each positive, int64 (a, p, m).
        seed: of the draw.
        of_nodes: points are nodes of graphs, each query before its support; else rows of episodes.
    """

    layout: Layout
    points: int
    anchors: Int64[np.ndarray, " a"]
    positives: Int64[np.ndarray, "a p"]
    negatives: Int64[np.ndarray, "a p m"]
    seed: int
    of_nodes: bool

    def __len__(self) -> int:
        return self.negatives.size

    @property
    def triplets(self) -> Int64[np.ndarray, "t three"]:
        """Rows of anchor, positive and negative, one triplet a row."""
        shape = self.negatives.shape
        anchors = np.broadcast_to(self.anchors[:, None, None], shape)
        positives = np.broadcast_to(self.positives[:, :, None], shape)
        return np.stack([anchors, positives, self.negatives], axis=3).reshape(-1, 3)

    def check(self, points: Float[Tensor, "r d"]) -> None:
        """Refuse points of another number than the table is for.

        Raises:
            InputError: they are.
        """
        if len(points) != self.points:
            raise InputError(
                f"the triplets were chosen for {self.points} points of {self.layout}, got "
                f"{len(points)}; make the table for the layout of the batches"
            )


def prototype_triplets(
    layout: Layout, *, positives: int = 10, negatives: int = 10, seed: int = 0
) -> TripletTable:
    """Triplets of L-PN: among all rows, support and queries, of each episode.

    Every row is an anchor. Positives and negatives are drawn without replacement; where a class
    has too few others, all of them are taken and the rest is drawn again, so that the number of
    triplets stays. Source: Wang et al., "Large Margin Few-Shot Learning", arXiv 1807.02872, 3.2.

    Args:
        layout: of the batches.
        positives: an anchor.
        negatives: a positive.
        seed: of the draw.

    Raises:
        InputError: `positives` or `negatives` below 1, no row with another one of its class, or
            unlabelled support.

    >>> len(prototype_triplets(Layout(ways=20, shots=5, queries=15)))
    40000
    """
    if layout.unlabelled or layout.query_ways is not None:
        raise InputError(
            "prototypes need episodes whose support is labelled and whose classes are all asked "
            f"about, got {layout}; leave unlabelled and query_ways out"
        )
    slots = np.arange(layout.ways)
    classes = np.concatenate([slots.repeat(layout.shots), slots.repeat(layout.queries)])
    episode = np.arange(layout.per_batch).repeat(layout.rows)
    labels = np.tile(classes, layout.per_batch)
    items = np.arange(layout.batch_size)
    return _table(layout, labels, items, episode, positives, negatives, seed, of_nodes=False)


def graph_triplets(
    layout: Layout, *, positives: int = 5, negatives: int = 5, seed: int = 0
) -> TripletTable:
    """Triplets of L-GNN: among the labelled support nodes of all graphs of the batch.

    A graph is one query and its support, so a batch has `per_batch * layout.asked` of them, one
    after the other, the query first and then the support class by class, as `GraphHead.answer`
    gives them. Nodes of the same slot are of one class, also across episodes, since the weights of
    the classifier are. Queries, and unlabelled nodes, have no slot and take no part. Copies of a
    node, in graphs of one episode with several queries, are no positives of each other. Source: as
    `prototype_triplets`, section 3.1.

    Args:
        layout: of the batches.
        positives: an anchor, from the whole batch.
        negatives: a positive.
        seed: of the draw.

    Raises:
        InputError: `positives` or `negatives` below 1, or no node with another one of its slot:
            with one labelled shot a batch needs 2 episodes.

    >>> len(graph_triplets(Layout(ways=5, shots=5, queries=1, per_batch=40, query_ways=1)))
    25000
    """
    graphs = layout.per_batch * layout.asked
    slots = np.arange(layout.ways)[:, None].repeat(layout.shots, axis=1)
    slots[:, : layout.unlabelled] = UNLABELLED
    labels = np.tile(np.concatenate([[UNLABELLED], slots.ravel()]), graphs)
    place = np.arange(1 + layout.support)
    episode = np.arange(graphs)[:, None] // layout.asked
    items = (episode * len(place) + place).ravel()
    together = np.zeros_like(labels)
    return _table(layout, labels, items, together, positives, negatives, seed, of_nodes=True)


class PointLoss(nn.Module, ABC):
    """A loss on the points of a batch (`Answer.points`), added to that of the episodes.

    Attributes:
        table: which points it compares, in which batches.
    """

    table: TripletTable

    @abstractmethod
    def forward(self, points: Float[Tensor, "r d"]) -> LossValue:
        """The loss of the points of one batch."""


class LargeMargin(PointLoss):
    """A hinge on triplets of points: another class is farther than the own one, by a margin.

        mean over all triplets of max(0, |a - p|^2 - |a - n|^2 + margin)

    on the points as they are, or on unit points; inactive triplets count in the mean. Since squared
    distances grow with the points, so must the margin: by the "rule" it is half the mean length
    of the points of the first batch, from the network as it was initialised and in train mode, and
    then stays. It is kept with the state of training. (The paper states this rule and labels its
    main results m = 10; for unit points the rule gives 0.5.) Source: Wang et al., "Large Margin
    Few-Shot Learning", arXiv 1807.02872, eqs. 3-5.

    Args:
        table: the triplets, from `prototype_triplets` or `graph_triplets`.
        margin: "rule", or a number > 0 in squared distance.
        normalised: compare unit points: the normalised triplet loss that the paper compares with;
            0.2 is a usual margin for it.

    Raises:
        InputError: `margin` is neither; when called: points of another number than the table is
            for, or, with the rule or normalised, points that are all zero.

    >>> table = prototype_triplets(Layout(2, 1, 1), positives=1, negatives=1)
    >>> LargeMargin(table, margin=3.0)(torch.zeros(4, 2)).total
    tensor(3.)
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    present_margin: Tensor

    def __init__(
        self, table: TripletTable, *, margin: float | str = "rule", normalised: bool = False
    ):
        super().__init__()
        if margin != "rule" and not (
            isinstance(margin, (int, float)) and margin > 0 and math.isfinite(margin)
        ):
            raise InputError(f"margin must be 'rule' or a finite number > 0, got {margin!r}")
        self.table = table
        self.margin = margin
        self.normalised = normalised
        for name in ("anchors", "positives", "negatives"):
            self.register_buffer(name, torch.from_numpy(getattr(table, name)), persistent=False)
        # NaN until the first batch, where the rule sets it
        start = math.nan if isinstance(margin, str) else float(margin)
        self.register_buffer("present_margin", torch.tensor(start, dtype=torch.float64))

    def forward(self, points: Float[Tensor, "r d"]) -> LossValue:
        """The mean hinge of the points of one batch."""
        self.table.check(points)
        with torch.autocast(points.device.type, enabled=False):
            points = wide(points)
            if self.normalised:
                points = unit_rows(points)
            present = self.present_margin
            if present.isnan():
                present = self._rule(points)
                if self.training:  # else the network is not as it trains
                    self.present_margin.copy_(present)
            margin = present.to(points.dtype)
            near, far = squared_distances(points, self.anchors, self.positives, self.negatives)
            hinges = F.relu(near[:, :, None] - far + margin)
            total = hinges.mean()
        statistics = {
            "active": float((hinges.detach() > 0).float().mean()),
            "margin": float(present),
        }
        return LossValue(total, {"loss": total.detach()}, statistics)

    def _rule(self, points: Tensor) -> Tensor:
        found = points.detach().norm(dim=1).double().mean() / 2
        if not 0 < float(found) < math.inf:
            raise InputError(
                f"margin='rule' must come to a finite number > 0, got {float(found)} from the "
                "points of the first batch; look at the network and its input, or give a number"
            )
        return found


def squared_distances(
    points: Float[Tensor, "r d"],
    anchors: Int64[Tensor, " a"],
    positives: Int64[Tensor, "a p"],
    negatives: Int64[Tensor, "a p m"],
) -> tuple[Float[Tensor, "a p"], Float[Tensor, "a p m"]]:
    """Of the anchors of a table to their positives, and to the negatives of each."""
    n = len(points)
    if n * n > DENSE_UP_TO * (positives.numel() + negatives.numel()):
        rows = points[anchors][:, None]
        near = (rows - points[positives]).square().sum(2)
        return near, (rows[:, None] - points[negatives]).square().sum(3)
    # all distances by one product; about their mean, so that little cancels
    centred = points - points.detach().mean(0)
    squares = centred.square().sum(1)
    product = torch.addmm(squares[:, None] + squares, centred, centred.T, alpha=-2).flatten()
    row = anchors * n
    return product[row[:, None] + positives], product[row[:, None, None] + negatives]


def _table(
    layout: Layout,
    labels: np.ndarray,
    items: np.ndarray,
    episode: np.ndarray,
    positives: int,
    negatives: int,
    seed: int,
    *,
    of_nodes: bool,
) -> TripletTable:
    """Draw the triplets: positives share the label, but not the item, of the anchor."""
    if positives < 1 or negatives < 1:
        raise InputError(
            f"positives and negatives must be at least 1, got {positives} and {negatives}"
        )
    rng = np.random.default_rng(seed)
    anchors, near, far = [], [], []
    for anchor in np.flatnonzero(labels >= 0):
        comparable = (labels >= 0) & (episode == episode[anchor])
        same = labels == labels[anchor]
        own = np.flatnonzero(comparable & same & (items != items[anchor]))
        others = np.flatnonzero(comparable & ~same)
        if len(own) == 0 or len(others) == 0:
            continue
        anchors.append(anchor)
        near.append(_some(own, positives, rng))
        far.append(np.stack([_some(others, negatives, rng) for _ in range(positives)]))
    if not anchors:
        raise InputError(
            f"no anchor has a positive in batches of {layout}: 1-shot L-GNN needs at least 2 "
            "episodes per batch (per_batch), for positives come from other episodes"
        )
    drawn = np.array(anchors), np.stack(near), np.stack(far)
    return TripletTable(layout, len(labels), *drawn, seed, of_nodes)


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of these rows, distinct while there are enough, else all and some again."""
    if len(rows) >= count:
        return rng.choice(rows, count, replace=False)
    return np.concatenate([rows, rng.choice(rows, count - len(rows))])
