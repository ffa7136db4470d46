"""A backbone cut in two at one of its modules, for learners that share the first part."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise, takewhile
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tupelo.errors import InputError
from tupelo.models.architecture import GOOGLENET, Architecture

PUBLISHED_CUT = "maxpool3"  # of GoogLeNet: "pool3", before inception 4a
PROBE_SIDE = 96  # pixels of the picture that is sent through, where the model has no size
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

    layers: nn.Sequential

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, maps: Float[Tensor, "b e y x"]) -> Float[Tensor, "b f"]:
        """Features of maps."""
        return self.layers(maps).flatten(1)


class Cut(NamedTuple):
    """A backbone in two parts.

    Attributes:
        name: of the last module before the cut.
        spatial: pictures to the map S; modules of the backbone itself.
        deep: the map to features; modules of the backbone itself.
        shapes: of the map S of one picture, and of what each module of `deep` makes of it.
    """

    name: str
    spatial: Spatial
    deep: Deep
    shapes: tuple[torch.Size, ...]


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
            behind it, or does not stand behind a map.

    >>> from tupelo.models import embedder
    >>> model = embedder("convnet", channels=1)
    >>> parts = cut(model.backbone, model.architecture)
    >>> parts.name, parts.shapes[0][1]  # channels of the map
    ('blocks.1', 64)
    """
    steps = OrderedDict(_steps(backbone))
    side = architecture.size or PROBE_SIDE
    height, width = (side, side) if isinstance(side, int) else side
    picture = torch.rand(
        1, architecture.channels, height, width, generator=torch.Generator().manual_seed(0)
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
    behind = nn.Sequential(*(steps[step] for step in names[last + 1 :]))
    _keep_input(behind)
    return Cut(
        name,
        Spatial(nn.Sequential(*(steps[step] for step in names[: last + 1])), architecture),
        Deep(behind),
        tuple(shapes[step] for step in names[last:]),
    )


def attention_trunk(parts: Cut) -> tuple[nn.Sequential, int]:
    """What attention is computed with: a copy of what follows the cut as long as maps keep a size.

    It has the weights of what it is a copy of, but all strides are 1 and nothing is pooled, so
    that it keeps the size of the map at the cut.

    Returns:
        The trunk, and the channels of its maps.

    Raises:
        InputError: nothing with weights follows before maps end, or the copy cannot keep the size.

    >>> from tupelo.models import embedder
    >>> model = embedder("convnet", channels=1)
    >>> attention_trunk(cut(model.backbone, model.architecture))[1]
    128
    """
    maps, first, *_ = parts.shapes
    alike = takewhile(lambda shape: len(shape) == 4 and shape[2:] == first[2:], parts.shapes[1:])
    taken = len(list(alike))
    trunk = nn.Sequential(*map(_without_strides, parts.deep.layers[:taken]))
    if not any(True for _ in trunk.parameters()):
        raise InputError(
            f"cut={parts.name!r} leaves no convolutions of maps behind it for attention to be "
            "computed with; cut earlier"
        )
    _check_size(trunk, maps, parts.name)
    return trunk, parts.shapes[taken][1]


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
    for name, child in module._modules.items():  # named_children leaves out what is there twice
        if child is None:
            continue
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
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
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


def _keep_input(steps: nn.Sequential) -> None:
    """Nothing changes the map at the cut in place, since others see it too."""
    for step in steps:
        for module in step.modules():
            if getattr(module, "inplace", False):
                vars(module)["inplace"] = False
        if any(True for _ in step.parameters()):
            return  # what it returns is new


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
def _check_size(trunk: nn.Sequential, maps: torch.Size, name: str) -> None:
    twin = copy.deepcopy(trunk).eval()
    try:
        shape = tuple(twin(torch.zeros(maps).to(next(twin.parameters()))).shape)
    except RuntimeError as error:
        shape = f"an error ({' '.join(str(error).split())[:100]})"
    if not isinstance(shape, tuple) or shape[2:] != maps[2:]:
        raise InputError(
            f"masks must have the shape of the map they multiply, {tuple(maps)}, but the "
            f"modules behind {name!r} without strides return {shape}; cut elsewhere"
        )


def _maps(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(name for name, shape in shapes.items() if len(shape) == 4)
