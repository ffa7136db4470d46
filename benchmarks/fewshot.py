"""Episodes per second of prototypical networks: Tupelo against easy-few-shot-learning.

    python benchmarks/fewshot.py            about 6 minutes on 2 idle cores; writes docs/results
    python benchmarks/fewshot.py --quick    under a minute; prints only

Both sides have the same Conv4-64 with the same weights, the same pictures in memory and the same
episodes, whose drawing is timed for Tupelo alone.

* Tupelo: `tupelo.fit` on `fewshot.Episodes` with its defaults, timed by its progress callback, and
  `fewshot.evaluate`, whose time contains embedding every picture once.
* Peer: `easyfsl` as its tutorials have it: a `DataLoader` with its collate function,
  `process_support_set` and a forward of the queries, cross-entropy and Adam in training. It embeds
  every picture in every episode; a second line has what it can do with embeddings made before
  (`FeaturesDataset`). Its items are uint8 tensors made float, quicker than reading files.
* Peer, our encoder: the same with the blocks of Tupelo, so what is left is not the network.
* Floor: forward, backward and step of the bare encoder on one batch, with our blocks and with the
  layers of PyTorch.

All take turns in one process, after an untimed step; medians over turns. That both sides are right
is checked first: the same episodes get the same accuracy to the last query.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch
from easyfsl.datasets import FeaturesDataset, FewShotDataset
from easyfsl.methods import PrototypicalNetworks
from easyfsl.samplers import TaskSampler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from results import Page, machine
from tupelo.data import ImageSet
from tupelo.fewshot import (
    Episodes,
    FewShot,
    Layout,
    OnEpisodes,
    Prototypical,
    conv4,
    draw_episodes,
    evaluate,
)
from tupelo.training import Settings, fit

THREADS = 2
AIM = 3.0
CLASSES, EACH = 120, 20


@dataclass(frozen=True)
class Case:
    """Pictures and episodes.

    Attributes:
        name: in the table.
        channels: of the pictures.
        size: their side.
        train: episodes of training.
        steps: of a turn.
        test: episodes of evaluation.
        peer_episodes: that the peer evaluates in a turn.
    """

    name: str
    channels: int
    size: int
    train: Layout
    steps: int
    test: Layout
    peer_episodes: int


CASES = (
    Case("28 px, 1 shot", 1, 28, Layout(60, 1, 5), 6, Layout(20, 1, 15), 6),
    Case("28 px, 5 shots", 1, 28, Layout(60, 5, 5), 4, Layout(20, 5, 15), 6),
    Case("64 px, 5 shots", 3, 64, Layout(20, 5, 5), 2, Layout(5, 5, 15), 6),
)
EVALUATED = 1000


def main() -> None:
    """Measure all cases and write the page, or with --quick the first one and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="first case, two turns, no page")
    parser.add_argument("--turns", type=int, default=5, help="turns of each side (default 5)")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    page = Page("fewshot-speed", "Few-shot learning: speed")
    page.numbers = {"cells": {}}  # times of one sitting only
    for case in CASES[:1] if options.quick else CASES:
        found = measure(case, 2 if options.quick else options.turns)
        page.numbers["cells"][case.name] = found
        print(case.name, {name: round(value, 4) for name, value in found.items()}, flush=True)
    if not options.quick:
        write(page, options.turns)


def measure(case: Case, turns: int) -> dict[str, float]:
    """Seconds an episode of every side, medians over turns."""
    pictures = made_up(case)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FewShot(conv4(case.channels, size=case.size), Prototypical())
    check_agreement(case, model, pictures)
    sides = training_sides(case, model, pictures) | evaluation_sides(case, model, pictures)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, side in sides.items():
            seconds = side()
            if turn > 0:
                times[name].append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}


def made_up(case: Case) -> ImageSet:
    """Classes of noisy pictures, mostly blank as characters are."""
    rng = np.random.default_rng(0)
    shape = (CLASSES * EACH, case.size, case.size, case.channels)
    drawn = rng.random(shape) < 0.15
    pixels = np.where(drawn, rng.integers(256, size=shape), 0).astype(np.uint8)
    return ImageSet.from_arrays(pixels, np.repeat(np.arange(CLASSES), EACH))


def training_sides(case: Case, model: FewShot, pictures: ImageSet) -> dict[str, Callable]:
    """Functions that train for a turn and return seconds an episode."""
    layers = as_layers(model)
    batch = pictures.batch(Episodes(pictures.labels, case.train).epoch(0)[0]).images
    items = as_items(pictures)
    return {
        "training, Tupelo": lambda: tupelo_training(case, copy.deepcopy(model), pictures),
        "training, peer": lambda: peer_training(case, copy.deepcopy(layers), items),
        "training, peer with our encoder": lambda: peer_training(
            case, copy.deepcopy(model.encoder), items
        ),
        "training, floor of our encoder": lambda: floor(
            copy.deepcopy(model.encoder), batch, case.steps
        ),
        "training, floor of the layers": lambda: floor(copy.deepcopy(layers), batch, case.steps),
    }


def tupelo_training(case: Case, model: FewShot, pictures: ImageSet) -> float:
    """`tupelo.fit` with its defaults; the first step is not timed."""
    clock: list[float] = []
    settings = Settings(steps=case.steps + 1, optimizer="adam", weight_decay=0.0, lr=1e-3)
    fit(
        model,
        OnEpisodes(model.head, case.train),
        pictures,
        settings=settings,
        batches=Episodes(pictures.labels, case.train, per_epoch=case.steps + 1),
        progress=lambda _: clock.append(time.perf_counter()),
    )
    return (clock[-1] - clock[0]) / case.steps


def peer_training(case: Case, encoder: nn.Module, items: "Items") -> float:
    """The loop of easyfsl's tutorial on episodic training."""
    model = PrototypicalNetworks(encoder.train())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    clock: list[float] = []
    episodes = draw_episodes(items.labels, case.train, case.steps + 1)
    for support, known, queries, wanted, _ in loader(items, episodes, case.train):
        optimizer.zero_grad()
        model.process_support_set(support, known)
        loss = F.cross_entropy(model(queries), wanted)
        loss.backward()
        optimizer.step()
        clock.append(time.perf_counter())
    return (clock[-1] - clock[0]) / case.steps


def floor(encoder: nn.Module, batch: Tensor, steps: int) -> float:
    """Forward, backward and step on the pictures of one episode."""
    optimizer = torch.optim.Adam(encoder.train().parameters(), lr=1e-3, fused=True)
    clock = []
    for _ in range(steps + 1):
        optimizer.zero_grad()
        encoder(batch).square().mean().backward()
        optimizer.step()
        clock.append(time.perf_counter())
    return (clock[-1] - clock[0]) / steps


def evaluation_sides(case: Case, model: FewShot, pictures: ImageSet) -> dict[str, Callable]:
    """Functions that evaluate for a turn and return seconds an episode."""
    layers, items = as_layers(model).eval(), as_items(pictures)
    with torch.no_grad():
        embeddings = layers(pictures.batch(np.arange(len(pictures))).images)
    features = FeaturesDataset(items.get_labels(), embeddings, list(pictures.class_names))
    rows = draw_episodes(pictures.labels, case.test, EVALUATED)
    few = rows[: case.peer_episodes]
    return {
        "evaluation, Tupelo": lambda: timed(
            lambda: evaluate(model, pictures, case.test, episodes=EVALUATED), EVALUATED
        ),
        "evaluation, peer": lambda: timed(
            lambda: peer_accuracy(layers, items, few, case.test), len(few)
        ),
        "evaluation, peer on embeddings": lambda: timed(
            lambda: peer_accuracy(nn.Identity(), features, rows[:50], case.test), 50
        ),
    }


def timed(do: Callable[[], object], episodes: int) -> float:
    """Seconds an episode."""
    started = time.perf_counter()
    do()
    return (time.perf_counter() - started) / episodes


@torch.no_grad()
def peer_accuracy(
    encoder: nn.Module, items: FewShotDataset, episodes: np.ndarray, layout: Layout
) -> list[float]:
    """Accuracy of easyfsl on each episode."""
    model = PrototypicalNetworks(encoder).eval()
    found = []
    for support, known, queries, wanted, _ in loader(items, episodes, layout):
        model.process_support_set(support, known)
        found.append((model(queries).argmax(1) == wanted).double().mean().item())
    return found


def check_agreement(case: Case, model: FewShot, pictures: ImageSet) -> None:
    """Both sides must give the same queries the same classes."""
    episodes = draw_episodes(pictures.labels, case.test, 5)
    ours = evaluate(model, pictures, case.test, episodes=5).of_episodes
    peers = peer_accuracy(as_layers(model).eval(), as_items(pictures), episodes, case.test)
    assert np.allclose(ours, peers, atol=1.01 / case.test.asked), (ours, peers)


def as_layers(model: FewShot) -> nn.Sequential:
    """The encoder of a model as plain layers, as anybody has it."""
    blocks = copy.deepcopy(model.encoder.blocks).to(memory_format=torch.contiguous_format)
    return nn.Sequential(blocks, nn.Flatten())


class Items(FewShotDataset):
    """Pictures in memory, as easyfsl wants them."""

    def __init__(self, pixels: Tensor, labels: np.ndarray):
        self.pixels = pixels
        self.labels = labels

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.pixels[item].float().div_(255), int(self.labels[item])

    def __len__(self) -> int:
        return len(self.labels)

    def get_labels(self) -> list[int]:
        """The class of every item."""
        return self.labels.tolist()


def as_items(pictures: ImageSet) -> Items:
    """The same pictures for the peer."""
    return Items(pictures.take(np.arange(len(pictures))), pictures.labels)


def loader(items: FewShotDataset, episodes: np.ndarray, layout: Layout) -> DataLoader:
    """Drawn episodes in the order of easyfsl: a class's support, then its queries."""
    support, queries = np.split(episodes, [layout.support], axis=1)
    by_class = np.concatenate(
        [part.reshape(len(episodes), layout.ways, -1) for part in (support, queries)], axis=2
    )
    sampler = object.__new__(TaskSampler)  # its __init__ fails since torch 2.9 or so
    sampler.n_way, sampler.n_shot, sampler.n_query = layout.ways, layout.shots, layout.queries
    return DataLoader(
        items,
        batch_sampler=by_class.reshape(len(episodes), -1).tolist(),
        collate_fn=sampler.episodic_collate_fn,
    )


def write(page: Page, turns: int) -> None:
    """The page."""
    rows = []
    for case in CASES:
        cell = page.numbers["cells"][case.name]
        for name, seconds in cell.items():
            ours = cell[name.split(",")[0] + ", Tupelo"]
            rows.append([case.name, name, f"{1 / seconds:.2f}", f"{seconds / ours:.2f}"])
    page.table(
        "Episodes per second",
        f"Median of {turns} turns, {THREADS} threads. `times Tupelo` is how many times as long it "
        f"takes as Tupelo does; the aim is {AIM:g} against the peer. A floor is the bare encoder "
        "on one batch. Episodes of training have 60 classes and 5 queries each at 28 pixels, 20 "
        "classes at 64; of evaluation 20 and 5 classes, 15 queries.",
        ["case", "side", "episodes / s", "times Tupelo"],
        rows,
    )
    print(machine(), date.today())
    page.write(f"python benchmarks/fewshot.py --turns {turns}", (0,))


if __name__ == "__main__":
    main()
