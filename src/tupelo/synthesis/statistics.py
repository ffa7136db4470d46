"""Mean and variance of every class, and what classes with few samples borrow from others.

Equations by their number in Fu, Mao, Hu, Liu, Zhang, "Intra-class Adaptive Augmentation with
Neighbor Correction for Deep Metric Learning", IEEE TMM 2022. Covariances are diagonal, as there.
All of it runs once in a few epochs, so it is computed on the CPU in float64: sums do not depend on
the order in which a device adds, and classes far from the origin keep their variance.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tupelo.errors import InputError

NEGATIVE = -1e-6  # a variance below this is no rounding
RESOLVED = 1e-6  # relative difference of distances that is no rounding of inner products
BLOCK = 2**22  # numbers of one block of the neighbour search, so that it needs some 100 MB


class ClassStatistics(nn.Module):
    """Mean and variance (divided by n) of the embeddings of every class, eqs. 7 and 8.

    `update` replaces them, or with momentum merges: a class of n new samples after `seen` earlier
    ones gets the weight w = max(n / (seen + n), 1 - momentum), and

        variance = (1 - w) variance + w new + w (1 - w) (mean - new mean)^2

    which with momentum 1 is the exact statistic of all samples ever seen. Classes without new
    samples keep what they have.

    Args:
        n_classes: C, >= 1.
        dim: embedding width d, >= 1.
        momentum: in [0, 1]; 0 forgets all earlier passes, the authors' script has 0.2.

    Attributes:
        mean: (C, d).
        variance: (C, d), >= 0.
        count: samples of the class in the last pass that had any, int64 (C,).
        seen: samples of all passes, int64 (C,); 0 where nothing is known.

    Raises:
        InputError: a number out of its range.

    >>> statistics = ClassStatistics(2, 1)
    >>> rows = torch.tensor([[1.0], [3.0], [7.0]])
    >>> statistics.update([(rows, torch.tensor([0, 0, 1]))])
    >>> statistics.mean.flatten().tolist(), statistics.variance.flatten().tolist()
    ([2.0, 7.0], [1.0, 0.0])
    """

    mean: Tensor
    variance: Tensor
    count: Tensor
    seen: Tensor

    def __init__(self, n_classes: int, dim: int, *, momentum: float = 0.0):
        super().__init__()
        if n_classes < 1 or dim < 1:
            raise InputError(f"n_classes and dim must be >= 1, got {n_classes} and {dim}")
        if not 0 <= momentum <= 1:
            raise InputError(f"momentum must be in [0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(n_classes, dim))
        self.register_buffer("variance", torch.zeros(n_classes, dim))
        self.register_buffer("count", torch.zeros(n_classes, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(n_classes, dtype=torch.int64))

    @torch.no_grad()
    def update(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take in one pass over the samples.

        Args:
            batches: rows (n, d) and class indices (n,), one batch at a time; none is kept.
        """
        new = _Moments(*self.mean.shape)
        for rows, labels in batches:
            new.add(rows, labels)
        old = {name: value.cpu().double() for name, value in self.named_buffers()}
        weight = new.count / (old["seen"] + new.count).clamp(min=1)
        weight = weight.clamp(min=1 - self.momentum).where(new.count > 0, 0.0)[:, None]
        apart = (old["mean"] - new.mean).square_()
        variance = old["variance"].lerp_(new.variance(), weight)
        self.variance.copy_(variance.addcmul_(weight * (1 - weight), apart))
        self.mean.copy_(old["mean"].lerp_(new.mean, weight))
        count = new.count.long().to(self.count.device)
        self.count.copy_(torch.where(count > 0, count, self.count))
        self.seen += count


class _Moments:
    """Count, mean and summed squared deviation of every class, merged batch by batch.

    Source: Chan, Golub, LeVeque, "Algorithms for Computing the Sample Variance", The American
    Statistician 1983.
    """

    def __init__(self, n_classes: int, dim: int):
        self.count = torch.zeros(n_classes, dtype=torch.float64)
        self.mean = torch.zeros(n_classes, dim, dtype=torch.float64)
        self._squares = torch.zeros(n_classes, dim, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> None:
        rows = rows.cpu().double()
        present, place, counts = labels.cpu().unique(return_inverse=True, return_counts=True)
        counts = counts.double()[:, None]
        zeros = rows.new_zeros(len(present), rows.shape[1])
        mean = zeros.index_add(0, place, rows).div_(counts)
        squares = zeros.index_add(0, place, (rows - mean[place]).square_())
        before = self.count[present, None]
        share = counts / (before + counts)
        apart = mean - self.mean[present]
        self._squares[present] += squares + apart.square() * (before * share)
        self.mean[present] += apart * share
        self.count[present] += counts[:, 0]

    def variance(self) -> Float[Tensor, "n d"]:
        return self._squares / self.count.clamp(min=1)[:, None]


@dataclass(frozen=True)
class NeighbourCorrection:
    """Classes with few samples borrow the variance of similar classes, eqs. 9 to 16.

    With n_k samples of class k and eligible classes those of at least two samples:

        alpha_k     = 1 / (1 + ln(1 + beta (n_k - 1)))  up to n_k = most, else 0           (16)
        neighbours  = the eligible classes i != k with the smallest Dm = |mu_i^2 - mu_k^2|  (9, 11)
        w_i         = n_i exp(-Dm^2 / (2 sigma_mean^2) - Dv^2 / (2 sigma_variance^2))      (13)
        neighbour_k = sum w_i variance_i / sum w_i                                         (12)
        global      = sum n_i variance_i / sum n_i, over the eligible                      (14)
        corrected_k = (1 - alpha_k) variance_k
                      + alpha_k ((1 - gamma) neighbour_k + gamma global)                   (15)

    Means are squared element by element. Dv = |variance_i - variance_k| (10). In (13) each row of
    distances is first brought to [0, 1] over the eligible classes, 0 where all are equal, as the
    authors' code means to: it lets the place holders of classes left out take part, which turns
    every Dm into 0. A class of one sample looks for neighbours by its sample, but is none.

    Args:
        beta: how fast the own variance is trusted, >= 0; 0 borrows everything.
        gamma: share of the global variance in what is borrowed, in [0, 1].
        neighbours: K, >= 1; fewer where fewer are eligible.
        sigma_mean: > 0, in units of the normalised distance; infinity ignores it.
        sigma_variance: the same for Dv.
        most: classes of more samples are left as they are; None corrects all.

    Raises:
        InputError: a number out of its range; when called: a class needs neighbours and fewer
            than two classes have two samples.
    """

    beta: float = 0.1
    gamma: float = 0.1
    neighbours: int = 25
    sigma_mean: float = 1.0
    sigma_variance: float = 1.0
    most: int | None = 40

    def __post_init__(self):
        if not 0 <= self.beta < math.inf:
            raise InputError(f"beta must be >= 0 and finite, got {self.beta}")
        if not 0 <= self.gamma <= 1:
            raise InputError(f"gamma must be in [0, 1], got {self.gamma}")
        if self.neighbours < 1:
            raise InputError(f"neighbours must be >= 1, got {self.neighbours}")
        if not (self.sigma_mean > 0 and self.sigma_variance > 0):
            raise InputError(
                "sigma_mean and sigma_variance must be > 0, got "
                f"{self.sigma_mean} and {self.sigma_variance}"
            )
        if self.most is not None and self.most < 0:
            raise InputError(f"most must be >= 0 samples, got {self.most}")

    def shares(self, count: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The alpha of every class: how much of its variance is borrowed.

        >>> NeighbourCorrection().shares(torch.tensor([1, 3, 10, 41])).float()
        tensor([1.0000, 0.8458, 0.6091, 0.0000])
        """
        alpha = 1 / (1 + (self.beta * (count.double().clamp(min=1) - 1)).log1p())
        return alpha if self.most is None else alpha.where(count <= self.most, 0.0)

    @torch.no_grad()
    def __call__(
        self, mean: Float[Tensor, "n d"], variance: Float[Tensor, "n d"], count: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """The corrected variances (n, d) of n classes, float64 on the CPU.

        Args:
            mean: of the classes.
            variance: of the classes.
            count: their samples.
        """
        places, variance = mean.cpu().double().square(), variance.cpu().double()
        count = count.cpu()
        alpha = self.shares(count)
        corrected, needy = variance.clone(), (alpha > 0).nonzero()[:, 0]
        eligible = (count >= 2).nonzero()[:, 0]
        if len(needy) and len(eligible) < 2:
            raise InputError(
                "the neighbour correction needs at least two classes with two samples, got "
                f"{len(eligible)}; set correction=False"
            )
        if not len(needy):
            return corrected
        of_all = global_variance(variance, count)
        numbers = max(len(eligible), self.neighbours * variance.shape[1])
        for rows in needy.split(max(1, BLOCK // numbers)):
            borrowed = self._from_neighbours(rows, eligible, places, variance, count)
            borrowed = borrowed.lerp_(of_all, self.gamma)
            corrected[rows] = variance[rows].lerp_(borrowed, alpha[rows, None])
        return corrected

    def _from_neighbours(
        self, rows: Tensor, eligible: Tensor, places: Tensor, variance: Tensor, count: Tensor
    ) -> Tensor:
        own = rows[:, None] == eligible
        others = variance[eligible]
        of_means = _distances(places[rows], places[eligible]).masked_fill_(own, math.inf)
        of_variances = _distances(variance[rows], others).masked_fill_(own, math.inf)
        k = min(self.neighbours, len(eligible))
        nearest = of_means.topk(k, dim=1, largest=False).indices
        exponent = count[eligible].double().log()[nearest]
        for distance, sigma in (
            (of_means, self.sigma_mean),
            (of_variances, self.sigma_variance),
        ):
            exponent -= _to_unit(distance, nearest).square() / (2 * sigma**2)
        # the class itself is among the K where all are taken
        weight = exponent.masked_fill_(own.gather(1, nearest), -math.inf).softmax(1)
        return (weight[:, None, :] @ others[nearest])[:, 0]


def global_variance(
    variance: Float[Tensor, "n d"], count: Int[Tensor, " n"]
) -> Float[Tensor, " d"]:
    """The variance within classes, weighted by their samples, eq. 14; singletons are left out."""
    samples = count.to(variance.dtype).where(count >= 2, 0.0)
    return samples @ variance / samples.sum()


def standard_deviation(variance: Tensor) -> Tensor:
    """Square roots; what rounding made negative counts as 0.

    Raises:
        InputError: a variance is NaN or below -1e-6.

    >>> standard_deviation(torch.tensor([4.0, -1e-9]))
    tensor([2., 0.])
    """
    if not (variance >= NEGATIVE).all():
        raise InputError(
            f"variances must be >= 0, got {float(variance.min())}; the statistics of the classes "
            "are damaged, estimate them anew"
        )
    return variance.clamp(min=0).sqrt()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances by inner products; what these leave instead of 0 is 0."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    distance = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    size = max(float(rows.square().sum(1).max()) for rows in (a, b)) ** 0.5
    return distance.masked_fill_(distance < RESOLVED * size, 0)


def _to_unit(distance: Tensor, chosen: Tensor) -> Tensor:
    """The chosen columns, each row brought to [0, 1] over all that are finite; 0 if these agree."""
    low = distance.amin(1, keepdim=True)
    high = distance.masked_fill(distance == math.inf, 0).amax(1, keepdim=True)
    scaled = (distance.gather(1, chosen).clamp(max=high) - low) / (high - low)
    return torch.where(high - low > RESOLVED * high, scaled, 0.0)
