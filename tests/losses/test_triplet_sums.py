import pytest
import torch

from tupelo.losses import triplet_kernel
from tupelo.losses.triplet_sums import _compiled, _sorted


def by_loops(distance, positive, negative, margin):
    sums, active, slope = torch.zeros(len(distance)), torch.zeros(len(distance)), None
    slope = torch.zeros_like(distance)
    for i in range(len(distance)):
        for j in positive[i].nonzero()[:, 0]:
            for k in negative[i].nonzero()[:, 0]:
                hinge = distance[i, j] - distance[i, k] + margin
                if hinge > 0:
                    sums[i] += hinge
                    active[i] += 1
                    slope[i, j] += 1
                    slope[i, k] -= 1
    return sums, active, slope


def random_case(seed, b=7, c=30, share=0.4):
    generator = torch.Generator().manual_seed(seed)
    # few different values, so that ties of bounds and distances occur
    distance = torch.randint(0, 12, (b, c), generator=generator) / 8
    side = torch.rand(b, c, generator=generator)
    return distance, side < share, side > 0.5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_both_ways_equal_loops(seed, share):
    distance, positive, negative = random_case(seed, share=share)
    want = by_loops(distance, positive, negative, 0.25)
    for compute in (_compiled, _sorted):
        for got, expected in zip(compute(distance, positive, negative, 0.25), want, strict=True):
            assert torch.allclose(got.float(), expected, atol=1e-5)


def test_many_positives_are_sorted_instead_of_counted():
    many = 2 * triplet_kernel.SORT_FROM_POSITIVES
    distance, positive, negative = random_case(0, b=2, c=3 * many, share=0.5)
    assert positive.sum(1).min() > triplet_kernel.SORT_FROM_POSITIVES
    for got, want in zip(
        _compiled(distance, positive, negative, 0.25),
        _sorted(distance, positive, negative, 0.25),
        strict=True,
    ):
        assert torch.allclose(got, want)


def test_a_transposed_matrix_gives_the_same():
    distance, positive, negative = random_case(1)
    turned = distance.T.contiguous().T
    for got, want in zip(
        _compiled(turned, positive, negative, 0.25),
        _compiled(distance, positive, negative, 0.25),
        strict=True,
    ):
        assert torch.equal(got, want)
