"""Third part of `benchmarks/training.py`: a step of ABE-8, its learners in one batch or in turn.

The sides take turns on the same fixed pictures; a step is forward, backward and optimiser:

* one: a single embedder of the same width.
* batched: `tupelo.models.attentive` with eight learners, whose masked maps go through the global
  part in one call, which frozen batch normalisation allows.
* in turn: the same model, with eight separate calls of the global part.
* floor: eight separate passes of the bare global part over fixed maps, forward and backward.
* floor, batched: one such pass over the maps of eight learners.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

import tupelo as tp
from tupelo.ensembles import attention_based
from tupelo.losses import SquaredContrastive
from tupelo.models import Attentive
from tupelo.objectives import OnPairs
from tupelo.types import Embedded, Objective

LEARNERS, WIDTH, BATCH = 8, 512, 32
SIDES = ("one", "batched", "in turn", "floor", "floor, batched")


@dataclass(frozen=True)
class EnsembleCase:
    """One network at one size.

    Attributes:
        name: of the backbone.
        size: side of the pictures, pixels.
        steps: timed steps a turn.
    """

    name: str
    size: int
    steps: int


CASES = (EnsembleCase("resnet18", 64, 4), EnsembleCase("googlenet", 96, 3))


def measure(case: EnsembleCase, turns: int) -> dict:
    """Seconds a step of every side, and of the ensemble's forward passes alone."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, 3, case.size, case.size).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) // 4
    single = tp.models.embedder(case.name, dim=WIDTH, freeze_batchnorm=True).train()
    ensemble = tp.models.attentive(
        tp.models.embedder(case.name, dim=WIDTH, freeze_batchnorm=True), LEARNERS
    ).train()
    objective = attention_based(OnPairs(SquaredContrastive()), LEARNERS)
    with torch.no_grad():
        maps = ensemble.spatial(images)
    alone, together = _passes(ensemble.deep, maps)
    sides = {
        "one": _step(single, single, OnPairs(SquaredContrastive()), images, labels),
        "batched": _step(ensemble, ensemble, objective, images, labels),
        "in turn": _step(
            ensemble, lambda pictures: in_turn(ensemble, pictures), objective, images, labels
        ),
        "floor": alone,
        "floor, batched": together,
        "forward, batched": _forward(lambda: ensemble(images)),
        "forward, in turn": _forward(lambda: in_turn(ensemble, images)),
    }
    with torch.no_grad():
        pairs = zip(ensemble(images), in_turn(ensemble, images), strict=True)
        difference = max(float((one.z - other.z).abs().max()) for one, other in pairs)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(turns + 1):
        for side, run in sides.items():
            started = time.perf_counter()
            for _ in range(case.steps if turn else 1):
                run()
            if turn:  # the first warms up
                seconds[side].append((time.perf_counter() - started) / case.steps)
        print(f"{case.name} {case.size} px, turn {turn} of {turns}", flush=True)
    return {"case": asdict(case), "seconds": seconds, "difference": difference}


def in_turn(model: Attentive, images: Tensor) -> tuple[Embedded, ...]:
    """The ensemble with one call of the global part for each learner."""
    shared = model.spatial(images)
    attended = model.trunk(shared)
    return tuple(model.embed(model.deep(shared * mask(attended))) for mask in model.masks)


def _step(
    model: nn.Module,
    run: Callable[[Tensor], Embedded | tuple[Embedded, ...]],
    objective: Objective,
    images: Tensor,
    labels: Tensor,
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        objective(run(images), labels).total.backward()
        optimizer.step()

    return step


def _passes(deep: nn.Module, maps: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """The bare global part: a pass for each learner, and one for all."""
    maps = maps.detach().requires_grad_()  # as masked maps need a gradient
    tall = maps.detach().repeat(LEARNERS, 1, 1, 1).requires_grad_()

    def alone() -> None:
        sum(deep(maps).sum() for _ in range(LEARNERS)).backward()

    def together() -> None:
        deep(tall).sum().backward()

    return alone, together


def _forward(run: Callable[[], object]) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            run()

    return forward


def table(rows: list[dict]) -> str:
    """The measurements as Markdown, milliseconds."""
    shown = (*SIDES, "forward, batched", "forward, in turn")
    lines = [
        f"| network | px | {' | '.join(shown)} | in turn / batched | batched / floor |",
        "|" + "---|" * (len(shown) + 4),
    ]
    for row in rows:
        middle = {side: 1e3 * statistics.median(row["seconds"][side]) for side in shown}
        cells = [row["case"]["name"], row["case"]["size"], *(f"{middle[s]:.0f}" for s in shown)]
        cells += [
            f"{ratio(row, 'in turn', 'batched'):.2f}",
            f"{ratio(row, 'batched', 'floor'):.2f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def ratio(row: dict, one: str, other: str) -> float:
    """Median over turns of one side over another."""
    pairs = zip(row["seconds"][one], row["seconds"][other], strict=True)
    return statistics.median(a / b for a, b in pairs)


def text(part: dict) -> str:
    """The section of the page on ensembles."""
    made, rows = part["made"], part["rows"]
    verdicts = [
        f"{row['case']['name']} {row['case']['size']} px "
        f"{'cheaper' if ratio(row, 'in turn', 'batched') > 1 else '**not** cheaper'} "
        f"({ratio(row, 'in turn', 'batched'):.2f} times)"
        for row in rows
    ]
    apart = max(row["difference"] for row in rows)
    return f"""
## Ensembles

Made by `{made["command"]}` on {made["date"]} in {made["minutes"]} minutes; {made["machine"]},
{made["threads"]} threads, wall time, milliseconds, medians of {made["turns"]} turns.

{table(rows)}

A step of ABE-{LEARNERS} ({WIDTH} dimensions in all, {BATCH} pictures, frozen batch normalisation)
with the masked maps of all learners in one call of the global part, against a call for each learner
in turn: {", ".join(verdicts)}. Both embed alike within {apart:.0e}. "one" is a single embedder as
wide; the floor is {LEARNERS} bare passes of the global part, forward and backward, without trunk,
masks, loss and optimiser.
{made.get("note", "")}
"""
