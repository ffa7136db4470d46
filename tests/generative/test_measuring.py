"""Triplet accuracy and the ELBO: exact definitions, ties, means of pictures."""

import math

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.generative import (
    ByTriplets,
    Elbo,
    Squared,
    TripletAccuracy,
    TripletList,
    means,
    measuring,
    negative_elbo,
    random_triplets,
    triplet_accuracy,
)
from tupelo.models import conv_vae


def naive(rows, triplets) -> tuple[int, int]:
    right = ties = 0
    for a, p, n in triplets.rows:
        near = math.dist(rows[a].tolist(), rows[p].tolist())
        far = math.dist(rows[a].tolist(), rows[n].tolist())
        right += far > near
        ties += far == near
    return right, ties


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_accuracy_equals_a_naive_loop_with_many_ties(levels):
    rng = np.random.default_rng(levels)
    rows = torch.from_numpy(rng.integers(levels, size=(30, 2)).astype(np.float32))
    triplets = random_triplets(np.arange(30) % 3, 400, seed=levels)
    found = triplet_accuracy(rows, triplets)
    right, ties = naive(rows, triplets)
    assert (found.accuracy, found.ties, found.count) == (right / 400, ties, 400)
    assert (ties > 0) == (levels < 1000)


def test_swapped_positives_and_negatives_give_one_minus_the_accuracy():
    rows = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    triplets = random_triplets(np.arange(30) % 3, 1000)
    one, other = triplet_accuracy(rows, triplets), triplet_accuracy(rows, triplets.swapped())
    assert one.ties == 0
    assert one.accuracy + other.accuracy == pytest.approx(1)
    tied = torch.randint(2, (30, 2), generator=torch.Generator().manual_seed(0)).float()
    one, other = triplet_accuracy(tied, triplets), triplet_accuracy(tied, triplets.swapped())
    assert one.accuracy + other.accuracy == pytest.approx(1 - one.ties / 1000)


def test_a_collapsed_embedding_and_nan_are_always_wrong():
    triplets = random_triplets(np.arange(30) % 3, 100)
    assert triplet_accuracy(torch.ones(30, 4), triplets).accuracy == 0
    assert triplet_accuracy(torch.ones(30, 4), triplets).ties == 100
    assert triplet_accuracy(torch.full((30, 4), math.nan), triplets).accuracy == 0


def test_distances_to_both_sides_tie_exactly():
    """The 1e-6 within the norm of the loss would decide; the measure has none."""
    rows = torch.tensor([[0.0, 0.0], [0.3, -0.1], [-0.3, 0.1]])
    one = TripletList(*np.array([[0], [1], [2]]))
    assert triplet_accuracy(rows, one).ties == 1


def test_distances_that_single_precision_cannot_tell_apart_are_no_tie():
    rows = torch.tensor([[-1.0], [1.0], [1.0 + 2**-23]])
    found = triplet_accuracy(rows, TripletList(*np.array([[0], [1], [2]])))
    assert (found.accuracy, found.ties) == (1, 0)


def test_random_rows_are_at_chance_within_the_standard_error():
    rows = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    found = triplet_accuracy(rows, random_triplets(np.arange(2000) % 10, 10_000))
    assert found.standard_error == pytest.approx(0.005, rel=1e-3)
    assert abs(found.accuracy - 0.5) < 4 * found.standard_error
    assert "of 10,000 triplets" in str(found)


def test_triplets_of_other_rows_are_refused():
    with pytest.raises(InputError, match="must be of these 5 rows, got position"):
        triplet_accuracy(torch.zeros(5, 2), random_triplets(np.arange(30) % 3, 100))


def test_no_triplets_are_refused():
    with pytest.raises(InputError, match="a list of triplets must hold at least one, got 0"):
        triplet_accuracy(torch.zeros(5, 2), TripletList(*np.zeros((3, 0), dtype=np.int64)))


def test_means_are_those_of_the_encoder_and_leave_the_mode(model, pictures):
    model.train()
    told = []
    rows = means(model, pictures, progress=lambda done, total: told.append((done, total)))
    images = pictures.batch(range(60)).images
    torch.testing.assert_close(rows, model.encode(images).mean.raw.detach())
    assert model.training
    assert told == [(60, 60)]


def test_measures_are_taken_in_evaluation_mode(pictures):
    torch.manual_seed(0)
    data = ImageSet.from_arrays(np.zeros((20, 16, 16), np.uint8), np.arange(20) % 2)
    model = conv_vae(size=16, channels=1, dim=3).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trained = means(model, data), negative_elbo(model, data)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(trained[0], means(model.eval(), data))
    assert trained[1] == negative_elbo(model, data)


def test_more_triplets_than_are_gathered_at_once_are_all_counted(monkeypatch):
    rows = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    triplets = random_triplets(np.arange(30) % 3, 100)
    whole = triplet_accuracy(rows, triplets)
    monkeypatch.setattr(measuring, "AT_ONCE", 7)
    assert triplet_accuracy(rows, triplets) == whole


def test_the_elbo_equals_a_naive_sum(model, pictures):
    found = negative_elbo(model, pictures, seed=4)
    images = pictures.batch(range(60)).images
    with torch.no_grad():
        mean, log_variance = (
            model.encode(images).mean.raw,
            model.encode(images).log_variance,
        )
        noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(4))
        p = model.decode(mean + (0.5 * log_variance).exp() * noise).sigmoid().double()
    x = images.double()
    entropy = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    assert found.reconstruction == pytest.approx(float(entropy.mean()), rel=1e-5)
    assert found.kl == pytest.approx(float(kl.mean()), rel=1e-5)
    assert found.total == pytest.approx(found.reconstruction + found.kl)
    assert found.count == 60
    assert negative_elbo(model, pictures, seed=4) == found != negative_elbo(model, pictures)


def test_the_elbo_needs_a_loss_that_reads_the_decoder(model, pictures):
    with pytest.raises(InputError, match="Squared takes pixels, and the decoder gives logits"):
        negative_elbo(model, pictures, reconstruction=Squared())
    with pytest.raises(InputError, match=r"Bernoulli takes logits, .* output='logits'"):
        negative_elbo(conv_vae(size=16, channels=1, output="pixels"), pictures)


def test_pictures_that_are_not_there_are_refused(model, pictures):
    with pytest.raises(InputError, match="pictures must hold at least one, got 0"):
        means(model, pictures.subset([]))


def test_a_judge_measures_held_out_pictures(model, pictures):
    triplets = random_triplets(pictures.labels, 200)
    found = ByTriplets(pictures, triplets)(model)
    assert found["accuracy"] == triplet_accuracy(means(model, pictures), triplets).accuracy
    assert found["negative_elbo"] == negative_elbo(model, pictures).total
    with pytest.raises(InputError, match="a positive must have the label of its anchor"):
        ByTriplets(pictures, triplets.swapped())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((51, 900.0), (50, 100.0)),  # a triplet more is more than any ELBO
        ((50, 100.0), (50, 100.01)),
        ((50, 5e5), (50, math.inf)),
        ((50, -3.0), (50, 2.0)),  # of a density, losses may be negative
        ((1, math.nan), (0, -1e9)),
    ],
)
def test_the_choice_is_by_triplets_and_of_equal_ones_by_the_elbo(
    model, pictures, monkeypatch, better, worse
):
    found = iter([better, worse, better, worse])

    def measured(*_, **__):
        nonlocal right, elbo
        right, elbo = next(found)
        return TripletAccuracy(right / 10_000, 0, 10_000)

    right, elbo = 0, 0.0
    monkeypatch.setattr(measuring, "triplet_accuracy", measured)
    monkeypatch.setattr(measuring, "negative_elbo", lambda *_, **__: Elbo(elbo, 0.0, 1))
    triplets = random_triplets(pictures.labels, 20)
    judge = ByTriplets(pictures, triplets)
    assert judge(model)["choice"] > judge(model)["choice"]
    alone = ByTriplets(pictures, triplets, by_elbo=True)
    one, other = alone(model)["choice"], alone(model)["choice"]
    assert (one > other) == (better[1] < worse[1])
