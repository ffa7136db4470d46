"""The meta cell against golden values, a loop written from the equations, and autograd."""

import math

import pytest
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.fewshot.meta_cell import MetaCell, preprocess

LOSSES = torch.tensor([2.3, 1e-6, 0.4, 7.0])


def test_preprocess_has_the_values_of_the_specification():
    given = [0.0, 1e-6, -1e-6, 4.6e-5, 1e-3, -0.5, 2.3]
    wanted = [
        (-1, 0), (-1, 0.0220264658), (-1, -0.0220264658), (-0.9986869161, 1),
        (-0.6907755279, 1), (-0.0693147181, -1), (0.0832909123, 1),
    ]  # fmt: skip
    found = preprocess(torch.tensor(given, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=5e-11, rtol=0)


def test_two_steps_of_the_meta_cell_have_the_values_of_the_specification():
    cell = golden_cell()
    rollout = cell.begin(torch.tensor([0.7], dtype=torch.float64))
    first = rollout.update(torch.tensor([0.4], dtype=torch.float64), torch.tensor(1.0)).item()
    state = rollout._updates._state
    assert first == pytest.approx(0.6899260312, abs=1e-10)
    assert (state.forget.item(), state.learn.item()) == pytest.approx((4.81, -4.495), abs=1e-10)
    second = rollout.update(torch.tensor([-0.1], dtype=torch.float64), torch.tensor(1.0)).item()
    state = rollout._updates._state
    assert second == pytest.approx(0.6868977075, abs=1e-10)
    assert (state.forget.item(), state.learn.item()) == pytest.approx(
        (5.0474778094, -4.2717610953), abs=1e-10
    )


def golden_cell():
    """Hidden units are held at (0.5, -0.25): memory tanh-inverse of h / o, kept by f = 1, i = 0."""
    cell = MetaCell(hidden=2).double()
    with torch.no_grad():
        for weight in (cell.from_input, cell.from_hidden):
            weight.zero_()
        cell.forget.copy_(torch.tensor([0.1, -0.2, 0.3, 0.05], dtype=torch.float64))
        cell.learn.copy_(torch.tensor([-0.1, 0.2, 0.15, -0.05], dtype=torch.float64))
        cell.forget_bias.fill_(4.5)
        cell.learn_bias.fill_(-4.5)
        # f = 0, i = 1, o = 1: the candidate alone decides, anew at each step
        candidate = torch.atanh(torch.atanh(torch.tensor([0.5, -0.25], dtype=torch.float64)))
        shut = torch.full((2,), 800.0)
        cell.bias.copy_(torch.cat([shut, -shut, candidate, shut]))
    return cell


def naive(cell, theta, gradients, losses):
    """The equations for one coordinate after the other, with torch's own LSTM cell."""
    h = cell.hidden
    lstm = nn.LSTMCell(4, h).to(theta.dtype)
    with torch.no_grad():
        lstm.weight_ih.copy_(cell.from_input)
        lstm.weight_hh.copy_(cell.from_hidden)
        lstm.bias_ih.copy_(cell.bias)
        lstm.bias_hh.zero_()
    ends = []
    for j in range(len(theta)):
        x, fed = theta[j], [torch.zeros(()).to(theta)] * 2
        state = (torch.zeros(1, h).to(theta), torch.zeros(1, h).to(theta))
        for g, loss in zip(gradients[:, j], losses, strict=True):
            pairs = [each(value) for value in (loss, g) for each in (first, second)]
            if not cell.pre_process:
                pairs = [loss, torch.zeros(()).to(theta), g, torch.zeros(()).to(theta)]
            state = lstm(torch.stack(pairs)[None].to(theta), state)
            pre = [
                w @ torch.cat([state[0][0], x[None], a[None]]) + b
                for w, b, a in (
                    (cell.forget, cell.forget_bias, fed[0]),
                    (cell.learn, cell.learn_bias, fed[1]),
                )
            ]
            gates = [a.sigmoid() for a in pre]
            fed = gates if cell.gate_feedback == "activation" else pre
            x = gates[0] * x - gates[1] * g
        ends.append(x)
    return torch.stack(ends)


def first(x):
    return x.abs().log() / 10 if x.abs() >= math.exp(-10) else torch.full_like(x, -1.0)


def second(x):
    return x.sign() if x.abs() >= math.exp(-10) else math.exp(10) * x


def case(coordinates, *, hidden=5, dtype=torch.float64, **options):
    """A cell with lively weights, and gradients of all sizes, zeros among them."""
    generator = torch.Generator().manual_seed(0)
    cell = MetaCell(hidden, generator=generator, **options)
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            if not name.endswith("_bias"):
                weight.uniform_(-0.5, 0.5, generator=generator)
    cell.to(dtype)
    size = torch.rand(4, coordinates, generator=generator) ** 8
    gradients = torch.randn(4, coordinates, generator=generator) * size
    gradients[0, ::7] = 0.0
    theta = torch.randn(coordinates, generator=generator)
    return cell, theta.to(dtype), gradients.to(dtype)


def rolled(cell, theta, gradients):
    rollout = cell.begin(theta)
    for gradient, loss in zip(gradients, LOSSES.to(theta), strict=True):
        rollout.update(gradient, loss)
    return rollout.theta


def derivatives(cell, theta, end_of):
    begun = theta.clone().requires_grad_()
    end = end_of(begun)
    towards = torch.linspace(-1, 1, len(theta)).to(theta)
    found = torch.autograd.grad(end @ towards, [begun, *cell.parameters()], allow_unused=True)
    return [g for g in found if g is not None]


OPTIONS = [{}, {"gate_feedback": "activation"}, {"pre_process": False}, {"p": 3.0}]


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_updates_equal_a_loop_from_the_equations(options):
    cell, theta, gradients = case(9, **options)
    wanted = naive(cell, theta, gradients, LOSSES.double())
    torch.testing.assert_close(rolled(cell, theta, gradients), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_replay_differentiates_as_autograd_through_that_loop(options):
    cell, theta, gradients = case(9, **options)
    end = rolled(cell, theta, gradients)
    ours = derivatives(cell, theta, lambda x: cell.replay(x, gradients, LOSSES.double(), end))
    plain = naive_with_graph(cell, theta, gradients)
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def naive_with_graph(cell, theta, gradients):
    """`naive` with the weights of the LSTM in the graph."""

    def end_of(begun):
        ends = []
        for j in range(len(theta)):
            x, fed = begun[j], [begun.new_zeros(())] * 2
            h, m = begun.new_zeros(cell.hidden), begun.new_zeros(cell.hidden)
            for g, loss in zip(gradients[:, j], LOSSES.double(), strict=True):
                u = cell.inputs(torch.stack([loss, g])).flatten()
                z = cell.from_input @ u + cell.from_hidden @ h + cell.bias
                i, f, new, o = z.chunk(4)
                m = f.sigmoid() * m + i.sigmoid() * new.tanh()
                h = o.sigmoid() * m.tanh()
                pre = [
                    w[:-2] @ h + w[-2] * x + w[-1] * a + b
                    for w, b, a in (
                        (cell.forget, cell.forget_bias, fed[0]),
                        (cell.learn, cell.learn_bias, fed[1]),
                    )
                ]
                gates = [a.sigmoid() for a in pre]
                fed = gates if cell.gate_feedback == "activation" else pre
                x = gates[0] * x - gates[1] * g
            ends.append(x)
        return torch.stack(ends)

    return derivatives(cell, theta, end_of)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("hidden", "coordinates"), [(20, 700), (1, 65), (7, 64), (4, 3)])
def test_compiled_loops_equal_tensor_operations(options, hidden, coordinates):
    cell, theta, gradients = case(coordinates, hidden=hidden, dtype=torch.float32, **options)
    found = ends_and_derivatives(cell, theta, gradients)
    wide = case(coordinates, hidden=hidden, **options)[0]
    wanted = ends_and_derivatives(wide, theta.double(), gradients.double())
    for mine, other in zip(found, wanted, strict=True):
        scale = other.abs().max().item() + 1e-12
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=3e-5 * scale)


def ends_and_derivatives(cell, theta, gradients):
    end = rolled(cell, theta, gradients)
    losses = LOSSES.to(theta)
    return [end, *derivatives(cell, theta, lambda x: cell.replay(x, gradients, losses, end))]


def test_blocks_of_coordinates_change_nothing(monkeypatch):
    cell, theta, gradients = case(50)
    whole = ends_and_derivatives(cell, theta, gradients)
    monkeypatch.setattr("tupelo.fewshot.meta_cell.BLOCK", 16)
    for mine, other in zip(ends_and_derivatives(cell, theta, gradients), whole, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_threads_change_no_bit():
    cell, theta, gradients = case(3000, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(ends_and_derivatives(cell, theta, gradients))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_gates_are_gradient_descent(dtype):
    cell, theta, gradients = case(200, dtype=dtype)
    cell.as_descent(0.05)
    wanted = theta.clone()
    for gradient in gradients:
        wanted -= 0.05 * gradient
    torch.testing.assert_close(rolled(cell, theta, gradients), wanted, rtol=0, atol=1e-6)


def test_a_small_rate_keeps_its_relative_precision():
    cell = MetaCell()
    cell.as_descent(1e-6)
    theta = cell.begin(torch.zeros(64)).update(torch.full((64,), -1.0), torch.tensor(1.0))
    torch.testing.assert_close(theta, torch.full((64,), 1e-6), rtol=1e-5, atol=0)


def test_the_start_is_near_gradient_descent():
    cell = MetaCell(generator=torch.Generator().manual_seed(3))
    rollout = cell.begin(torch.ones(2))
    after = rollout.update(torch.tensor([0.0, 1.0]), torch.tensor(3.0))
    assert 0.98 < after[0].item() < 0.995
    assert 0.006 < (after[0] - after[1]).item() < 0.02
    assert all(w.abs().max() <= 0.01 for n, w in cell.named_parameters() if "_bias" not in n)
    assert 4 <= cell.forget_bias.item() <= 5
    assert -5 <= cell.learn_bias.item() <= -4


def test_states_begin_anew():
    cell, theta, gradients = case(40, dtype=torch.float32)
    assert torch.equal(rolled(cell, theta, gradients), rolled(cell, theta, gradients))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1 unit, got 0"),
        ({"p": 0.0}, "p must be above 0, got 0.0"),
        ({"gate_feedback": "gate"}, "gate_feedback must be one of .*'activation'.*got 'gate'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(InputError, match=message):
        MetaCell(**arguments)


def test_a_rate_outside_a_gate_is_refused():
    with pytest.raises(InputError, match=r"rate must be in \(0, 1\), the range of a gate, got 1.5"):
        MetaCell().as_descent(1.5)
