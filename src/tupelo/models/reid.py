"""Backbones for people cut out of pictures: a residual network of wide use, and a small one.

The residual one is that of Wojke, Bewley, Paulus, "Simple Online and Realtime Tracking with a Deep
Association Metric" (DeepSORT), ICIP 2017, table 1.
"""

from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError

REID, REID_SMALL = "reid", "reid-small"
SIZES = {REID: (128, 64), REID_SMALL: (64, 32)}
"""Height and width in pixels that they are made for."""
DROPOUT = 0.4
AS_IS = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # values in [0, 1]


class Residual(nn.Module):
    """Two convolutions beside a shortcut, normalised before and not after them.

    Batch normalisation and ELU of the input (but for the first block, whose input has had both);
    convolution, batch normalisation, ELU, dropout, convolution with bias; plus the input as it
    came, or, where the size changes, a 1 x 1 convolution of it.

    Args:
        before: channels of the input.
        after: of the output.
        stride: 2 halves the map.
        first: there is no normalisation of the input.
        dropout: share in [0, 1).
    """

    def __init__(
        self, before: int, after: int, *, stride: int = 1, first: bool = False, dropout: float
    ):
        super().__init__()
        self.before = nn.Identity() if first else nn.Sequential(nn.BatchNorm2d(before), nn.ELU())
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Conv2d(after, after, 3, padding=1),
        )
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        """The map behind the block."""
        return self.shortcut(x) + self.branch(self.before(x))


class ReidNet(nn.Sequential):
    """Two convolutions, a maximum over 3 x 3, and six residual blocks, flattened.

    For pictures of 128 x 64 pixels 16,384 features. With the head of `embedder("reid")`, dropout
    and a linear layer with batch normalisation and ELU, it is the network of DeepSORT: 2,801,824
    weights. Pooling takes two-sided borders where the published code has one-sided ones.

    Args:
        channels: of the pictures.
        size: height and width in pixels, >= 8 each.
        dropout: within the blocks, in [0, 1).

    Raises:
        InputError: a side below 8, or `dropout` out of range; when called: pictures of another
            size.

    >>> import torch
    >>> net = ReidNet(size=(64, 32)).eval()
    >>> net(torch.zeros(2, 3, 64, 32)).shape
    torch.Size([2, 4096])
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: tuple[int, int] = SIZES[REID],
        dropout: float = DROPOUT,
    ):
        if min(size) < 8 or channels < 1:
            raise InputError(
                f"a ReidNet needs pictures of 8 pixels or more each way, got {size[0]} x {size[1]} "
                f"of {channels} channel(s)"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {dropout}")
        super().__init__(
            *_convolved(channels, 32),
            *_convolved(32, 32),
            nn.MaxPool2d(3, stride=2, padding=1),
            Residual(32, 32, first=True, dropout=dropout),
            Residual(32, 32, dropout=dropout),
            Residual(32, 64, stride=2, dropout=dropout),
            Residual(64, 64, dropout=dropout),
            Residual(64, 128, stride=2, dropout=dropout),
            Residual(128, 128, dropout=dropout),
            nn.Flatten(),
        )
        self.size = size
        self.num_features = 128 * -(-size[0] // 8) * -(-size[1] // 8)
        self.pretrained_cfg = AS_IS

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Features of pictures of the size it was built for."""
        if tuple(input.shape[2:]) != self.size:
            height, width = input.shape[2:]
            raise InputError(
                f"this network takes pictures of {self.size[0]} x {self.size[1]} pixels, got "
                f"{height} x {width}; read them with size={self.size}, or build it for theirs"
            )
        return super().forward(input)


def small_reid_net(channels: int = 3) -> nn.Sequential:
    """Three convolutions of 16, 32 and 64 channels, each halving the map, and its average.

    Made for pictures of 64 x 32 pixels on a CPU; takes any of 8 pixels or more.

    >>> import torch
    >>> small_reid_net()(torch.zeros(2, 3, 64, 32)).shape
    torch.Size([2, 64])
    """
    layers, before = [], channels
    for after in (16, 32, 64):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        before = after
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    vars(net).update(num_features=64, pretrained_cfg=AS_IS)
    return net


def reid_backbone(
    name: str, *, channels: int, size: int | tuple[int, int] | None
) -> tuple[nn.Module, tuple[int, int]]:
    """The backbone of that name, and the size it was built for.

    >>> reid_backbone("reid-small", channels=3, size=None)[1]
    (64, 32)
    """
    height, width = SIZES[name] if size is None else (size, size) if isinstance(size, int) else size
    if name == REID:
        return ReidNet(channels=channels, size=(height, width)), (height, width)
    return small_reid_net(channels), (height, width)


def _convolved(before: int, after: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ELU()]
