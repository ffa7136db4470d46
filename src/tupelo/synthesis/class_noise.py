"""Rows drawn around embeddings with the variance of their class: what both forms of IAA share."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.comparison import check_rows, label_tensor
from tupelo.errors import InputError
from tupelo.losses.tuples import class_indices
from tupelo.sections import Bars, Curves, Points, Section, Shown
from tupelo.synthesis.statistics import (
    ClassStatistics,
    NeighbourCorrection,
    global_variance,
    standard_deviation,
)
from tupelo.types import Embedded

_log = logging.getLogger(__name__)


class ClassNoise(nn.Module):
    """When classes are estimated, and further rows drawn with what is known of them.

    The arguments are those of `IntraClassAugmented`. Whatever is remembered is in the buffers:
    the epoch, the statistics, and the standard deviations that rows are drawn with.
    """

    epoch: Tensor
    deviation: Tensor
    summary: Tensor

    def __init__(
        self,
        n_classes: int,
        dim: int,
        *,
        copies: int,
        strength: float,
        start_after: int,
        every: int,
        warmup_epochs: int,
        correction: bool | str,
        variance: str,
        centre: str,
        beta: float,
        gamma: float,
        neighbours: int,
        sigma_mean: float,
        sigma_variance: float,
        most: int,
        momentum: float,
        decay: Sequence[tuple[float, float]],
        epochs: int | None,
        legacy_square_roots: bool,
    ):
        super().__init__()
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 0:
            raise InputError(f"copies must be a whole number >= 0, got {copies!r}")
        if not 0 <= strength < math.inf:
            raise InputError(f"strength must be >= 0 and finite, got {strength}")
        if start_after < 0 or warmup_epochs < 0 or every < 1:
            raise InputError(
                "start_after and warmup_epochs must be >= 0 and every >= 1 epochs, got "
                f"{start_after}, {warmup_epochs} and {every}"
            )
        if not (isinstance(correction, bool) or correction == "auto"):
            raise InputError(f"correction must be True, False or 'auto', got {correction!r}")
        if variance not in ("class", "global", "identity", "isotropic"):
            raise InputError(
                f"variance must be 'class', 'global', 'identity' or 'isotropic', got {variance!r}"
            )
        if centre not in ("sample", "mean"):
            raise InputError(f"centre must be 'sample' or 'mean', got {centre!r}")
        self.copies, self.strength = copies, strength
        self.start_after, self.every, self.warmup_epochs = start_after, every, warmup_epochs
        self.correction, self.variance, self.centre = correction, variance, centre
        self.decay, self.epochs = _checked_decay(decay, epochs), epochs
        self.legacy_square_roots = legacy_square_roots
        self.borrowing = NeighbourCorrection(
            beta, gamma, neighbours, sigma_mean, sigma_variance,
            most if correction == "auto" else None,
        )  # fmt: skip
        self.classes = ClassStatistics(n_classes, dim, momentum=momentum)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("deviation", torch.zeros(n_classes, dim))
        # mean variance that is drawn with, and share of classes corrected
        self.register_buffer("summary", torch.zeros(2))
        self._said = set[str]()

    @property
    def starts(self) -> int:
        """The first epoch with synthetic rows, counted from 1."""
        return self.start_after + self.warmup_epochs + 1

    def strength_now(self) -> float | None:
        """The strength of this epoch; None while no rows are drawn.

        Raises:
            InputError: no epoch was begun, or rows are due and no statistics were estimated.
        """
        if not self.copies:
            return None
        epoch = int(self.epoch)
        if not epoch:  # the plain loss for ever would look like a run that works
            raise InputError(
                "IAA counts epochs, and none was begun; tupelo.fit does it, and a loop of your own "
                "must call objective.begin_epoch(embed_train) before each epoch"
            )
        if epoch < self.starts:
            return None
        if not int(self.classes.seen.sum()):
            raise InputError(
                f"synthetic rows are due from epoch {self.starts} on, but at epoch {epoch} no "
                "statistics of the classes were estimated: the epochs were begun with copies=0 or "
                "a later start_after; go on with those, or train anew"
            )
        done = epoch / (self.epochs or epoch)
        factors = [factor for share, factor in self.decay if done > share]
        return self.strength * (factors[-1] if factors else 1.0)

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Count the epoch and, where it is due, estimate the classes.

        Raises:
            InputError: embeddings are not finite or of another width, labels are not class
                indices, a class has no sample, or none has two.
        """
        self.epoch += 1
        due = int(self.epoch) - self.start_after - 1
        if self.copies and due >= 0 and due % self.every == 0:
            self.classes.update(self._samples(embed_train()))
            self._prepare()

    def draw(
        self, output: Embedded, labels, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "e d"], Tensor] | None:
        """Further rows, copy m of row i at m b + i, and class indices (b,) of the originals.

        They carry the gradient of the row they were drawn around.

        Args:
            output: b embeddings; the raw output is what is drawn around.
            labels: class indices (b,).
            generator: of the noise.

        Returns:
            None while no rows are drawn.
        """
        if not self.copies:
            return None
        rows = output.raw if output.raw.dtype == torch.float64 else output.raw.float()
        indices = self._indices(rows, labels)
        strength = self.strength_now()
        if strength is None:
            return None
        return self._around(rows, indices, strength, generator).flatten(0, 1), indices

    def report(self, strength: float | None, rows: int) -> dict[str, float]:
        """Numbers for the log of a step that drew with this strength around so many rows."""
        variance, corrected = self.summary.tolist()
        drawn = 0 if strength is None else self.copies * rows
        return {
            "strength": strength or 0.0,
            "class_variance": variance,
            "corrected": corrected,
            "synthetic": float(drawn),
        }

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """What was drawn, for the report; nothing before the first estimate."""
        if not int(self.classes.seen.sum()):
            return []
        variance = self.deviation.square().mean(1).tolist()
        more = range(len(shown.trained_names), len(variance))
        names = [*shown.trained_names, *(f"class {number}" for number in more)][: len(variance)]
        borrowed = float(self.summary[1])
        text = (
            f"From epoch {self.starts} on every embedding of a batch was joined by {self.copies} "
            "synthetic ones, drawn around it with the variance of its class; they are further "
            "candidates, and nothing to the row they were drawn around. Strength is the factor of "
            "the variance and 0 before that; class_variance is the mean variance that rows are "
            "drawn with, before the embeddings are brought to unit length; synthetic_hardest is "
            "the share of anchors "
            f"whose nearest negative is a synthetic row. {borrowed:.0%} of the classes borrow "
            "variance from similar ones. The bars are the variance of each class; the points are "
            "pictures and what would be drawn around them, a class that did not train with the "
            "variance of the nearest one that did."
        )
        parts = [
            Curves(["strength", "synthetic_hardest"], "share"),
            Curves(["class_variance"], "variance"),
            Bars(names[: len(variance)], variance, "variance, mean of the dimensions"),
        ]
        return [
            Section("Synthetic members of classes", text, [*parts, *self._points(model, shown)])
        ]

    def _points(self, model: nn.Module, shown: Shown) -> list[Points]:
        output = model(shown.images)
        if not isinstance(output, Embedded) or shown.labels.ndim != 1:
            return []
        rows, names = output.raw.float(), [shown.class_names[int(i)] for i in shown.labels]
        nearest = torch.cdist(rows, self.classes.mean.to(rows)).argmin(1).tolist()
        number = {name: i for i, name in enumerate(shown.trained_names)}
        indices = [number.get(name, near) for name, near in zip(names, nearest, strict=True)]
        drawn = self._around(
            rows,
            torch.tensor(indices, device=rows.device),
            self.strength_now() or self.strength,
            torch.Generator().manual_seed(0),
        ).flatten(0, 1)
        kinds = ["real"] * len(rows) + ["synthetic"] * len(drawn)
        return [Points.of(torch.cat([rows, drawn]), kinds, names * (1 + self.copies))]

    def _around(
        self, rows: Tensor, indices: Tensor, strength: float, generator: torch.Generator | None
    ) -> Float[Tensor, "m b d"]:
        # drawn where the generator is, so that the noise does not depend on the device of the rows
        source = rows.device if generator is None else generator.device
        noise = torch.randn(
            self.copies, *rows.shape, generator=generator, dtype=rows.dtype, device=source
        ).to(rows.device)
        deviation = self.deviation[indices].to(rows.dtype)
        if self.legacy_square_roots:
            deviation = torch.stack([deviation ** (0.5**copy) for copy in range(self.copies)])
        centre = rows if self.centre == "sample" else self.classes.mean[indices].to(rows.dtype)
        return centre + noise.mul_(deviation * math.sqrt(strength))

    def _samples(
        self, batches: Iterator[tuple[Embedded, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        unit = True
        for output, labels in batches:
            rows = output.raw.float() if output.raw.dtype != torch.float64 else output.raw
            indices = self._indices(rows, labels)
            check_rows(rows, "the embeddings of the training set")
            unit = unit and bool(((rows.norm(dim=1) - 1).abs() < 1e-3).all())
            yield rows, indices
        if unit:
            self._say(
                "the embeddings that classes are estimated from are already of unit length; "
                "their variance is that on the sphere, and strength has another scale than for "
                "the output of a linear head"
            )

    @torch.no_grad()
    def _prepare(self) -> None:
        """From the statistics to the standard deviations that rows are drawn with."""
        mean, variance, count, seen = (
            self.classes.mean, self.classes.variance.cpu().double(), self.classes.count.cpu(),
            self.classes.seen,
        )  # fmt: skip
        missing = (seen == 0).nonzero()[:, 0].tolist()
        if missing:
            raise InputError(
                f"every class of [0, {len(seen)}) must have a sample in the training set, got none "
                f"for {len(missing)}: {', '.join(map(str, missing[:20]))}"
                f"{' ...' if len(missing) > 20 else ''}; number the classes without gaps and set "
                "n_classes to their number"
            )
        if not (count >= 2).any():
            raise InputError(
                "IAA needs at least one class with two samples, or no variance can be estimated; "
                f"each of the {len(count)} classes of the training set has one"
            )
        corrected = torch.zeros(len(count))
        if self.correction is not False and self.variance in ("class", "isotropic"):
            corrected = self.borrowing.shares(count) > 0
            variance = self.borrowing(mean, variance, count)
        if self.variance == "global":
            variance = global_variance(variance, count).expand_as(variance)
        elif self.variance == "identity":
            variance = torch.ones_like(variance)
        elif self.variance == "isotropic":
            variance = variance.mean(1, keepdim=True).expand_as(variance)
        self.deviation.copy_(standard_deviation(variance))
        self.summary.copy_(torch.stack([variance.mean(), corrected.double().mean()]))

    def _indices(self, rows: Tensor, labels) -> Tensor:
        known = label_tensor(labels)
        if known is None or known.ndim != 1:
            raise InputError(
                "IAA keeps a mean and a variance for every class, so labels must be class indices "
                f"(b,), got {'tags' if known is not None else 'names or sets'}; number the classes "
                "of the data set first (ImageSet.labels are), and train tags without it"
            )
        n_classes, dim = self.classes.mean.shape
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise InputError(
                f"dim must equal the embedding width, got dim={dim} for embeddings "
                f"{tuple(rows.shape)}"
            )
        return class_indices(known, len(rows), n_classes, "IAA").to(rows.device)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _log.warning(text)


def _checked_decay(
    decay: Sequence[tuple[float, float]], epochs: int | None
) -> tuple[tuple[float, float], ...]:
    steps = tuple((float(share), float(factor)) for share, factor in decay)
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs must be >= 1, got {epochs}")
    if steps and epochs is None:
        raise InputError(
            "decay counts in shares of all epochs, so epochs must say how many there are, got None"
        )
    shares = [share for share, _ in steps]
    if shares != sorted(set(shares)) or any(
        not (0 <= share <= 1 and 0 <= factor < math.inf) for share, factor in steps
    ):
        raise InputError(
            "decay must be pairs (share of the epochs, factor from then on), shares rising in "
            f"[0, 1] and factors >= 0, got {list(steps)}"
        )
    return steps
