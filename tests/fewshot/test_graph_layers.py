import copy

import pytest
import torch
from tests.fewshot import naive_graph
from torch import nn
from torch.nn import functional as F

from tupelo.fewshot.graph_layers import Adjacency, GraphConvolution, Pairs


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def adjacency(features=5, widths=(8, 6, 4), dropout=0.0, seed=0):
    torch.manual_seed(seed)
    module = Adjacency(features, widths, dropout=dropout).double()
    naive_graph.shake(module)
    return module


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("graphs", "nodes"), [(1, 2), (2, 3), (3, 4), (3, 5)])
def test_rows_add_up_to_one_and_the_diagonal_is_zero(training, graphs, nodes):
    module = adjacency().train(training)
    weights = module(random(graphs, nodes, 5))
    torch.testing.assert_close(weights.sum(2), torch.ones(graphs, nodes, dtype=torch.float64))
    assert (weights.diagonal(dim1=1, dim2=2) == 0).all()
    assert (weights >= 0).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("graphs", "nodes"), [(1, 2), (2, 3), (3, 4), (3, 5)])
def test_half_of_the_positions_give_what_all_give(training, graphs, nodes):
    """Even and odd numbers of nodes: batch statistics are those of all v x v positions."""
    module, x = adjacency().train(training), random(graphs, nodes, 5).requires_grad_()
    expected = torch.stack(naive_graph.adjacency(module, list(x), training=training))
    found = copy.deepcopy(module)(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    weights = random(graphs, nodes, nodes, seed=1)
    (a,) = torch.autograd.grad((expected * weights).sum(), x)
    (b,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("nodes", [4, 5])
def test_running_statistics_are_those_of_all_positions(nodes):
    module, x = adjacency(), random(3, nodes, 5)
    rows = (x[:, :, None] - x[:, None]).abs().flatten(0, 2)
    plain = []
    for layer in module.layers:
        norm = nn.BatchNorm1d(len(layer.weight)).double()
        norm.load_state_dict({k: v for k, v in layer.state_dict().items() if "." not in k}, False)
        rows = F.leaky_relu(norm(layer.linear(rows)), 0.01)
        plain.append(norm)
    module(x)
    for layer, norm in zip(module.layers, plain, strict=True):
        torch.testing.assert_close(layer.running_mean, norm.running_mean)
        torch.testing.assert_close(layer.running_var, norm.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_the_first_row_alone(training):
    module, x = adjacency().train(training), random(2, 5, 5)
    torch.testing.assert_close(copy.deepcopy(module)(x, first_only=True), module(x)[:, :1])


@pytest.mark.parametrize("nodes", [4, 5])
def test_dropout_sees_every_position_by_itself(nodes, monkeypatch):
    module, x = adjacency(dropout=0.5), random(3, nodes, 5)
    plain = adjacency()
    seen = []

    def kept(rows, p):
        seen.append((rows, p))
        return rows

    monkeypatch.setattr("tupelo.fewshot.graph_layers.F.dropout", kept)
    torch.testing.assert_close(module(x), plain(x))  # nothing dropped: nothing changed
    ((rows, p),) = seen
    assert p == 0.5
    assert len(rows) == 3 * nodes * nodes
    monkeypatch.undo()
    torch.manual_seed(0)
    weights = module(x)
    assert not torch.allclose(module.eval()(x), weights)
    assert (weights.sum(2) - 1).abs().max() < 1e-12


def test_dropout_and_statistics_leave_evaluation_alone():
    module, x = adjacency(dropout=0.5).eval(), random(3, 4, 5)
    before = copy.deepcopy(module.state_dict())
    assert torch.equal(module(x), module(x))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_pairs_in_both_orders_and_of_the_first_node():
    x = random(2, 4, 3)
    everything = (x[:, :, None] - x[:, None]).abs()
    device = torch.device("cpu")
    assert torch.equal(Pairs.in_both_orders(4, device).differences(x), everything.flatten(0, 2))
    assert torch.equal(Pairs.of_first(4, device).differences(x), everything[:, 0, 1:].flatten(0, 1))


@pytest.mark.parametrize("second_operator", ["identity", "ones"])
def test_convolution_is_that_of_loops(second_operator):
    module = GraphConvolution(nn.Linear(6, 2), second_operator=second_operator).double()
    x, matrix = random(2, 4, 3), random(2, 4, 4, seed=1)
    seen = torch.stack([naive_graph.convolution(module, x[i], matrix[i]) for i in range(2)])
    torch.testing.assert_close(module.gathered(x, matrix), seen)
    expected = seen @ module.layer.weight.T + module.layer.bias
    torch.testing.assert_close(module(x, matrix), expected)
    torch.testing.assert_close(module(x, matrix[:, :1]), expected[:, :1])
