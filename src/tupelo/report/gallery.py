"""The queries that are shown with their neighbours: some by chance, and the worst failures."""

from typing import NamedTuple

import numpy as np

from tupelo.report.searched import Searched

TYPICAL, FAILURES = 6, 6


class Shown(NamedTuple):
    """A neighbour, or the query itself.

    Attributes:
        row: of the picture in its set.
        label: its class or tags in words.
        path: where it came from.
        similarity: cosine to the query; 1 for the query.
        right: shares the class or a tag of the query.
    """

    row: int
    label: str
    path: str
    similarity: float
    right: bool


class Query(NamedTuple):
    """A query with its neighbours, nearest first."""

    query: Shown
    neighbours: list[Shown]


def typical(found: Searched, seed: int = 0, at_most: int = TYPICAL) -> list[Query]:
    """Queries drawn at random among those that have something to find, each as likely."""
    places = np.flatnonzero(found.matched)
    drawn = np.random.default_rng(seed).permutation(places)[:at_most]
    return [_query(found, int(place)) for place in drawn]


def failures(found: Searched, at_most: int = FAILURES) -> list[Query]:
    """Queries whose first neighbour is wrong, those most similar to it first.

    Two pictures that are each other's first neighbour are shown once.
    """
    places = np.flatnonzero(found.wrong_first)
    chosen: list[Query] = []
    seen: set[tuple[int, int]] = set()
    for place in places[np.argsort(-found.similarity[places, 0], kind="stable")]:
        if len(chosen) == at_most:
            break
        pair = int(found.rows[place]), int(found.neighbours[place, 0])
        if not (found.own and pair[::-1] in seen):
            seen.add(pair)
            chosen.append(_query(found, int(place)))
    return chosen


def _query(found: Searched, place: int) -> Query:
    row = int(found.rows[place])
    neighbours = [
        Shown(
            row=int(neighbour),
            label=found.searched_names[neighbour],
            path=found.searched.paths[neighbour],
            similarity=float(similarity),
            right=bool(right),
        )
        for neighbour, similarity, right in zip(
            found.neighbours[place], found.similarity[place], found.right[place], strict=True
        )
    ]
    return Query(Shown(row, found.names[row], found.pictures.paths[row], 1.0, True), neighbours)
