"""The compiled loops behind `MetaCell` in float32 on CPUs; imported late: numba loads slowly.

All coordinates share the weights and none sees another. So a tile of coordinates is taken through
all steps and back before the next one: gates and states stay in the cache, and of a whole task
memory holds the gradients alone. Within a tile coordinates lie side by side, (rows, TILE), and
become vector instructions.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tupelo.compiled import compiled

TILE = 64  # coordinates taken together
LANES = 8  # of a vector
ROWS, VECTORS = 4, 2  # of a product held in registers
_FREEDOMS = {"contract", "nsz"}  # sums keep their order: every compilation gives the same bits
_HALF, _ONE = np.float32(0.5), np.float32(1)
# tanh x = x P(x^2) / Q(x^2) on [-9, 9], fitted to the least relative error, 2e-8
_END = np.float32(9)
_P0, _P1, _P2 = np.float32(0.99999998), np.float32(0.13380981), np.float32(3.4955345e-3)
_P3, _P4 = np.float32(2.0608184e-5), np.float32(1.3353412e-8)
_Q1, _Q2 = np.float32(0.46714297), np.float32(2.5876780e-2)
_Q3, _Q4 = np.float32(3.2855463e-4), np.float32(7.7760469e-7)


class Weights(NamedTuple):
    """Weights of a cell with H hidden units as the loops read them, float32.

    `width` is H + 2, or one more to be even; `height` is H or up to 3 more, a multiple of 4.
    """

    recurrent: np.ndarray  # (4H, width): of the hidden units, of the gradient's pair, zeros
    back: np.ndarray  # (height, 4H): of the hidden units transposed, zeros
    gates: np.ndarray  # (2, H + 2): forget and input, of [hidden units, theta, what is fed back]
    gate_bias: np.ndarray  # (2,)
    floor: np.float32  # exp(-p) of the pre-processing
    p: np.float32  # 0: numbers are taken as they are
    activation: bool  # fed back is a gate, and not what its sigmoid is of


class Sums(NamedTuple):
    """Gradients of the weights, to be summed over the last axis; float32."""

    recurrent: np.ndarray  # (4H, width, LANES)
    bias: np.ndarray  # (steps, 4H, 2, LANES), of it the first
    gates: np.ndarray  # (4, width, LANES), of it both gates by hidden units
    rest: np.ndarray  # (4, 4, LANES), of it both gates by theta, what is fed back to each, one


_POINTER = types.CPointer(types.float32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGER = ir.IntType(64)


def _number(n: int) -> ir.Constant:
    return ir.Constant(_INTEGER, n)


def _load(builder, pointer, at):
    place = builder.bitcast(builder.gep(pointer, [at]), _VECTOR.as_pointer())
    return builder.load(place, align=4)


def _store(builder, value, pointer, at):
    place = builder.bitcast(builder.gep(pointer, [at]), _VECTOR.as_pointer())
    builder.store(value, place, align=4)


def _add_product(builder, total, x, y):
    product = builder.fmul(x, y, flags=("contract",))
    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)


@intrinsic
def _multiply(typing, rows, stride, x, out, width):
    """out[:4, :16] += rows[:4, :width] @ x[:width, :16]; rows of x and out are TILE apart.

    Written in LLVM's vectors so that the sums stay in registers; as loops it takes twice as long.
    """
    signature = types.void(_POINTER, types.int64, _POINTER, _POINTER, types.int64)

    def generate(context, builder, signature, arguments):
        rows, stride, x, out, width = arguments
        places = [_number(r * TILE + v * LANES) for r in range(ROWS) for v in range(VECTORS)]
        totals = [cgutils.alloca_once_value(builder, _load(builder, out, at)) for at in places]
        with cgutils.for_range(builder, width) as loop:
            line = builder.mul(loop.index, _number(TILE))
            columns = [
                _load(builder, x, builder.add(line, _number(v * LANES))) for v in range(VECTORS)
            ]
            for r in range(ROWS):
                at = builder.add(loop.index, builder.mul(stride, _number(r)))
                weight = _spread(builder, builder.load(builder.gep(rows, [at])))
                for v in range(VECTORS):
                    _add_product(builder, totals[r * VECTORS + v], weight, columns[v])
        for total, at in zip(totals, places, strict=True):
            _store(builder, builder.load(total), out, at)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _correlate(typing, rows, x, out, stride):
    """out[:4, :2] += rows[:4] * x[:2] summed over TILE columns, but for the last LANES sums.

    Rows of `rows` and `x` are TILE apart, those of `out` are `stride`, its columns LANES.
    """
    signature = types.void(_POINTER, _POINTER, _POINTER, types.int64)

    def generate(context, builder, signature, arguments):
        rows, x, out, stride = arguments
        places = [
            builder.add(builder.mul(stride, _number(r)), _number(v * LANES))
            for r in range(ROWS)
            for v in range(VECTORS)
        ]
        totals = [cgutils.alloca_once_value(builder, _load(builder, out, at)) for at in places]
        with cgutils.for_range(builder, _number(TILE // LANES)) as loop:
            column = builder.mul(loop.index, _number(LANES))
            others = [
                _load(builder, x, builder.add(column, _number(v * TILE))) for v in range(VECTORS)
            ]
            for r in range(ROWS):
                one = _load(builder, rows, builder.add(column, _number(r * TILE)))
                for v in range(VECTORS):
                    _add_product(builder, totals[r * VECTORS + v], one, others[v])
        for total, at in zip(totals, places, strict=True):
            _store(builder, builder.load(total), out, at)
        return context.get_dummy_value()

    return signature, generate


def _spread(builder, value):
    empty = ir.Constant(_VECTOR, ir.Undefined)
    index = ir.IntType(32)
    first = builder.insert_element(empty, value, ir.Constant(index, 0))
    lanes = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
    return builder.shuffle_vector(first, empty, lanes)


@intrinsic
def _at(typing, array, i, j):
    """Where element (i, j) of a contiguous array lies."""
    signature = _POINTER(array, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        kind = signature.args[0]
        found = context.make_array(kind)(context, builder, arguments[0])
        return cgutils.get_item_pointer(
            context, builder, kind, found, arguments[1:], wraparound=False, boundscheck=False
        )

    return signature, generate


@compiled()
def _product(rows, x, out):
    """out += rows @ x, of a multiple of 4 rows."""
    for j in range(0, TILE, VECTORS * LANES):
        for r in range(0, rows.shape[0], ROWS):
            places = _at(rows, r, 0), _at(x, 0, j), _at(out, r, j)  # pyright: ignore[reportCallIssue]
            _multiply(places[0], rows.shape[1], places[1], places[2], rows.shape[1])  # pyright: ignore[reportCallIssue]


@compiled(fastmath=_FREEDOMS)
def _tanh(x):
    x = min(max(x, -_END), _END)
    s = x * x
    top = (((_P4 * s + _P3) * s + _P2) * s + _P1) * s + _P0
    bottom = (((_Q4 * s + _Q3) * s + _Q2) * s + _Q1) * s + _ONE
    return min(max(x * (top / bottom), -_ONE), _ONE)


@compiled(fastmath=_FREEDOMS)
def _sigmoid(x):
    """Precise in absolute terms, which is enough inside the LSTM."""
    return _HALF + _HALF * _tanh(_HALF * x)


@compiled()
def _exact_sigmoid(x):
    """Precise in relative terms too: the input gate is a small number, a rate."""
    return _ONE / (_ONE + np.float32(math.exp(-x)))


@compiled()
def _pairs(gradient, weights, x, h):
    """Rows h and h + 1 of x: the pre-processed gradient."""
    for j in range(TILE):
        g = gradient[j]
        size = abs(g)
        if weights.p == 0:
            x[h, j], x[h + 1, j] = g, np.float32(0)
        elif size >= weights.floor:
            x[h, j] = math.log(size) / weights.p
            x[h + 1, j] = _ONE if g > 0 else -_ONE
        else:
            x[h, j], x[h + 1, j] = -_ONE, g / weights.floor


@compiled(fastmath=_FREEDOMS)
def _lstm(z, before, after, reached, x):
    """Gates z in place, memory `before` to `after`, its tanh `reached`, hidden units in x."""
    n = before.shape[0]
    for k in range(n):
        for j in range(TILE):
            i, f = _sigmoid(z[k, j]), _sigmoid(z[n + k, j])
            new, o = _tanh(z[2 * n + k, j]), _sigmoid(z[3 * n + k, j])
            kept = f * before[k, j] + i * new
            top = _tanh(kept)
            z[k, j], z[n + k, j], z[2 * n + k, j], z[3 * n + k, j] = i, f, new, o
            after[k, j], reached[k, j], x[k, j] = kept, top, o * top


@compiled(fastmath=_FREEDOMS)
def _gates(weights, x, theta, fed, gate):
    """The two gates of a tile, and what is fed back to the next step in place of `fed`."""
    n = weights.gates.shape[1] - 2
    for s in range(2):
        row, by_theta, by_fed = weights.gates[s], weights.gates[s, n], weights.gates[s, n + 1]
        for j in range(TILE):
            fed[s, j] = weights.gate_bias[s] + by_theta * theta[j] + by_fed * fed[s, j]
        for k in range(n):
            for j in range(TILE):
                fed[s, j] += row[k] * x[k, j]
        for j in range(TILE):
            gate[s, j] = _exact_sigmoid(fed[s, j])
        if weights.activation:
            for j in range(TILE):
                fed[s, j] = gate[s, j]


@compiled()
def _copy(one, other):
    """Rows of one into the first of another; loops compile in a fraction of the time of slices."""
    for k in range(min(one.shape[0], other.shape[0])):
        for j in range(TILE):
            other[k, j] = one[k, j]


@compiled()
def _start(z, bias):
    """Every row at its bias."""
    for r in range(z.shape[0]):
        for j in range(TILE):
            z[r, j] = bias[r]


@compiled()
def _clear(rows):
    for r in range(rows.shape[0]):
        for j in range(TILE):
            rows[r, j] = np.float32(0)


@compiled()
def _fill(tile, vector, start, stop):
    """Coordinates start to stop into a tile, zeros behind them."""
    for j in range(TILE):
        tile[j] = vector[start + j] if start + j < stop else np.float32(0)


@compiled()
def advance(weights, bias, theta, gradient, hidden, memory, fed, out, tiles):
    """One step of all coordinates in these tiles.

    Args:
        bias: of the LSTM with the loss's share (4H,).
        theta, gradient: (P,).
        hidden, memory: of the LSTM (tiles, H, TILE), changed in place.
        fed: (tiles, 2, TILE), what is fed back, changed in place.
        out: theta after the step (P,).
        tiles: first and behind the last.
    """
    n = weights.gates.shape[1] - 2
    x = np.zeros((weights.recurrent.shape[1], TILE), np.float32)
    z = np.empty((4 * n, TILE), np.float32)
    after, reached = np.empty((n, TILE), np.float32), np.empty((n, TILE), np.float32)
    old, slope = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    gate = np.empty((2, TILE), np.float32)
    for tile in range(tiles[0], tiles[1]):
        start = tile * TILE
        stop = min(start + TILE, theta.shape[0])
        _fill(old, theta, start, stop)
        _fill(slope, gradient, start, stop)
        _copy(hidden[tile], x)
        _pairs(slope, weights, x, n)
        _start(z, bias)
        _product(weights.recurrent, x, z)
        _lstm(z, memory[tile], after, reached, x)  # not in place: that stops the vectors
        _copy(x, hidden[tile])
        _copy(after, memory[tile])
        _gates(weights, x, old, fed[tile], gate)
        for j in range(stop - start):
            out[start + j] = gate[0, j] * old[j] - gate[1, j] * slope[j]


@compiled(fastmath=_FREEDOMS)
def _back_gates(weights, old, slope, before, gate, towards, carry, pre):
    """From the gradient `towards` of theta to that before the step, and `pre` of both gates."""
    n = weights.gates.shape[1] - 2
    for s in range(2):
        by_fed = weights.gates[s, n + 1]
        for j in range(TILE):
            value = old[j] if s == 0 else -slope[j]
            pre[s, j] = towards[j] * value * gate[s, j] * (_ONE - gate[s, j]) + carry[s, j]
            carry[s, j] = pre[s, j] * by_fed
        if weights.activation:
            for j in range(TILE):
                carry[s, j] *= before[s, j] * (_ONE - before[s, j])
    for j in range(TILE):
        towards[j] = (
            towards[j] * gate[0, j]
            + pre[0, j] * weights.gates[0, n]
            + pre[1, j] * weights.gates[1, n]
        )


@compiled()
def _sum(rows, x, out):
    """out += rows @ x transposed, but for the last LANES sums; 4 rows at a time, of x two."""
    for r in range(0, rows.shape[0], ROWS):
        for k in range(0, x.shape[0], VECTORS):
            places = _at(rows, r, 0), _at(x, k, 0), _at(out[r], k, 0)  # pyright: ignore[reportCallIssue]
            _correlate(places[0], places[1], places[2], x.shape[0] * LANES)


@compiled(fastmath=_FREEDOMS)
def _back_lstm(weights, z, before, reached, pre, hidden, memory):
    """Gates z to their gradients in place, `memory` to that before the step."""
    n = before.shape[0]
    for k in range(n):
        forget, learn = weights.gates[0, k], weights.gates[1, k]
        for j in range(TILE):
            i, f, new, o = z[k, j], z[n + k, j], z[2 * n + k, j], z[3 * n + k, j]
            top = reached[k, j]
            out = hidden[k, j] + pre[0, j] * forget + pre[1, j] * learn
            inner = memory[k, j] + out * o * (_ONE - top * top)
            memory[k, j] = inner * f
            z[k, j] = inner * new * i * (_ONE - i)
            z[n + k, j] = inner * before[k, j] * f * (_ONE - f)
            z[2 * n + k, j] = inner * i * (_ONE - new * new)
            z[3 * n + k, j] = out * top * o * (_ONE - o)


@compiled()
def go_back(weights, bias, theta, gradients, towards, out, sums, tiles):
    """All steps of the coordinates in these tiles once more, and back.

    Args:
        bias: of each step (steps, 4H).
        theta: before the first step (P,).
        gradients: (steps, P).
        towards: gradient of the loss by theta after the last step (P,).
        out: that by theta before the first step (P,).
        sums: those by the weights are added here.
        tiles: first and behind the last.
    """
    n = weights.gates.shape[1] - 2
    steps = gradients.shape[0]
    # x[t] is what step t reads, x[t + 1, :n] what it leaves
    x = np.zeros((steps + 1, weights.recurrent.shape[1], TILE), np.float32)
    z = np.empty((steps, 4 * n, TILE), np.float32)
    memory = np.zeros((steps + 1, n, TILE), np.float32)
    reached = np.empty((steps, n, TILE), np.float32)
    fed = np.zeros((steps + 1, 2, TILE), np.float32)
    gate = np.empty((steps, 2, TILE), np.float32)
    on_way = np.empty((steps + 1, TILE), np.float32)
    slope = np.empty((steps, TILE), np.float32)
    hidden = np.empty((weights.back.shape[0], TILE), np.float32)
    kept = np.empty((n, TILE), np.float32)
    carry, pre = np.empty((2, TILE), np.float32), np.zeros((ROWS, TILE), np.float32)
    rest, one = np.ones((4, TILE), np.float32), np.zeros((VECTORS, TILE), np.float32)
    for j in range(TILE):
        one[0, j] = _ONE
    way = np.empty(TILE, np.float32)
    for tile in range(tiles[0], tiles[1]):
        start = tile * TILE
        stop = min(start + TILE, theta.shape[0])
        _fill(on_way[0], theta, start, stop)
        for t in range(steps):
            _fill(slope[t], gradients[t], start, stop)
            _pairs(slope[t], weights, x[t], n)
            _start(z[t], bias[t])
            _product(weights.recurrent, x[t], z[t])
            _lstm(z[t], memory[t], memory[t + 1], reached[t], x[t + 1])
            _copy(fed[t], fed[t + 1])
            _gates(weights, x[t + 1], on_way[t], fed[t + 1], gate[t])
            for j in range(TILE):
                on_way[t + 1, j] = gate[t, 0, j] * on_way[t, j] - gate[t, 1, j] * slope[t, j]
        _fill(way, towards, start, stop)
        _clear(hidden)
        _clear(kept)
        _clear(carry)
        for t in range(steps - 1, -1, -1):
            _back_gates(weights, on_way[t], slope[t], fed[t], gate[t], way, carry, pre)
            for j in range(TILE):
                rest[0, j], rest[1, j], rest[2, j] = on_way[t, j], fed[t, 0, j], fed[t, 1, j]
            _sum(pre, x[t + 1], sums.gates)
            _sum(pre, rest, sums.rest)
            _back_lstm(weights, z[t], memory[t], reached[t], pre, hidden, kept)
            _sum(z[t], x[t], sums.recurrent)
            _sum(z[t], one, sums.bias[t])
            _clear(hidden)
            _product(weights.back, z[t], hidden)
        for j in range(stop - start):
            out[start + j] = way[j]
