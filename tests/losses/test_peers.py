"""Agreement with pytorch-metric-learning where the definitions coincide; see docs/losses.md."""

import pytest
import torch

from tupelo import losses
from tupelo.comparison import Comparison
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples
from tupelo.selection import AllTuples, PerAnchor
from tupelo.types import Embedded

pytest.importorskip("pytorch_metric_learning", reason="needs the extra `peers`")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

from pytorch_metric_learning import distances, miners, reducers  # noqa: E402
from pytorch_metric_learning import losses as peer_losses  # noqa: E402

N, WIDTH, CLASSES = 24, 5, 6
LABELS = torch.arange(N) // 4


def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    noise = torch.randn(N, WIDTH, generator=generator, dtype=torch.float64)
    return (centres[LABELS] + noise).requires_grad_()


def agree(ours, theirs, *pairs_of_inputs):
    """Equal values, and equal gradients by each pair of inputs."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    mine, other = zip(*pairs_of_inputs, strict=True)
    for got, want in zip(
        torch.autograd.grad(ours, mine), torch.autograd.grad(theirs, other), strict=True
    ):
        same = want if want.shape == got.shape else want.T
        assert torch.allclose(got, same, rtol=1e-5, atol=1e-5 * want.abs().max().item())


PAIR = {
    "contrastive": (losses.Contrastive(0.1, 1.2), peer_losses.ContrastiveLoss(0.1, 1.2), None),
    "multi-similarity": (
        losses.MultiSimilarity(slack=None),
        peer_losses.MultiSimilarityLoss(2, 40, 0.5),
        None,
    ),
    "multi-similarity-mined": (
        losses.MultiSimilarity(),
        peer_losses.MultiSimilarityLoss(2, 40, 0.5),
        miners.MultiSimilarityMiner(0.1),
    ),
    "nt-xent": (losses.NTXent(), peer_losses.NTXentLoss(0.07), None),
    "all-triplets": (losses.AllTriplets(), peer_losses.TripletMarginLoss(0.2), None),
    "all-triplets-mean": (
        losses.AllTriplets(average="all"),
        peer_losses.TripletMarginLoss(0.2, reducer=reducers.MeanReducer()),
        None,
    ),
    "lifted-structure": (losses.LiftedStructure(), peer_losses.LiftedStructureLoss(1, 0), None),
}


@pytest.mark.parametrize(("ours", "theirs", "miner"), PAIR.values(), ids=PAIR)
@pytest.mark.parametrize("seed", range(3))
def test_pair_losses(ours, theirs, miner, seed):
    raw = rows(seed)
    mine = OnPairs(ours)(Embedded.of(raw), LABELS).total
    mined = None if miner is None else miner(raw, LABELS)
    agree(mine, theirs(raw, LABELS, mined), (raw, raw))


def test_n_pairs_of_one_anchor_and_one_positive_a_class():
    raw = rows()
    labels = torch.arange(N) // 2
    # which of the two is anchor the peer draws at random, so it is told
    anchor, positive = torch.arange(0, N, 2), torch.arange(1, N, 2)
    comparison = Comparison.between(raw[anchor], labels[::2], raw[positive], labels[::2])
    ours = OnPairs(losses.NPairs(l2_weight=0.0), normalize=False).on(comparison).total
    peer = peer_losses.NPairsLoss(
        distance=distances.DotProductSimilarity(normalize_embeddings=False)
    )
    none = torch.zeros(0, dtype=torch.long)
    agree(ours, peer(raw, labels, (anchor, positive, none, none)), (raw, raw))


@pytest.mark.parametrize("squared", [False, True])
def test_triplets_of_the_same_indices(squared):
    raw = rows()
    selector = PerAnchor("easiest", "semi-hard-nearest")
    objective = OnTuples(selector, losses.Triplet(0.2, squared=squared))
    output = Embedded.of(raw)
    chosen = selector(objective.compare(output, LABELS))
    peer = peer_losses.TripletMarginLoss(
        0.2, distance=distances.LpDistance(power=1 + squared), reducer=reducers.MeanReducer()
    )
    indices = (chosen.anchor, chosen.positive, chosen.negative[:, 0])
    agree(objective(output, LABELS).total, peer(raw, LABELS, indices), (raw, raw))


@pytest.mark.parametrize("selector", [AllTuples(), PerAnchor("hardest", "hardest")])
def test_margin_with_a_learned_boundary_per_class(selector):
    raw = rows()
    loss = losses.Margin(CLASSES)
    objective = OnTuples(selector, loss)
    output = Embedded.of(raw)
    chosen = selector(objective.compare(output, LABELS))
    peer = peer_losses.MarginLoss(0.2, beta=1.2, learn_beta=True, num_classes=CLASSES)
    theirs = peer(raw, LABELS, (chosen.anchor, chosen.positive, chosen.negative[:, 0]))
    agree(objective(output, LABELS).total, theirs, (raw, raw), (loss.beta, peer.beta))


CLASS = {
    "proxy-nca": (
        losses.ProxyNCA(CLASSES, WIDTH, include_own=True),
        peer_losses.ProxyNCALoss(CLASSES, WIDTH, softmax_scale=9.0),
    ),
    "proxy-anchor": (
        losses.ProxyAnchor(CLASSES + 1, WIDTH),
        peer_losses.ProxyAnchorLoss(CLASSES + 1, WIDTH),
    ),
    "normalized-softmax": (
        losses.NormalizedSoftmax(CLASSES, WIDTH),
        peer_losses.NormalizedSoftmaxLoss(CLASSES, WIDTH),
    ),
    "cosface": (losses.CosFace(CLASSES, WIDTH), peer_losses.CosFaceLoss(CLASSES, WIDTH)),
    "arcface": (
        losses.ArcFace(CLASSES, WIDTH),
        peer_losses.ArcFaceLoss(CLASSES, WIDTH, margin=28.64788975654116),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), CLASS.values(), ids=CLASS)
def test_class_losses(ours, theirs):
    raw = rows()
    ours, theirs = ours.double(), theirs.double()
    (weights,) = theirs.parameters()
    with torch.no_grad():
        weights.copy_(ours.proxies if weights.shape == ours.proxies.shape else ours.proxies.T)
    mine = OnClasses(ours)(Embedded.of(raw), LABELS).total
    agree(mine, theirs(Embedded.of(raw).z, LABELS), (raw, raw), (ours.proxies, weights))


@pytest.mark.parametrize("name", ["contrastive", "nt-xent", "all-triplets"])
def test_cross_batch_memory_has_the_same_value(name):
    """Values only: the peer compares with a detached copy of the batch, we with the batch."""
    ours, theirs, _ = PAIR[name]
    memory = Memory(OnPairs(ours), 40, WIDTH)
    # the peer's queue of 40 + 24 holds the present batch too
    peer = peer_losses.CrossBatchMemory(theirs, WIDTH, memory_size=40 + N)
    for seed in range(5):
        raw = rows(seed).float()
        mine = memory(Embedded.of(raw), LABELS).total
        assert mine.item() == pytest.approx(peer(raw, LABELS).item(), rel=1e-5)
