"""The meta-learner: an LSTM cell in which every parameter of a network updates itself.

A gradient step, theta - alpha g, is the update f c + i c~ of an LSTM's memory with f = 1, i = alpha
and c~ = -g. So parameters are taken for memory, and gates for rates that are learned. All P
parameters share the weights of the gates, and each has its own state.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tupelo.errors import InputError

FEEDBACKS = ("pre-activation", "activation")
CHUNKS = 8  # tiles are summed in so many parts, whatever the number of threads
BLOCK = 2**14  # coordinates differentiated at once by tensor operations


def preprocess(x: Tensor, p: float = 10.0) -> Float[Tensor, "*x 2"]:
    """Size and sign of numbers that span many orders of magnitude, as two numbers of order 1.

        (log|x| / p, sign x) where |x| >= exp(-p), else (-1, exp(p) x)

    Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient descent",
    NeurIPS 2016, appendix A.

    Args:
        x: numbers of any shape.
        p: orders of e that count, > 0.

    >>> preprocess(torch.tensor([1.0, -0.5, 0.0])).tolist()[0]
    [0.0, 1.0]
    """
    size, floor = x.abs(), math.exp(-p)
    large = size >= floor
    # where() computes both sides: the logarithm must not see 0
    first = torch.where(large, size.clamp_min(floor).log() / p, -1.0)
    second = torch.where(large, x.sign(), x / floor)
    return torch.stack([first, second], -1)


class MetaCell(nn.Module):
    """Gates of every coordinate from its gradient, the loss, and what came before.

        h_t        = LSTM([pre(L_t), pre(g_t)], h_{t-1})
        f_t, i_t   = sigmoid(a_t),  a_t = w . [h_t, theta_{t-1}, a_{t-1}] + b
        theta_t    = f_t theta_{t-1} - i_t g_t

    with weights w, b of each gate. Source: Ravi, Larochelle, "Optimization as a Model for Few-Shot
    Learning", ICLR 2017, as Cheng et al. use it (docs/meta-metric-learner.md). Gradients g_t and
    losses L_t are constants (first-order rule): nothing is differentiated twice.

    The gates begin as gradient descent with a rate of 0.007 to 0.018 and a decay of 0.982 to 0.993.

    Args:
        hidden: units of the LSTM, H >= 1.
        p: of `preprocess`, > 0.
        pre_process: give the LSTM what `preprocess` makes of losses and gradients; False, an
            ablation, the numbers themselves.
        gate_feedback: what a gate sees of the step before: "pre-activation", as both released
            codes, or "activation", as the text of the paper.
        generator: of the initial weights.

    Raises:
        InputError: `hidden` below 1, `p` not above 0, or an unknown feedback.

    >>> cell = MetaCell(hidden=4)
    >>> theta = cell.begin(torch.ones(3)).update(torch.tensor([1.0, 0.0, -1.0]), torch.tensor(2.0))
    >>> theta.shape, bool(theta[0] < theta[1] < theta[2])
    (torch.Size([3]), True)
    """

    def __init__(
        self,
        hidden: int = 20,
        *,
        p: float = 10.0,
        pre_process: bool = True,
        gate_feedback: str = "pre-activation",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if hidden < 1:
            raise InputError(f"hidden must be at least 1 unit, got {hidden}")
        if not p > 0:
            raise InputError(f"p must be above 0, got {p}")
        if gate_feedback not in FEEDBACKS:
            raise InputError(f"gate_feedback must be one of {FEEDBACKS}, got {gate_feedback!r}")
        self.hidden = hidden
        self.p = p
        self.pre_process = pre_process
        self.gate_feedback = gate_feedback

        def uniform(*shape: int, low: float = -0.01, high: float = 0.01) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(low, high, generator=generator))

        # rows of the LSTM: input gate, forget gate, candidate, output gate
        self.from_input = uniform(4 * hidden, 4)  # of the loss's pair, then the gradient's
        self.from_hidden = uniform(4 * hidden, hidden)
        self.bias = uniform(4 * hidden)
        self.forget = uniform(hidden + 2)  # of [h, theta, what is fed back]
        self.learn = uniform(hidden + 2)
        self.forget_bias = uniform(low=4.0, high=5.0)
        self.learn_bias = uniform(low=-5.0, high=-4.0)

    def begin(self, theta: Float[Tensor, " p"]) -> "Rollout":
        """Updates from theta on, with all states at 0; see `Rollout`."""
        return Rollout(self, theta)

    def as_descent(self, rate: float) -> None:
        """Set the gates to plain gradient descent of that rate, in place: what they began near.

        Raises:
            InputError: the rate is not in (0, 1).
        """
        if not 0 < rate < 1:
            raise InputError(f"rate must be in (0, 1), the range of a gate, got {rate}")
        with torch.no_grad():
            self.forget.zero_()
            self.learn.zero_()
            self.forget_bias.fill_(50.0)
            self.learn_bias.fill_(math.log(rate / (1 - rate)))

    def inputs(self, x: Tensor) -> Float[Tensor, "*x 2"]:
        """What the LSTM is given of losses or gradients."""
        if self.pre_process:
            return preprocess(x, self.p)
        return torch.stack([x, torch.zeros_like(x)], -1)

    def replay(
        self,
        start: Float[Tensor, " p"],
        gradients: Float[Tensor, "t p"],
        losses: Float[Tensor, " t"],
        end: Float[Tensor, " p"],
    ) -> Float[Tensor, " p"]:
        """Theta after updates that `Rollout` has made, differentiable.

        Only the gradients g_t were kept. The backward pass makes all updates of some coordinates
        once more and goes back through them before it takes the next ones, so that memory does
        not grow with the hidden units.

        Args:
            start: theta before the first update; differentiable, as are the weights of the cell.
            gradients: of each update, constants.
            losses: of each update, constants.
            end: theta after the last update, whose values are returned.
        """
        return _Replay.apply(start, gradients, losses, end, self, *self.parameters())


class Rollout:
    """A vector of parameters on its way through updates, without a graph.

    Args:
        cell: makes them; its weights must not change meanwhile.
        theta: where the way begins, (p,).

    Attributes:
        theta: where it is.
    """

    def __init__(self, cell: MetaCell, theta: Float[Tensor, " p"]):
        self.theta = theta.detach()
        self._updates = _Compiled(cell, self.theta) if _compiles(theta) else _Plain(cell, theta)

    def update(self, gradient: Float[Tensor, " p"], loss: Tensor) -> Float[Tensor, " p"]:
        """One step.

        Args:
            gradient: of the loss at `theta`.
            loss: a scalar.

        Returns:
            `theta` after it, a new tensor.
        """
        with torch.no_grad():
            self.theta = self._updates.step(self.theta, gradient.detach(), loss.detach())
        return self.theta


def _compiles(theta: Tensor) -> bool:
    return theta.device.type == "cpu" and theta.dtype == torch.float32


class _State(NamedTuple):
    """Of some coordinates r: hidden units and memory (r, H), what is fed back to the gates (r,)."""

    hidden: Tensor
    memory: Tensor
    forget: Tensor
    learn: Tensor

    @classmethod
    def zeros(cls, cell: MetaCell, theta: Tensor) -> "_State":
        wide = theta.new_zeros(len(theta), cell.hidden)
        return cls(wide, wide, theta.new_zeros(len(theta)), theta.new_zeros(len(theta)))


def _advance(
    cell: MetaCell, state: _State, theta: Tensor, gradient: Tensor, loss: Tensor
) -> tuple[_State, Tensor]:
    """One step in tensor operations."""
    of_loss, of_gradient = cell.from_input.split(2, 1)
    bias = cell.bias + of_loss @ cell.inputs(loss.to(theta.dtype))
    weights = torch.cat([cell.from_hidden, of_gradient], 1)
    z = torch.addmm(bias, torch.cat([state.hidden, cell.inputs(gradient)], 1), weights.T)
    gates, new = z.unflatten(1, (4, -1))[:, [0, 1, 3]].sigmoid(), z.unflatten(1, (4, -1))[:, 2]
    memory = gates[:, 1] * state.memory + gates[:, 0] * new.tanh()
    hidden = gates[:, 2] * memory.tanh()

    def pre(weight: Tensor, bias: Tensor, fed: Tensor) -> Tensor:
        return hidden @ weight[:-2] + theta * weight[-2] + fed * weight[-1] + bias

    forget = pre(cell.forget, cell.forget_bias, state.forget)
    learn = pre(cell.learn, cell.learn_bias, state.learn)
    after = forget.sigmoid() * theta - learn.sigmoid() * gradient
    if cell.gate_feedback == "activation":
        forget, learn = forget.sigmoid(), learn.sigmoid()
    return _State(hidden, memory, forget, learn), after


class _Plain:
    """Updates in tensor operations: other devices and widths."""

    def __init__(self, cell: MetaCell, theta: Tensor):
        self._cell = cell
        self._state = _State.zeros(cell, theta)

    def step(self, theta: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
        self._state, after = _advance(self._cell, self._state, theta, gradient, loss)
        return after


class _Compiled:
    """Updates in compiled loops."""

    def __init__(self, cell: MetaCell, theta: Tensor):
        from tupelo.fewshot.meta_cell_kernel import TILE, advance

        self._cell = cell
        self._advance = advance
        self._weights = _packed(cell)
        self._tiles = -(-len(theta) // TILE)
        self._hidden, self._memory = torch.zeros(2, self._tiles, cell.hidden, TILE).numpy()
        self._fed = torch.zeros(self._tiles, 2, TILE).numpy()

    def step(self, theta: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
        after = torch.empty_like(theta)
        bias = _biases(self._cell, loss[None])[0].numpy()
        vectors = theta.contiguous().numpy(), gradient.contiguous().numpy()

        def run(tiles: tuple[int, int]) -> None:
            self._advance(
                self._weights,
                bias,
                *vectors,
                self._hidden,
                self._memory,
                self._fed,
                after.numpy(),
                tiles,
            )

        _in_threads(run, _parts(self._tiles))
        return after


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, start, gradients, losses, end, cell, *weights):
        ctx.save_for_backward(start, gradients, losses)
        ctx.cell = cell
        return end.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        start, gradients, losses = ctx.saved_tensors
        back = _compiled_back if _compiles(start) else _plain_back
        of_start, of_weights = back(ctx.cell, start, gradients, losses, grad_outputs[0])
        return of_start, None, None, None, None, *of_weights


def _plain_back(cell, start, gradients, losses, towards) -> tuple[Tensor, list[Tensor]]:
    """By autograd, some coordinates at a time."""
    weights = list(cell.parameters())
    sums = [torch.zeros_like(weight) for weight in weights]
    parts = []
    for first in range(0, len(start), BLOCK):
        here = slice(first, first + BLOCK)
        with torch.enable_grad():
            theta = begun = start[here].detach().requires_grad_()
            state = _State.zeros(cell, theta)
            for gradient, loss in zip(gradients[:, here], losses, strict=True):
                state, theta = _advance(cell, state, theta, gradient, loss)
            found = torch.autograd.grad(theta, [begun, *weights], towards[here], allow_unused=True)
        parts.append(found[0])
        for total, part in zip(sums, found[1:], strict=True):
            if part is not None:  # with one step nothing is fed back
                total.add_(part)
    return torch.cat(parts), sums


def _compiled_back(cell, start, gradients, losses, towards) -> tuple[Tensor, list[Tensor]]:
    from tupelo.fewshot.meta_cell_kernel import LANES, ROWS, TILE, VECTORS, Sums, go_back

    weights = _packed(cell)
    h, steps = cell.hidden, len(gradients)
    of_start = torch.empty_like(start, memory_format=torch.contiguous_format)
    parts = _parts(-(-len(start) // TILE))
    sums = [
        Sums(
            torch.zeros(*weights.recurrent.shape, LANES).numpy(),
            torch.zeros(steps, 4 * h, VECTORS, LANES).numpy(),
            torch.zeros(ROWS, weights.recurrent.shape[1], LANES).numpy(),
            torch.zeros(ROWS, 4, LANES).numpy(),
        )
        for _ in parts
    ]
    bias = _biases(cell, losses).numpy()
    given = [t.detach().contiguous().numpy() for t in (start, gradients, towards)]

    def run(part: int) -> None:
        go_back(weights, bias, *given, of_start.numpy(), sums[part], parts[part])

    _in_threads(run, range(len(parts)))

    def total(name: str) -> Tensor:
        return torch.stack([torch.from_numpy(getattr(each, name)) for each in sums]).sum((0, -1))

    recurrent, gates, rest = total("recurrent"), total("gates"), total("rest")
    of_bias = total("bias")[:, :, 0]
    of_losses = of_bias.T @ cell.inputs(losses)
    found = {
        "from_input": torch.cat([of_losses, recurrent[:, h : h + 2]], 1),
        "from_hidden": recurrent[:, :h],
        "bias": of_bias.sum(0),
        "forget": torch.cat([gates[0, :h], rest[0, [0, 1]]]),
        "learn": torch.cat([gates[1, :h], rest[1, [0, 2]]]),
        "forget_bias": rest[0, 3],
        "learn_bias": rest[1, 3],
    }
    return of_start, [found[name] for name, _ in cell.named_parameters()]


def _packed(cell: MetaCell) -> Any:
    """The weights as the compiled loops read them."""
    from tupelo.fewshot.meta_cell_kernel import ROWS, VECTORS, Weights

    h = cell.hidden
    with torch.no_grad():
        recurrent = torch.cat([cell.from_hidden, cell.from_input[:, 2:]], 1)
        recurrent = nn.functional.pad(recurrent, (0, (h + 2) % VECTORS))
        back = nn.functional.pad(cell.from_hidden.T, (0, 0, 0, -h % ROWS))
        gates = torch.stack([cell.forget, cell.learn])
        biases = torch.stack([cell.forget_bias, cell.learn_bias])
    numbers = torch.tensor([math.exp(-cell.p), cell.p if cell.pre_process else 0.0]).numpy()
    return Weights(
        recurrent=recurrent.contiguous().numpy(),
        back=back.contiguous().numpy(),
        gates=gates.numpy(),
        gate_bias=biases.numpy(),
        floor=numbers[0],
        p=numbers[1],
        activation=cell.gate_feedback == "activation",
    )


def _biases(cell: MetaCell, losses: Tensor) -> Tensor:
    """Of the LSTM at each step, with what the loss adds, (t, 4H)."""
    with torch.no_grad():
        return cell.bias + cell.inputs(losses.float()) @ cell.from_input[:, :2].T


def _parts(tiles: int) -> list[tuple[int, int]]:
    edges = [tiles * part // CHUNKS for part in range(CHUNKS + 1)]
    return [(a, b) for a, b in pairwise(edges) if a < b]


def _in_threads(run, parts) -> None:
    threads = min(torch.get_num_threads(), len(parts))
    if threads == 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, parts))
