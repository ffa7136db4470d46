import numpy as np
import pytest
import torch
from tests.fewshot.meta_cases import domain

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.fewshot import FIVE_VS_THREE, THREE_VS_FIVE, Domain, Tasks, picture_domains


@pytest.mark.parametrize(
    ("classes", "shares", "sizes"),
    [
        (20, FIVE_VS_THREE, [10, 4, 6]),
        (20, THREE_VS_FIVE, [6, 4, 10]),
        (15, FIVE_VS_THREE, [8, 3, 4]),
        (15, THREE_VS_FIVE, [4, 3, 8]),
        (14, FIVE_VS_THREE, [7, 3, 4]),
        (6, FIVE_VS_THREE, [2, 2, 2]),
    ],
)
def test_parts_have_the_shares_and_no_class_in_common(classes, shares, sizes):
    whole = domain(classes=classes, per_class=2)
    parts = whole.divide(shares, seed=3)
    assert [part.n_classes for part in parts] == sizes
    names = [name for part in parts for name in part.class_names]
    assert sorted(names) == sorted(whole.class_names)
    items = np.concatenate([part.identities for part in parts])
    assert sorted(items) == sorted(whole.identities)


def test_a_part_keeps_the_items_of_its_classes():
    whole = domain(classes=5, per_class=3, first=100)
    part = whole.only([4, 1])
    assert part.class_names == ("a/4", "a/1")
    rows = [12, 13, 14, 3, 4, 5]
    assert sorted(part.identities) == sorted(100 + np.array(rows))
    for row, label in enumerate(part.labels):
        old = [4, 1][label]
        assert torch.equal(part.items[row], whole.items[part.identities[row] - 100])
        assert whole.labels[part.identities[row] - 100] == old


def test_divisions_follow_from_the_seed_and_the_name():
    parts = [domain(name).divide(FIVE_VS_THREE[::-1][:0] or (0.5, 0.5), seed=seed)[0].class_names
             for name, seed in (("a", 0), ("a", 0), ("a", 5))]  # fmt: skip
    assert parts[0] == parts[1]
    many = {
        tuple(int(n[-1]) for n in domain(name).divide((0.5, 0.5), seed=0)[0].class_names)
        for name in "abcdefgh"
    }
    assert len(many) > 2


def test_tasks_follow_from_seed_and_number_alone():
    domains = [domain("a"), domain("b", classes=6, first=100, seed=1)]
    one, other = (Tasks(domains, shots=2, queries=3, seed=4) for _ in range(2))
    first = [one.task(number) for number in range(6)]
    again = [other.task(number) for number in reversed(range(6))][::-1]
    for x, y in zip(first, again, strict=True):
        assert torch.equal(x.support, y.support)
        assert torch.equal(x.queries, y.queries)
    assert {x.n_classes for x in first} == {4, 6}
    assert not torch.equal(one.of(0, 0).support_items, one.of(0, 1).support_items)
    assert one.of(1, 0).n_classes == 6


def test_support_and_queries_are_distinct_items_of_the_right_class():
    whole = domain("a", classes=5, per_class=6, first=30)
    for number in range(10):
        task = Tasks([whole], shots=(1, 4), queries=2, max_classes=3, seed=1).task(number)
        assert task.n_classes == 3
        assert ((task.counts >= 1) & (task.counts <= 4)).all()
        items = torch.cat([task.support_items, task.query_items])
        assert len(items.unique()) == len(items)
        of_class = whole.labels[(items - 30).numpy()]
        slots = torch.cat([task.support_labels, task.query_labels]).numpy()
        pairs = set(zip(slots.tolist(), of_class.tolist(), strict=True))
        assert len(pairs) == 3
        assert task.query_labels.bincount().tolist() == [2, 2, 2]
        assert task.support.dtype == torch.float32
        assert task.support.max() <= 1


def test_unbalanced_supports_are_drawn():
    counts = {
        tuple(Tasks([domain(classes=2, per_class=9)], shots=(1, 8), queries=1).task(n).counts)
        for n in range(20)
    }
    assert len(counts) > 10


def test_classes_with_too_few_items_take_no_part():
    labels = np.array([0, 0, 0, 1, 2, 2, 2])
    items = torch.zeros(7, 1, 4, 4, dtype=torch.uint8)
    small = Domain("s", items, labels, ("x", "y", "z"), np.arange(7))
    assert small.task(2, 5, np.random.default_rng(0)).n_classes == 2
    assert len(small.task(2, 5, np.random.default_rng(0)).queries) == 2
    with pytest.raises(InputError, match=r"'s' needs 2 classes of 4 items .*got 0; lower shots"):
        small.task(3, 1, np.random.default_rng(0))


def test_empty_columns_of_tokens_are_left_out():
    tokens = torch.zeros(8, 9, dtype=torch.int64)
    tokens[:, 0] = torch.arange(1, 9)
    tokens[0, :4] = 5
    texts = Domain("t", tokens, np.repeat([0, 1], 4), ("x", "y"), np.arange(8))
    task = texts.task(3, 1, np.random.default_rng(0))
    width = 4 if 5 in task.support[:, 1] or 5 in task.queries[:, 1] else 1
    assert task.support.shape[1] == task.queries.shape[1] == max(width, 1)
    assert task.support.dtype == torch.int64


def test_pictures_are_grouped_by_the_name_before_the_slash():
    pixels = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    dataset = ImageSet.from_arrays(pixels, ["B/1", "A/2", "A/1", "B/1", "A/1", "A/2"])
    found = picture_domains(dataset)
    assert [(each.name, each.class_names) for each in found] == [
        ("A", ("A/1", "A/2")),
        ("B", ("B/1",)),
    ]
    assert found[0].identities.tolist() == [1, 2, 4, 5]
    assert found[0].labels.tolist() == [1, 0, 0, 1]
    assert torch.equal(found[0].items[0, 0], torch.from_numpy(pixels[1]))
    by_last = picture_domains(dataset, lambda name: name[-1])
    assert [each.name for each in by_last] == ["1", "2"]


def test_identity_tells_tasks_apart():
    one = Tasks([domain()], shots=2, queries=1).identity()
    assert one == Tasks([domain()], shots=2, queries=1).identity()
    for other in (
        Tasks([domain(first=1)], shots=2, queries=1),
        Tasks([domain()], shots=(2, 3), queries=1),
        Tasks([domain()], shots=2, queries=1, seed=1),
    ):
        assert other.identity() != one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": []}, "domains must hold at least one domain, got none"),
        ({"shots": 0}, r"shots must be at least 1, or a range \(low, high\), got 0"),
        ({"shots": (3, 2)}, r"shots must be at least 1, or a range.*got \(3, 2\)"),
        ({"queries": 0}, "queries must be at least 1 a class, got 0"),
        ({"max_classes": 1}, "max_classes must be at least 2, got 1"),
    ],
)
def test_refusals(arguments, message):
    given = {"domains": [domain()], "shots": 2, "queries": 1} | arguments
    with pytest.raises(InputError, match=message):
        Tasks(given.pop("domains"), **given)


def test_damaged_domains_are_refused():
    items = torch.zeros(2, 1, 4, 4)
    with pytest.raises(
        InputError, match="one entry for each of 2 items of domain 'd', got 1 and 2"
    ):
        Domain("d", items, np.array([0]), ("x",), np.arange(2))
    with pytest.raises(InputError, match=r"labels of domain 'd' must be 0..1, every class occurr"):
        Domain("d", items, np.array([0, 0]), ("x", "y"), np.arange(2))
    with pytest.raises(InputError, match=r"shares must be above 0 and add up to 1, got \(0.5,\)"):
        domain().divide((0.5,))
    with pytest.raises(InputError, match="'a' has 4 classes, too few for 3 parts of 2"):
        domain().divide(FIVE_VS_THREE)


def test_tags_make_no_domains():
    pixels = np.zeros((2, 4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="domains need one class an item, this set has tags"):
        picture_domains(ImageSet.from_arrays(pixels, [{"x"}, {"y"}]))
