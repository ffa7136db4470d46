"""Compiled resampling of windows of a picture; imported late, for numba is slow to load."""

import math

import numpy as np

from tupelo.compiled import compiled

CONTRACT = {"contract"}


@compiled()
def _cubic(x):
    """The bicubic filter of Pillow and torch's antialias, a = -0.5; not 0 within 2 only."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return 0.0


@compiled()
def _taps(low, high, limit, first, count, weights):
    """For each of the n output pixels over [low, high]: which input pixels, with which weights.

    The filter is stretched by the scale where pixels are merged, so that nothing aliases.
    """
    n = len(first)
    scale = (high - low) / n
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    for i in range(n):
        middle = low + (i + 0.5) * scale
        start = max(0, int(middle - support + 0.5))
        stop = max(start + 1, min(limit, int(middle + support + 0.5)))
        total = 0.0
        for j in range(start, stop):
            weight = _cubic((j - middle + 0.5) / stretch)
            weights[i, j - start] = weight
            total += weight
        first[i], count[i] = start, stop - start
        for j in range(stop - start):
            weights[i, j] /= total


@compiled(fastmath=CONTRACT)
def resample(image, windows, kept, out):
    """Bring windows of a picture to the size of `out`, with antialias.

    Args:
        image: uint8 (h, 3 w): its rows of pixels of three bytes.
        windows: left, top, right, bottom, inside the picture, float64 (n, 4).
        kept: which of them are cut; the others stay as they are, (n,).
        out: uint8 (n, height, width, 3), written.
    """
    n, height, width, _ = out.shape
    rows, columns = image.shape[0], image.shape[1] // 3
    first_y, count_y = np.empty(height, np.int64), np.empty(height, np.int64)
    first_x, count_x = np.empty(width, np.int64), np.empty(width, np.int64)
    for crop in range(n):
        if not kept[crop]:
            continue
        left, top, right, bottom = windows[crop]
        most_y = math.ceil(4.0 * max(1.0, (bottom - top) / height)) + 2
        most_x = math.ceil(4.0 * max(1.0, (right - left) / width)) + 2
        weights_y = np.empty((height, most_y), np.float32)
        weights_x = np.empty((width, most_x), np.float32)
        _taps(top, bottom, rows, first_y, count_y, weights_y)
        _taps(left, right, columns, first_x, count_x, weights_x)
        begin = first_x[0]
        across = 3 * (first_x[-1] + count_x[-1] - begin)
        # Down first, along whole rows; then across, along the rows of the result: both inner loops
        # run over neighbours in memory.
        line = np.empty(across, np.float32)
        upright = np.empty((across, height), np.float32)
        for y in range(height):
            line[:] = 0.0
            for tap in range(count_y[y]):
                weight = weights_y[y, tap]
                row = image[first_y[y] + tap, 3 * begin : 3 * begin + across]
                for x in range(across):
                    line[x] += weight * np.float32(row[x])
            for x in range(across):
                upright[x, y] = line[x]
        column = np.empty(height, np.float32)
        for x in range(width):
            for channel in range(3):
                column[:] = 0.5  # so that the cut below rounds
                for tap in range(count_x[x]):
                    weight = weights_x[x, tap]
                    source = upright[3 * (first_x[x] - begin + tap) + channel]
                    for y in range(height):
                        column[y] += weight * source[y]
                for y in range(height):
                    out[crop, y, x, channel] = np.uint8(min(max(column[y], 0.0), 255.0))
