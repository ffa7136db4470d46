"""Products of few rows with a square matrix, in one fixed order; imported late, numba is slow.

Square matrices are stored in panels of eight columns, `(w / 8, w, 8)`, so that the inner loop reads
memory from begin to end. Rows are `w` long, a multiple of eight; what lies behind the `d` numbers
of a row is zero. A number of `A @ B` is the sum over k = 0, 1, ... of `A[i, k] * B[k, j]`, one
product after the other: the result does not depend on which rows are multiplied together, nor on
where they lie in memory. BLAS promises neither.

A step of a layer needs products with L and then changes L by outer products. Both cost little
beside the reading of L, so `renew_and_times` applies the last change on the way to the next
product. The inner loops are written in LLVM's vectors: the compiler keeps sums in registers only if
it is told to.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import ndarray

from tupelo.compiled import compiled

PANEL = 8
LANES = 4
HALVES = (0, LANES)
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
WHOLE = ir.IntType(64)
POINTER = types.CPointer(types.float64)


def width_for(d: int) -> int:
    """Length of a stored row of d numbers."""
    return -(-d // PANEL) * PANEL


def to_panels(matrix: Float[ndarray, "d d"]) -> Float[ndarray, "p w 8"]:
    """A square matrix as it is stored.

    >>> to_panels(np.eye(9)).shape
    (2, 16, 8)
    """
    d, width = len(matrix), width_for(len(matrix))
    full = np.zeros((width, width))
    full[:d, :d] = matrix
    return np.ascontiguousarray(full.reshape(width, -1, PANEL).transpose(1, 0, 2))


def from_panels(panels: Float[ndarray, "p w 8"], d: int) -> Float[ndarray, "d d"]:
    """The matrix that is stored; a copy."""
    width = panels.shape[1]
    return panels.transpose(1, 0, 2).reshape(width, width)[:d, :d].copy()


class _Code:
    """Instructions that the inner loops are made of."""

    def __init__(self, builder):
        self.builder = builder
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fmuladd.v{LANES}f64"
        self.fused = cgutils.get_or_insert_function(builder.module, kind, name)

    def plus(self, start, step, count=1):
        return self.builder.add(start, self.builder.mul(step, ir.Constant(WHOLE, count)))

    def place(self, base, start, lanes):
        at = self.builder.add(start, ir.Constant(WHOLE, lanes))
        return self.builder.bitcast(self.builder.gep(base, [at]), VECTOR.as_pointer())

    def vector(self, base, start, lanes):
        return self.builder.load(self.place(base, start, lanes), align=8)

    def everywhere(self, base, start):
        """One number in all lanes."""
        none = ir.Constant(VECTOR, ir.Undefined)
        single = self.builder.load(self.builder.gep(base, [start]), align=8)
        single = self.builder.insert_element(none, single, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(single, none, lanes)

    def totals(self, count):
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        return [cgutils.alloca_once_value(self.builder, zero) for _ in range(count)]

    def multiply_add(self, left, right, number):
        return self.builder.call(self.fused, [left, right, number])

    def add_product(self, total, left, right):
        self.builder.store(self.multiply_add(left, right, self.builder.load(total)), total)

    def loop(self, count):
        zero, one = ir.Constant(WHOLE, 0), ir.Constant(WHOLE, 1)
        return cgutils.for_range_slice(self.builder, zero, count, one)


def _product(rows: int, panels: int, changes: int) -> Callable[..., None]:
    """Computes so many rows and panels of `C = A @ B`, n products a number.

    `a0`, `b0`, `c0` are places of the first numbers; rows of A and C, and of Q and P, are `row`
    apart, panels of B `b_panel`. With changes, `B += Q.T @ P` before it, so many rows each, and P
    from its place `p0` on; then there is one panel.
    """

    @intrinsic
    def product(typing, a, a0, b, b0, b_panel, c, c0, row, n, q, p, p0):
        whole = types.int64
        signature = types.void(
            *(POINTER, whole, POINTER, whole, whole, POINTER, whole, whole, whole),
            *(POINTER, POINTER, whole),
        )

        def generate(context, builder, signature, args):
            a, a0, b, b0, b_panel, c, c0, row, n, q, p, p0 = args
            code = _Code(builder)
            vectors = [(panel, lanes) for panel in range(panels) for lanes in HALVES]
            sums = [code.totals(len(vectors)) for _ in range(rows)]
            added = [
                [code.vector(p, code.plus(p0, row, s), lanes) for lanes in HALVES]
                for s in range(changes)
            ]
            with code.loop(n) as (k, _):
                start = builder.add(b0, builder.mul(k, ir.Constant(WHOLE, PANEL)))
                right = [code.vector(b, code.plus(start, b_panel, i), at) for i, at in vectors]
                for s, change in enumerate(added):
                    weight = code.everywhere(q, code.plus(k, row, s))
                    right = [
                        code.multiply_add(weight, by, number)
                        for by, number in zip(change, right, strict=True)
                    ]
                if changes:
                    for number, (_, lanes) in zip(right, vectors, strict=True):
                        builder.store(number, code.place(b, start, lanes), align=8)
                for r in range(rows):
                    left = code.everywhere(a, builder.add(k, code.plus(a0, row, r)))
                    for total, factor in zip(sums[r], right, strict=True):
                        code.add_product(total, left, factor)
            for r in range(rows):
                for total, (panel, lanes) in zip(sums[r], vectors, strict=True):
                    at = code.plus(c0, row, r)
                    at = builder.add(at, ir.Constant(WHOLE, PANEL * panel))
                    builder.store(builder.load(total), code.place(c, at, lanes), align=8)
            return context.get_dummy_value()

        return signature, generate

    return product


def _transposed(rows: int) -> Callable[..., None]:
    """Computes four numbers of so many rows of `C = A @ B.T`; every fourth product, then the sums.

    `a0`, `b0`, `c0` are places of the first numbers; rows of A and C are `row` apart, panels of B
    `b_panel`, and there are n.
    """

    @intrinsic
    def transposed(typing, a, a0, b, b0, b_panel, c, c0, row, n):
        whole = types.int64
        signature = types.void(POINTER, whole, POINTER, whole, whole, POINTER, whole, whole, whole)

        def generate(context, builder, signature, args):
            a, a0, b, b0, b_panel, c, c0, row, n = args
            code = _Code(builder)
            sums = [code.totals(LANES) for _ in range(rows)]
            with code.loop(n) as (p, _):
                a_start = builder.add(a0, builder.mul(p, ir.Constant(WHOLE, PANEL)))
                b_start = builder.add(b0, builder.mul(p, b_panel))
                for lanes in HALVES:
                    left = [code.vector(a, code.plus(a_start, row, r), lanes) for r in range(rows)]
                    for i in range(LANES):
                        right = code.vector(b, b_start, PANEL * i + lanes)
                        for r in range(rows):
                            code.add_product(sums[r][i], left[r], right)
            for r in range(rows):
                for i in range(LANES):
                    total = builder.load(sums[r][i])
                    parts = [
                        builder.extract_element(total, ir.Constant(ir.IntType(32), at))
                        for at in range(LANES)
                    ]
                    total = builder.fadd(
                        builder.fadd(parts[0], parts[2]), builder.fadd(parts[1], parts[3])
                    )
                    at = builder.add(code.plus(c0, row, r), ir.Constant(WHOLE, i))
                    builder.store(total, builder.gep(c, [at]), align=8)
            return context.get_dummy_value()

        return signature, generate

    return transposed


_PRODUCT_1_1, _PRODUCT_1_2 = _product(1, 1, 0), _product(1, 2, 0)
_PRODUCT_2_1, _PRODUCT_2_2 = _product(2, 1, 0), _product(2, 2, 0)
_RENEW_2, _RENEW_3 = _product(2, 1, 2), _product(3, 1, 2)
_ADD_1, _ADD_2, _ADD_3 = _product(0, 1, 1), _product(0, 1, 2), _product(0, 1, 3)
_TRANSPOSED_1, _TRANSPOSED_2 = _transposed(1), _transposed(2)


@compiled()
def times(A, first, m, B, d, C, to):
    """`C[to : to + m] = A[first : first + m] @ B`; d rows of B count."""
    panels, row, panel = B.shape[0], A.shape[1], B.shape[1] * PANEL
    a, b, c = A.ctypes, B.ctypes, C.ctypes
    i = 0
    while i < m:
        a0, c0 = (first + i) * row, (to + i) * row
        if m - i > 1:
            for p in range(0, panels - 1, 2):
                _PRODUCT_2_2(a, a0, b, p * panel, panel, c, c0 + p * PANEL, row, d, a, a, 0)
            if panels % 2:
                p = panels - 1
                _PRODUCT_2_1(a, a0, b, p * panel, panel, c, c0 + p * PANEL, row, d, a, a, 0)
        else:
            for p in range(0, panels - 1, 2):
                _PRODUCT_1_2(a, a0, b, p * panel, panel, c, c0 + p * PANEL, row, d, a, a, 0)
            if panels % 2:
                p = panels - 1
                _PRODUCT_1_1(a, a0, b, p * panel, panel, c, c0 + p * PANEL, row, d, a, a, 0)
        i += 2


@compiled()
def renew_and_times(B, d, Q, P, A, first, m, C, to):
    """`B += Q.T @ P`, two rows each, then `C[to : to + m] = A[first : first + m] @ B`, m 2 or 3."""
    row, panel = A.shape[1], B.shape[1] * PANEL
    a, b, c, q, p = A.ctypes, B.ctypes, C.ctypes, Q.ctypes, P.ctypes
    a0, c0 = first * row, to * row
    for i in range(B.shape[0]):
        at = i * PANEL
        if m == 2:
            _RENEW_2(a, a0, b, i * panel, panel, c, c0 + at, row, d, q, p, at)
        else:
            _RENEW_3(a, a0, b, i * panel, panel, c, c0 + at, row, d, q, p, at)


@compiled()
def times_transposed(A, first, m, B, d, C, to):
    """`C[to : to + m] = A[first : first + m] @ B.T`."""
    panels, row, panel = B.shape[0], A.shape[1], B.shape[1] * PANEL
    a, b, c = A.ctypes, B.ctypes, C.ctypes
    i = 0
    while i < m:
        a0, c0 = (first + i) * row, (to + i) * row
        if m - i > 1:
            for k in range(0, d, LANES):
                _TRANSPOSED_2(a, a0, b, k * PANEL, panel, c, c0 + k, row, panels)
        else:
            for k in range(0, d, LANES):
                _TRANSPOSED_1(a, a0, b, k * PANEL, panel, c, c0 + k, row, panels)
        i += 2


@compiled()
def add_outer(B, d, Q, P, n):
    """`B += Q[:n].T @ P[:n]`, n 1, 2 or 3."""
    row, panel = P.shape[1], B.shape[1] * PANEL
    b, q, p = B.ctypes, Q.ctypes, P.ctypes
    for i in range(B.shape[0]):
        at = i * PANEL
        if n == 1:
            _ADD_1(b, 0, b, i * panel, panel, b, 0, row, d, q, p, at)
        elif n == 2:
            _ADD_2(b, 0, b, i * panel, panel, b, 0, row, d, q, p, at)
        else:
            _ADD_3(b, 0, b, i * panel, panel, b, 0, row, d, q, p, at)
