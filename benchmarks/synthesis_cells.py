"""Training of one cell of `benchmarks/synthesis.py`: data, network, objectives, cost of a step.

The backbone has been paid for: pictures are frozen features. What trains is the end of an embedder,
f from features to the space y in which HDML's generator works, and the head g from y to the
embedding, batch normalisation and a linear layer.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import retrieval_grid
from tupelo import data, evaluation, inference, losses
from tupelo.errors import TrainingDiverged
from tupelo.models import ConvNet, Embedder, embedder
from tupelo.models.embedder import Architecture
from tupelo.objectives import ComparingObjective, OnPairs, OnTuples
from tupelo.selection import AsDrawn, PerAnchor
from tupelo.synthesis import HardnessAware, IntraClassAugmented
from tupelo.types import Embedded, Objective

Y, Z, ROWS = 256, 128, 512  # widths of f's output and of the embedding; rows embedded at once


class Task(NamedTuple):
    """Frozen features and class numbers of the classes to train, to choose and to test on."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Plan:
    """How a cell is trained.

    Attributes:
        steps: optimiser steps; the last weights are measured.
        epoch: steps between two calls of `begin_epoch`.
        batches: "p x k", "triplets" or "n-pair".
        classes: P of a batch, or the tuples n of one.
        per_class: K of a batch.
        rates: of Adam; the best is chosen on validation.
        cosine: the rates fall along a cosine.
        f: "relu", a fresh linear layer and ReLU; "linear", without ReLU; or "pretrained", a
            residual block that starts at zero over the y first principal components.
        y: width of f's output.
        z: width of the embedding.
        keep: train on the first so many classes only; None takes all.
        spread: features are centred and brought to this standard deviation; None leaves them.
        batch_norm: the head has it.
    """

    steps: int = 240
    epoch: int = 12
    batches: str = "p x k"
    classes: int = 16
    per_class: int = 4
    rates: tuple[float, ...] = (5e-4, 2e-3)
    cosine: bool = True
    f: str = "relu"
    y: int = Y
    z: int = Z
    keep: int | None = None
    spread: float | None = None
    batch_norm: bool = True


Build = Callable[[Embedder, int], Objective]
"""`(model, number of classes) -> objective`."""

# Objectives --------------------------------------------------------------------------------------

METHODS = ("triplet", "N-pair", "margin", "contrastive", "MS", "hardest triplets")
ON_PAIRS = ("contrastive", "MS", "hardest triplets")
HARDNESS_AWARE = {"HDML": {}, "HDML, detached": {"detach_synthetic": True}}
AUGMENTED = {
    "IAA": {},
    "IAA, no correction": {"correction": False},
    "IAA, global": {"variance": "global"},
    "IAA, identity": {"variance": "identity"},
}
# published ratios in units that do not depend on the batch: 1e4 of 120 to 128 rows
RATIOS = {"generator_reduction": "row", "soft_scale": 80.0, "beta": 80.0}


def base(method: str, n_classes: int, *, easiest: bool = False) -> ComparingObjective:
    """The plain objective of a method, with random or easiest positives, or all for pair losses."""
    positive = "easiest" if easiest else "random"
    match method:
        case "triplet":
            return OnTuples(PerAnchor(positive, "random"), losses.Triplet())
        case "N-pair":
            chosen = PerAnchor(positive, "random", negatives=3)
            return OnTuples(chosen, losses.NPair(), normalize=False)
        case "margin":
            return OnTuples(PerAnchor(positive, "distance-weighted"), losses.Margin(n_classes))
        case "contrastive":
            loss: nn.Module = losses.CosineContrastive()
        case "MS":
            loss = losses.MultiSimilarity()
        case _:
            loss = losses.HardestNegativeTriplets()
    return OnPairs(loss, positives="easiest" if easiest else None)


def variants(method: str) -> tuple[str, ...]:
    """What a method is run with; HDML needs tuples."""
    return ("plain", "EPS", *(() if method in ON_PAIRS else HARDNESS_AWARE), *AUGMENTED)


def build(method: str, variant: str, plan: Plan, model: Embedder, n_classes: int) -> Objective:
    """The objective of one cell of the grid."""
    inner = base(method, n_classes, easiest=variant == "EPS")
    if variant in HARDNESS_AWARE:
        options = {**RATIOS, **HARDNESS_AWARE[variant]}
        return HardnessAware(inner, model, n_classes, hidden=plan.y, **options)
    if variant in AUGMENTED:
        third = plan.steps // plan.epoch // 3
        options = {"start_after": third, **AUGMENTED[variant]}
        return IntraClassAugmented(inner, n_classes, plan.z, **options)
    return inner


OFFICIAL = {"reduction": "sum", "weight_decay": 5e-3}
REMOVALS = {
    "plain": None,
    "HDML": {},
    "no J_soft": {"soft_share": 0.0},
    "no J_recon": {"soft_share": 1.0},
    "detached": {"detach_synthetic": True},
    "no pull": {"alpha": 0.0},
}


def drawn(plan: Plan, options: dict | None, model: Embedder, n_classes: int) -> Objective:
    """The published objectives on batches drawn as triplets or as n pairs; HDML with options."""
    if plan.batches == "triplets":
        loss: nn.Module = losses.Triplet(1.0, squared=True)
    else:
        loss = losses.NPair(3e-3 / 4, l2_everywhere=True)
    inner = OnTuples(AsDrawn(plan.batches), loss, normalize=False)
    return inner if options is None else HardnessAware(inner, model, n_classes, **options)


# Training ----------------------------------------------------------------------------------------


def grid_cell(dataset: str, method: str, variant: str, plan: Plan, seed: int) -> dict:
    """One cell of the grid, with the best rate of the plan."""
    return cell(dataset, plan, seed, partial(build, method, variant, plan))


def start(dataset: str, plan: Plan, kind: str, seed: int) -> dict:
    """The frozen features, or the network before the first step, on the test classes."""
    task = load(dataset)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(task, plan)
    z = task.test[0] if kind == "frozen features" else embed(model, task.test[0])
    return evaluation.retrieval(z, task.test[1], ks=(1, 2, 4, 8)).as_dict()


def cell(dataset: str, plan: Plan, seed: int, make: Build) -> dict:
    """Train with each rate; the test classes are measured with the best on validation."""
    task = components(dataset, plan.y) if plan.f == "pretrained" else load(dataset)
    if plan.keep is not None:
        task = task._replace(train=_first(task.train, plan.keep))
    if plan.spread is not None:
        inputs = task.train[0]
        centre, factor = inputs.mean(0), plan.spread / inputs.std()
        task = Task(*(((x - centre) * factor, y) for x, y in task))
    tried = [(*fit(task, plan, seed, rate, make), rate) for rate in plan.rates]
    score, model, statistics, rate = max(tried, key=lambda one: one[0])
    report = evaluation.retrieval(embed(model, task.test[0]), task.test[1], ks=(1, 2, 4, 8))
    chosen = {"rate": rate, "validation map@r": score, "collapsed": report.collapsed}
    return {**report.as_dict(), **chosen, "statistics": statistics}


def fit(
    task: Task, plan: Plan, seed: int, rate: float, make: Build
) -> tuple[float, Embedder, dict[str, float]]:
    """Train with one rate.

    Returns:
        MAP@R of the validation classes, -1 after divergence; the model; the means of the
        objective's statistics over the last tenth of the steps.
    """
    labels = task.train[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(task, plan)
        objective = make(model, int(labels.max()) + 1)
    steps = taking_steps(model, objective, task, plan, seed, rate)
    late: list[dict[str, float]] = []
    try:
        for number, value in enumerate(islice(steps, plan.steps)):
            if number >= plan.steps - plan.steps // 10:
                numbers = {name: float(part) for name, part in value.parts.items()}
                late.append({**numbers, **value.statistics})
    except TrainingDiverged:
        return -1.0, model, {}
    statistics = {name: fmean(one.get(name, 0.0) for one in late) for name in late[-1]}
    score = evaluation.retrieval(embed(model, task.validation[0]), task.validation[1]).map_at_r
    return score, model, statistics


def taking_steps(
    model: Embedder, objective: Objective, task: Task, plan: Plan, seed: int, rate: float
) -> Iterator:
    """Take optimiser steps for as long as somebody asks, `begin_epoch` and all."""
    inputs, labels = task.train
    groups = [{"params": model.parameters()}, *objective.parameter_groups()]
    optimizer = torch.optim.Adam(groups, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    objective.train()
    for batches in epochs(labels.numpy(), plan, seed):
        with inference.evaluating(model):
            objective.begin_epoch(partial(embedded, model, task.train))
        for rows in map(torch.from_numpy, batches):
            value = objective(
                run(model, inputs[rows]), labels[rows], items=rows, generator=generator
            )
            optimizer.zero_grad()
            value.total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            if plan.cosine:
                schedule.step()
            yield value
        objective.end_epoch()


def epochs(labels: np.ndarray, plan: Plan, seed: int) -> Iterator[list[np.ndarray]]:
    """Batches without end, cut into the plan's epochs."""
    if plan.batches == "triplets":
        made = data.Triplets(labels, plan.classes, seed=seed)
    elif plan.batches == "n-pair":
        made = data.NPair(labels, plan.classes, seed=seed)
    else:
        made = data.ClassBalanced(labels, classes=plan.classes, per_class=plan.per_class, seed=seed)
    stream = (rows for number in count() for rows in made.epoch(number))
    while True:
        yield list(islice(stream, plan.epoch))


class Residual(nn.Module):
    """A block beside the identity that starts at zero: a pretrained f before the first step."""

    def __init__(self, width: int):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        nn.init.zeros_(self.block[-1].weight)

    def forward(self, y: Tensor) -> Tensor:
        return y + self.block(y)


def network(task: Task, plan: Plan) -> Embedder:
    """f and g over features."""
    width = task.train[0].shape[1]
    made: dict[str, Callable[[], nn.Module]] = {
        "relu": lambda: nn.Sequential(nn.Linear(width, plan.y), nn.ReLU()),
        "linear": lambda: nn.Linear(width, plan.y),
        "pretrained": lambda: Residual(width),
    }
    architecture = Architecture(
        backbone="custom", features=plan.y, dim=plan.z, channels=width, size=None,
        mean=(0.0,) * width, std=(1.0,) * width, batch_norm=plan.batch_norm,
    )  # fmt: skip
    return Embedder(Flat(made[plan.f]()), architecture)


class Flat(nn.Module):
    """A module of rows where pictures are expected."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(pictures.flatten(1))


def run(model: Embedder, features: Tensor) -> Embedded:
    """Features as an embedder takes pictures, of one pixel."""
    return model(features[:, :, None, None])


@torch.no_grad()
def embedded(model: Embedder, part: tuple[Tensor, Tensor]) -> Iterator[tuple[Embedded, Tensor]]:
    """A part in batches, embedded."""
    for inputs, labels in zip(part[0].split(ROWS), part[1].split(ROWS), strict=True):
        yield run(model, inputs), labels


def embed(model: Embedder, inputs: Tensor) -> Tensor:
    """Unit rows of all inputs."""
    with inference.evaluating(model):
        return torch.cat([output.z for output, _ in embedded(model, (inputs, inputs))])


# Cost --------------------------------------------------------------------------------------------


def costs(method: str, plan: Plan, *, turns: int, steps: int, dataset: str = "cars196") -> dict:
    """Milliseconds of a step of every variant of a method, taking turns; medians over turns.

    IAA is measured while it augments; what its passes over the training set cost is apart.
    """
    task = load(dataset)
    running, passes = {}, {}
    for variant in variants(method):
        torch.manual_seed(0)
        model = network(task, plan)
        objective = build(
            method, variant, replace(plan, steps=0), model, int(task.train[1].max()) + 1
        )
        long = replace(plan, epoch=steps * (turns + 2))
        running[variant] = taking_steps(model, objective, task, long, 0, 1e-4)
        started = time.perf_counter()
        objective.begin_epoch(partial(embedded, model, task.train))
        passes[variant] = time.perf_counter() - started
    seconds: dict[str, list[float]] = {variant: [] for variant in running}
    for turn in range(turns + 1):
        for variant, taken in running.items():
            started = time.perf_counter()
            for _ in islice(taken, steps):
                pass
            if turn:  # the first warms up
                seconds[variant].append((time.perf_counter() - started) / steps)
    return {
        "milliseconds": {variant: 1e3 * median(times) for variant, times in seconds.items()},
        "ratio": {
            variant: median(t / p for t, p in zip(times, seconds["plain"], strict=True))
            for variant, times in seconds.items()
        },
        "pass milliseconds": {variant: 1e3 * taken for variant, taken in passes.items()},
    }


# Data --------------------------------------------------------------------------------------------


@lru_cache(1)
def load(dataset: str) -> Task:
    """Features of a data set of TUPELO_DATA, made once and kept."""
    if dataset.startswith("omniglot"):
        return _pixels() if dataset == "omniglot_pixels" else _omniglot()
    found = retrieval_grid.load(dataset)
    return Task(
        (found.inputs, found.labels), found.validation, (found.test_inputs, found.test_labels)
    )


@lru_cache(1)
@torch.no_grad()
def components(dataset: str, width: int) -> Task:
    """The first principal components of the training features, turned at random, of spread 1."""
    task = load(dataset)
    features = task.train[0].double()
    centre = features.mean(0)
    centred = features - centre
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -width:]
    # turned, lest the normalisation of the head weighs all components alike
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator).double()).Q
    map_ = directions @ turn / (centred @ directions).std()
    return Task(*((((x.double() - centre) @ map_).float(), y) for x, y in task))


OTHER_ALPHABETS = 10  # of the 25 training alphabets, for the network that makes the features

TEST_CHARACTERS = 200


def _omniglot() -> Task:
    """512 features of a small ConvNet trained on alphabets that are not used any further."""
    other, sets, labels = omniglot_sets()
    kept = Path(os.environ.get("TUPELO_FEATURES", "runs/features")) / "omniglot.npz"
    if not kept.exists():
        made = convnet(other)
        with torch.no_grad():
            features = [
                torch.cat([made(one.batch(rows).images).features for rows in chunks(len(one))])
                for one in sets
            ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(new, *[one.numpy() for one in features])
        new.replace(kept)
    found = np.load(kept)
    features = [torch.from_numpy(found[name]) for name in found.files]
    task = Task(*zip(features, labels, strict=True))
    return task._replace(test=_first(task.test, TEST_CHARACTERS))


def omniglot_sets() -> tuple[data.ImageSet, list[data.ImageSet], list[Tensor]]:
    """Pictures of the other alphabets; those to train, choose and test on, and their labels."""
    parts = data.known("omniglot", size=28)
    alphabet = [name.rsplit("/", 1)[0] for name in parts.train.class_names]
    first = sorted(set(alphabet))[:OTHER_ALPHABETS]
    other = np.array([name in first for name in alphabet])[parts.train.labels]
    sets = [parts.train.subset(np.flatnonzero(~other)), parts.validation, parts.test]
    labels = [torch.from_numpy(np.unique(one.labels, return_inverse=True)[1]) for one in sets]
    return parts.train.subset(np.flatnonzero(other)), sets, labels


def _pixels() -> Task:
    """Omniglot at 14 px, for a network from scratch."""
    parts = data.known("omniglot", size=28)
    sets = parts.train, parts.validation, parts.test
    inputs = [
        torch.cat(
            [nn.functional.avg_pool2d(one.batch(rows).images, 2) for rows in chunks(len(one))]
        )
        for one in sets
    ]
    labels = [torch.from_numpy(np.asarray(one.labels)) for one in sets]
    task = Task(*zip([x.flatten(1) for x in inputs], labels, strict=True))
    return task._replace(test=_first(task.test, TEST_CHARACTERS))


def _first(part: tuple[Tensor, Tensor], classes: int) -> tuple[Tensor, Tensor]:
    kept = part[1] < classes
    return part[0][kept], part[1][kept]


def chunks(n: int) -> list[np.ndarray]:
    """All rows, so many at once."""
    return np.split(np.arange(n), range(ROWS, n, ROWS))


def omniglot_body() -> ConvNet:
    """Four blocks whose features are averages of quarters of the last map."""
    body = ConvNet(channels=1, widths=(16, 32, 64, 128))
    body.blocks[-1][-1] = nn.AdaptiveAvgPool2d(2)
    return body


def convnet(pictures: data.ImageSet) -> Embedder:
    """The network: 300 steps of 24 x 4, multi-similarity."""
    torch.manual_seed(0)
    model = embedder(omniglot_body(), features=512, dim=64, channels=1)
    labels = np.unique(pictures.labels, return_inverse=True)[1]
    batches = data.ClassBalanced(labels, classes=24, per_class=4)
    objective = OnPairs(losses.MultiSimilarity())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    stream = (rows for number in count() for rows in batches.epoch(number))
    for rows in islice(stream, 300):
        batch = pictures.batch(rows)
        value = objective(model(batch.images), torch.from_numpy(labels[rows]), items=batch.items)
        optimizer.zero_grad()
        value.total.backward()
        optimizer.step()
        schedule.step()
    return model.eval()
