"""The compiled loops behind `blocks`: maps have their features last, and pictures a zero border."""

import numpy as np

from tupelo.compiled import compiled

_FREE = {"reassoc", "contract", "nsz"}


@compiled(fastmath=_FREE)
def add_moments(padded, sums, products):
    """Add up all 3 x 3 patches of pictures (n, c, h + 2, w + 2).

    Args:
        padded: the pictures.
        sums: of each of the 9 c pixels of a patch, added to.
        products: of each two of them (9 c, 9 c), added to.
    """
    n, channels, h, w = padded.shape[0], padded.shape[1], padded.shape[2] - 2, padded.shape[3] - 2
    taps = 9 * channels
    patches = np.empty((taps, h * w), padded.dtype)
    for i in range(n):
        for k in range(taps):
            for y in range(h):
                for x in range(w):
                    patches[k, y * w + x] = padded[i, k // 9, y + k % 9 // 3, x + k % 3]
        for k in range(taps):
            total = padded.dtype.type(0)
            for place in range(h * w):
                total += patches[k, place]
            sums[k] += total
            for m in range(k, taps):
                product = padded.dtype.type(0)
                for place in range(h * w):
                    product += patches[k, place] * patches[m, place]
                products[k, m] += product
                if m > k:
                    products[m, k] += product


@compiled(fastmath=_FREE)
def convolve_pool(padded, weight, shift, slope, out, chosen):
    """Fill out (n, h, w, f): 3 x 3 convolution, maximum over 2 x 2, (leaky) ReLU.

    Args:
        padded: pictures (n, c, >= 2 h + 2, >= 2 w + 2).
        weight: (9 c, f).
        shift: added to the convolution (f,).
        slope: of what is below 0.
        out: filled.
        chosen: filled with the place of the maximum, 0 to 3.
    """
    channels = padded.shape[1]
    n, h, w, f = out.shape
    four = np.empty((4, f), padded.dtype)
    zero = padded.dtype.type(0)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                for j in range(f):
                    four[0, j] = four[1, j] = four[2, j] = four[3, j] = shift[j]
                for c in range(channels):
                    seen = padded[i, c, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
                    for row in range(3):
                        p0, p1, p2, p3 = seen[row, 0], seen[row, 1], seen[row, 2], seen[row, 3]
                        q0, q1, q2 = seen[row + 1, 0], seen[row + 1, 1], seen[row + 1, 2]
                        q3 = seen[row + 1, 3]
                        k = 9 * c + 3 * row
                        for j in range(f):
                            left, middle, right = weight[k, j], weight[k + 1, j], weight[k + 2, j]
                            four[0, j] += p0 * left + p1 * middle + p2 * right
                            four[1, j] += p1 * left + p2 * middle + p3 * right
                            four[2, j] += q0 * left + q1 * middle + q2 * right
                            four[3, j] += q1 * left + q2 * middle + q3 * right
                for j in range(f):
                    best, place = four[0, j], np.uint8(0)
                    for other in range(1, 4):
                        if four[other, j] > best:
                            best, place = four[other, j], np.uint8(other)
                    out[i, y, x, j] = best if best > zero else slope * best
                    chosen[i, y, x, j] = place


@compiled(fastmath=_FREE)
def add_convolution_gradient(padded, out, chosen, gradient, slope, weight_sums, shift_sums):
    """Add to weight_sums (9 c, f) and shift_sums (f,) what the gradient of out gives."""
    channels = padded.shape[1]
    n, h, w, f = gradient.shape
    zero = padded.dtype.type(0)
    four = np.empty((4, f), padded.dtype)
    of_weight = np.empty((9 * channels, f), padded.dtype)  # of one picture: sums of many lose bits
    of_shift = np.empty(f, padded.dtype)
    for i in range(n):
        of_weight[:] = zero
        of_shift[:] = zero
        for y in range(h):
            for x in range(w):
                for j in range(f):
                    value = gradient[i, y, x, j]
                    value = value if out[i, y, x, j] > zero else slope * value
                    of_shift[j] += value
                    for place in range(4):
                        four[place, j] = value if chosen[i, y, x, j] == place else zero
                for c in range(channels):
                    seen = padded[i, c, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
                    for k in range(9):
                        y0, x0 = k // 3, k % 3
                        a, b = seen[y0, x0], seen[y0, x0 + 1]
                        d, e = seen[y0 + 1, x0], seen[y0 + 1, x0 + 1]
                        for j in range(f):
                            of_weight[9 * c + k, j] += (
                                a * four[0, j] + b * four[1, j] + d * four[2, j] + e * four[3, j]
                            )
        for j in range(f):
            shift_sums[j] += of_shift[j]
            for k in range(9 * channels):
                weight_sums[k, j] += of_weight[k, j]


@compiled(fastmath=_FREE)
def add_squares(maps, sums, squares):
    """Add up maps (n, h, w, f) and their squares over all but the features."""
    n, h, w, f = maps.shape
    part = np.empty((2, f), maps.dtype)
    zero = maps.dtype.type(0)
    for i in range(n):
        for j in range(f):
            part[0, j] = part[1, j] = zero
        for y in range(h):
            for x in range(w):
                for j in range(f):
                    value = maps[i, y, x, j]
                    part[0, j] += value
                    part[1, j] += value * value
        for j in range(f):
            sums[j] += part[0, j]
            squares[j] += part[1, j]


@compiled(fastmath=_FREE)
def scale_pool(maps, scale, shift, slope, out, chosen):
    """Fill out (n, h, w, f) with the (leaky) maximum over 2 x 2 of scale * maps + shift."""
    n, h, w, f = out.shape
    zero = maps.dtype.type(0)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                for j in range(f):
                    a = scale[j]
                    best, place = a * maps[i, 2 * y, 2 * x, j], np.uint8(0)
                    value = a * maps[i, 2 * y, 2 * x + 1, j]
                    if value > best:
                        best, place = value, np.uint8(1)
                    value = a * maps[i, 2 * y + 1, 2 * x, j]
                    if value > best:
                        best, place = value, np.uint8(2)
                    value = a * maps[i, 2 * y + 1, 2 * x + 1, j]
                    if value > best:
                        best, place = value, np.uint8(3)
                    best += shift[j]
                    out[i, y, x, j] = best if best > zero else slope * best
                    chosen[i, y, x, j] = place


@compiled(fastmath=_FREE)
def add_pool_gradient(maps, out, chosen, gradient, slope, sums, products):
    """Add up the gradient of out (n, h, w, f), and its product with the chosen maps, by feature."""
    n, h, w, f = out.shape
    zero = maps.dtype.type(0)
    part = np.empty((2, f), maps.dtype)
    for i in range(n):
        for j in range(f):
            part[0, j] = part[1, j] = zero
        for y in range(h):
            for x in range(w):
                for j in range(f):
                    value = gradient[i, y, x, j]
                    value = value if out[i, y, x, j] > zero else slope * value
                    place = chosen[i, y, x, j]
                    a, b = maps[i, 2 * y, 2 * x, j], maps[i, 2 * y, 2 * x + 1, j]
                    d, e = maps[i, 2 * y + 1, 2 * x, j], maps[i, 2 * y + 1, 2 * x + 1, j]
                    upper = a if place == 0 else b
                    lower = d if place == 2 else e
                    part[0, j] += value
                    part[1, j] += value * (upper if place < 2 else lower)
        for j in range(f):
            sums[j] += part[0, j]
            products[j] += part[1, j]


@compiled(fastmath=_FREE)
def spread_gradient(maps, out, chosen, gradient, slope, scale, offset, factor, spread):
    """Fill spread (n, h, w, f): offset + factor * maps, and scale * gradient where chosen."""
    n, high, wide, f = maps.shape
    h, w = out.shape[1:3]
    zero = maps.dtype.type(0)
    for i in range(n):
        for y in range(high):
            for x in range(wide):
                if y < 2 * h and x < 2 * w:
                    here = 2 * (y % 2) + x % 2
                    for j in range(f):
                        value = scale[j] * gradient[i, y // 2, x // 2, j]
                        value = value if out[i, y // 2, x // 2, j] > zero else slope * value
                        value = value if chosen[i, y // 2, x // 2, j] == here else zero
                        spread[i, y, x, j] = value + offset[j] + factor[j] * maps[i, y, x, j]
                else:
                    for j in range(f):
                        spread[i, y, x, j] = offset[j] + factor[j] * maps[i, y, x, j]
