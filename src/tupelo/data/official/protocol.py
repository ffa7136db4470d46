"""Lists of pairs that a verification protocol compares, in folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from tupelo.errors import DataError


@dataclass(frozen=True)
class PairList:
    """Pairs of pictures or videos, in the order of the list.

    Attributes:
        names: of pictures or videos, each once, sorted.
        pairs: two of `names` by number.
        same: whether both show one person.
        folds: number of the fold of each pair, from 1.
    """

    names: tuple[str, ...]
    pairs: Int[np.ndarray, "n 2"]
    same: Bool[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return len(np.unique(self.folds))


def pair_list(found: Sequence[tuple[str, str, bool]], folds: Sequence[int]) -> PairList:
    """Pairs of names as a list of numbers.

    >>> pair_list([("b", "a", True), ("a", "a", False)], [1, 1]).pairs.tolist()
    [[1, 0], [0, 0]]
    """
    names = tuple(sorted({name for one, other, _ in found for name in (one, other)}))
    number = {name: place for place, name in enumerate(names)}
    pairs = [(number[one], number[other]) for one, other, _ in found]
    return PairList(
        names,
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array([same for *_, same in found], bool),
        np.array(folds, np.int64),
    )


def check_folds(listed: PairList, path: Path, genuine: int, impostor: int) -> PairList:
    """Every fold holds so many pairs of each kind.

    Raises:
        DataError: one does not; names it with its counts.
    """
    for fold in np.unique(listed.folds):
        kinds = listed.same[listed.folds == fold]
        counts = int(kinds.sum()), int((~kinds).sum())
        if counts != (genuine, impostor):
            raise DataError(
                f"{path}: fold {fold} must hold {genuine} pairs of the same person and {impostor} "
                f"of different ones, it holds {counts[0]} and {counts[1]}; the list is cut or "
                "changed: get it again"
            )
    return listed
