"""A scalar whose backward pass hands out gradients that are known already."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def assigned(value: Tensor, gradients: Mapping[Tensor, Tensor]) -> Tensor:
    """`value`, with exactly these gradients with respect to the keys, and none to other tensors.

    So several losses that each train other parameters become one loss for the training loop.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> assigned(torch.tensor(3.0), {weight: torch.tensor([5.0, 7.0])}).backward()
    >>> weight.grad
    tensor([5., 7.])
    """
    return _Assigned.apply(value.detach(), tuple(gradients.values()), *gradients)


class _Assigned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, gradients, *inputs):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        (factor,) = grad_outputs
        return None, None, *(gradient * factor for gradient in ctx.gradients)
