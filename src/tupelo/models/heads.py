"""Ensembles of heads: learners that share the first layers of a network and nothing else."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.models.architecture import Architecture, Learners
from tupelo.models.attention import equal_widths, glorot_head
from tupelo.models.cutting import cut, freeze
from tupelo.models.embedder import Embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.rebuilding import ENSEMBLES, rebuilt_embedder
from tupelo.types import Embedded


class ManyHeads(Ensemble):
    """Learners with the rest of a network of their own; usually built by `many_heads`.

    Learner i is W_i G_i(S(x)): the M-heads baseline of Kim et al., "Attention-based Ensemble for
    Deep Metric Learning", ECCV 2018. It has no attention, and m times the weights behind the cut.

    Args:
        spatial: S, from pictures with values in [0, 1] to maps.
        deep: G_i of each learner, from maps to features (b, f).
        heads: W_i of each learner, from features to embeddings.
        architecture: what it is.

    Raises:
        InputError: not as many deep parts and heads as learners.
    """

    def __init__(
        self,
        spatial: nn.Module,
        deep: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        architecture: Architecture,
    ):
        super().__init__()
        self.architecture = architecture
        m = len(self.learners.widths)
        if len(deep) != m or len(heads) != m:
            raise InputError(
                f"{m} learners need as many deep parts and heads, got {len(deep)} and {len(heads)}"
            )
        self.spatial = spatial
        self.deep = nn.ModuleList(deep)
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, ...]:
        """Embed pictures with values in [0, 1], once for each learner.

        Raises:
            InputError: the number of channels is another than the model's.
        """
        shared = self.spatial(images)
        learners = []
        for deep, head in zip(self.deep, self.heads, strict=True):
            features = deep(shared)
            with torch.autocast(features.device.type, enabled=False):
                features = features.to(next(head.parameters()).dtype)
                learners.append(Embedded.of(head(features), features))
        return tuple(learners)

    def train(self, mode: bool = True) -> "ManyHeads":
        """Switch to training; frozen batch normalisation stays as it is in evaluation."""
        super().train(mode)
        if mode and self.architecture.freeze_batchnorm:
            freeze(self.spatial, self.deep)
        return self


def many_heads(embedder: Embedder, learners: int = 8, *, cut: str | None = None) -> ManyHeads:
    """Make an embedder an ensemble of heads whose learners share its dimensions.

    Each learner has its own copy of what follows the cut, with the weights the embedder has, and
    a new head, Glorot-uniform.

    Args:
        embedder: around a convolutional network; `dim` is divided among the learners.
        learners: m >= 1.
        cut: see `tupelo.models.cutting.cut`.

    Raises:
        InputError: `learners` < 1 or no divisor of `dim`, or a backbone or cut that
            `tupelo.models.cutting.cut` refuses.

    >>> from tupelo.models import embedder
    >>> model = many_heads(embedder("convnet", dim=32, channels=1), learners=4)
    >>> len(model(torch.rand(2, 1, 28, 28)))
    4
    """
    widths = equal_widths(embedder.dim, learners)
    return _many_heads(embedder, Learners("heads", widths, (1.0,) * learners, cut or ""))


def _many_heads(embedder: Embedder, learners: Learners) -> ManyHeads:
    parts = cut(embedder.backbone, embedder.architecture, learners.cut or None)
    deep = [parts.deep, *(copy.deepcopy(parts.deep) for _ in learners.widths[1:])]
    model = ManyHeads(
        parts.spatial,
        deep,
        [glorot_head(embedder, width) for width in learners.widths],
        replace(embedder.architecture, learners=replace(learners, cut=parts.name)),
    )
    return model.to(next(embedder.parameters()).device)  # with what is new


def _rebuilt(architecture: Architecture, backbone: nn.Module | None) -> ManyHeads:
    learners = architecture.learners
    assert learners is not None  # noqa: S101  (or another model would be rebuilt)
    return _many_heads(rebuilt_embedder(architecture, backbone), learners)


ENSEMBLES["heads"] = _rebuilt
