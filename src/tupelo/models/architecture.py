"""What rebuilds a model around its weights: plain values, saved beside them."""

from dataclasses import dataclass
from typing import Literal, get_args

from tupelo.errors import InputError

CONVNET = "convnet"
GOOGLENET = "googlenet"
CUSTOM = "custom"
VAE_MLP, VAE_CONV, VAE_CONV_PIXELS = "vae-mlp", "vae-conv", "vae-conv-pixels"

Kind = Literal["attention", "heads", "divided", "members"]


@dataclass(frozen=True)
class Learners:
    """How an ensemble differs from one embedder.

    Attributes:
        kind: "attention" (`Attentive`), "heads" (`ManyHeads`), "divided" (`Divided`), "members"
            (`Members`).
        widths: of the embeddings of the m learners, at least 1 each.
        scales: the unit row of each learner is multiplied by its scale before all are joined to
            one row, which is then brought to unit length; positive.
        cut: name of the backbone's last module before the learners part, where they share some.
        activation: of attention masks: "sigmoid", "relu" or "range".
    """

    kind: Kind
    widths: tuple[int, ...]
    scales: tuple[float, ...]
    cut: str = ""
    activation: str = "sigmoid"

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not self.widths or min(self.widths) < 1:
            raise InputError(f"widths must be one or more numbers >= 1, got {self.widths}")
        if len(self.scales) != len(self.widths) or not all(scale > 0 for scale in self.scales):
            raise InputError(
                f"scales must be one positive number for each of {len(self.widths)} learners, got "
                f"{self.scales}"
            )


@dataclass(frozen=True)
class Architecture:
    """All that is needed to rebuild an embedder around its weights; saved beside them.

    Attributes:
        backbone: "convnet", "googlenet", a timm name, "custom" for a module of the user, or the
            kind of a variational autoencoder.
        features: width f of what the backbone returns.
        dim: width d of the embedding.
        channels: of the pictures.
        size: side in pixels the model was made for, or height and width; None where any will do.
        mean: subtracted from pictures in [0, 1], one value a channel.
        std: divides them afterwards.
        bias: the head has one.
        layer_norm: layer normalisation without learned scale before the head.
        batch_norm: batch normalisation before the head, as HDML has it.
        pooling: "usual", or "avgmax": mean of average and maximum.
        dropout: share of features dropped in training before the head.
        freeze_batchnorm: batch normalisation keeps its running statistics in training.
        final: what follows the last layer: nothing ("linear"), or batch normalisation and ELU
            ("elu"), as in the network for people of DeepSORT.
        learners: how the embedding is divided among the learners of an ensemble; None for one.
    """

    backbone: str
    features: int
    dim: int
    channels: int
    size: int | tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bias: bool = True
    layer_norm: bool = False
    dropout: float = 0.0
    freeze_batchnorm: bool = False
    batch_norm: bool = False
    pooling: str = "usual"
    learners: Learners | None = None
    final: str = "linear"

    def __post_init__(self):
        for name in ("features", "dim", "channels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.final not in ("linear", "elu"):
            raise InputError(f"final must be 'linear' or 'elu', got {self.final!r}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {self.dropout}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InputError(
                f"mean and std must have one value a channel ({self.channels}), got "
                f"{len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise InputError(f"std must be positive, got {self.std}")
        if self.learners is not None and sum(self.learners.widths) != self.dim:
            raise InputError(
                f"the widths of the learners must add up to dim={self.dim}, got "
                f"{' + '.join(map(str, self.learners.widths))}"
            )
