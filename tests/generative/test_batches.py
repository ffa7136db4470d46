"""Batches of triplets: order, remainders, unlabelled pictures, epochs."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.generative import FreshTriplets, TripletBatches, random_triplets
from tupelo.training.resuming import describe

LABELS = np.repeat(np.arange(3), 10)


def as_set(batches, each=3) -> list[tuple[int, ...]]:
    return sorted(tuple(row) for batch in batches for row in batch.reshape(-1, each).tolist())


def test_an_epoch_has_every_triplet_once_in_an_order_of_its_own():
    drawn = random_triplets(LABELS, 10)
    batches = TripletBatches(drawn, per_batch=4, seed=1)
    first, second = batches.epoch(0), batches.epoch(1)
    assert [len(batch) for batch in first] == [12, 12, 6]
    assert as_set(first) == as_set(second) == sorted(map(tuple, drawn.rows.tolist()))
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    again = TripletBatches(drawn, per_batch=4, seed=1).epoch(1)
    assert np.concatenate(again).tolist() == np.concatenate(second).tolist()


@pytest.mark.parametrize("fresh", [False, True])
def test_even_batches_leave_no_small_last_one(fresh):
    options = {"per_batch": 5, "seed": 1, "unlabelled": range(25, 30)}
    drawn = random_triplets(LABELS, 21, among=range(25))

    def maker(**more):
        if fresh:
            return FreshTriplets(LABELS, 21, among=range(25), **options, **more)
        return TripletBatches(drawn, **options, **more)

    usual, even = maker().epoch(3), maker(even=True).epoch(3)
    assert [len(batch) // 4 for batch in usual] == [5, 5, 5, 5, 1]
    assert [len(batch) // 4 for batch in even] == [5, 4, 4, 4, 4]
    assert np.concatenate(even).tolist() == np.concatenate(usual).tolist()
    assert describe(maker()) == describe(maker(even=False)) != describe(maker(even=True))


def test_even_batches_are_the_usual_ones_where_the_list_divides():
    drawn = random_triplets(LABELS, 20)
    usual, even = (TripletBatches(drawn, per_batch=5, even=even).epoch(0) for even in (False, True))
    assert all(map(np.array_equal, usual, even))
    assert [len(batch) for batch in TripletBatches(drawn, even=True).epoch(0)] == [60]


def test_unlabelled_pictures_follow_each_triplet_and_all_take_part():
    drawn = random_triplets(LABELS, 12, among=range(25))
    batches = TripletBatches(drawn, per_batch=5, unlabelled=range(25, 30), per_triplet=2)
    rows = np.concatenate(batches.epoch(0)).reshape(-1, 5)
    assert sorted(map(tuple, rows[:, :3].tolist())) == sorted(map(tuple, drawn.rows.tolist()))
    counts = np.bincount(rows[:, 3:].ravel(), minlength=30)
    assert (counts[:25] == 0).all()
    assert counts[25:].tolist() == [5, 5, 5, 5, 4] or sorted(counts[25:]) == [4, 5, 5, 5, 5]
    orders = [np.concatenate(batches.epoch(n)).reshape(-1, 5)[:, 3:].tolist() for n in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert batches.per_triplet == 2
    assert batches.per_batch == 5
    assert (
        TripletBatches(drawn).per_batch == FreshTriplets(LABELS, 12).per_batch == 120
    )  # published
    assert TripletBatches(drawn).per_triplet == 0


def test_fresh_triplets_differ_between_epochs_and_repeat_with_the_seed():
    fresh = FreshTriplets(LABELS, 10, per_batch=4, seed=5)
    first, second = fresh.epoch(0), fresh.epoch(1)
    assert as_set(first) != as_set(second)
    assert as_set(FreshTriplets(LABELS, 10, per_batch=4, seed=5).epoch(1)) == as_set(second)
    for batch in (*first, *second):
        anchor, positive, negative = LABELS[batch].reshape(-1, 3).T
        assert (anchor == positive).all()
        assert (anchor != negative).all()


def test_fresh_triplets_leave_unlabelled_pictures_alone():
    fresh = FreshTriplets(LABELS, 20, among=range(15), unlabelled=range(15, 30))
    rows = np.concatenate(fresh.epoch(2)).reshape(-1, 4)
    assert rows[:, :3].max() < 15
    assert rows[:, 3].min() >= 15


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"per_batch": 0}, "per_batch must be at least 1, got 0"),
        ({"per_triplet": 0}, "per_triplet must be at least 1, got 0"),
        ({"unlabelled": [4, -1]}, "unlabelled must be positions >= 0, got -1"),
    ],
)
def test_impossible_batches_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        TripletBatches(random_triplets(LABELS, 5), **options)
    with pytest.raises(InputError, match=text):
        FreshTriplets(LABELS, 5, **options)


def test_fresh_triplets_refuse_what_cannot_be_drawn_from():
    with pytest.raises(InputError, match="at least 2 classes, got 1"):
        FreshTriplets(np.zeros(5, np.int64), 5)
