"""How far a reconstruction is from its picture: three losses, each a term per picture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.models import VAE

PUBLISHED_WEIGHT = 0.5 / 4


class ReconstructionLoss(nn.Module, ABC):
    """`(reconstruction, images) -> terms (b,)`, each picture against its own reconstruction.

    Attributes:
        output: what it takes a reconstruction for: "logits" or "pixels".
    """

    output: str

    @abstractmethod
    def forward(
        self, reconstruction: Float[Tensor, "b c h w"], images: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]: ...


class Bernoulli(ReconstructionLoss):
    """Binary cross-entropy of logits, summed over the pixels of a picture; nats.

    Raises:
        InputError: when called with pixels outside [0, 1], or NaN.

    >>> Bernoulli()(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))  # 4 ln 2
    tensor([2.7726])
    """

    output = "logits"

    def forward(
        self, reconstruction: Float[Tensor, "b c h w"], images: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Terms (b,) of logits (b, c, h, w) and pictures (b, c, h, w) with values in [0, 1]."""
        low, high = torch.aminmax(images)
        if not (low >= 0 and high <= 1):
            raise InputError(
                "binary cross-entropy needs pictures with values in [0, 1], got "
                f"{float(low):.4g} to {float(high):.4g}; leave out the normalisation by mean and "
                "std"
            )
        terms = F.binary_cross_entropy_with_logits(reconstruction, images, reduction="none")
        return terms.flatten(1).sum(1)


class Squared(ReconstructionLoss):
    """Half the squared distance of pixels, summed over a picture: plain reconstruction of pixels.

    The negative log likelihood of a Gaussian with unit variance, up to a constant.

    >>> Squared()(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    tensor([2.])
    """

    output = "pixels"

    def forward(
        self, reconstruction: Float[Tensor, "b c h w"], images: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Terms (b,)."""
        return 0.5 * (reconstruction - images).square().flatten(1).sum(1)


class Perceptual(ReconstructionLoss):
    """Mean squared difference of the features of reconstruction and picture, summed over layers.

    The network is put into evaluation mode and frozen, belongs to nobody's parameters, and is not
    saved: gradients only pass through it. Each picture is compared with its own reconstruction;
    in the authors' code those of positives and negatives are mixed up. Source: the code of Ishfaq,
    Hoogi and Rubin with VGG-19 up to relu3_1, relu4_1 and relu5_1; after Hou et al., "Deep Feature
    Consistent Variational Autoencoder", WACV 2017.

    Args:
        network: from pictures (b, c, h, w) with values in [0, 1] to a tensor of features with
            rows first, or several in a sequence or mapping, such as
            `torchvision.models.feature_extraction.create_feature_extractor(vgg19,
            ["features.11", "features.20", "features.29"])`. It brings its own normalisation.
        weight: of the sum, > 0. Default 0.5 / 4: the authors divide 0.5 times a mean over a batch
            of 4 triplets once more by their number.

    Raises:
        InputError: `weight` is not above 0; when called: the network gives no features.

    >>> Perceptual(nn.Flatten(), weight=1.0)(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    tensor([1.])
    """

    output = "pixels"

    def __init__(self, network: nn.Module, *, weight: float = PUBLISHED_WEIGHT) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise InputError(f"weight must be a number > 0, got {weight}")
        self._network = (network.eval().requires_grad_(False),)  # in a tuple: no sub-module
        self.network = f"{type(network).__module__}.{type(network).__qualname__}"
        self.weight = weight

    def forward(
        self, reconstruction: Float[Tensor, "b c h w"], images: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Terms (b,)."""
        network = self._network[0].to(images.device).eval()
        with torch.no_grad():
            wanted = _maps(network(images))
        found = _maps(network(reconstruction))
        differences = [
            (one - other).square().flatten(1).mean(1)
            for one, other in zip(found, wanted, strict=True)
        ]
        return self.weight * torch.stack(differences).sum(0)


def check_output(model: VAE, loss: ReconstructionLoss) -> None:
    """Refuse a loss that reads the output of the model as what it is not.

    Raises:
        InputError: one means logits and the other pixels.
    """
    if loss.output != model.output:
        raise InputError(
            f"{type(loss).__name__} takes {loss.output}, and the decoder gives {model.output}; "
            f"build the model with output={loss.output!r}, or take another loss"
        )


def _maps(features: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    found = list(features.values() if isinstance(features, Mapping) else features)
    if not found:
        raise InputError(
            "the feature network must give a tensor, or a sequence or mapping of them, got none; "
            "name the layers to compare"
        )
    return found
