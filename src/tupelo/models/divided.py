"""Divided: one embedding layer whose dimensions belong to several learners, as BIER has it."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.models.architecture import Architecture, Learners
from tupelo.models.embedder import Embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.rebuilding import ENSEMBLES, rebuilt_embedder
from tupelo.types import Embedded

_log = logging.getLogger(__name__)

SMALLEST_NORM = 1e-5  # of a learner's row, as the released code clamps it


class Divided(Ensemble):
    """An embedder whose d dimensions are divided among m learners; usually built by `divided`.

    Learner i is f_i = W_i h + b_i, some rows of the one linear layer, so the network costs what
    the undivided one costs. The `features` of every output are h, what the linear layer saw.

    Args:
        embedder: whose dimensions are divided; it becomes part of this model.
        learners: of kind "divided".

    Raises:
        InputError: the widths do not add up to the width of the embedder.
    """

    def __init__(self, embedder: Embedder, learners: Learners):
        super().__init__()
        if embedder.architecture.final != "linear":
            raise InputError(
                "the dimensions of a network whose last layer is not linear cannot be divided; "
                f"{embedder.architecture.backbone!r} ends in {embedder.architecture.final!r}"
            )
        self.architecture = replace(embedder.architecture, learners=learners)
        self.embedder = embedder

    @property
    def head(self) -> nn.Sequential:
        """What makes the embedding of the features; `linear` is its last layer."""
        return self.embedder.head

    @property
    def linear(self) -> nn.Linear:
        """The embedding layer of all learners."""
        layer = self.head[-1]
        assert isinstance(layer, nn.Linear)  # noqa: S101  (made by Embedder)
        return layer

    @property
    def weights(self) -> tuple[Float[Tensor, "_ f"], ...]:
        """W_i of every learner: views of the weights of `linear`."""
        return self.linear.weight.split(self.learners.widths)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, ...]:
        """Embed pictures with values in [0, 1], once for each learner.

        Raises:
            InputError: the number of channels is another than the model's.
        """
        return self.embed(self.embedder.features(images))

    def embed(self, features: Float[Tensor, "b f"]) -> tuple[Embedded, ...]:
        """The head alone: features of the backbone (b, f) to one embedding for each learner.

        >>> from tupelo.models import embedder
        >>> model = divided(embedder("convnet", dim=12), learners=2)
        >>> features = torch.randn(3, model.architecture.features)
        >>> [tuple(one.z.shape) for one in model.embed(features)]
        [(3, 4), (3, 8)]
        """
        with torch.autocast(features.device.type, enabled=False):
            seen = self.head[:-1](features.to(self.linear.weight.dtype))
            parts = self.linear(seen).split(self.learners.widths, dim=1)
            return tuple(
                Embedded(part, F.normalize(_wide(part), dim=1, eps=SMALLEST_NORM), seen)
                for part in parts
            )


def divided(
    embedder: Embedder,
    widths: Sequence[int] | None = None,
    *,
    learners: int = 3,
    scale: str = "sqrt",
) -> Divided:
    """Divide the dimensions of an embedder among learners, the smallest first.

    Args:
        embedder: whose linear layer is divided; it becomes part of the new model.
        widths: of the learners, adding up to the width of the embedder; default see
            `group_widths`.
        learners: how many, >= 1, where `widths` are not given.
        scale: how much the cosine of learner i counts in retrieval. "sqrt": alpha_i = 2i / (m (m +
            1)), its weight in the boosted similarity; rows are scaled by the root. "official": the
            square of its share of the dimensions, as in the released code.

    Raises:
        InputError: no learner, a width below 1, widths that do not add up to the width of the
            embedder, an embedder too narrow for so many, or another scale.

    >>> from tupelo.models import embedder
    >>> divided(embedder("convnet", dim=512)).learners.widths
    (96, 160, 256)
    """
    dim = embedder.dim
    if widths is None:
        widths = group_widths(dim, learners)
    widths = tuple(int(width) for width in widths)
    if scale not in ("sqrt", "official"):
        raise InputError(f"scale must be 'sqrt' or 'official', got {scale!r}")
    if not widths or min(widths) < 1 or sum(widths) != dim:
        raise InputError(
            f"widths must be one or more numbers >= 1 that add up to the {dim} dimensions of the "
            f"embedder, got {widths}, which add up to {sum(widths)}; build it with "
            "dim=sum(widths)"
        )
    if list(widths) != sorted(widths):
        _log.warning(
            "widths %s decrease: the later learners, which work on what earlier ones left over, "
            "should be the larger ones",
            widths,
        )
    m = len(widths)
    if scale == "sqrt":
        scales = tuple(math.sqrt(alpha) for alpha in boosted_shares(m))
    else:
        scales = tuple(width / dim for width in widths)
    return Divided(embedder, Learners("divided", widths, scales))


def group_widths(dim: int, learners: int) -> tuple[int, ...]:
    """Widths of learners, in proportion to their weights in the boosted similarity.

    512 dimensions of 3 learners are 96, 160 and 256, as published.

    Raises:
        InputError: learners < 1, or more learners than the dimensions suffice for.

    >>> group_widths(48, 3)
    (8, 16, 24)
    """
    if learners < 1:
        raise InputError(f"learners must be >= 1, got {learners}")
    if (dim, learners) == (512, 3):
        return (96, 160, 256)
    exact = [dim * share for share in boosted_shares(learners)]
    widths = [int(width) for width in exact]
    by_remainder = sorted(range(learners), key=lambda i: (widths[i] - exact[i], -i))
    for i in by_remainder[: dim - sum(widths)]:
        widths[i] += 1
    if min(widths) < 1:
        raise InputError(
            f"dim must be larger for {learners} learners, got {dim}: the first would have no "
            f"dimension; from {learners * (learners + 1) // 2} on each has one"
        )
    return tuple(widths)


def boosted_shares(learners: int) -> tuple[float, ...]:
    """alpha_i = 2i / (m (m + 1)): weights of m learners in the boosted similarity, summing to 1.

    They follow from s^i = (1 - eta_i) s^(i-1) + eta_i s_i with eta_i = 2 / (i + 1).

    >>> boosted_shares(4)
    (0.1, 0.2, 0.3, 0.4)
    """
    whole = learners * (learners + 1)
    return tuple(2 * i / whole for i in range(1, learners + 1))


def _wide(rows: Tensor) -> Tensor:
    return rows if rows.dtype == torch.float64 else rows.float()


def _rebuilt(architecture: Architecture, backbone: nn.Module | None) -> Divided:
    learners = architecture.learners
    assert learners is not None  # noqa: S101  (or another model would be rebuilt)
    return Divided(rebuilt_embedder(architecture, backbone), learners)


ENSEMBLES["divided"] = _rebuilt
