"""Products of items and class weights, and log-sums of them, with gradients made in tiles.

With many classes the matrices (b, C) and the weights (C, d) are what a step costs. Autograd makes
several copies of both; these functions keep the fewest, and write each gradient once, by tiles of
classes that stay in the cache.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 4096  # classes
SMALLEST_NORM = 1e-12


def cosines_with(
    rows: Float[Tensor, "b d"], weights: Float[Tensor, "c d"], labels: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b c"], Float[Tensor, " b"]]:
    """Cosines of items and classes, and, apart, that of each item and its own class.

    Both have gradients; taken from the second, that of an own cosine needs no matrix of zeros.

    >>> rows, weights = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    >>> cosines_with(rows, weights, torch.tensor([0]))
    (tensor([[0.6000, 0.0000]]), tensor([0.6000]))
    """
    return _Cosines.apply(rows, weights, labels)


def products_with(
    rows: Float[Tensor, "b d"], weights: Float[Tensor, "c d"], labels: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b c"], Float[Tensor, " b"]]:
    """Inner products of items and classes, and the cosine of each item and its own class.

    >>> rows, weights = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    >>> products_with(rows, weights, torch.tensor([0]))
    (tensor([[6., 0.]]), tensor([0.6000]))
    """
    return _Products.apply(rows, weights, labels)


def both_with(
    rows: Float[Tensor, "b d"], weights: Float[Tensor, "c d"]
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Inner products of items and classes, and their cosines, of one matrix product.

    >>> rows, weights = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    >>> both_with(rows, weights)
    (tensor([[6., 0.]]), tensor([[0.6000, 0.0000]]))
    """
    return _Both.apply(rows, weights)


def softmax_terms(
    values: Float[Tensor, "b c"], labels: Int[Tensor, " b"], own: Float[Tensor, " b"], scale: float
) -> Float[Tensor, " b"]:
    """Cross-entropy of scale x values, with `own` in place of the value of the own class.

    >>> softmax_terms(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1.0]), 2.0)
    tensor([0.2395])
    """
    return _SoftmaxTerms.apply(values, own, labels, scale)


def log_sums_of_others(
    values: Float[Tensor, "b c"], labels: Int[Tensor, " b"], scale: float
) -> Float[Tensor, " b"]:
    """log sum exp(scale x value) over all classes but the own.

    >>> log_sums_of_others(torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([0]), 1.0)
    tensor([0.6931])
    """
    return _LogSumsOfOthers.apply(values, labels, scale)


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weights: Tensor, labels: Tensor):
        to_rows, to_weights = _inverse(rows), _inverse(weights)
        unit = rows * to_rows[:, None]
        cosines = unit @ weights.T
        cosines *= to_weights
        ctx.save_for_backward(unit, weights, labels, to_rows, to_weights)
        return cosines, cosines.gather(1, labels[:, None])[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        of_all, of_own = grad_outputs
        unit, weights, labels, to_rows, to_weights = ctx.saved_tensors
        of_products = of_all * to_weights
        of_products.scatter_add_(1, labels[:, None], (of_own * to_weights[labels])[:, None])
        wanted = ctx.needs_input_grad[1]
        of_unit, of_weights = torch.zeros_like(unit), torch.empty_like(weights) if wanted else None
        for first in range(0, len(weights), TILE):
            tile = slice(first, first + TILE)
            some = weights[tile]
            of_unit.addmm_(of_products[:, tile], some)
            if of_weights is None:
                continue
            gradient = torch.mm(of_products[:, tile].T, unit, out=of_weights[tile])
            # what lies along a weight row only changes its length, of which a cosine knows nothing
            along = (some * gradient).sum(1) * to_weights[tile].square()
            gradient.addcmul_(some, along[:, None], value=-1)
        along = (of_unit * unit).sum(1, keepdim=True)
        return (of_unit - unit * along) * to_rows[:, None], of_weights, None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weights: Tensor, labels: Tensor):
        products = rows @ weights.T
        target = weights[labels]
        to_rows, to_target = _inverse(rows), _inverse(target)
        own = (rows * target).sum(1) * to_rows * to_target
        ctx.save_for_backward(rows, weights, labels, own, to_rows, to_target)
        return products, own

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        of_all, of_own = grad_outputs
        rows, weights, labels, own, to_rows, to_target = ctx.saved_tensors
        target = weights[labels]
        unit, unit_target = rows * to_rows[:, None], target * to_target[:, None]
        of_rows = of_all @ weights
        of_rows += (of_own * to_rows)[:, None] * (unit_target - own[:, None] * unit)
        of_weights = of_all.T @ rows
        of_target = (of_own * to_target)[:, None] * (unit - own[:, None] * unit_target)
        of_weights.index_add_(0, labels, of_target)
        return of_rows, of_weights, None


class _Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weights: Tensor):
        to_rows, to_weights = _inverse(rows), _inverse(weights)
        products = rows @ weights.T
        cosines = products * to_rows[:, None]
        cosines *= to_weights
        ctx.save_for_backward(rows, weights, to_rows, to_weights, cosines)
        return products, cosines

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        of_products, of_cosines = grad_outputs
        rows, weights, to_rows, to_weights, cosines = ctx.saved_tensors
        of_rows, of_weights = torch.zeros_like(rows), torch.empty_like(weights)
        along_rows = torch.zeros_like(to_rows)
        for first in range(0, len(weights), TILE):
            tile = slice(first, first + TILE)
            slope, inverse = of_cosines[:, tile], to_weights[tile]
            both = (slope * inverse).mul_(to_rows[:, None]).add_(of_products[:, tile])
            of_rows.addmm_(both, weights[tile])
            gradient = torch.mm(both.T, rows, out=of_weights[tile])
            # lengths: a cosine knows nothing of them
            weighed = slope * cosines[:, tile]
            along_rows += weighed.sum(1)
            along = weighed.sum(0) * inverse.square()
            gradient.addcmul_(weights[tile], along[:, None], value=-1)
        of_rows.addcmul_(rows, (along_rows * to_rows.square())[:, None], value=-1)
        return of_rows, of_weights


class _SoftmaxTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, own: Tensor, labels: Tensor, scale: float):
        target = own * scale
        logits = values * scale
        logits.scatter_(1, labels[:, None], target[:, None])
        largest, sums = _exponentials(logits)
        own_share = logits.gather(1, labels[:, None])[:, 0] / sums
        logits.scatter_(1, labels[:, None], 0)
        ctx.save_for_backward(logits, sums, own_share)
        ctx.scale = scale
        return sums.log() - (target - largest)  # in this order a small loss keeps its digits

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (of_terms,) = grad_outputs
        exponentials, sums, own_share = ctx.saved_tensors
        slope = of_terms * ctx.scale
        return exponentials * (slope / sums)[:, None], (own_share - 1) * slope, None, None


class _LogSumsOfOthers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, labels: Tensor, scale: float):
        logits = values * scale
        logits.scatter_(1, labels[:, None], -torch.inf)
        largest, sums = _exponentials(logits)
        ctx.save_for_backward(logits, sums)
        ctx.scale = scale
        return sums.log() + largest

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (of_sums,) = grad_outputs
        exponentials, sums = ctx.saved_tensors
        return exponentials * (of_sums * ctx.scale / sums)[:, None], None, None


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each row and the sum of exp(logit - largest), which replace the logits."""
    largest = logits.amax(1)
    return largest, logits.sub_(largest[:, None]).exp_().sum(1)


def _inverse(rows: Tensor) -> Tensor:
    return rows.norm(dim=1).clamp(min=SMALLEST_NORM).reciprocal()
