"""Variational autoencoders: pictures to a Gaussian over codes, and from codes back to pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.models.architecture import VAE_CONV, VAE_CONV_PIXELS, VAE_MLP, Architecture
from tupelo.types import Embedded

Output = Literal["logits", "pixels"]

LOWEST, HIGHEST = -30.0, 20.0  # of a log variance: its exponential stays finite in float32
SEED = 0  # of the noise in evaluation
CHANNELS = (32, 64, 128, 256)  # of the convolutional model
SLOPE = 0.2  # of its leaky rectifiers


class Posterior(NamedTuple):
    """The Gaussian of each picture.

    Attributes:
        mean: as an embedding: `raw` is the mean itself, `z` its unit rows.
        log_variance: of each dimension, in [-30, 20], (b, d).
    """

    mean: Embedded
    log_variance: Tensor


class Autoencoded(NamedTuple):
    """What a variational autoencoder returns for b pictures; may be used as an `Embedded`.

    Attributes:
        raw: mean of the posterior, (b, d); all distances are between these.
        z: its unit rows, (b, d).
        features: what the encoder gave its two heads, (b, f).
        log_variance: of the posterior, clamped to [-30, 20], (b, d).
        reconstruction: from a sample of the posterior, (b, c, h, w): logits of pixels, or pixels,
            as `VAE.output` says.
        images: the pictures themselves, which are to be reconstructed, (b, c, h, w).
    """

    raw: Tensor
    z: Tensor
    features: Tensor
    log_variance: Tensor
    reconstruction: Tensor
    images: Tensor


class VAE(nn.Module):
    """Encoder, Gaussian posterior and decoder; built by `mlp_vae` or `conv_vae`.

    The code of a picture is `mean + exp(log_variance / 2) * noise`. Noise is drawn in training
    and in evaluation: in training from torch's own generator, as dropout does, which `tp.fit`
    seeds for every step; in evaluation from a generator of fixed seed, so that the same batch
    always comes out the same and the caller's random state stays as it is. Distances are never
    measured between codes, only between means. Source: Kingma and Welling, ICLR 2014.

    Args:
        encoder: from pictures (b, c, h, w) to features (b, f).
        decoder: from codes (b, d) to logits or pixels (b, c, h, w).
        architecture: what it is.
        output: what the decoder gives.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, architecture: Architecture, output: Output
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.output: Output = output
        self.encoder = encoder
        self.mean = nn.Linear(architecture.features, architecture.dim)
        self.log_variance = nn.Linear(architecture.features, architecture.dim)
        self.decoder = decoder

    @property
    def dim(self) -> int:
        """Width d of the code."""
        return self.architecture.dim

    def forward(
        self, images: Float[Tensor, "b c h w"], generator: torch.Generator | None = None
    ) -> Autoencoded:
        """Encode pictures with values in [0, 1] and reconstruct them from a sample.

        Args:
            images: of the channels and side of the model.
            generator: of the noise; None: see the class.

        Raises:
            InputError: the pictures are of another form than the model's.
        """
        posterior = self.encode(images)
        codes = self.sample(posterior, generator)
        rebuilt = self.decode(codes)
        return Autoencoded(*posterior.mean, posterior.log_variance, rebuilt, images)

    def encode(self, images: Float[Tensor, "b c h w"]) -> Posterior:
        """The posterior alone: all that embedding takes, without noise.

        Raises:
            InputError: see `forward`.

        >>> mlp_vae(dim=4).encode(torch.rand(3, 1, 28, 28)).mean.z.shape
        torch.Size([3, 4])
        """
        known = self.architecture
        if tuple(images.shape[1:]) != (known.channels, known.size, known.size):
            raise InputError(
                f"this model takes pictures of {known.channels} x {known.size} x {known.size}, got "
                f"a batch {tuple(images.shape)}; read the data set with size={known.size}, "
                f"channels={known.channels}, or build the model for its pictures"
            )
        features = self.encoder(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.mean.weight.dtype)
            # clamped: the exponential of a wild start would be infinite
            log_variance = self.log_variance(features).clamp(LOWEST, HIGHEST)
            return Posterior(Embedded.of(self.mean(features), features), log_variance)

    def sample(
        self, posterior: Posterior, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b d"]:
        """A code of each picture, drawn from its posterior.

        Args:
            posterior: of b pictures.
            generator: of the noise; None: see the class.
        """
        mean = posterior.mean.raw
        if generator is None and not self.training:
            generator = torch.Generator(mean.device).manual_seed(SEED)
        place = mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, device=place, dtype=mean.dtype)
        return mean + (0.5 * posterior.log_variance).exp() * noise.to(mean.device)

    def decode(self, codes: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Logits or pixels of codes, in the precision of the codes."""
        return self.decoder(codes).to(codes.dtype)

    def pixels(self, decoded: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """What `decode` gave as values in [0, 1], to be looked at.

        >>> model = mlp_vae().eval()
        >>> shown = model.pixels(model.decode(torch.zeros(2, 20)))
        >>> shown.shape, bool((shown > 0).all() and (shown < 1).all())
        (torch.Size([2, 1, 28, 28]), True)
        """
        return decoded.sigmoid() if self.output == "logits" else decoded.clamp(0, 1)


@dataclass(frozen=True)
class _Parts:
    """The two networks of a model, and what the decoder gives."""

    encoder: Callable[[Architecture], nn.Module]
    decoder: Callable[[Architecture], nn.Module]
    output: Output


def mlp_vae(*, dim: int = 20, hidden: int = 400, channels: int = 1, size: int = 28) -> VAE:
    """The model of the TVAE experiments on MNIST: one hidden layer each way, logits of pixels.

    784-400-(20, 20) and 20-400-784 with rectifiers, initialised as PyTorch does. Source: Ishfaq,
    Hoogi and Rubin, "TVAE", arXiv 1802.04403, the authors' code.

    Args:
        dim: width of the code, >= 1.
        hidden: units of both hidden layers, >= 1.
        channels: of the pictures.
        size: their side in pixels.

    Raises:
        InputError: a number is below 1.

    >>> mlp_vae()(torch.rand(2, 1, 28, 28)).reconstruction.shape
    torch.Size([2, 1, 28, 28])
    """
    return _built(_described(VAE_MLP, hidden, dim, channels, size))


def conv_vae(*, dim: int = 64, channels: int = 3, size: int = 224, output: str = "logits") -> VAE:
    """The convolutional model of the TVAE experiments on mammograms and shoes.

    Encoder: four times convolution 4 x 4 of stride 2, batch normalisation, leaky rectifier 0.2,
    with 32, 64, 128, 256 channels. Decoder: a linear layer with rectifier, then four times
    enlargement by 2 (nearest), convolution 3 x 3, batch normalisation, leaky rectifier; a last
    convolution gives the channels. The authors feed what it gives to a feature network as pixels.

    Args:
        dim: width of the code, >= 1.
        channels: of the pictures.
        size: their side in pixels, a multiple of 16; published 224, and 128 for shoes.
        output: what the last convolution is taken for: "logits" by `Bernoulli`, "pixels" by
            `Perceptual` (published) and `Squared`. The weights are the same.

    Raises:
        InputError: a number is below 1, `size` is no multiple of 16, or `output` is unknown.

    >>> conv_vae(size=32, dim=8)(torch.rand(2, 3, 32, 32)).reconstruction.shape
    torch.Size([2, 3, 32, 32])
    """
    if size < 16 or size % 16:
        raise InputError(f"size must be a multiple of 16, which is halved four times, got {size}")
    if output not in ("logits", "pixels"):
        raise InputError(f"output must be 'logits' or 'pixels', got {output!r}")
    name = VAE_CONV if output == "logits" else VAE_CONV_PIXELS
    return _built(_described(name, CHANNELS[-1] * (size // 16) ** 2, dim, channels, size))


def rebuilt_vae(architecture: Architecture) -> VAE:
    """A model with fresh weights of a known architecture."""
    return _built(architecture)


def _described(name: str, features: int, dim: int, channels: int, size: int) -> Architecture:
    if size < 1:
        raise InputError(f"size must be at least 1, got {size}")
    plain = ((0.0,) * channels, (1.0,) * channels)  # pictures are taken as they are, in [0, 1]
    return Architecture(name, features, dim, channels, size, *plain)


def _built(architecture: Architecture) -> VAE:
    parts = VAES[architecture.backbone]
    encoder = parts.encoder(architecture)
    model = VAE(encoder, parts.decoder(architecture), architecture, parts.output)
    if parts.encoder is _conv_encoder:
        model.apply(_initialise)
    return model


def _mlp_encoder(known: Architecture) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(_pixels(known), known.features), nn.ReLU())


def _mlp_decoder(known: Architecture) -> nn.Module:
    return nn.Sequential(
        nn.Linear(known.dim, known.features),
        nn.ReLU(),
        nn.Linear(known.features, _pixels(known)),
        nn.Unflatten(1, _shape(known)),
    )


def _conv_encoder(known: Architecture) -> nn.Module:
    layers: list[nn.Module] = []
    before = known.channels
    for after in CHANNELS:
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
        before = after
    return nn.Sequential(*layers, nn.Flatten())


def _conv_decoder(known: Architecture) -> nn.Module:
    side = _shape(known)[1] // 16
    layers: list[nn.Module] = [
        nn.Linear(known.dim, known.features),
        nn.ReLU(),
        nn.Unflatten(1, (CHANNELS[-1], side, side)),
    ]
    for before, after in zip(CHANNELS[::-1], (*CHANNELS[-2::-1], CHANNELS[0]), strict=True):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after, eps=1e-3), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Conv2d(CHANNELS[0], known.channels, 3, padding=1))


def _shape(known: Architecture) -> tuple[int, int, int]:
    assert isinstance(known.size, int)  # noqa: S101  (every builder here states it)
    return known.channels, known.size, known.size


def _pixels(known: Architecture) -> int:
    return math.prod(_shape(known))


def _initialise(module: nn.Module) -> None:
    """As the authors do; linear layers stay as PyTorch makes them."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        # mean 0, unlike the usual 1: their code names only the deviation
        nn.init.normal_(module.weight, std=0.015)
        nn.init.zeros_(module.bias)


VAES: dict[str, _Parts] = {
    VAE_MLP: _Parts(_mlp_encoder, _mlp_decoder, "logits"),
    VAE_CONV: _Parts(_conv_encoder, _conv_decoder, "logits"),
    VAE_CONV_PIXELS: _Parts(_conv_encoder, _conv_decoder, "pixels"),
}
"""By `Architecture.backbone`."""
