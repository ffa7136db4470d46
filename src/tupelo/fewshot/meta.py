"""The meta metric learner: a matching network whose weights an LSTM adapts to every task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError, TrainingDiverged
from tupelo.fewshot.calibrating import in_use
from tupelo.fewshot.episodes import Episode
from tupelo.fewshot.learner import EpisodeHead
from tupelo.fewshot.meta_cell import MetaCell
from tupelo.fewshot.meta_weights import Statistics, VectorNetwork, by_batch
from tupelo.types import LossValue

BN_MODES = ("inner_running", "transductive")
SUPPORTS = ("DS", "all")


class EpisodicModel(nn.Module, ABC):
    """A model that is trained on whole tasks by `meta_fit` and answers whole tasks."""

    @abstractmethod
    def loss(self, task: Episode, generator: torch.Generator) -> LossValue:
        """The loss on the queries of one task, differentiable by what is learned.

        Args:
            task: support and queries with their labels.
            generator: of all random choices, on the CPU.
        """

    @abstractmethod
    def solve(
        self, task: Episode, generator: torch.Generator, *, auxiliary: Sequence[Episode] = ()
    ) -> Float[Tensor, "q n"]:
        """Logarithms of the probabilities of each class for the queries; their labels are not read.

        Args:
            task: what is to be answered.
            generator: of all random choices, on the CPU.
            auxiliary: further tasks with labels, for models that adapt.
        """


class Matcher(nn.Module):
    """Support and queries in one batch through a network, then through its head.

    Args:
        network: from items to `Embedded`, with a head: `FewShot` or `TextFewShot`.

    Raises:
        InputError: it has no head.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        if not isinstance(getattr(network, "head", None), EpisodeHead):
            raise InputError(
                "network must embed items and have a head, as FewShot and TextFewShot, got "
                f"{type(network).__name__}"
            )
        self.network = network

    def forward(
        self, support: Tensor, labels: Int64[Tensor, " s"], queries: Tensor, ways: int
    ) -> Float[Tensor, "q n"]:
        """Logarithms of the probabilities of each class."""
        rows = self.network(torch.cat([support, queries])).raw
        known, asked = rows[None, : len(support)], rows[None, len(support) :]
        head = cast(EpisodeHead, self.network.head)
        return head(known, labels[None], asked, ways=ways)[0].log_softmax(1)


class Halves(NamedTuple):
    """A task's items divided: the support D_S, and D_T, whose loss the updates descend."""

    support: Int64[Tensor, " a"]
    training: Int64[Tensor, " b"]


def halve(labels: Int64[Tensor, " s"], n_classes: int, generator: torch.Generator) -> Halves:
    """Divide the items of every class at random; where they are odd, the support gets one more.

    Raises:
        InputError: a class has 1 item, which cannot be divided.

    >>> labels = torch.tensor([0, 0, 1, 1, 1])
    >>> halves = halve(labels, 2, torch.Generator().manual_seed(0))
    >>> labels[halves.support].tolist(), labels[halves.training].tolist()
    ([0, 1, 1], [0, 1])
    """
    known = labels.cpu()
    counts = known.bincount(minlength=n_classes)
    if bool((counts < 2).any()):
        c = int((counts < 2).nonzero()[0])
        raise InputError(
            f"task has class {c} with {int(counts[c])} item; MML needs k>=2 or auxiliary tasks, "
            "to divide each class into support and training items"
        )
    order = torch.randperm(len(known), generator=generator)
    order = order[known[order].argsort(stable=True)]  # by class, shuffled within
    first = counts.cumsum(0) - counts
    place = torch.arange(len(known)) - first[known[order]]
    chosen = place < (counts[known[order]] + 1) // 2
    return Halves(*(order[part].sort().values.to(labels.device) for part in (chosen, ~chosen)))


def can_halve(task: Episode) -> bool:
    """Whether every class has two items or more."""
    return bool((task.counts >= 2).all())


class Way(NamedTuple):
    """What updates were made of: gradients (t, p), losses (t,), and theta after the last (p,)."""

    gradients: Tensor
    losses: Tensor
    end: Tensor


def descend(
    cell: MetaCell,
    start: Float[Tensor, " p"],
    loss_of: Callable[[Tensor, Int64[Tensor, " r"]], Tensor],
    batches: Sequence[Int64[Tensor, " r"]],
    *,
    legacy_grad_scale: bool = False,
) -> Way:
    """Updates by the meta-learner along the gradient of a loss, one a batch.

    Args:
        cell: makes the updates.
        start: theta before the first.
        loss_of: `(theta, rows) -> mean loss` of these training items, differentiable by theta.
        batches: rows of each update.
        legacy_grad_scale: divide gradients of the mean once more by the batch, as both released
            codes of Ravi and Larochelle do.

    Raises:
        TrainingDiverged: a loss or a gradient is NaN or infinite, naming the update.
    """
    rollout = cell.begin(start)
    gradients, losses = [], []
    for t, rows in enumerate(batches, 1):
        with torch.enable_grad():
            theta = rollout.theta.requires_grad_()
            loss = loss_of(theta, rows)
            (gradient,) = torch.autograd.grad(loss, theta)
        loss = loss.detach()
        if not bool(loss.isfinite()):
            raise TrainingDiverged(f"the loss became {loss.item()} at update {t} of {len(batches)}")
        if not bool(gradient.isfinite().all()):
            raise TrainingDiverged(
                f"the gradient became NaN or infinite at update {t} of {len(batches)}, while the "
                f"loss was {loss.item():g}"
            )
        if legacy_grad_scale:
            gradient = gradient / len(rows)
        rollout.update(gradient, loss)
        gradients.append(gradient)
        losses.append(loss)
    return Way(torch.stack(gradients), torch.stack(losses), rollout.theta)


def batches_of(
    rows: Int64[Tensor, " r"], steps: int, batch: int | None, generator: torch.Generator
) -> list[Int64[Tensor, " b"]]:
    """The rows of each update: all of them, or batches of shuffled passes over them."""
    if batch is None or batch >= len(rows):
        return [rows] * steps
    found: list[Tensor] = []
    while len(found) < steps:
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        found += rows[order].split(batch)
    return found[:steps]


def check_updates(steps: int, batch: int | None, bn_mode: str) -> None:
    """Of the options all adapting models have.

    Raises:
        InputError: one is outside its range.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1 update, got {steps}")
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1 item, or None for all, got {batch}")
    check_bn_mode(bn_mode)


def check_bn_mode(bn_mode: str) -> None:
    """Raise an `InputError` for an unknown one."""
    if bn_mode not in BN_MODES:
        raise InputError(f"bn_mode must be one of {BN_MODES}, got {bn_mode!r}")


def _check_support(eval_support: str) -> None:
    if eval_support not in SUPPORTS:
        raise InputError(f"eval_support must be one of {SUPPORTS}, got {eval_support!r}")


@contextmanager
def seeded_layers(generator: torch.Generator) -> Iterator[None]:
    """Layers such as dropout draw what follows from the generator, and leave no trace."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(generator.initial_seed())
        yield


@dataclass(frozen=True, eq=False)
class Adapted:
    """A matching network adapted to one task, ready for its queries.

    Attributes:
        theta: its weights (p,).
        statistics: of batch normalisation.
        support: what queries are compared with.
        labels: of the support.
        n_classes: of the task.
        network: takes them.
        transductive: normalise queries by their own batch.
    """

    theta: Tensor
    statistics: Statistics
    support: Tensor
    labels: Tensor
    n_classes: int
    network: VectorNetwork
    transductive: bool

    def answer(self, queries: Tensor) -> Float[Tensor, "q n"]:
        """Logarithms of the probabilities of each class."""
        given = self.support, self.labels, queries, self.n_classes
        return self.network.in_use(self.theta, self.statistics, self.transductive, *given)


class MetaMetricLearner(EpisodicModel):
    """Matching network (base learner) + `MetaCell` (meta-learner), for tasks of any shape.

    A task's items are divided by class into D_S and D_T. From the learned weights c_0 (`start`)
    the meta-learner makes `steps` updates along the gradient of the loss on D_T with support D_S;
    what it learns from is the loss on the queries after the last. No weight depends on the number
    of classes, so tasks may differ in it. Source: Cheng, Yu, Guo, Zhou, "Few-Shot Learning with
    Meta Metric Learners", NIPS 2017 workshop on meta-learning; docs/meta-metric-learner.md.

    Args:
        network: `FewShot` or `TextFewShot` with a head that takes any number of classes, as
            `Matching()`; copied. Its weights are where c_0 begins.
        cell: the meta-learner; default `MetaCell()`.
        steps: updates T, >= 1.
        batch: items of D_T an update, >= 1; None takes all.
        eval_support: what queries are compared with: "DS", or "all", D_S and D_T, in training
            too. The updates see D_S, so "all" is another situation than the one they were for.
        bn_mode: batch normalisation when a task is solved: "inner_running", the statistics that
            the updates have collected, or "transductive", those of support and queries together.
            Updates and training always take those of the batch.
        bn_momentum: weight of a new batch in the running statistics, in (0, 1].
        legacy_grad_scale: see `descend`.
        shared: names of parameters, as in `network.named_parameters()`, that are learned but not
            adapted; None: all are adapted.
        generator: of the cell's initial weights, if none is given.

    Raises:
        InputError: an option outside its range; the network has no head, or nothing to adapt.

    >>> from tupelo.fewshot import FewShot, Matching, conv4
    >>> model = MetaMetricLearner(FewShot(conv4(width=4), Matching()), steps=2)
    >>> task = Episode(torch.rand(6, 1, 28, 28), torch.tensor([0, 0, 1, 1, 2, 2]),
    ...                torch.rand(5, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1]), 3)
    >>> model.solve(task, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        cell: MetaCell | None = None,
        steps: int = 5,
        batch: int | None = None,
        eval_support: str = "DS",
        bn_mode: str = "inner_running",
        bn_momentum: float = 0.95,
        legacy_grad_scale: bool = False,
        shared: Callable[[str], bool] | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_updates(steps, batch, bn_mode)
        _check_support(eval_support)
        self.steps = steps
        self.batch = batch
        self.eval_support = eval_support
        self.bn_mode = bn_mode
        self.legacy_grad_scale = legacy_grad_scale
        inner = None if shared is None else (lambda name: shared(name.removeprefix("network.")))
        self.matcher = VectorNetwork(Matcher(network), shared=inner, bn_momentum=bn_momentum)
        self.cell = MetaCell(generator=generator) if cell is None else cell
        self.start = nn.Parameter(self.matcher.initial())

    def loss(self, task: Episode, generator: torch.Generator) -> LossValue:
        """Algorithm 1, one task: updates without graph, then the loss through all of them.

        Raises:
            InputError: a class of the support has 1 item.
            TrainingDiverged: a loss or gradient is not finite, naming the update.
        """
        halves = halve(task.support_labels, task.n_classes, generator)
        way, _ = self._descend(self.start.detach(), task, halves, generator)
        end = self.cell.replay(self.start, way.gradients, way.losses, way.end)
        support = self._final_support(task, halves, self.eval_support)
        logarithms = self.matcher(
            end,
            self.matcher.fresh_statistics(),
            True,
            task.support[support],
            task.support_labels[support],
            task.queries,
            task.n_classes,
        )
        loss = F.nll_loss(logarithms, task.query_labels)
        right = (logarithms.argmax(1) == task.query_labels).float().mean()
        statistics = {
            "accuracy": right.item(),
            "inner_first": way.losses[0].item(),
            "inner_last": way.losses[-1].item(),
        }
        return LossValue(loss, {"queries": loss}, statistics)

    def adapt(
        self,
        task: Episode,
        generator: torch.Generator,
        *,
        auxiliary: Sequence[Episode] = (),
        passes: int = 1,
        eval_support: str | None = None,
    ) -> Adapted:
        """Algorithm 2: updates on auxiliary tasks in random order, then on the task itself.

        Each task begins with the weights the one before it left, and with states of the
        meta-learner at 0. Tasks with a class of 1 item cannot be divided and are passed over; if
        the task itself is one of these, all its support is what its queries are compared with.
        The queries of the task are not looked at.

        Args:
            task: what is to be answered.
            generator: of all random choices, on the CPU.
            auxiliary: further tasks, of which the support is used.
            passes: over the auxiliary tasks, >= 1.
            eval_support: instead of the model's own, for ablations.

        Raises:
            InputError: neither the task nor an auxiliary one can be divided, `passes` is below 1,
                or `eval_support` unknown.
            TrainingDiverged: a loss or gradient is not finite, naming task and update.
        """
        if passes < 1:
            raise InputError(f"passes must be at least 1, got {passes}")
        eval_support = self.eval_support if eval_support is None else eval_support
        _check_support(eval_support)
        with seeded_layers(generator):
            return self._adapted(task, generator, auxiliary, passes, eval_support)

    def _adapted(
        self,
        task: Episode,
        generator: torch.Generator,
        auxiliary: Sequence[Episode],
        passes: int,
        eval_support: str,
    ) -> Adapted:
        usable = [each for each in auxiliary if can_halve(each)]
        if not usable and not can_halve(task):
            halve(task.support_labels, task.n_classes, generator)  # raises, naming the class
        theta = self.start.detach()
        for _ in range(passes):
            for index in torch.randperm(len(usable), generator=generator).tolist():
                other = usable[index]
                halves = halve(other.support_labels, other.n_classes, generator)
                try:
                    way, _ = self._descend(theta, other, halves, generator)
                except TrainingDiverged as error:
                    raise TrainingDiverged(f"auxiliary task {index}: {error}") from error
                theta = way.end
        if can_halve(task):
            halves = halve(task.support_labels, task.n_classes, generator)
            way, statistics = self._descend(theta, task, halves, generator)
            theta = way.end
            chosen = self._final_support(task, halves, eval_support)
            support, labels = task.support[chosen], task.support_labels[chosen]
        else:
            support, labels = task.support, task.support_labels
            # the updates were on other tasks: what they collected describes other pictures
            statistics = self._measured(theta, task)
        transductive = self.bn_mode == "transductive"
        return Adapted(
            theta, statistics, support, labels, task.n_classes, self.matcher, transductive
        )

    def solve(
        self, task: Episode, generator: torch.Generator, *, auxiliary: Sequence[Episode] = ()
    ) -> Float[Tensor, "q n"]:
        """Adapt to a task and answer its queries; see `adapt`."""
        return self.adapt(task, generator, auxiliary=auxiliary).answer(task.queries)

    def unadapted(self, task: Episode) -> Adapted:
        """The learned initial weights without any update, an ablation; all support is used."""
        theta, support, labels = self.start.detach(), task.support, task.support_labels
        transductive = self.bn_mode == "transductive"
        return Adapted(
            theta,
            self._measured(theta, task),
            support,
            labels,
            task.n_classes,
            self.matcher,
            transductive,
        )

    def _measured(self, theta: Tensor, task: Episode) -> Statistics:
        """Of all support; it is asked about too, so that no item counts more than another."""
        support, labels = task.support, task.support_labels
        return self.matcher.measured(theta, support, labels, support, task.n_classes)

    def _descend(
        self, start: Tensor, task: Episode, halves: Halves, generator: torch.Generator
    ) -> tuple[Way, Statistics]:
        statistics = self.matcher.fresh_statistics()
        support, labels = task.support[halves.support], task.support_labels[halves.support]

        def loss_of(theta: Tensor, rows: Tensor) -> Tensor:
            logarithms = self.matcher(
                theta, statistics, True, support, labels, task.support[rows], task.n_classes
            )
            return F.nll_loss(logarithms, task.support_labels[rows])

        batches = batches_of(halves.training, self.steps, self.batch, generator)
        way = descend(self.cell, start, loss_of, batches, legacy_grad_scale=self.legacy_grad_scale)
        return way, statistics

    def _final_support(self, task: Episode, halves: Halves, wanted: str) -> Tensor:
        if wanted == "DS":
            return halves.support
        return torch.arange(len(task.support_labels), device=task.support_labels.device)


class Direct(EpisodicModel):
    """A metric learner that answers as it is: the baseline, with all support items as support.

    Args:
        network: `FewShot` or `TextFewShot`; not copied.
        bn_mode: batch normalisation when a task is solved: "inner_running", the running
            statistics of training, or "transductive", those of support and queries together.

    Raises:
        InputError: an unknown mode, or a network without a head.
    """

    def __init__(self, network: nn.Module, *, bn_mode: str = "inner_running"):
        super().__init__()
        check_bn_mode(bn_mode)
        self.matcher = Matcher(network)
        self.bn_mode = bn_mode

    def loss(self, task: Episode, generator: torch.Generator) -> LossValue:
        """The loss on the queries of one task."""
        self.matcher.train()
        logarithms = self.matcher(task.support, task.support_labels, task.queries, task.n_classes)
        loss = F.nll_loss(logarithms, task.query_labels)
        right = (logarithms.argmax(1) == task.query_labels).float().mean()
        return LossValue(loss, {"queries": loss}, {"accuracy": right.item()})

    def solve(
        self, task: Episode, generator: torch.Generator, *, auxiliary: Sequence[Episode] = ()
    ) -> Float[Tensor, "q n"]:
        """Answer a task.

        Raises:
            InputError: auxiliary tasks are given; it is trained on them before.
        """
        if auxiliary:
            raise InputError(
                "auxiliary tasks are for models that adapt; train this one on them instead"
            )
        given = task.support, task.support_labels, task.queries, task.n_classes
        with in_use(self.matcher):
            if self.bn_mode == "transductive":
                with by_batch(self.matcher):
                    return self.matcher(*given)
            return self.matcher(*given)
