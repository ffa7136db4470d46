"""Intra-class adaptive augmentation: further members of every class, drawn where it varies.

Source: Fu, Mao, Hu, Liu, Zhang, "Intra-class Adaptive Augmentation with Neighbor Correction for
Deep Metric Learning", IEEE TMM 2022; eqs. 7-20. What their released code does otherwise, and what
is done here, is listed in docs/iaa.md.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.objectives import ComparingObjective, OnClasses, OnPairs, OnTuples
from tupelo.selection import AsDrawn, DistanceWeighted
from tupelo.synthesis.class_noise import ClassNoise
from tupelo.types import Embedded, LossValue, Objective

_log = logging.getLogger(__name__)


class IntraClassAugmented(ComparingObjective):
    """Any objective on a comparison, with synthetic members of each class as further candidates.

    From epoch `start_after + 1` on, and then every so many epochs, the training set is embedded
    and the mean and variance of every class are estimated. Each step then draws

        z' = z + sqrt(strength variance_y) * noise                                        (17)

    `copies` times around the un-normalised output of each row, brings it to unit length where the
    objective compares unit rows, and adds it to the candidates. Anchors stay original. Copies of
    others are positives and negatives by their label; copies of the anchor itself are neither.
    The gradient of a copy goes to its row; variance and noise carry none.

    Args:
        objective: on a comparison: `OnPairs`, `OnTuples`, or a wrapper of one.
        n_classes: number of training classes C; labels are class indices.
        dim: embedding width.
        copies: M, synthetic rows for each row, >= 0; 0 is the plain objective.
        strength: lambda, factor of the variance, >= 0; 0.6 to 0.8 in the paper.
        start_after: epochs without augmentation, >= 0; epochs count from 1.
        every: epochs from one estimate to the next, >= 1.
        warmup_epochs: epochs after the first estimate in which no rows are drawn yet.
        correction: whether classes borrow variance from similar ones: "auto" those with at most
            `most` samples, True all, False none. See `NeighbourCorrection`.
        variance: of the noise: of the "class"; the "global" one within classes; "identity"; or
            "isotropic", the mean over the dimensions of the class. All but the first are
            ablations.
        centre: what is drawn around: the "sample", or the "mean" of the class, an ablation that
            sends no gradient.
        beta: of the correction, >= 0.
        gamma: of the correction, in [0, 1].
        neighbours: of the correction, K >= 1.
        sigma_mean: of the correction, > 0.
        sigma_variance: of the correction, > 0.
        most: of the correction, tau, in samples.
        momentum: of the statistics, in [0, 1]; see `ClassStatistics`.
        decay: pairs (share of the epochs, factor of `strength` once it has passed), as in the
            authors' code: ((0.4, 0.9), (0.6, 0.75), (0.8, 0.6)).
        epochs: of the whole training; needed with `decay` only.
        all_anchors: synthetic rows are anchors too.
        legacy_square_roots: copy m has the variance to the power 2^(1-m), as in the authors' code.

    Raises:
        InputError: an argument out of its range, not a comparing objective, or one on tuples as
            they were drawn; when called: labels that are not class indices below `n_classes`, rows
            of another width, `begin_epoch` never called, or rows due before anything was
            estimated; in `begin_epoch`: embeddings that are not finite, a class without a sample,
            none with two, or one that needs neighbours where there are none.

    >>> from tupelo.losses import MultiSimilarity
    >>> objective = IntraClassAugmented(OnPairs(MultiSimilarity()), 2, 3, start_after=0)
    >>> output, labels = Embedded.of(torch.randn(8, 3)), torch.arange(8) % 2
    >>> objective.begin_epoch(lambda: iter([(output, labels)]))
    >>> objective.compare(output, labels).candidates.shape
    torch.Size([32, 3])
    """

    def __init__(
        self,
        objective: Objective,
        n_classes: int,
        dim: int,
        *,
        copies: int = 3,
        strength: float = 0.8,
        start_after: int = 30,
        every: int = 4,
        warmup_epochs: int = 0,
        correction: bool | str = "auto",
        variance: str = "class",
        centre: str = "sample",
        beta: float = 0.1,
        gamma: float = 0.1,
        neighbours: int = 25,
        sigma_mean: float = 1.0,
        sigma_variance: float = 1.0,
        most: int = 40,
        momentum: float = 0.0,
        decay: Sequence[tuple[float, float]] = (),
        epochs: int | None = None,
        all_anchors: bool = False,
        legacy_square_roots: bool = False,
    ):
        if not isinstance(objective, ComparingObjective):
            raise InputError(
                "IntraClassAugmented takes an objective on a comparison, OnPairs or OnTuples, got "
                f"{type(objective).__name__}; AugmentedClasses takes OnClasses, and Memory and "
                "PerLearner go around it"
            )
        chosen_by = list(_rules(objective))
        if any(isinstance(rule, AsDrawn) for rule in chosen_by):
            raise InputError(
                "IntraClassAugmented needs a selection that looks at all candidates, got AsDrawn, "
                "whose tuples are those of the batch, so synthetic rows would never be compared; "
                "draw P x K batches and select with PerAnchor"
            )
        super().__init__(normalize=objective.normalize, relation=objective.relation)
        self.objective = objective
        self.all_anchors = all_anchors
        self.noise = ClassNoise(
            n_classes,
            dim,
            copies=copies,
            strength=strength,
            start_after=start_after,
            every=every,
            warmup_epochs=warmup_epochs,
            correction=correction,
            variance=variance,
            centre=centre,
            beta=beta,
            gamma=gamma,
            neighbours=neighbours,
            sigma_mean=sigma_mean,
            sigma_variance=sigma_variance,
            most=most,
            momentum=momentum,
            decay=decay,
            epochs=epochs,
            legacy_square_roots=legacy_square_roots,
        )
        if any(isinstance(rule, DistanceWeighted) for rule in chosen_by):
            _log.warning(
                "distance-weighted selection leaves most synthetic rows out, because they lie near "
                "their row; IAA gains more with another rule or a loss on all pairs"
            )

    def rows(self, output: Embedded) -> Tensor:
        """The rows that the objective compares."""
        return self.objective.rows(output)

    def compare(
        self,
        output: Embedded,
        labels,
        items: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Comparison:
        """Compare a batch with itself and its synthetic rows."""
        plain = self.objective.compare(output, labels, items, generator)
        drawn = self.noise.draw(output, labels, generator)
        if drawn is None:
            return plain
        synthetic, indices = drawn
        if self.objective.normalize:
            synthetic = F.normalize(synthetic, dim=1)
        b, copies = len(indices), self.noise.copies
        # a copy stands to an anchor as its row does; the row itself, and its item, to neither side
        masks = (mask[:, :b].repeat(1, copies) for mask in (plain.positive, plain.negative))
        augmented = plain.with_candidates(synthetic, *masks)
        return self._with_anchors(augmented, synthetic, indices) if self.all_anchors else augmented

    def on(self, comparison: Comparison, generator: torch.Generator | None = None) -> LossValue:
        """The loss of one comparison."""
        value = self.objective.on(comparison, generator)
        strength = self.noise.strength_now()
        copies = 0 if strength is None else self.noise.copies
        b = len(comparison.anchors) // (1 + copies if self.all_anchors else 1)
        statistics = self.noise.report(strength, b)
        if copies:
            statistics["synthetic_hardest"] = self._share_of_hardest(comparison, b, b * copies)
        return value._replace(statistics={**value.statistics, **statistics})

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Count the epoch and, where it is due, estimate the classes."""
        self.objective.begin_epoch(embed_train)
        self.noise.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to the objective."""
        self.objective.end_epoch()

    @torch.no_grad()
    def _share_of_hardest(self, comparison: Comparison, real: int, synthetic: int) -> float:
        """The share of anchors whose nearest negative is synthetic."""
        near = comparison.similarity if self.normalize else -comparison.distance
        nearest = near.masked_fill(~comparison.negative, -math.inf).argmax(1)
        return float(((nearest >= real) & (nearest < real + synthetic)).float().mean())

    def _with_anchors(
        self, augmented: Comparison, synthetic: Tensor, indices: Tensor
    ) -> Comparison:
        times = self.noise.copies + 1
        return Comparison(
            torch.cat([augmented.anchors, synthetic.to(augmented.anchors)]),
            augmented.candidates,
            augmented.positive.repeat(times, 1),
            augmented.negative.repeat(times, 1),
            anchor_labels=indices.repeat(times),
        )


class AugmentedClasses(Objective):
    """A loss against class rows, with synthetic members of each class as further samples.

    See `IntraClassAugmented`, whose options these are; every synthetic row is a sample of its own
    here, so there are no anchors to choose. The gain is small in the paper (table X).

    Args:
        objective: `OnClasses`.
        n_classes: number of training classes.
        dim: embedding width.
        copies: see `IntraClassAugmented`, as are all others.

    Raises:
        InputError: see `IntraClassAugmented`; or not `OnClasses`.

    >>> from tupelo.losses import ProxyAnchor
    >>> objective = AugmentedClasses(OnClasses(ProxyAnchor(2, 3)), 2, 3, start_after=0)
    >>> output, labels = Embedded.of(torch.randn(8, 3)), torch.arange(8) % 2
    >>> objective.begin_epoch(lambda: iter([(output, labels)]))
    >>> objective(output, labels).statistics["synthetic"]
    24.0
    """

    def __init__(
        self,
        objective: Objective,
        n_classes: int,
        dim: int,
        *,
        copies: int = 3,
        strength: float = 0.8,
        start_after: int = 30,
        every: int = 4,
        warmup_epochs: int = 0,
        correction: bool | str = "auto",
        variance: str = "class",
        centre: str = "sample",
        beta: float = 0.1,
        gamma: float = 0.1,
        neighbours: int = 25,
        sigma_mean: float = 1.0,
        sigma_variance: float = 1.0,
        most: int = 40,
        momentum: float = 0.0,
        decay: Sequence[tuple[float, float]] = (),
        epochs: int | None = None,
        legacy_square_roots: bool = False,
    ):
        super().__init__()
        if not isinstance(objective, OnClasses):
            raise InputError(
                f"AugmentedClasses takes OnClasses, got {type(objective).__name__}; "
                "IntraClassAugmented takes OnPairs and OnTuples"
            )
        self.objective = objective
        self.noise = ClassNoise(
            n_classes,
            dim,
            copies=copies,
            strength=strength,
            start_after=start_after,
            every=every,
            warmup_epochs=warmup_epochs,
            correction=correction,
            variance=variance,
            centre=centre,
            beta=beta,
            gamma=gamma,
            neighbours=neighbours,
            sigma_mean=sigma_mean,
            sigma_variance=sigma_variance,
            most=most,
            momentum=momentum,
            decay=decay,
            epochs=epochs,
            legacy_square_roots=legacy_square_roots,
        )

    def forward(
        self,
        output: Embedded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch and its synthetic rows."""
        drawn = self.noise.draw(output, labels, generator)
        b = len(output.raw)
        if drawn is not None:
            synthetic, indices = drawn
            times = 1 + self.noise.copies
            both = torch.cat([output.raw.to(synthetic.dtype), synthetic])
            # what a class loss reads are the rows; features of a synthetic row would be made up
            output, labels = Embedded.of(both), indices.repeat(times)
            items = None if items is None else items.repeat(times)
        value = self.objective(output, labels, items=items, generator=generator)
        statistics = self.noise.report(self.noise.strength_now(), b)
        return value._replace(statistics={**value.statistics, **statistics})

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Count the epoch and, where it is due, estimate the classes."""
        self.objective.begin_epoch(embed_train)
        self.noise.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to the objective."""
        self.objective.end_epoch()


def _rules(objective: ComparingObjective) -> Iterator[object]:
    """The selectors and rules that an objective chooses by."""
    if isinstance(objective, OnPairs):
        yield from (objective.positives, objective.negatives)
    elif isinstance(objective, OnTuples):
        selector = objective.selector
        while selector is not None:
            yield selector
            yield from (getattr(selector, name, None) for name in ("positive", "negative"))
            selector = getattr(selector, "selector", None)
