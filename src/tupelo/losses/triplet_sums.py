"""Sums of the triplet hinge over all triplets, without ever listing them.

For one anchor the hinge sum over negatives n of a positive p needs only how many negatives lie
below D_p + margin and the sum of their distances. With negatives sorted once per anchor, both are
read off prefix sums; the gradient of a negative is minus the number of positives that reach it.

On CPUs a compiled kernel does this row by row; where an anchor has few positives it counts
directly instead of sorting, which is the same sum. Elsewhere tensor operations sort all rows.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WORTH_THREADS = 2**18  # entries; fewer are summed before threads have started


def triplet_sums(
    distance: Float[Tensor, "b c"],
    positive: Bool[Tensor, "b c"],
    negative: Bool[Tensor, "b c"],
    margin: float,
) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
    """Per anchor, the sum of max(D_p - D_n + margin, 0) over its pairs (p, n) and how many are > 0.

    Args:
        distance: (b, c), differentiable.
        positive: who is positive, (b, c).
        negative: who is negative, (b, c).
        margin: added to the distance of the positive.

    >>> d = torch.tensor([[1.0, 2.0, 1.5]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> triplet_sums(d, mask, ~mask, 1.0)
    (tensor([2.]), tensor([2]))
    """
    return _TripletSums.apply(distance, positive, negative, margin)


class _TripletSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance, positive, negative, margin):
        compute = _compiled if distance.device.type == "cpu" else _sorted
        sums, active, slope = compute(distance.detach(), positive, negative, margin)
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(active)
        return sums, active

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient, _), (slope,) = grad_outputs, ctx.saved_tensors
        return slope * gradient[:, None], None, None, None


def _compiled(distance, positive, negative, margin) -> tuple[Tensor, Tensor, Tensor]:
    # imported on use: loading numba takes longer than most calls of this function
    from tupelo.losses.triplet_kernel import triplet_rows

    b = len(distance)
    sums = torch.empty(b, dtype=distance.dtype)
    active = torch.empty(b, dtype=torch.int64)
    slope = torch.empty_like(distance, memory_format=torch.contiguous_format)
    inputs = [t.contiguous().numpy() for t in (distance, positive, negative)]
    outputs = [t.numpy() for t in (sums, active, slope)]
    bound = distance.new_tensor(margin).numpy()[()]

    def rows(start: int, stop: int) -> None:
        part = slice(start, stop)
        triplet_rows(*(t[part] for t in inputs), bound, *(t[part] for t in outputs))

    threads = torch.get_num_threads() if distance.numel() >= WORTH_THREADS else 1
    if threads == 1:
        rows(0, b)
    else:
        edges = [b * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(rows, edges[:-1], edges[1:]))
    return sums, active, slope


def _sorted(distance, positive, negative, margin) -> tuple[Tensor, Tensor, Tensor]:
    ranked = distance.masked_fill(~negative, math.inf).sort(1).values
    prefix = torch.where(ranked.isfinite(), ranked, 0).double().cumsum(1)
    bound = distance + margin
    below = torch.searchsorted(ranked, bound)  # negatives strictly nearer than the bound
    below = torch.where(positive, below, 0)
    sums = below * bound - prefix.gather(1, (below - 1).clamp(min=0)) * (below > 0)
    bounds = bound.masked_fill(~positive, -math.inf).sort(1).values
    reached = distance.shape[1] - torch.searchsorted(bounds, distance, right=True)
    slope = below - torch.where(negative, reached, 0)
    return sums.sum(1).to(distance.dtype), below.sum(1), slope.to(distance.dtype)
