"""Neighbours, right and wrong, against loops over all pairs."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.evaluation import retrieval
from tupelo.report import searched
from tupelo.report.confusions import class_scores, worst_confusions
from tupelo.report.gallery import failures, typical


def naive(found):
    """(row, neighbours, right) of each query of a set that searches itself, from all cosines."""
    z = found.z.astype(np.float64)
    tags = [set(name.split("|")) for name in found.names]
    for row in found.rows:
        order = [other for other in np.argsort(-(z @ z[row]), kind="stable") if other != row]
        order = order[: min(searched.NEIGHBOURS, len(z) - 1)]
        yield row, order, [bool(tags[row] & tags[other]) for other in order]


def test_neighbours_and_marks_agree_with_brute_force(pictures, vague):
    found = searched.search(pictures, vague)
    for place, (row, order, right) in enumerate(naive(found)):
        assert found.rows[place] == row
        assert found.neighbours[place].tolist() == order
        assert found.right[place].tolist() == right
    assert 0 < found.wrong_first.sum() < len(pictures)
    assert found.matched.all()
    whole = retrieval(vague.z, pictures.labels)
    assert found.scores["map@r"] == pytest.approx(whole.map_at_r)
    assert np.array_equal(found.average_precision, whole.average_precisions)


def test_a_gallery_is_searched_by_the_names_of_its_classes(grey, embedded):
    pictures = grey(np.array(["bee", "cat", "emu"]))
    gallery = grey(np.array(["cat", "ant", "bee", "cat"]))  # numbered otherwise
    queries = embedded(pictures, [[1, 0], [0, 1], [1, 1]])
    others = embedded(gallery, [[0.1, 1], [1, 0.2], [1, 0.1], [0, 1]])
    found = searched.search(pictures, queries, gallery, others)
    assert found.neighbours[:, :2].tolist() == [[2, 1], [3, 0], [1, 0]]
    assert found.right[:, :2].tolist() == [[True, False], [True, True], [False, False]]
    assert found.matched.tolist() == [True, True, False]  # no emu in the gallery
    assert found.scores["n_unmatched"] == 1
    assert [one.query.label for one in typical(found)].count("emu") == 0
    assert failures(found) == []
    assert {score.name for score in class_scores(found)} == {"bee", "cat"}


def test_tags_match_when_one_is_shared(grey, embedded):
    pictures = grey([{"red"}, {"red", "big"}, {"big"}, {"far"}])
    found = searched.search(pictures, embedded(pictures, [[1, 0], [1, 0.1], [0.2, 1], [-1, 0]]))
    for place, (_, order, right) in enumerate(naive(found)):
        assert found.neighbours[place].tolist() == order
        assert found.right[place].tolist() == right
    assert found.matched.tolist() == [True, True, True, False]
    assert worst_confusions(found) == []
    scores = {score.name: score.queries for score in class_scores(found)}
    assert scores == {"red": 2, "big": 2}


def test_copies_do_not_push_the_query_into_its_own_neighbours(grey, embedded):
    pictures = grey(np.repeat(["a", "b"], 10))
    found = searched.search(pictures, embedded(pictures, np.ones((20, 3))))
    assert not (found.neighbours == found.rows[:, None]).any()
    assert found.neighbours.shape == (20, searched.NEIGHBOURS)


def test_one_picture_of_every_class_finds_nothing(grey, embedded):
    pictures = grey(np.array(["a", "b", "c"]))
    found = searched.search(pictures, embedded(pictures, np.eye(3)))
    assert not found.matched.any()
    assert found.scores == {}
    assert (typical(found), failures(found), worst_confusions(found), class_scores(found)) == (
        [], [], [], [],
    )  # fmt: skip


def test_very_many_queries_are_drawn(monkeypatch, grey, embedded, around_classes):
    monkeypatch.setattr(searched, "QUERIES_AT_MOST", 15)
    pictures = grey(np.repeat(np.arange(10), 6))
    z = embedded(pictures, around_classes(pictures.labels, 0.8))
    found = searched.search(pictures, z, seed=4)
    assert len(set(found.rows.tolist())) == 15
    assert not (found.neighbours == found.rows[:, None]).any()
    for place, (_, order, right) in enumerate(naive(found)):
        assert found.neighbours[place].tolist() == order
        assert found.right[place].tolist() == right
    assert found.rows.tolist() != searched.search(pictures, z, seed=5).rows.tolist()


def test_what_does_not_fit_is_refused(pictures, vague, grey, embedded):
    with pytest.raises(InputError, match="pictures and their embeddings must be as many, got 5"):
        searched.search(pictures.subset(range(5)), vague)
    with pytest.raises(InputError, match="gallery and embedded_gallery must be given together"):
        searched.search(pictures, vague, pictures)
    one = grey(np.array(["a"]))
    with pytest.raises(InputError, match="at least 2 to search each other, got 1"):
        searched.search(one, embedded(one, [[1.0, 0.0]]))
