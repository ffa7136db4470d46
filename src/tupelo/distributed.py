"""Several processes: rows of all of them gathered with gradient.

Every process computes the whole objective on the rows of all processes, in rank order, with the
same generator, queues and normalisers. So the loss is the loss of the one-process step by
construction, for every objective there is or will be: sums over active tuples, hardest negatives
of the batch and memories need no distributed version. It costs each process the objective of the
full batch, which is small beside the network (`benchmarks/losses.py`).

The gradient of the objective with respect to the gathered rows is then known everywhere, so the
backward of `gather` communicates nothing: each process keeps the part of its own rows, times the
number of processes, because DistributedDataParallel averages the gradients of the network over
them. Their mean is the exact gradient of the one-process step. What the objective itself learns
is outside DistributedDataParallel: its gradients are equal everywhere already, so no average
or factor is needed; `share_gradients` only removes the last-bit differences of kernels that are
not deterministic.

In train mode, batch normalisation sees only the rows of its own process, unless it is converted
to `SyncBatchNorm` (done by `fit` on GPUs); frozen batch normalisation is exact everywhere.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor, nn

from tupelo.errors import InputError


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(
    output,
    labels,
    items: Int[Tensor, " b"] | None = None,
) -> tuple:
    """Rows of all processes, in rank order; the number of rows may differ between them.

    Differentiable in every floating tensor of `output`: the backward keeps the gradient of the
    own rows times the number of processes (see the module).

    Args:
        output: what the model returned for the own rows: a named tuple of tensors with rows
            first, such as `Embedded`, or a tuple of those, one per learner.
        labels: class indices (b,) or boolean tags (b, tags), numbered alike in all processes.
        items: identities (b,).

    Returns:
        The same three things for the rows of all processes; unchanged when there is one.

    Raises:
        InputError: in several processes, `labels` is not a tensor, rows and labels differ in
            number, or a process has no rows.
    """
    if world_size() == 1:
        return output, labels, items
    if not isinstance(labels, Tensor):
        raise InputError(
            "labels must be a tensor when several processes train together, got "
            f"{type(labels).__name__}; number classes alike in all processes first"
        )
    counts = _counts(len(labels), labels.device)
    if min(counts) == 0:
        raise InputError(
            f"every process needs at least one row, got {counts} over {len(counts)} processes; "
            "enlarge the batch or use fewer processes"
        )
    rows = {len(tensor) for tensor in leaves(output)}
    if rows != {len(labels)}:
        raise InputError(
            f"output and labels must have the same number of rows, got {sorted(rows)} and "
            f"{len(labels)}"
        )
    return (
        rebuilt(output, lambda tensor: _GatherRows.apply(tensor, counts)),
        _all_rows(labels, counts),
        None if items is None else _all_rows(items, counts),
    )


def leaves(output) -> list[Tensor]:
    """The tensors of nested tuples, in order.

    >>> len(leaves((torch.zeros(2), (torch.ones(1), torch.ones(3)))))
    3
    """
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in leaves(part)]


def rebuilt(output, change: Callable[[Tensor], Tensor]):
    """The same nested (named) tuples with every tensor replaced by `change(tensor)`."""
    if isinstance(output, Tensor):
        return change(output)
    parts = [rebuilt(part, change) for part in output]
    return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)


@torch.no_grad()
def share_gradients(module: nn.Module) -> None:
    """Give all processes the gradients that the first one computed for `module`."""
    if world_size() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.broadcast(parameter.grad, src=0)


@torch.no_grad()
def share_state(module: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first one."""
    if world_size() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            # not every backend knows booleans
            dist.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)


def share_number(value: float, device: torch.device) -> float:
    """The number of the first process, in all of them, as float64."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(tensor, src=0)
    return float(tensor)


def _counts(own: int, device: torch.device) -> list[int]:
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([own], device=device))
    return [int(size) for size in torch.cat(sizes).tolist()]


def _all_rows(own: Tensor, counts: list[int]) -> Tensor:
    # collectives want equal shapes (gloo aborts one process and hangs the other), hence the padding
    wire = own.to(torch.uint8) if own.dtype == torch.bool else own
    padded = wire.new_zeros((max(counts), *own.shape[1:]))
    padded[: len(own)] = wire
    received = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(received, padded)
    rows = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
    return rows.to(own.dtype)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor, counts: list[int]) -> Tensor:
        start = sum(counts[: dist.get_rank()])
        ctx.own, ctx.world = slice(start, start + len(own)), len(counts)
        return _all_rows(own.contiguous(), counts)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient[ctx.own] * ctx.world, None
