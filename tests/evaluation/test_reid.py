import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tupelo.errors import InputError
from tupelo.evaluation.reid import reid, single_shot_cmc

SQUARES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0.6, 0.8], [0.8, 0.6], [-0.6, 0.8]])


def naive(queries, ids, gallery, gallery_ids, cameras, gallery_cameras, ignored, average):
    """The published code, query by query, with the worst order of ties."""
    firsts, averages = [], []
    for i, query in enumerate(queries):
        scored = []
        for j, item in enumerate(gallery):
            same = ids[i] == gallery_ids[j]
            if gallery_ids[j] in ignored or (same and cameras[i] == gallery_cameras[j]):
                continue
            score = float(np.float32(query).astype(float) @ np.float32(item).astype(float))
            scored.append((-score, same))
        order = [same for _, same in sorted(scored)]  # False before True where scores are equal
        n_good = sum(order)
        if not n_good:
            firsts.append(0)
            averages.append(np.nan)
            continue
        firsts.append(order.index(True) + 1)
        area, old_recall, old_precision, good = 0.0, 0.0, 1.0, 0
        standard = 0.0
        for place, same in enumerate(order):
            good += same
            recall, precision = good / n_good, good / (place + 1)
            area += (recall - old_recall) * (old_precision + precision) / 2
            standard += precision / n_good if same else 0
            old_recall, old_precision = recall, precision
        averages.append(area if average == "trapezoid" else standard)
    return np.array(firsts), np.array(averages)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["standard", "trapezoid"]))
def test_as_the_published_code_with_ties(seed, average):
    rng = np.random.default_rng(seed)
    q, g = rng.integers(1, 6), rng.integers(2, 40)
    # few directions, so most similarities are tied
    queries, gallery = SQUARES[rng.integers(0, 7, q)], SQUARES[rng.integers(0, 7, g)]
    ids, others = rng.integers(1, 5, q), rng.integers(-1, 5, g)
    cams, other_cams = rng.integers(1, 4, q), rng.integers(1, 4, g)
    firsts, averages = naive(queries, ids, gallery, others, cams, other_cams, (-1,), average)
    options = {"query_cameras": cams, "gallery_cameras": other_cams, "ignored": (-1,)}
    if (others == -1).all() or not firsts.any():
        with pytest.raises(InputError, match=r"no query has a match|leaves nothing"):
            reid(queries, ids, gallery, others, **options)
        return
    found = reid(queries, ids, gallery, others, average=average, max_rank=5, **options)
    matched = firsts > 0
    if found.collapsed:
        return
    assert found.first_rank.tolist() == firsts.tolist()
    np.testing.assert_allclose(found.average_precisions, averages, rtol=1e-12)
    assert found.map == pytest.approx(np.nanmean(averages))
    assert found.n_unmatched == (~matched).sum()
    assert found.n_ignored == (others == -1).sum()
    for k in range(1, 6):
        assert found.rank(k) == pytest.approx((firsts[matched] <= k).mean())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_more_than_a_tile_in_every_precision(precision):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 16))
    ids, others = rng.integers(0, 40, 300), rng.integers(-1, 40, 1500)
    queries = centres[ids] + rng.normal(size=(300, 16))
    gallery = centres[others] + rng.normal(size=(1500, 16))
    gallery[:700] = gallery[700:1400]  # many exact ties
    cams, other_cams = rng.integers(0, 3, 300), rng.integers(0, 3, 1500)
    found = reid(
        queries, ids, gallery, others,
        query_cameras=cams, gallery_cameras=other_cams, ignored=(-1,), precision=precision,
    )  # fmt: skip
    rows = [
        np.float32(x / np.linalg.norm(np.float32(x), axis=1)[:, None]) for x in (queries, gallery)
    ]
    firsts, averages = naive(
        rows[0][:20], ids, rows[1], others, cams, other_cams, (-1,), "standard"
    )
    assert found.first_rank[:20].tolist() == firsts.tolist()
    np.testing.assert_allclose(found.average_precisions[:20], averages)


def test_each_other_without_a_gallery():
    z = SQUARES[[0, 0, 5, 1]]
    found = reid(z, [1, 2, 1, 2])
    assert found.first_rank.tolist() == [2, 3, 2, 3]
    assert not found.cameras
    crossed = reid(z, [1, 2, 1, 2], query_cameras=[1, 1, 1, 2])
    assert crossed.n_unmatched == 2
    assert crossed.first_rank.tolist() == [0, 3, 0, 3]


def test_distractors_stay_and_the_same_camera_is_passed_over():
    z = np.array([[1.0, 0.0], [1.0, 0.01], [0.9, 0.1], [0.5, 0.5]])
    found = reid(
        z[:1], ["a"], z[1:], ["a", "distractor 1", "a"],
        query_cameras=[3], gallery_cameras=[3, 3, 1],
    )  # fmt: skip
    assert found.first_rank.tolist() == [2]
    assert found.map == 0.5
    assert found.as_dict()["rank-1"] == 0


def test_a_collapsed_embedding_finds_nobody():
    found = reid(np.ones((6, 3)), [1, 1, 2, 2, 3, 3])
    assert found.collapsed
    assert found.first_rank.tolist() == [5] * 6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_single_shot_as_a_loop(seed, crossed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 30))
    ids, cams = rng.integers(0, 4, n), rng.integers(0, 2, n)
    rows = np.float32(rng.normal(size=(n, 5)))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    draws, curves = np.random.default_rng(3), []
    for _ in range(4):
        order = draws.permutation(n)
        gallery = {int(p): next(int(r) for r in order if ids[r] == p) for p in np.unique(ids)}
        ranks = []
        for row in range(n):
            own = gallery[int(ids[row])]
            if own == row or (crossed and cams[own] == cams[row]):
                continue
            scores = {
                p: rows[row].astype(float) @ rows[g].astype(float) for p, g in gallery.items()
            }
            ranks.append(sum(s >= scores[int(ids[row])] for s in scores.values()))
        if ranks:
            curves.append([np.mean(np.array(ranks) <= k) for k in range(1, 4)])
    asked = {"galleries": 4, "max_rank": 3, "seed": 3}
    if not curves:
        with pytest.raises(InputError, match="nothing to find"):
            single_shot_cmc(rows, ids, cams if crossed else None, **asked)
        return
    found = single_shot_cmc(rows, ids, cams if crossed else None, **asked)
    np.testing.assert_allclose(found, np.mean(curves, axis=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_rank": 0}, "max_rank must be at least 1, got 0"),
        ({"average": "area"}, "average must be 'standard' or 'trapezoid', got 'area'"),
        ({"query_cameras": [1, 2]}, "must be given together, got only query_cameras"),
        ({"gallery_cameras": [1, 2]}, "must be given together, got only gallery_cameras"),
        ({"gallery_ids": None}, "gallery_ids must be given with a gallery"),
        ({"gallery_ids": [1]}, "gallery_ids must be integers or strings, one for each of 2 rows"),
        ({"query_ids": [5, 6]}, "no query has a match"),
        ({"ignored": (1, 2)}, "ignored leaves nothing of a gallery of 2"),
        ({"gallery": None}, "belong to a gallery, which is None"),
        ({"gallery": np.ones((2, 3))}, "must have one width"),
    ],
)
def test_refusals(changes, message):
    given = {"queries": np.eye(2), "query_ids": [1, 2], "gallery": np.eye(2), "gallery_ids": [1, 2]}
    with pytest.raises(InputError, match=message):
        reid(**given | changes)


def test_refusals_of_single_shots_and_ranks():
    with pytest.raises(InputError, match="galleries must be at least 1"):
        single_shot_cmc(np.eye(2), [1, 2], galleries=0)
    with pytest.raises(InputError, match="nothing to find"):
        single_shot_cmc(np.eye(2), [1, 2])
    with pytest.raises(InputError, match="k must be 1 to max_rank=50, got 51"):
        reid(np.eye(2), [1, 2], np.eye(2), [1, 2]).rank(51)
