"""What an autoencoder draws: reconstructions, samples from the prior, walks through the codes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tupelo.errors import InputError
from tupelo.models import VAE
from tupelo.models.modes import evaluating
from tupelo.sections import Pictures, Points, Section, Shown

SPAN = 3.0  # standard deviations of the prior to both sides
SHOWN, SAMPLES, WALKED, STEPS = 10, 30, 8, 9


def reconstructions(
    model: VAE, images: Float[Tensor, "b c h w"], *, seed: int = 0
) -> Float[Tensor, "b c h w"]:
    """Pictures decoded from a sample of their posteriors, values in [0, 1].

    Args:
        model: in any mode.
        images: values in [0, 1].
        seed: of the noise.
    """
    with evaluating(model), torch.no_grad():
        output = model(images, torch.Generator().manual_seed(seed))
        return model.pixels(output.reconstruction)


def samples(model: VAE, count: int, *, seed: int = 0) -> Float[Tensor, "n c h w"]:
    """Pictures decoded from codes of the prior N(0, I), values in [0, 1].

    Raises:
        InputError: `count` is below 1.

    >>> from tupelo.models import mlp_vae
    >>> samples(mlp_vae(), 4).shape
    torch.Size([4, 1, 28, 28])
    """
    if count < 1:
        raise InputError(f"count must be at least 1 sample, got {count}")
    codes = torch.randn(count, model.dim, generator=torch.Generator().manual_seed(seed))
    return _decoded(model, codes.to(next(model.parameters())))  # its device and precision


def traversals(
    model: VAE,
    image: Float[Tensor, "c h w"],
    dimensions: Sequence[int],
    *,
    steps: int = STEPS,
    span: float = SPAN,
) -> Float[Tensor, "m s c h w"]:
    """One picture with one dimension of its code moved at a time, from -span to span.

    Args:
        model: in any mode.
        image: where the walk starts: at its posterior mean.
        dimensions: which are moved, one after the other.
        steps: of each walk, >= 2.
        span: to both sides, in standard deviations of the prior.

    Raises:
        InputError: a dimension the model does not have, or fewer than 2 steps.

    >>> from tupelo.models import mlp_vae
    >>> traversals(mlp_vae(), torch.rand(1, 28, 28), [0, 7], steps=5).shape
    torch.Size([2, 5, 1, 28, 28])
    """
    wrong = [place for place in dimensions if not 0 <= place < model.dim]
    if wrong or steps < 2:
        raise InputError(
            f"dimensions must be in [0, {model.dim}) and steps at least 2, got {list(dimensions)} "
            f"and {steps}"
        )
    with evaluating(model), torch.no_grad():
        mean = model.encode(image[None]).mean.raw[0]
    places = torch.linspace(-span, span, steps, device=mean.device, dtype=mean.dtype)
    codes = mean.repeat(len(dimensions), steps, 1)
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = places
    return _decoded(model, codes.flatten(0, 1)).unflatten(0, (len(dimensions), steps))


def sections(model: VAE, shown: Shown) -> list[Section]:
    """The pictures as sections of a report.

    Args:
        model: trained.
        shown: pictures of some classes.
    """
    spread = torch.linspace(0, len(shown.images) - 1, min(SHOWN, len(shown.images))).long()
    images = shown.images[spread.to(shown.images.device)]
    rebuilt = reconstructions(model, images)
    drawn = samples(model, SAMPLES)
    walked = most_used(model, shown.images)
    rows = traversals(model, images[0], walked.tolist())
    return [
        Section(
            "Reconstructions",
            "Above pictures that did not train (where there are such), below what the decoder "
            "makes of a sample of their posterior.",
            [Pictures.of([list(images), list(rebuilt)], heads=["original", "reconstructed"])],
        ),
        Section(
            "Samples from the prior",
            "Decoded from random codes: what the model takes for a picture.",
            [Pictures.of([list(part) for part in drawn.split(SHOWN)])],
        ),
        Section(
            "Latent traversals",
            f"The first of the pictures above with one dimension of its code moved from -{SPAN:g} "
            f"to {SPAN:g} standard deviations of the prior; the {len(walked)} dimensions in which "
            "the means of these pictures vary most.",
            [Pictures.of([list(row) for row in rows], heads=[f"dim {k}" for k in walked.tolist()])],
        ),
    ]


def most_used(model: VAE, images: Float[Tensor, "b c h w"]) -> Tensor:
    """The dimensions of the code in which the means of pictures vary most, the first the most."""
    with evaluating(model), torch.no_grad():
        spread = model.encode(images).mean.raw.var(dim=0, correction=0)
    return spread.argsort(descending=True)[:WALKED].cpu()


def latent_map(rows: Float[Tensor, "n d"], kinds: Sequence[str]) -> Section:
    """Posterior means in the plane of their first two principal components, by class.

    Args:
        rows: means.
        kinds: name of the class of each.
    """
    return Section(
        "Latent means",
        "Posterior means as they are, in the plane in which they vary most; colours are classes. "
        "The map above shows unit rows instead, arranged so that neighbours stay neighbours.",
        [Points.of(rows, list(kinds))],
    )


def _decoded(model: VAE, codes: Tensor) -> Tensor:
    with evaluating(model), torch.no_grad():
        return model.pixels(model.decode(codes))
