"""Blocks of convolution, batch normalisation, maximum over 2 x 2 and (leaky) ReLU, on CPUs.

On small pictures such a block is bound by writing its maps and reading them again for every layer,
forth and back, more than by arithmetic. Here normalisation, maximum and activation are one
compiled pass over the maps, and their gradient another. The first block, at full resolution and of
few channels, needs no maps at all: mean and variance of w p + b over all 3 x 3 patches p follow
from the mean m and the covariance C of the patches alone, w m + b and w C w, which also carry the
gradient; what is left is the maximum of an affine map.

Measured with `benchmarks/fewshot.py`; equal to the layers of PyTorch up to rounding.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WORTH_THREADS = 64  # pictures; fewer are done before threads have started
FEW = 8  # maps for each channel of the pictures from which on it pays not to keep them


def block(
    images: Float[Tensor, "b c h w"], conv: nn.Conv2d, norm: nn.BatchNorm2d, *, slope: float = 0.0
) -> Float[Tensor, "b f h2 w2"]:
    """`leaky_relu(max_pool2d(norm(conv(images)), 2), slope)`, equal up to rounding.

    With a slope in [0, 1), maximum and activation may change places. Running statistics are kept
    as usual. The bias of the convolution, which normalisation by the batch takes away again, gets
    a gradient of exactly 0.

    Args:
        images: pictures or maps.
        conv: 3 x 3 with padding 1.
        norm: behind it.
        slope: of the activation below 0, in [0, 1).
    """
    if not _is_plain(images, conv, norm):
        return F.leaky_relu(F.max_pool2d(norm(conv(images)), 2), slope)
    by_batch = norm.training or norm.running_mean is None or norm.running_var is None
    if not images.requires_grad and conv.in_channels * FEW <= conv.out_channels:
        return _of_pictures(images, conv, norm, slope, by_batch=by_batch)
    if torch.is_autocast_enabled("cpu"):
        return F.leaky_relu(F.max_pool2d(norm(conv(images)), 2), slope)
    if by_batch:
        maps = F.conv2d(images, conv.weight, padding=1)
        out, _, mean, variance = _NormPool.apply(
            maps, norm.weight, norm.bias, conv.bias, norm.eps, slope
        )
        _remember(norm, conv, mean, variance, maps.numel() // maps.shape[1])
        return out
    if torch.is_grad_enabled():
        return F.leaky_relu(F.max_pool2d(norm(conv(images)), 2), slope)
    scale, shift = _running(norm, conv)
    weight = (conv.weight * scale[:, None, None, None]).to(images.dtype)
    maps = F.conv2d(images, weight, shift.to(images.dtype), padding=1)
    return F.leaky_relu(F.max_pool2d(maps, 2), slope)


def _is_plain(images: Tensor, conv: nn.Module, norm: nn.Module) -> bool:
    """On a CPU, of the usual kind and in one type; and nobody traces or transforms what is done."""
    return (
        images.device.type == "cpu"
        and type(conv) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and images.dtype in (torch.float32, torch.float64)
        and images.dtype == conv.weight.dtype == norm.weight.dtype
        and (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
        and (conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), 1, "zeros")
        and min(images.shape[2:]) >= 2
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def _of_pictures(
    images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, slope: float, *, by_batch: bool
) -> Tensor:
    """The block without its maps, for pictures of few channels that need no gradient."""
    padded = F.pad(images, (1, 1, 1, 1)).contiguous()
    weight = conv.weight.flatten(1).double()
    if by_batch:
        count = images.shape[0] * images.shape[2] * images.shape[3]
        patch, covariance = _moments(padded, count)
        mean = weight @ patch
        variance = ((weight @ covariance) * weight).sum(1)
        _remember(norm, conv, mean, variance, count)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        shift = norm.bias - scale * mean
        if conv.bias is not None:
            shift = shift + 0 * conv.bias  # in the graph, for those who wait for its gradient
    else:
        scale, shift = _running(norm, conv)
    affine = (scale[:, None] * weight).T.to(images.dtype)
    return _ConvolvePool.apply(padded, affine, shift.to(images.dtype), slope)[0]


def _running(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """What running statistics come to, behind a convolution without its bias: scale and shift."""
    assert norm.running_mean is not None  # noqa: S101  (or the batch normalises)
    assert norm.running_var is not None  # noqa: S101
    scale = norm.weight * (norm.running_var.double() + norm.eps).rsqrt()
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    return scale, norm.bias - scale * mean


@torch.no_grad()
def _remember(
    norm: nn.BatchNorm2d, conv: nn.Conv2d, mean: Tensor, variance: Tensor, count: int
) -> None:
    """Running statistics, as the layer itself keeps them."""
    if not norm.training or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None  # noqa: S101  (it comes with the running mean)
    norm.num_batches_tracked.add_(1)
    rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    mean = mean if conv.bias is None else mean + conv.bias
    variance = variance * (count / max(count - 1, 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean), rate)
    norm.running_var.lerp_(variance.to(norm.running_var), rate)


class _ConvolvePool(torch.autograd.Function):
    """(padded, weight (9 c, f), shift (f,), slope) -> out (b, f, h, w), places of the maximum."""

    @staticmethod
    def forward(padded, weight, shift, slope):
        n, _, high, wide = padded.shape
        out, chosen = _empty((n, (high - 2) // 2, (wide - 2) // 2, len(shift)), padded.dtype)
        given, weight, shift = (_numpy(t.contiguous()) for t in (padded, weight, shift))
        level, outputs = given.dtype.type(slope), (_numpy(out), _numpy(chosen))

        def some(part: slice) -> None:
            from tupelo.fewshot.block_kernels import convolve_pool

            convolve_pool(given[part], weight, shift, level, *(each[part] for each in outputs))

        _in_threads(some, n)
        return out.permute(0, 3, 1, 2), chosen

    @staticmethod
    def setup_context(ctx, inputs, output):
        padded, _, _, ctx.slope = inputs
        ctx.save_for_backward(padded, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        padded, out, chosen = ctx.saved_tensors
        rows = [_numpy(padded), _last(out), _numpy(chosen), _last(gradients[0])]
        level, f = rows[0].dtype.type(ctx.slope), out.shape[1]

        def some(part: slice) -> tuple[np.ndarray, np.ndarray]:
            from tupelo.fewshot.block_kernels import add_convolution_gradient

            found = np.zeros((9 * padded.shape[1], f)), np.zeros(f)
            add_convolution_gradient(*(each[part] for each in rows), level, *found)
            return found

        weight, shift = _summed(some, len(out))
        return None, weight.to(out.dtype), shift.to(out.dtype), None


class _NormPool(torch.autograd.Function):
    """(maps, gain, offset, bias before, eps, slope) -> out, places, mean and variance of the maps.

    The bias plays no part but gets its gradient, 0.
    """

    @staticmethod
    def forward(maps, gain, offset, bias, eps, slope):
        rows = _last(maps)
        n, high, wide, f = rows.shape

        def add(part: slice) -> tuple[np.ndarray, np.ndarray]:
            from tupelo.fewshot.block_kernels import add_squares

            found = np.zeros(f), np.zeros(f)
            add_squares(rows[part], *found)
            return found

        mean, squares = (each / (n * high * wide) for each in _summed(add, n))
        variance = (squares - mean.square()).clamp(min=0)
        scale = gain * (variance + eps).rsqrt()
        shift = offset - scale * mean
        out, chosen = _empty((n, high // 2, wide // 2, f), maps.dtype)
        affine = [_numpy(each.to(maps.dtype)) for each in (scale, shift)]
        level, outputs = rows.dtype.type(slope), (_numpy(out), _numpy(chosen))

        def some(part: slice) -> None:
            from tupelo.fewshot.block_kernels import scale_pool

            scale_pool(rows[part], *affine, level, *(each[part] for each in outputs))

        _in_threads(some, n)
        return out.permute(0, 3, 1, 2), chosen, mean, variance

    @staticmethod
    def setup_context(ctx, inputs, output):
        maps, gain, _, bias, ctx.eps, ctx.slope = inputs
        ctx.biased = bias is not None
        ctx.save_for_backward(maps, gain, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        maps, gain, out, chosen, mean, variance = ctx.saved_tensors
        rows = [_last(maps), _last(out), _numpy(chosen), _last(gradients[0])]
        n, high, wide, f = rows[0].shape
        level = rows[0].dtype.type(ctx.slope)

        def add(part: slice) -> tuple[np.ndarray, np.ndarray]:
            from tupelo.fewshot.block_kernels import add_pool_gradient

            found = np.zeros(f), np.zeros(f)
            add_pool_gradient(*(each[part] for each in rows), level, *found)
            return found

        sums, products = _summed(add, n)
        inverse = (variance + ctx.eps).rsqrt()
        of_gain = inverse * (products - mean * sums)
        scale = gain * inverse
        factor = -scale * inverse * of_gain / (n * high * wide)
        offset = -scale * sums / (n * high * wide) - factor * mean
        spread = np.empty_like(rows[0])
        affine = [_numpy(each.to(maps.dtype)) for each in (scale, offset, factor)]

        def some(part: slice) -> None:
            from tupelo.fewshot.block_kernels import spread_gradient

            spread_gradient(*(each[part] for each in rows), level, *affine, spread[part])

        _in_threads(some, n)
        of_maps = torch.from_numpy(spread).permute(0, 3, 1, 2)
        of_bias = torch.zeros_like(gain) if ctx.biased else None
        return of_maps, of_gain.to(gain), sums.to(gain), of_bias, None, None


def _moments(padded: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (9 c,) and covariance (9 c, 9 c) of all patches, float64."""
    pictures, taps = _numpy(padded), 9 * padded.shape[1]

    def some(part: slice) -> tuple[np.ndarray, np.ndarray]:
        from tupelo.fewshot.block_kernels import add_moments

        found = np.zeros(taps), np.zeros((taps, taps))
        add_moments(pictures[part], *found)
        return found

    mean, products = (each / count for each in _summed(some, len(pictures)))
    return mean, products - torch.outer(mean, mean)


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=torch.uint8)


def _last(maps: Tensor) -> np.ndarray:
    """Maps with their features last, which costs nothing where they lie so."""
    return _numpy(maps.permute(0, 2, 3, 1).contiguous())


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _summed(do: Callable[[slice], tuple[np.ndarray, np.ndarray]], n: int) -> list[Tensor]:
    return [torch.from_numpy(sum(parts)) for parts in zip(*_in_threads(do, n), strict=True)]


def _in_threads(do: Callable, n: int) -> list:
    """`do` on slices of n pictures, one a thread; always cut alike for a number of threads."""
    threads = torch.get_num_threads() if n >= WORTH_THREADS else 1
    if threads == 1:
        return [do(slice(0, n))]
    edges = [n * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(do, map(slice, edges[:-1], edges[1:])))
