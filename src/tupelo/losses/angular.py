"""Angular-discriminative softmax for faces: a class loss with a constraint on cosines.

Wu, Wu, Zhang, "Scalable Angular Discriminative Deep Metric Learning for Face Recognition",
arXiv 1804.10899, 2018. Only its abstract could be read: every equation here is reconstructed from
its sentences, see docs/angular-faces.md for what is read and what is ours.
"""

import logging
import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.losses.adaptive import AdaptiveMargin, Mining
from tupelo.losses.class_products import (
    SMALLEST_NORM,
    both_with,
    cosines_with,
    log_sums_of_others,
    products_with,
    softmax_terms,
)
from tupelo.losses.tuples import class_indices
from tupelo.types import ClassLoss, Embedded, Terms

log = logging.getLogger(__name__)
LARGEST_SHARPNESS = 20.0  # of exponentials that are not taken as logarithms


class Gaps(NamedTuple):
    """How b samples stand to a margin.

    Attributes:
        gaps: how far each falls short; negative where it does not.
        reached: what must be larger than the margin, which a self-adaptive one follows.
    """

    gaps: Float[Tensor, " b"]
    reached: Float[Tensor, " b"]


class Constraint(nn.Module, ABC):
    """What the cosine of a sample and its class must satisfy, beside the softmax.

    Attributes:
        margin: a number, or one that sets itself.
        mining: which violations count.
        highest: of an adaptive margin that does not say.
        needs_all: it compares with the cosines of all classes.
    """

    margin: float | AdaptiveMargin
    mining: Mining
    highest: float
    needs_all: ClassVar[bool]

    @abstractmethod
    def forward(
        self, own: Float[Tensor, " b"], cosines: Float[Tensor, "b c"] | None, labels: Tensor
    ) -> Gaps:
        """How samples stand.

        Args:
            own: cosine of each sample and its class.
            cosines: of samples and all classes, where `needs_all`.
            labels: indices of the classes of the samples, (b,).
        """


class CosineMargin(Constraint):
    """The cosine of a feature and the weights of its class is larger than a margin: m - c.

    Unlike CosFace and ArcFace the margin is a hinge on the cosine itself, beside the softmax and
    not within its logit. Its gradient only turns a feature, it never stretches it.

    Args:
        margin: m in [-1, 1); at -1 it asks for nothing. Or an `AdaptiveMargin`.
        mining: which violations count; default the hinge.

    Raises:
        InputError: margin out of range.

    >>> constraint = CosineMargin(0.9)
    >>> constraint(torch.tensor([1.0, 0.5]), None, torch.tensor([0, 1])).gaps
    tensor([-0.1000,  0.4000])
    """

    needs_all = False

    def __init__(self, margin: float | AdaptiveMargin = 0.9, *, mining: Mining | None = None):
        super().__init__()
        self.highest = 0.98
        for value in _stated(margin, self.highest):
            if not -1 <= value < 1:
                raise InputError(f"margin must be in [-1, 1), a cosine, got {value}")
        self.margin = margin
        self.mining = Mining() if mining is None else mining

    def forward(
        self, own: Float[Tensor, " b"], cosines: Float[Tensor, "b c"] | None, labels: Tensor
    ) -> Gaps:
        """Margin less cosine."""
        return Gaps(present(self.margin) - own, own)


class ExponentialMean(Constraint):
    """In exponential space the own cosine exceeds the mean of the other classes by a margin.

    With e = exp(sharpness c) of the own class and r the mean of that of the C - 1 others:

    | form | gap |
    |---|---|
    | outside | r + m - e |
    | inside | r - exp(sharpness (c - m)) |
    | log | log r + m - sharpness c ; for a sharpness above 20 |

    The basic constraint can be met by moving all features and weights towards one direction; the
    mean over other classes forbids that, and weighs the most similar wrong class most.

    Args:
        margin: m_e, below exp(sharpness) - exp(-sharpness) outside, below 2 inside and below 2
            sharpness in log; far below 0 it asks for nothing. Or an `AdaptiveMargin`.
        sharpness: kappa, > 0; at most 20 but for log.
        form: of the table.
        mining: which violations count; default the hinge.

    Raises:
        InputError: margin not feasible, sharpness out of range, an unknown form; when called:
            fewer than 2 classes.

    >>> own, cosines = torch.tensor([1.0]), torch.tensor([[1.0, 0.0]])
    >>> ExponentialMean(1.2)(own, cosines, torch.tensor([0])).reached
    tensor([1.7183])
    """

    needs_all = True

    def __init__(
        self,
        margin: float | AdaptiveMargin = 1.2,
        *,
        sharpness: float = 1.0,
        form: str = "outside",
        mining: Mining | None = None,
    ):
        super().__init__()
        if form not in ("outside", "inside", "log"):
            raise InputError(f"form must be 'outside', 'inside' or 'log', got {form!r}")
        if not 0 < sharpness < math.inf:
            raise InputError(f"sharpness must be a finite number > 0, got {sharpness}")
        if form != "log" and sharpness > LARGEST_SHARPNESS:
            raise InputError(
                f"sharpness must be at most {LARGEST_SHARPNESS:g} with form {form!r}, whose "
                f"exponentials grow too large, got {sharpness}; take form='log'"
            )
        # the most that is possible, and 0.95 of what orthogonal classes give
        if form == "outside":
            bound = math.exp(sharpness) - math.exp(-sharpness)
            self.highest = 0.95 * math.expm1(sharpness)
        else:
            unit = 1.0 if form == "inside" else sharpness
            bound, self.highest = 2 * unit, 0.95 * unit
        for value in _stated(margin, self.highest):
            if not value < bound:
                raise InputError(
                    f"margin must be below {bound:.4g}, the most that sharpness {sharpness:g} "
                    f"allows with form {form!r}, got {value}"
                )
        self.margin = margin
        self.sharpness, self.form = sharpness, form
        self.mining = Mining() if mining is None else mining

    def forward(
        self, own: Float[Tensor, " b"], cosines: Float[Tensor, "b c"] | None, labels: Tensor
    ) -> Gaps:
        """Margin less the lead over the mean of the others, in the form's units."""
        if cosines is None or cosines.shape[1] < 2:
            raise InputError(
                "an exponential constraint compares with the mean of the other classes, so it "
                f"needs at least 2 classes, got {0 if cosines is None else cosines.shape[1]}"
            )
        others = log_sums_of_others(cosines, labels, self.sharpness)
        log_mean = others - math.log(cosines.shape[1] - 1)
        here, margin = self.sharpness * own, present(self.margin)
        if self.form == "outside":
            lead = here.exp() - log_mean.exp()
            return Gaps(margin - lead, lead)
        lead = here - log_mean
        if self.form == "log":
            return Gaps(margin - lead, lead)
        gaps = log_mean.exp() - (here - self.sharpness * margin).exp()
        return Gaps(gaps, lead / self.sharpness)


def _stated(margin: float | AdaptiveMargin, highest: float) -> list[float]:
    """The numbers that a margin is or can become.

    Raises:
        InputError: it starts above its ceiling.
    """
    if not isinstance(margin, AdaptiveMargin):
        return [margin]
    start, ceiling = float(margin.margin), highest if margin.highest is None else margin.highest
    if start > ceiling:
        raise InputError(
            f"start must be at most {ceiling:.4g}, beyond which this margin does not rise, got "
            f"{start:.4g}; give highest too"
        )
    return [start, ceiling]


def present(margin: float | AdaptiveMargin) -> float | Tensor:
    """The margin as it stands."""
    return margin.margin.clone() if isinstance(margin, AdaptiveMargin) else margin


def usual_scale(n_classes: int, probability: float = 0.9) -> float:
    """The smallest scale at which a normalised softmax can give its own class that probability.

    ln((C - 1) P / (1 - P)): with all other cosines 0 and the own one 1.

    >>> round(usual_scale(10_000), 1)
    11.4
    """
    if n_classes < 2 or not 0 < probability < 1:
        raise InputError(
            f"need n_classes >= 2 and probability in (0, 1), got {n_classes} and {probability}"
        )
    return math.log((n_classes - 1) * probability / (1 - probability))


class AngularSoftmax(ClassLoss):
    """Softmax over classes, and a constraint on the cosines of features and the same weights.

    L = cross-entropy + weight x mean(mining(gaps)). Without a constraint it is the plain softmax,
    or, with a scale, the normalised one (NormFace). Features are the raw output of the head: the
    plain softmax sees their length, the constraint never does.

    | variant of the paper | here |
    |---|---|
    | basic | `constraint=CosineMargin(0.9)` |
    | hard sample mining | `CosineMargin(0.9, mining=Mining("violators"))`, or `Mining("topk")` |
    | self-adaptive margin | `CosineMargin(AdaptiveMargin())` |
    | normalised | `scale=30.0` with any of them |
    | exponential mean | `constraint=ExponentialMean(1.2)`, plain or normalised |

    Args:
        n_classes: C, number of training classes, >= 2.
        dim: embedding width.
        constraint: None for the softmax alone.
        weight: lambda, >= 0; 0 is the softmax bit for bit.
        scale: None: plain softmax with a bias; else s > 0 of normalised features and weights: 30
            for some 10,000 classes, 16 for some 100, see `usual_scale`.
        learn_scale: s is learned, through a softplus, from `scale`.
        detach_weight: the constraint turns features only, not class weights.
        start_step: training steps of softmax alone before the constraint takes part; cosines start
            near 0, where a large margin would drown the softmax.
        learning_rate: of the class weights; None for that of the network.

    Attributes:
        weights: class weights (C, d).

    Raises:
        InputError: a number out of its range; when called: features that are zero or not finite,
            zero class weights, labels out of range, another width.
    """

    bias: nn.Parameter | None
    steps: Tensor
    active_least: Tensor
    active_most: Tensor

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        constraint: Constraint | None = None,
        weight: float = 1.0,
        scale: float | None = None,
        learn_scale: bool = False,
        detach_weight: bool = False,
        start_step: int = 0,
        learning_rate: float | None = None,
    ):
        super().__init__()
        if n_classes < 2 or dim < 1:
            raise InputError(f"need n_classes >= 2 and dim >= 1, got {n_classes} and {dim}")
        if not 0 <= weight < math.inf:
            raise InputError(f"weight must be a finite number >= 0, got {weight}")
        if scale is not None and not 0 < scale < math.inf:
            raise InputError(f"scale must be a finite number > 0, or None, got {scale}")
        if learn_scale and scale is None:
            raise InputError("learn_scale needs the scale to start from, got scale=None")
        if start_step < 0:
            raise InputError(f"start_step must be >= 0 training steps, got {start_step}")
        self.learning_rate = learning_rate
        self.constraint, self.weight, self.detach_weight = constraint, weight, detach_weight
        self.start_step = start_step
        made = nn.Linear(dim, n_classes, bias=scale is None)
        self.weights, self.bias = made.weight, made.bias
        self.scale = scale
        self.raw_scale = None
        if learn_scale and scale is not None:
            # softplus of it is the scale
            self.raw_scale = nn.Parameter(torch.tensor(scale + math.log(-math.expm1(-scale))))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("active_least", torch.ones(()))
        self.register_buffer("active_most", torch.zeros(()))

    def forward(self, embedded: Embedded, labels: Tensor) -> Terms:
        """Terms of b items, their parts `softmax` and `penalty`, and what is worth logging."""
        raw = embedded.raw
        if raw.shape[1] != self.weights.shape[1]:
            raise InputError(
                f"dim must equal the embedding width, got dim={self.weights.shape[1]} for "
                f"embeddings of width {raw.shape[1]}"
            )
        rows = raw if raw.dtype == torch.float64 else raw.float()
        labels = class_indices(labels, len(rows), len(self.weights), "AngularSoftmax")
        with torch.autocast(rows.device.type, enabled=False):
            return self._terms(rows, self.weights.to(rows.dtype), labels)

    def _terms(self, rows: Tensor, weights: Tensor, labels: Tensor) -> Terms:
        with torch.no_grad():
            lengths, of_classes = rows.norm(dim=1), weights.norm(dim=1)
            _check_lengths(lengths, of_classes)
        cosines = None
        if self.scale is None:
            if self._compares_with_all and not self.detach_weight:
                products, cosines = both_with(rows, weights)
                own = cosines.gather(1, labels[:, None])[:, 0]
            else:
                products, own = products_with(rows, weights, labels)
            logits = products if self.bias is None else products + self.bias.to(rows.dtype)
            softmax = F.cross_entropy(logits, labels, reduction="none")
        else:
            cosines, own = cosines_with(rows, weights, labels)
            softmax = self._normalised(cosines, labels, own, self.scale)
        statistics = _statistics(own, rows, weights, lengths, of_classes)
        before = int(self.steps)
        if self.training:
            self.steps += 1
        constraint = self.constraint
        if constraint is None or self.weight == 0 or before < self.start_step:
            return Terms(softmax, {"softmax": softmax}, statistics)
        if self.detach_weight and constraint.needs_all:
            cosines, own = cosines_with(rows, weights.detach(), labels)
        elif self.detach_weight:
            still = weights.detach()[labels] / of_classes[labels][:, None]
            own = (rows * still).sum(1) / rows.norm(dim=1)
        found = constraint(own, cosines, labels)
        statistics |= self._watch(constraint, found)
        penalty = self.weight * constraint.mining(found.gaps)
        return Terms(softmax + penalty, {"softmax": softmax, "penalty": penalty}, statistics)

    @property
    def _compares_with_all(self) -> bool:
        return self.constraint is not None and self.constraint.needs_all and self.weight > 0

    def _normalised(self, cosines: Tensor, labels: Tensor, own: Tensor, scale: float) -> Tensor:
        if self.raw_scale is None:
            return softmax_terms(cosines, labels, own, scale)
        learned = F.softplus(self.raw_scale)
        return softmax_terms(cosines * learned, labels, own * learned, 1.0)

    @torch.no_grad()
    def _watch(self, constraint: Constraint, found: Gaps) -> dict[str, float]:
        """Share of active samples and the margin they met; then an adaptive margin moves on."""
        active = (found.gaps > 0).float().mean()
        told = {"active": float(active), "margin": float(present(constraint.margin))}
        if self.training:
            self.active_least.copy_(torch.minimum(self.active_least, active))
            self.active_most.copy_(torch.maximum(self.active_most, active))
            if isinstance(constraint.margin, AdaptiveMargin):
                constraint.margin.update(found.reached, constraint.highest)
        return told

    def end_epoch(self) -> None:
        """Move a margin that follows epochs; warn of one that none or all of it reached."""
        least, most = float(self.active_least), float(self.active_most)
        if self.constraint is None or (least, most) == (1.0, 0.0):  # no batch met the constraint
            return
        margin = self.constraint.margin
        told = float(present(margin))
        if isinstance(margin, AdaptiveMargin):
            margin.end_epoch(self.constraint.highest)
        if least == 1.0:
            log.warning("no sample reached the margin %.3g in this epoch; lower it", told)
        elif most == 0.0:
            log.warning("every sample kept the margin %.3g in this epoch; it does nothing", told)
        self.active_least.fill_(1.0)
        self.active_most.fill_(0.0)


def _check_lengths(lengths: Tensor, of_classes: Tensor) -> None:
    mends = {
        "feature": (lengths, "do not end the network in a ReLU"),
        "class weight row": (of_classes, "start class weights from random numbers"),
    }
    for what, (values, mend) in mends.items():
        if not torch.isfinite(values).all():
            raise InputError(
                f"{what}s must be finite, and their length too, got NaN or infinite ones; lower "
                "the learning rate or the weight of the constraint, clip gradients, or give a scale"
            )
        if len(values) and not float(values.min()) > SMALLEST_NORM:
            raise InputError(
                f"a cosine needs a length above {SMALLEST_NORM:g}, got a {what} of length "
                f"{float(values.min()):.3g} at row {int(values.argmin())}; {mend}"
            )


@torch.no_grad()
def _statistics(
    own: Tensor, rows: Tensor, weights: Tensor, lengths: Tensor, of_classes: Tensor
) -> dict[str, float]:
    """Mean cosine with the own class and with others; the sum over classes needs no matrix."""
    together = of_classes.reciprocal() @ weights
    to_all = rows @ together / lengths
    others = (to_all - own) / (len(weights) - 1)
    return {
        "intra cosine": float(own.mean().clamp(-1, 1)),
        "inter cosine": float(others.mean().clamp(-1, 1)),
    }
