"""Margins that set themselves, and which violations of a margin count."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.errors import CheckpointError, InputError


@dataclass(frozen=True)
class Mining:
    """From how far each sample falls short of a margin to the terms whose mean is the penalty.

    | mode | terms of gaps g |
    |---|---|
    | hinge | [g]_+ : violators only, the batch divides |
    | none | g : every sample pulls, satisfied ones too; the control |
    | violators | [g]_+ over the number of violators: the pull does not fade as they get fewer |
    | topk | the mean of the ceil(share b) largest [g]_+ ; equal ones by their order |

    Source: Wu, Wu, Zhang, "Scalable Angular Discriminative Deep Metric Learning for Face
    Recognition", 2018; reconstructed from its abstract ("a hard sample mining strategy").

    Args:
        mode: of the table.
        share: of the batch, for topk, in (0, 1].
        power: 1, or 2 for half the square of each gap; not with mode none.

    Raises:
        InputError: an unknown mode, a share or a power out of range.

    >>> Mining("violators")(torch.tensor([0.5, -1.0, 0.25])).mean()
    tensor(0.3750)
    """

    mode: str = "hinge"
    share: float = 0.25
    power: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("hinge", "none", "violators", "topk"):
            raise InputError(
                f"mode must be 'hinge', 'none', 'violators' or 'topk', got {self.mode!r}"
            )
        if not 0 < self.share <= 1:
            raise InputError(f"share must be in (0, 1] of the batch, got {self.share}")
        if self.power not in (1, 2) or (self.power == 2 and self.mode == "none"):
            raise InputError(
                f"power must be 1, or 2 with another mode than 'none', got {self.power} with "
                f"{self.mode!r}"
            )

    def __call__(self, gaps: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Terms of b samples."""
        if self.mode == "none":
            return gaps
        short = gaps.clamp(min=0)
        terms = short if self.power == 1 else short.square() / 2
        b = len(gaps)
        if self.mode == "violators":
            return terms * (b / (short.detach() > 0).to(short.dtype).sum().clamp(min=1))
        if self.mode == "topk":
            # of the decimal number: in binary 0.07 of 100 would be 8
            count = math.ceil(Fraction(repr(float(self.share))) * b)
            order = short.detach().argsort(descending=True, stable=True)
            hardest = torch.zeros_like(terms).index_fill(0, order[:count], b / count)
            return terms * hardest
        return terms


class AdaptiveMargin(nn.Module):
    """A margin that follows what the samples reach, from below.

    m <- max(m, min(highest, (1 - rate) m + rate (mean reached + delta))), after every training
    step. Since the penalty raises what is reached, and that the margin, a long training ends at
    `highest`, which is therefore the number to choose. Source: as `Mining` ("a self-adaptive
    margin updating strategy"), reconstructed.

    Args:
        rate: rho, in (0, 1].
        delta: how far ahead of the mean the margin goes.
        highest: m_max; None for 0.98 of a cosine, or 0.95 of what an exponential constraint
            reaches with orthogonal classes.
        start: m_0.
        update: after every "step", or with the mean of the "epoch".
        monotone: the margin never falls.
        quantile: instead of all that, m is this quantile of the last batch: 0.5 makes half of the
            samples hard at all times. In (0, 1).

    Attributes:
        margin: the present one, saved with the objective.

    Raises:
        InputError: rate, quantile, start, delta or highest out of range; `quantile` by the epoch.
        CheckpointError: when loaded: the state has no margin.

    >>> margin = AdaptiveMargin()
    >>> margin.update(torch.tensor([0.4, 0.6]), highest=0.98)
    >>> margin.margin
    tensor(0.0600)
    """

    margin: Tensor
    reached: Tensor
    count: Tensor

    def __init__(
        self,
        *,
        rate: float = 0.1,
        delta: float = 0.1,
        highest: float | None = None,
        start: float = 0.0,
        update: str = "step",
        monotone: bool = True,
        quantile: float | None = None,
    ):
        super().__init__()
        if not 0 < rate <= 1:
            raise InputError(f"rate must be in (0, 1], got {rate}")
        if quantile is not None and not 0 < quantile < 1:
            raise InputError(f"quantile must be in (0, 1), got {quantile}")
        if update not in ("step", "epoch") or (update == "epoch" and quantile is not None):
            raise InputError(
                f"update must be 'step', or 'epoch' without quantile, got {update!r} with "
                f"quantile={quantile}"
            )
        if not all(math.isfinite(each) for each in (delta, start, highest or 0.0)):
            raise InputError(
                f"delta, start and highest must be finite, got {delta}, {start} and {highest}"
            )
        if highest is not None and highest < start:
            raise InputError(f"highest must be at least start {start}, got {highest}")
        self.rate, self.delta, self.highest = rate, delta, highest
        self.by_epoch, self.monotone, self.quantile = update == "epoch", monotone, quantile
        self.register_buffer("margin", torch.tensor(float(start)))
        self.register_buffer("reached", torch.zeros(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_has_margin)

    @torch.no_grad()
    def update(self, reached: Float[Tensor, " b"], highest: float) -> None:
        """Follow the batch; `highest` of the constraint counts where none was given."""
        reached = reached.detach()
        if self.quantile is not None:
            self.margin.copy_(reached.float().quantile(self.quantile))
            self.margin.clamp_(max=self._ceiling(highest))
        elif self.by_epoch:
            self.reached += reached.sum()
            self.count += len(reached)
        else:
            self._follow(reached.mean(), highest)

    @torch.no_grad()
    def end_epoch(self, highest: float) -> None:
        """Follow the mean of the epoch, where that is how it is updated."""
        if self.by_epoch and int(self.count):
            self._follow(self.reached / self.count, highest)
            self.reached.zero_()
            self.count.zero_()

    def _follow(self, mean: Tensor, highest: float) -> None:
        new = (1 - self.rate) * self.margin + self.rate * (mean + self.delta)
        new = new.clamp(max=self._ceiling(highest))
        self.margin.copy_(torch.maximum(self.margin, new) if self.monotone else new)

    def _ceiling(self, highest: float) -> float:
        return highest if self.highest is None else self.highest


def _has_margin(module: nn.Module, state: dict, prefix: str, *_: object) -> None:
    """Hook of `load_state_dict`: without its margin a resumed run would be another one."""
    if f"{prefix}margin" not in state:
        raise CheckpointError(
            f"the state has no {prefix}margin, which a self-adaptive margin resumes from; it was "
            "saved by an objective with a fixed margin: build that one, or start a new run"
        )
