import numpy as np
import pytest
import torch

from tupelo.errors import InputError
from tupelo.evaluation import learners

WIDTHS = (2, 3, 4)


def cosine(x, y):
    return float(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y)))


def naive(rows, labels, gallery=None, gallery_labels=None):
    """Recall@1 and MAP@R by sorting, one query at a time."""
    own = gallery is None
    gallery, gallery_labels = (rows, labels) if own else (gallery, gallery_labels)
    first, average = [], []
    for i, row in enumerate(rows):
        candidates = [j for j in range(len(gallery)) if not own or j != i]
        order = sorted(candidates, key=lambda j: -cosine(row, gallery[j]))
        hits = [gallery_labels[j] == labels[i] for j in order]
        relatives = sum(hits)
        first.append(hits[0])
        hit_ranks = [rank for rank in range(1, relatives + 1) if hits[rank - 1]]
        average.append(sum(sum(hits[:rank]) / rank for rank in hit_ranks) / relatives)
    return np.mean(first), np.mean(average)


@pytest.fixture
def joined():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 6)
    rows = rng.normal(size=(5, 9))[labels] + rng.normal(size=(30, 9))
    return rows, labels


def parts_of(rows):
    return np.split(rows, np.cumsum(WIDTHS)[:-1], axis=1)


def test_each_learner_is_measured_by_itself(joined):
    rows, labels = joined
    report = learners(rows, labels, WIDTHS)
    for one, part, width in zip(report.alone, parts_of(rows), WIDTHS, strict=True):
        assert one.width == width
        assert (one.recall_at_1, one.map_at_r) == pytest.approx(naive(part, labels))
    together = naive(rows, labels)
    assert (report.recall_at_1, report.map_at_r) == pytest.approx(together)
    mean = np.mean([naive(part, labels) for part in parts_of(rows)], axis=0)
    assert (report.mean_recall_at_1, report.mean_map_at_r) == pytest.approx(tuple(mean))
    assert report.gap == pytest.approx(together[0] - mean[0])


def test_a_gallery_is_searched_by_each_learner(joined):
    rows, labels = joined
    queries, asked = rows[::3], labels[::3]
    report = learners(torch.from_numpy(queries), asked, WIDTHS, rows, labels)
    pairs = zip(report.alone, parts_of(queries), parts_of(rows), strict=True)
    for one, part, other in pairs:
        assert (one.recall_at_1, one.map_at_r) == pytest.approx(naive(part, asked, other, labels))


def test_equal_items_are_no_candidates(joined):
    rows, labels = joined
    items = np.arange(len(rows))
    found = learners(rows, labels, WIDTHS, rows, labels, query_items=items, gallery_items=items)
    assert found.alone == learners(rows, labels, WIDTHS).alone
    assert learners(rows, labels, WIDTHS, rows, labels).recall_at_1 == 1  # each finds itself


def test_the_scale_of_a_learner_changes_the_ensemble_alone(joined):
    rows, labels = joined
    heavier = rows * np.repeat([20.0, 1.0, 1.0], WIDTHS)
    plain, scaled = learners(rows, labels, WIDTHS), learners(heavier, labels, WIDTHS)
    assert [one.map_at_r for one in plain.alone] == [one.map_at_r for one in scaled.alone]
    assert plain.correlation == pytest.approx(scaled.correlation)
    assert scaled.map_at_r == pytest.approx(naive(heavier, labels)[1])
    assert scaled.map_at_r != plain.map_at_r


def test_correlation_between_dimensions_of_different_learners(joined):
    rows, labels = joined
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts_of(rows)]
    found = []
    for i, one in enumerate(units):
        for other in units[i + 1 :]:
            for a in one.T:
                found += [abs(np.corrcoef(a, b)[0, 1]) for b in other.T]
    assert len(found) == 2 * 3 + 2 * 4 + 3 * 4
    assert learners(rows, labels, WIDTHS).correlation == pytest.approx(np.mean(found), rel=1e-5)


def test_self_cosine_of_pairs_of_learners(joined):
    rows, labels = joined
    a, b, c = np.split(rows, 3, axis=1)
    pairs = ((a, b), (a, c), (b, c))
    mean = np.mean([cosine(x, y) for one, other in pairs for x, y in zip(one, other, strict=True)])
    assert learners(rows, labels, (3, 3, 3)).self_cosine == pytest.approx(mean, rel=1e-5)


def test_equal_learners_gain_nothing(joined):
    rows, labels = joined
    report = learners(np.concatenate([rows, rows], axis=1), labels, (9, 9))
    assert report.gap == pytest.approx(0)
    assert report.self_cosine == pytest.approx(1)


def test_a_dimension_that_never_changes_is_uncorrelated():
    rows = np.array([[1, 0, 0.6, 0.8], [1, 0, 0.8, 0.6], [1, 0, 0, 1], [1, 0, 1, 0]])
    assert learners(rows, [0, 0, 1, 1], (2, 2)).correlation == 0


def test_one_learner_is_the_ensemble(joined):
    rows, labels = joined
    found = learners(rows, labels, (9,)).as_dict()
    assert found["gap"] == 0
    assert found["alone"] == [{"width": 9} | {k: found[k] for k in ("recall@1", "map@r")}]
    assert not {"correlation", "self_cosine"} & found.keys()


def test_what_is_not_defined_is_left_out(joined):
    rows, labels = joined
    found = learners(rows, labels, WIDTHS).as_dict()
    assert "self_cosine" not in found
    assert found["mean_recall@1"] + found["gap"] == pytest.approx(found["recall@1"])


def test_tags(joined):
    rows, labels = joined
    tags = np.eye(5, dtype=bool)[labels]
    assert learners(rows, tags, WIDTHS).alone == learners(rows, labels, WIDTHS).alone


@pytest.mark.parametrize("widths", [(), (4, 4), (9, 0)])
def test_widths_must_add_up(joined, widths):
    with pytest.raises(InputError, match=r"widths must be numbers >= 1 that add up .*9; got"):
        learners(*joined, widths)


def test_a_learner_that_says_nothing_is_named(joined):
    rows, labels = joined
    rows[4, 2:5] = 0
    with pytest.raises(InputError, match=r"learner 1 of queries.*row"):
        learners(rows, labels, WIDTHS)
