"""Which classes are taken for which, and how well each is found."""

from typing import NamedTuple

import numpy as np

from tupelo.report.searched import Searched

PAIRS = 12
CLASSES = 15


class Confusion(NamedTuple):
    """Queries of one class whose first neighbour is of another.

    Attributes:
        of: name of the class of the queries.
        taken_for: name of the class of their first neighbours.
        errors: how many queries.
        queries: of the class `of` that have a relevant picture.
        similarity: mean cosine to those first neighbours.
        query: the picture of the most similar of these pairs.
        neighbour: its first neighbour, a row of the gallery.
    """

    of: str
    taken_for: str
    errors: int
    queries: int
    similarity: float
    query: int
    neighbour: int

    @property
    def share(self) -> float:
        """Of the queries of its class."""
        return self.errors / self.queries


class ClassScore(NamedTuple):
    """How well the pictures of one class, or with one tag, are found.

    Attributes:
        name: of the class or tag.
        queries: with a relevant picture.
        recall: share whose first neighbour is right.
        average_precision: mean MAP@R.
    """

    name: str
    queries: int
    recall: float
    average_precision: float


def worst_confusions(found: Searched, at_most: int = PAIRS) -> list[Confusion]:
    """Pairs of classes by how many queries of the first have their first neighbour in the second.

    Equal counts are ordered by their share of the queries, then by name. Queries without any
    relevant picture cannot be right and are left out. Pictures with several tags have no such
    pairs.
    """
    if found.tagged:
        return []
    own = np.array([found.names[row] for row in found.rows], dtype=object)
    first = found.neighbours[:, 0]
    totals: dict[str, int] = {}
    for name in own[found.matched]:
        totals[name] = totals.get(name, 0) + 1
    members: dict[tuple[str, str], list[int]] = {}
    for place in np.flatnonzero(found.wrong_first):
        pair = own[place], found.searched_names[first[place]]
        members.setdefault(pair, []).append(int(place))
    pairs = []
    for (of, taken_for), places in members.items():
        cosines = found.similarity[places, 0]
        nearest = places[int(cosines.argmax())]
        pairs.append(
            Confusion(
                of=of,
                taken_for=taken_for,
                errors=len(places),
                queries=totals[of],
                similarity=float(cosines.mean()),
                query=int(found.rows[nearest]),
                neighbour=int(first[nearest]),
            )
        )
    pairs.sort(key=lambda pair: (-pair.errors, -pair.share, pair.of, pair.taken_for))
    return pairs[:at_most]


def class_scores(found: Searched) -> list[ClassScore]:
    """Scores of every class or tag that has queries with something to find, worst MAP@R first."""
    labels = found.pictures.labels[found.rows]
    scores = []
    for number, name in enumerate(found.pictures.class_names):
        members = labels[:, number] if found.tagged else labels == number
        members = members & found.matched
        if members.any():
            scores.append(
                ClassScore(
                    name,
                    int(members.sum()),
                    float(found.right[members, 0].mean()),
                    float(found.average_precision[members].mean()),
                )
            )
    return sorted(scores, key=lambda score: (score.average_precision, score.name))
