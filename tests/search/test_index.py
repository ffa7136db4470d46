"""Building, searching and changing an index, against brute force."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tupelo as tp
from tupelo import models, search
from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.errors import CheckpointError, DataError, InputError, MissingExtra
from tupelo.evaluation import nearest
from tupelo.search import Approximate, Items, store
from tupelo.search.items import arrow_table


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def brute(queries, items, k, keep=None):
    """Paths and similarities of the k best rows by a float64 product, ties by row."""
    similarity = unit(queries) @ unit(items.vectors).T
    if keep is not None:
        similarity[:, ~keep] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    paths = [tuple(items.paths[row] for row in rows) for rows in order]
    return paths, np.take_along_axis(similarity, order, 1)


def check(found, expected):
    paths, similarity = expected
    assert [each.paths for each in found] == paths
    np.testing.assert_allclose([each.similarity for each in found], similarity, atol=2e-7)


@pytest.mark.parametrize("memory", [None, 0])
def test_exact_search_is_brute_force(folder, index, items, queries, memory):
    opened = search.open(folder, memory_bytes=memory)
    found = opened.search(queries, 9)
    check(found, brute(queries, items, 9))
    assert all(each.exact for each in found)
    labels = dict(zip(items.paths, items.labels, strict=True))
    assert found[0].labels == tuple(labels[path] for path in found[0].paths)
    same = nearest(queries, items.vectors, 9)
    assert [list(each.similarity) for each in found] == same.similarity.tolist()


@pytest.mark.slow
def test_exact_search_of_100_000_rows_is_brute_force(tmp_path):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(100_000, 128)).astype(np.float32)
    queries = rng.normal(size=(200, 128)).astype(np.float32)
    items = Items(z, [f"{row}" for row in range(len(z))])
    index = search.build(tmp_path / "index", items)
    index.search(queries[:1], 10)  # read
    expected = brute(queries, items, 10)
    started = time.perf_counter()
    found = index.search(queries, 10)
    ours = time.perf_counter() - started
    check(found, expected)
    rows, wide = torch.from_numpy(unit(queries)).float(), torch.from_numpy(unit(z)).float()
    started = time.perf_counter()
    (rows @ wide.T).topk(10)
    bare = time.perf_counter() - started
    print(f"ours {ours:.3f} s, the bare product and topk {bare:.3f} s")  # noqa: T201
    assert ours < 5 * bare


def test_a_chunked_read_merges_to_the_same(folder, items, queries, monkeypatch):
    monkeypatch.setattr("tupelo.search.snapshot.CHUNK_ROWS", 100)
    index = search.build(folder, items)
    streamed = search.open(folder, memory_bytes=0)
    assert streamed.search(queries, 150) == index.search(queries, 150)
    where = "label = 'class3'"
    assert streamed.search(queries, 9, where=where) == index.search(queries, 9, where=where)
    assert streamed.like(items.paths[:3], 9) == index.like(items.paths[:3], 9)


@pytest.mark.parametrize("memory", [None, 0])
def test_equal_similarities_stand_in_the_order_of_insertion(folder, memory):
    z = np.tile(np.eye(2), (30, 1))
    index = search.build(folder, Items(z, [f"z{99 - row}" for row in range(60)]))
    index = search.open(folder, memory_bytes=memory)
    assert index.search(np.array([1.0, 0.0]), 4)[0].paths == ("z99", "z97", "z95", "z93")
    index.add(Items(np.array([[1.0, 0.0], [1.0, 0.0]]), ["z97", "new"]))
    found = index.search(np.array([1.0, 0.0]), 40)[0].paths
    assert found[:3] == ("z99", "z95", "z93")
    assert found[28:31] == ("z41", "z97", "new")  # replaced: inserted anew
    index.rebuild()
    assert index.search(np.array([1.0, 0.0]), 40)[0].paths == found


def test_items_as_queries_do_not_find_themselves(index, items):
    z = unit(items.vectors)
    np.fill_diagonal(similarity := z @ z.T, -np.inf)
    for row in (0, 7, 599):
        (found,) = index.like(items.paths[row], 5)
        best = np.argsort(-similarity[row])[:5]
        assert found.paths == tuple(items.paths[other] for other in best)
    twins = Items(np.ones((4, 24)), ["a", "b", "c", "d"])
    index.add(twins)
    assert [each.paths for each in index.like(["c", "a"], 3)] == [("a", "b", "d"), ("b", "c", "d")]


def test_a_row_of_the_index_finds_itself_first(index, items):
    assert index.search(items.vectors[5], 1)[0].paths == (items.paths[5],)


@pytest.mark.parametrize("k", [600, 601, 10_000])
def test_more_neighbours_than_items_are_all_items(index, items, queries, k):
    found = index.search(queries[:1], k)[0]
    assert sorted(found.paths) == sorted(items.paths)
    assert len(index.like(items.paths[0], k)[0]) == 599


def test_queries_may_have_any_length_type_and_form(index, queries):
    expected = index.search(queries, 3)
    for same in (queries * 7, queries.astype(np.float16), torch.from_numpy(queries)):
        assert [each.paths for each in index.search(same, 3)] == [each.paths for each in expected]
    assert index.search(queries[2], 3) == expected[2:3]


@pytest.mark.parametrize("memory", [None, 0])
def test_a_filter_is_sql(folder, index, items, queries, memory):
    opened = search.open(folder, memory_bytes=memory)
    labels = np.array(items.labels)
    keep = np.isin(labels, ["class2", "class5"])
    where = "label IN ('class2', 'class5')"
    check(opened.search(queries, 7, where=where), brute(queries, items, 7, keep))
    keep = np.array([path.startswith("shop/1") for path in items.paths])
    check(opened.search(queries, 7, where="path LIKE 'shop/1%'"), brute(queries, items, 7, keep))
    assert opened.like("shop/0.png", 3, where="path = 'shop/0.png'")[0].paths == ()
    assert len(opened.search(queries, 700, where="number < 5")[3]) == 5
    assert opened.search(queries, 3, where="label = 'none'")[0].paths == ()


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize(
    "where", ["label =", "color = 'red'", "label", "CAST(path AS INT) = 3", "label = 3", ""]
)
@pytest.mark.parametrize("exact", [True, False])
def test_a_bad_filter_is_told(folder, items, queries, where, memory, exact):
    search.build(folder, items, approximate=True)
    opened = search.open(folder, memory_bytes=memory)
    with pytest.raises(InputError, match="where must be a filter on the columns path, label and"):
        opened.search(queries, 3, where=where, exact=exact)
    assert opened.search(queries, 3)


def test_add_replaces_what_is_there(index, items, queries):
    more = Items(queries, ["shop/0.png", *(f"more/{row}" for row in range(5))], ["new"] * 6)
    assert index.add(more) == 5
    keep = list(range(1, 600))
    whole = Items(
        np.concatenate([items.vectors[keep], queries]), [*items.paths[1:], *more.paths]
    )  # fmt: skip
    assert index.paths() == list(whole.paths)
    check(index.search(queries, 9), brute(queries, whole, 9))
    assert index.labels(["shop/0.png", "shop/1.png"]) == ["new", "class1"]
    assert index.info().labels == 11


def test_delete_takes_items_out(index, items, queries):
    gone = index.paths("shop/*7.png")
    assert index.delete(gone) == len(gone) == 60
    keep = ~np.isin(items.paths, gone)
    check(index.search(queries, 9), brute(queries, items, 9, keep))
    with pytest.raises(InputError, match=r"no item has the path 'shop/7.png'; there are such as"):
        index.delete(["shop/8.png", "shop/7.png"])
    assert len(index) == 540
    assert index.delete(index.paths()) == 540
    assert index.search(queries, 3)[0].paths == ()
    with pytest.raises(InputError, match="no item has the path 'x'; the index is empty"):
        index.like("x")
    assert index.add(items) == 600
    assert index.delete([]) == 0


def test_a_hundred_thousand_can_be_deleted_at_once(folder):
    rows = np.random.default_rng(0).normal(size=(100_000, 4)).astype(np.float32)
    index = search.build(folder, Items(rows, [str(row) for row in range(len(rows))]))
    assert index.delete(index.paths()[1:]) == 99_999
    assert index.paths() == ["0"]


def test_rebuild_keeps_the_content_and_drops_what_was_replaced(folder, items, queries):
    with_pictures = replace(items, thumbnails=[bytes([row % 256]) * 500 for row in range(600)])
    index = search.build(folder, with_pictures)
    for _ in range(3):
        index.add(with_pictures)
    before, size = index.search(queries, 8), index.info().bytes
    index.rebuild()
    assert index.search(queries, 8) == before
    assert index.thumbnails(["shop/3.png", "shop/300.png"]) == [b"\3" * 500, b"\x2c" * 500]
    assert index.info().bytes < size / 2
    assert index.info().version == 1


def test_info(index, folder, items):
    info = index.info()
    assert (info.folder, info.items, info.labels, info.width) == (folder, 600, 10, 24)
    assert (info.identity, info.version, info.approximate, info.unindexed) == ("", 1, None, 0)
    assert info.bytes > 600 * 24 * 4
    assert repr(index) == f"Index({str(folder)!r}, 600 items)"
    assert len(index) == 600


def test_many_threads_share_one_index(folder, items, queries):
    search.build(folder, items, approximate=True)
    index, wrong = search.open(folder), []
    expected = search.open(folder).search(queries, 5, exact=True)

    def work(number):
        for turn in range(5):
            if number % 2 and index.search(queries, 5, exact=True) != expected:
                wrong.append(number)
            index.search(queries, 5, exact=False)
            index.like(items.paths[turn], 3, where="label = 'class1'")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.ones(24)}, "vectors must be a matrix"),
        ({"vectors": np.ones((2, 3), int)}, "vectors must be floating point"),
        ({"vectors": np.array([[1.0, np.nan], [1, 1]])}, "vectors must be finite"),
        ({"vectors": np.array([[1.0, 1], [0, 0]])}, "vectors must have no zero rows"),
        ({"vectors": np.ones((3, 2))}, "must have one entry an item, got 3, 2, 2 and 3"),
        ({"labels": ["x"]}, "must have one entry an item, got 2, 2, 1 and 2"),
        ({"thumbnails": [b"x"]}, "must have one entry an item, got 2, 2, 2 and 1"),
        ({"paths": ["a", "a"]}, "paths must be unique and not empty: they name items; got 'a'"),
        ({"paths": ["a", ""]}, "paths must be unique and not empty: they name items; got ''"),
    ],
)
def test_items_that_do_not_fit_together_are_refused(folder, change, message):
    items = replace(Items(np.ones((2, 2)), ["a", "b"], ["x", "y"]), **change)
    with pytest.raises(InputError, match=message):
        search.build(folder, items)
    assert not folder.exists()


def test_bad_arguments_are_told(index, folder, items, queries):
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        index.search(queries, 0)
    with pytest.raises(InputError, match="k must be at least 1, got -2"):
        index.like(items.paths[0], -2)
    with pytest.raises(InputError, match=r"queries must have 24 numbers a row.*got 23"):
        index.search(queries[:, 1:])
    with pytest.raises(InputError, match=r"vectors must have 24 numbers a row.*got 23"):
        index.add(Items(queries[:, 1:], list("abcdef")))
    with pytest.raises(InputError, match="queries must be finite"):
        index.search(queries * np.nan)
    with pytest.raises(InputError, match="queries must have no zero rows"):
        index.search(queries * 0)
    with pytest.raises(InputError, match="queries must be floating point; got int64"):
        index.search(np.ones((2, 24), int))
    with pytest.raises(InputError, match="pictures need a model: open the index with model="):
        index.search("query.jpg")
    with pytest.raises(
        InputError, match=r"no item has the path '4.png'; there are such as 'shop/4"
    ):
        index.like("4.png")
    with pytest.raises(InputError, match="paths must name at least one item, got none"):
        index.like([])
    with pytest.raises(InputError, match="exact=False needs an approximate index; rebuild"):
        index.search(queries, exact=False)
    with pytest.raises(InputError, match="holds an index; open it to add to it, or pass overwrite"):
        search.build(folder, items)
    with pytest.raises(InputError, match=r"pictures need model, from tupelo.load; or pass Items"):
        search.build(folder / "x", pictures(4))


@pytest.mark.parametrize("name", ["lancedb", "pyarrow"])
def test_without_lancedb_the_extra_is_named(folder, items, monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[search\]'"):
        search.build(folder, items)


def test_a_wrong_place_is_told_before_pictures_are_embedded(tmp_path, two_models):
    (tmp_path / "holiday.jpg").touch()
    seen = []
    with pytest.raises(InputError, match=r"is no index and holds holiday.jpg"):
        search.build(tmp_path, pictures(4), model=two_models[0], progress=lambda *_: seen.append(1))
    assert not seen


def test_names_that_are_no_text_are_spelled_out_for_pictures_and_refused_in_items(
    folder, two_models
):
    model, _ = two_models
    pixels = np.random.default_rng(0).integers(256, size=(4, 16, 16, 3), dtype=np.uint8)
    data = ImageSet.from_arrays(pixels, ["x"] * 4, paths=["caf\udce9.png", "a", "b", "c"])
    index = search.build(folder, data, model=model)
    assert index.paths() == ["caf\\udce9.png", "a", "b", "c"]
    with pytest.raises(InputError, match=r"no item has the path 'caf.udce9.png'"):
        index.like("caf\udce9.png")
    with pytest.raises(InputError, match=r"paths and labels must be valid Unicode, got 'x.udce9'"):
        search.build(folder.with_name("other"), Items(np.eye(2), ["x\udce9", "y"]))


def test_a_path_that_occurs_twice_is_found_quickly():
    rows = np.ones((50_000, 1), np.float32)
    paths = [str(row) for row in range(49_999)] + ["49998"]
    started = time.perf_counter()
    with pytest.raises(InputError, match="unique and not empty: they name items; got '49998'"):
        arrow_table(Items(rows, paths), 0)
    assert time.perf_counter() - started < 5  # a count for each path took minutes


def test_labels_are_counted_as_tags_and_without_none(folder):
    index = search.build(folder, Items(np.eye(3), list("abc"), ["red|big", "red", ""]))
    assert index.info().labels == 2
    index = search.build(folder, Items(np.eye(3), list("abc")), overwrite=True)
    assert index.info().labels == 0


def trained(folder, seed) -> tp.trained.Trained:
    torch.manual_seed(seed)
    model = models.embedder("convnet", dim=8, size=16, channels=3)
    return tp.load(models.save(model, folder, about={"pictures": Frame(16, 16, 3)._asdict()}))


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return trained(place / "a", 0), trained(place / "b", 1)


def pictures(n, side=16, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(256, size=(n, side, side, 3), dtype=np.uint8)
    paths = [f"{row}.png" for row in range(n)]
    return ImageSet.from_arrays(pixels, ["cat", "dog"] * (n // 2), paths=paths)


def test_pictures_are_embedded_indexed_and_found(folder, two_models, tmp_path):
    model, _ = two_models
    data = pictures(8)
    seen = []
    index = search.build(folder, data, model=model, progress=lambda *done: seen.append(done))
    assert seen[-1] == (8, 8)
    assert index.paths() == list(data.paths)
    assert index.labels(["0.png", "1.png"]) == ["cat", "dog"]
    pixels = (data.batch([3]).images[0] * 255).byte().numpy().transpose(1, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "query.png")
    content = (tmp_path / "query.png").read_bytes()
    for query in (pixels, tmp_path / "query.png", str(tmp_path / "query.png"), content):
        (found,) = index.search(query, 2)
        assert found.paths[0] == "3.png"  # finds itself first
        assert found.similarity[0] == pytest.approx(1, abs=1e-5)
    assert len(index.search([content, Image.fromarray(pixels)], 2)) == 2
    check(
        index.search(model.embed(data), 4),
        brute(model.embed(data), Items(model.embed(data), data.paths), 4),
    )
    with pytest.raises(DataError, match=r"none.png"):
        index.search("none.png")
    assert index.add(pictures(10, seed=1)) == 2
    assert index.info().identity == model.identity
    assert store.read_pointer(folder).frame == [16, 16, 3, "crop"]


def test_another_model_is_refused(folder, two_models, queries):
    first, second = two_models
    search.build(folder, pictures(8), model=first)
    other = search.open(folder, model=second)
    message = "was built with another model .*give the run that it was built with, or build it"
    with pytest.raises(CheckpointError, match=message):
        other.search(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(CheckpointError, match=message):
        other.add(pictures(2))
    with pytest.raises(CheckpointError, match=message):
        other.add(search.items_of(second, pictures(2)))
    with pytest.raises(CheckpointError, match=message):
        other.check_model()
    assert len(other.search(queries[:, :8])) == 6  # rows are taken where the width fits
    search.build(folder, pictures(8), model=second, overwrite=True)
    other.search(np.zeros((16, 16, 3), np.uint8))


def test_the_model_is_checked_again_after_the_pictures_were_embedded(
    folder, two_models, monkeypatch
):
    first, second = two_models
    index = search.build(folder, pictures(8), model=first)
    embed = type(first).embed

    def meanwhile(model, given, **options):
        rows = embed(model, given, **options)
        search.build(folder, pictures(8), model=second, overwrite=True)
        return rows

    monkeypatch.setattr(type(first), "embed", meanwhile)
    with pytest.raises(CheckpointError, match="was built with another model"):
        index.search(np.zeros((16, 16, 3), np.uint8))


def test_settings_out_of_range_are_told():
    def resolved(n=5_000, width=24, **settings):
        return Approximate(**settings).resolved(n, width)

    assert resolved() == Approximate(19, 3, 19, 20)
    assert resolved(n=1_000_000, width=128) == Approximate(1000, 16, 62, 20)
    with pytest.raises(InputError, match="needs at least 256 items, got 255; leave it out"):
        resolved(n=255)
    with pytest.raises(InputError, match=r"partitions must be from 1 to 19, .* got 20"):
        resolved(partitions=20)
    with pytest.raises(InputError, match="sub_vectors must divide the width 24, got 5"):
        resolved(sub_vectors=5)
    with pytest.raises(InputError, match="probes must be from 1 to the partitions 4, got 5"):
        resolved(partitions=4, probes=5)
    with pytest.raises(InputError, match="refine must be at least 1, got 0"):
        resolved(refine=0)


def test_the_folder_may_be_a_string(tmp_path, items):
    index = search.build(str(tmp_path / "index"), items)
    assert isinstance(index.folder, Path)
    assert len(search.open(str(tmp_path / "index"))) == 600
