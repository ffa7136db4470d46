"""Training of one cell of `benchmarks/ensembles.py`: methods, their choices, cost of a step."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice, product
from statistics import fmean, median

import torch
from torch import Tensor, nn

from ensembles_data import CUT, Source, load, network
from tupelo import data, evaluation, inference, losses
from tupelo.ensembles import Boosted, attention_based
from tupelo.errors import TrainingDiverged
from tupelo.models import Embedder, Ensemble, attentive, divided, many_heads
from tupelo.objectives import OnPairs, PerLearner
from tupelo.types import LossValue, Objective

DIM, ROWS = 512, 512  # of the joined embedding; rows embedded at once
LATE = 10  # statistics are means over the last so many steps


@dataclass(frozen=True)
class Plan:
    """How a cell is trained.

    Attributes:
        inputs: "maps", over which the global part trains, or "features", over which only the
            linear layer does.
        steps: optimiser steps; the last weights are measured.
        classes: P of a batch.
        per_class: K of a batch.
        rates: of Adam for new layers, falling along a cosine; pretrained ones have a tenth. The
            best is chosen on validation.
    """

    inputs: str = "maps"
    steps: int = 100
    classes: int = 8
    per_class: int = 4
    rates: tuple[float, ...] = (2e-4, 1e-3, 5e-3)


MAPS = Plan()
FEATURES = Plan("features", steps=800, classes=16, rates=(2e-4, 1e-3))


@dataclass(frozen=True)
class Method:
    """One row of the grid.

    Attributes:
        kind: "single", "heads", "attention" or "divided".
        learners: among which the dimensions are divided.
        deviance: binomial deviance; else the contrastive loss of squared distances.
        divergence: weight of the divergence of learners.
        rule: of boosting; None for none.
        diversity: of `Boosted`.
        weights: of the diversity that are tried; the best is chosen on validation.
        chosen_as: the method whose rate is taken; "" chooses its own.
    """

    kind: str
    learners: int = 1
    deviance: bool = False
    divergence: float = 0.0
    rule: str | None = None
    diversity: str = "none"
    weights: tuple[float, ...] = (0.0,)
    chosen_as: str = ""


DIVERSE = (1e-3, 1e-2, 1e-1)
CONTRASTIVE = {
    "single, contrastive": Method("single"),
    "4-heads": Method("heads", 4),
    "2-heads": Method("heads", 2, chosen_as="4-heads"),
    "8-heads": Method("heads", 8, chosen_as="4-heads"),
    "4-heads + L_div": Method("heads", 4, divergence=1.0, chosen_as="4-heads"),
    "ABE-4": Method("attention", 4, divergence=1.0),
    "ABE-4, no L_div": Method("attention", 4),
    "ABE-1": Method("attention", 1),
    "ABE-2": Method("attention", 2, divergence=1.0, chosen_as="ABE-4"),
    "ABE-2, no L_div": Method("attention", 2, chosen_as="ABE-4, no L_div"),
    "ABE-8": Method("attention", 8, divergence=1.0, chosen_as="ABE-4"),
    "ABE-8, no L_div": Method("attention", 8, chosen_as="ABE-4, no L_div"),
}
_BOOSTED = Method("divided", 3, deviance=True, rule="eta")
DEVIANCE = {
    "single, deviance": Method("single", deviance=True),
    "BIER, no boost": Method("divided", 3, deviance=True),
    "BIER, additive": replace(_BOOSTED, rule="additive"),
    "BIER, eta": _BOOSTED,
    "BIER, eta + activation": replace(
        _BOOSTED, diversity="activation", weights=DIVERSE, chosen_as="BIER, eta"
    ),
    "BIER, eta + adversarial": replace(
        _BOOSTED, diversity="adversarial", weights=DIVERSE, chosen_as="BIER, eta"
    ),
}
METHODS = CONTRASTIVE | DEVIANCE
ON_MAPS = (*CONTRASTIVE, *(name for name, method in DEVIANCE.items() if method.diversity == "none"))


def build_model(method: Method, source: Source) -> Embedder | Ensemble:
    """The network of a method, pretrained as far as it can be."""
    single = network(source, DIM)
    match method.kind:
        case "heads":
            return many_heads(single, method.learners, cut=CUT)
        case "attention":
            return attentive(single, method.learners, cut=CUT)
        case "divided":
            return divided(single, learners=method.learners)
        case _:
            return single


def build_objective(method: Method, model: nn.Module, weight: float) -> Objective:
    """The objective of a method; boosted and plain deviance count the same pairs."""
    inner = OnPairs(losses.BinomialDeviance() if method.deviance else losses.SquaredContrastive())
    if method.kind == "single":
        return inner
    if method.rule is not None:
        return Boosted(
            inner, model, rule=method.rule, exclude_diag_from_norm=True, constraint_weight=1.0,
            diversity=method.diversity, diversity_weight=weight, norm_axis=_axis(method),
        )  # fmt: skip
    if method.kind == "divided":
        return PerLearner(inner, method.learners)
    return attention_based(inner, method.learners, divergence=method.divergence)


def _axis(method: Method) -> str | None:
    return None if method.diversity == "none" else "output"


# Training ----------------------------------------------------------------------------------------


def cell(dataset: str, name: str, plan: Plan, seed: int, weights: tuple[float, ...] = ()) -> dict:
    """Train with each choice; the test classes are measured with the best on validation."""
    source = load(dataset, plan.inputs)
    method = METHODS[name]
    tried = []
    for rate, weight in product(plan.rates, weights or method.weights):
        score, model, late, seconds = fit(source, method, plan, seed, rate, weight)
        tried.append((score, {"rate": rate, "weight": weight}, model, late, seconds))
    score, chosen, model, late, seconds = max(tried, key=lambda one: one[0])
    found = measure(model, *source.task.test)
    choices = [{**one[1], "validation map@r": one[0]} for one in tried]
    return found | chosen | {
        "validation map@r": score, "tried": choices, "statistics": late,
        "processor seconds a step": seconds,
    }  # fmt: skip


def measure(model: Embedder | Ensemble, inputs: Tensor, labels: Tensor) -> dict:
    """Retrieval of the whole and of each learner, and how alike learners are."""
    z = embed(model, inputs)
    widths = model.learners.widths if isinstance(model, Ensemble) else (model.dim,)
    return evaluation.learners(z, labels, widths).as_dict()


def fit(
    source: Source, method: Method, plan: Plan, seed: int, rate: float, weight: float
) -> tuple[float, Embedder | Ensemble, dict[str, float], float]:
    """Train with one choice.

    Returns:
        MAP@R of the validation classes, -1 after divergence; the model; the means of the
        statistics over the last steps; processor seconds a step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(method, source)
        objective = build_objective(method, model, weight)
    steps = taking_steps(model, objective, source, plan, seed, rate)
    late: list[dict[str, float]] = []
    started = time.process_time()
    try:
        for number, value in enumerate(islice(steps, plan.steps)):
            if number >= plan.steps - LATE:
                parts = {name: float(part) for name, part in value.parts.items()}
                late.append({**parts, **value.statistics})
    except TrainingDiverged:
        return -1.0, model, {}, 0.0
    seconds = (time.process_time() - started) / plan.steps
    statistics = {name: fmean(one[name] for one in late) for name in late[-1]}
    inputs, labels = source.task.validation
    score = evaluation.retrieval(embed(model, inputs), labels).map_at_r
    return score, model, statistics, seconds


def taking_steps(
    model: Embedder | Ensemble,
    objective: Objective,
    source: Source,
    plan: Plan,
    seed: int,
    rate: float,
) -> Iterator[LossValue]:
    """Take optimiser steps for as long as somebody asks."""
    inputs, labels = source.task.train
    pretrained = [p for name, p in model.named_parameters() if _pretrained(name)]
    known = set(map(id, pretrained))
    fresh = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": fresh}, *objective.parameter_groups()]
    if pretrained:
        groups.append({"params": pretrained, "lr": rate / 10})
    optimizer = torch.optim.Adam(groups, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.steps)
    generator = torch.Generator().manual_seed(seed)
    batches = data.ClassBalanced(
        labels.numpy(), classes=plan.classes, per_class=plan.per_class, seed=seed
    )
    model.train()
    objective.train()
    for rows in (torch.from_numpy(rows) for number in count() for rows in batches.epoch(number)):
        output = model(inputs[rows].float())
        value = objective(output, labels[rows], items=rows, generator=generator)
        if not torch.isfinite(value.total):
            raise TrainingDiverged(f"rate {rate} is too high")
        optimizer.zero_grad()
        value.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        yield value


def _pretrained(name: str) -> bool:
    """Parameters of the global part and of its copies; heads and masks are new."""
    return name.startswith(("backbone.", "embedder.backbone.", "trunk.", "deep.", "spatial."))


@torch.no_grad()
def embed(model: Embedder | Ensemble, inputs: Tensor) -> Tensor:
    """Unit rows of all inputs, those of learners joined."""
    rows = partial(inference.rows_of, scales=inference.scales_of(model))
    with inference.evaluating(model):
        return torch.cat([rows(model(chunk.float())) for chunk in inputs.split(ROWS)])


# Cost --------------------------------------------------------------------------------------------


def costs(names: tuple[str, ...], plan: Plan, *, turns: int, steps: int, dataset: str) -> dict:
    """Milliseconds of a step of methods that take turns; medians over turns."""
    source = load(dataset, plan.inputs)
    running = {}
    for name in names:
        torch.manual_seed(0)
        method = METHODS[name]
        model = build_model(method, source)
        objective = build_objective(method, model, method.weights[0])
        long = replace(plan, steps=steps * (turns + 2))
        running[name] = taking_steps(model, objective, source, long, 0, 1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(turns + 1):
        for name, taken in running.items():
            started = time.perf_counter()
            for _ in islice(taken, steps):
                pass
            if turn:  # the first warms up
                seconds[name].append((time.perf_counter() - started) / steps)
    first = seconds[names[0]]
    return {
        "milliseconds": {name: 1e3 * median(times) for name, times in seconds.items()},
        "ratio": {
            name: median(t / p for t, p in zip(times, first, strict=True))
            for name, times in seconds.items()
        },
    }
