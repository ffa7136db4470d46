"""Losses between items and one learned row per class: `(Embedded, labels) -> terms (b,)`.

The mean of the terms is the loss. Class rows are parameters with their own learning rate.
Easy positive sampling does not apply here: there is no positive sample to choose.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.losses.class_products import cosines_with, log_sums_of_others, softmax_terms
from tupelo.losses.pairs import log_one_plus_sums
from tupelo.losses.tuples import class_indices
from tupelo.types import ClassLoss, Embedded


class _Proxies(ClassLoss):
    """Holds one row per class; what a final class adds is the comparison with them."""

    def __init__(self, n_classes: int, dim: int, learning_rate: float):
        super().__init__()
        if n_classes < 2 or dim < 1:
            raise InputError(
                f"need n_classes >= 2 and dim >= 1 for class rows, got {n_classes} and {dim}"
            )
        self.learning_rate = learning_rate
        self.proxies = nn.Parameter(torch.empty(n_classes, dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def cosines(
        self, embedded: Embedded, labels: Tensor
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, " b"], Int[Tensor, " b"]]:
        """Cosines of items and all class rows, of items and their own, and class indices."""
        if embedded.z.shape[1] != self.proxies.shape[1]:
            raise InputError(
                f"dim must equal the embedding width, got dim={self.proxies.shape[1]} for "
                f"embeddings of width {embedded.z.shape[1]}"
            )
        z = embedded.z
        labels = class_indices(labels, len(z), len(self.proxies), type(self).__name__)
        with torch.autocast(z.device.type, enabled=False):
            return *cosines_with(z, self.proxies.to(z.dtype), labels), labels


class ProxyNCA(_Proxies):
    """Own class row against all others, by squared distance of unit rows.

    -log( exp(-s |z - p_y|^2) / sum_{c != y} exp(-s |z - p_c|^2) ). Source: Movshovitz-Attias,
    Toshev, Leung, Ioffe, Singh, "No Fuss Distance Metric Learning using Proxies", ICCV 2017,
    eq. 4: the denominator leaves the own class out. `include_own=True` is the softmax over all
    classes that later code (ProxyNCA++ and libraries) uses.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        scale: s, > 0; 3 as in the authors' scaling of both unit rows (3 * z against 3 * p is 9).
        include_own: keep the own class in the denominator.
        learning_rate: rate of the class rows.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        scale: float = 9.0,
        include_own: bool = False,
        learning_rate: float = 0.01,
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(scale)
        self.scale = scale
        self.include_own = include_own

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items."""
        cosines, own, labels = self.cosines(embedded, labels)
        scale = 2 * self.scale  # the squared distance of unit rows is 2 - 2 cos
        if self.include_own:
            return softmax_terms(cosines, labels, own, scale)
        return log_sums_of_others(cosines, labels, scale) - own * scale


class ProxyAnchor(_Proxies):
    """Class rows as anchors: a soft hardest positive and a soft hardest negative for each.

    mean over classes in the batch of log(1 + sum_{x of c} exp(-alpha (s - margin))) plus mean
    over all classes of log(1 + sum_{x not of c} exp(alpha (s + margin))). Source: Kim, Kim, Cho,
    Kwak, "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, eq. 4. The loss couples the
    whole batch, so every term is the loss itself.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        margin: cosine units.
        alpha: sharpness, > 0.
        learning_rate: rate of the class rows.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        margin: float = 0.1,
        alpha: float = 32.0,
        learning_rate: float = 0.01,
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(alpha)
        self.margin = margin
        self.alpha = alpha

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items, all equal."""
        cosines, own, labels = self.cosines(embedded, labels)
        near = (self.margin - own) * self.alpha
        far = (cosines + self.margin) * self.alpha
        # finite instead of -inf, so that a class without others has gradient 0, not NaN
        far = far.scatter(1, labels[:, None], -1e30).logsumexp(0)
        near = log_one_plus_sums(near, labels, len(self.proxies))
        loss = near.sum() / len(labels.unique()) + F.softplus(far).mean()
        return loss.expand(len(cosines))


class NormalizedSoftmax(_Proxies):
    """Softmax over cosines divided by a temperature.

    Source: Zhai, Wu, "Classification is a Strong Baseline for Deep Metric Learning", BMVC 2019,
    eq. 3.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        temperature: > 0.
        learning_rate: rate of the class rows.
    """

    def __init__(
        self, n_classes: int, dim: int, *, temperature: float = 0.05, learning_rate: float = 0.01
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(temperature)
        self.temperature = temperature

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items."""
        cosines, own, labels = self.cosines(embedded, labels)
        return softmax_terms(cosines, labels, own, 1 / self.temperature)


class CosineSoftmax(_Proxies):
    """Softmax over cosines times a scale that is learned: logit = softplus(s) cos.

    Class rows are free; only their directions count. Source: Wojke, Bewley, "Deep Cosine Metric
    Learning for Person Re-identification", WACV 2018, eq. 4. Their code starts from s = 0, a scale
    of 0.69, and trains for 100,000 steps; here it starts higher, for shorter runs.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        scale: the start of softplus(s), > 0.
        learning_rate: rate of the class rows and of s.

    Raises:
        InputError: `scale` not > 0.
    """

    def __init__(
        self, n_classes: int, dim: int, *, scale: float = 10.0, learning_rate: float = 0.01
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(scale)
        self.s = nn.Parameter(torch.tensor(scale + math.log(-math.expm1(-scale))))

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items."""
        cosines, _, labels = self.cosines(embedded, labels)
        scale = F.softplus(self.s).to(cosines.dtype)
        return F.cross_entropy(cosines * scale, labels, reduction="none")


class CosFace(_Proxies):
    """Softmax over scaled cosines, the own one lowered by a margin.

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018,
    eq. 4.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        margin: cosine units, in [0, 2).
        scale: s, > 0.
        learning_rate: rate of the class rows.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        margin: float = 0.35,
        scale: float = 64.0,
        learning_rate: float = 0.01,
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(scale)
        if not 0 <= margin < 2:
            raise InputError(f"margin must be in [0, 2), cosine units, got {margin}")
        self.margin = margin
        self.scale = scale

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items."""
        cosines, own, labels = self.cosines(embedded, labels)
        return softmax_terms(cosines, labels, own - self.margin, self.scale)


class ArcFace(_Proxies):
    """Softmax over scaled cosines, the angle to the own class widened by a margin.

    cos(theta + margin) as long as theta + margin <= pi, beyond that the straight continuation
    cos(theta) - margin sin(margin), so that the target never rises again. Source: Deng, Guo, Xue,
    Zafeiriou, "ArcFace", CVPR 2019, eq. 3, with the guard of the authors' code. cos(theta +
    margin) is expanded, so no arccosine with its infinite slope at +-1 is needed.

    Args:
        n_classes: number of training classes, >= 2.
        dim: embedding width.
        margin_radians: in [0, pi/2).
        scale: s, > 0.
        learning_rate: rate of the class rows.
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        margin_radians: float = 0.5,
        scale: float = 64.0,
        learning_rate: float = 0.01,
    ):
        super().__init__(n_classes, dim, learning_rate)
        _check_scale(scale)
        if not 0 <= margin_radians < math.pi / 2:
            raise InputError(f"margin_radians must be in [0, pi/2), got {margin_radians}")
        self.margin_radians = margin_radians
        self.scale = scale

    def forward(self, embedded: Embedded, labels: Tensor) -> Float[Tensor, " b"]:
        """Terms of b items."""
        cosines, own, labels = self.cosines(embedded, labels)
        return softmax_terms(cosines, labels, wider(own, self.margin_radians), self.scale)


def wider(own: Float[Tensor, " b"], margin_radians: float) -> Float[Tensor, " b"]:
    """Cosines of items and their own class, the angle widened by a margin; see `ArcFace`.

    >>> wider(torch.tensor([0.0]), math.pi / 6)
    tensor([-0.5000])
    """
    # the floor keeps the slope of the sine finite where item and class row coincide
    sine = (1 - own.square()).clamp(min=1e-6).sqrt()
    m = margin_radians
    turned = own * math.cos(m) - sine * math.sin(m)
    return torch.where(own > -math.cos(m), turned, own - m * math.sin(m))


def _check_scale(value: float) -> None:
    if not value > 0:
        raise InputError(f"scale (alpha, temperature) must be > 0, got {value}")
