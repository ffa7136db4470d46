import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from tupelo.errors import InputError, TrainingDiverged
from tupelo.losses import (
    AdaptiveMargin,
    AngularSoftmax,
    Contrastive,
    CosineMargin,
    Margin,
    MultiSimilarity,
    ProxyAnchor,
)
from tupelo.models import embedder
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples, PerLearner, Sum
from tupelo.selection import PerAnchor
from tupelo.training.steps import Seeds, in_chunks, one_piece
from tupelo.types import Embedded

SEEDS = Seeds(seed=0, epoch=0, batch=0, rank=0, step=5)


@pytest.fixture
def fabric():
    return Fabric(accelerator="cpu", devices=1)


class Two(nn.Module):
    """An ensemble of two."""

    def __init__(self, one, other):
        super().__init__()
        self.learners = nn.ModuleList([one, other])

    def forward(self, images):
        return tuple(learner(images) for learner in self.learners)


OBJECTIVES = {
    "pairs": lambda: OnPairs(MultiSimilarity()),
    "tuples": lambda: OnTuples(PerAnchor("easiest", "distance-weighted"), Margin(n_classes=4)),
    "classes": lambda: OnClasses(ProxyAnchor(4, 4)),
    "angular": lambda: OnClasses(
        AngularSoftmax(4, 4, constraint=CosineMargin(AdaptiveMargin()), scale=8.0)
    ),
    "raw rows": lambda: OnPairs(Contrastive(), normalize=False),
    "memory": lambda: Memory(OnPairs(Contrastive()), size=9, dim=4),
    "sum": lambda: Sum({"a": OBJECTIVES["tuples"](), "b": OBJECTIVES["classes"]()}),
}


def gradients(fabric, model, objective, batch, chunk):
    net = fabric.setup_module(model.train())
    step = (
        one_piece(fabric, net, objective)
        if chunk is None
        else in_chunks(fabric, net, objective, chunk)
    )
    value = step(batch, SEEDS)
    modules = {"model": model, "objective": objective}
    found = {
        f"{kind}/{name}": p.grad
        for kind, module in modules.items()
        for name, p in module.named_parameters()
    }
    return value.total.detach(), found


@pytest.mark.parametrize("chunk", [1, 5, 12, 24, 100])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_chunks_equal_one_piece(fabric, pictures, network, name, chunk):
    batch = pictures().batch(range(24))
    torch.manual_seed(0)
    objectives = [OBJECTIVES[name]() for _ in range(2)]
    objectives[1].load_state_dict(objectives[0].state_dict())
    whole, expected = gradients(fabric, network(dropout=0.0), objectives[0], batch, None)
    loss, found = gradients(fabric, network(dropout=0.0), objectives[1], batch, chunk)
    torch.testing.assert_close(loss, whole)
    assert expected.keys() == found.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6)


def test_chunks_of_an_ensemble_equal_one_piece(fabric, pictures, network):
    batch = pictures().batch(range(24))
    results = [
        gradients(
            fabric,
            Two(network(dropout=0.0, seed=1), network(dropout=0.0, seed=2)),
            PerLearner(OnPairs(MultiSimilarity()), 2),
            batch,
            chunk,
        )[1]
        for chunk in (None, 7)
    ]
    for key, gradient in results[0].items():
        torch.testing.assert_close(results[1][key], gradient, rtol=1e-4, atol=1e-6)


def test_both_passes_over_a_chunk_drop_the_same_features(fabric, pictures):
    class Recorded(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.drop, self.seen = nn.Linear(64, 4), nn.Dropout(0.5), []

        def forward(self, images):
            raw = self.drop(self.linear(images.flatten(1)))
            self.seen.append(raw.detach().clone())
            return Embedded.of(raw)

    model = Recorded()
    gradients(fabric, model, OnPairs(MultiSimilarity()), pictures().batch(range(12)), 5)
    first, second = model.seen[:3], model.seen[3:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0)


def test_memory_grows_with_the_chunk_and_not_with_the_batch(fabric, pictures, network):
    alive, most = 0, 0

    def count(tensor):
        nonlocal alive, most
        alive += tensor.numel()
        most = max(most, alive)
        return tensor

    def forget(tensor):
        nonlocal alive
        alive -= tensor.numel()
        return tensor

    def peak(rows, chunk):
        nonlocal alive, most
        alive = most = 0
        batch = pictures(each=rows // 4).batch(range(rows))
        with torch.autograd.graph.saved_tensors_hooks(count, forget):
            gradients(fabric, network(dropout=0.0), OnClasses(ProxyAnchor(4, 4)), batch, chunk)
        return most

    assert peak(240, 8) < 0.25 * peak(240, None)


def test_chunks_refuse_batch_normalisation_in_train_mode(fabric):
    model = embedder(dim=4, channels=1)
    with pytest.raises(InputError, match=r"chunk=4 .* is batch normalisation in train mode"):
        gradients(fabric, model, OnPairs(Contrastive()), None, 4)


def test_chunks_take_frozen_batch_normalisation(fabric, pictures):
    model = embedder(dim=4, channels=1, freeze_batchnorm=True)
    batch = pictures().batch(range(8))._replace(images=torch.rand(8, 1, 32, 32))
    assert gradients(fabric, model, OnPairs(Contrastive()), batch, 4)[0] > 0


def test_an_output_that_is_not_finite_stops_with_its_step(fabric, pictures, network):
    model = network()
    with torch.no_grad():
        model.head[-1].weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"output of the network became NaN .* at step 5"):
        gradients(fabric, model, OnPairs(Contrastive()), pictures().batch(range(8)), None)


def test_a_batch_that_does_not_suit_the_objective_stays_an_input_error(fabric, pictures, network):
    batch = pictures().batch([0, 6, 12])  # three classes, no positives
    with pytest.raises(InputError, match="no anchor has a positive"):
        gradients(fabric, network(), OnPairs(Contrastive()), batch, None)


def test_seeds_depend_on_place_and_rank_but_the_objective_not_on_the_rank():
    other = SEEDS._replace(rank=1)
    assert SEEDS.generator().initial_seed() == other.generator().initial_seed()
    drawn = set()
    with torch.random.fork_rng():
        for seeds in (SEEDS, other, SEEDS._replace(batch=1), SEEDS._replace(epoch=1)):
            for chunk in (0, 1):
                seeds.reseed(chunk)
                drawn.add(torch.initial_seed())
    assert len(drawn) == 8
