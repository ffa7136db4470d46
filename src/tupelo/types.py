"""Records and contracts that the parts of Tupelo share.

Shape letters, the same everywhere: `b` anchors, `c` candidates, `d` embedding width, `f` feature
width, `t` tuples, `k` negatives per tuple, `m` learners, `q` queries, `n` items or rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Embedded(NamedTuple):
    """What an embedder returns for b items.

    Attributes:
        raw: output of the head, (b, d).
        z: its unit rows in float32 (or float64), (b, d).
        features: what the backbone gave the head, (b, f).
    """

    raw: Tensor
    z: Tensor
    features: Tensor

    @classmethod
    def of(cls, raw: Tensor, features: Tensor | None = None) -> "Embedded":
        """Build the record from the output of a head; unit rows are computed in float32.

        >>> Embedded.of(torch.tensor([[3.0, 4.0]])).z
        tensor([[0.6000, 0.8000]])
        """
        wide = raw if raw.dtype == torch.float64 else raw.float()
        return cls(raw, F.normalize(wide, dim=1), raw if features is None else features)


class Tuples(NamedTuple):
    """Indices of t tuples: rows of the anchors and rows of the candidates; never with gradient.

    Attributes:
        anchor: rows of `Comparison.anchors`, int64 (t,).
        positive: rows of `Comparison.candidates`, int64 (t,).
        negative: rows of `Comparison.candidates`, int64 (t, k).
    """

    anchor: Int[Tensor, " t"]
    positive: Int[Tensor, " t"]
    negative: Int[Tensor, "t k"]


class LossValue(NamedTuple):
    """What an objective returns.

    Attributes:
        total: the scalar to differentiate.
        parts: named scalars that add up to `total`; a NaN is reported by these names.
        statistics: detached numbers worth logging, such as how many tuples are active.
    """

    total: Tensor
    parts: dict[str, Tensor]
    statistics: dict[str, float] = {}  # noqa: RUF012  (a default of a NamedTuple, never written to)


class Terms(NamedTuple):
    """What a class loss returns that has several parts.

    Attributes:
        terms: of b items; their mean is the loss.
        parts: named terms (b,) that add up to `terms`.
        statistics: as of a `LossValue`.
    """

    terms: Float[Tensor, " b"]
    parts: dict[str, Tensor]
    statistics: dict[str, float]


class PairLoss(nn.Module, ABC):
    """A loss on all pairs of a comparison.

    Called with a `Comparison` of b anchors it returns terms (b,) whose **mean is the loss**, so
    that weights per anchor are one multiplication. Losses that average over something else than
    the anchors (active pairs, positive pairs) scale their terms accordingly.
    """

    @abstractmethod
    def forward(self, comparison) -> Float[Tensor, " b"]: ...


class TupleLoss(nn.Module, ABC):
    """A loss on gathered rows of tuples; the mean of its terms (t,) is the loss.

    It sees rows and not indices, so synthetic rows look like real ones. `labels` are the class
    indices of the anchors, used by losses that learn something per class.
    """

    @abstractmethod
    def forward(
        self,
        anchor: Float[Tensor, "t d"],
        positive: Float[Tensor, "t d"],
        negative: Float[Tensor, "t k d"],
        labels: Tensor | None = None,
    ) -> Float[Tensor, " t"]: ...


class ClassLoss(nn.Module, ABC):
    """A loss between items and a learned row per class; the mean of its terms (b,) is the loss."""

    @abstractmethod
    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"] | Terms: ...

    def end_epoch(self) -> None:
        """Called after each epoch."""


Relation = Callable[[object, object], Bool[Tensor, "b c"] | tuple]
"""`(labels of anchors, labels of candidates)` -> who is positive, or `(positive, negative)`."""


class Objective(nn.Module, ABC):
    """All that the training loop knows of a method: outputs and labels in, a `LossValue` out.

    Whatever an objective learns or remembers lives in its parameters and buffers, so saving its
    `state_dict` is enough to resume. Randomness comes from the generator of the call.
    """

    @abstractmethod
    def forward(
        self,
        output,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """Compute the loss of one batch.

        Args:
            output: what the model returned for b items: `Embedded`, or one per learner.
            labels: class indices (b,), tags as a boolean matrix (b, tags), or whatever the
                objective's relation understands.
            items: identities (b,); the same item is never its own positive.
            generator: source of all randomness in selection.
        """

    def parameter_groups(self) -> list[dict]:
        """Optimiser groups of what the objective itself learns.

        A module may state its own rate in an attribute `learning_rate`; without one the group
        carries no "lr" and takes the optimiser's. Weight decay is off for all of them.
        """
        groups = []
        for module in self.modules():
            own = list(module.parameters(recurse=False))
            if own:
                rate = getattr(module, "learning_rate", None)
                groups.append(
                    {"params": own, "weight_decay": 0.0} | ({} if rate is None else {"lr": rate})
                )
        return groups

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Called before each epoch; `embed_train()` yields the embedded training set in batches."""

    def end_epoch(self) -> None:
        """Called after each epoch."""
