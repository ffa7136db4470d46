"""A few-shot learner: an encoder, and a head that answers queries from a support."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.types import Embedded


class Answer(NamedTuple):
    """What a head makes of episodes.

    Attributes:
        logits: (e, q, ways); their softmax is the probability of each class.
        points: rows (r, d) that a margin between classes is asked of; see `EpisodeHead.answer`.
    """

    logits: Tensor
    points: Tensor


class EpisodeHead(nn.Module, ABC):
    """From embedded support and queries to logits, for any number of episodes at once.

    Heads compute in float32, or in float64 where they are given it, also under autocast.

    Attributes:
        moves_nodes: the points of an answer are nodes of graphs, not the embedded rows.
    """

    moves_nodes: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Float[Tensor, "e q ways"]:
        """Logits whose softmax over the last axis is the probability of each class.

        Args:
            support: embedded support items.
            labels: their slots, in 0..ways-1; any number of items a class, at least one. -1 is
                an unlabelled item, which only graph heads take.
            queries: embedded queries.
            ways: classes of the episodes, n.
        """

    @abstractmethod
    def options(self) -> dict:
        """The arguments that build this head again, as JSON values."""

    def answer(
        self,
        support: Float[Tensor, "e s d"],
        labels: Int64[Tensor, "e s"],
        queries: Float[Tensor, "e q d"],
        *,
        ways: int,
    ) -> Answer:
        """Logits, and the rows that `LargeMargin` compares.

        Here they are all embedded rows, episode after episode, support before queries, as the
        batch has them. A head that moves points of its own gives those instead.
        """
        logits = self(support, labels, queries, ways=ways)
        return Answer(logits, torch.cat([support, queries], 1).flatten(0, 1))


class FewShot(nn.Module):
    """An encoder of pictures and the head that compares what it gives.

    Called with pictures in [0, 1] it embeds them: `Embedded`, whose `raw` rows the head takes. The
    head belongs to the model, so that its weights are trained, saved and loaded with it.

    Args:
        encoder: from normalised pictures (b, c, h, w) to rows (b, d), or to `Embedded`.
        head: compares rows.
        mean: of each channel, or one for all; pictures are given to the encoder as
            (picture - mean) / std, and both are stored with the model.
        std: not 0. A mean of 1 and a std of -1 turn black ink on white into ink = 1.

    Raises:
        InputError: a `std` of 0, or as many means as there are stds is violated; when called:
            pictures of another number of channels than these.

    >>> from tupelo.fewshot import Prototypical, conv4
    >>> model = FewShot(conv4(), Prototypical(), mean=(1.0,), std=(-1.0,))
    >>> model(torch.rand(3, 1, 28, 28)).raw.shape
    torch.Size([3, 64])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        head: EpisodeHead,
        *,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ):
        super().__init__()
        # strides only: convolutions then run channels-last whatever the layout of their input
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.head = head
        if len(mean) != len(std) or len(mean) == 0 or 0 in std:
            raise InputError(
                f"mean and std must have one value a channel, or one for all, and std none of 0, "
                f"got {mean} and {std}"
            )
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Embedded:
        """Embed pictures with values in [0, 1]."""
        if self.mean.shape[1] not in (1, images.shape[1]):
            raise InputError(
                f"this model takes pictures of {self.mean.shape[1]} channels, got a batch "
                f"{tuple(images.shape)}; read the data set with channels={self.mean.shape[1]}"
            )
        rows = self.encoder((images - self.mean) / self.std)
        return rows if isinstance(rows, Embedded) else Embedded.of(rows)

    def save(self, folder: str | Path, *, about: dict[str, Any] | None = None) -> Path:
        """Write the model into a folder; see `tupelo.fewshot.save`."""
        from tupelo.fewshot import saving

        return saving.save(self, folder, about=about)


def device_of(module: nn.Module) -> torch.device:
    """Where a module is; the CPU if it holds nothing."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def wide(rows: Tensor) -> Tensor:
    """Rows in float32, or in float64 where they are."""
    return rows if rows.dtype == torch.float64 else rows.float()


def unit_rows(rows: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Rows of length 1; a row of zeros stays one.

    Raises:
        InputError: all rows are zero.
    """
    if not bool(rows.any()):
        raise InputError(
            "embeddings must not all be zero where they are normalised; the network is dead: "
            "lower lr, or look at its input"
        )
    return F.normalize(rows, dim=-1)


def check_slots(labels: Int64[Tensor, "e s"], ways: int) -> Int64[Tensor, "e n"]:
    """Support items of each class, for heads that need all of them labelled.

    Raises:
        InputError: labels outside 0..ways-1, or a class without support.
    """
    if bool(((labels < 0) | (labels >= ways)).any()):
        raise InputError(
            f"labels must be slots in 0..{ways - 1}, got {int(labels.min())}..{int(labels.max())}; "
            "-1 is unlabelled support, which only graph heads take"
        )
    counts = F.one_hot(labels, ways).sum(1)
    if bool((counts == 0).any()):
        missing = (counts == 0).any(0).nonzero().flatten().tolist()
        raise InputError(
            f"every class of an episode needs a support item, got none of slots {missing[:10]} of "
            f"{ways} ways; give one, or lower ways"
        )
    return counts
