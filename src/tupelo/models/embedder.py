"""Pictures to embeddings: a backbone, the normalisation of its input, and a head."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tupelo.errors import InputError
from tupelo.models.architecture import CONVNET, CUSTOM, GOOGLENET, Architecture
from tupelo.models.backbones import ConvNet, googlenet, googlenet_weights, widths_for
from tupelo.models.reid import REID, reid_backbone
from tupelo.models.reid import SIZES as REID_SIZES
from tupelo.models.weights import load_weights, pretrained_source, published_file
from tupelo.types import Embedded


class Embedder(nn.Module):
    """A backbone and a linear head; usually built by `embedder`.

    The backbone runs in whatever precision the caller's autocast asks for; the head and the unit
    rows are computed in the precision of the head's weights (float32).

    Args:
        backbone: module from pictures (b, c, h, w) to features (b, f).
        architecture: what it is and how the head looks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        # strides only: convolutions then run channels-last whatever the layout of their input
        self.backbone = backbone.to(memory_format=torch.channels_last)
        layers: list[nn.Module] = []
        if architecture.layer_norm:
            layers.append(nn.LayerNorm(architecture.features, elementwise_affine=False))
        if architecture.batch_norm:
            layers.append(nn.BatchNorm1d(architecture.features))
        if architecture.dropout:
            layers.append(nn.Dropout(architecture.dropout))
        linear = nn.Linear(architecture.features, architecture.dim, bias=architecture.bias)
        nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="linear")
        if architecture.bias:
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if architecture.final == "elu":
            layers += [nn.BatchNorm1d(architecture.dim), nn.ELU()]
        self.head = nn.Sequential(*layers)
        # fixed by the architecture, so not part of the weights
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def dim(self) -> int:
        """Width d of the embedding."""
        return self.architecture.dim

    def forward(self, images: Float[Tensor, "b c h w"]) -> Embedded:
        """Embed pictures with values in [0, 1].

        Args:
            images: (b, channels, h, w), floating.

        Raises:
            InputError: the number of channels is another than the model's.
        """
        return self.embed(self.features(images))

    def features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """What the backbone alone gives for pictures, see `forward`."""
        if images.shape[1] != self.architecture.channels:
            raise InputError(
                f"this model takes pictures of {self.architecture.channels} channel(s), got "
                f"{images.shape[1]} in a batch {tuple(images.shape)}; read the data set with "
                f"channels={self.architecture.channels} or build the model with "
                f"channels={images.shape[1]}"
            )
        return self.backbone((images - self.mean) / self.std)

    def embed(self, features: Float[Tensor, "b f"]) -> Embedded:
        """The head alone: features of the backbone (b, f) to embeddings.

        >>> model = embedder("convnet", dim=8)
        >>> model.embed(torch.randn(3, model.architecture.features)).z.shape
        torch.Size([3, 8])
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(next(self.head.parameters()).dtype)
            return Embedded.of(self.head(features), features)

    def train(self, mode: bool = True) -> "Embedder":
        """Switch to training; frozen batch normalisation stays as it is in evaluation."""
        super().train(mode)
        if mode and self.architecture.freeze_batchnorm:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def embedder(
    backbone: str | nn.Module = CONVNET,
    *,
    dim: int = 128,
    pretrained: bool = False,
    weights: str | Path | None = None,
    channels: int = 3,
    size: int | tuple[int, int] | None = None,
    features: int | None = None,
    bias: bool = True,
    layer_norm: bool = False,
    batch_norm: bool = False,
    dropout: float | None = None,
    freeze_batchnorm: bool | None = None,
    pooling: str = "usual",
) -> Embedder:
    """Build an embedder from the small ConvNet, any timm backbone, or a module of yours.

    Args:
        backbone: "convnet" (`ConvNet`), "googlenet" (torchvision's), "reid" (`ReidNet`, for
            people at 128 x 64 pixels, whose head ends in batch normalisation and ELU),
            "reid-small" (`small_reid_net`, at 64 x 32), a timm name such as
            "resnet50" or "vit_small_patch16_224.augreg_in21k", or a module from pictures
            (b, c, h, w) to features (b, f). Pictures are normalised as the timm configuration of
            the backbone says, or else to (x - 0.5) / 0.5.
        dim: width d of the embedding.
        pretrained: load the weights timm (for googlenet: torchvision) publishes for this
            backbone, from its cache or its hub.
        weights: local file of weights for the backbone instead: safetensors, or a .pth or .bin
            that holds nothing but tensors. A classifier in it is left out; first convolutions
            are adapted to `channels` as timm does it.
        channels: of the pictures; 1 grey, 3 colour.
        size: side in pixels, or (height, width). Backbones of one fixed size ("reid", vision
            transformers) are built for it, and the ConvNet is deeper from 48 pixels on; otherwise
            it is only remembered. Default of "reid" and "reid-small" is what they are made for.
        features: width f of a module of yours; default its attribute `num_features`.
        bias: the head has one.
        layer_norm: layer normalisation without learned scale before the head.
        batch_norm: batch normalisation before the head, as HDML has it; never frozen.
        dropout: share in [0, 1) of the features dropped in training; default 0, of "reid" 0.4.
        freeze_batchnorm: batch normalisation keeps its running statistics in training (its scale
            and shift are still learned), as is usual in fine-tuning for metric learning; default
            yes with pretrained weights.
        pooling: of the last map of a timm convolutional network; "avgmax" is the mean of average
            and maximum, with a linear head as good as their sum.

    Raises:
        InputError: the name is unknown (close matches are listed), the weights are not on this
            machine and cannot be fetched, the file does not fit, `pretrained` and `weights` are
            both given, `features` is missing for a module, or a number is out of its range.

    >>> embedder("convnet", dim=32, channels=1)(torch.rand(2, 1, 28, 28)).z.shape
    torch.Size([2, 32])
    """
    if pretrained and weights is not None:
        raise InputError("give pretrained=True or weights=FILE, not both")
    if channels < 1:
        raise InputError(f"channels must be at least 1, got {channels}")
    if isinstance(backbone, nn.Module):
        name, module = CUSTOM, backbone
    elif backbone == CONVNET:
        name, module = CONVNET, ConvNet(channels=channels, widths=widths_for(size))
    elif backbone in REID_SIZES:
        name = backbone
        module, size = reid_backbone(name, channels=channels, size=size)
    elif backbone == GOOGLENET:
        name, module = GOOGLENET, googlenet(channels=channels)
        weights = published_file(googlenet_weights()) if pretrained else weights
    else:
        name = backbone
        module = timm_backbone(backbone, channels, size, pooling, pretrained=pretrained)
    if pooling != "usual" and name in (CONVNET, GOOGLENET, CUSTOM, *REID_SIZES):
        raise InputError(
            f"pooling={pooling!r} needs a timm backbone such as 'resnet50', got {name!r}"
        )
    if pretrained and name in (CONVNET, CUSTOM, *REID_SIZES):
        raise InputError(
            f"pretrained=True needs a timm backbone such as 'resnet50', got {name!r}; "
            "give a file of weights with weights="
        )
    if weights is not None:
        load_weights(module, Path(weights), channels=channels)
    if features is None:
        features = _feature_width(module)
    config = getattr(module, "pretrained_cfg", None) or {}  # a dict on every timm model
    frozen = pretrained or weights is not None if freeze_batchnorm is None else freeze_batchnorm
    return Embedder(
        module,
        Architecture(
            backbone=name,
            features=features,
            dim=dim,
            channels=channels,
            size=size,
            mean=_per_channel(config.get("mean"), channels),
            std=_per_channel(config.get("std"), channels),
            bias=bias and name != REID,  # batch normalisation follows
            layer_norm=layer_norm,
            dropout=(0.4 if name == REID else 0.0) if dropout is None else dropout,
            freeze_batchnorm=frozen,
            batch_norm=batch_norm,
            pooling=pooling,
            final="elu" if name == REID else "linear",
        ),
    )


def timm_backbone(
    name: str, channels: int, size: int | tuple[int, int] | None, pooling: str, *, pretrained: bool
) -> nn.Module:
    """A backbone of timm without its classifier; see `embedder` for arguments and errors."""
    base, _, tag = name.partition(".")
    known = timm.list_pretrained(f"{base}.*") if timm.is_model(base) and tag else timm.list_models()
    if name not in known:
        own = [CONVNET, GOOGLENET, *REID_SIZES]
        close = get_close_matches(name, [*own, *known], n=5, cutoff=0.5)
        raise InputError(
            f"backbone must be {', '.join(map(repr, own))} or a timm model, got {name!r}"
            + (f"; did you mean {', '.join(close)}?" if close else "; see timm.list_models()")
        )
    config = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    options: dict[str, Any] = {"img_size": size} if fixed and size is not None else {}
    if pooling not in ("usual", "avgmax"):
        raise InputError(f"pooling must be 'usual' or 'avgmax', got {pooling!r}")
    if pooling != "usual":
        if config is not None and not config.pool_size:
            raise InputError(
                f"pooling={pooling!r} needs a convolutional network, which {name!r} is not"
            )
        options["global_pool"] = pooling
    if pretrained:
        options |= pretrained_source(name)
    return timm.create_model(
        name, pretrained=pretrained, num_classes=0, in_chans=channels, **options
    )


def _feature_width(module: nn.Module) -> int:
    for attribute in ("head_hidden_size", "num_features"):
        width = getattr(module, attribute, None)
        if isinstance(width, int):
            return width
    raise InputError(
        "features must be given for a backbone without an attribute num_features: the width f "
        "of what it returns for a picture"
    )


def _per_channel(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...]:
    if values is None:
        return (0.5,) * channels
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
