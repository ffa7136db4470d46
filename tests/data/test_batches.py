import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tupelo.data.batches import (
    ClassBalanced,
    NPair,
    RandomPairs,
    Shuffled,
    Triplets,
    WithShifted,
)
from tupelo.errors import InputError


def labels_of(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=25),
    classes=st.integers(1, 6),
    per_class=st.integers(2, 6),
    epoch=st.integers(0, 5),
)
def test_class_balanced_properties(counts, classes, per_class, epoch):
    labels = labels_of(counts)
    size = classes * per_class
    possible = (
        classes <= len(counts)
        and max(counts) >= 2
        and sum(min(count, per_class) for count in counts) >= size
    )
    if not possible:
        with pytest.raises(InputError, match=r"classes|class has 2 items"):
            ClassBalanced(labels, classes=classes, per_class=per_class)
        return
    batches = ClassBalanced(labels, classes=classes, per_class=per_class).epoch(epoch)
    assert set(np.concatenate(batches).tolist()) == set(range(len(labels)))
    for batch in batches:
        assert len(batch) == size == len(set(batch.tolist()))
        runs = labels[batch][np.flatnonzero(np.diff(labels[batch], prepend=-1))]
        assert len(runs) == len(set(runs.tolist())), "items of a class stand together"
        for label in runs[:-1]:  # only the last may be cut
            assert (labels[batch] == label).sum() == min(per_class, counts[label])
        assert classes == 1 or np.bincount(labels[batch]).max() > 1


def test_every_batch_has_a_positive_though_few_classes_have_two_items():
    labels = labels_of([2] + [1] * 19)
    batches = ClassBalanced(labels, classes=2, per_class=2).epoch(0)
    assert all(np.bincount(labels[batch]).max() == 2 for batch in batches)
    assert set(np.concatenate(batches).tolist()) == set(range(21))


@pytest.mark.parametrize("counts", [[8] * 10, [9, 8, 13, 21, 8], [500, 20, 20, 8, 8], [4] * 4])
def test_full_classes_give_exactly_p_x_k_in_as_few_batches_as_possible(counts):
    batches = ClassBalanced(labels_of(counts), classes=4, per_class=4).epoch(0)
    labels = labels_of(counts)
    for batch in batches:
        assert np.unique(labels[batch], return_counts=True)[1].tolist() == [4, 4, 4, 4]
    draws = [-(-count // 4) for count in counts]
    assert len(batches) == max(*draws, -(-sum(draws) // 4))


def test_uneven_classes_are_levelled():
    counts = [400, 40, 40, 40, 40]
    labels = labels_of(counts)
    batches = ClassBalanced(labels, classes=2, per_class=4).epoch(0)
    drawn = np.bincount(np.concatenate([labels[batch[::4]] for batch in batches]))
    assert drawn.tolist() == [100, 25, 25, 25, 25]
    seen = np.bincount(np.concatenate(batches), minlength=len(labels))
    for label in range(1, 5):
        times = seen[labels == label]
        assert times.max() - times.min() <= 1, "the items of a class are drawn equally often"


def test_partners_are_mixed():
    labels = labels_of([16] * 30)
    batches = ClassBalanced(labels, classes=3, per_class=4).epoch(0)
    partners = {frozenset(labels[batch].tolist()) for batch in batches}
    assert len(partners) > 0.8 * len(batches)


def test_determined_by_seed_and_epoch_alone():
    labels = labels_of([7, 5, 30, 2, 9, 11])
    first = ClassBalanced(labels, classes=3, per_class=4, seed=3)
    again = ClassBalanced(labels, classes=3, per_class=4, seed=3)
    first.epoch(0)
    for one, two in zip(first.epoch(2), again.epoch(2), strict=True):
        assert np.array_equal(one, two)
    other = ClassBalanced(labels, classes=3, per_class=4, seed=4)
    assert not np.array_equal(first.epoch(2)[0], other.epoch(2)[0])
    assert not np.array_equal(first.epoch(2)[0], first.epoch(3)[0])


def test_tags():
    rng = np.random.default_rng(1)
    tags = rng.random((200, 12)) < 0.2
    tags[:3] = False
    maker = ClassBalanced(tags, classes=4, per_class=4)
    batches = maker.epoch(1)
    assert set(np.concatenate(batches).tolist()) == set(range(200))
    for batch in batches:
        assert len(set(batch.tolist())) == 16
        shared = tags[batch].astype(int) @ tags[batch].T.astype(int)
        np.fill_diagonal(shared, 0)
        assert (shared.sum(axis=1) > 0).sum() >= 10
    assert not np.array_equal(batches[0], maker.epoch(2)[0])


@pytest.mark.parametrize(
    ("counts", "classes", "per_class", "message"),
    [
        ([5, 5], 2, 1, "per_class must be at least 2, so that every item has a positive, got 1"),
        ([5, 5], 0, 2, "classes must be at least 1, got 0"),
        ([5, 5], 3, 2, "classes=3 a batch, but the labels hold 2 classes; ask for at most 2"),
        ([1, 1, 1], 2, 2, "no class has 2 items.*3 classes of 1 item; check that labels"),
        ([2, 2, 1], 3, 4, "has 12 rows, but 3 classes with 1 to 2 items offer only 5 at 4"),
    ],
)
def test_class_balanced_refuses(counts, classes, per_class, message):
    with pytest.raises(InputError, match=message):
        ClassBalanced(labels_of(counts), classes=classes, per_class=per_class)


@pytest.mark.slow
def test_an_epoch_of_60_000_items_takes_about_a_second():
    import time

    labels = np.random.default_rng(0).integers(0, 11_318, 60_000)
    maker = ClassBalanced(np.unique(labels, return_inverse=True)[1], classes=28, per_class=4)
    start = time.thread_time()
    maker.epoch(0)
    assert time.thread_time() - start < 3  # generous: type checks and a busy machine


def test_shuffled_covers_each_once():
    batches = Shuffled(23, 8, seed=1).epoch(4)
    assert sorted(np.concatenate(batches).tolist()) == list(range(23))
    assert [len(batch) for batch in batches] == [8, 8, 7]


def test_shuffled_refuses():
    with pytest.raises(InputError, match="n and batch_size must be at least 1, got 0 and 4"):
        Shuffled(0, 4)


def test_npair_order_and_coverage():
    labels = labels_of([5, 6, 7, 8])
    batches = NPair(labels, 3).epoch(0)
    for batch in batches:
        anchors, positives = labels[batch[:3]], labels[batch[3:]]
        assert np.array_equal(anchors, positives)
        assert len(set(anchors.tolist())) == 3
        assert len(set(batch.tolist())) == 6
    assert set(np.concatenate(batches).tolist()) == set(range(len(labels)))


def test_triplets_order_and_coverage():
    labels = labels_of([5, 6, 7, 8, 3])
    batches = Triplets(labels, 2).epoch(0)
    for batch in batches:
        anchor, positive, negative = labels[batch].reshape(3, 2)
        assert np.array_equal(anchor, positive)
        assert len({*anchor.tolist(), *negative.tolist()}) == 4
        assert len(set(batch.tolist())) == 6
    assert set(np.concatenate(batches).tolist()) == set(range(len(labels)))


@pytest.mark.parametrize("maker", [NPair, Triplets])
def test_tuple_makers_refuse(maker):
    with pytest.raises(InputError, match="every class must have 2 items, but 1 have 1, first"):
        maker(labels_of([2, 1, 4]), 1)
    with pytest.raises(InputError, match="but the labels hold 2 classes"):
        maker(labels_of([4, 4]), 3)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=12).filter(lambda c: max(c) > 1),
    pairs=st.integers(2, 9),
    data=st.data(),
    epoch=st.integers(0, 5),
)
def test_random_pairs_are_of_one_class_first_and_of_two_then(counts, pairs, data, epoch):
    labels = labels_of(counts)
    positive = data.draw(st.integers(1, pairs - 1))
    maker = RandomPairs(labels, pairs, positive=positive)
    batches = maker.epoch(epoch)
    assert len(batches) == -(-len(labels) // (2 * pairs))
    for batch in batches:
        assert len(batch) == maker.batch_size == 2 * pairs
        first, second = batch.reshape(-1, 2).T
        assert (first != second).all(), "never the item itself"
        same = labels[first] == labels[second]
        assert same[:positive].all()
        assert not same[positive:].any()


def test_half_of_32_pairs_are_positive_unless_said_otherwise():
    labels = labels_of([5, 6, 7])
    maker = RandomPairs(labels)
    assert (maker.pairs, maker.positive, maker.batch_size) == (32, 16, 64)
    assert RandomPairs(labels, 5).positive == 2


def test_first_of_random_pairs_are_all_items_equally_often():
    """Of positive pairs all items with a partner, of negative pairs all."""
    labels = labels_of([1, 4, 7, 12])
    batches = RandomPairs(labels, 12, positive=6).epoch(3)
    positive = np.concatenate([batch[:12:2] for batch in batches])
    negative = np.concatenate([batch[12::2] for batch in batches])
    for drawn, possible in ((positive, 23), (negative, 24)):
        times = np.bincount(drawn, minlength=24)
        assert len(drawn) // possible <= np.sort(times)[24 - possible :].min()
        assert times.max() <= -(-len(drawn) // possible)
    alone = np.flatnonzero(labels == 0)
    assert not np.isin(positive, alone).any()


def test_partners_are_drawn_among_all_that_fit_alike():
    """Each partner as often as another: chi-square of 3,000 draws."""
    labels = np.array([0, 1, 1, 0, 2, 1, 0])
    maker = RandomPairs(labels, 2)
    drawn = np.concatenate([np.concatenate(maker.epoch(n)) for n in range(1500)]).reshape(-1, 2)
    seen = np.zeros((7, 7))
    np.add.at(seen, tuple(drawn.T), 1)
    same = labels[:, None] == labels
    for item in range(7):
        for fitting in (same[item] & (np.arange(7) != item), ~same[item]):
            if fitting.any():
                counts = seen[item][fitting]
                chi = ((counts - counts.mean()) ** 2).sum() / counts.mean()
                # far beyond the 99.9 % points of 1 to 5 degrees of freedom, 10.8 to 20.5
                assert chi < 25
    assert not seen.diagonal().any()


def test_random_pairs_are_determined_by_seed_and_epoch_alone():
    labels = labels_of([5, 1, 7, 9])
    maker = RandomPairs(labels, 3, seed=4)
    whole = [maker.epoch(number) for number in range(3)]
    again = RandomPairs(labels, 3, seed=4)
    for number in (2, 0, 1):  # in any order, from the middle on
        for batch, resumed in zip(whole[number][2:], again.epoch(number)[2:], strict=True):
            assert np.array_equal(batch, resumed)
    for other in (whole[1], RandomPairs(labels, 3, seed=5).epoch(0)):
        assert not np.array_equal(np.concatenate(whole[0]), np.concatenate(other))


@pytest.mark.parametrize(
    ("counts", "pairs", "positive", "message"),
    [
        ([2, 2], 1, None, "pairs must be at least 2 and positive from 1 to pairs - 1.*pairs=1, po"),
        ([2, 2], 4, 4, "pairs of both kinds, got pairs=4, positive=4"),
        ([2, 2], 4, 0, "got pairs=4, positive=0"),
        ([1, 1, 1], 4, None, "and a class with 2 items, got 3 classes of at most 1 items"),
        ([6], 4, None, "need at least 2 classes .* got 1 classes of at most 6 items"),
        ([], 4, None, "got 0 classes of at most 0 items"),
    ],
)
def test_random_pairs_refuse(counts, pairs, positive, message):
    with pytest.raises(InputError, match=message):
        RandomPairs(labels_of(np.array(counts, dtype=np.int64)), pairs, positive=positive)


def test_some_rows_come_again_behind_their_batch():
    inner = ClassBalanced(labels_of([9] * 6), classes=3, per_class=4, seed=5)
    outer = WithShifted(inner, 0.3, seed=5)
    for epoch in (0, 1):
        for batch, plain in zip(outer.epoch(epoch), inner.epoch(epoch), strict=True):
            assert batch[: outer.rows].tolist() == plain.tolist()
            again = batch[outer.rows :]
            assert len(again) == len(set(again.tolist())) == 4
            assert set(again.tolist()) <= set(plain.tolist())
    first, twin = outer.epoch(0), outer.epoch(0)
    assert all(np.array_equal(one, other) for one, other in zip(first, twin, strict=True))
    assert len(WithShifted(inner, 0.25).epoch(0)[0]) == 15


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_that_come_again_are_refused(share):
    inner = ClassBalanced(labels_of([4] * 4), classes=2, per_class=2)
    with pytest.raises(InputError, match=r"share must be in \(0, 1\]"):
        WithShifted(inner, share)
