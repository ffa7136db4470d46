"""The encoders of graph networks: pooling before the activation, and a linear layer at the end."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.blocks import block

SIZES = (28, 84)


class _Block(nn.Module):
    """Convolution without bias, batch normalisation, perhaps maximum over 2 x 2, leaky ReLU."""

    def __init__(self, before: int, after: int, *, padding: int, pool: bool, slope: float):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.pool, self.slope = pool, slope

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h2 w2"]:
        if self.pool:
            return block(maps, self.conv, self.norm, slope=self.slope)
        return F.leaky_relu(self.norm(self.conv(maps)), self.slope, inplace=True)


class GraphEncoder(nn.Module):
    """Four 3 x 3 convolutions and a linear layer, one design for each of two sizes of pictures.

    At 28 pixels (Omniglot), h = width: two blocks of convolution, batch normalisation, maximum over
    2 x 2 and leaky ReLU, two without padding and maximum (5 x 5, then 3 x 3), and a linear layer
    without bias, batch normalisation and leaky ReLU. At 84 pixels (miniImageNet): four blocks of
    h, 1.5 h, 2 h and 4 h channels, the second without padding, the last two with dropout of whole
    channels, and a linear layer with batch normalisation and no activation. Unlike in `Conv4` the
    maximum comes before the activation. Source: Garcia, Bruna, "Few-Shot Learning with Graph
    Neural Networks", ICLR 2018, and the authors' code. Usually built by `graph_encoder`.

    Args:
        size: side of the pictures in pixels, 28 or 84.
        channels: of the pictures.
        width: h.
        dim: width of what comes out.
        dropout: of channels, in the third and fourth block at 84 pixels; at 28 there is none.

    Raises:
        InputError: another size, a number below 1, or dropout outside [0, 1) or at 28 pixels;
            when called: pictures of another shape.
    """

    def __init__(self, *, size: int, channels: int, width: int, dim: int, dropout: Sequence[float]):
        super().__init__()
        if size not in SIZES:
            raise InputError(
                f"size must be 28 or 84, the pictures these encoders are made for, got {size}; "
                "read the data set in one of these sizes, or take conv4"
            )
        if min(channels, width, dim) < 1:
            raise InputError(
                "channels, width and dim must be at least 1, got "
                f"channels={channels}, width={width}, dim={dim}"
            )
        if (
            len(dropout) != 2
            or not all(0 <= p < 1 for p in dropout)
            or (size == 28 and any(dropout))
        ):
            raise InputError(
                f"dropout must be two shares in [0, 1), 0 at 28 pixels, got {dropout} at {size}"
            )
        self.channels, self.width, self.size = channels, width, size
        self.dropout = tuple(dropout)
        self.num_features = dim
        self.blocks, self.head = (_of_28 if size == 28 else _of_84)(channels, width, dim, dropout)

    def options(self) -> dict:
        """The arguments that build this encoder again, as JSON values."""
        return {
            "size": self.size,
            "channels": self.channels,
            "width": self.width,
            "dim": self.num_features,
            "dropout": list(self.dropout),
        }

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Features (b, dim) of pictures, in the type of the weights also under autocast."""
        wanted = (self.channels, self.size, self.size)
        if tuple(images.shape[1:]) != wanted:
            raise InputError(
                f"this encoder takes pictures {wanted}, got a batch {tuple(images.shape)}; read "
                f"the data set with size={self.size}, channels={self.channels} or build the "
                "encoder for these"
            )
        maps = self.blocks(images).flatten(1)
        with torch.autocast(maps.device.type, enabled=False):
            return self.head(maps.to(self.head[0].weight.dtype))


def graph_encoder(
    size: int = 28,
    *,
    channels: int | None = None,
    width: int = 64,
    dim: int | None = None,
    dropout: Sequence[float] | None = None,
) -> GraphEncoder:
    """The encoder of Garcia and Bruna; `GraphEncoder` has the whole of it.

    What is not given is published: one channel, 64 dimensions and no dropout at 28 pixels; three
    channels, 128 dimensions and dropout 0.4 and 0.5 at 84.

    >>> import torch
    >>> graph_encoder()(torch.zeros(2, 1, 28, 28)).shape, graph_encoder(84).num_features
    (torch.Size([2, 64]), 128)
    """
    grey = size == 28
    return GraphEncoder(
        size=size,
        channels=(1 if grey else 3) if channels is None else channels,
        width=width,
        dim=(64 if grey else 128) if dim is None else dim,
        dropout=((0.0, 0.0) if grey else (0.4, 0.5)) if dropout is None else dropout,
    )


def _of_28(
    channels: int, width: int, dim: int, _: Sequence[float]
) -> tuple[nn.Sequential, nn.Sequential]:
    blocks = nn.Sequential(
        _Block(channels, width, padding=1, pool=True, slope=0.1),
        _Block(width, width, padding=1, pool=True, slope=0.1),
        _Block(width, width, padding=0, pool=False, slope=0.1),
        _Block(width, width, padding=0, pool=False, slope=0.1),
    )
    head = nn.Sequential(
        nn.Linear(9 * width, dim, bias=False), nn.BatchNorm1d(dim), nn.LeakyReLU(0.01, inplace=True)
    )
    return blocks, head


def _of_84(
    channels: int, width: int, dim: int, dropout: Sequence[float]
) -> tuple[nn.Sequential, nn.Sequential]:
    second, third, fourth = width * 3 // 2, width * 2, width * 4
    blocks = nn.Sequential(
        _Block(channels, width, padding=1, pool=True, slope=0.2),
        _Block(width, second, padding=0, pool=True, slope=0.2),
        _Block(second, third, padding=1, pool=True, slope=0.2),
        nn.Dropout2d(dropout[0]),
        _Block(third, fourth, padding=1, pool=True, slope=0.2),
        nn.Dropout2d(dropout[1]),
    )
    return blocks, nn.Sequential(nn.Linear(25 * fourth, dim), nn.BatchNorm1d(dim))
