"""Learners that start out different: the first use of the activation loss (ICCV 2017)."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from tupelo.comparison import check_rows
from tupelo.ensembles.diversity import ActivationDiversity
from tupelo.errors import InputError
from tupelo.models import Divided

_log = logging.getLogger(__name__)


def init_embeddings(
    model: Divided,
    features: Float[Tensor, "n f"],
    *,
    constraint_weight: float = 100.0,
    norm_axis: str = "output",
    steps: int = 1000,
    batch_size: int = 128,
    lr: float = 1e-3,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Start the learners of a divided model from weights with little in common.

    Activation loss and weight constraint are minimised by Adam over the linear layer alone, on
    features extracted before; training then begins from there, without a diversity term. Source:
    the use of the loss in Opitz et al., ICCV 2017; steps, batch and rate are ours.

    Args:
        model: whose linear layer is changed, but for its bias.
        features: what the learners see, (n, f): `model(images)[0].features` of many pictures.
        constraint_weight: lambda_w, >= 0.
        norm_axis: see `Diversity`.
        steps: of Adam, >= 1.
        batch_size: rows a step, drawn with replacement, >= 1.
        lr: of Adam, > 0.
        generator: of the draws.

    Returns:
        Activation loss plus constraint at each step.

    Raises:
        InputError: fewer than two learners, another model, features of another width or not
            finite, or a number out of its range.

    >>> from tupelo.models import divided, embedder
    >>> model = divided(embedder("convnet", dim=12, channels=1))
    >>> features = torch.rand(64, model.architecture.features)
    >>> losses = init_embeddings(model, features, steps=20)
    >>> losses[-1] < losses[0]
    True
    """
    if not isinstance(model, Divided):
        raise InputError(
            "model must be made by models.divided, whose learners share one linear layer, got "
            f"{type(model).__name__}"
        )
    for name, number in (("steps", steps), ("batch_size", batch_size)):
        if number < 1:
            raise InputError(f"{name} must be >= 1, got {number}")
    if not lr > 0:
        raise InputError(f"lr must be > 0, got {lr}")
    check_rows(features, "features")
    f = model.linear.in_features
    if features.shape[1] != f or not len(features):
        raise InputError(
            f"features must be rows of the {f} values that the learners see, got "
            f"{tuple(features.shape)}; take model(images)[0].features"
        )
    diversity = ActivationDiversity(
        model.learners.widths, constraint_weight=constraint_weight, norm_axis=norm_axis
    )
    weight = model.linear.weight
    rows = features.detach().to(weight)
    learned = weight.detach().clone().requires_grad_()  # the model keeps its own gradient
    optimizer = torch.optim.Adam([learned], lr=lr)
    source = "cpu" if generator is None else generator.device
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(rows), (batch_size,), generator=generator, device=source)
        alike, constraint = diversity(
            learned.split(model.learners.widths), rows[batch.to(rows.device)]
        )
        total = alike + constraint
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    with torch.no_grad():
        weight.copy_(learned)
    _log.info("learners start from an activation loss of %.4g, was %.4g", losses[-1], losses[0])
    return losses
