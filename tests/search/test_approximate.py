"""IVF-PQ: the recall that is told is the recall there is; later items are found."""

from dataclasses import asdict

import numpy as np
import pytest

from tupelo import search
from tupelo.errors import InputError
from tupelo.search import Approximate, Items


def clustered(rows, width, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(8).normal(size=(40, width))
    z = centres[np.arange(rows) % 40] + rng.normal(size=(rows, width))
    return Items(z.astype(np.float32), [f"{seed}/{row}" for row in range(rows)])


COARSE = Approximate(partitions=12, sub_vectors=2, probes=1, refine=1)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    items = clustered(4_000, 16)
    folder = tmp_path_factory.mktemp("search") / "coarse"
    return search.build(folder, items, approximate=COARSE), items


def measured(index, items, n, k=10):
    """Recall of n sampled stored rows, computed with NumPy alone from answers of the index."""
    z = items.vectors / np.linalg.norm(items.vectors.astype(np.float64), axis=1)[:, None]
    chosen = np.random.default_rng(0).choice(len(z), n, replace=False)
    similarity = z[chosen] @ z.T
    similarity[np.arange(n), chosen] = -np.inf
    truth = np.argsort(-similarity, axis=1)[:, :k]
    found = index.like([items.paths[row] for row in chosen], k, exact=False)
    hits = [
        len({items.paths[row] for row in true} & set(got.paths))
        for true, got in zip(truth, found, strict=True)
    ]
    return sum(hits) / (n * k)


def test_the_recall_that_is_told_is_measured(coarse):
    index, items = coarse
    told = index.info().approximate
    assert told["recall"] == pytest.approx(measured(index, items, 256), abs=1e-12)
    assert (told["at"], told["queries"]) == (10, 256)
    assert 0.02 < told["recall"] < 0.9  # coarse, so that the two could differ
    assert index.recall(sample=50, k=3) == pytest.approx(measured(index, items, 50, 3), abs=1e-12)


@pytest.mark.slow
def test_the_recall_of_100_000_rows_is_measured_and_high(tmp_path):
    items = clustered(100_000, 128)
    index = search.build(tmp_path / "index", items, approximate=True)
    told = index.info().approximate
    assert told["recall"] == pytest.approx(measured(index, items, 256), abs=1e-12)
    assert told["recall"] > 0.9


def test_recall_for_given_queries(coarse):
    index, _ = coarse
    queries = np.random.default_rng(3).normal(size=(30, 16))
    truth, found = (index.search(queries, 5, exact=exact) for exact in (True, False))
    pairs = zip(truth, found, strict=True)
    hits = np.mean([len(set(true.paths) & set(got.paths)) / 5 for true, got in pairs])
    assert index.recall(queries, k=5) == pytest.approx(hits, abs=1e-12)


def test_it_is_asked_by_default_and_says_so(coarse):
    index, items = coarse
    query = items.vectors[:70]
    default, approximate = index.search(query, 4), index.search(query, 4, exact=False)
    assert default == approximate
    assert not any(each.exact for each in default)
    exact = index.search(query, 4, exact=True)
    assert all(each.exact for each in exact)
    assert exact != default
    for each in default:
        assert list(each.similarity) == sorted(each.similarity, reverse=True)
    one_by_one = [index.search(row, 4)[0] for row in query[:5]]
    assert one_by_one == default[:5]


def test_similarities_are_exact_ones(coarse):
    index, items = coarse
    for got, exact in zip(
        index.search(items.vectors[:9], 20),
        index.search(items.vectors[:9], 4_000, exact=True),
        strict=True,
    ):
        true = dict(zip(exact.paths, exact.similarity, strict=True))
        assert [true[path] for path in got.paths] == list(got.similarity)


def test_with_all_partitions_and_many_refined_it_is_exact(tmp_path):
    items = clustered(1_000, 16)
    fine = Approximate(partitions=3, sub_vectors=16, probes=3, refine=100)
    index = search.build(tmp_path / "index", items, approximate=fine)
    assert index.info().approximate["recall"] == 1
    where = "number % 7 = 0"
    for options in ({}, {"where": where}):
        both = [index.search(items.vectors[:9], 6, exact=e, **options) for e in (True, False)]
        assert [each.paths for each in both[0]] == [each.paths for each in both[1]]


def test_later_items_are_found_counted_and_taken_in(tmp_path):
    items, more = clustered(1_000, 16), clustered(50, 16, seed=1)
    index = search.build(tmp_path / "index", items, approximate=Approximate(refine=50))
    assert index.info().unindexed == 0
    index.add(more)
    assert index.info().unindexed == 50
    found = index.search(more.vectors, 1, exact=False)
    assert [each.paths for each in found] == [(path,) for path in more.paths]
    index.delete(more.paths[:20])
    assert index.info().unindexed == 30
    assert index.search(more.vectors[:1], 1)[0].paths != more.paths[:1]
    gone = items.paths[:5]
    index.delete(gone)
    assert not set(gone) & {p for each in index.search(items.vectors[:5], 9) for p in each.paths}
    index.add(Items(-items.vectors[5:6], items.paths[5:6]))  # replaced: no longer where it was
    assert index.search(items.vectors[5], 1)[0].paths != (items.paths[5],)
    assert index.search(-items.vectors[5], 1)[0].paths == (items.paths[5],)
    index.rebuild()
    assert index.info().unindexed == 0
    assert index.info().approximate["partitions"] == 4
    index.rebuild(approximate=False)
    assert index.info().approximate is None
    assert (
        index.search(more.vectors[30:31], 1)[0] == index.search(more.vectors[30], 1, exact=True)[0]
    )


def test_a_rebuild_keeps_the_settings_that_were_given(tmp_path):
    given = Approximate(probes=1, refine=3)
    index = search.build(tmp_path / "index", clustered(600, 16), approximate=given)
    index.add(clustered(600, 16, seed=1))
    index.rebuild()
    told = index.info().approximate
    assert (told["partitions"], told["probes"], told["refine"]) == (4, 1, 3)
    assert told["asked"] == asdict(given)


def test_any_k_and_an_emptied_index(tmp_path):
    index = search.build(tmp_path / "index", clustered(300, 16), approximate=True)
    query = np.ones(16)
    for k in (10**6, 10**9, 2**63):  # LanceDB alone takes memory for k rows and dies
        assert len(index.search(query, k, exact=False)[0]) == 300
        assert len(index.like(index.paths()[0], k, exact=False)[0]) == 299
    index.delete(index.paths()[1:])
    with pytest.raises(InputError, match="recall needs items to be found; the index holds 1"):
        index.recall()
    index.delete(index.paths())
    assert [len(found) for found in index.search(np.ones((2, 16)), 3)] == [0, 0]
    with pytest.raises(InputError, match="recall needs items to be found; the index holds 0"):
        index.recall()


def test_too_few_items_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="an approximate index needs at least 256 items, got 100"):
        search.build(tmp_path / "index", clustered(100, 16), approximate=True)
    assert not (tmp_path / "index").exists()
    index = search.build(tmp_path / "index", clustered(300, 16), approximate=True)
    index.delete(index.paths()[:100])
    with pytest.raises(InputError, match="needs at least 256 items, got 200"):
        index.rebuild()
    index.rebuild(approximate=False)
    with pytest.raises(InputError, match="exact=False needs an approximate index"):
        index.recall()
