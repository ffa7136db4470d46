"""Unit rows, and what a fast product makes of them with a bounded error.

The score of a pair is the float64 dot product of its two float32 rows in a fixed order
(`kernels.similarity`). A fast product approximates it, and its rigorous error bound says which
comparisons it decides. With x = x' + e, where x' is what the product really reads,

    |x.y - x'.y'| <= |e_x| |y| + |x'| |e_y|                                    (Cauchy-Schwarz)

and the residual norms |e| are measured, row by row. On top come the rounding of the sum, at most
gamma_n |x'| |y'| with gamma_n = n u / (1 - n u) in any order of summation (Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, section 3.1), and the rounding of the result:

    product    x'                       sum                  result
    float32    x                        gamma_d, u = 2^-24   exact
    bfloat16   x rounded to 8 bits      gamma_2d, u = 2^-24  relative 2^-8
    int8       integers times a scale   exact                relative 2^-21

The float32 bound falls back to that of bfloat16 inputs where PyTorch has been allowed to compute
float32 products with fewer bits (`torch.set_float32_matmul_precision`).
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tupelo.errors import InputError

Precision = Literal["auto", "float32", "bfloat16", "int8"]
Array = np.ndarray | Tensor

LARGEST_NORM = 1e18  # products of two rows stay finite in float32
LARGEST_INT8_WIDTH = 100_000  # 127 * 127 * width fits 32 bits


def float32_rows(rows: Array, name: str, *, normalize: bool) -> Float32[np.ndarray, "n d"]:
    """Check an embedding matrix and return it as contiguous float32, by default with unit rows.

    Args:
        rows: `(n, d)`, floating, any device.
        name: of the argument, for messages.
        normalize: divide every row by its norm (computed in float64).

    Returns:
        `(n, d)` float32; a copy unless nothing had to change.

    Raises:
        InputError: not 2-D; empty; not floating; NaN or infinity; a zero row to normalise; a norm
            above 1e18 without normalising.
    """
    given = rows.detach() if isinstance(rows, Tensor) else np.asarray(rows)
    if given.ndim != 2 or 0 in given.shape:
        raise InputError(
            f"{name} must be a matrix (items, width) with at least one item; got shape "
            f"{tuple(given.shape)}; pass one embedding per row"
        )
    if isinstance(given, Tensor):
        if not given.is_floating_point():
            raise InputError(f"{name} must be floating point; got {given.dtype}; convert it first")
        given = given.to(device="cpu", dtype=torch.float32).numpy()
    elif given.dtype.kind != "f":
        raise InputError(f"{name} must be floating point; got {given.dtype}; convert it first")
    with np.errstate(over="ignore"):  # found below
        # a memory map, a reversed view, another byte order: nothing a tensor could share
        array = np.require(given, np.float32, ("C", "W"))
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise InputError(
            f"{name} must be finite in float32; {len(bad)} of {len(array)} rows hold NaN or "
            f"infinity, first row {bad[0]}; the model may have diverged"
        )
    norm = row_norms(array)
    if not normalize:
        if norm.max() > LARGEST_NORM:
            raise InputError(
                f"{name} must have row norms up to {LARGEST_NORM:g}; got {norm.max():g}; rescale it"
            )
        return array
    if not norm.all():
        bad = np.flatnonzero(norm == 0)
        raise InputError(
            f"{name} must have no zero rows when normalize=True; {len(bad)} of {len(array)} rows "
            f"are zero, first row {bad[0]}; drop them or pass normalize=False"
        )
    unit = np.empty_like(array)
    for block in _blocks(len(array)):
        np.divide(array[block], norm[block, None], out=unit[block], casting="same_kind")
    return unit


def check_widths(queries: np.ndarray, gallery: np.ndarray) -> None:
    """Refuse rows of different width.

    Raises:
        InputError: the widths differ.
    """
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries and gallery must have one width; got {queries.shape[1]} and "
            f"{gallery.shape[1]}; embed both with the same model"
        )


def row_norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norms `(n,)` of float32 rows in float64, without a float64 copy of them all."""
    norms = np.empty(len(rows))
    for block in _blocks(len(rows)):
        norms[block] = np.linalg.norm(rows[block].astype(np.float64), axis=1)
    return norms


def _blocks(n: int, size: int = 4096) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


@dataclass(frozen=True)
class Fast:
    """One side of a fast product: what it multiplies, and how far that is from the rows.

    Attributes:
        operand: `(n, d)` tensor handed to the product.
        norm: `(n,)` upper bounds of the norms of rows and operands.
        error: `(n,)` upper bounds of the residuals, with this side's share of the sum's rounding.
        scale: `(n,)` float32; the similarity is about `product * scale[i] * scale[j]`.
        relative: rounding of the result, as a share of its size.
    """

    operand: Tensor
    norm: np.ndarray
    error: np.ndarray
    scale: np.ndarray
    relative: float


def approximate(rows: np.ndarray, precision: str) -> Fast:
    """Prepare float32 `rows` `(n, d)` for a product in the given precision."""
    norm = row_norms(rows) * (1 + 1e-9)
    width = rows.shape[1]
    operand = torch.from_numpy(rows)
    scale = np.ones(len(rows), np.float32)
    relative, rounding = 0.0, _gamma(width)
    residual = np.zeros(len(rows))
    if precision == "float32":
        if torch.get_float32_matmul_precision() != "highest":
            relative, rounding = 2.0**-8, _gamma(2 * width)
            residual = norm * 2.0**-8
    elif precision == "bfloat16":
        operand = operand.to(torch.bfloat16)
        relative, rounding = 2.0**-8 * (1 + 2.0**-7), _gamma(2 * width)
        residual = _residual(rows, operand, scale)
    else:
        operand, scale = _int8_levels(rows)
        relative, rounding = 2.0**-21, 0.0  # of the scaling, in float32
        residual = _residual(rows, operand, scale)
    # Half the rounding of the sum is charged to each side; 1e-15 a term covers `similarity` itself,
    # and the tiny constants the products that processors flush to zero.
    bound = np.maximum(norm + residual, 1e-10)
    error = residual + bound * (0.5 * rounding * (1 + 1e-3) + width * 1e-15) + 1e-20
    return Fast(operand, bound, error, scale, relative)


def _gamma(n: int) -> float:
    return n * 2.0**-24 / (1 - n * 2.0**-24)


def _int8_levels(rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Rows as integers from -127 to 127 times a scale for each row."""
    levels = np.empty(rows.shape, np.int8)
    scale = np.empty(len(rows), np.float32)
    for block in _blocks(len(rows)):
        largest = np.abs(rows[block]).max(axis=1)
        scale[block] = np.where(largest > 0, largest / np.float32(127), 1)
        levels[block] = np.clip(np.rint(rows[block] / scale[block, None]), -127, 127)
    return torch.from_numpy(levels), scale


def _residual(rows: np.ndarray, operand: Tensor, scale: np.ndarray) -> np.ndarray:
    residual = np.empty(len(rows))
    for block in _blocks(len(rows)):
        read = operand[block].to(torch.float64).numpy() * scale[block, None]
        residual[block] = np.linalg.norm(rows[block] - read, axis=1)
    return residual * (1 + 1e-9)


def usable_precisions(width: int) -> list[str]:
    """The fast products of this machine, for rows of a width."""
    names = ["float32"]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        names.append("bfloat16")
    if width <= LARGEST_INT8_WIDTH and int8_product_is_exact():
        names.append("int8")
    return names


@functools.cache
def int8_product_is_exact() -> bool:
    """Whether this PyTorch and processor multiply int8 matrices, and without saturating."""
    extremes = torch.full((64, 256), 127, dtype=torch.int8)
    extremes[::2] = -127
    try:
        product = torch._int_mm(extremes, extremes.T)  # pyright: ignore[reportPrivateImportUsage]
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(product.double(), extremes.double() @ extremes.double().T)


def check_precision(precision: Precision, width: int) -> None:
    """Refuse an int8 product that would not be exact.

    Raises:
        InputError: int8 on a machine, or for a width, that cannot.
    """
    if precision == "int8" and (width > LARGEST_INT8_WIDTH or not int8_product_is_exact()):
        raise InputError(
            f"precision int8 needs an exact int8 product and a width up to {LARGEST_INT8_WIDTH}; "
            f"got width {width}; use precision='auto'"
        )
