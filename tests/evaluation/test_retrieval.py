import logging
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from tupelo.comparison import relate
from tupelo.errors import InputError
from tupelo.evaluation import retrieval, tiles

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
    return cdist(rows, rows).max() < 1e-6


def assert_all_agree(queries, relevant, excluded, ks, *arguments, gallery=None, **options):
    """Every precision gives what the oracle gives, and the very same bits as the others."""
    expected = oracle(
        unit(queries),
        relevant,
        gallery=None if gallery is None else unit(gallery),
        excluded=excluded,
        ks=ks,
    )
    if (expected[0] == 0).all():
        with pytest.raises(InputError, match="no query has a relevant gallery item"):
            retrieval(queries, *arguments, ks=ks, **options)
        return
    reports = [retrieval(queries, *arguments, ks=ks, precision=p, **options) for p in PRECISIONS]
    for report in reports:
        assert_agrees(report, expected, ks)
        assert report.as_dict() == reports[0].as_dict()
        np.testing.assert_array_equal(report.average_precisions, reports[0].average_precisions)


@pytest.mark.parametrize("seed", range(4))
def test_leave_one_out_equals_the_oracle(seed):
    for case in range(40):
        rng = np.random.default_rng((seed, case))
        n, d = int(rng.integers(2, 30)), int(rng.integers(1, 40))
        rows = random_rows(rng, n, d)
        labels = rng.integers(0, rng.integers(1, n + 1), n)
        if is_collapsed(unit(rows)):
            continue
        ks = tuple(sorted({1, 2, int(rng.integers(1, n + 3))}))
        assert_all_agree(rows, lambda i, j, y=labels: y[i] == y[j], lambda i, j: i == j, ks, labels)


@pytest.mark.parametrize("seed", range(4))
def test_gallery_with_items_equals_the_oracle(seed):
    for case in range(40):
        rng = np.random.default_rng((seed, case, 1))
        q, g, d = int(rng.integers(1, 20)), int(rng.integers(1, 30)), int(rng.integers(1, 40))
        rows = random_rows(rng, q + g, d)
        labels = rng.integers(0, rng.integers(1, 8), q + g)
        items = rng.integers(0, 25, q + g)
        if is_collapsed(unit(rows)):
            continue
        assert_all_agree(
            rows[:q],
            lambda i, j, y=labels, q=q: y[i] == y[q + j],
            lambda i, j, item=items, q=q: item[i] == item[q + j],
            (1, 3),
            labels[:q],
            rows[q:],
            labels[q:],
            gallery=rows[q:],
            query_items=items[:q],
            gallery_items=items[q:],
        )


@pytest.mark.parametrize("seed", range(3))
def test_tags_relations_and_pairs_equal_the_oracle(seed):
    for case in range(15):
        rng = np.random.default_rng((seed, case, 2))
        n, d = int(rng.integers(2, 25)), int(rng.integers(1, 20))
        rows = random_rows(rng, n, d)
        if is_collapsed(unit(rows)):
            continue
        multi_hot = rng.random((n, 6)) < 0.3
        truth = (multi_hot.astype(int) @ multi_hot.T.astype(int)) > 0
        names = np.array(["red", "blue", "x", "y", "z", "w"])
        tags = [set(names[row].tolist()) for row in multi_hot]
        options = {"relevant": lambda i, j, t=truth: t[i, j], "excluded": lambda i, j: i == j}
        assert_all_agree(rows, *options.values(), (1, 4), multi_hot)
        assert_all_agree(rows, *options.values(), (1, 4), tags)
        assert_all_agree(
            rows, *options.values(), (1, 4), multi_hot,
            relation=lambda a, b: (a[:, None] & b[None]).any(-1),
        )  # fmt: skip
        assert_all_agree(rows, *options.values(), (1, 4), pairs=np.argwhere(truth))


def test_worked_by_hand():
    # Similarities to row 0: 0.8, 0.6, 0. Its class mates come first and third of three.
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1.0]])
    report = retrieval(rows, [5, 5, 7, 5], ks=(1, 2))
    assert report.first_rank.tolist() == [1, 2, 0, 2]
    # Row 1: 2 (0.96), 0 (0.8), 3 (0.6); row 3: 2 (0.8), 1 (0.6), 0 (0).
    assert report.r_precisions[[0, 1, 3]].tolist() == [0.5, 0.5, 0.5]
    assert report.average_precisions[[0, 1, 3]].tolist() == [0.5, 0.25, 0.25]
    assert report.recall == {1: pytest.approx(1 / 3), 2: 1.0}
    assert report.n_unmatched == 1
    assert retrieval(rows, [5, 5, 7, 5], ks=(2,), include_unmatched=True).recall == {2: 0.75}
    assert "recall@1" in report.as_dict()
    assert "1 without a relevant item" in str(report)


@pytest.mark.parametrize("offset", [0, 2**24, 2**53, 2**62, 2**63, 2**70])
@pytest.mark.parametrize("kind", [list, np.array, "strings"])
def test_labels_of_any_size_are_told_apart(offset, kind):
    rows = np.random.default_rng(0).normal(size=(40, 8))
    labels = [offset + i % 5 for i in range(40)]
    given = [str(label) for label in labels] if kind == "strings" else kind(labels)
    plain = retrieval(rows, [i % 5 for i in range(40)])
    assert retrieval(rows, given).as_dict() == plain.as_dict()


@pytest.mark.parametrize("kind", [list, np.array])
def test_bytes_are_labels_and_not_sets_of_tags(kind):
    rows = np.random.default_rng(0).normal(size=(40, 8))
    names = [b"ab", b"ba", b"cd", b"dc"]  # as sets of characters the first two would be equal
    plain = retrieval(rows, [i % 4 for i in range(40)])
    assert retrieval(rows, kind([names[i % 4] for i in range(40)])).as_dict() == plain.as_dict()


def test_tuples_are_labels_as_where_batches_are_compared():
    rows = np.random.default_rng(0).normal(size=(8, 3))
    labels = [("a", i % 4) for i in range(8)]  # as sets of tags all would share "a"
    report = retrieval(rows, labels, relation=lambda a, b: relate(a, b)[0])
    assert retrieval(rows, labels).as_dict() == report.as_dict()
    tagged = [{"a", i % 4} for i in range(8)]
    with pytest.raises(InputError, match="tags must be of one kind"):
        retrieval(rows, tagged)


def test_signed_and_unsigned_labels_are_compared_exactly():
    rows = np.random.default_rng(0).normal(size=(6, 3))
    queries = np.array([2**53, 2**53 + 1, -1], np.int64)
    gallery = np.array([2**53 + 1, 2**53 + 1, 2**53], np.uint64)
    report = retrieval(rows[:3], queries, rows[3:], gallery, ks=(1, 2, 3))
    assert report.n_unmatched == 1
    assert (
        report.as_dict()
        == retrieval(rows[:3], [0, 1, 2], rows[3:], [1, 1, 0], ks=(1, 2, 3)).as_dict()
    )


def test_query_and_gallery_labels_share_one_numbering():
    # In-Shop: each side met "b" and "a" in another order; numbering them apart would swap them.
    rows = np.eye(2)
    report = retrieval(rows, ["b", "a"], rows, ["a", "b"], ks=(1,))
    assert report.recall == {1: 0.0}


def clustered(n, classes, d, spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    rows = rng.normal(size=(classes, d))[labels] + spread * rng.normal(size=(n, d))
    return rows.astype(np.float32), labels


@pytest.mark.parametrize(("classes", "ks"), [(400, (1, 10, 1000)), (40, (1, 2)), (3, (1, 5))])
def test_precisions_tiles_and_threads_give_the_same_bits(monkeypatch, classes, ks):
    rows, labels = clustered(1300, classes, 48, 1.5)
    rows[1100:1200] = rows[:100]  # exact ties across tiles
    threads = torch.get_num_threads()
    reports = []
    try:
        for precision in (*PRECISIONS, "auto"):
            for tile, count in ((tiles.GALLERY_ROWS, 1), (320, 2), (99, 1)):
                monkeypatch.setattr(tiles, "GALLERY_ROWS", tile)
                torch.set_num_threads(count)
                reports.append(retrieval(rows, labels, ks=ks, precision=precision))
                assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for report in reports:
        assert report.as_dict() == reports[0].as_dict()
        for field in ("first_rank", "r_precisions", "average_precisions"):
            np.testing.assert_array_equal(getattr(report, field), getattr(reports[0], field))
    unit_rows = torch.nn.functional.normalize(torch.from_numpy(rows).double())
    scores = unit_rows @ unit_rows.T
    scores.fill_diagonal_(-torch.inf)
    same = torch.from_numpy(labels[:, None] == labels[None])
    hit = same.gather(1, scores.argsort(dim=1, descending=True, stable=True)[:, : ks[-1]])
    hit = hit[reports[0].first_rank > 0]
    for k in ks:
        assert reports[0].recall[k] == pytest.approx(
            hit[:, :k].any(1).double().mean().item(), abs=1e-9
        )


def test_auto_times_a_sample_and_changes_nothing(monkeypatch, caplog):
    monkeypatch.setattr(tiles, "WORTH_TRYING", 1)
    monkeypatch.setattr(tiles, "TRIED_FROM", 1)
    rows, labels = clustered(700, 50, 32, 1.0)
    with caplog.at_level(logging.DEBUG, logger="tupelo"):
        report = retrieval(rows, labels)
    assert "fast product in" in caplog.text
    assert report.as_dict() == retrieval(rows, labels, precision="float32").as_dict()


def test_float32_products_with_fewer_bits_change_nothing():
    rows, labels = clustered(600, 50, 64, 1.0)
    exact = retrieval(rows, labels, precision="float32")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert retrieval(rows, labels, precision="float32").as_dict() == exact.as_dict()
    finally:
        torch.set_float32_matmul_precision(before)


def test_large_blocks_are_split(monkeypatch):
    module = __import__("sys").modules[retrieval.__module__]
    rows, labels = clustered(200, 3, 8, 1.0)
    whole = retrieval(rows, labels)
    monkeypatch.setattr(module, "THRESHOLDS_AT_ONCE", 10)
    assert retrieval(rows, labels).as_dict() == whole.as_dict()


def test_torch_and_numpy_of_any_precision_agree():
    rows, labels = clustered(60, 6, 8, 1.0)
    rows = rows.astype(np.float16)
    report = retrieval(rows, labels)
    assert retrieval(torch.from_numpy(rows), torch.from_numpy(labels)).as_dict() == report.as_dict()
    parameter = torch.from_numpy(rows.astype(np.float64)).requires_grad_()
    assert retrieval(parameter, labels).as_dict() == report.as_dict()


def test_arrays_that_tensors_cannot_share_are_read():
    rows, labels = clustered(60, 6, 8, 1.0)
    report = retrieval(rows, labels).as_dict()
    locked = rows.copy()
    locked.flags.writeable = False
    for same in (
        locked,
        rows[:, ::-1][:, ::-1],
        np.asfortranarray(rows),
        rows.astype(">f4"),
        rows.astype(np.longdouble),
    ):
        assert retrieval(same, labels).as_dict() == report
    backwards = retrieval(rows[::-1], labels[::-1])
    assert backwards.first_rank[::-1].tolist() == retrieval(rows, labels).first_rank.tolist()
    assert retrieval(locked, labels, normalize=False).n_queries == 60


def test_any_k_is_allowed_however_large():
    rows, labels = clustered(12, 3, 4, 1.0)
    report = retrieval(rows, labels, ks=(1, 50, 2**70))
    members = np.bincount(labels)[labels] - 1
    assert report.recall[50] == report.recall[2**70] == 1
    assert report.precision[50] == pytest.approx(members.mean() / 50)
    assert report.precision[2**70] == pytest.approx(members.mean() / 2**70)


def test_relations_may_return_lists():
    rows, labels = clustered(12, 3, 4, 1.0)
    related = lambda a, b: [[i == j for j in b] for i in a]  # noqa: E731
    report = retrieval(rows, labels.tolist(), relation=related)
    assert report.as_dict() == retrieval(rows, labels).as_dict()


def test_plain_dot_products_without_normalising():
    rows = np.array([[1.0, 0], [1, 0], [5, 1], [0, 0]])
    report = retrieval(rows, [0, 0, 1, 1], ks=(1,), normalize=False)
    assert report.first_rank.tolist() == [2, 2, 3, 3]  # ties by row


def test_collapsed_embeddings_are_flagged_and_get_no_credit(caplog):
    rows = np.ones((20, 4)) + 1e-9 * np.random.default_rng(0).normal(size=(20, 4))
    with caplog.at_level(logging.WARNING, logger="tupelo"):
        report = retrieval(rows, [0] * 10 + [1] * 10, ks=(1, 10, 11))
    assert report.collapsed
    assert "collapsed" in caplog.text
    assert report.recall == {1: 0.0, 10: 0.0, 11: 1.0}
    assert report.map_at_r == 0
    assert "COLLAPSED" in str(report)
    gallery = retrieval(rows[:2], [0, 1], rows, [0] * 10 + [1] * 10)
    assert gallery.recall[8] == 0


@pytest.mark.parametrize("n", [4, 1100])
@pytest.mark.parametrize(("apart", "collapsed"), [(0.4, True), (0.8, True), (1.1, False)])
def test_collapse_is_the_largest_distance_of_any_two(n, apart, collapsed):
    rows = np.zeros((n, 3), np.float32)
    rows[:, 0] = 1
    rows[-2:, 1] = (apart * 0.5e-6, -apart * 0.5e-6)  # the two farthest, neither of them first
    rows[1, 2] = apart * 0.6e-6 * (n > 4)
    report = retrieval(rows, np.arange(n) % 2, normalize=False)
    assert report.collapsed is collapsed


def test_nearly_collapsed_is_not_collapsed():
    rows = np.ones((4, 2)) + 1e-5 * np.eye(4, 2)
    assert not retrieval(rows, [0, 0, 1, 1]).collapsed


ROWS = np.eye(4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ROWS[0], [1]), {}, r"queries must be a matrix .* got shape \(4,\)"),
        ((np.empty((0, 4)), []), {}, r"at least one item; got shape \(0, 4\)"),
        ((np.eye(4, dtype=int), [1, 1, 2, 2]), {}, "queries must be floating point; got int64"),
        ((torch.eye(4).int(), [1, 1, 2, 2]), {}, "must be floating point; got torch.int32"),
        ((ROWS * np.nan, [1, 1, 2, 2]), {}, "queries must be finite .* 4 of 4 rows"),
        ((np.full((4, 4), np.inf), [1, 1, 2, 2]), {}, "queries must be finite"),
        ((ROWS * 1e39, [1, 1, 2, 2]), {}, "finite in float32"),
        ((ROWS * 0, [1, 1, 2, 2]), {}, "no zero rows when normalize=True; 4 of 4"),
        ((ROWS * 1e20, [1, 1, 2, 2]), {"normalize": False}, "row norms up to 1e.18"),
        ((ROWS, [1, 1], np.eye(3), [1, 1, 1]), {}, "one width; got 4 and 3"),
        ((ROWS, [1, 1, 2]), {}, "query_labels must hold one label per row; got 3 for 4"),
        ((ROWS, [1, 1, 2, 2], ROWS, [1]), {}, "gallery_labels must hold one .* got 1 for 4"),
        ((ROWS, [1, 1, 2, 2], ROWS), {}, "gallery_labels must be given"),
        ((ROWS,), {}, "query_labels must be given"),
        ((ROWS, [1, 2, 3, 4]), {}, "no query has a relevant gallery item"),
        (
            (ROWS, [1, 1, 2, 2]),
            {"ks": (0, 1)},
            r"integers of at least 1; got \(0, 1\)",
        ),
        ((ROWS, [1, 1, 2, 2]), {"ks": ()}, "ks must hold integers"),
        ((ROWS, [1, 1, 2, 2], ROWS, ["1"] * 4), {}, "of one kind; got integers and strings"),
        ((ROWS, [1, "1", 2, 2]), {}, "labels must be of one kind"),
        (
            (ROWS, np.array(["a"] * 4), ROWS, np.array([b"a"] * 4)),
            {},
            "of one kind; got bytes and strings",
        ),
        ((ROWS, [1.0, 1.0, 2.0, 2.0]), {}, "must be integers or strings; got float"),
        ((ROWS, np.ones(4)), {}, "got float64 of shape"),
        ((ROWS, [{1}, {1}, {2}, {2}], ROWS, [1, 1, 2, 2]), {}, "both hold sets of tags"),
        ((ROWS, [{1}, {1}, 2, 2]), {}, "both hold sets of tags"),
        ((ROWS, [[1], [1], [2], [2]]), {}, r"got list \[1\]; make it a set if it holds tags"),
        (
            (ROWS, np.eye(4, dtype=bool), ROWS, np.ones((4, 3), bool)),
            {},
            "multi-hot with one column per tag",
        ),
        ((ROWS, [1, 1, 2, 2]), {"pairs": np.array([[0, 1]])}, "pairs must come alone"),
        ((ROWS,), {"pairs": np.array([[0, 4]])}, "pairs must name rows below 4"),
        ((ROWS,), {"pairs": np.array([0, 1])}, r"shape \(m, 2\)"),
        (
            (ROWS, np.ones(4)),
            {"relation": lambda a, b: np.ones((1, 1), bool)},
            r"relation must return booleans of shape \(4, 4\)",
        ),
        ((ROWS, [1, 1, 2, 2]), {"gallery_items": [1, 2, 3, 4]}, "gallery_items must be None"),
        ((ROWS, [1, 1, 2, 2]), {"query_items": [1]}, "query_items must hold one identity per row"),
        (
            (ROWS, [1, 1, 2, 2], ROWS, [1, 1, 2, 2]),
            {"query_items": [1, 2, 3, 4]},
            "must be given together",
        ),
        (
            (np.eye(2, 100_001), [1, 1]),
            {"precision": "int8"},
            "precision int8 needs .* width up to 100000; got width 100001",
        ),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(InputError, match=message):
        retrieval(*arguments, **options)
