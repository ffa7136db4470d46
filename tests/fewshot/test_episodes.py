import logging

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet, loader
from tupelo.errors import InputError
from tupelo.fewshot import Episode, Episodes, Layout, draw_episodes

LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(9), 7))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"ways": 1}, "ways must be at least 2, got 1"),
        ({"shots": 0}, "shots must be at least 1, got 0"),
        ({"queries": 0}, "queries must be at least 1, got 0"),
        ({"per_batch": 0}, "per_batch must be at least 1, got 0"),
        ({"unlabelled": 2}, r"unlabelled must leave a labelled .* \[0, shots\), got 2 of 2 shots"),
        ({"query_ways": 6}, r"query_ways must be in \[1, ways\], got 6 of 5 ways"),
    ],
)
def test_layouts_refuse(bad, text):
    with pytest.raises(InputError, match=text):
        Layout(**{"ways": 5, "shots": 2, "queries": 3, **bad})


def test_a_batch_is_laid_out_class_by_class():
    layout = Layout(3, 2, 2, per_batch=4)
    for rows in Episodes(LABELS, layout, per_epoch=5, seed=1).epoch(0):
        for episode in LABELS[rows].reshape(4, -1):
            support, queries = episode[:6].reshape(3, 2), episode[6:].reshape(3, 2)
            assert (support == support[:, :1]).all()
            assert len(set(support[:, 0])) == 3
            assert np.array_equal(support, queries)


def test_items_are_distinct_and_support_and_queries_disjoint():
    for rows in Episodes(LABELS, Layout(4, 3, 4, per_batch=2), per_epoch=30).epoch(7):
        for episode in rows.reshape(2, -1):
            assert len(set(episode.tolist())) == len(episode)


def test_split_and_slots_agree_with_a_loop():
    layout = Layout(3, 2, 2, per_batch=2, unlabelled=1)
    rows = Episodes(LABELS, layout).epoch(0)[0]
    support, queries = layout.split(torch.from_numpy(rows))
    known, asked = layout.slots(torch.from_numpy(LABELS[rows]))
    for e in range(2):
        classes = [LABELS[support[e, 2 * slot]] for slot in range(3)]
        for place, item in enumerate(support[e].tolist()):
            slot = classes.index(LABELS[item])
            assert known[e, place] == (-1 if place % 2 == 0 else slot)
        for place, item in enumerate(queries[e].tolist()):
            assert asked[e, place] == classes.index(LABELS[item])


def test_queries_of_some_classes_only():
    layout = Layout(5, 1, 2, query_ways=1)
    assert (layout.asked, layout.rows) == (2, 7)
    drawn = draw_episodes(LABELS, layout, 400, seed=2)
    known, asked = layout.slots(torch.from_numpy(LABELS[drawn].ravel()))
    assert (asked[:, 0] == asked[:, 1]).all()
    # every slot is asked about equally often: 80 of 400, four standard deviations of 8
    assert (asked[:, 0].bincount(minlength=5) - 80).abs().max() < 32
    assert known.shape == (400, 5)


def test_every_set_of_classes_and_items_is_as_likely():
    """Three of four items, two of three classes: 6 ordered pairs of classes, 24 of items."""
    labels = np.repeat(np.arange(3), 4)
    drawn = draw_episodes(labels, Layout(2, 1, 2), 12000, seed=5)
    pairs = labels[drawn[:, 0]] * 3 + labels[drawn[:, 1]]
    counts = np.unique(pairs, return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(2000)
    items = drawn[:, [0, 2, 3]] % 4
    ordered = np.unique(items @ [16, 4, 1], return_counts=True)[1]
    assert len(ordered) == 24
    assert np.abs(ordered - 500).max() < 4.5 * np.sqrt(500)


def test_epochs_follow_from_seed_and_number_alone():
    layout = Layout(3, 1, 2)
    first, twin = (Episodes(LABELS, layout, per_epoch=4, seed=6) for _ in range(2))
    twin.epoch(0)  # drawing another epoch before changes nothing
    assert all(map(np.array_equal, first.epoch(3), twin.epoch(3)))
    assert not all(map(np.array_equal, first.epoch(3), first.epoch(4)))
    other = Episodes(LABELS, layout, per_epoch=4, seed=7)
    assert not all(map(np.array_equal, first.epoch(3), other.epoch(3)))


@pytest.mark.slow
def test_workers_draw_the_same_episodes():
    pictures = ImageSet.from_arrays(np.zeros((len(LABELS), 4, 4), np.uint8), LABELS)
    maker = Episodes(pictures.labels, Layout(3, 1, 2), per_epoch=4)
    alone, two = (
        [batch.items.tolist() for batch in loader(pictures, maker, epoch=1, workers=workers)]
        for workers in (0, 2)
    )
    assert alone == two


def test_small_classes_are_left_out_and_that_is_said(caplog):
    labels = np.array([0, 0, 0, 1, 2, 2, 2, 2])
    with caplog.at_level(logging.WARNING):
        maker = Episodes(labels, Layout(2, 1, 2))
    assert "1 of 3 classes have fewer than 3 items and are in no episode: [1]" in caplog.text
    assert not (labels[np.concatenate(maker.epoch(0))] == 1).any()


def test_too_few_classes_are_refused():
    with pytest.raises(
        InputError, match=r"takes 5 classes with at least 4 items .* only 0 of 2 cl"
    ):
        Episodes(np.array([0, 0, 0, 1]), Layout(5, 1, 3))


def test_other_arguments_of_episodes_are_refused():
    with pytest.raises(InputError, match="per_epoch must be at least 1, got 0"):
        Episodes(LABELS, Layout(2, 1, 1), per_epoch=0)
    with pytest.raises(InputError, match="count must be at least 1 episode, got 0"):
        draw_episodes(LABELS, Layout(2, 1, 1), 0)
    with pytest.raises(InputError, match=r"one class number an item \(n,\), got labels of shape"):
        draw_episodes(np.ones((4, 2), bool), Layout(2, 1, 1), 3)


def test_rows_of_another_layout_are_refused():
    layout = Layout(2, 1, 1)
    with pytest.raises(InputError, match=r"whole episodes of 4 rows .* got 6 rows"):
        layout.split(torch.zeros(6, 3))
    for wrong in ([0, 1, 1, 2], [0, 0, 0, 0]):  # a query of no class; one class twice
        with pytest.raises(InputError, match="labels must be laid out class by class"):
            layout.slots(torch.tensor(wrong))
    with pytest.raises(InputError, match="labels must be laid out class by class"):
        Layout(2, 2, 1).slots(torch.tensor([0, 1, 0, 1, 0, 1]))


def task(**changed):
    given = {
        "support": torch.rand(3, 2),
        "support_labels": torch.tensor([0, 1, 1]),
        "queries": torch.rand(2, 2),
        "query_labels": torch.tensor([1, 0]),
        "n_classes": 2,
    }
    return Episode(**given | changed)


def test_a_task_counts_its_support():
    assert task().counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"support_labels": torch.tensor([0, 1, 2])}, r"in 0..1, the slots of 2 classes, got 0..2"),
        ({"support_labels": torch.tensor([0, 1, -1])}, r"in 0..1, the slots .* got -1..1"),
        ({"support_labels": torch.tensor([1, 1, 1])}, r"every class needs .* none of \[0\] of 2"),
        ({"query_labels": torch.tensor([1, 2])}, r"of classes with support, 0..1, got \[2\]"),
        ({"n_classes": 1}, "at least 2 classes, got n_classes=1"),
        ({"queries": torch.rand(0, 2), "query_labels": torch.zeros(0).long()}, "queries must hold"),
        (
            {"queries": torch.rand(2, 3)},
            r"one shape, got \(3, 2\) and \(2, 3\); encode texts of both",
        ),
        ({"support": torch.rand(0, 2)}, "support must hold at least one item, got none"),
        ({"query_labels": torch.tensor([1])}, "query_labels must have one entry for each of 2"),
        (
            {"support_items": torch.tensor([4, 5, 6]), "query_items": torch.tensor([9, 5])},
            r"no item may be support and query of one task.*\[5\] is in",
        ),
    ],
)
def test_tasks_refuse(changed, text):
    """E-A2, E-A3, E-A4 and E-A10 of the specification."""
    with pytest.raises(InputError, match=text):
        task(**changed)
