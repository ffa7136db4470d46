"""DREML in `benchmarks/ensembles.py`: members on merged classes, and the curve over their number.

A member is a fresh hidden layer and a linear layer over frozen pooled features, trained as the
paper has it: shuffled batches, softmax over meta-classes, SGD with momentum, steps at 50 % and
80 %. In the comparison of all systems at one size each member trains the global part instead.
"""

import time
from dataclasses import dataclass
from itertools import count, islice
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from ensembles_cells import ROWS, embed, measure
from ensembles_data import Source, load, network
from tupelo import data, evaluation
from tupelo.ensembles import MetaClassification, meta_classes
from tupelo.errors import TrainingDiverged
from tupelo.models import Embedder, Members, members
from tupelo.models.embedder import Architecture
from tupelo.objectives import OnClasses

HIDDEN = 256
COUNTS = (1, 2, 4, 8, 12, 24)  # members joined and measured, the first so many of a bag


@dataclass(frozen=True)
class MembersPlan:
    """How members are trained.

    Attributes:
        inputs: see `ensembles_cells.Plan`.
        n_meta: D; 0 merges nothing, D = C.
        learners: L.
        shared: all members learn the same merging.
        steps: optimiser steps of each member.
        batch: pictures a step.
        rates: of SGD, pretrained layers have a tenth; the best is chosen on validation.
        counted: measure every number of members in `COUNTS`, and as many as have the dimensions
            of one classifier of all classes.
    """

    inputs: str = "features"
    n_meta: int = 12
    learners: int = 24
    shared: bool = False
    steps: int = 150
    batch: int = 64
    rates: tuple[float, ...] = (0.003, 0.01, 0.1)
    counted: bool = True


def members_cell(dataset: str, plan: MembersPlan, seed: int) -> dict:
    """Train members with each rate; the test classes are measured with the best."""
    source = load(dataset, plan.inputs)
    tried = []
    for rate in plan.rates:
        try:
            found = train(source, plan, seed, rate)
            validated = evaluation.retrieval(
                embed(found[0], source.task.validation[0]), source.task.validation[1]
            ).map_at_r
        except TrainingDiverged:
            continue
        tried.append((validated, rate, *found))
    score, rate, model, seconds = max(tried, key=lambda one: one[0])
    found = measure(model, *source.task.test)
    if plan.counted:
        found["curve"] = _curve(model, source)
    choices = [{"rate": one[1], "validation map@r": one[0]} for one in tried]
    return found | {
        "rate": rate, "weight": 0.0, "validation map@r": score, "tried": choices,
        "classes": _classes(source), "dimensions": model.learners.widths[0],
        "processor seconds a step": seconds,
    }  # fmt: skip


def train(source: Source, plan: MembersPlan, seed: int, rate: float) -> tuple[Members, float]:
    """All members, one after the other, and processor seconds a step of one."""
    classes = _classes(source)
    n_meta = plan.n_meta or classes
    bags = meta_classes(classes, n_meta, plan.learners, seed=seed)
    if plan.shared:
        bags = np.repeat(bags[:, :1], plan.learners, axis=1)
    started = time.process_time()
    trained = [
        _member(source, plan, n_meta, torch.from_numpy(bags[:, number]), [seed, number], rate)
        for number in range(plan.learners)
    ]
    seconds = (time.process_time() - started) / plan.steps / plan.learners
    return members(trained), seconds


def _member(
    source: Source, plan: MembersPlan, n_meta: int, bag: Tensor, seeds: list[int], rate: float
) -> Embedder:
    own = int(np.random.default_rng(seeds).integers(2**31))
    with torch.random.fork_rng():
        torch.manual_seed(own)
        model = _fresh(source, n_meta) if plan.inputs == "features" else network(source, n_meta)
    inputs, labels = source.task.train
    if plan.inputs == "maps":
        model.backbone = nn.Sequential(model.backbone, _Scaled(model.backbone, inputs[:ROWS]))
    objective = OnClasses(MetaClassification(n_meta))
    groups = [{"params": model.head.parameters()}]
    if own_layers := list(model.backbone.parameters()):
        new = plan.inputs == "features"
        groups.append({"params": own_layers, "lr": rate if new else rate / 10})
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    at = [plan.steps // 2, plan.steps * 4 // 5]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, at, gamma=0.1)
    batches = data.Shuffled(len(labels), batch_size=plan.batch, seed=own)
    stream = (rows for number in count() for rows in batches.epoch(number))
    model.train()
    for rows in map(torch.from_numpy, islice(stream, plan.steps)):
        value = objective(model(inputs[rows].float()), bag[labels[rows]])
        if not torch.isfinite(value.total):
            raise TrainingDiverged(f"rate {rate} is too high")
        optimizer.zero_grad()
        value.total.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


class _Scaled(nn.Module):
    """Features divided by their root mean square before training.

    Those of a Caffe network are in the hundreds, and logits of them saturate the softmax at once;
    other methods compare unit rows.
    """

    def __init__(self, backbone: nn.Module, inputs: Tensor):
        super().__init__()
        with torch.no_grad():
            self.scale = float(backbone(inputs.float()).square().mean().sqrt())

    def forward(self, features: Tensor) -> Tensor:
        return features / self.scale


def _fresh(source: Source, n_meta: int) -> Embedder:
    """A hidden layer over pooled features."""
    width = source.features
    architecture = Architecture(
        backbone="custom", features=HIDDEN, dim=n_meta, channels=width, size=1,
        mean=(0.0,) * width, std=(1.0,) * width,
    )  # fmt: skip
    hidden = nn.Sequential(nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU())
    return Embedder(hidden, architecture)


def _classes(source: Source) -> int:
    return int(source.task.train[1].max()) + 1


def _curve(model: Members, source: Source) -> dict[str, dict[str, float]]:
    """R@1 and MAP@R of the first L members, and of their mean."""
    inputs, labels = source.task.test
    z = embed(model, inputs)
    width = model.learners.widths[0]
    same_size = max(1, _classes(source) // width)
    alone = [
        evaluation.retrieval(part, labels, ks=(1,)).recall[1] for part in z.split(width, dim=1)
    ]
    found = {}
    for learners in sorted({*COUNTS, same_size}):
        if learners > len(alone):
            continue
        report = evaluation.retrieval(z[:, : learners * width], labels, ks=(1,))
        found[str(learners)] = {
            "recall@1": report.recall[1],
            "map@r": report.map_at_r,
            "mean_recall@1": fmean(alone[:learners]),
            "best_recall@1": max(alone[:learners]),
        }
    return found
