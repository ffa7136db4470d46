"""Ensembles: models that return one embedding for each of their learners."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from tupelo.models.architecture import Architecture, Learners
from tupelo.types import Embedded


class Ensemble(nn.Module, ABC):
    """A model whose m learners embed the same pictures; objectives get one output for each.

    Where one row is wanted (retrieval, an index, a file of weights for another runtime), the unit
    rows of the learners are scaled by `scales`, joined, and brought to unit length, so that the
    cosine of two rows is the mean of the learners' cosines weighted by the squared scales.

    Attributes:
        architecture: what it is; `architecture.learners` is never None.
    """

    architecture: Architecture

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, ...]:
        """Embed pictures with values in [0, 1], once for each learner."""

    @property
    def learners(self) -> Learners:
        """How the embedding is divided."""
        learners = self.architecture.learners
        assert learners is not None  # noqa: S101  (what makes an ensemble)
        return learners

    @property
    def dim(self) -> int:
        """Width of the joined embedding."""
        return self.architecture.dim

    @property
    def scales(self) -> tuple[float, ...]:
        """Of the learners' unit rows in the joined row."""
        return self.learners.scales
