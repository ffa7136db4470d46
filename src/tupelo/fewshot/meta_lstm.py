"""Meta-LSTM: the meta-learner on a classifier of fixed size, which MML is compared with."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.episodes import Episode
from tupelo.fewshot.meta import (
    EpisodicModel,
    Way,
    batches_of,
    check_updates,
    descend,
    seeded_layers,
)
from tupelo.fewshot.meta_cell import MetaCell
from tupelo.fewshot.meta_weights import Statistics, VectorNetwork
from tupelo.types import Embedded, LossValue


class MetaLSTM(EpisodicModel):
    """An encoder and a linear classifier, all weights updated by a `MetaCell` from c_0.

    Source: Ravi, Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017. The
    classifier has one output a class, so the number of classes is fixed. Tasks with fewer have
    dummy labels: outputs that are never right, and are not among the answers. Tasks with more are
    refused.

    Args:
        encoder: from items to rows of `num_features`, or to `Embedded`; copied.
        n_classes: outputs N, >= 2: classes of the largest task.
        cell: the meta-learner; default `MetaCell()`.
        steps: updates T, >= 1.
        batch: support items an update, >= 1; None takes all.
        bn_mode: as `MetaMetricLearner`.
        bn_momentum: as there.
        legacy_grad_scale: as there.
        generator: as there.

    Raises:
        InputError: an option outside its range; when called: a task with more classes.

    >>> from tupelo.fewshot import conv4
    >>> model = MetaLSTM(conv4(width=4), 5, steps=2)
    >>> task = Episode(torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2]),
    ...                torch.rand(2, 1, 28, 28), torch.tensor([0, 1]), 3)
    >>> model.solve(task, torch.Generator()).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_classes: int,
        *,
        cell: MetaCell | None = None,
        steps: int = 5,
        batch: int | None = None,
        bn_mode: str = "inner_running",
        bn_momentum: float = 0.95,
        legacy_grad_scale: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_updates(steps, batch, bn_mode)
        if n_classes < 2:
            raise InputError(f"n_classes must be at least 2, got {n_classes}")
        width = getattr(encoder, "num_features", None)
        if not isinstance(width, int):
            raise InputError(
                "encoder must tell the width of its rows as num_features, as Conv4 and TextCNN, "
                f"got {type(encoder).__name__}"
            )
        self.n_classes = n_classes
        self.steps = steps
        self.batch = batch
        self.bn_mode = bn_mode
        self.legacy_grad_scale = legacy_grad_scale
        self.classifier = VectorNetwork(
            _Classifier(encoder, width, n_classes), bn_momentum=bn_momentum
        )
        self.cell = MetaCell(generator=generator) if cell is None else cell
        self.start = nn.Parameter(self.classifier.initial())

    def loss(self, task: Episode, generator: torch.Generator) -> LossValue:
        """The loss on the queries after all updates on the support."""
        way, _ = self._descend(task, generator)
        end = self.cell.replay(self.start, way.gradients, way.losses, way.end)
        logits = self.classifier(end, self.classifier.fresh_statistics(), True, task.queries)
        loss = F.cross_entropy(logits, task.query_labels)
        right = (logits[:, : task.n_classes].argmax(1) == task.query_labels).float().mean()
        return LossValue(loss, {"queries": loss}, {"accuracy": right.item()})

    def solve(
        self, task: Episode, generator: torch.Generator, *, auxiliary: Sequence[Episode] = ()
    ) -> Float[Tensor, "q n"]:
        """Adapt to a task and answer its queries.

        Raises:
            InputError: auxiliary tasks are given, whose outputs mean other classes.
        """
        if auxiliary:
            raise InputError(
                "auxiliary tasks have other classes, which the outputs of a classifier cannot be "
                "shared with; use MetaMetricLearner"
            )
        with seeded_layers(generator):
            way, statistics = self._descend(task, generator)
        of_batch = self.bn_mode == "transductive"
        logits = self.classifier.in_use(way.end, statistics, of_batch, task.queries)
        return logits[:, : task.n_classes].log_softmax(1)

    def _descend(self, task: Episode, generator: torch.Generator) -> tuple[Way, Statistics]:
        if task.n_classes > self.n_classes:
            raise InputError(
                f"task has {task.n_classes} classes, but this classifier was trained with "
                f"{self.n_classes} outputs; Meta-LSTM cannot take more, MetaMetricLearner can"
            )
        statistics = self.classifier.fresh_statistics()

        def loss_of(theta: Tensor, rows: Tensor) -> Tensor:
            logits = self.classifier(theta, statistics, True, task.support[rows])
            return F.cross_entropy(logits, task.support_labels[rows])

        rows = torch.arange(len(task.support_labels), device=task.support_labels.device)
        batches = batches_of(rows, self.steps, self.batch, generator)
        way = descend(
            self.cell,
            self.start.detach(),
            loss_of,
            batches,
            legacy_grad_scale=self.legacy_grad_scale,
        )
        return way, statistics


class _Classifier(nn.Module):
    def __init__(self, encoder: nn.Module, width: int, n_classes: int):
        super().__init__()
        self.encoder = encoder
        self.last = nn.Linear(width, n_classes)

    def forward(self, items: Tensor) -> Tensor:
        rows = self.encoder(items)
        return self.last(rows.raw if isinstance(rows, Embedded) else rows)
