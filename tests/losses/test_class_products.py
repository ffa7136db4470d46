import pytest
import torch
from torch.nn import functional as F

from tupelo.losses import class_products
from tupelo.losses.class_products import (
    both_with,
    cosines_with,
    log_sums_of_others,
    products_with,
    softmax_terms,
)


@pytest.fixture(params=[3, 4096], ids=["several tiles", "one tile"])
def case(request, monkeypatch):
    monkeypatch.setattr(class_products, "TILE", request.param)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 4, dtype=torch.float64, generator=draw)
    weights = torch.randn(7, 4, dtype=torch.float64, generator=draw)
    labels = torch.tensor([0, 6, 2, 2, 5])
    return rows.requires_grad_(), weights.requires_grad_(), labels


def test_values_are_those_of_plain_torch(case):
    rows, weights, labels = case
    expected = F.normalize(rows, dim=1) @ F.normalize(weights, dim=1).T
    cosines, own = cosines_with(rows, weights, labels)
    torch.testing.assert_close(cosines, expected)
    torch.testing.assert_close(own, expected.gather(1, labels[:, None])[:, 0])
    products, own = products_with(rows, weights, labels)
    torch.testing.assert_close(products, rows @ weights.T)
    torch.testing.assert_close(own, expected.gather(1, labels[:, None])[:, 0])
    products, cosines = both_with(rows, weights)
    torch.testing.assert_close(products, rows @ weights.T)
    torch.testing.assert_close(cosines, expected)
    terms = F.cross_entropy(expected * 9, labels, reduction="none")
    torch.testing.assert_close(softmax_terms(cosines, labels, own, 9.0), terms)
    others = expected.scatter(1, labels[:, None], -torch.inf) * 9
    torch.testing.assert_close(log_sums_of_others(cosines, labels, 9.0), others.logsumexp(1))


@pytest.mark.parametrize("made", [cosines_with, products_with])
def test_gradients_of_both_outputs(case, made):
    assert torch.autograd.gradcheck(lambda x, w: made(x, w, case[2]), case[:2])


def test_gradients_of_products_and_cosines(case):
    assert torch.autograd.gradcheck(both_with, case[:2])


def test_rows_alone_may_have_gradients(case):
    rows, weights, labels = case
    still = weights.detach()
    assert torch.autograd.gradcheck(lambda x: cosines_with(x, still, labels), (rows,))


def test_gradients_of_the_sums(case):
    labels = case[2]
    values = torch.randn(5, 7, dtype=torch.float64).requires_grad_()
    own = torch.randn(5, dtype=torch.float64).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda v, o: softmax_terms(v, labels, o, 3.0), (values, own))
    assert check(lambda v: log_sums_of_others(v, labels, 3.0), (values,))


def test_a_small_loss_keeps_its_digits():
    values = torch.tensor([[1.0, 0.8]])
    terms = softmax_terms(values, torch.tensor([0]), values[:, 0], 64.0)
    exact = F.cross_entropy(values.double() * 64, torch.tensor([0]))
    assert terms.item() == pytest.approx(exact.item(), rel=0.05)
    assert terms.item() > 0


def test_rows_of_zeros_have_no_cosine_and_no_infinite_gradient():
    weights = torch.randn(3, 2, requires_grad=True)
    cosines, own = cosines_with(torch.zeros(1, 2), weights, torch.tensor([1]))
    (cosines.sum() + own.sum()).backward()
    assert cosines.tolist() == [[0, 0, 0]]
    assert torch.isfinite(weights.grad).all()
