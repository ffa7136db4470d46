"""Diversity of learners that share one linear layer: activation loss and adversarial loss.

Source: Opitz, Waltner, Possegger, Bischof, "BIER: Boosting Independent Embeddings Robustly", ICCV
2017, and "Deep Metric Learning with BIER", TPAMI 2018; numbers as in the released code. Both work
on r_i = W_i stop(h), without bias and not normalised: only the linear layer learns from them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError

AXES = ("input", "output")


class Diversity(nn.Module, ABC):
    """What makes the learners of one linear layer respond to different things.

    Called with the weights W_i (d_i, f) of m learners and h (b, f), it returns two scalars: how
    alike the learners are, and how far the weights are from the length they should have, times
    `constraint_weight`. Their sum is minimised. Without the second, W = 0 would be the answer.

    Args:
        widths: of the learners, two at least.
        constraint_weight: lambda_w, >= 0.
        norm_axis: whose weights have length 1: those of an "input" unit, over the d_i outputs, or
            those of an "output" dimension, over the f inputs.

    Raises:
        InputError: fewer than two learners, constraint_weight < 0, or another axis.
    """

    def __init__(self, widths: Sequence[int], constraint_weight: float, norm_axis: str):
        super().__init__()
        if len(widths) < 2:
            raise InputError(
                f"diversity needs two learners or more, got {len(widths)}; set diversity='none'"
            )
        if not constraint_weight >= 0:
            raise InputError(f"constraint_weight must be >= 0, got {constraint_weight}")
        if norm_axis not in AXES:
            raise InputError(f"norm_axis must be 'input' or 'output', got {norm_axis!r}")
        self.widths = tuple(widths)
        self.constraint_weight = constraint_weight
        self.norm_axis = norm_axis

    def forward(
        self, weights: Sequence[Float[Tensor, "_ f"]], features: Float[Tensor, "b f"]
    ) -> tuple[Tensor, Tensor]:
        """How alike the learners are, and the weight constraint times its weight."""
        # without stop(h), a network with small features would be the cheapest answer
        seen = features.detach().to(weights[0].dtype)
        activations = [seen @ weight.T for weight in weights]
        lengths = torch.stack([unit_length(weight, self.norm_axis) for weight in weights]).sum()
        alike, own = self.alike(activations)
        return alike, self.constraint_weight * (lengths + own)

    @abstractmethod
    def alike(self, activations: Sequence[Float[Tensor, "b _"]]) -> tuple[Tensor, Tensor]:
        """How alike activations are, and a constraint on what measures that, before its weight."""


class ActivationDiversity(Diversity):
    """Learners should not be active together: the mean squared products of their activations.

    sum_(i<j) mean over items and dimensions (k, l) of (r_i[k] r_j[l])^2, which factorises into
    the mean over items of mean_k r_i[k]^2 mean_l r_j[l]^2.

    Args:
        widths: of the learners, two at least.
        constraint_weight: lambda_w, >= 0.
        norm_axis: see `Diversity`; the released code has "output", and a user who reproduced its
            results says that it should be "input".

    Raises:
        InputError: see `Diversity`.

    >>> diversity = ActivationDiversity((2, 3), constraint_weight=0.0)
    >>> one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    >>> diversity.alike([one, other])[0]
    tensor(8.3333)
    """

    def __init__(
        self, widths: Sequence[int], *, constraint_weight: float = 100.0, norm_axis: str = "output"
    ):
        super().__init__(widths, constraint_weight, norm_axis)

    def alike(self, activations: Sequence[Float[Tensor, "b _"]]) -> tuple[Tensor, Tensor]:
        """The activation loss, and no constraint."""
        energies = [r.square().mean(1) for r in activations]
        pairs = [(one * other).mean() for one, other in combinations(energies, 2)]
        return torch.stack(pairs).sum(), energies[0].new_zeros(())


class AdversarialDiversity(Diversity):
    """Regressors look for what learners have in common, and the learners unlearn it.

    For i < j a regressor R_ji maps the activations of learner j to those of learner i:

        L_ij = - mean( (GR(r_i) * R_ji(GR(r_j)))^2 )

    GR is the identity whose gradient is reversed. So R_ji learns to make the squared product
    large, W_i and W_j to make it small, in one backward pass.

    Args:
        widths: of the learners, two at least.
        constraint_weight: lambda_w, >= 0, also of the lengths of the regressors' weights (of each
            input unit) and of their biases (at most 1).
        norm_axis: see `Diversity`.
        hidden: width of the regressors' hidden layer, >= 1.
        learning_rate: of the regressors; None for that of the optimiser.

    Raises:
        InputError: see `Diversity`; hidden < 1; learning_rate not > 0.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        constraint_weight: float = 100.0,
        norm_axis: str = "input",
        hidden: int = 512,
        learning_rate: float | None = None,
    ):
        super().__init__(widths, constraint_weight, norm_axis)
        if hidden < 1:
            raise InputError(f"hidden must be >= 1, got {hidden}")
        if learning_rate is not None and not learning_rate > 0:
            raise InputError(
                f"the learning rate of the regressors must be > 0, got {learning_rate}"
            )
        self.learning_rate = learning_rate
        self.regressors = nn.ModuleList(
            nn.Sequential(nn.Linear(d_j, hidden), nn.ReLU(), nn.Linear(hidden, d_i))
            for d_i, d_j in combinations(self.widths, 2)
        )

    def alike(self, activations: Sequence[Float[Tensor, "b _"]]) -> tuple[Tensor, Tensor]:
        """The adversarial loss, and the constraint on the regressors."""
        reversed_ = [reverse_gradient(r) for r in activations]
        pairs = combinations(reversed_, 2)
        found = [
            -(r_i * regressor(r_j)).square().mean()
            for regressor, (r_i, r_j) in zip(self.regressors, pairs, strict=True)
        ]
        lengths = [
            unit_length(layer.weight, "input") + F.relu(layer.bias.square().sum() - 1)
            for layer in self.regressors.modules()
            if isinstance(layer, nn.Linear)
        ]
        return torch.stack(found).sum(), torch.stack(lengths).sum()


def unit_length(weight: Float[Tensor, "d f"], norm_axis: str) -> Float[Tensor, ""]:
    """How far weights are from length 1: the mean of (|w|^2 - 1)^2.

    Args:
        weight: of a linear layer, (outputs, inputs).
        norm_axis: one length for each "input" unit, or for each "output".

    >>> weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> unit_length(weight, "input").item(), unit_length(weight, "output").item()
    (0.0, 0.5)
    """
    return (weight.square().sum(0 if norm_axis == "input" else 1) - 1).square().mean()


def reverse_gradient(x: Tensor) -> Tensor:
    """`x`, whose gradient changes its sign on the way back.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x).sum().backward()
    >>> x.grad
    tensor([-1., -1.])
    """
    return _Reversed.apply(x)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *grad_outputs):
        return -grad_outputs[0]
