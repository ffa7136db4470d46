"""An ensemble of whole networks that share nothing (DREML)."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.models.architecture import Architecture, Learners
from tupelo.models.embedder import Embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.rebuilding import ENSEMBLES, rebuilt_embedder
from tupelo.types import Embedded


class Members(Ensemble):
    """Embedders side by side, each a learner; usually built by `members`.

    Args:
        embedders: the members, in order.
        architecture: of the whole; `learners.widths` are theirs.
    """

    def __init__(self, embedders: Sequence[Embedder], architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.members = nn.ModuleList(embedders)

    @property
    def heads(self) -> nn.ModuleList:
        """The head of each member."""
        return nn.ModuleList([member.get_submodule("head") for member in self.members])

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, ...]:
        """Embed pictures with values in [0, 1], once with each member.

        Raises:
            InputError: the number of channels is another than the model's; in evaluation, a
                member's output is zero for some picture, so that it has no direction.
        """
        output = tuple(member(images) for member in self.members)
        if not self.training and not torch.compiler.is_compiling():
            for number, one in enumerate(output):
                _check_direction(one.raw, number)
        return output


def members(embedders: Sequence[Embedder]) -> Members:
    """One model of several embedders, which count alike.

    The joined row of a picture is that of all members' unit rows, so the cosine of two pictures is
    the mean of the members' cosines.

    Args:
        embedders: one or more, alike but for their weights and the widths of their embeddings;
            they become parts of the model, not copies.

    Raises:
        InputError: there is none, one is given twice, or they differ in something else.

    >>> from tupelo.models import embedder
    >>> model = members([embedder("convnet", dim=4, channels=1) for _ in range(3)])
    >>> model.dim, len(model(torch.rand(2, 1, 28, 28)))
    (12, 3)
    """
    embedders = list(embedders)
    if not embedders:
        raise InputError("members needs one or more embedders, got none")
    if len({id(one) for one in embedders}) < len(embedders):
        raise InputError("members must be different embedders, got one of them twice")
    shared = [replace(one.architecture, dim=1) for one in embedders]
    for number, one in enumerate(shared):
        differing = [
            f"{name} is {getattr(one, name)!r}, of member 0 {value!r}"
            for name, value in vars(shared[0]).items()
            if getattr(one, name) != value
        ]
        if differing:
            raise InputError(
                f"members must be alike but for dim; of member {number} {', '.join(differing)}"
            )
    widths = tuple(one.dim for one in embedders)
    learners = Learners("members", widths, (1.0,) * len(widths))
    return Members(embedders, replace(shared[0], dim=sum(widths), learners=learners))


def _rebuilt(architecture: Architecture, backbone: nn.Module | None) -> Members:
    # a module of the user is copied for each member
    learners = architecture.learners
    assert learners is not None  # noqa: S101  (what makes an ensemble)
    single = [replace(architecture, dim=width, learners=None) for width in learners.widths]
    built = [rebuilt_embedder(one, copy.deepcopy(backbone)) for one in single]
    return Members(built, architecture)


@torch.no_grad()
def _check_direction(raw: Tensor, number: int) -> None:
    lengths = torch.linalg.vector_norm(raw.float(), dim=1)
    if bool((lengths > 0).all()):
        return
    rows = torch.nonzero(~(lengths > 0)).flatten().tolist()
    raise InputError(
        f"member {number} gives rows without a direction (zero or NaN) for {len(rows)} of "
        f"{len(lengths)} pictures, in this batch {', '.join(map(str, rows[:5]))}; look at these "
        "pictures, or train that member again with a lower rate"
    )


ENSEMBLES["members"] = _rebuilt
