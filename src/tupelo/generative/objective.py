"""The objective of the triplet variational autoencoder: triplets of means, and the ELBO."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.generative.drawing import sections
from tupelo.generative.reconstructing import Bernoulli, ReconstructionLoss, check_output
from tupelo.models import VAE, Autoencoded
from tupelo.sections import Section, Shown
from tupelo.types import LossValue, Objective

EPS = 1e-6  # within the norm, as PyTorch's pairwise_distance has it


class TripletVAE(Objective):
    """`weight_vae L_vae + weight_triplet L_tri + weight_regulariser L_reg` of batches of triplets.

    With means mu, B triplets and all pictures of the batch:

        L_vae = mean over pictures of  reconstruction + KL(posterior || N(0, I))
        L_tri = mean over triplets of  max(0, |mu_a - mu_p| - |mu_a - mu_n| + margin)
        L_reg = |MU_a|_F + |MU_p|_F + |MU_n|_F

    Distances are between posterior means as they are: not squared, not of unit rows, not of
    samples. Each Frobenius norm is of a whole matrix (B, d), so it grows with the root of B.
    `L_tri` and `L_reg` reach only the encoder and the head of the mean; nothing is detached.
    Baselines are weights: `weight_triplet=0, weight_regulariser=0` is the plain VAE, `weight_vae=0`
    learns the triplets alone. Rows of a batch are laid out as `TripletBatches` makes them;
    unlabelled pictures take part only in `L_vae`. Source: Ishfaq, Hoogi and Rubin, "TVAE: Triplet-
    Based Variational Autoencoder using Metric Learning", arXiv 1802.04403, and the authors' code.

    Args:
        margin: of the triplets, in distance, > 0. For an ablation without one give 1e-9.
        weight_vae: of `L_vae`, >= 0.
        weight_triplet: of `L_tri`, >= 0.
        weight_regulariser: of `L_reg`, >= 0.
        unlabelled: unlabelled pictures after each triplet, `per_triplet` of the batches, >= 0.
        reconstruction: loss of a picture and its reconstruction; default `Bernoulli()`.

    Raises:
        InputError: a weight is negative or all are 0, the margin is not above 0, `unlabelled` is
            negative; when called: rows that are not whole triplets, an anchor that is its own
            positive, a positive of another class than its anchor or a negative of the same, or
            see `Bernoulli`.

    >>> from tupelo.models import mlp_vae
    >>> value = TripletVAE()(mlp_vae()(torch.rand(6, 1, 28, 28)), torch.tensor([0, 0, 1, 2, 2, 1]))
    >>> sorted(value.parts)
    ['kl', 'reconstruction', 'regulariser', 'triplet']
    """

    def __init__(
        self,
        *,
        margin: float = 0.2,
        weight_vae: float = 0.01,
        weight_triplet: float = 1.0,
        weight_regulariser: float = 0.001,
        unlabelled: int = 0,
        reconstruction: ReconstructionLoss | None = None,
    ) -> None:
        super().__init__()
        weights = {
            "weight_vae": weight_vae,
            "weight_triplet": weight_triplet,
            "weight_regulariser": weight_regulariser,
        }
        for name, weight in weights.items():
            if not (weight >= 0 and math.isfinite(weight)):
                raise InputError(f"{name} must be a finite number >= 0, got {weight}")
        if weight_vae == weight_triplet == 0:
            raise InputError(
                "weight_vae or weight_triplet must be above 0, got 0 for both: nothing would be "
                "learned"
            )
        if not (margin > 0 and math.isfinite(margin)):
            raise InputError(
                f"margin must be a finite number > 0, got {margin}; for an ablation without one "
                "give 1e-9"
            )
        if unlabelled < 0:
            raise InputError(f"unlabelled must be >= 0, got {unlabelled}")
        self.margin = margin
        self.weight_vae = weight_vae
        self.weight_triplet = weight_triplet
        self.weight_regulariser = weight_regulariser
        self.unlabelled = unlabelled
        self.reconstruction = reconstruction or Bernoulli()

    def forward(
        self,
        output: Autoencoded,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch of triplets.

        Args:
            output: of the model, triplet by triplet: anchor, positive, negative, unlabelled.
            labels: class numbers (b,), which the triplets are checked by; None checks nothing.
            items: identities (b,), by which an anchor that is its own positive is found.
            generator: not used.
        """
        anchor, positive, negative = self._triplets(output.raw).unbind(1)  # (t, d) each
        if labels is not None:
            self._check_labels(labels)
        if items is not None:
            self._check_items(items)
        near = F.pairwise_distance(anchor, positive, eps=EPS)
        far = F.pairwise_distance(anchor, negative, eps=EPS)
        hinge = F.relu(near - far + self.margin)
        parts: dict[str, Tensor] = {}
        statistics: dict[str, float] = {}
        if self.weight_vae:
            reconstruction = self.reconstruction(output.reconstruction, output.images).mean()
            kl = divergence(output.raw, output.log_variance).mean()
            parts["reconstruction"] = self.weight_vae * reconstruction
            parts["kl"] = self.weight_vae * kl
            statistics["negative_elbo"] = float((reconstruction + kl).detach())
        if self.weight_triplet:
            parts["triplet"] = self.weight_triplet * hinge.mean()
        if self.weight_regulariser:
            norms = [torch.linalg.matrix_norm(part) for part in (anchor, positive, negative)]
            parts["regulariser"] = self.weight_regulariser * torch.stack(norms).sum()
        near, far = near.detach(), far.detach()
        statistics |= {
            "triplet_accuracy": float((far > near).float().mean()),
            "active": float((hinge.detach() > 0).float().mean()),
            "distance_positive": float(near.mean()),
            "distance_negative": float(far.mean()),
        }
        total = torch.stack(list(parts.values())).sum()
        return LossValue(total, {name: part.detach() for name, part in parts.items()}, statistics)

    def sections(self, model: nn.Module, shown: Shown) -> Sequence[Section]:
        """Reconstructions, samples and traversals, for the report."""
        if not isinstance(model, VAE):
            return ()
        check_output(model, self.reconstruction)  # the loss sees no model; here it is told at last
        return sections(model, shown)

    def _triplets(self, rows: Tensor) -> Tensor:
        """The rows of triplets (t, 3, ...) of a batch."""
        each = 3 + self.unlabelled
        if len(rows) == 0 or len(rows) % each:
            more = f" and {self.unlabelled} unlabelled" if self.unlabelled else ""
            raise InputError(
                f"a batch must be whole triplets, {each} rows each (anchor, positive, negative"
                f"{more}), got {len(rows)} rows; draw batches with TripletBatches"
            )
        return rows.unflatten(0, (-1, each))[:, :3]

    def _check_labels(self, labels: Tensor) -> None:
        anchor, positive, negative = self._triplets(labels).unbind(1)
        for name, wrong, must in (
            ("positive", anchor != positive, "the label of its anchor"),
            ("negative", anchor == negative, "another label than its anchor"),
        ):
            if bool(wrong.any()):
                first = int(wrong.to(torch.uint8).argmax())
                raise InputError(
                    f"a {name} must have {must}, but triplet {first} of the batch has labels "
                    f"{anchor[first].tolist()}, {positive[first].tolist()}, "
                    f"{negative[first].tolist()} (anchor, positive, negative); check the list of "
                    "triplets against the labels of these pictures"
                )

    def _check_items(self, items: Tensor) -> None:
        anchor, positive, _ = self._triplets(items).unbind(1)
        same = anchor[anchor == positive]
        if len(same):
            raise InputError(
                "an anchor must not be its own positive, got item "
                f"{same.unique().tolist()[:5]} as both; draw the list with random_triplets"
            )


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of each posterior from N(0, I), (b,) nats.

    >>> divergence(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
    tensor([0.5000])
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
