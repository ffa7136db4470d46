"""A small convolutional network for small pictures, grey or colour."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError


class ConvNet(nn.Module):
    """Residual stages of 3 x 3 convolutions for pictures of about 28 to 96 pixels.

    A stem at full resolution is followed by stages that halve the picture and widen the
    channels; global average pooling makes any size legal. Batch normalisation follows every
    convolution (Ioffe and Szegedy, 2015), shortcuts as in ResNet-D (He et al., "Bag of Tricks",
    CVPR 2019: pool, then 1 x 1).

    Args:
        channels: of the pictures; 1 grey, 3 colour.
        widths: channels of the stem and of each stage; the picture is halved before every
            stage, so a side of `2 ** (len(widths) - 1)` pixels is the least that is useful.

    Raises:
        InputError: `channels` or a width is below 1, or fewer than 2 widths are given.

    >>> import torch
    >>> ConvNet(channels=1)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 256])
    """

    def __init__(self, *, channels: int = 3, widths: tuple[int, ...] = (32, 64, 128, 256)):
        super().__init__()
        if channels < 1 or len(widths) < 2 or min(widths) < 1:
            raise InputError(
                "a ConvNet needs channels >= 1 and at least 2 widths >= 1, got "
                f"channels={channels}, widths={widths}"
            )
        self.num_features = widths[-1]
        self.stem = nn.Sequential(*_conv(channels, widths[0], 3), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(*[_Stage(before, after) for before, after in pairwise(widths)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Features (b, widths[-1]) of pictures of any size."""
        return self.pool(self.stages(self.stem(images)))


class _Stage(nn.Module):
    """Halve, then two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.body = nn.Sequential(
            *_conv(before, after, 3, stride=2), nn.ReLU(inplace=True), *_conv(after, after, 3)
        )
        # ceil_mode matches the padded convolution where the side is odd
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), *_conv(before, after, 1)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        return self.activation(self.body(x) + self.shortcut(x))


def _conv(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, side, stride=stride, padding=side // 2, bias=False)
    return [conv, nn.BatchNorm2d(after)]
