"""The encoder of few-shot learning: four plain convolutional blocks."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.fewshot.blocks import block

BLOCKS = 4


class Conv4(nn.Module):
    """Four blocks of 3 x 3 convolution, batch normalisation, ReLU and maximum over 2 x 2; flat.

    Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016; Snell, Swersky,
    Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017. Usually built by `conv4`.

    Args:
        channels: of the pictures; 1 grey, 3 colour.
        width: channels of every block, h.
        size: side of the pictures in pixels, >= 16.

    Raises:
        InputError: `channels` or `width` below 1, or `size` below 16; when called: pictures of
            another shape.
    """

    def __init__(self, *, channels: int, width: int, size: int):
        super().__init__()
        if channels < 1 or width < 1:
            raise InputError(
                f"channels and width must be at least 1, got channels={channels}, width={width}"
            )
        if size < 2**BLOCKS:
            raise InputError(
                f"size must be at least {2**BLOCKS} pixels, which {BLOCKS} halvings leave one of, "
                f"got {size}"
            )
        self.channels = channels
        self.width = width
        self.size = size
        self.num_features = width * (size // 2**BLOCKS) ** 2
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(2),
                )
                for before, after in pairwise((channels, *[width] * BLOCKS))
            ]
        )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Features (b, f) of pictures."""
        wanted = (self.channels, self.size, self.size)
        if tuple(images.shape[1:]) != wanted:
            raise InputError(
                f"this encoder takes pictures {wanted}, got a batch {tuple(images.shape)}; read "
                f"the data set with size={self.size}, channels={self.channels} or build the "
                "encoder for these"
            )
        for conv, norm, _, _ in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            images = block(images, conv, norm)
        return images.flatten(1)

    def options(self) -> dict:
        """The arguments that build this encoder again."""
        return {"channels": self.channels, "width": self.width, "size": self.size}


def conv4(channels: int = 1, *, width: int = 64, size: int = 28) -> Conv4:
    """The four blocks of Vinyals et al.; `Conv4` has the whole of it.

    >>> import torch
    >>> conv4()(torch.zeros(2, 1, 28, 28)).shape, conv4(3, size=84).num_features
    (torch.Size([2, 64]), 1600)
    """
    return Conv4(channels=channels, width=width, size=size)
