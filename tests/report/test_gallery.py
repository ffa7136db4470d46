"""Which queries are shown."""

import numpy as np

from tupelo.report.gallery import failures, typical
from tupelo.report.searched import search


def test_typical_queries_are_drawn_by_the_seed(pictures, vague):
    found = search(pictures, vague)
    rows = [one.query.row for one in typical(found, seed=1)]
    assert len(set(rows)) == 6
    assert rows == [one.query.row for one in typical(found, seed=1)]
    assert rows != [one.query.row for one in typical(found, seed=2)]
    drawn = {one.query.row for seed in range(60) for one in typical(found, seed=seed)}
    assert drawn == set(range(24))  # each can be


def test_failures_are_the_most_similar_wrong_first_neighbours(pictures, vague):
    found = search(pictures, vague)
    z, labels = found.z.astype(np.float64), pictures.labels
    wrong = {}
    for row in range(len(z)):
        cosine = z @ z[row]
        cosine[row] = -2
        first = int(cosine.argmax())
        if labels[first] != labels[row]:
            wrong.setdefault(frozenset((row, first)), cosine[first])
    worst = sorted(wrong, key=lambda pair: -wrong[pair])
    shown = failures(found, at_most=4)
    assert [frozenset((one.query.row, one.neighbours[0].row)) for one in shown] == worst[:4]
    assert not any(one.neighbours[0].right for one in shown)
    for one in shown:
        for each in one.neighbours:
            assert each.right == (labels[each.row] == labels[one.query.row])
            assert (each.path, each.label) == (pictures.paths[each.row], found.names[each.row])
            assert abs(each.similarity - z[each.row] @ z[one.query.row]) < 1e-6


def test_two_that_take_each_other_are_shown_once(grey, embedded):
    pictures = grey(np.array(["a", "b", "a", "b"]))
    found = search(pictures, embedded(pictures, [[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]]))
    assert found.wrong_first[:2].all()
    pairs = [{one.query.row, one.neighbours[0].row} for one in failures(found)]
    assert pairs.count({0, 1}) == 1
