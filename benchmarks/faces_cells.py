"""Training of one cell of `benchmarks/faces.py`: people of one half, pairs of the other."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tupelo import models
from tupelo.data import ClassBalanced, ImageSet, known
from tupelo.data.official import lfw
from tupelo.evaluation import fold_accuracy, pair_scores, roc
from tupelo.inference import embed
from tupelo.objectives import OnClasses
from tupelo.recipes.face_features import BothSides
from tupelo.recipes.faces import VARIANTS
from tupelo.recipes.methods import LOSSES
from tupelo.training import Settings, fit

RUNS = Path(__file__).parent / "runs" / "faces"
DIM, RATE = 128, 0.05
FARS = (0.1, 0.01)


@dataclass(frozen=True)
class Plan:
    """How a cell is trained.

    Attributes:
        dataset: "lfw" or "orl_faces".
        size: side in pixels.
        epochs: over the training pictures.
        classes: people in a batch.
        per_class: pictures of each.
    """

    dataset: str
    size: int = 32
    epochs: int = 15
    classes: int = 32
    per_class: int = 4


def cell(key: str, variant: str, plan: Plan, half: int, seed: int, folder: Path = RUNS) -> dict:
    """Train on the people of one half and compare those of the other, who do not overlap."""
    train, test, pairs, same, folds = halves(plan.dataset, plan.size, half)
    stated = VARIANTS[variant]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.embedder(
            "convnet", dim=DIM, size=plan.size, channels=train.channels, batch_norm=True
        )
        # class weights learn at the rate of the network in all variants
        options = {"learning_rate": RATE, **stated.get("loss_options", {})}
        loss = LOSSES[stated["loss"]](train.n_classes, DIM, **options)
    run = fit(
        model,
        OnClasses(loss),
        train,
        batches=ClassBalanced(
            train.labels, classes=plan.classes, per_class=plan.per_class, seed=seed
        ),
        settings=Settings(
            epochs=plan.epochs,
            lr=RATE,
            optimizer="sgd",
            weight_decay=5e-4,
            clip_norm=5.0,
            log_every=20,
            seed=seed,
            tensorboard=False,
        ),
        augment=flipped,
        out=folder / key,
    )
    rows = embed(BothSides(model), test).z.numpy()
    scores = pair_scores(rows, pairs)
    accuracy, curve = fold_accuracy(scores, same, folds), roc(scores, same)
    # what was last logged of each; rows of validation hold nothing of the loss
    last = {name: value for row in run.history for name, value in row.items() if value is not None}
    return {
        "per fold": list(accuracy.per_fold),
        "auc": curve.auc,
        "eer": curve.eer,
        "tar": {f"{far:g}": curve.tar_at(far) for far in FARS},
        "training seconds": run.seconds,
        "people": train.n_classes,
        "intra": last.get("intra cosine"),
        "inter": last.get("inter cosine"),
        "margin": last.get("margin"),
    }


def flipped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the pictures mirrored."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def halves(dataset: str, size: int, half: int):
    """Pictures that train, pictures that are compared, and the pairs with their folds."""
    return _lfw(size, half) if dataset == "lfw" else _orl(size, half)


@lru_cache(2)
def _lfw(size: int, half: int):
    """Sets 1-5 of people.txt train and folds 6-10 of pairs.txt are tested, or the other way."""
    root = Path(os.environ["TUPELO_DATA"]) / "lfw"
    sets = people_sets(root / "people.txt")
    listed = lfw.folds(root / "pairs.txt")
    tested = range(6, 11) if half == 0 else range(1, 6)
    training = {name for number, names in sets.items() if number not in tested for name in names}
    every = known("lfw", root=root.parent, size=size, validation=0, test=0).train
    names = np.array(every.class_names)[every.labels]
    number = {path.rpartition("/")[2]: row for row, path in enumerate(every.paths)}
    kept = np.isin(listed.folds, list(tested))
    pairs = np.array([number[name.rpartition("/")[2]] for name in listed.names])[listed.pairs[kept]]
    shown = np.unique(pairs)
    overlap = set(names[shown]) & training
    if overlap:
        raise ValueError(f"{len(overlap)} people train and are tested: {sorted(overlap)[:3]}")
    counts = np.bincount(every.labels)
    train = every.subset(
        np.flatnonzero(np.isin(names, list(training)) & (counts[every.labels] > 1))
    )
    return (
        train,
        every.subset(shown),
        np.searchsorted(shown, pairs),
        listed.same[kept],
        listed.folds[kept],
    )


def people_sets(path: Path) -> dict[int, list[str]]:
    """The ten sets of people of LFW's second view, by number from 1."""
    lines = path.read_text().splitlines()
    sets, at = {}, 1
    for number in range(1, int(lines[0]) + 1):
        count = int(lines[at])
        sets[number] = [line.split("\t")[0] for line in lines[at + 1 : at + 1 + count]]
        at += 1 + count
    return sets


@lru_cache(2)
def _orl(size: int, half: int):
    """Twenty people train; the twenty others are compared, ten of them in each of two folds."""
    every: ImageSet = known(
        "orl_faces", root=os.environ["TUPELO_DATA"], size=size, validation=0, test=0
    ).train
    first = every.labels < 20
    train, test = (every.subset(np.flatnonzero(first == kept)) for kept in (half == 0, half == 1))
    fold = test.labels // 10
    one, other = np.triu_indices(len(test), k=1)
    inside = fold[one] == fold[other]
    one, other = one[inside], other[inside]
    same = test.labels[one] == test.labels[other]
    rng = np.random.default_rng(half)
    chosen = np.concatenate(
        [
            rng.choice(rows, int((same & (fold[one] == number)).sum()), replace=False)
            for number in (0, 1)
            for rows in [np.flatnonzero(~same & (fold[one] == number))]
        ]
        + [np.flatnonzero(same)]
    )
    pairs = np.stack([one, other], 1)[chosen]
    return train, test, pairs, same[chosen], fold[one][chosen]
