import pytest
import torch
from tests.fewshot.meta_cases import SIDE, network, pictures, task
from torch import nn

from tupelo.errors import InputError
from tupelo.fewshot import FullContext, Matching
from tupelo.fewshot.meta import Matcher
from tupelo.fewshot.meta_weights import VectorNetwork


@pytest.mark.parametrize("train", [True, False])
def test_with_its_own_weights_a_network_answers_as_before(train):
    one = network()
    other = VectorNetwork(one)
    x = pictures([0, 1, 2])
    one.train(train)
    found = other(other.initial(), other.fresh_statistics(), train, x).raw
    torch.testing.assert_close(found, one(x).raw, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_parameters():
    one = network()
    other = VectorNetwork(one)
    x = pictures([0, 1, 2])
    theta = other.initial().requires_grad_()
    (found,) = torch.autograd.grad(
        other(theta, other.fresh_statistics(), True, x).raw.square().sum(), theta
    )
    wanted = torch.autograd.grad(one.train()(x).raw.square().sum(), list(one.parameters()))
    by_name = dict(zip((name for name, _ in one.named_parameters()), wanted, strict=True))
    for (name, _), mine in zip(other.order, other.weights(found).values(), strict=True):
        scale = by_name[name].abs().max().item() + 1e-3
        torch.testing.assert_close(mine, by_name[name], rtol=0, atol=1e-4 * scale)


def test_the_network_itself_is_left_alone_and_its_copy_has_no_weights():
    one = network()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    other = VectorNetwork(one)
    other(torch.zeros(other.size), other.fresh_statistics(), True, pictures([0, 1]))
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
    assert not list(other.parameters())
    assert other.size == sum(parameter.numel() for parameter in one.parameters())
    assert not any("weight" in name for name in other.state_dict())


def test_lstms_take_the_weights_that_are_given():
    head = Matching(fce=FullContext(3))
    one = Matcher(network(head))
    other = VectorNetwork(one)
    given = task()
    inputs = given.support, given.support_labels, given.queries, 3
    statistics = other.fresh_statistics()
    same = other(other.initial(), statistics, True, *inputs)
    torch.testing.assert_close(same, one(*inputs), rtol=1e-4, atol=1e-5)
    changed = other.initial()
    at = 0
    for name, shape in other.order:
        size = torch.Size(shape).numel()
        if "fce" in name:
            changed[at : at + size] += 0.5
        at += size
    assert not torch.allclose(same, other(changed, statistics, True, *inputs), atol=1e-3)


def test_shared_parameters_stay_parameters():
    other = VectorNetwork(network(), shared=lambda name: name.startswith("encoder.blocks.0"))
    assert [name for name, _ in other.named_parameters()] == [
        f"network.encoder.blocks.0.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")
    ]
    assert not any(name.startswith("encoder.blocks.0") for name, _ in other.order)


def test_parameters_that_need_no_gradient_stay_where_they_are():
    one = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    one[0].requires_grad_(False)
    other = VectorNetwork(one)
    assert [name for name, _ in other.order] == ["1.weight", "1.bias"]
    assert torch.equal(other.network[0].weight, one[0].weight)


def test_measured_statistics_are_those_of_the_batch():
    one = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    other = VectorNetwork(one)
    x = torch.randn(9, 4)
    found = other.measured(other.initial(), x)
    rows = one[0](x)
    torch.testing.assert_close(found["1.running_mean"], rows.mean(0))
    torch.testing.assert_close(found["1.running_var"], rows.var(0))
    assert other._normalisations["1"].momentum == 0.95


def test_running_statistics_weigh_new_batches_by_the_momentum():
    other = VectorNetwork(nn.BatchNorm1d(2), bn_momentum=0.25)
    statistics = other.fresh_statistics()
    x = torch.randn(50, 2) + 8
    other(other.initial(), statistics, True, x)
    torch.testing.assert_close(statistics["running_mean"], 0.25 * x.mean(0))
    torch.testing.assert_close(statistics["running_var"], 0.75 + 0.25 * x.var(0))


def test_a_vector_of_another_length_is_refused():
    other = VectorNetwork(nn.Linear(3, 2))
    with pytest.raises(
        InputError, match=r"theta must have .* each of the 8 parameters.*got \(7,\)"
    ):
        other(torch.zeros(7), {}, True, torch.zeros(1, 3))


@pytest.mark.parametrize("momentum", [0.0, 1.5])
def test_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(InputError, match=rf"bn_momentum must be in \(0, 1\], got {momentum}"):
        VectorNetwork(nn.BatchNorm1d(2), bn_momentum=momentum)


def test_a_network_with_nothing_to_adapt_is_refused():
    with pytest.raises(InputError, match="must have parameters that are not shared, got none"):
        VectorNetwork(nn.Linear(2, 2), shared=lambda name: True)


def test_side_of_the_cases():
    assert pictures([0]).shape == (1, 1, SIDE, SIDE)
