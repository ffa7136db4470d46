"""The gradient of one step, in one piece or chunk by chunk."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tupelo.data import Batch
from tupelo.distributed import gather, leaves, rebuilt, share_gradients
from tupelo.errors import InputError, TrainingDiverged
from tupelo.types import LossValue, Objective


class Seeds(NamedTuple):
    """The randomness of one step, from its place in the run and nothing else.

    Attributes:
        seed: of the run.
        epoch: of the step.
        batch: within the epoch; -1 before the first.
        rank: of the process; only the network's randomness, such as dropout, depends on it.
        step: steps taken before, for messages.
    """

    seed: int
    epoch: int
    batch: int
    rank: int
    step: int

    def reseed(self, chunk: int) -> None:
        """Seed the generators that layers such as dropout draw from; `fit` restores them."""
        torch.manual_seed(self._derived(1 + self.rank, chunk))

    def generator(self) -> torch.Generator:
        """A generator for the objective, the same in all processes."""
        return torch.Generator().manual_seed(self._derived(0))

    def _derived(self, *purpose: int) -> int:
        words = [self.seed, self.epoch, self.batch + 1, *purpose]
        return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


Step = Callable[[Batch, Seeds], LossValue]
"""`(batch, seeds) -> loss`, with the gradients left in the parameters."""


def one_piece(fabric: Fabric, network: _FabricModule, objective: Objective) -> Step:
    """Forward, objective and backward of the whole batch."""

    def step(batch: Batch, seeds: Seeds) -> LossValue:
        seeds.reseed(0)
        value = _loss(objective, network(batch.images), batch, seeds)
        fabric.backward(value.total)
        share_gradients(objective)
        return value

    return step


def in_chunks(fabric: Fabric, network: _FabricModule, objective: Objective, rows: int) -> Step:
    """The same gradients with the graph of only `rows` rows in memory at a time.

    All chunks are embedded without a graph; the objective on the joined rows gives the gradient
    of every row; then each chunk is embedded again, with the same random numbers, and its rows
    receive their part. Costs one more forward. Source: Gao, Zhang, Han, Callan, "Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.

    Raises:
        InputError: batch normalisation is in train mode: it would see chunks instead of batches.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise InputError(
                f"chunk={rows} needs a network whose rows do not depend on each other, but {name} "
                "is batch normalisation in train mode; freeze it (freeze_batchnorm=True) or train "
                "with chunk=None"
            )

    def step(batch: Batch, seeds: Seeds) -> LossValue:
        pieces = batch.images.split(rows)
        output = _embed(network, pieces, seeds)
        value = _loss(objective, output, batch, seeds)
        with fabric.no_backward_sync(network):  # objectives may use the head of the network too
            fabric.backward(value.total)
        share_gradients(objective)
        gradients = zip(*(_split(leaf, rows, len(pieces)) for leaf in leaves(output)), strict=True)
        for i, (piece, gradient) in enumerate(zip(pieces, gradients, strict=True)):
            last = i == len(pieces) - 1
            with nullcontext() if last else fabric.no_backward_sync(network):
                seeds.reseed(i)
                fabric.backward(_inner(leaves(network(piece)), gradient))
        return value

    return step


def _loss(objective: Objective, output, batch: Batch, seeds: Seeds) -> LossValue:
    output, labels, items = gather(output, batch.labels, batch.items)
    try:
        return objective(output, labels, items=items, generator=seeds.generator())
    except InputError as error:
        if all(torch.isfinite(rows).all() for rows in leaves(output)):
            raise
        raise TrainingDiverged(
            f"the output of the network became NaN or infinite at step {seeds.step}; the last "
            "good checkpoint is kept: lower lr, set clip_norm, or lengthen warmup_steps"
        ) from error


@torch.no_grad()
def _embed(network: nn.Module, pieces: tuple[Tensor, ...], seeds: Seeds):
    outputs = []
    for i, piece in enumerate(pieces):
        seeds.reseed(i)
        outputs.append(network(piece))
    rows = iter([torch.cat(parts) for parts in zip(*map(leaves, outputs), strict=True)])
    return rebuilt(outputs[0], lambda _: _differentiable(next(rows)))


def _differentiable(rows: Tensor) -> Tensor:
    return rows.requires_grad_() if rows.is_floating_point() else rows


def _split(leaf: Tensor, rows: int, pieces: int) -> tuple[Tensor | None, ...]:
    return (None,) * pieces if leaf.grad is None else leaf.grad.split(rows)


def _inner(rows: list[Tensor], gradients: tuple[Tensor | None, ...]) -> Tensor:
    """A scalar whose gradient with respect to the rows is exactly the given one."""
    products = [
        (row * gradient).sum()
        for row, gradient in zip(rows, gradients, strict=True)
        if gradient is not None
    ]
    return torch.stack(products).sum()
