"""Objectives: a loss, who it is applied to, and what is remembered between steps.

An objective is all that the training loop sees. Objectives wrap each other instead of inheriting:
`Memory(OnPairs(...))`, `Sum(...)`, `PerLearner(...)`.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from tupelo.comparison import Comparison, label_tensor
from tupelo.errors import InputError
from tupelo.selection import Rule, Selector, as_rule, balanced, one_positive, usable_rows
from tupelo.types import (
    ClassLoss,
    Embedded,
    LossValue,
    Objective,
    PairLoss,
    Relation,
    Terms,
    TupleLoss,
)


class ComparingObjective(Objective):
    """An objective on a `Comparison`, so that whatever adds candidates can wrap it.

    Args:
        normalize: compare unit rows (`Embedded.z`) or the raw output.
        relation: who belongs together, where it is not equality of labels; see `relate`.
    """

    def __init__(self, *, normalize: bool, relation: Relation | None):
        super().__init__()
        self.normalize = normalize
        self.relation = relation

    def rows(self, output: Embedded) -> Tensor:
        """The rows that are compared, in float32 or wider."""
        if self.normalize:
            return output.z
        return output.raw if output.raw.dtype == torch.float64 else output.raw.float()

    def compare(
        self,
        output: Embedded,
        labels,
        items: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Comparison:
        """Compare a batch with itself; wrappers add candidates here."""
        return Comparison.within(self.rows(output), labels, items=items, relation=self.relation)

    @abstractmethod
    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""

    def forward(
        self,
        output: Embedded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """Compare the batch with itself and compute the loss."""
        return self.on(self.compare(output, labels, items, generator), generator)


class OnPairs(ComparingObjective):
    """A pair loss on all pairs of the batch.

    Args:
        loss: the pair loss.
        positives: keep one positive per anchor, chosen by this rule; "easiest" is easy positive
            sampling. None keeps all.
        negatives: keep one negative per anchor too, chosen by this rule after the positive. None
            keeps all, which is what pair losses are made for.
        normalize: compare unit rows.
        relation: see `relate`.

    Raises:
        InputError: not a pair loss; an unknown rule; `negatives` without `positives`; when
            called: no anchor has both a positive and a negative.

    >>> from tupelo.losses import Contrastive
    >>> objective = OnPairs(Contrastive())
    >>> output = Embedded.of(torch.eye(4)[[0, 0, 1, 2]])
    >>> objective(output, torch.tensor([0, 0, 1, 1])).total.item() > 0
    True
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        positives: str | Rule | None = None,
        negatives: str | Rule | None = None,
        normalize: bool = True,
        relation: Relation | None = None,
    ):
        super().__init__(normalize=normalize, relation=relation)
        if negatives is not None and positives is None:
            raise InputError(
                "negatives are chosen after the positive of an anchor, so positives must name a "
                "rule too, such as 'random' or 'easiest'; got None"
            )
        self.loss = _of_kind(loss, PairLoss, "OnPairs")
        self.positives = None if positives is None else as_rule(positives)
        self.negatives = None if negatives is None else as_rule(negatives)

    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""
        usable_rows(comparison)
        if self.positives is not None:
            comparison = one_positive(
                comparison, self.positives, generator, negative=self.negatives
            )
        terms = self.loss(comparison)
        return _value(terms)


class OnBalancedPairs(ComparingObjective):
    """A pair loss on all positive pairs of the batch and as many negative ones.

    The negatives are the nearest of the batch; in the first epochs, when distances mean nothing
    yet, they are drawn at random.

    Args:
        loss: the pair loss, such as `Contrastive(squared=True, average="pairs")`.
        random_epochs: so many epochs draw negatives, >= 0.
        normalize: compare unit rows.
        relation: see `relate`.

    Raises:
        InputError: not a pair loss, or `random_epochs` < 0; when called: no anchor has both a
            positive and a negative.

    >>> from tupelo.losses import Contrastive
    >>> objective = OnBalancedPairs(Contrastive(squared=True, average="pairs"))
    >>> objective(Embedded.of(torch.eye(4)), torch.tensor([0, 0, 1, 1])).total
    tensor(0.5000)
    """

    epochs: Tensor

    def __init__(
        self,
        loss: nn.Module,
        *,
        random_epochs: int = 1,
        normalize: bool = True,
        relation: Relation | None = None,
    ):
        super().__init__(normalize=normalize, relation=relation)
        if random_epochs < 0:
            raise InputError(f"random_epochs must be >= 0, got {random_epochs}")
        self.loss = _of_kind(loss, PairLoss, "OnBalancedPairs")
        self.random_epochs = random_epochs
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""
        hardest = int(self.epochs) >= self.random_epochs
        return _value(self.loss(balanced(comparison, generator, hardest=hardest)))

    def end_epoch(self) -> None:
        """One more epoch is over."""
        self.epochs += 1


class Misplaced(Objective):
    """The last rows of a batch belong to nobody: negatives of all others.

    They are crops that `data.ShiftedBoxes` has moved off their object, in batches that
    `data.WithShifted` draws.

    Args:
        objective: that compares rows; class losses have no class for nobody.
        rows: of a batch that are as labelled, >= 1; what follows them is misplaced.

    Raises:
        InputError: the objective does not compare rows, or rows < 1; when called: a batch has
            fewer rows, or labels are no class indices.

    >>> from tupelo.losses import SquaredContrastive
    >>> objective = Misplaced(OnBalancedPairs(SquaredContrastive()), rows=3)
    >>> _ = objective(Embedded.of(torch.eye(4)), torch.tensor([0, 0, 1, 1]))
    """

    def __init__(self, objective: Objective, rows: int):
        super().__init__()
        if not isinstance(objective, ComparingObjective):
            raise InputError(
                "misplaced crops are negatives of an objective that compares rows, got "
                f"{type(objective).__name__}; class losses have no class for them"
            )
        if rows < 1:
            raise InputError(f"rows must be >= 1, got {rows}")
        self.objective = objective
        self.rows = rows

    def forward(
        self,
        output,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch."""
        known = label_tensor(labels)
        if known is None or known.ndim != 1 or len(known) < self.rows:
            came = type(labels).__name__ if known is None else f"shape {tuple(known.shape)}"
            raise InputError(
                f"labels must be class indices (b,) of {self.rows} rows or more, got {came}; draw "
                "the batches with data.WithShifted"
            )
        extra = len(known) - self.rows
        nobody = torch.arange(1, extra + 1, device=known.device)
        known = torch.cat([known[: self.rows], known.max() + nobody])
        if items is not None:  # the same picture, but no longer the same item
            items = torch.cat([items[: self.rows], -1 - nobody.to(items)])
        return self.objective(output, known, items=items, generator=generator)

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to the objective."""
        self.objective.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to the objective."""
        self.objective.end_epoch()


class OnTuples(ComparingObjective):
    """A tuple loss on the tuples of a selector.

    Args:
        selector: chooses who is compared, such as `PerAnchor(positive="easiest")`.
        loss: the tuple loss.
        normalize: compare unit rows.
        relation: see `relate`.

    Raises:
        InputError: not a tuple loss.
    """

    def __init__(
        self,
        selector: Selector,
        loss: nn.Module,
        *,
        normalize: bool = True,
        relation: Relation | None = None,
    ):
        super().__init__(normalize=normalize, relation=relation)
        self.selector = selector
        self.loss = _of_kind(loss, TupleLoss, "OnTuples")

    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""
        anchor, positive, negative = self.selector(comparison, generator)
        labels, candidates = _indices(comparison.anchor_labels), comparison.candidates
        with torch.autocast(candidates.device.type, enabled=False):
            terms = self.loss(
                comparison.anchors.index_select(0, anchor),
                candidates.index_select(0, positive),
                candidates.index_select(0, negative.flatten()).unflatten(0, negative.shape),
                None if labels is None else labels.to(anchor.device)[anchor],
            )
        return _value(terms)


class OnClasses(Objective):
    """A loss between the items of the batch and learned class rows.

    Args:
        loss: the class loss.

    Raises:
        InputError: not a class loss.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = _of_kind(loss, ClassLoss, "OnClasses")

    def forward(
        self,
        output: Embedded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch."""
        try:
            indices = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                "class losses need class indices (b,) as labels, numbered once for the whole data "
                f"set (ImageSet.labels are), got {type(labels).__name__}: {error}"
            ) from error
        found = self.loss(output, indices)
        if not isinstance(found, Terms):
            return _value(found)
        parts = {name: terms.detach().mean() for name, terms in found.parts.items()}
        return LossValue(found.terms.mean(), parts, found.statistics)

    def end_epoch(self) -> None:
        """Pass on to the loss."""
        cast(ClassLoss, self.loss).end_epoch()


class Memory(Objective):
    """Cross-batch memory: recent embeddings as further candidates.

    Rows of the last steps are kept detached in a queue and compared with each new batch; the
    same item is never its own positive, so pass `items`. Source: Wang, Zhang, Huang, Scott,
    "Cross-Batch Memory for Embedding Learning", CVPR 2020. Batch and memory are one comparison, so
    a loss averages over both together; the authors add a loss on the batch to one on the memory.
    The queue is in the buffers, whole, so a resumed run remembers what the interrupted one did.

    Args:
        objective: what is computed on batch and memory.
        size: rows kept, >= 1.
        dim: embedding width.
        start_after: steps during which rows are only collected.
        tags: number of tags where labels are boolean tag matrices, else 0.

    Raises:
        InputError: size < 1; when called: rows of another width, labels that are neither class
            indices nor tags, or another number of tags.
    """

    queue: Tensor
    labels: Tensor
    items: Tensor
    seen: Tensor
    steps: Tensor

    def __init__(
        self,
        objective: ComparingObjective,
        size: int,
        dim: int,
        *,
        start_after: int = 0,
        tags: int = 0,
    ):
        super().__init__()
        if size < 1:
            raise InputError(f"size must be >= 1 rows, got {size}")
        self.objective = objective
        self.size = size
        self.start_after = start_after
        self.register_buffer("queue", torch.zeros(size, dim))
        empty = torch.zeros(size, tags, dtype=torch.bool) if tags else torch.zeros(size).long()
        self.register_buffer("labels", empty)
        self.register_buffer("items", torch.full((size,), -1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        output: Embedded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch against itself and the memory; then the batch is remembered."""
        labels = label_tensor(labels)
        if labels is None:
            raise InputError(
                "the memory keeps class indices (b,) or boolean tags (b, tags); strings and sets "
                "would be numbered anew in every batch, so number the classes of the data set first"
            )
        rows = self.objective.rows(output)
        if rows.shape[1] != self.queue.shape[1] or labels.shape[1:] != self.labels.shape[1:]:
            raise InputError(
                f"the memory keeps rows of width {self.queue.shape[1]} with {_named(self.labels)}, "
                f"got width {rows.shape[1]} with {_named(labels)}; set dim and tags to fit"
            )
        comparison = self.objective.compare(output, labels, items, generator)
        filled = min(int(self.seen), self.size)
        if filled and int(self.steps) >= self.start_after:
            memory = Comparison.between(
                rows,
                labels,
                self.queue[:filled].to(rows.dtype),
                self.labels[:filled],
                items=items,
                candidate_items=None if items is None else self.items[:filled],
                relation=self.objective.relation,
            )
            comparison = comparison.with_candidates(
                memory.candidates, memory.positive, memory.negative
            )
        value = self.objective.on(comparison, generator)
        self._remember(rows.detach(), labels, items)
        return value._replace(statistics={**value.statistics, "remembered": float(filled)})

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to the objective."""
        self.objective.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to the objective."""
        self.objective.end_epoch()

    @torch.no_grad()
    def _remember(self, rows: Tensor, labels: Tensor, items: Tensor | None) -> None:
        rows, labels = rows[-self.size :], labels[-self.size :]
        at = (int(self.seen) + torch.arange(len(rows), device=rows.device)) % self.size
        self.queue[at] = rows.to(self.queue.dtype)
        self.labels[at] = labels.to(self.labels.device)
        self.items[at] = -1 if items is None else items[-self.size :]
        self.seen += len(rows)
        self.steps += 1


class Sum(Objective):
    """A weighted sum of objectives on the same output.

    Args:
        objectives: by name; the names appear in the logged parts.
        weights: by name; 1 where not given.

    Raises:
        InputError: no objective, or a weight for a name that does not exist.
    """

    def __init__(
        self, objectives: Mapping[str, Objective], weights: Mapping[str, float] | None = None
    ):
        super().__init__()
        weights = dict(weights or {})
        if not objectives or set(weights) - set(objectives):
            raise InputError(
                "weights must name objectives that exist, got weights for "
                f"{sorted(weights)} and objectives {sorted(objectives)}"
            )
        self.objectives = nn.ModuleDict(objectives)
        self.weights = {name: float(weights.get(name, 1.0)) for name in objectives}

    def forward(
        self,
        output,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The weighted sum of one batch."""
        return _joined(
            (name, self.weights[name], objective(output, labels, items=items, generator=generator))
            for name, objective in self.objectives.items()
        )

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to every objective."""
        for objective in cast("list[Objective]", self.objectives.values()):
            objective.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to every objective."""
        for objective in cast("list[Objective]", self.objectives.values()):
            objective.end_epoch()


class PerLearner(Objective):
    """One objective for each of the m learners of an ensemble, averaged or added up.

    Args:
        objective: copied m times, so learned state is not shared; or a sequence of m, where the
            learners differ (in width, for objectives that know it).
        learners: m, >= 1; None for as many as the sequence has.
        reduction: "mean", or "sum" as attention-based ensembles have it.

    Raises:
        InputError: learners < 1, or not the length of the sequence; another reduction; when
            called: the model returned another number of outputs.
    """

    def __init__(
        self,
        objective: Objective | Sequence[Objective],
        learners: int | None = None,
        *,
        reduction: str = "mean",
    ):
        super().__init__()
        if isinstance(objective, Objective):
            given = [copy.deepcopy(objective) for _ in range(learners or 0)]
            came = ""
        else:
            given = list(objective)
            learners = len(given) if learners is None else learners
            came = f" and {len(given)} objectives"
        if learners is None or learners < 1 or len(given) != learners:
            raise InputError(
                "learners must be >= 1, and as many as there are objectives in a sequence, got "
                f"{learners}{came}"
            )
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.objectives = nn.ModuleList(given)
        self.reduction = reduction

    def forward(
        self,
        output: Embedded | tuple[Embedded, ...],
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The mean (or sum) over learners of one batch."""
        m = len(self.objectives)
        if isinstance(output, Embedded) or len(output) != m:
            came = "one" if isinstance(output, Embedded) else len(output)
            raise InputError(f"the model must return {m} embeddings, one per learner, got {came}")
        weight = 1 / m if self.reduction == "mean" else 1.0
        return _joined(
            (f"learner{i}", weight, objective(one, labels, items=items, generator=generator))
            for i, (objective, one) in enumerate(zip(self.objectives, output, strict=True))
        )

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to every learner's objective, with the embeddings of that learner."""

        def learner(i: int) -> Iterator[tuple[Embedded, Tensor]]:
            for output, labels in embed_train():
                yield cast("tuple[Embedded, ...]", output)[i], labels

        for i, objective in enumerate(cast("list[Objective]", self.objectives)):
            objective.begin_epoch(partial(learner, i))

    def end_epoch(self) -> None:
        """Pass on to every learner's objective."""
        for objective in cast("list[Objective]", self.objectives):
            objective.end_epoch()


def _of_kind(loss: nn.Module, kind: type, objective: str) -> nn.Module:
    if not isinstance(loss, kind):
        raise InputError(
            f"{objective} takes a {kind.__name__}, got {type(loss).__name__}; pair losses go into "
            "OnPairs, tuple losses into OnTuples, and class losses, which know no positive items "
            "to choose from, into OnClasses"
        )
    return loss


def _indices(labels) -> Tensor | None:
    """Labels as a tensor, where they are of a kind that can index something learned."""
    try:
        return label_tensor(labels)
    except InputError:
        return None  # understood by the relation of the objective alone


def _named(labels: Tensor) -> str:
    return "class indices" if labels.ndim == 1 else f"{labels.shape[1]} tags"


def _value(terms: Tensor) -> LossValue:
    total = terms.mean()
    return LossValue(total, {"loss": total.detach()}, {"active": _share(terms)})


def _share(terms: Tensor) -> float:
    return float((terms.detach() > 0).float().mean())


def _joined(values) -> LossValue:
    """Weighted sum of named loss values, with their parts and statistics under their names."""
    totals, parts, statistics = [], {}, {}
    for name, weight, value in values:
        totals.append(weight * value.total)
        parts |= {f"{name}/{part}": weight * scalar for part, scalar in value.parts.items()}
        statistics |= {f"{name}/{key}": number for key, number in value.statistics.items()}
    return LossValue(torch.stack(totals).sum(), parts, statistics)
