"""Class losses at many classes, time and memory, against the bare product and against the peer.

    python benchmarks/classes.py            # 10 minutes; writes docs/results/classes-speed.*
    python benchmarks/classes.py --quick    # 1,000 classes, prints only

The floor is `logits = z @ W.T; logits.backward(G)`: three products, and nothing of a loss. Floor,
ours and the peer (pytorch-metric-learning) take turns in one process; one thread in processor time,
the smallest of the rounds. Memory is the high-water mark of the process over its size just before
the call: the gradient of W, which all need, is in it.
"""

import argparse
import time
from collections.abc import Callable

import torch

from losses import peak_megabytes, peer_version, take_turns
from results import Page
from tupelo import losses
from tupelo.losses import AngularSoftmax, CosineMargin, ExponentialMean, Mining
from tupelo.objectives import OnClasses
from tupelo.types import Embedded

BATCH, WIDTH = 256, 512
CLASSES = (10_000, 100_000)
ROUNDS = {1_000: 5, 10_000: 9, 100_000: 3}
AIM = 2.0
FLOOR = "bare product"
OURS: dict[str, Callable[[int], torch.nn.Module]] = {
    "softmax": lambda c: AngularSoftmax(c, WIDTH),
    "basic constraint": lambda c: AngularSoftmax(c, WIDTH, constraint=CosineMargin()),
    "hard-mined": lambda c: AngularSoftmax(
        c, WIDTH, constraint=CosineMargin(mining=Mining("violators"))
    ),
    "normalised + constraint": lambda c: AngularSoftmax(
        c, WIDTH, constraint=CosineMargin(), scale=30.0
    ),
    "normalised + exponential mean": lambda c: AngularSoftmax(
        c, WIDTH, constraint=ExponentialMean(), scale=30.0
    ),
    "exponential mean": lambda c: AngularSoftmax(c, WIDTH, constraint=ExponentialMean()),
    "normalised softmax": lambda c: losses.NormalizedSoftmax(c, WIDTH),
    "CosFace": lambda c: losses.CosFace(c, WIDTH),
    "ArcFace": lambda c: losses.ArcFace(c, WIDTH),
}


def peers() -> dict[str, Callable[[int], torch.nn.Module]]:
    """The peer's losses, or none where it is not installed."""
    try:
        from pytorch_metric_learning import losses as peer
    except ImportError:
        return {}
    return {
        "peer: normalised softmax": lambda c: peer.NormalizedSoftmaxLoss(c, WIDTH),
        "peer: CosFace": lambda c: peer.CosFaceLoss(c, WIDTH),
        "peer: ArcFace": lambda c: peer.ArcFaceLoss(c, WIDTH),
    }


def steps_of(n_classes: int) -> dict[str, Callable[[], None]]:
    """A forward and a backward of floor, ours and the peer, each with weights of its own."""
    draw = torch.Generator().manual_seed(0)
    raw = torch.randn(BATCH, WIDTH, generator=draw)
    labels = torch.randint(n_classes, (BATCH,), generator=draw)
    weights = torch.randn(n_classes, WIDTH, generator=draw).requires_grad_()
    upstream = torch.randn(BATCH, n_classes, generator=draw)

    def floor() -> None:
        rows = raw.clone().requires_grad_()
        (rows @ weights.T).backward(upstream)
        weights.grad = None

    def ours(build) -> Callable[[], None]:
        objective = OnClasses(build(n_classes))

        def step() -> None:
            rows = raw.clone().requires_grad_()
            objective(Embedded.of(rows), labels).total.backward()
            objective.zero_grad()

        return step

    def theirs(build) -> Callable[[], None]:
        loss = build(n_classes)

        def step() -> None:
            rows = raw.clone().requires_grad_()
            loss(rows, labels).backward()
            loss.zero_grad()

        return step

    return (
        {FLOOR: floor}
        | {name: ours(build) for name, build in OURS.items()}
        | {name: theirs(build) for name, build in peers().items()}
    )


def measure(n_classes: int) -> dict[str, dict[str, float]]:
    """Milliseconds, multiple of the floor and peak memory of each."""
    torch.set_num_threads(1)
    steps = steps_of(n_classes)
    for step in steps.values():  # touches every page of weights and libraries once
        step()
    memory = {name: peak_megabytes(step) for name, step in steps.items()}
    times = take_turns(steps, ROUNDS[n_classes], time.process_time)
    return {
        name: {
            "ms": round(times[name], 1),
            "ratio": round(times[name] / times[FLOOR], 2),
            "megabytes": round(memory[name]),
        }
        for name in steps
    }


def rows_of(found: dict[int, dict]) -> list[list[str]]:
    """A row for each loss."""
    rows = []
    for name in next(iter(found.values())):
        row = [name]
        for each in found.values():
            one = each[name]
            row.append(f"{one['ms']:,.0f} ms / {one['ratio']:.2f}x / {one['megabytes']:,} MB")
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="1,000 classes, no page")
    if parser.parse_args().quick:
        for row in rows_of({1_000: measure(1_000)}):
            print(*row)
        return
    page = Page("classes-speed", "Class losses at many classes")
    found = {n: page.once(f"{n} classes", lambda n=n: {"all": measure(n)})["all"] for n in CLASSES}
    page.table(
        "Forward and backward",
        f"Batch {BATCH}, width {WIDTH}: time / multiple of the bare product / peak memory. The aim "
        f"is {AIM:g}x. One thread, processor time; {peer_version()}.",
        ["", *(f"{n:,} classes" for n in found)],
        rows_of(found),
    )
    page.write("python benchmarks/classes.py", "0", data="Random rows.")


if __name__ == "__main__":
    main()
