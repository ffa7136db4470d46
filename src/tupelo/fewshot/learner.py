"""A few-shot learner: an encoder, and a head that answers queries from a support."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

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
    """

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
        encoder: from normalised pictures (b, c, h, w) to rows (b, d).
        head: compares rows.
        mean: of each channel, or one for all; pictures are given to the encoder as
        std: (picture - mean) / std. 1 and -1 turn black ink on white into ink = 1.

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
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.tensor(values).view(1, -1, 1, 1)
            self.register_buffer(name, tensor)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Embedded:
        """Embed pictures with values in [0, 1]."""
        return Embedded.of(self.encoder((images - self.mean) / self.std))
