"""Pooling, searching and open sets equal naive loops on random cases with ties."""

import math
from decimal import Decimal

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.evaluation import templates as t


def made(seed=0, n=60):
    rng = np.random.default_rng(seed)
    templates = np.concatenate([np.arange(12), rng.integers(0, 12, n - 12)]) * 7 + 1
    return rng.normal(size=(n, 4)), templates, rng.integers(0, 3, n), rng


def unit(row):
    return row / math.sqrt(float(row @ row))


def naive_pool(rows, templates, media, weights, number):
    means = []
    for medium in sorted(set(media[templates == number].tolist())):
        chosen = (templates == number) & (media == medium)
        total = sum(w * unit(row) for row, w in zip(rows[chosen], weights[chosen], strict=True))
        means.append(total / weights[chosen].sum())
    return unit(sum(means) / len(means)), [unit(mean) for mean in means]


@pytest.mark.parametrize("weighted", [False, True])
def test_frames_to_media_to_templates(weighted):
    rows, templates, media, rng = made()
    weights = rng.uniform(0.1, 3, len(rows)) if weighted else np.ones(len(rows))
    found = t.pool(rows, templates, media, weights=weights if weighted else None)
    assert found.templates.tolist() == sorted(set(templates.tolist()))
    assert found.enrolled.all()
    for row, number in enumerate(found.templates):
        expected, _ = naive_pool(rows, templates, media, weights, number)
        assert found.z[row] == pytest.approx(expected, abs=1e-12)
    pairs = rng.choice(found.templates, (9, 2))
    scores = t.template_scores(found, pairs)
    for score, (one, other) in zip(scores, pairs, strict=True):
        a, b = (naive_pool(rows, templates, media, weights, each)[0] for each in (one, other))
        assert score == pytest.approx(a @ b, abs=1e-12)


def test_frames_of_a_video_weigh_as_one_still():
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = t.pool(rows, np.zeros(4, int), np.array([1, 1, 1, 2]))
    assert found.z[0] == pytest.approx([math.sqrt(0.5)] * 2)


def test_softmax_of_media():
    rows, templates, media, rng = made(1)
    found = t.pool(rows, templates, media)
    pairs = rng.choice(found.templates, (20, 2))
    scores = t.softmax_scores(found, pairs, betas=(0.0, 3.0, 20.0))
    for score, (one, other) in zip(scores, pairs, strict=True):
        a, b = (naive_pool(rows, templates, media, np.ones(60), each)[1] for each in (one, other))
        s = np.array([x @ y for x in a for y in b])
        expected = [(s * np.exp(k * s)).sum() / np.exp(k * s).sum() for k in (0, 3, 20)]
        assert score == pytest.approx(np.mean(expected), abs=1e-12)


def test_templates_without_a_face_score_lowest_and_stay():
    rows, templates, media, _ = made()
    found_face = templates != 8
    rows[~found_face] = np.nan  # never looked at
    found = t.pool(rows, templates, media, found=found_face)
    assert found.templates.tolist() == sorted(set(templates.tolist()))
    assert found.enrolled.tolist() == [number != 8 for number in found.templates]
    pairs = np.array([[8, 1], [1, 8], [8, 8], [1, 15]])
    whole = t.pool(*(each[found_face] for each in (rows, templates, media)))
    for score in (t.template_scores, t.softmax_scores):
        scores = score(found, pairs)
        assert scores[:3].tolist() == [-1, -1, -1]
        assert scores[3] == pytest.approx(score(whole, pairs[3:])[0])
    lost = t.identify(np.array([[-1.0, -1.0], [0.5, -1.0]]), np.array([1, 1]), np.array([1, 2]))
    assert lost.ranks.tolist() == [2, 1]


@pytest.mark.parametrize("seed", range(8))
def test_searches_equal_naive_loops(seed):
    rng = np.random.default_rng(seed)
    gallery = rng.permutation(8)
    probes = rng.integers(0, 12, 40)
    probes[:2] = 0, 11
    scores = rng.integers(-3, 4, (40, 8)) / 4
    found = t.identify(scores, probes, gallery)
    ranks, mates, highest = [], [], []
    for row, subject in enumerate(probes):
        if subject in gallery:
            mate = scores[row][gallery.tolist().index(subject)]
            mates.append(mate)
            ranks.append(sum(score >= mate for score in scores[row]))  # itself is one
        else:
            highest.append(max(scores[row]))
    assert found.ranks.tolist() == ranks
    for rank in (1, 5, 8):
        assert found.cmc(rank) == sum(each <= rank for each in ranks) / len(ranks)
    assert found.cmc(8) == 1.0
    for fpir in ("0.01", "0.1", "0.5"):
        candidates = sorted({*highest})
        threshold = next(
            value for value in candidates
            if int(sum(each > value for each in highest)) <= Decimal(fpir) * len(highest)
        )  # fmt: skip
        assert found.threshold_at(float(fpir)) == threshold
        for most in (1, 3, 20):
            expected = sum(
                mate > threshold and rank <= most for mate, rank in zip(mates, ranks, strict=True)
            ) / len(ranks)
            assert found.tpir_at(float(fpir), max_rank=most) == expected


def test_perfect_constant_and_several_templates_of_a_mate():
    probes, gallery = np.array([1, 2, 9]), np.array([1, 2, 3])
    perfect = t.identify(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0.1, 0]]), probes, gallery)
    assert (perfect.cmc(1), perfect.tpir_at(0.01)) == (1.0, 1.0)
    constant = t.identify(np.full((3, 3), 0.5), probes, gallery)
    assert (constant.cmc(1), constant.cmc(2), constant.cmc(3)) == (0.0, 0.0, 1.0)
    assert constant.tpir_at(0.5) == 0.0
    twice = t.identify(np.array([[0.2, 0.9, 0.5]]), np.array([1]), np.array([1, 1, 2]))
    assert twice.ranks.tolist() == [1]
    assert twice.n_gallery == 2


def test_over_splits():
    found = t.over_splits([0.1, None, 0.4])
    assert (found.mean, found.n_splits) == (0.25, 2)
    assert found.std == pytest.approx(math.sqrt(2 * 0.15**2))
    assert (t.over_splits([0.5]).mean, t.over_splits([0.5]).std) == (0.5, None)
    assert t.over_splits([None]) == t.Spread(None, None, 0)
    assert str(t.over_splits([None])) == "not measurable"


def test_refusals():
    rows, templates, media, _ = made()
    pooled = t.pool(rows, templates, media)
    with pytest.raises(InputError, match="1 templates have no pictures listed, first 2; give the"):
        t.template_scores(pooled, np.array([[1, 2]]))
    with pytest.raises(InputError, match="weights must be finite and above 0, got 0; drop such"):
        t.pool(rows, templates, media, weights=np.zeros(60))
    with pytest.raises(InputError, match="pictures of template 3 cancel to a mean of zero"):
        t.pool(np.array([[1.0], [-1.0]]), np.array([3, 3]), np.array([1, 2]))
    found = t.identify(np.eye(2), np.array([1, 2]), np.array([1, 2]))
    with pytest.raises(InputError, match=r"fpir=0.1 cannot be measured: all probes have a mate"):
        found.tpir_at(0.1)
    with pytest.raises(InputError, match="max_rank must be at least 1, got 0"):
        found.tpir_at(0.1, max_rank=0)
    with pytest.raises(InputError, match="rank must be at least 1, got 0"):
        found.cmc(0)
    with pytest.raises(InputError, match="none of the 2 probes has a mate among the 2 templates"):
        t.identify(np.eye(2), np.array([3, 4]), np.array([1, 2]))
    with pytest.raises(InputError, match="scores must be finite; those of 1 probes are not, fir"):
        t.identify(np.array([[np.nan]]), np.array([1]), np.array([1]))
    with pytest.raises(InputError, match="must both hold templates, got 0 and 1"):
        t.identify(np.zeros((0, 1)), np.zeros(0, int), np.array([1]))
    with pytest.raises(InputError, match="fpir must be above 0 and below 1"):
        t.identify(np.eye(2), np.array([1, 3]), np.array([1, 2])).tpir_at(1.0)
    rows[7] = np.inf
    with pytest.raises(InputError, match="rows of templates must be finite and not zero; 1 of 60"):
        t.pool(rows, templates, media)
