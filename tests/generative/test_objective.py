"""The loss of the triplet autoencoder: by hand, by loops, its gradients, its refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.generative import Bernoulli, Perceptual, Squared, TripletVAE
from tupelo.models import Autoencoded
from tupelo.types import Embedded

LABELS = torch.tensor([0, 0, 1, 2, 2, 0])  # two triplets
HUGE = 1e3  # logits of pixels that are surely right: their cross-entropy is 0


def output(
    means, *, log_variance=None, logits=None, images=None, dtype=torch.float64
) -> Autoencoded:
    raw = torch.as_tensor(means, dtype=dtype)
    images = torch.zeros(len(raw), 1, 1, 2, dtype=dtype) if images is None else images
    logits = torch.full_like(images, -HUGE) if logits is None else logits
    log_variance = torch.zeros_like(raw) if log_variance is None else log_variance
    return Autoencoded(*Embedded.of(raw), log_variance, logits, images)


def parts(objective: TripletVAE, made: Autoencoded, labels=LABELS) -> dict[str, float]:
    value = objective(made, labels)
    assert float(value.total) == pytest.approx(sum(float(part) for part in value.parts.values()))
    return {name: float(part) for name, part in value.parts.items()}


def test_a_batch_of_two_triplets_worked_by_hand():
    # triplet one: positive at 3, negative at 4 of the anchor: [3 - 4 + .2]+ = 0
    # triplet two: positive at 2, negative at 1 of the anchor: [2 - 1 + .2]+ = 1.2
    means = [[0, 0], [3, 0], [0, 4], [1, 1], [1, 3], [2, 1]]
    logits = torch.zeros(6, 1, 1, 2, dtype=torch.float64)  # each pixel costs ln 2
    found = parts(TripletVAE(), output(means, logits=logits))
    squares = [0, 9, 16, 2, 10, 5]
    assert found["triplet"] == pytest.approx(0.6, abs=3e-6)
    assert found["kl"] == pytest.approx(0.01 * 0.5 * sum(squares) / 6)
    assert found["reconstruction"] == pytest.approx(0.01 * 2 * math.log(2))
    norms = [math.sqrt(0 + 2), math.sqrt(9 + 10), math.sqrt(16 + 5)]
    assert found["regulariser"] == pytest.approx(0.001 * sum(norms))
    statistics = TripletVAE()(output(means, logits=logits), LABELS).statistics
    assert statistics["triplet_accuracy"] == 0.5
    assert statistics["active"] == 0.5
    assert statistics["distance_positive"] == pytest.approx(2.5, abs=1e-5)
    assert statistics["negative_elbo"] == pytest.approx(
        (found["kl"] + found["reconstruction"]) / 0.01
    )


def test_random_batches_equal_naive_loops():
    rng = np.random.default_rng(0)
    t, d = 5, 4
    means, log_variance = rng.normal(size=(3 * t, d)), rng.normal(size=(3 * t, d))
    images, logits = rng.random((3 * t, 1, 3, 3)), rng.normal(size=(3 * t, 1, 3, 3))
    labels = torch.tensor([0, 0, 1] * t)
    made = output(means, log_variance=torch.tensor(log_variance), logits=torch.tensor(logits),
                  images=torch.tensor(images))  # fmt: skip
    value = TripletVAE(margin=1.0)(made, labels)
    vae = tri = 0.0
    for row in range(3 * t):
        for x, s in zip(images[row].ravel(), logits[row].ravel(), strict=True):
            p = 1 / (1 + math.exp(-s))
            vae -= x * math.log(p) + (1 - x) * math.log(1 - p)
        for mu, v in zip(means[row], log_variance[row], strict=True):
            vae -= 0.5 * (1 + v - mu**2 - math.exp(v))
    for row in range(t):
        a, p, n = means[3 * row : 3 * row + 3]
        near = math.sqrt(sum((x - y + 1e-6) ** 2 for x, y in zip(a, p, strict=True)))
        far = math.sqrt(sum((x - y + 1e-6) ** 2 for x, y in zip(a, n, strict=True)))
        tri += max(0.0, near - far + 1.0)
    reg = sum(math.sqrt((means[slot::3] ** 2).sum()) for slot in range(3))
    assert float(value.total) == pytest.approx(0.01 * vae / (3 * t) + tri / t + 0.001 * reg)


def test_the_published_epsilon_is_within_the_norm():
    """Of equal means each of d dimensions has 1e-6 left, so the distance is its root times that."""
    made = output(torch.zeros(6, 4))
    statistics = TripletVAE()(made, LABELS).statistics
    assert statistics["distance_positive"] == pytest.approx(2e-6, rel=1e-9)
    assert statistics["distance_negative"] == pytest.approx(2e-6, rel=1e-9)
    assert statistics["triplet_accuracy"] == 0  # ties are wrong


def test_reconstruction_is_summed_over_pixels_not_averaged():
    """The old `size_average=False` is ignored today, which makes the ELBO 784 times too small."""
    images = torch.rand(6, 1, 28, 28)
    made = output(torch.zeros(6, 2), images=images, logits=torch.zeros(6, 1, 28, 28),
                  dtype=torch.float32)  # fmt: skip
    value = TripletVAE()(made, LABELS)
    assert value.statistics["negative_elbo"] == pytest.approx(784 * math.log(2), rel=1e-5)


def test_the_regulariser_is_a_norm_of_whole_matrices():
    """It grows with the root of the batch; a mean over triplets would not."""
    means = torch.ones(6, 2)
    few = parts(TripletVAE(), output(means))["regulariser"]
    many = parts(TripletVAE(), output(means.repeat(4, 1)), LABELS.repeat(4))["regulariser"]
    assert few == pytest.approx(0.001 * 3 * 2.0)
    assert many == pytest.approx(2 * few)


def test_distances_are_of_means_neither_normalised_nor_sampled():
    means = torch.randn(6, 3, dtype=torch.float64)
    small = parts(TripletVAE(margin=50.0), output(means))["triplet"]
    large = parts(TripletVAE(margin=50.0), output(2 * means))["triplet"]
    assert large - 50 == pytest.approx(2 * (small - 50), abs=1e-4)  # unit rows would not differ
    wide = output(means, log_variance=torch.full_like(means, 5.0))
    assert parts(TripletVAE(margin=50.0), wide)["triplet"] == pytest.approx(small)


def test_order_of_triplets_and_names_of_labels_do_not_matter():
    torch.manual_seed(0)
    means = torch.randn(12, 3, dtype=torch.float64)
    labels = LABELS.repeat(2)
    order = torch.tensor([2, 0, 3, 1])
    rows = (3 * order[:, None] + torch.arange(3)).flatten()
    one = TripletVAE()(output(means), labels).total
    assert torch.allclose(one, TripletVAE()(output(means[rows]), labels[rows]).total)
    assert torch.equal(one, TripletVAE()(output(means), 7 - labels).total)


def test_gradients_are_right_in_double_precision():
    torch.manual_seed(0)
    means = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    log_variance = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(6, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    images = torch.rand(6, 1, 2, 2, dtype=torch.float64)

    def loss(mean, spread, picture):
        made = Autoencoded(*Embedded.of(mean), spread, picture, images)
        return TripletVAE(margin=2.0)(made, LABELS).total

    assert torch.autograd.gradcheck(loss, (means, log_variance, logits))


REACHED = {
    "triplet": ({"weight_vae": 0.0, "weight_regulariser": 0.0}, {"encoder", "mean"}),
    "regulariser": (
        {"weight_vae": 0.0, "weight_triplet": 1e-30, "weight_regulariser": 1.0},
        {"encoder", "mean"},
    ),
    "vae": (
        {"weight_triplet": 0.0, "weight_regulariser": 0.0},
        {"encoder", "mean", "log_variance", "decoder"},
    ),
}


@pytest.mark.parametrize(("weights", "reached"), REACHED.values(), ids=REACHED.keys())
def test_each_part_reaches_its_parameters_and_no_others(model, weights, reached):
    torch.manual_seed(0)
    TripletVAE(margin=5.0, **weights)(model(torch.rand(6, 1, 8, 8)), LABELS).total.backward()
    found = {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }
    assert found == reached


def test_baselines_are_weights():
    torch.manual_seed(0)
    made = output(torch.randn(6, 2), dtype=torch.float32)
    vanilla = TripletVAE(weight_triplet=0.0, weight_regulariser=0.0)(made, LABELS)
    assert set(vanilla.parts) == {"reconstruction", "kl"}
    assert "triplet_accuracy" in vanilla.statistics  # the same evaluation of both
    alone = TripletVAE(weight_vae=0.0)(made, LABELS)
    assert set(alone.parts) == {"triplet", "regulariser"}
    assert "negative_elbo" not in alone.statistics


def test_unlabelled_pictures_take_part_only_in_the_elbo():
    torch.manual_seed(0)
    means = torch.randn(8, 2, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 9, 2, 2, 0, 9])  # what the unlabelled say is not read
    objective = TripletVAE(unlabelled=1)
    found = parts(objective, output(means), labels)
    kept = torch.tensor([0, 1, 2, 4, 5, 6])
    without = parts(TripletVAE(), output(means[kept]), LABELS)
    for name in ("triplet", "regulariser"):
        assert found[name] == pytest.approx(without[name])
    assert found["kl"] == pytest.approx(0.01 * float(0.5 * means.square().sum()) / 8)
    moved = means.clone()
    moved[3] += 5
    other = parts(objective, output(moved), labels)
    assert other["triplet"] == found["triplet"]
    assert other["kl"] > found["kl"]


class TestReconstruction:
    def test_plain_reconstruction_of_pixels(self):
        images = torch.rand(6, 1, 2, 2)
        made = output(torch.zeros(6, 2), images=images, logits=images + 0.5, dtype=torch.float32)
        objective = TripletVAE(weight_vae=1.0, reconstruction=Squared())
        assert parts(objective, made)["reconstruction"] == pytest.approx(0.5 * 4 * 0.25)

    def test_the_perceptual_loss_equals_that_of_the_authors_on_their_batch(self):
        """[sum over slots of KL_sum + 0.5 FPL] / (3 B), FPL a mean over the batch, B = 4."""
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 2))
        layers = _Layers(network)
        images, rebuilt = torch.rand(12, 1, 6, 6), torch.rand(12, 1, 6, 6)
        made = output(torch.zeros(12, 2), images=images, logits=rebuilt, dtype=torch.float32)
        objective = TripletVAE(weight_vae=1.0, reconstruction=Perceptual(layers))
        labels = LABELS.repeat(2)
        total = 0.0
        with torch.no_grad():
            for slot in range(3):
                x, r = images[slot::3], rebuilt[slot::3]
                pairs = zip(layers(x), layers(r), strict=True)
                total += 0.5 * sum(float((f - g).square().mean()) for f, g in pairs)
        assert parts(objective, made, labels)["reconstruction"] == pytest.approx(total / 12)

    def test_each_picture_is_compared_with_its_own_reconstruction(self):
        images = torch.rand(6, 1, 4, 4)
        loss = Perceptual(nn.Flatten())
        assert loss(images, images).tolist() == [0.0] * 6
        moved = images.clone()
        moved[2] += 1
        assert [term > 0 for term in loss(moved, images).tolist()] == [i == 2 for i in range(6)]

    def test_the_feature_network_is_frozen_in_evaluation_mode_and_not_saved(self):
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
        objective = TripletVAE(reconstruction=Perceptual(network)).train()
        before = network[1].running_mean.clone()
        picture = torch.rand(6, 1, 4, 4, requires_grad=True)
        terms = objective.reconstruction(picture, torch.rand(6, 1, 4, 4))
        terms.sum().backward()
        assert picture.grad is not None
        assert not any(module.training for module in network.modules())
        network.train()  # by its owner, afterwards
        objective.reconstruction(picture, torch.rand(6, 1, 4, 4))
        assert not any(module.training for module in network.modules())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
        assert torch.equal(network[1].running_mean, before)
        assert not list(objective.parameters())
        assert not objective.state_dict()
        assert objective.parameter_groups() == []

    def test_features_in_a_mapping_and_none_at_all(self):
        class Named(nn.Module):
            def forward(self, x):
                return {"a": x, "b": 2 * x}

        class Nothing(nn.Module):
            def forward(self, x):
                return []

        zeros, ones = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
        assert Perceptual(Named(), weight=1.0)(zeros, ones).tolist() == [5.0]
        with pytest.raises(InputError, match=r"must give a tensor, .* got none"):
            Perceptual(Nothing())(zeros, ones)

    @pytest.mark.parametrize("weight", [0.0, -1.0, math.inf])
    def test_weights_that_are_not_positive_are_refused(self, weight):
        with pytest.raises(InputError, match="weight must be a number > 0, got"):
            Perceptual(nn.Identity(), weight=weight)


class _Layers(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        first = self.network[:2](x)
        return [first, self.network[2:](first)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight_vae": -0.01}, "weight_vae must be a finite number >= 0, got -0.01"),
        ({"weight_triplet": -1.0}, "weight_triplet must be a finite number >= 0, got -1"),
        ({"weight_regulariser": -1.0}, "weight_regulariser must be a finite number >= 0"),
        ({"weight_vae": math.nan}, "weight_vae must be a finite number >= 0, got nan"),
        ({"weight_vae": 0.0, "weight_triplet": 0.0}, "got 0 for both: nothing would be learned"),
        ({"margin": 0.0}, r"margin must be a finite number > 0, got 0.0; for an ablation .* 1e-9"),
        ({"margin": -0.2}, "margin must be a finite number > 0, got -0.2"),
        ({"unlabelled": -1}, "unlabelled must be >= 0, got -1"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        TripletVAE(**options)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            [0, 1, 2, 2, 2, 0],
            r"positive must have the label of its anchor, but triplet 0 .* 0, 1, 2",
        ),
        ([0, 0, 1, 2, 2, 2], r"negative must have another label than its anchor, but triplet 1"),
    ],
)
def test_batches_that_contradict_their_labels_are_refused(labels, text):
    with pytest.raises(InputError, match=text):
        TripletVAE()(output(torch.zeros(6, 2)), torch.tensor(labels))


def test_an_anchor_that_is_its_own_positive_is_refused():
    items = torch.tensor([4, 5, 6, 8, 8, 9])
    with pytest.raises(InputError, match=r"must not be its own positive, got item \[8\]"):
        TripletVAE()(output(torch.zeros(6, 2)), LABELS, items=items)


@pytest.mark.parametrize(("rows", "unlabelled"), [(5, 0), (6, 1), (0, 0)])
def test_batches_that_are_not_whole_triplets_are_refused(rows, unlabelled):
    with pytest.raises(
        InputError, match=rf"whole triplets, {3 + unlabelled} rows each .*got {rows}"
    ):
        TripletVAE(unlabelled=unlabelled)(output(torch.zeros(rows, 2)), None)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_pictures_outside_0_to_1_are_refused_by_cross_entropy(wrong):
    images = torch.rand(6, 1, 2, 2, dtype=torch.float64)
    images[3, 0, 1, 1] = wrong
    made = output(torch.zeros(6, 2), images=images, logits=torch.zeros_like(images))
    with pytest.raises(InputError, match=r"needs pictures with values in \[0, 1\], got"):
        TripletVAE()(made, LABELS)
    assert Bernoulli.output == "logits"
