"""Images per second of training from JPEG files: Tupelo against the plain float32 loop of peers.

    python benchmarks/training.py            about 8 minutes on 2 idle cores; writes docs/results
    python benchmarks/training.py --quick    under a minute; prints only
    python benchmarks/training.py --synthesis    about 5 minutes; the cost of HDML and IAA alone
    python benchmarks/training.py --ensembles    about 3 minutes; the cost of ABE-8 alone

Both sides train the same timm network on the same files with the same batches of P x K, random
resized crops and flips of the same strength, multi-similarity loss and AdamW:

* Tupelo: `tupelo.data.images` and `tupelo.fit` with their defaults, timed by its progress callback.
* Peer: what the examples of pytorch-metric-learning do: `ImageFolder`, torchvision transforms,
  `MPerClassSampler`, a `DataLoader` with 2 workers, its loss, float32.
* Floor: forward, backward and optimiser step of the network alone on one fixed batch, in both
  precisions. What a side takes longer than the floor of its precision it spends outside.

All of them take turns in one process, each turn after two untimed steps; medians over the turns.

With --synthesis the sides are objectives: the same `tupelo.fit` with a plain loss, with IAA and
with HDML around it. With --ensembles they are steps of ABE-8, learners in one batch or in turn, see
`training_ensembles.py`. Each part of the page is kept until it is measured again.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import training_ensembles
import tupelo as tp
from results import FOLDER, machine
from tupelo.inference import fast_precision
from tupelo.synthesis import HardnessAware, IntraClassAugmented

THREADS = 2
PEER_WORKERS = 2
CLASSES, PER_CLASS = 16, 4
DIM = 128
LEARNING_RATE = 1e-4
UNTIMED_STEPS = 2
FILE_SIDE = 256


@dataclass(frozen=True)
class Case:
    """One network at one size.

    Attributes:
        name: timm name.
        size: side of the pictures in the network, pixels.
        steps: timed steps a turn.
        aim: Tupelo over peer.
    """

    name: str
    size: int
    steps: int
    aim: float


CASES = (
    Case("resnet18", 64, 12, 1.5),
    Case("resnet18", 128, 8, 2.3),
    Case("resnet50", 128, 4, 2.3),
)


def main() -> None:
    """Measure all cases and write the page, or with --quick the first one and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="first case, fewer turns, no page")
    parser.add_argument("--synthesis", action="store_true", help="only the cost of HDML and IAA")
    parser.add_argument("--ensembles", action="store_true", help="only the cost of ABE-8")
    parser.add_argument("--note", default="", help="a remark for the part that is measured")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    cases = [Case("resnet18", 64, 6, 1.5)] if options.quick else CASES
    turns = 2 if options.quick else options.turns
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if options.ensembles:
            some = training_ensembles.CASES[: 1 if options.quick else None]
            part = {"rows": [training_ensembles.measure(case, turns) for case in some]}
            print(training_ensembles.table(part["rows"]))
        else:
            write_pictures(Path(folder), classes=64, per_class=16)
            if options.synthesis:
                part = {"rows": synthesis(cases[0], Path(folder), turns)}
                print(synthesis_table(part["rows"]))
            else:
                part = {"rows": [measure(case, Path(folder), turns) for case in cases]}
                print(as_table(part["rows"]))
    if options.quick:
        return
    name = "synthesis" * options.synthesis or "ensembles" * options.ensembles
    command = "python benchmarks/training.py" + f" --{name}" * bool(name)
    part["made"] = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": THREADS,
        "turns": turns,
        "minutes": round((time.perf_counter() - started) / 60, 1),
    } | ({"note": options.note} if options.note else {})
    kept = FOLDER / "training-speed.json"
    numbers = json.loads(kept.read_text()) if kept.exists() else {}
    numbers.update({name: part} if name else part)
    kept.write_text(json.dumps(numbers, indent=1) + "\n")
    write_page(numbers)


def write_pictures(folder: Path, *, classes: int, per_class: int) -> None:
    """JPEG files with texture at many scales, so that they compress and decode like photographs."""
    rng = np.random.default_rng(0)
    place = np.arange(FILE_SIDE) / FILE_SIDE
    for number in range(classes):
        across, down = rng.normal(0, 1, (2, 24)) * np.geomspace(4, 300, 24)
        strength = (90 / np.sqrt(1 + np.hypot(across, down)))[:, None]
        rows = np.outer(down, place)
        (folder / f"class{number:03d}").mkdir()
        for picture in range(per_class):
            pixels = np.empty((FILE_SIDE, FILE_SIDE, 3))
            for channel in range(3):
                # sin(row + column) for all waves at once, as products of its parts
                columns = np.outer(across, place) + rng.uniform(0, 2 * math.pi, (24, 1))
                pixels[..., channel] = (strength * np.cos(rows)).T @ np.sin(columns)
                pixels[..., channel] += (strength * np.sin(rows)).T @ np.cos(columns)
            pixels += 128 + 6 * rng.standard_normal(pixels.shape, dtype=np.float32)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / f"class{number:03d}" / f"{picture:03d}.jpg", quality=90)


def measure(case: Case, folder: Path, turns: int) -> dict:
    """Medians over turns of the seconds a step takes on each side."""
    started = time.perf_counter()
    train = tp.data.images(folder, size=case.size, validation=0, test=0).train
    reading = time.perf_counter() - started
    sides: dict[str, Callable[[int], float]] = {
        "tupelo": lambda steps: tupelo_step(case, train, steps),
        "peer": lambda steps: peer_step(case, folder, steps),
        "floor_bf16": lambda steps: floor_step(case, steps, bf16=True),
        "floor_float32": lambda steps: floor_step(case, steps, bf16=False),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(turns):
        for side, run in sides.items():
            seconds[side].append(run(case.steps))
        latest = {side: round(times[-1], 3) for side, times in seconds.items()}
        print(f"{case.name} {case.size} px, turn {turn + 1} of {turns}: {latest}", flush=True)
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    network = tp.models.embedder(case.name, dim=DIM)
    floor = "floor_bf16" if fast_precision(network) == "bf16-mixed" else "floor_float32"
    return {
        "case": asdict(case),
        "seconds": seconds,
        "images_per_second": {side: CLASSES * PER_CLASS / value for side, value in middle.items()},
        "faster": middle["peer"] / middle["tupelo"],
        "outside_tupelo": 1 - middle[floor] / middle["tupelo"],
        "outside_peer": 1 - middle["floor_float32"] / middle["peer"],
        "reading_seconds": reading,
        "reading_images": len(train),
    }


def tupelo_step(case: Case, train: tp.data.ImageSet, steps: int) -> float:
    """Seconds a step of `tupelo.fit` takes, all of its work between steps included."""
    torch.manual_seed(0)
    model = tp.models.embedder(case.name, dim=DIM)
    objective = tp.objectives.OnPairs(tp.losses.MultiSimilarity())
    return fit_step(case, train, steps, model, objective)


def fit_step(
    case: Case,
    train: tp.data.ImageSet,
    steps: int,
    model: tp.models.Embedder,
    objective: tp.types.Objective,
) -> float:
    """Seconds a step of `tupelo.fit` takes with any objective."""
    moments: list[float] = []
    tp.fit(
        model,
        objective,
        train,
        settings=tp.Settings(
            steps=UNTIMED_STEPS + steps,
            classes=CLASSES,
            per_class=PER_CLASS,
            lr=LEARNING_RATE,
            optimizer="adamw",
            schedule="constant",
        ),
        augment=tp.data.default_augmentation(case.size),
        progress=lambda _: moments.append(time.perf_counter()),
    )
    return (moments[-1] - moments[UNTIMED_STEPS - 1]) / steps


def peer_step(case: Case, folder: Path, steps: int) -> float:
    """Seconds a step of the plain loop takes."""
    torch.manual_seed(0)
    dataset = datasets.ImageFolder(
        str(folder),
        transforms.Compose(
            [
                transforms.RandomResizedCrop(case.size, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        ),
    )
    batch = CLASSES * PER_CLASS
    batches = DataLoader(
        dataset,
        batch_size=batch,
        sampler=MPerClassSampler(
            dataset.targets, PER_CLASS, length_before_new_iter=2 * batch * (UNTIMED_STEPS + steps)
        ),
        num_workers=PEER_WORKERS,
    )
    network = timm.create_model(case.name, num_classes=DIM).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    loss = MultiSimilarityLoss()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()

    return seconds_a_step(step, iter(batches), steps)


def floor_step(case: Case, steps: int, *, bf16: bool) -> float:
    """Seconds of forward, backward and optimiser on a batch that is always there."""
    torch.manual_seed(0)
    # channels-last as Tupelo has it; the floor in float32 is laid out as the peer's network is
    network = timm.create_model(case.name, num_classes=DIM).train()
    images = torch.rand(CLASSES * PER_CLASS, 3, case.size, case.size)
    if bf16:
        network = network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    gradient = torch.randn(CLASSES * PER_CLASS, DIM) / DIM
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)

    def step(images: torch.Tensor, gradient: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = network(images)
        output.float().backward(gradient)
        optimizer.step()

    return seconds_a_step(step, itertools.repeat((images, gradient)), steps)


def seconds_a_step(
    step: Callable[[torch.Tensor, torch.Tensor], None], batches: Iterator, steps: int
) -> float:
    """Mean over `steps`, waiting for batches included, after the untimed ones."""
    for _ in range(UNTIMED_STEPS):
        step(*next(batches))
    started = time.perf_counter()
    for _ in range(steps):
        step(*next(batches))
    return (time.perf_counter() - started) / steps


def as_table(rows: list[dict]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| network | px | Tupelo, images/s | peer, images/s | faster (aim) | floor bf16 | "
        "floor float32 | Tupelo outside the network | peer outside the network |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        case, rate = row["case"], row["images_per_second"]
        cells = (
            case["name"],
            case["size"],
            f"{rate['tupelo']:.1f}",
            f"{rate['peer']:.1f}",
            f"{row['faster']:.2f} ({case['aim']})",
            f"{rate['floor_bf16']:.1f}",
            f"{rate['floor_float32']:.1f}",
            f"{100 * row['outside_tupelo']:.1f} %",
            f"{100 * row['outside_peer']:.1f} %",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


# Synthesis ---------------------------------------------------------------------------------------

TRIPLET, MS = "triplet, random negatives", "multi-similarity"
SYNTHESIS_AIMS = {"IAA": 1.1, "HDML": 1.6}  # over plain, at most
EVERY_EPOCHS = 4  # from one estimate of IAA to the next, as the paper has it


class Timed(tp.types.Objective):
    """An objective whose preparation of epochs is timed."""

    def __init__(self, objective: tp.types.Objective):
        super().__init__()
        self.objective = objective
        self.seconds = 0.0

    def forward(self, output, labels, *, items=None, generator=None) -> tp.types.LossValue:
        return self.objective(output, labels, items=items, generator=generator)

    def parameter_groups(self) -> list[dict]:
        return self.objective.parameter_groups()

    def begin_epoch(self, embed_train: Callable[[], Iterator]) -> None:
        started = time.perf_counter()
        self.objective.begin_epoch(embed_train)
        self.seconds += time.perf_counter() - started


def synthesis(case: Case, folder: Path, turns: int) -> list[dict]:
    """Medians over turns of the seconds a step takes with each objective."""
    train = tp.data.images(folder, size=case.size, validation=0, test=0).train
    # within one epoch, lest a second pass over the training set falls into the timed steps
    steps = min(case.steps, len(train) // (CLASSES * PER_CLASS) - UNTIMED_STEPS)
    rows = []
    for loss, kinds in ((TRIPLET, ("plain", "IAA", "HDML")), (MS, ("plain", "IAA"))):
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        passes: list[float] = []
        for turn in range(turns):
            for kind in kinds if turn % 2 == 0 else reversed(kinds):
                torch.manual_seed(0)
                model = tp.models.embedder(case.name, dim=DIM, batch_norm=True)
                objective = Timed(synthesizing(loss, kind, model, train.n_classes))
                seconds[kind].append(fit_step(case, train, steps, model, objective))
                if kind == "IAA":
                    passes.append(objective.seconds)
            latest = {kind: round(times[-1], 3) for kind, times in seconds.items()}
            print(f"{loss}, turn {turn + 1} of {turns}: {latest}", flush=True)
        epoch = len(train) / (CLASSES * PER_CLASS) * statistics.median(seconds["plain"])
        share = statistics.median(passes) / (EVERY_EPOCHS * epoch)
        rows.append(
            {
                "loss": loss,
                "seconds": seconds,
                "ratio": {
                    kind: statistics.median(
                        t / p for t, p in zip(times, seconds["plain"], strict=True)
                    )
                    for kind, times in seconds.items()
                },
                "pass_seconds": passes,
                "pass_share": share,
                "images": len(train),
            }
        )
    return rows


def synthesizing(
    loss: str, kind: str, model: tp.models.Embedder, n_classes: int
) -> tp.types.Objective:
    """A plain objective, or IAA or HDML around it."""
    if loss == MS:
        inner = tp.objectives.OnPairs(tp.losses.MultiSimilarity())
    else:
        inner = tp.objectives.OnTuples(tp.selection.PerAnchor(), tp.losses.Triplet())
    if kind == "IAA":
        return IntraClassAugmented(inner, n_classes, DIM, start_after=0, every=EVERY_EPOCHS)
    return HardnessAware(inner, model, n_classes) if kind == "HDML" else inner


def synthesis_table(rows: list[dict]) -> str:
    """The cost of synthesis as Markdown."""
    lines = [
        "| loss | objective | seconds a step | over plain (at most) | with estimates |",
        "|" + "---|" * 5,
    ]
    for row in rows:
        for kind, times in row["seconds"].items():
            ratio = row["ratio"][kind]
            aim = f" ({SYNTHESIS_AIMS[kind]})" if kind in SYNTHESIS_AIMS else ""
            whole = f"{ratio + row['pass_share']:.3f}" if kind == "IAA" else ""
            cells = (row["loss"], kind, f"{statistics.median(times):.3f}", f"{ratio:.3f}{aim}")
            lines.append("| " + " | ".join((*cells, whole)) + " |")
    return "\n".join(lines)


def synthesis_text(part: dict) -> str:
    """The section of the page on the cost of synthesis."""
    made, rows = part["made"], part["rows"]
    passes = ", ".join(
        f"{row['loss']} {statistics.median(row['pass_seconds']):.2f} s, "
        f"{100 * row['pass_share']:.1f} % of a step"
        for row in rows
    )
    missed = [
        f"{kind} around {row['loss']} ({row['ratio'][kind]:.3f})"
        for row in rows
        for kind, aim in SYNTHESIS_AIMS.items()
        if row["ratio"].get(kind, 0) > aim
    ]
    verdict = "All are within their limits." if not missed else f"Above: {', '.join(missed)}."
    return f"""
## Synthesis

Made by `{made["command"]}` on {made["date"]} in {made["minutes"]} minutes; {made["machine"]},
{made["threads"]} threads, wall time, medians of {made["turns"]} turns.

{synthesis_table(rows)}

`tupelo.fit` with {CASES[0].name} at {CASES[0].size} px and batch normalisation in the head, the
same batches and augmentation, taking turns in one process. {verdict} IAA embeds the training set
({rows[0]["images"]:,} pictures here) to estimate the variance of its classes; spread over the
{EVERY_EPOCHS} epochs until the next time that is: {passes}.
"""


def write_page(numbers: dict) -> None:
    """`docs/results/training-speed.md`, from all that was measured."""
    made, rows = numbers["made"], numbers["rows"]
    table = as_table(rows)
    reading = ", ".join(
        f"{row['case']['size']} px: {row['reading_seconds']:.1f} s for "
        f"{row['reading_images']} files"
        for row in rows[:2]
    )
    text = f"""# Training speed

Made by `{made["command"]}` on {made["date"]} in {made["minutes"]} minutes; {made["machine"]},
{made["threads"]} threads, wall time, medians of {made["turns"]} turns. Every number:
[training-speed.json](training-speed.json).

{table}

Both sides train the same network from the same {FILE_SIDE} px JPEG files, {CLASSES} x {PER_CLASS} a
batch, random resized crops and flips of the same strength, multi-similarity loss, AdamW. The peer
is the plain float32 loop of pytorch-metric-learning's examples with a `DataLoader` of
{PEER_WORKERS} workers. The floor is forward, backward and optimiser step of the network alone on
one fixed batch, with the fused AdamW; "outside" is what a side takes beyond the floor of its own
precision, the peer's default AdamW included.

Tupelo decodes every picture once and keeps it at its training size ({reading}, before the first
step, not counted above), and crops from that; the peer decodes and crops the {FILE_SIDE} px file
again each time, so its crops of small parts are sharper. On CPUs without bf16 units
Tupelo trains in float32, and the gain is what the channels-last layout and the data layer give.
"""
    if "note" in made:
        text += f"\n{made['note']}\n"
    if "synthesis" in numbers:
        text += synthesis_text(numbers["synthesis"])
    if "ensembles" in numbers:
        text += training_ensembles.text(numbers["ensembles"])
    (FOLDER / "training-speed.md").write_text(text)


if __name__ == "__main__":
    main()
