"""The orderings that easy positive sampling must show; the grid is a benchmark of that name."""

import os

import pytest
import torch

from eps_experiments import free_points, parity, tuples
from tupelo.comparison import Comparison
from tupelo.selection import PerAnchor

mnist = pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="MNIST is read from TUPELO_DATA")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["triplet", "margin"])
class TestFreePoints:
    """Experiments A and E: 64 points in the plane, two modes of one class."""

    @pytest.mark.parametrize("flip", [0.1, 0.2])
    def test_label_noise_collapses_a_class_unless_positives_are_easy(self, loss, flip):
        assert free_points(loss, None, flip, seed=0).ratio < 0.15
        assert free_points(loss, "easiest", flip, seed=0).ratio > 0.5

    def test_clean_labels_do_not_collapse(self, loss):
        assert free_points(loss, None, 0.0, seed=0).ratio > 0.1


@pytest.mark.slow
@pytest.mark.data
@mnist
@pytest.mark.parametrize(
    ("loss", "dim", "normalize"),
    [("triplet", 2, False), ("margin", 2, False), ("triplet", 64, True)],
)
def test_digits_of_one_parity_stay_apart_only_with_easy_positives(loss, dim, normalize):
    """Experiment B, the robust criterion: the collapse ratio on clean labels."""

    def run(positive):
        objective = tuples(loss, positive, normalize=normalize)
        return parity(objective, dim=dim, normalize=normalize, seed=0)

    random, easy = run("random"), run("easiest")
    assert random.collapse_ratio < 0.15
    assert easy.collapse_ratio > 0.5
    assert abs(random.parity_recall_at_1 - easy.parity_recall_at_1) < 0.03
    if dim == 2:
        assert easy.seen_recall_at_1 > random.seen_recall_at_1 + 0.08


def test_two_samples_a_class_leave_no_choice():
    """Experiment C: with K = 2 easy and random positives are the same indices."""
    z = torch.nn.functional.normalize(torch.randn(32, 8), dim=1)
    comparison = Comparison.within(z, torch.arange(16).repeat_interleave(2))
    easy = PerAnchor("easiest", "hardest")(comparison)
    random = PerAnchor("random", "hardest")(comparison)
    assert torch.equal(easy.positive, random.positive)
    assert torch.equal(easy.negative, random.negative)
