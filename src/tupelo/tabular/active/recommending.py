"""Which points to label next: from a pool, or anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.tabular.active.regions import Region, Ruler

TILE_NUMBERS = 4_000_000  # distances at once: 32 MB


@dataclass(frozen=True)
class Suggestion:
    """A point to label.

    Attributes:
        row: of the pool; None without a pool.
        x: (d,) the point, in raw features; without a pool the centre of its region.
        uncertainty: distance to the nearest class over that to the second nearest, 0 to 1.
        region: that it lies in; None where it was chosen for its uncertainty alone.
        reason: a sentence.
    """

    row: int | None
    x: Float[ndarray, " d"]
    uncertainty: float
    region: Region | None
    reason: str


def uncertainty(
    ruler: Ruler, X: Float[ndarray, "n d"], y: Int[ndarray, " n"], pool: Float[ndarray, "p d"]
) -> Float[ndarray, " p"]:
    """sqrt(D to the nearest class) / sqrt(D to the second nearest) of each row of the pool.

    1 is halfway between two classes; a row that coincides with two classes has 1 as well.

    Args:
        ruler: the learned distance.
        X: labelled rows.
        y: their classes, two or more.
        pool: rows without a label.
    """
    found = np.empty(len(pool))
    classes = np.unique(y)
    step = max(1, TILE_NUMBERS // len(X))
    for begin in range(0, len(pool), step):
        distances = ruler.to_rows(pool[begin : begin + step], X)
        nearest = np.stack([distances[:, y == c].min(axis=1) for c in classes], axis=1)
        first, second = np.partition(nearest, 1, axis=1)[:, :2].T
        ratio = first / np.where(second > 0, second, 1)
        found[begin : begin + step] = np.sqrt(np.where(second > 0, ratio, 1))
    return found


def from_pool(
    regions: Sequence[Region],
    pool: Float[ndarray, "p d"],
    doubt: Float[ndarray, " p"],
    n: int,
) -> list[Suggestion]:
    """n rows of the pool: the most uncertain of each region, then the most uncertain of all.

    Args:
        regions: the most important first.
        pool: rows without a label.
        doubt: `uncertainty` of each.
        n: how many; all of them where the pool is smaller.
    """
    order = np.argsort(-doubt, kind="stable")
    taken: dict[int, Region | None] = {}
    for region in regions:
        if len(taken) == n:
            break
        inside = order[region.contains(pool[order])]
        row = next((row for row in inside if row not in taken), None)
        if row is not None:
            taken[row] = region
    for row in order:
        if len(taken) >= n:
            break
        taken.setdefault(row, None)
    return [
        Suggestion(int(row), pool[row], float(doubt[row]), region, _reason(region, doubt[row]))
        for row, region in taken.items()
    ]


def without_pool(
    regions: Sequence[Region],
    ruler: Ruler,
    X: Float[ndarray, "n d"],
    y: Int[ndarray, " n"],
    n: int,
) -> list[Suggestion]:
    """The centres of the first n regions; fewer where there are fewer regions."""
    chosen = regions[:n]
    if not chosen:
        return []
    centres = np.stack([region.centre for region in chosen])
    doubt = uncertainty(ruler, X, y, centres)
    return [
        Suggestion(None, region.centre, float(u), region, region.reason)
        for region, u in zip(chosen, doubt, strict=True)
    ]


def _reason(region: Region | None, doubt: float) -> str:
    if region is not None:
        return region.reason
    return f"the two nearest classes are almost equally far: ratio {doubt:.3g}."
