"""Backbones that timm does not have: a small network for small pictures, and GoogLeNet."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError

LARGE_SIDE = 48  # pixels from which a fifth block pays: at 28 it harms, at 64 it helps


def widths_for(size: int | tuple[int, int] | None) -> tuple[int, ...]:
    """Widths of a `ConvNet` for pictures of that side in pixels, or of the shorter one.

    None counts as small.

    >>> widths_for(28), widths_for(64)
    ((32, 64, 128, 256), (32, 64, 128, 256, 256))
    """
    small = (32, 64, 128, 256)
    size = min(size) if isinstance(size, tuple) else size
    return small if size is None or size < LARGE_SIDE else (*small, 256)


class ConvNet(nn.Module):
    """Blocks of 3 x 3 convolution, batch normalisation, ReLU and maximum over 2 x 2.

    Made for pictures of about 28 to 96 pixels. Every block but the last halves the picture; an
    average over what is left makes any size legal. On most sets tried, plain blocks that widen
    embed unseen classes about as well as residual ones of twice the depth, at a third of their
    cost (docs/design.md has the comparison); the idea is that of Vinyals et al., "Matching
    Networks", NeurIPS 2016, whose four blocks are all 64 wide and end in a flattened picture.

    Args:
        channels: of the pictures; 1 grey, 3 colour.
        widths: channels after each block; `widths_for` has what suits a size.

    Raises:
        InputError: `channels` or a width is below 1, or no width is given.

    >>> import torch
    >>> ConvNet(channels=1)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 256])
    """

    def __init__(self, *, channels: int = 3, widths: tuple[int, ...] = (32, 64, 128, 256)):
        super().__init__()
        if min(channels, *widths, len(widths)) < 1:
            raise InputError(
                "a ConvNet needs channels >= 1 and one or more widths >= 1, got "
                f"channels={channels}, widths={widths}"
            )
        self.num_features = widths[-1]
        # rounding up keeps a row and a column however small the picture gets
        pools = [nn.MaxPool2d(2, ceil_mode=True) for _ in widths[1:]]
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                    pool,
                )
                for (before, after), pool in zip(
                    pairwise((channels, *widths)), [*pools, nn.AdaptiveAvgPool2d(1)], strict=True
                )
            ]
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Features (b, widths[-1]) of pictures of any size."""
        return self.blocks(images).flatten(1)


GOOGLENET_CONFIG = {
    # the published weights expect pictures in [-1, 1], so no other mean is needed
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "first_conv": "conv1.conv",
    "classifier": ("fc", "aux1", "aux2"),
}


def googlenet(*, channels: int = 3) -> nn.Module:
    """torchvision's GoogLeNet without its classifiers, from pictures to features (b, 1024).

    The network of many published retrieval results (Szegedy et al., "Going Deeper with
    Convolutions", CVPR 2015). torchvision's has batch normalisation everywhere and no local
    response normalisation, unlike the Caffe model those results were trained from, so they
    compare in kind, not to the point.

    Args:
        channels: of the pictures; 1 grey, 3 colour.

    >>> googlenet().num_features
    1024
    """
    import torchvision

    net = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    if channels != 3:
        net.conv1.conv = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for name in ("fc", "dropout"):  # the head has its own
        net.add_module(name, nn.Identity())
    vars(net).update(num_features=1024, pretrained_cfg=GOOGLENET_CONFIG)
    return net


def googlenet_weights() -> str:
    """Where torchvision publishes the weights of its GoogLeNet, trained on ImageNet."""
    from torchvision.models import GoogLeNet_Weights

    return GoogLeNet_Weights.IMAGENET1K_V1.url
