import math

import numpy as np
import pytest

from tupelo.evaluation import retrieval

PRECISIONS = ("float32", "bfloat16", "int8")


def dot(x, y):
    """The documented order of summation: 16 running sums, a tree, then the rest of the row."""
    sums = [0.0] * 16
    even = len(x) - len(x) % 16
    for i in range(even):
        sums[i % 16] += float(x[i]) * float(y[i])
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [a + b for a, b in zip(sums[:half], sums[half:], strict=True)]
    total = sums[0]
    for i in range(even, len(x)):
        total += float(x[i]) * float(y[i])
    return total


def oracle(rows, relevant, *, gallery=None, excluded, ks):
    """Rank lists by sorting, metrics by their definitions, in loops.

    `relevant(i, j)` and `excluded(i, j)` say what item j is to query i.
    """
    gallery = rows if gallery is None else gallery
    first, r_precision, average, hits = [], [], [], []
    for i, x in enumerate(rows):
        order = sorted(
            (j for j in range(len(gallery)) if not excluded(i, j)),
            key=lambda j: (-dot(x, gallery[j]), j),
        )
        found = [bool(relevant(i, j)) for j in order]
        total = sum(found)
        if total == 0:
            first.append(0)
            r_precision.append(math.nan)
            average.append(math.nan)
            hits.append([0] * len(ks))
            continue
        first.append(found.index(True) + 1)
        r_precision.append(sum(found[:total]) / total)
        average.append(sum(sum(found[:n]) / n for n in range(1, total + 1) if found[n - 1]) / total)
        hits.append([sum(found[:k]) for k in ks])
    return np.array(first), np.array(r_precision), np.array(average), np.array(hits)


def assert_agrees(report, expected, ks):
    first, r_precision, average, hits = expected
    np.testing.assert_array_equal(report.first_rank, first)
    np.testing.assert_array_equal(report.r_precisions, r_precision)
    np.testing.assert_allclose(report.average_precisions, average, rtol=1e-14)
    matched = first > 0
    assert report.n_unmatched == (~matched).sum()
    for c, k in enumerate(ks):
        assert report.recall[k] == (hits[matched, c] > 0).mean()
        assert report.precision[k] == pytest.approx(hits[matched, c].mean() / k, abs=1e-14)
    assert report.map_at_r == pytest.approx(np.nanmean(average), abs=1e-14)
    assert report.mrr == pytest.approx((1 / first[matched]).mean(), abs=1e-14)


def random_rows(rng, n, d):
    """Rows whose dot products often tie: few levels, duplicates, and some plain Gaussians."""
    kind = rng.integers(3)
    if kind == 0:
        rows = rng.normal(size=(n, d))
    else:
        rows = rng.integers(-1, 2, size=(n, d)).astype(float)
        rows[:, 0] += 2 * (kind == 1)
    rows = rows[rng.integers(0, n, n)] if rng.random() < 0.5 else rows
    rows[np.abs(rows).sum(1) == 0, 0] = 1.0
    return rows.astype(np.float32)


def unit(rows):
    return (rows / np.linalg.norm(rows.astype(np.float64), axis=1)[:, None]).astype(np.float32)


def is_collapsed(*sides):
    rows = np.concatenate(sides).astype(np.float64)
    return np.linalg.norm(rows - rows[0], axis=1).max() < 5e-7


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", range(8))
def test_leave_one_out_equals_the_oracle(precision, seed):
    for case in range(40):
        rng = np.random.default_rng((seed, case))
        n, d = int(rng.integers(2, 40)), int(rng.integers(1, 40))
        rows = random_rows(rng, n, d)
        labels = rng.integers(0, rng.integers(1, n + 1), n)
        if len(np.unique(labels)) == n or is_collapsed(unit(rows)):
            continue
        ks = tuple(sorted({1, 2, int(rng.integers(1, n + 3))}))
        expected = oracle(
            unit(rows),
            lambda i, j, labels=labels: labels[i] == labels[j],
            excluded=lambda i, j: i == j,
            ks=ks,
        )
        assert_agrees(retrieval(rows, labels, ks=ks, precision=precision), expected, ks)
