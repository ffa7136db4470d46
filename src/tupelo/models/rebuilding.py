"""Models with fresh weights from what is known of them."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from tupelo.errors import InputError
from tupelo.models.architecture import CONVNET, CUSTOM, GOOGLENET, Architecture
from tupelo.models.backbones import ConvNet, googlenet, widths_for
from tupelo.models.embedder import Embedder, timm_backbone
from tupelo.models.ensemble import Ensemble
from tupelo.models.reid import SIZES as REID_SIZES
from tupelo.models.reid import reid_backbone
from tupelo.models.vae import VAE, VAES, rebuilt_vae

Model = Embedder | Ensemble | VAE

ENSEMBLES: dict[str, Callable[[Architecture, nn.Module | None], Ensemble]] = {}
"""By `Learners.kind`: architecture and the user's backbone, if it was built around one."""


def rebuild(architecture: Architecture, backbone: nn.Module | None = None) -> Model:
    """A model with fresh weights of a known architecture.

    Args:
        architecture: of the model wanted.
        backbone: the module, needed where the architecture says "custom".

    Raises:
        InputError: the backbone is a module of the user and none is given, or the other way.
    """
    if (backbone is not None) != (architecture.backbone == CUSTOM):
        raise InputError(
            f"backbone= must be given exactly for models around a module of your own; "
            f"this one was built around {architecture.backbone!r}"
        )
    if architecture.backbone in VAES:
        return rebuilt_vae(architecture)
    if architecture.learners is not None:
        return ENSEMBLES[architecture.learners.kind](architecture, backbone)
    return rebuilt_embedder(architecture, backbone)


def rebuilt_embedder(architecture: Architecture, backbone: nn.Module | None) -> Embedder:
    """The embedder alone, as wide as `architecture.dim`, whatever its learners."""
    if backbone is None and architecture.backbone == CONVNET:
        widths = widths_for(architecture.size)
        backbone = ConvNet(channels=architecture.channels, widths=widths)
    elif backbone is None and architecture.backbone in REID_SIZES:
        form = {"channels": architecture.channels, "size": architecture.size}
        backbone, _ = reid_backbone(architecture.backbone, **form)
    elif backbone is None and architecture.backbone == GOOGLENET:
        backbone = googlenet(channels=architecture.channels)
    elif backbone is None:
        backbone = timm_backbone(
            architecture.backbone,
            architecture.channels,
            architecture.size,
            architecture.pooling,
            pretrained=False,
        )
    return Embedder(backbone, replace(architecture, learners=None))
