"""IVF-PQ: settings, building, searching, and how much of the exact result it finds.

Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011. Rows are
divided into partitions by k-means; within one, each row is kept as a few bytes, one for each group
of its numbers. A search looks into the partitions nearest to the query, takes the best by these
bytes, and compares some times more of them than are wanted by their full rows.
"""

import math
from dataclasses import dataclass
from typing import Any

from tupelo.errors import InputError

AT_LEAST = 256  # rows for a partition, and for the 256 codes of a group: less is not learned from
NUMBERS_A_GROUP = 8
MEASURED_AT, SAMPLE = 10, 256  # recall@10 of so many queries


@dataclass(frozen=True)
class Approximate:
    """Settings of an IVF-PQ index; `None` is chosen from the number and width of rows.

    Args:
        partitions: k-means clusters of rows, of 256 at least; default the square root of their
            number, where it is not too many.
        sub_vectors: bytes kept of a row, a divisor of its width; default an eighth of it.
        probes: partitions that a search looks into; default a sixteenth of them, at least 20.
        refine: rows compared in full, as a multiple of k, at least 1.
    """

    partitions: int | None = None
    sub_vectors: int | None = None
    probes: int | None = None
    refine: int = 20

    def resolved(self, n: int, width: int) -> "Approximate":
        """With every number chosen.

        Raises:
            InputError: there are too few rows, or a number is out of its range.

        >>> Approximate().resolved(10_000, 128)
        Approximate(partitions=39, sub_vectors=16, probes=20, refine=20)
        """
        if n < AT_LEAST:
            raise InputError(
                f"an approximate index needs at least {AT_LEAST} items, got {n}; leave it out "
                "(of a rebuild by approximate=False, --exact): exact search of so few takes no time"
            )
        most = n // AT_LEAST
        partitions = self.partitions if self.partitions is not None else min(math.isqrt(n), most)
        groups = (
            self.sub_vectors
            if self.sub_vectors is not None
            else _divisor(width, max(1, width // NUMBERS_A_GROUP))
        )
        probes = (
            self.probes if self.probes is not None else min(partitions, max(20, partitions // 16))
        )
        if not 1 <= partitions <= most:
            raise InputError(
                f"partitions must be from 1 to {most}, one for {AT_LEAST} items, got {partitions}"
            )
        if groups < 1 or width % groups:
            raise InputError(f"sub_vectors must divide the width {width}, got {groups}")
        if not 1 <= probes <= partitions:
            raise InputError(f"probes must be from 1 to the partitions {partitions}, got {probes}")
        if self.refine < 1:
            raise InputError(f"refine must be at least 1, got {self.refine}")
        return Approximate(partitions, groups, probes, self.refine)


def make(table: Any, settings: Approximate) -> None:
    """Build the index of a table, in place of an earlier one."""
    from lancedb.index import IvfPq

    table.create_index(
        "vector",
        config=IvfPq(
            distance_type="cosine",
            num_partitions=settings.partitions,
            num_sub_vectors=settings.sub_vectors,
        ),
    )


def unindexed(table: Any) -> int:
    """Rows that came after the index was built; a search compares them one by one."""
    return sum(index.num_unindexed_rows or 0 for index in table.list_indices())


def _divisor(width: int, near: int) -> int:
    return next(groups for groups in range(near, 0, -1) if width % groups == 0)
