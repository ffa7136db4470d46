"""Run by test_distributed.py as two processes: every objective on two halves of a batch."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tupelo import losses
from tupelo.distributed import gather
from tupelo.ensembles import Boosted, attention_based
from tupelo.errors import InputError
from tupelo.models import divided, embedder
from tupelo.objectives import (
    Memory,
    Misplaced,
    OnBalancedPairs,
    OnClasses,
    OnPairs,
    OnTuples,
    PerLearner,
    Sum,
)
from tupelo.selection import AllTuples, PerAnchor
from tupelo.synthesis import AugmentedClasses, HardnessAware, IntraClassAugmented
from tupelo.types import Embedded

WORLD, CLASSES, DIM = 2, 3, 4
BATCHES = ([5, 4], [1, 8], [3, 3])  # rows of the two processes in each step

OBJECTIVES = {
    "AllTriplets": lambda: OnPairs(losses.AllTriplets()),
    "BinomialDeviance": lambda: OnPairs(losses.BinomialDeviance()),
    "Contrastive": lambda: OnPairs(losses.Contrastive(), positives="easiest"),
    "CosineContrastive": lambda: OnPairs(losses.CosineContrastive()),
    "HardestNegativeTriplets": lambda: OnPairs(losses.HardestNegativeTriplets()),
    "LiftedStructure": lambda: OnPairs(losses.LiftedStructure()),
    "MultiSimilarity": lambda: OnPairs(losses.MultiSimilarity()),
    "NPairs": lambda: OnPairs(losses.NPairs(), normalize=False),
    "NTXent": lambda: OnPairs(losses.NTXent()),
    "SquaredContrastive": lambda: OnPairs(losses.SquaredContrastive()),
    "Margin": lambda: OnTuples(
        PerAnchor("easiest", "distance-weighted"), losses.Margin(n_classes=CLASSES)
    ),
    "NPair": lambda: OnTuples(PerAnchor("random", "random", negatives=2), losses.NPair()),
    "Triplet": lambda: OnTuples(PerAnchor("hardest", "semi-hard"), losses.Triplet()),
    "Triplet of all": lambda: OnTuples(AllTuples(), losses.Triplet()),
    "ArcFace": lambda: OnClasses(losses.ArcFace(CLASSES, DIM)),
    "SoftTriplet": lambda: Misplaced(
        OnTuples(PerAnchor("hardest", "hardest"), losses.SoftTriplet()), rows=5
    ),
    "OnBalancedPairs": lambda: OnBalancedPairs(
        losses.Contrastive(squared=True, average="pairs"), random_epochs=1
    ),
    "CosineSoftmax": lambda: OnClasses(losses.CosineSoftmax(CLASSES, DIM)),
    "CosFace": lambda: OnClasses(losses.CosFace(CLASSES, DIM)),
    "NormalizedSoftmax": lambda: OnClasses(losses.NormalizedSoftmax(CLASSES, DIM)),
    "ProxyAnchor": lambda: OnClasses(losses.ProxyAnchor(CLASSES, DIM)),
    "ProxyNCA": lambda: OnClasses(losses.ProxyNCA(CLASSES, DIM)),
    "AngularSoftmax": lambda: OnClasses(
        losses.AngularSoftmax(
            CLASSES,
            DIM,
            constraint=losses.ExponentialMean(
                losses.AdaptiveMargin(), mining=losses.Mining("violators")
            ),
        )
    ),
    "Memory": lambda: Memory(OnPairs(losses.Contrastive()), size=12, dim=DIM),
    "Sum": lambda: Sum(
        {"pairs": OnPairs(losses.MultiSimilarity()), "proxies": OBJECTIVES["ProxyNCA"]()},
        {"proxies": 0.5},
    ),
    "PerLearner": lambda: PerLearner(OBJECTIVES["Margin"](), 2),
    "Divergence": lambda: attention_based(OBJECTIVES["SquaredContrastive"](), 2, margin=4.0),
    "AugmentedClasses": lambda: AugmentedClasses(
        OnClasses(losses.ProxyAnchor(CLASSES, DIM)), CLASSES, DIM, start_after=0
    ),
    "IntraClassAugmented": lambda: Memory(
        IntraClassAugmented(OnPairs(losses.MultiSimilarity()), CLASSES, DIM, start_after=0),
        size=12,
        dim=DIM,
    ),
    "HardnessAware": lambda model: HardnessAware(
        OnTuples(PerAnchor(negatives=2), losses.Margin(n_classes=CLASSES)),
        model,
        CLASSES,
        hidden=8,
        window=1,
        weight_decay=0.01,
        max_negatives=1,
    ),
    "Boosted": lambda model: Boosted(
        OBJECTIVES["BinomialDeviance"](),
        model,
        diversity="adversarial",
        diversity_weight=0.1,
        constraint_weight=1.0,
        hidden=8,
    ),
}


class Linear(nn.Module):
    """A network without batch normalisation; an ensemble of two where `learners` is 2."""

    def __init__(self, learners: int, dtype: torch.dtype):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(6, DIM, dtype=dtype) for _ in range(learners))

    def forward(self, rows):
        output = tuple(Embedded.of(head(rows), rows * 2) for head in self.heads)
        return output if len(output) > 1 else output[0]


class Heads(nn.Module):
    """An embedder fed with rows instead of pictures."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.model = embedder(nn.Linear(6, 5), features=5, dim=DIM, channels=1).to(dtype)

    def forward(self, rows):
        return self.model.embed(self.model.backbone(rows))


class Parts(nn.Module):
    """Learners of one linear layer, fed with rows instead of pictures."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        whole = embedder(nn.Linear(6, 5), features=5, dim=DIM, channels=1)
        self.model = divided(whole, learners=2).to(dtype)

    def forward(self, rows):
        return self.model.embed(self.model.embedder.backbone(rows))


def batch(step: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(step)
    n = sum(BATCHES[step])
    rows = torch.randn(n, 6, generator=generator, dtype=dtype)
    return rows, torch.arange(n) % CLASSES, torch.arange(n) + 100 * step


def build(name: str, dtype: torch.dtype):
    torch.manual_seed(1)
    if name in ("HardnessAware", "Boosted"):
        network = Heads(dtype) if name == "HardnessAware" else Parts(dtype)
        return network, OBJECTIVES[name](network.model).to(dtype)
    objective = OBJECTIVES[name]().to(dtype)
    network = Linear(2 if name in ("PerLearner", "Divergence") else 1, dtype)
    if "Augmented" in name:
        train, labels, _ = batch(0, dtype)
        objective.begin_epoch(lambda: iter([(network(train), labels)]))
    return network, objective


def steps(name: str, dtype: torch.dtype, wrap, own) -> dict[str, torch.Tensor]:
    """Losses and gradients of a few steps, of the rows that `own(step, rows)` leaves."""
    network, objective = build(name, dtype)
    wrapped = wrap(network)
    results = {}
    for step in range(len(BATCHES)):
        rows, labels, items = (own(step, tensor) for tensor in batch(step, dtype))
        gathered, labels, items = gather(wrapped(rows), labels, items)
        generator = torch.Generator().manual_seed(step)
        value = objective(gathered, labels, items=items, generator=generator)
        network.zero_grad()
        objective.zero_grad()
        value.total.backward()
        results[f"{name}/{step}/loss"] = value.total.detach()
        for kind, module in (("network", network), ("objective", objective)):
            for key, parameter in module.named_parameters():
                if parameter.grad is not None:
                    results[f"{name}/{step}/{kind}/{key}"] = parameter.grad.clone()
    return results


def main(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD
    )

    def own(step, tensor):
        return tensor.split(BATCHES[step])[rank]

    results = {}
    for dtype in (torch.float32, torch.float64):
        for name in OBJECTIVES:
            part = steps(name, dtype, DistributedDataParallel, own)
            results |= {f"{dtype}/{key}": value for key, value in part.items()}
    for refused in (lambda: [0, 1], lambda: torch.zeros(rank, dtype=torch.int64)):
        labels = refused()
        try:
            gather(Embedded.of(torch.ones(len(labels), 2)), labels)
        except InputError as error:
            results[f"refused {error}"] = torch.ones(1)
    tags = torch.tensor([[True, False], [False, True]])[: rank + 1]
    results["tags"] = gather(Embedded.of(torch.ones(len(tags), 2)), tags)[1]
    save_file(results, folder / f"rank{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
