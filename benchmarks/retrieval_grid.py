"""Losses x {all, random, easiest positives} on four real data sets, equal budget, three seeds.

    TUPELO_DATA=... python benchmarks/retrieval_grid.py [DATA SET ...]  # about 45 minutes, 2 cores

Classes of training, validation and test are disjoint. Every cell is trained with the same batches,
steps and choice of rates; ten times on the way MAP@R is measured on the validation classes, and the
best weights are measured once on the test classes, as `tupelo train` does it. Colour sets train a
linear head on frozen features of an ImageNet network (read from TUPELO_DATA), grey ones a small
ConvNet from scratch. Resumable; writes docs/results/retrieval.md and retrieval.json.
"""

import argparse
import copy
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from results import Page, seeds_summary
from tupelo import data, evaluation, losses
from tupelo.data.imageset import Augment
from tupelo.models import ConvNet
from tupelo.objectives import OnClasses, OnPairs, OnTuples
from tupelo.selection import PerAnchor
from tupelo.types import Embedded, Objective

SEEDS = (0, 1, 2)
DIM = 128
WORKERS = 2

PAIRS: dict[str, Callable[[], nn.Module]] = {
    "contrastive": losses.Contrastive,
    "multi-similarity": losses.MultiSimilarity,
    "binomial deviance": losses.BinomialDeviance,
    "NT-Xent": losses.NTXent,
    "all triplets": losses.AllTriplets,
    "lifted structure": losses.LiftedStructure,
    "N-pair": losses.NPairs,
}
CLASSES: dict[str, Callable[[int, int], nn.Module]] = {
    "proxy-NCA": losses.ProxyNCA,
    "proxy-anchor": losses.ProxyAnchor,
    "normalised softmax": losses.NormalizedSoftmax,
    "CosFace": losses.CosFace,
    "ArcFace": losses.ArcFace,
}
TUPLES = ("triplet, semi-hard", "margin, distance-weighted")


@dataclass(frozen=True)
class Task:
    """One data set, ready to train on."""

    inputs: Tensor  # pictures or frozen features of the training classes
    labels: Tensor
    validation: tuple[Tensor, Tensor] | None  # inputs and labels of classes to choose on
    test_inputs: Tensor
    test_labels: Tensor
    test_pixels: Tensor
    steps: int
    classes: int  # P of a batch
    per_class: int  # K of a batch
    rates: tuple[float, ...]  # of Adam, falling along a cosine; the best is chosen on validation
    augment: Augment | None = None


def build(method: str, positives: str, n_classes: int) -> Objective:
    """The objective of one cell."""
    if method in PAIRS:
        return OnPairs(
            PAIRS[method](),
            positives=None if positives == "all" else positives,
            normalize=method not in ("N-pair", "lifted structure"),  # as their papers do
        )
    if method == "triplet, semi-hard":
        return OnTuples(PerAnchor(positives, "semi-hard"), losses.Triplet())
    if method == "margin, distance-weighted":
        return OnTuples(PerAnchor(positives, "distance-weighted"), losses.Margin(n_classes))
    return OnClasses(CLASSES[method](n_classes, DIM))


def train(dataset: str, method: str, positives: str, seed: int) -> dict:
    """Train one cell with each rate, and measure the best on validation on the test classes."""
    task = load(dataset)
    tried = [(*fit(task, method, positives, seed, rate), rate) for rate in task.rates]
    score, model, rate = max(tried, key=lambda one: one[0])
    chosen = {"rate": rate, "validation map@r": score}
    return measure(embed(model, task.test_inputs), task.test_labels) | chosen


def fit(task: Task, method: str, positives: str, seed: int, rate: float) -> tuple[float, nn.Module]:
    """Train with one rate; the best validation MAP@R on the way, and the model as it was then."""
    n_classes = int(task.labels.max()) + 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(task)
        objective = build(method, positives, n_classes)
    groups = [{"params": model.parameters()}, *objective.parameter_groups()]
    optimizer = torch.optim.Adam(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
    generator = torch.Generator().manual_seed(seed)
    batches = data.ClassBalanced(
        task.labels.numpy(), classes=task.classes, per_class=task.per_class, seed=seed
    )
    best, chosen = -1.0, {}
    for step, rows in enumerate(_endless(batches, task.steps), 1):
        model.train()
        inputs = task.inputs[rows]
        if task.augment is not None:
            inputs = task.augment(inputs, generator)
        output = Embedded.of(model(inputs))
        value = objective(output, task.labels[rows], items=rows, generator=generator)
        optimizer.zero_grad()
        value.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if task.validation is not None and step % (task.steps // 10) == 0:
            inputs, labels = task.validation
            score = evaluation.retrieval(embed(model, inputs), labels).map_at_r
            if score > best:
                best, chosen = score, copy.deepcopy(model.state_dict())
    if chosen:
        model.load_state_dict(chosen)
    return best, model


def network(task: Task) -> nn.Module:
    """A linear head on features, a small ConvNet on 28 px pictures."""
    if task.inputs.ndim == 2:
        return nn.Linear(task.inputs.shape[1], DIM)
    widths = (16, 32, 64, 128)
    return nn.Sequential(
        ConvNet(channels=task.inputs.shape[1], widths=widths), nn.Linear(widths[-1], DIM)
    )


@torch.no_grad()
def embed(model: nn.Module, inputs: Tensor) -> Tensor:
    """Unit rows of all inputs."""
    model.eval()
    return torch.cat([Embedded.of(model(chunk)).z for chunk in inputs.split(500)])


def measure(z: Tensor, labels: Tensor) -> dict:
    """The two published numbers of a cell, and what belongs beside them."""
    report = evaluation.retrieval(z, labels, ks=(1, 2, 4, 8))
    return report.as_dict() | {"collapsed": report.collapsed}


def baseline(dataset: str, kind: str, seed: int) -> dict:
    """Pixels, frozen features, or the model before training."""
    task = load(dataset)
    if kind == "pixels":
        return measure(task.test_pixels.flatten(1), task.test_labels)
    if kind == "frozen features":
        return measure(task.test_inputs, task.test_labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(task)
    return measure(embed(model, task.test_inputs), task.test_labels)


def _endless(batches: data.ClassBalanced, steps: int):
    done, epoch = 0, 0
    while done < steps:
        for rows in batches.epoch(epoch)[: steps - done]:
            yield torch.from_numpy(rows)
            done += 1
        epoch += 1


# Data -------------------------------------------------------------------------------------------


@lru_cache(1)
def load(dataset: str) -> Task:
    """Read a data set of TUPELO_DATA."""
    return {
        "cars196": _colour,
        "cub200_half": _colour,
        "omniglot": _omniglot,
        "fashion_mnist": _fashion,
    }[dataset](dataset)


def _colour(dataset: str) -> Task:
    parts = data.known(dataset)
    pixels, labels = zip(*map(arrays, (parts.train, parts.validation, parts.test)), strict=True)
    features = _frozen(dataset, torch.cat(pixels)).split([len(part) for part in labels])
    return Task(
        features[0], labels[0], (features[1], labels[1]), features[2], labels[2], pixels[2],
        steps=300, classes=16, per_class=8, rates=(1e-4, 1e-3),
    )  # fmt: skip


def _omniglot(dataset: str) -> Task:
    parts = data.known(dataset, size=28)
    inputs, labels = arrays(parts.train)
    test, test_labels = arrays(parts.test)
    return Task(
        inputs, labels, arrays(parts.validation.subset(range(1000))), test, test_labels, test,
        steps=250, classes=24, per_class=4, rates=(3e-3,),
    )  # fmt: skip


def _fashion(dataset: str) -> Task:
    """Five classes train, too few to choose on some; the others test, on official test pictures."""
    parts = data.known(dataset, split="given", validation=0)
    inputs, labels = arrays(parts.train)
    test, test_labels = arrays(parts.test)
    seen, unseen = labels < 5, test_labels >= 5
    return Task(
        inputs[seen], labels[seen], None, test[unseen], test_labels[unseen], test[unseen],
        steps=200, classes=5, per_class=20, rates=(3e-3,),
        augment=data.default_augmentation(28, smallest=0.6),
    )  # fmt: skip


def arrays(part: data.ImageSet) -> tuple[Tensor, Tensor]:
    """All pictures of a part, and their labels."""
    batch = part.batch(np.arange(len(part)))
    return batch.images, batch.labels


@torch.no_grad()
def _frozen(dataset: str, pixels: Tensor) -> Tensor:
    """Pooled features (n, 1280) of the ImageNet MobileNetV2 in TUPELO_DATA at 128 px, kept."""
    weights = Path(os.environ["TUPELO_DATA"]) / "weights"
    kept = Path(os.environ.get("TUPELO_FEATURES", "runs/features")) / f"{dataset}.npy"
    if not kept.exists():
        spec = importlib.util.spec_from_file_location("nets", weights / "reference_nets.py")
        nets = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(nets)
        net = nets.quantised(weights / "mobilenet_v2_1.0_224_u8.npz")
        chunks = []
        for chunk in pixels.split(64):
            large = nn.functional.interpolate(chunk, size=128, mode="bilinear", align_corners=False)
            chunks.append(net((large * 255 - 128) / 128)[1])
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(new, torch.cat(chunks).numpy())
        new.replace(kept)
    return torch.from_numpy(np.load(kept))


# The page ---------------------------------------------------------------------------------------

DATASETS = {
    "omniglot": "815 training and 50 validation characters, 659 unseen test characters of other "
    "alphabets (13,180 pictures), 28 px; small ConvNet from scratch, 250 steps of 24 x 4",
    "fashion_mnist": "classes 0-4 train, 5-9 test (5,000 official test pictures), 28 px; small "
    "ConvNet from scratch, 200 steps of 5 x 20, random crops and flips. Too few classes to choose "
    "on some: measured after the last step",
    "cars196": "half of Cars196 (64 px crops): 83 training, 15 validation, 98 test classes; linear "
    "head on frozen ImageNet features, 300 steps of 16 x 8, rate 1e-4 or 1e-3. "
    "Not comparable with published numbers",
    "cub200_half": "half of CUB (72 px crops): 49 training, 9 validation, 42 test classes; linear "
    "head on frozen ImageNet features, 300 steps of 16 x 8, rate 1e-4 or 1e-3. "
    "Not comparable with published numbers",
}


def cells(dataset: str) -> dict[str, tuple]:
    """Every cell of one data set, by key."""
    found: dict[str, tuple] = {}
    colour = dataset in ("cars196", "cub200_half")
    for kind in ("pixels", *(("frozen features",) if colour else ()), "untrained"):
        for seed in SEEDS if kind == "untrained" else SEEDS[:1]:
            found[f"{dataset}/{kind}/-/{seed}"] = (baseline, dataset, kind, seed)
    for method, kinds in columns().items():
        for positives in kinds:
            for seed in SEEDS:
                key = f"{dataset}/{method}/{positives}/{seed}"
                found[key] = (train, dataset, method, positives, seed)
    return found


def columns() -> dict[str, tuple[str, ...]]:
    """Which positives each loss is run with."""
    return (
        dict.fromkeys(PAIRS, ("all", "random", "easiest"))
        | dict.fromkeys(TUPLES, ("random", "easiest"))
        | dict.fromkeys(CLASSES, ("all",))
    )


def write(page: Page, dataset: str) -> None:
    """Add the table of one data set."""
    table = []
    for kind in ("pixels", "frozen features", "untrained"):
        if f"{dataset}/{kind}/-/0" in page.numbers["cells"]:
            table.append([kind, "", *_summary(page, dataset, kind, "-")])
    for method, kinds in columns().items():
        for positives in kinds:
            row = [method, _positives(method, positives)]
            table.append(row + _summary(page, dataset, method, positives))
    page.table(
        dataset, DATASETS[dataset] + ".", ["loss", "positives", "R@1", "MAP@R"], table
    )  # fmt: skip


def conclude(page: Page, datasets: Sequence[str]) -> None:
    """Say what wins, from the numbers."""
    rows = []
    for dataset in datasets:
        means = {
            (method, positives): [fmean(run[key] for run in runs) for key in MEASURES]
            for method, kinds in columns().items()
            for positives in kinds
            if (runs := _runs(page, dataset, method, positives))
        }
        start = [
            fmean(run[key] for run in _runs(page, dataset, "untrained", "-")) for key in MEASURES
        ]
        pairs = [
            (means[method, "easiest"], means[method, "random"])
            for method in (*PAIRS, *TUPLES)
            if (method, "easiest") in means and (method, "random") in means
        ]
        for i, name in enumerate(("R@1", "MAP@R")):
            best = max(means, key=lambda cell, i=i: means[cell][i])
            gain = [easy[i] - random[i] for easy, random in pairs]
            rows.append([
                dataset, name, f"{best[0]} ({_positives(*best)}), {means[best][i]:.3f}",
                f"{sum(mean[i] > start[i] for mean in means.values())} of {len(means)}",
                f"{sum(g > 0 for g in gain)} of {len(gain)}", f"{fmean(gain):+.3f}",
            ])  # fmt: skip
    page.table(
        "What wins",
        "Means over seeds. EPS is compared with one random positive, loss by loss.",
        ["data", "measure", "best", "better than untrained", "EPS better", "EPS minus random"],
        rows,
    )


MEASURES = ("recall@1", "map@r")


def _positives(method: str, positives: str) -> str:
    return {"all": "-" if method in CLASSES else "all", "easiest": "EPS"}.get(positives, positives)


def _runs(page: Page, dataset: str, method: str, positives: str) -> list[dict]:
    found = page.numbers["cells"]
    keys = [f"{dataset}/{method}/{positives}/{seed}" for seed in SEEDS]
    return [found[key] for key in keys if key in found]


def _summary(page: Page, dataset: str, method: str, positives: str) -> list[str]:
    runs = _runs(page, dataset, method, positives)
    return [seeds_summary([run[key] for run in runs]) for key in MEASURES]


def main() -> None:
    """Run the grid and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("datasets", nargs="*", default=list(DATASETS))
    chosen = parser.parse_args().datasets
    page = Page("retrieval", "Losses and easy positives on unseen classes")
    for dataset in chosen:
        load(dataset)  # computes and keeps the frozen features before the workers ask for them
        page.all(cells(dataset), WORKERS)
    done = [one for one in DATASETS if f"{one}/pixels/-/0" in page.numbers["cells"]]
    conclude(page, done)
    for dataset in done:
        write(page, dataset)
    page.write("python benchmarks/retrieval_grid.py", SEEDS)


if __name__ == "__main__":
    main()
