"""Training of one cell of `benchmarks/fewshot_results.py`: Conv4 with prototypes or attention."""

import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tupelo.data import ImageSet, known, rotated
from tupelo.fewshot import (
    ByEpisodes,
    EpisodeHead,
    Episodes,
    FewShot,
    FullContext,
    LargeMargin,
    Layout,
    Matching,
    OnEpisodes,
    Prototypical,
    conv4,
    draw_episodes,
    embed_once,
    prototype_triplets,
    score,
)
from tupelo.training import Judge, Settings, fit

RUNS = Path(__file__).parent / "runs" / "fewshot"
TASKS = {"5w1s": (5, 1), "5w5s": (5, 5), "20w1s": (20, 1), "20w5s": (20, 5)}
UNIT_MARGIN = 0.2  # of unit points, which the paper does not print


@dataclass(frozen=True)
class Plan:
    """How the cells of a table are trained and judged.

    Attributes:
        dataset: "omniglot", or "tiny_imagenet_fewshot".
        size: side in pixels.
        ways: classes of a training episode.
        shots: of each.
        queries: of each.
        steps: of training, an episode each.
        halve_every: steps after which the rate 1e-3 is halved.
        every: steps between two validations, which choose the weights.
        tasks: what is tested.
        turned: also test with characters in four turns as four classes, as published.
        width: channels of every block.
        episodes: of every test.
    """

    dataset: str
    size: int
    ways: int
    shots: int
    queries: int
    steps: int
    halve_every: int
    every: int
    tasks: tuple[str, ...] = tuple(TASKS)
    turned: bool = False
    width: int = 64
    episodes: int = 2000


@dataclass(frozen=True)
class Method:
    """A head and a loss of its points.

    Attributes:
        similarity: of rows.
        margin: "", "rule" (large margin) or "unit" (triplets of unit points).
        matching: attention to the support instead of prototypes.
        context: with full context embeddings.
    """

    similarity: str = "euclidean"
    margin: str = ""
    matching: bool = False
    context: bool = False


METHODS = {
    "PN, Euclidean": Method(),
    "L-PN, Euclidean": Method(margin="rule"),
    "PN, Euclidean + normalised triplet": Method(margin="unit"),
    "PN, cosine": Method("cosine"),
    "L-PN, cosine": Method("cosine", "rule"),
    "PN, cosine + normalised triplet": Method("cosine", "unit"),
    "Matching network": Method("cosine", matching=True),
    "Matching network, FCE": Method("cosine", matching=True, context=True),
}


@lru_cache(1)
def load(dataset: str, size: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Pictures to train on, to choose weights on and to test on; characters train in four turns."""
    characters = dataset == "omniglot"
    data = known(
        dataset,
        root=os.environ["TUPELO_DATA"],
        size=size,
        channels=1 if characters else 3,
        validation=0.1 if characters else 0.0,
    )
    assert data.validation is not None
    assert data.test is not None
    return rotated(data.train) if characters else data.train, data.validation, data.test


def build(method: Method, plan: Plan, channels: int) -> tuple[FewShot, OnEpisodes]:
    """A network with random weights, and what it is trained on."""
    encoder = conv4(channels, width=plan.width, size=plan.size)
    head = _head(method, encoder.num_features)
    ink = channels == 1  # black on white becomes ink = 1
    model = FewShot(
        encoder,
        head,
        mean=(1.0,) if ink else (0.485, 0.456, 0.406),
        std=(-1.0,) if ink else (0.229, 0.224, 0.225),
    )
    layout = Layout(plan.ways, plan.shots, plan.queries)
    return model, OnEpisodes(head, layout, margin=_margin(method, layout))


def _head(method: Method, dim: int) -> EpisodeHead:
    if method.matching:
        return Matching(method.similarity, fce=FullContext(dim) if method.context else None)
    return Prototypical(method.similarity)


def _margin(method: Method, layout: Layout) -> LargeMargin | None:
    if not method.margin:
        return None
    table = prototype_triplets(layout)
    if method.margin == "unit":
        return LargeMargin(table, margin=UNIT_MARGIN, normalised=True)
    return LargeMargin(table)


def cell(key: str, method: str, plan: Plan, seed: int, folder: Path = RUNS) -> dict:
    """Train one learner, from wherever an interrupted run stands, and test it."""
    train, validation, test = load(plan.dataset, plan.size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, objective = build(METHODS[method], plan, train.channels)
    ways, shots = TASKS[plan.tasks[-1]]
    judged = Layout(ways, min(shots, plan.shots), 15)
    run = fit(
        model,
        objective,
        train,
        batches=Episodes(train.labels, objective.layout, per_epoch=plan.every, seed=seed),
        judge=Judge(ByEpisodes(validation, judged, episodes=200), "accuracy"),
        settings=Settings(
            steps=plan.steps,
            lr=1e-3,
            weight_decay=0.0,
            optimizer="adam",
            schedule="halving",
            halve_every=plan.halve_every,
            log_every=plan.every,
            seed=seed,
            tensorboard=False,
        ),
        out=folder / key,
    )
    margin = float(getattr(objective.margin, "present_margin", 0.0))
    found = {"training seconds": run.seconds, "steps": run.steps, "present margin": margin}
    found |= {"validation": run.best["accuracy"]}
    found["curve"] = [row["val/accuracy"] for row in run.history if "val/accuracy" in row]
    found["test"] = tested(model, test, plan)
    if plan.turned:
        found["turned"] = tested(model, rotated(test), plan)
    return found


def tested(model: FewShot, pictures: ImageSet, plan: Plan) -> dict[str, dict[str, float]]:
    """Accuracy and interval of every task; each picture is embedded once for all of them."""
    rows = embed_once(model, pictures)
    found = {}
    for name in plan.tasks:
        ways, shots = TASKS[name]
        layout = Layout(ways, shots, 15)
        drawn = draw_episodes(pictures.labels, layout, plan.episodes)
        accuracy = score(model.head, rows, pictures.labels, drawn, layout)
        found[name] = {"accuracy": accuracy.mean, "interval": accuracy.interval}
    return found


def cost(ways: int, shots: int, queries: int, repeats: int = 25) -> dict[str, float]:
    """Milliseconds of a step with and without margin, taking turns; medians."""
    plan = Plan("omniglot", 28, ways, shots, queries, 1, 1, 1)
    train = load(plan.dataset, plan.size)[0]
    batches = Episodes(train.labels, Layout(ways, shots, queries)).epoch(0)[:repeats]
    methods = {name: METHODS[f"{name}, Euclidean"] for name in ("PN", "L-PN")}
    made = {}
    for name, method in methods.items():
        model, objective = build(method, plan, train.channels)
        made[name] = model, objective, torch.optim.Adam(model.parameters(), fused=True)
    times: dict[str, list[float]] = {name: [] for name in made}
    for rows in batches:
        batch = train.batch(rows)
        for name, (model, objective, optimizer) in made.items():
            begun = time.perf_counter()
            optimizer.zero_grad()
            objective(model(batch.images), batch.labels).total.backward()
            optimizer.step()
            times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: float(np.median(each[2:])) for name, each in times.items()}
