"""Training of one cell of `benchmarks/tvae.py`: an autoencoder of digits or of clothes."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from tupelo import embed
from tupelo.data import ImageData, ImageSet, known
from tupelo.evaluation import retrieval
from tupelo.generative import (
    FreshTriplets,
    TripletBatches,
    TripletVAE,
    means,
    negative_elbo,
    random_triplets,
    triplet_accuracy,
)
from tupelo.models import mlp_vae
from tupelo.training import Progress, Settings, fit

RUNS = Path(__file__).parent / "runs" / "tvae"
SWEEP_EVERY = 100  # steps between test sweeps of the notebook, which we assume
VALIDATION = 1 / 6  # of the training pictures: 10,000
TRAINING, JUDGING = 0, 1  # what a list is for, part of its seed


@dataclass(frozen=True)
class Variant:
    """What is trained.

    Attributes:
        margin: of the triplets.
        weights: of the ELBO, the triplets, the norms.
        shuffled: training triplets follow shuffled labels.
        fresh: they are drawn anew for every epoch.
        schedule: of the rate.
    """

    margin: float = 0.2
    weights: tuple[float, float, float] = (0.01, 1.0, 0.001)
    shuffled: bool = False
    fresh: bool = False
    schedule: str = "constant"


@dataclass(frozen=True)
class Plan:
    """How long, and on what.

    Attributes:
        dataset: "mnist" or "fashion_mnist".
        epochs: of the training triplets.
        triplets: of training.
        judged: triplets that judge.
        per_batch: triplets a step.
        choosing: a sixth of the training pictures judges, and the test part is not looked at.
    """

    dataset: str = "mnist"
    epochs: int = 10
    triplets: int = 60_000
    judged: int = 10_000
    per_batch: int = 120
    choosing: bool = False


TVAE = Variant()
VAE = Variant(weights=(0.01, 0.0, 0.0))
VARIANTS = {
    "VAE": VAE,
    "TVAE": TVAE,
    "TVAE, margin 0": replace(TVAE, margin=1e-9),
    "TVAE, margin 1": replace(TVAE, margin=1.0),
    "TVAE without norms": replace(TVAE, weights=(0.01, 1.0, 0.0)),
    "TVAE, shuffled labels": replace(TVAE, shuffled=True),
    "triplets alone": replace(TVAE, weights=(0.0, 1.0, 0.001)),
}


@lru_cache(2)
def load(dataset: str, choosing: bool) -> ImageData:
    """Training pictures, and those that judge."""
    return known(
        dataset, root=os.environ["TUPELO_DATA"], validation=VALIDATION if choosing else 0.0
    )


def parts(plan: Plan) -> tuple[ImageSet, ImageSet]:
    """Pictures that train and pictures that judge."""
    data = load(plan.dataset, plan.choosing)
    judged = data.validation if plan.choosing else data.test
    assert judged is not None
    return data.train, judged


def cell(key: str, variant: Variant, plan: Plan, seed: int, folder: Path = RUNS) -> dict:
    """Train one model, from wherever an interrupted run stands, and measure it."""
    train, judged = parts(plan)
    if variant.shuffled:
        train = train.relabelled(np.random.default_rng(seed).permutation(train.labels))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = mlp_vae()
    elbo, triplet, norms = variant.weights
    objective = TripletVAE(
        margin=variant.margin, weight_vae=elbo, weight_triplet=triplet, weight_regulariser=norms
    )
    options = {"per_batch": plan.per_batch, "seed": seed}
    if variant.fresh:
        batches = FreshTriplets(train.labels, plan.triplets, **options)
    else:
        drawn = random_triplets(train.labels, plan.triplets, seed=(seed, TRAINING))
        batches = TripletBatches(drawn, **options)
    judging = random_triplets(judged.labels, plan.judged, seed=(0, JUDGING))  # one for all seeds
    sweeps: list[float] = []

    def sweep(progress: Progress) -> None:
        if progress.epoch == plan.epochs and progress.batch % SWEEP_EVERY == 0:
            sweeps.append(triplet_accuracy(means(model, judged), judging).accuracy)

    run = fit(
        model,
        objective,
        train,
        batches=batches,
        settings=Settings(
            epochs=plan.epochs,
            lr=1e-3,
            weight_decay=0.0,
            optimizer="adam",
            schedule=variant.schedule,
            precision="float32",
            log_every=20,
            seed=seed,
            tensorboard=False,
        ),
        out=folder / key,
        progress=sweep,
    )
    rows = means(model, judged)
    found = triplet_accuracy(rows, judging)
    lower = negative_elbo(model, judged)
    steps = run.steps // run.epochs
    seen = fmean(
        row["triplet_accuracy"]
        for row in run.history
        if row["step"] > run.steps - steps and "triplet_accuracy" in row
    )
    sweeps = sweeps or [found.accuracy]  # of a run that had ended before
    near = retrieval(embed(model, judged, precision="32-true").z, judged.labels).as_dict()
    return {
        "accuracy": found.accuracy,
        "ties": found.ties,
        "swapped": triplet_accuracy(rows, judging.swapped()).accuracy,
        "negative elbo": lower.total,
        "reconstruction": lower.reconstruction,
        "kl": lower.kl,
        "train accuracy": seen,
        "sweeps": sweeps,
        "as logged": as_logged(plan, seen, fmean(sweeps), len(sweeps)),
        "recall@1": near["recall@1"],
        "map@r": near["map@r"],
        "training seconds": run.seconds,
        "steps": run.steps,
    }


def as_logged(plan: Plan, seen: float, swept: float, count: int) -> float:
    """What a running mean over the last epoch's triplets and so many test sweeps shows."""
    trained, judged = plan.triplets, count * plan.judged
    return (trained * seen + judged * swept) / (trained + judged)
