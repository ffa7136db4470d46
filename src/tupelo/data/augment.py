"""Random changes to batches of pictures: callables `(images, generator) -> images`.

All randomness comes from the generator, so that a batch is augmented alike wherever it is made.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tupelo.data.imageset import Augment
from tupelo.errors import InputError

Images = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class Compose:
    """One augmentation after the other.

    Args:
        steps: in order.
    """

    steps: tuple[Augment, ...]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps:
            images = step(images, generator)
        return images


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of each picture, scaled to one size by bilinear interpolation.

    Args:
        size: height and width of the result in pixels.
        scale: range of the share of the area that is kept, within (0, 1].
        ratio: range of width over height of the part, drawn in its logarithm.

    Raises:
        InputError: a range is empty or leaves its limits.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(f"scale must be a range within (0, 1], got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(f"ratio must be a range of positive numbers, got {self.ratio}")

    def __call__(
        self, images: Images, generator: torch.Generator
    ) -> Float[Tensor, "b c height width"]:
        b, c, height, width = images.shape
        area, shape, across, down = torch.rand((4, b), generator=generator)
        area = height * width * _between(area, *self.scale)
        shape = _between(shape, math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        w = (area * shape).sqrt().round().clamp(1, width)
        h = (area / shape).sqrt().round().clamp(1, height)
        left = (across * (width - w + 1)).floor().clamp(max=width - 1)
        top = (down * (height - h + 1)).floor().clamp(max=height - 1)
        boxes = torch.stack([top, top + h, left, left + w], dim=1).int().tolist()
        out = images.new_empty((b, c, *self.size))
        # One call a picture: parts differ in size, and this costs less than grid_sample.
        for place, (t, bottom, l, right) in enumerate(boxes):  # noqa: E741
            part = images[place : place + 1, :, t:bottom, l:right]
            out[place] = F.interpolate(part, size=self.size, mode="bilinear", antialias=True)[0]
        return out


@dataclass(frozen=True)
class RandomCrop:
    """A window of the picture's own size, from the picture with its border mirrored outwards.

    Args:
        padding: pixels added on each side, smaller than the picture.
    """

    padding: int

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        b, _, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4, mode="reflect")
        shifts = torch.randint(2 * self.padding + 1, (b, 2), generator=generator).tolist()
        out = torch.empty_like(images)
        for place, (top, left) in enumerate(shifts):
            out[place] = padded[place, :, top : top + height, left : left + width]
        return out


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror some pictures left to right; not for characters or digits.

    Args:
        share: probability of each, in [0, 1].
    """

    share: float = 0.5

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        chosen = torch.rand(len(images), generator=generator) < self.share
        images = images.clone()
        images[chosen] = images[chosen].flip(-1)
        return images


@dataclass(frozen=True)
class BoxJitter:
    """Each picture as a detector's box, a little off, would have cut it.

    Moved and scaled by bilinear interpolation; what would lie outside of the picture is mirrored.

    Args:
        shift: at most so large a share of height and width, in [0, 1).
        scale: sides of the box are drawn from [1 - it, 1 + it], each by itself, in [0, 1).

    Raises:
        InputError: a share is outside [0, 1).

    >>> BoxJitter()(torch.rand(2, 3, 8, 4), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 4])
    """

    shift: float = 0.05
    scale: float = 0.05

    def __post_init__(self) -> None:
        _check_shares(shift=self.shift, scale=self.scale)

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        across, down, wide, high = 2 * torch.rand((4, len(images)), generator=generator) - 1
        move = torch.stack([across, down], 1) * self.shift
        return moved(images, move, 1 + torch.stack([wide, high], 1) * self.scale)


@dataclass(frozen=True)
class ShiftedBoxes:
    """The last pictures of a batch moved off their object, to be negatives of it.

    A box is moved by a share of its size along one side, drawn, and by at most as much along the
    other. A crop has no surroundings, so the object moves within it and what comes in from
    outside is the border mirrored: cheaper than the frame the crop was cut from, and not equal to
    it. Without such negatives an embedding tolerates boxes beside their object, and a tracker that
    proposes boxes by appearance drifts. See `WithShifted` and `objectives.Misplaced`.

    Args:
        rows: of a batch that stay as they are, >= 0.
        least, most: share of the box's size, 0 < least <= most < 1.

    Raises:
        InputError: an argument is out of its range.
    """

    rows: int
    least: float = 0.3
    most: float = 0.6

    def __post_init__(self) -> None:
        if self.rows < 0 or not 0 < self.least <= self.most < 1:
            raise InputError(
                "shifted boxes need rows >= 0 and 0 < least <= most < 1, got "
                f"rows={self.rows}, least={self.least}, most={self.most}"
            )

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        extra = len(images) - self.rows
        if extra <= 0:
            return images
        size, other, sign, axis = torch.rand((4, extra), generator=generator)
        size = _between(size, self.least, self.most)
        main = torch.where(sign < 0.5, -size, size)
        side = (2 * other - 1) * size
        upright = axis < 0.5
        move = torch.stack([torch.where(upright, side, main), torch.where(upright, main, side)], 1)
        shifted = moved(images[self.rows :], move, torch.ones(extra, 2))
        return torch.cat([images[: self.rows], shifted])


def moved(
    images: Images, move: Float[Tensor, "b 2"], scale: Float[Tensor, "b 2"]
) -> Float[Tensor, "b c h w"]:
    """What boxes beside the pictures show, the border being mirrored outwards.

    Args:
        images: whole boxes.
        move: right and down, in shares of width and height.
        scale: of the width and height of the box, about its centre.

    >>> row = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> moved(row, torch.tensor([[0.5, 0.0]]), torch.ones(1, 2))
    tensor([[[[2., 3., 3., 2.]]]])
    """
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale.T
    theta[:, :, 2] = 2 * move  # the grid goes from -1 to 1
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class ColourJitter:
    """Scale brightness, contrast and saturation of each picture by random factors.

    Args:
        brightness, contrast, saturation: factors are drawn from [1 - it, 1 + it]; 0 leaves it.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        b, c = images.shape[:2]
        bright, contrast, saturation = (
            1
            + (torch.rand((3, b), generator=generator) * 2 - 1)
            * (torch.tensor([self.brightness, self.contrast, self.saturation])[:, None])
        )
        mean = images.mean(dim=(1, 2, 3))
        images = images * _rows(bright * contrast)
        images += _rows(mean * bright * (1 - contrast))
        if c == 3:
            images = torch.lerp(images.mean(dim=1, keepdim=True), images, _rows(saturation))
        return images.clamp_(0, 1)


def default_augmentation(
    size: int | tuple[int, int], *, flip: bool = True, smallest: float = 0.2
) -> Augment:
    """Random resized crops and flips: what retrieval is usually trained with.

    Args:
        size: of the result in pixels, a number for squares or (height, width).
        flip: mirror half of the pictures; off for characters and digits.
        smallest: least share of the area a crop keeps, in (0, 1].

    >>> augment = default_augmentation(16)
    >>> augment(torch.rand(2, 3, 20, 20), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 16, 16])
    """
    shape = (size, size) if isinstance(size, int) else size
    crop = RandomResizedCrop(shape, scale=(smallest, 1.0))
    return Compose((crop, HorizontalFlip())) if flip else crop


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(f"{name} must be a share in [0, 1), got {share}")


def _between(share: Tensor, low: float, high: float) -> Tensor:
    return low + share * (high - low)


def _rows(values: Tensor) -> Tensor:
    return values[:, None, None, None]
