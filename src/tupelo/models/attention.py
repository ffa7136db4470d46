"""Attention-based ensembles (ABE): learners that see one map through masks of their own."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.models.architecture import Architecture, Learners
from tupelo.models.cutting import attention_trunk, cut, freeze, mixes_rows
from tupelo.models.embedder import Embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.rebuilding import ENSEMBLES, rebuilt_embedder
from tupelo.sections import Pictures, Section, Shown
from tupelo.types import Embedded

ACTIVATIONS = ("sigmoid", "relu", "range")
SMALLEST_RANGE = 1e-6  # of a channel of a mask, where it is the same everywhere
SHOWN = 10  # pictures whose masks the report has


class Range(nn.Module):
    """Each channel of each picture from 0 at its lowest to 1 at its highest place.

    >>> Range()(torch.tensor([[[[1.0, 3.0, 2.0]]]]))
    tensor([[[[0.0000, 1.0000, 0.5000]]]])
    """

    def forward(self, maps: Float[Tensor, "b e y x"]) -> Float[Tensor, "b e y x"]:
        """Maps in [0, 1]."""
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return (maps - low) / (high - low).clamp(min=SMALLEST_RANGE)


class Attentive(Ensemble):
    """Learners that share everything but a mask; usually built by `attentive`.

    With S the map of the first part of a backbone, A0 a trunk that keeps its size, G the second
    part and W a linear layer, learner i is

        B_i(x) = W G(S(x) * A_i(x)),  A_i = activation(C_i A0(S(x)))

    where C_i is a 1 x 1 convolution, the only thing that is its own, and * the product of every
    channel at every place. Source: Kim, Goyal, Chawla, Lee, Kwon, "Attention-based Ensemble for
    Deep Metric Learning", ECCV 2018.

    The maps of all learners go through G in one batch. Where batch normalisation is at work in G
    or before W, in training unless it is frozen, they go one after the other, so that its
    statistics are those of one learner; its running statistics then move once a learner.

    Args:
        spatial: S, from pictures with values in [0, 1] to maps (b, e, y, x).
        trunk: A0, from these to maps (b, a, y, x).
        masks: a module for each learner, from maps of the trunk to masks (b, e, y, x).
        deep: G, from maps like those of S to features (b, f).
        head: W, from features to embeddings.
        architecture: what it is; its learners have as many widths as there are masks.

    Raises:
        InputError: another number of masks than of learners, or learners of different widths;
            when called: a mask of another shape than the map, or another number of channels.
    """

    def __init__(
        self,
        spatial: nn.Module,
        trunk: nn.Module,
        masks: list[nn.Module],
        deep: nn.Module,
        head: nn.Module,
        architecture: Architecture,
    ):
        super().__init__()
        self.architecture = architecture
        widths = self.learners.widths
        if len(masks) != len(widths) or len(set(widths)) != 1:
            raise InputError(
                "an attention-based ensemble has one mask a learner and learners of one width, "
                f"got {len(masks)} masks and widths {widths}"
            )
        self.spatial = spatial
        self.trunk = trunk
        self.masks = nn.ModuleList(masks)
        self.deep = deep
        self.head = head

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, ...]:
        """Embed pictures with values in [0, 1], once for each learner.

        Raises:
            InputError: the number of channels is another than the model's.
        """
        shared = self.spatial(images)
        attended = self.trunk(shared)
        masked = []
        for mask in self.masks:
            weights = mask(attended)
            if weights.shape != shared.shape:
                raise InputError(
                    "a mask must have the shape of the map it multiplies, "
                    f"{tuple(shared.shape)}, got {tuple(weights.shape)}; give a trunk that keeps "
                    "the size and convolutions to as many channels"
                )
            masked.append(shared * weights)
        if mixes_rows(self.deep, self.head):
            return tuple(self.embed(self.deep(maps)) for maps in masked)
        m = len(masked)
        together = self.embed(self.deep(torch.cat(masked)))
        parts = (part.unflatten(0, (m, -1)).unbind() for part in together)
        return tuple(Embedded(*learner) for learner in zip(*parts, strict=True))

    def embed(self, features: Float[Tensor, "b f"]) -> Embedded:
        """The head alone, which all learners share: features (b, f) to embeddings of one."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(next(self.head.parameters()).dtype)
            return Embedded.of(self.head(features), features)

    def train(self, mode: bool = True) -> "Attentive":
        """Switch to training; frozen batch normalisation stays as it is in evaluation."""
        super().train(mode)
        if mode and self.architecture.freeze_batchnorm:
            freeze(self.spatial, self.trunk, self.deep)
        return self

    def masks_of(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m b e y x"]:
        """The mask of every learner for every picture."""
        attended = self.trunk(self.spatial(images))
        return torch.stack([mask(attended) for mask in self.masks])

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """Where each learner looks, drawn over pictures, for the report."""
        chosen = _spread(len(shown.images), SHOWN)
        images = shown.images[chosen]
        heat = self.masks_of(images).float().mean(2).cpu()  # (m, b, y, x)
        pictures = images.float().cpu()
        rows, captions, heads = [], [], []
        for number, picture in enumerate(pictures):
            each = heat[:, number]
            rows.append([picture, *(_over(picture, one) for one in each)])
            ranges = [
                f"{i}: {100 * float(one.min()):.0f}-{100 * float(one.max()):.0f} %"
                for i, one in enumerate(each, 1)
            ]
            captions.append(["", *ranges])
            label = shown.labels[chosen[number]]
            heads.append(str(shown.class_names[int(label)]) if label.ndim == 0 else "")
        text = (
            f"All {len(self.masks)} learners see the same map of a picture, each through a mask of "
            "its own, with which every channel at every place is multiplied. Here the mean of the "
            "mask over channels lies over the picture, for each learner from blue at its lowest "
            "to red at its highest place; beneath, the learner's number and these two values. "
            "Learners that attend to different places or channels make different errors; columns "
            "that look alike, with values alike, are learners that the divergence did not "
            "separate, or that differ only in channels."
        )
        return [Section("Attention masks", text, [Pictures.of(rows, captions, heads)])]


def attentive(
    embedder: Embedder,
    learners: int = 8,
    *,
    cut: str | None = None,
    activation: str = "sigmoid",
) -> Attentive:
    """Make an embedder an attention-based ensemble whose learners share its dimensions.

    Its backbone, with whatever weights it has, is cut in two and becomes part of the new model;
    the attention trunk starts as a copy of what follows the cut. Convolutions of masks and the
    head are new, Glorot-uniform.

    Args:
        embedder: around a convolutional network; `dim` is divided among the learners.
        learners: m >= 1.
        cut: see `tupelo.models.cutting.cut`; default the published one.
        activation: of the masks: "sigmoid"; "relu" behind batch normalisation; or "range", each
            channel of each picture from 0 at its lowest to 1 at its highest place.

    Raises:
        InputError: `learners` < 1 or no divisor of `dim`, another activation, or a backbone or cut
            that `tupelo.models.cutting.cut` or `attention_trunk` refuses.

    >>> from tupelo.models import embedder
    >>> model = attentive(embedder("convnet", dim=32, channels=1), learners=4)
    >>> [tuple(one.z.shape) for one in model(torch.rand(2, 1, 28, 28))]
    [(2, 8), (2, 8), (2, 8), (2, 8)]
    """
    widths = equal_widths(embedder.dim, learners)
    if activation not in ACTIVATIONS:
        raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    wanted = Learners("attention", widths, (1.0,) * learners, cut or "", activation)
    return _attentive(embedder, wanted)


def equal_widths(dim: int, learners: int) -> tuple[int, ...]:
    """Widths of m learners that share `dim` dimensions evenly.

    Raises:
        InputError: `learners` < 1 or no divisor of `dim`.

    >>> equal_widths(512, 8)
    (64, 64, 64, 64, 64, 64, 64, 64)
    """
    if learners < 1:
        raise InputError(f"learners must be >= 1, got {learners}")
    if dim % learners:
        raise InputError(
            f"dim must be a multiple of the number of learners, got dim={dim} for {learners} "
            f"learners; take dim={-(-dim // learners) * learners}"
        )
    return (dim // learners,) * learners


def glorot_head(embedder: Embedder, width: int) -> nn.Sequential:
    """A new head like that of an embedder, but of this width and Glorot-uniform."""
    narrow = replace(embedder.architecture, dim=width)
    head = Embedder(nn.Identity(), narrow).head
    (linear,) = (layer for layer in head if isinstance(layer, nn.Linear))
    nn.init.xavier_uniform_(linear.weight)
    return head


def _attentive(embedder: Embedder, learners: Learners) -> Attentive:
    parts = cut(embedder.backbone, embedder.architecture, learners.cut or None)
    trunk, attended = attention_trunk(parts)
    channels = parts.shapes[0][1]
    model = Attentive(
        parts.spatial,
        trunk.to(memory_format=torch.channels_last),
        [_mask(attended, channels, learners.activation) for _ in learners.widths],
        parts.deep,
        glorot_head(embedder, learners.widths[0]),
        replace(embedder.architecture, learners=replace(learners, cut=parts.name)),
    )
    return model.to(next(embedder.parameters()).device)  # with what is new


def _mask(attended: int, channels: int, activation: str) -> nn.Sequential:
    convolution = nn.Conv2d(attended, channels, 1)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
    if activation == "relu":
        return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())
    return nn.Sequential(convolution, nn.Sigmoid() if activation == "sigmoid" else Range())


def _rebuilt(architecture: Architecture, backbone: nn.Module | None) -> Attentive:
    learners = architecture.learners
    assert learners is not None  # noqa: S101  (or another model would be rebuilt)
    return _attentive(rebuilt_embedder(architecture, backbone), learners)


def _spread(n: int, most: int) -> list[int]:
    """Up to so many places of n, evenly apart: pictures come class by class."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def _over(picture: Float[Tensor, "c h w"], heat: Float[Tensor, "y x"]) -> Float[Tensor, "3 h w"]:
    """Heat over a grey picture, from blue at its lowest to red at its highest place."""
    low, high = heat.min(), heat.max()
    scaled = (heat - low) / (high - low).clamp(min=SMALLEST_RANGE)
    scaled = F.interpolate(scaled[None, None], picture.shape[1:], mode="bilinear")[0, 0]
    # blue, green, red in turn, each strongest at its own level
    levels = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1)
    colours = (1 - (scaled - levels).abs() * torch.tensor([1.0, 2.0, 1.0]).view(3, 1, 1)).clamp(0)
    return 0.5 * picture.mean(0) + 0.5 * colours


ENSEMBLES["attention"] = _rebuilt
