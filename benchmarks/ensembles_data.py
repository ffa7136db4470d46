"""What the cells of `benchmarks/ensembles.py` train on: frozen maps and frozen pooled features.

The first part of a pretrained network has been paid for. Colour pictures are sent at 128 px through
SqueezeNet 1.1 (ImageNet) up to fire 7 and one more of its 3 x 3 poolings, which leaves maps of
384 x 3 x 3; fire 8 and 9 are the global part that trains. Characters of 28 px are sent through the
first two blocks of a ConvNet trained on ten other alphabets; its other two blocks are the global
part. Pooled features are those of `benchmarks/synthesis.py`.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import retrieval_grid
import synthesis_cells
from synthesis_cells import TEST_CHARACTERS, Task, chunks, convnet, omniglot_sets
from tupelo import data
from tupelo.models import Embedder
from tupelo.models.embedder import Architecture

SIDE, AT_ONCE = 128, 64  # pixels, and pictures sent through the network at once
CUT = "shared"


class Source(NamedTuple):
    """A data set as frozen inputs, and what makes fresh pretrained networks over them.

    Attributes:
        task: maps (n, e, y, x), of half precision, or pooled features (n, f, 1, 1).
        deep: makes the modules from maps to features, by name; of none where inputs are features.
        weights: pretrained, of these modules.
        features: width of the features.
    """

    task: Task
    deep: Callable[[], dict[str, nn.Module]]
    weights: dict[str, Tensor]
    features: int


class Fire(nn.Module):
    """A narrow 1 x 1 convolution, then 1 x 1 and 3 x 3 convolutions side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = F.relu(self.squeeze1x1(maps))
        return F.relu(torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], 1))


@lru_cache(1)
def load(dataset: str, inputs: str) -> Source:
    """Maps or pooled features of a data set, made once and kept."""
    if inputs == "features":
        task = synthesis_cells.load(dataset)
        # of mean square 1, so that one weight of a diversity loss suits all
        scale = task.train[0].square().mean().rsqrt()
        task = Task(*((scale * x[:, :, None, None], y) for x, y in task))
        return Source(task, dict, {}, task.train[0].shape[1])
    kept = Path(os.environ.get("TUPELO_FEATURES", "runs/features")) / f"{dataset}_maps.npz"
    if not kept.exists():
        found = _characters() if dataset == "omniglot" else _pictures(dataset)
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(new, **{name: value.numpy() for name, value in found.items()})
        new.replace(kept)
    found = {name: torch.from_numpy(value) for name, value in np.load(kept).items()}
    task = Task(*((found.pop(part), found.pop(f"{part} labels")) for part in Task._fields))
    if dataset == "omniglot":
        return Source(task, _last_blocks, found, 512)
    return Source(task, _last_fires, found, 512)


def network(source: Source, dim: int) -> Embedder:
    """The pretrained global part, or nothing, and a fresh linear layer of that width."""
    channels, side = source.task.train[0].shape[1:3]
    architecture = Architecture(
        backbone="custom", features=source.features, dim=dim, channels=channels, size=side,
        mean=(0.0,) * channels, std=(1.0,) * channels, freeze_batchnorm=True,
    )  # fmt: skip
    # named, so that maps can be cut from it as they can from a backbone of pictures
    deep = nn.Sequential(OrderedDict({CUT: nn.Identity(), **source.deep(), "rows": nn.Flatten()}))
    deep.load_state_dict(source.weights)
    return Embedder(deep, architecture)


def _last_fires() -> dict[str, nn.Module]:
    return {
        "fire8": Fire(384, 64, 256),
        "fire9": Fire(512, 64, 256),
        "pool": nn.AdaptiveAvgPool2d(1),
    }


def _last_blocks() -> dict[str, nn.Module]:
    blocks = synthesis_cells.omniglot_body().blocks
    return {"block3": blocks[2], "block4": blocks[3]}


@torch.no_grad()
def _pictures(dataset: str) -> dict[str, Tensor]:
    stored = np.load(Path(os.environ["TUPELO_DATA"]) / "weights" / "squeezenet_v1.1_fp16.npz")
    weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
    found = {}
    for name, part in zip(Task._fields, _parts(dataset), strict=True):
        pixels, found[f"{name} labels"] = retrieval_grid.arrays(part)
        maps = [_squeezenet(weights, chunk).half() for chunk in pixels.split(AT_ONCE)]
        found[name] = torch.cat(maps)
    return found | {
        name: value for name, value in weights.items() if name[:5] in ("fire8", "fire9")
    }


def _parts(dataset: str) -> tuple[data.ImageSet, data.ImageSet, data.ImageSet]:
    parts = data.known(dataset)
    return parts.train, parts.validation, parts.test


def _squeezenet(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Maps of the network behind fire 7, pooled; it was trained on blue, green, red."""
    large = F.interpolate(pixels, size=SIDE, mode="bilinear", align_corners=False)
    x = 255 * large.flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
    x = F.relu(F.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], stride=2))
    for number in range(2, 8):
        if number % 2 == 0:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)

        def layer(x: Tensor, part: str, number: int = number) -> Tensor:
            kernel = weights[f"fire{number}.{part}.weight"]
            bias = weights[f"fire{number}.{part}.bias"]
            return F.relu(F.conv2d(x, kernel, bias, padding=kernel.shape[2] // 2))

        x = layer(x, "squeeze1x1")
        x = torch.cat([layer(x, "expand1x1"), layer(x, "expand3x3")], 1)
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


@torch.no_grad()
def _characters() -> dict[str, Tensor]:
    other, sets, labels = omniglot_sets()
    with torch.enable_grad():
        model = convnet(other)
    first = nn.Sequential(*list(model.backbone.blocks)[:2]).eval()
    found = {}
    for name, part, numbers in zip(Task._fields, sets, labels, strict=True):
        maps = [
            first((part.batch(rows).images - model.mean) / model.std) for rows in chunks(len(part))
        ]
        found[name], found[f"{name} labels"] = torch.cat(maps).half(), numbers
    kept = found["test labels"] < TEST_CHARACTERS
    found |= {"test": found["test"][kept], "test labels": found["test labels"][kept]}
    blocks = model.backbone.blocks
    for number in (2, 3):
        state = blocks[number].state_dict()
        found |= {f"block{number + 1}.{name}": value for name, value in state.items()}
    return found
