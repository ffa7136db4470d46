"""Golden values 6.1 and 6.2 of the specification, the mechanism M1 and M6, and hard cases."""

import math

import pytest
import torch

from tupelo.errors import InputError
from tupelo.synthesis import pull
from tupelo.synthesis.pulling import adaptive


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("alpha", "j_avg", "expected"),
    [(90.0, 1e6, 3.99973001), (90.0, 30.0, 1.14936121), (90.0, 1.0, 1.0), (7.0, 3.0, 1.29091590)],
)
def test_golden_distances(alpha, j_avg, expected):
    found = pull(rows([0, 0]), rows([1, 0]), rows([0, 4])[None], alpha=alpha, j_avg=j_avg)
    torch.testing.assert_close(found, rows([0, expected])[None], atol=1e-6, rtol=0)


def test_a_negative_nearer_than_the_positive_stays():
    negative = rows([0, 1])[None]
    assert torch.equal(pull(rows([0, 0]), rows([2, 0]), negative, alpha=90.0, j_avg=1.0), negative)


@pytest.mark.parametrize(
    ("j_gen", "w"),
    [(1e6, 0.99004983), (5e4, 0.81873075), (1e4, 0.36787944), (2e3, 0.00673795), (0.0, 0.0)],
)
def test_golden_weights(j_gen, w):
    found = float(adaptive(1e4, torch.tensor(j_gen, dtype=torch.float64)))
    assert found == pytest.approx(w, abs=1e-8)


@pytest.mark.parametrize(
    ("hardness", "expected"),
    [
        (0.0, [[2, 0], [0.55278640, 0.89442719], [0.44721360, 0.77639320], [0.5, 1]]),
        (0.5, [[2, 0], [0.52639320, 0.94721360], [1.22360680, 0.38819660], [0.5, 1]]),
    ],
)
def test_the_golden_grid_of_n_pairs(hardness, expected):
    """All ordered pairs (i, j): on the diagonal the positive itself, untouched."""
    anchors, positives = rows([1, 0], [0, 1]), rows([2, 0], [0.5, 1])
    grid = positives.expand(2, 2, 2)
    j_avg = 0.0 if hardness == 0 else 90 / -math.log(hardness)
    found = pull(anchors, positives, grid, alpha=90.0, j_avg=j_avg)
    torch.testing.assert_close(found.flatten(0, 1), rows(*expected), atol=1e-6, rtol=0)
    assert torch.equal(found[[0, 1], [0, 1]], positives)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hardness", [0.0, 0.001, 0.3, 0.9])
def test_pulled_rows_lie_on_the_line_at_the_distance_of_the_formula(hardness, dtype):
    torch.manual_seed(0)
    anchor, positive = torch.randn(2, 50, 8, dtype=dtype)
    negative = torch.randn(50, 3, 8, dtype=dtype)
    j_avg = 0.0 if hardness == 0 else 7 / -math.log(hardness)
    found = pull(anchor, positive, negative, alpha=7.0, j_avg=j_avg)
    near = (anchor - positive).norm(dim=1, keepdim=True).expand(50, 3)
    far = (anchor[:, None] - negative).norm(dim=2)
    reached = (anchor[:, None] - found).norm(dim=2)
    expected = torch.where(far > near, hardness * far + (1 - hardness) * near, far)
    assert (far > near).any()
    assert (far <= near).any()
    torch.testing.assert_close(reached, expected, rtol=1e-5, atol=0)
    cosine = torch.nn.functional.cosine_similarity(
        found - anchor[:, None], negative - anchor[:, None], dim=2
    )
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert torch.equal(found[far <= near], negative[far <= near])


@pytest.mark.parametrize("j_avg", [0.0, 1e-30, 1.0])
def test_without_alpha_every_bit_stays(j_avg):
    torch.manual_seed(0)
    anchor, positive, negative = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 2, 4)
    assert torch.equal(pull(anchor, positive, negative, alpha=0.0, j_avg=j_avg), negative)


def test_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    anchor, positive = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)

    def of(a, p, n):
        return pull(a, p, n, alpha=2.0, j_avg=3.0)

    assert torch.autograd.gradcheck(of, (anchor, positive, negative))


@pytest.mark.parametrize("same", ["all", "positive", "negative"])
def test_coincident_rows_have_finite_gradients(same):
    anchor = torch.randn(3, 4, requires_grad=True)
    other = torch.randn(3, 4)
    positive = anchor if same in ("all", "positive") else other
    negative = (anchor if same in ("all", "negative") else other)[:, None]
    found = pull(anchor, positive, negative, alpha=1.0, j_avg=1.0)
    found.square().sum().backward()
    assert found.isfinite().all()
    assert anchor.grad.isfinite().all()


def test_a_mean_that_is_not_positive_pulls_all_the_way():
    for mean in (0.0, -1.0):
        found = pull(rows([0, 0]), rows([1, 0]), rows([0, 4])[None], alpha=90.0, j_avg=mean)
        assert found.tolist() == [[[0.0, 1.0]]]


def test_a_negative_alpha_is_refused():
    z = torch.zeros(1, 2)
    with pytest.raises(InputError, match=r"alpha must be >= 0, got -1\.0"):
        pull(z, z, z[None], alpha=-1.0, j_avg=1.0)
