"""What few-shot learners are trained on: the answers to the queries of episodes."""

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.episodes import Layout
from tupelo.fewshot.large_margin import PointLoss, TripletTable
from tupelo.fewshot.learner import EpisodeHead, wide
from tupelo.types import Embedded, LossValue, Objective

Answering = Callable[[Float[Tensor, "r n"], Int64[Tensor, " r"]], Tensor]
"""`(logits, slots that are right) -> loss`, a mean over queries."""


class OnEpisodes(Objective):
    """Cross-entropy of the answers to all queries of a batch of episodes.

    With `margin`, plus weight times its loss on the points the head worked with: L-PN and L-GNN.
    Batches must be laid out as `Episodes` makes them. The objective uses the head of the model
    without owning it, so copy both at once: `copy.deepcopy((model, objective))`. Source: Snell et
    al., NeurIPS 2017, algorithm 1; Wang et al., "Large Margin Few-Shot Learning", arXiv
    1807.02872, eq. 2.

    Args:
        head: of the model that is trained.
        layout: of the batches.
        margin: a loss on points, such as `LargeMargin`; None trains the baseline.
        weight: of the margin, lambda >= 0; published 1. With 0 the baseline is trained, bit for
            bit.
        warmup_steps: steps in which the weight rises from 0 to `weight`, >= 0; published 0, which
            slows down graph networks at first.
        loss: of the answers; default cross-entropy.

    Raises:
        InputError: a negative weight, or a margin for another layout or head; when called: not
            whole episodes of this layout, or an item twice in one episode; when copied without its
            model.

    >>> from tupelo.fewshot import FewShot, Prototypical, conv4
    >>> model = FewShot(conv4(width=4), Prototypical())
    >>> objective = OnEpisodes(model.head, Layout(ways=2, shots=1, queries=1))
    >>> value = objective(model(torch.rand(4, 1, 28, 28)), torch.tensor([5, 7, 5, 7]))
    >>> sorted(value.statistics), value.total.item() > 0
    (['accuracy'], True)
    """

    steps: Tensor

    def __init__(
        self,
        head: EpisodeHead,
        layout: Layout,
        *,
        margin: PointLoss | None = None,
        weight: float = 1.0,
        warmup_steps: int = 0,
        loss: Answering | None = None,
    ):
        super().__init__()
        if not (weight >= 0 and math.isfinite(weight)):
            raise InputError(f"weight must be a finite number >= 0, got {weight}")
        if warmup_steps < 0:
            raise InputError(f"warmup_steps must be >= 0, got {warmup_steps}")
        if margin is not None:
            _check_table(margin.table, layout, head)
        self._head = (head,)  # in a tuple: a sub-module's parameters would have two owners
        self.layout = layout
        self.margin = margin
        self.weight = weight
        self.warmup_steps = warmup_steps
        self.loss = loss
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def head(self) -> EpisodeHead:
        """The head of the model."""
        return self._head[0]

    def forward(
        self,
        output: Embedded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch."""
        support, queries = self.layout.split(wide(output.raw))
        known, wanted = self.layout.slots(labels)
        if items is not None:
            self._check_items(items)
        answer = self.head.answer(support, known, queries, ways=self.layout.ways)
        logits, wanted = answer.logits.flatten(0, 1), wanted.flatten().to(answer.logits.device)
        total = (F.cross_entropy if self.loss is None else self.loss)(logits, wanted)
        parts = {"episodes": total.detach()}
        right = logits.detach().argmax(1) == wanted
        statistics = {"accuracy": float(right.float().mean())}
        weight = self._present_weight()
        if self.margin is not None and weight > 0:
            value = self.margin(answer.points)
            total = total + weight * value.total
            parts["margin"] = weight * value.total.detach()
            named = {f"margin/{name}": number for name, number in value.statistics.items()}
            statistics |= {**named, "margin/weight": weight}
        return LossValue(total, parts, statistics)

    def _present_weight(self) -> float:
        """Of the margin at this step, which it counts."""
        if self.warmup_steps == 0:
            return self.weight
        if self.training and torch.is_grad_enabled():
            self.steps += 1  # before: the first step must see the margin, whose rule it sets
        return self.weight * min(1.0, int(self.steps) / self.warmup_steps)

    def _check_items(self, items: Tensor) -> None:
        together = torch.cat(self.layout.split(items), 1).sort(1).values
        twice = together[:, 1:][together.diff(dim=1) == 0]
        if len(twice):
            raise InputError(
                "an item must occur once in an episode, or a query may be its own support; got "
                f"{twice.unique().tolist()[:5]} twice: draw batches with Episodes(labels, layout)"
            )

    def __deepcopy__(self, memo: dict) -> "OnEpisodes":
        if id(self.head) not in memo:
            raise InputError(
                "OnEpisodes must be copied together with its model, or the copy would use a head "
                "that nobody trains: copy.deepcopy((model, objective))"
            )
        memo[id(self)] = made = type(self).__new__(type(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made


def _check_table(table: TripletTable, layout: Layout, head: EpisodeHead) -> None:
    if table.layout != layout:
        raise InputError(
            f"the margin was made for batches of {table.layout}, got {layout}; make its table for "
            "this layout"
        )
    if table.of_nodes != head.moves_nodes:
        made = "graph_triplets" if head.moves_nodes else "prototype_triplets"
        raise InputError(
            f"the margin's table is of {'nodes of graphs' if table.of_nodes else 'rows'}, which "
            f"{type(head).__name__} does not give; make it with {made}"
        )
