"""Training of one cell of `benchmarks/reid.py`."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tupelo.data import ImageSet, images, known
from tupelo.inference import embed
from tupelo.recipes import reid_building as building
from tupelo.recipes.reid_calibration import calibrate
from tupelo.recipes.reid_judging import Judged, judge
from tupelo.recipes.reid_recipe import ReidRecipe
from tupelo.training import fit

RUNS = Path(__file__).parent / "runs" / "reid"
MARKET = "TUPELO_MARKET"  # folder of Market-1501, which may not be passed on


@dataclass(frozen=True)
class Plan:
    """How a cell is trained.

    Attributes:
        dataset: "market" or "lfw".
        network: "reid-small" or "reid".
        size: height and width in pixels.
        epochs: over the training crops.
        identities: in a batch, four crops of each.
    """

    dataset: str
    network: str = "reid-small"
    size: tuple[int, int] = (64, 32)
    epochs: int = 10
    identities: int = 32


def cell(key: str, loss: str, plan: Plan, seed: int, folder: Path = RUNS) -> dict:
    """Train on all identities that may train, and measure on the others; nothing is chosen."""
    train, query, gallery = parts(plan.dataset, plan.size)
    asked = ReidRecipe(
        source=plan.dataset, network=plan.network, size=plan.size, loss=loss, epochs=plan.epochs,
        identities=plan.identities, seed=seed, tensorboard=False,
    )  # fmt: skip
    recipe = building.resolve(building.with_network(asked), train)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = building.build_model(recipe)
    before = _judged(model, query, gallery)
    run = fit(
        model,
        building.build_objective(recipe, train),
        train,
        batches=building.build_batches(recipe, train),
        settings=building.build_settings(recipe),
        augment=building.build_augmentation(recipe, train),
        out=folder / key,
    )
    found = _judged(model, query, gallery)
    distances = calibrate(embed(model, query).z.numpy(), query.labels)
    return {
        **{f"rank-{k}": found.report.rank(k) for k in (1, 5, 10)},
        "map": found.report.map,
        "map trapezoid": found.trapezoid,
        "rank-1 before": before.report.rank(1),
        "map before": before.report.map,
        "queries": found.report.n_queries - found.report.n_unmatched,
        "gallery": found.report.n_gallery,
        "identities": train.n_classes,
        "crops": len(train),
        "same distance": distances.same_distance,
        "far distance": distances.far_distance,
        "training seconds": run.seconds,
        "steps": run.steps,
    }


def _judged(model: torch.nn.Module, query: ImageSet, gallery: ImageSet | None) -> Judged:
    seen = {"query": query.paths} | ({} if gallery is None else {"gallery": gallery.paths})
    cameras = building.cameras_of(seen)
    there = cameras.get("gallery")
    return judge(model, query, gallery, query_cameras=cameras["query"], gallery_cameras=there)


@lru_cache(2)
def parts(dataset: str, size: tuple[int, int]) -> tuple[ImageSet, ImageSet, ImageSet | None]:
    """What trains, what searches, and what is searched (None: each other)."""
    if dataset == "market":
        data = images(
            os.environ[MARKET], split="given", size=size, resize="squash", validation=0, channels=3
        )
        assert data.test is not None
        return data.train, data.test, data.gallery
    every = known("lfw", root=os.environ["TUPELO_DATA"], size=size, validation=0, test=0).train
    counts = np.bincount(every.labels)
    several = np.flatnonzero(counts > 1)
    # a fixed half of the people, whatever the seed of the training
    trains = np.random.default_rng(0).permutation(several)[: len(several) // 2]
    mine = np.isin(every.labels, trains)
    judged = (counts[every.labels] > 1) & ~mine
    return every.subset(np.flatnonzero(mine)), every.subset(np.flatnonzero(judged)), None
