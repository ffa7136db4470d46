"""A backbone cut in two at one of its modules, for learners that share the first part."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tupelo.errors import InputError
from tupelo.models.architecture import GOOGLENET, Architecture

PUBLISHED_CUT = "maxpool3"  # of GoogLeNet: "pool3", before inception 4a
PROBE_SIDE = 64  # pixels of the picture that is sent through, where the model has no size
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class Spatial(nn.Module):
    """The first part of a backbone: pictures with values in [0, 1] to a map.

    Args:
        layers: from normalised pictures to the map S.
        architecture: says how pictures are normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module, architecture: Architecture):
        super().__init__()
        self.channels = architecture.channels
        self.layers = layers
        # fixed by the architecture, so not part of the weights
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e y x"]:
        """The map of e channels and y x x places.

        Raises:
            InputError: the number of channels is another than the model's.
        """
        if images.shape[1] != self.channels:
            raise InputError(
                f"this model takes pictures of {self.channels} channel(s), got {images.shape[1]} "
                f"in a batch {tuple(images.shape)}; read the data set with "
                f"channels={self.channels} or build the model with channels={images.shape[1]}"
            )
        return self.layers((images - self.mean) / self.std)


class Deep(nn.Module):
    """The second part of a backbone: a map to pooled features.

    Args:
        layers: from the map to features (b, f), or to a map (b, f, 1, 1).
    """

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, maps: Float[Tensor, "b e y x"]) -> Float[Tensor, "b f"]:
        """Features of maps."""
        return self.layers(maps).flatten(1)


class Cut(NamedTuple):
    """A backbone in two parts, and what attention is computed with.

    Attributes:
        name: of the last module before the cut.
        spatial: pictures to the map S; modules of the backbone itself.
        deep: the map to features; modules of the backbone itself.
        trunk: a separate copy, with its weights, of what follows the cut as far as maps keep
            their size, without pooling and with all strides 1, so that it keeps the size of S.
        channels: e of the map S.
        attended: channels of what the trunk returns.
    """

    name: str
    spatial: Spatial
    deep: Deep
    trunk: nn.Sequential
    channels: int
    attended: int


def cut(backbone: nn.Module, architecture: Architecture, name: str | None = None) -> Cut:
    """Cut a backbone that is a chain of modules behind one of them.

    A chain is a network that runs its children one after the other, a `nn.Sequential` among them
    counting as its own children: the ConvNet, GoogLeNet, the residual, efficient and similar
    networks of timm, and a `nn.Sequential` of yours. That it is one is checked: a picture is sent
    through both. A module of yours that is no chain can be made one of two: `nn.Sequential(first,
    second)`, cut behind "0".

    Args:
        backbone: from normalised pictures to features; its modules become those of the parts.
        architecture: of the model; tells the pictures.
        name: of the last module before the cut, as in `named_modules`; default the published cut
            of GoogLeNet, and of others the module before the size of maps falls for the second
            last time ("blocks.1" of the small ConvNet, "layer2" of residual networks).

    Raises:
        InputError: the backbone is no chain, has no module of that name, the cut leaves nothing
            before or behind it, does not stand behind a map, or the trunk cannot keep its size.

    >>> from tupelo.models import embedder
    >>> model = embedder("convnet", channels=1)
    >>> parts = cut(model.backbone, model.architecture)
    >>> parts.name, parts.channels, parts.attended
    ('blocks.1', 64, 128)
    """
    steps = OrderedDict(_steps(backbone))
    side = architecture.size or PROBE_SIDE
    picture = torch.rand(
        1, architecture.channels, side, side, generator=torch.Generator().manual_seed(0)
    )
    like = next(backbone.parameters(), picture)
    shapes = _shapes(backbone, steps, picture.to(like))
    if name is None:
        name = PUBLISHED_CUT if architecture.backbone == GOOGLENET else _usual(steps, shapes)
    names = list(steps)
    last = _place(names, name)
    shape = shapes[names[last]]
    if len(shape) != 4 or last + 1 == len(names):
        raise InputError(
            f"cut must name a module that returns a map (b, c, h, w) with more modules behind it, "
            f"got {name!r}, which returns {tuple(shape)}; maps come from {_maps(shapes)}"
        )
    before, behind = names[: last + 1], names[last + 1 :]
    for module in steps[behind[0]].modules():
        if getattr(module, "inplace", False):
            vars(module)["inplace"] = False  # it would change the map that others see too
    copied = _trunk_steps(behind, shapes)
    if not copied:
        raise InputError(
            f"cut={name!r} leaves no maps behind it for attention to be computed from; cut "
            f"earlier, behind one of {_maps(shapes)}"
        )
    parts = Cut(
        name,
        Spatial(nn.Sequential(*(steps[step] for step in before)), architecture),
        Deep(nn.Sequential(*(steps[step] for step in behind))),
        nn.Sequential(*(_without_strides(steps[step]) for step in copied)),
        shape[1],
        shapes[copied[-1]][1],
    )
    _check_trunk(parts, torch.rand(shape).to(like))
    return parts


def freeze(*parts: nn.Module) -> None:
    """Keep the running statistics of batch normalisation: evaluation mode for these modules."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def mixes_rows(*parts: nn.Module) -> bool:
    """Whether rows of a batch depend on each other: batch normalisation at work in some part."""
    return any(
        isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        for part in parts
        for module in part.modules()
    )


def _steps(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a chain in their order, sequences taken apart."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential and len(child):
            yield from _steps(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


@torch.no_grad()
def _shapes(
    backbone: nn.Module, steps: dict[str, nn.Module], picture: Tensor
) -> dict[str, torch.Size]:
    """The shape that every step returns, after a check that the steps are the network."""
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        whole = backbone(picture)
        shapes, x = {}, picture
        for name, step in steps.items():
            x = step(x)
            shapes[name] = x.shape
        if not torch.allclose(x.flatten(1), whole.flatten(1), rtol=1e-3, atol=1e-4):
            raise ValueError("its modules in a row return something else")
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise InputError(
            f"the backbone {type(backbone).__name__} cannot be cut, since it is not a chain of its "
            f"modules ({' '.join(str(error).split())[:120]}); take 'convnet', 'googlenet' or a "
            "convolutional network of timm such as 'resnet50', or give embedder() your own as "
            "nn.Sequential(first, second) and cut it behind '0'"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return shapes


def _usual(steps: dict[str, nn.Module], shapes: dict[str, torch.Size]) -> str:
    """Before the second last fall of the size; behind it, where a pooling layer makes it fall."""
    names = [name for name, shape in shapes.items() if len(shape) == 4]
    falls = [
        behind if isinstance(steps[behind], _POOLS) else before
        for before, behind in pairwise(names)
        if shapes[before][2:] != shapes[behind][2:]
        and not isinstance(steps[behind], nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    ]
    if len(falls) < 2:
        raise InputError(
            "cut must be given for this backbone, whose maps change their size less than twice: "
            f"the name of a module that returns a map, one of {_maps(shapes)}"
        )
    chosen = falls[-2].split(".")
    # named by the outermost stage that ends there, not by its last layer
    stages = (".".join(chosen[:depth]) for depth in range(1, len(chosen) + 1))
    return next(stage for stage in stages if list(shapes)[_place(list(shapes), stage)] == falls[-2])


def _place(names: list[str], name: str) -> int:
    """The last step that is, or is in, the module of that name."""
    places = [i for i, step in enumerate(names) if f"{step}.".startswith(f"{name}.")]
    if not places:
        raise InputError(f"cut must name a module of the backbone, got {name!r}; it has {names}")
    return places[-1]


def _trunk_steps(behind: list[str], shapes: dict[str, torch.Size]) -> list[str]:
    """What follows the cut up to the next change of size, at least one step that returns maps."""
    maps = [name for name in behind if len(shapes[name]) == 4]
    taken: list[str] = []
    for name in maps:
        if taken and shapes[name][2:] != shapes[taken[-1]][2:]:
            break
        taken.append(name)
    return taken


def _without_strides(module: nn.Module) -> nn.Module:
    """A copy whose convolutions have stride 1 and that does not pool."""
    if isinstance(module, _POOLS) and (not hasattr(module, "stride") or _strides(module)):
        return nn.Identity()
    twin = copy.deepcopy(module)
    for name, child in list(twin.named_modules()):
        if isinstance(child, nn.Conv2d):
            child.stride = (1, 1)
        elif name and isinstance(child, _POOLS) and _strides(child):
            twin.set_submodule(name, nn.Identity())
    return twin


def _strides(pool: nn.Module) -> bool:
    stride = getattr(pool, "stride", 1)
    return max(stride) > 1 if isinstance(stride, tuple) else stride > 1


@torch.no_grad()
def _check_trunk(parts: Cut, maps: Tensor) -> None:
    trunk = copy.deepcopy(parts.trunk).eval()
    try:
        shape = tuple(trunk(maps).shape)
    except RuntimeError as error:
        shape = f"an error ({' '.join(str(error).split())[:100]})"
    if not isinstance(shape, tuple) or shape[2:] != maps.shape[2:]:
        raise InputError(
            f"masks must have the shape of the map they multiply, {tuple(maps.shape)}, but the "
            f"modules behind {parts.name!r} without strides return {shape}; cut elsewhere"
        )


def _maps(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(name for name, shape in shapes.items() if len(shape) == 4)
