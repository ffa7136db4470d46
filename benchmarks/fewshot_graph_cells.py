"""Training of one cell of `benchmarks/fewshot_graphs.py`: data, network, objective, judgement."""

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from tupelo.data import ImageSet, known, rotated
from tupelo.fewshot import (
    ByEpisodes,
    Episodes,
    FewShot,
    GraphHead,
    LargeMargin,
    Layout,
    NormalisedContrastive,
    OnEpisodes,
    PointLoss,
    TripletTable,
    arc_face,
    cos_face,
    evaluate,
    graph_encoder,
    graph_triplets,
    norm_face,
)
from tupelo.training import Judge, Settings, fit

RUNS = Path(__file__).parent / "runs" / "graphs"
SCALE = 10.0  # of cosines, which the paper does not print
WEIGHT_DECAY = {28: 0.0, 84: 1e-6}  # published


@dataclass(frozen=True)
class Plan:
    """How a cell is trained and judged.

    Attributes:
        dataset: "omniglot" (28 px) or "tiny_imagenet_fewshot" (84 px).
        steps: of training.
        per_batch: episodes a step, each with one query.
        width: channels of the first convolution, and dimensions of an embedding at 28 px.
        growth: features that a block of the head adds.
        halve_every: steps after which the rate 1e-3 is halved.
        every: steps between two validations, which choose the weights.
        validation: episodes of one query each time.
        test: episodes of one query, once.
    """

    dataset: str = "omniglot"
    steps: int = 20_000
    per_batch: int = 40
    width: int = 16
    growth: int = 12
    halve_every: int = 10_000
    every: int = 500
    validation: int = 2000
    test: int = 10_000


@dataclass(frozen=True)
class Method:
    """What is trained: options of the head, a loss of its points or of its answers.

    Attributes:
        head: options of `GraphHead`.
        margin: "", or a name in `MARGINS`.
        weight: of the margin.
        warmup: share of the steps in which it rises from 0.
        loss: "", or a name in `LOSSES`.
    """

    head: dict = field(default_factory=dict)
    margin: str = ""
    weight: float = 1.0
    warmup: float = 0.0
    loss: str = ""


class Task(NamedTuple):
    """Which episodes: n ways of k shots, of which so many are unlabelled."""

    ways: int
    shots: int
    unlabelled: int = 0


METHODS = {
    "GNN": Method(),
    "L-GNN": Method(margin="rule"),
    "L-GNN, warm-up": Method(margin="rule", warmup=0.2),
    "L-GNN, lambda 0.1": Method(margin="rule", weight=0.1),
    "L-GNN, m = 10": Method(margin="10"),
    "L-GNN, last block": Method({"embed": "last"}, margin="rule"),
    "GNN + normalised triplet": Method(margin="unit"),
    "GNN + normalised contrastive": Method(margin="contrastive"),
    "GNN + NormFace": Method({"scale": SCALE}, loss="norm"),
    "GNN + CosFace": Method({"scale": SCALE}, loss="cos"),
    "GNN + ArcFace": Method({"scale": SCALE}, loss="arc"),
    "GNN, matrix of ones": Method({"second_operator": "ones"}),
    "GNN, uniform labels": Method({"unknown": "uniform"}),
}
LOSSES = {"norm": norm_face, "cos": cos_face, "arc": arc_face}


def margin_of(name: str, table: TripletTable) -> PointLoss:
    """The loss of points of that name."""
    match name:
        case "rule":
            return LargeMargin(table)
        case "unit":
            return LargeMargin(table, margin=0.2, normalised=True)
        case "contrastive":
            return NormalisedContrastive(table)
        case _:
            return LargeMargin(table, margin=float(name))


def build(method: Method, task: Task, plan: Plan, size: int) -> tuple[FewShot, OnEpisodes]:
    """A network with random weights, and what it is trained on."""
    head = GraphHead(
        plan.width if size == 28 else 2 * plan.width,
        task.ways,
        growth=plan.growth,
        **{"variant": "omniglot" if size == 28 else "miniimagenet", **method.head},
    )
    encoder = graph_encoder(size, width=plan.width, dim=head.dim)
    channels = encoder.channels
    model = FewShot(encoder, head, mean=(0.5,) * channels, std=(0.5,) * channels)  # into [-1, 1]
    layout = layout_of(task, plan)
    margin = margin_of(method.margin, graph_triplets(layout)) if method.margin else None
    objective = OnEpisodes(
        head,
        layout,
        margin=margin,
        weight=method.weight,
        warmup_steps=round(method.warmup * plan.steps),
        loss=LOSSES[method.loss](head) if method.loss else None,
    )
    return model, objective


def layout_of(task: Task, plan: Plan) -> Layout:
    """Of a batch: single-query episodes."""
    return Layout(
        task.ways,
        task.shots,
        1,
        per_batch=plan.per_batch,
        unlabelled=task.unlabelled,
        query_ways=1,
    )


@lru_cache(1)
def load(dataset: str) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Pictures to train on, to choose weights on and to test on; characters in four turns."""
    if dataset == "omniglot":
        data = known(dataset, root=os.environ["TUPELO_DATA"], size=28, channels=1, validation=0.1)
    else:
        data = known(dataset, root=os.environ["TUPELO_DATA"], size=84, channels=3)
    assert data.validation is not None
    assert data.test is not None
    train = rotated(data.train) if dataset == "omniglot" else data.train
    return train, data.validation, data.test


def cell(key: str, method: str, task: Task, plan: Plan, seed: int, folder: Path = RUNS) -> dict:
    """Train one learner, from wherever an interrupted run stands, and test it."""
    train, validation, test = load(plan.dataset)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, objective = build(METHODS[method], task, plan, train.size[0])
    judged = Layout(task.ways, task.shots, 1, unlabelled=task.unlabelled, query_ways=1)
    run = fit(
        model,
        objective,
        train,
        batches=Episodes(train.labels, objective.layout, per_epoch=plan.every, seed=seed),
        judge=Judge(ByEpisodes(validation, judged, episodes=plan.validation), "accuracy"),
        settings=Settings(
            steps=plan.steps,
            lr=1e-3,
            weight_decay=WEIGHT_DECAY[train.size[0]],
            optimizer="adam",
            schedule="halving",
            halve_every=plan.halve_every,
            log_every=plan.every,
            seed=seed,
            tensorboard=False,
        ),
        out=folder / key,
    )
    found = evaluate(model, test, judged, episodes=plan.test)
    rows = [row for row in run.history if "val/accuracy" in row]
    curve = {
        "step": [row["step"] for row in rows],
        "validation": [row["val/accuracy"] for row in rows],
        "loss": [row.get("episodes") for row in rows],
        "margin": [row.get("margin") for row in rows],
        "active": [row.get("margin/active") for row in rows],
    }
    return {
        "accuracy": found.mean,
        "interval": found.interval,
        "validation": run.best["accuracy"],
        "training seconds": run.seconds,
        "present margin": float(getattr(objective.margin, "present_margin", 0.0)),
        "curve": curve,
    }
