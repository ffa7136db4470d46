import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot import LargeMargin, Layout, graph_triplets, large_margin, prototype_triplets

GRAPHS = Layout(5, 5, 1, per_batch=40, query_ways=1)
PROTOTYPES = Layout(20, 5, 15)


def points(table, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(table.points, d, generator=generator, dtype=torch.float64)


def naive_hinges(rows, table, margin):
    return [
        max(
            0.0, float(((rows[a] - rows[p]) ** 2).sum() - ((rows[a] - rows[n]) ** 2).sum()) + margin
        )
        for a, p, n in table.triplets.tolist()
    ]


def test_published_numbers_of_triplets():
    assert len(prototype_triplets(PROTOTYPES)) == len(prototype_triplets(PROTOTYPES).triplets)
    assert len(prototype_triplets(PROTOTYPES)) == 40_000
    assert len(graph_triplets(GRAPHS)) == 25_000


def slots_of_points(layout):
    """As the head gives the points: graph by graph, the query first."""
    support = np.arange(layout.ways).repeat(layout.shots)
    unlabelled = np.arange(layout.support) % layout.shots < layout.unlabelled
    one = np.concatenate([[-1], np.where(unlabelled, -1, support)])
    return np.tile(one, layout.per_batch * layout.asked)


@pytest.mark.parametrize(
    "layout",
    [
        GRAPHS,
        Layout(5, 1, 1, per_batch=8, query_ways=1),
        Layout(3, 4, 1, per_batch=3, unlabelled=2),
        Layout(3, 2, 2, per_batch=2),
    ],
)
def test_nodes_of_a_slot_are_of_one_class_in_all_graphs(layout):
    table = graph_triplets(layout)
    slots = slots_of_points(layout)
    assert table.points == len(slots)
    anchor, positive, negative = table.triplets.T
    assert (slots[anchor] == slots[positive]).all()
    assert (slots[anchor] != slots[negative]).all()
    assert (slots[table.triplets] >= 0).all()  # no query, nothing unlabelled
    assert set(table.anchors.tolist()) == set(np.flatnonzero(slots >= 0).tolist())
    node, graph = anchor % (1 + layout.support), anchor // (1 + layout.support)
    other, of = positive % (1 + layout.support), positive // (1 + layout.support)
    same_item = (node == other) & (graph // layout.asked == of // layout.asked)
    assert not same_item.any()
    assert (of != graph).any()  # positives come from other episodes too


def test_one_shot_has_its_positives_in_other_episodes():
    table = graph_triplets(Layout(5, 1, 1, per_batch=6, query_ways=1))
    anchor, positive, _ = table.triplets.T
    assert (anchor // 6 != positive // 6).all()


def test_one_shot_of_one_episode_is_refused():
    for layout in (Layout(5, 1, 1, query_ways=1), Layout(5, 1, 3)):
        with pytest.raises(InputError, match="1-shot L-GNN needs at least 2 episodes per batch"):
            graph_triplets(layout)


@pytest.mark.parametrize("layout", [PROTOTYPES, Layout(3, 1, 2), Layout(4, 2, 3, per_batch=2)])
def test_rows_of_a_class_are_of_one_episode(layout):
    table = prototype_triplets(layout)
    labels = np.concatenate(
        [np.arange(layout.ways).repeat(layout.shots), np.arange(layout.ways).repeat(layout.queries)]
    )
    labels = np.concatenate([labels + 1000 * e for e in range(layout.per_batch)])
    assert (table.anchors == np.arange(layout.batch_size)).all()
    anchor, positive, negative = table.triplets.T
    assert (labels[anchor] == labels[positive]).all()
    assert (anchor != positive).all()
    assert (labels[anchor] != labels[negative]).all()
    assert (labels[anchor] // 1000 == labels[negative] // 1000).all()


def test_none_is_drawn_twice_while_there_are_enough():
    enough = prototype_triplets(PROTOTYPES)  # 19 others of the class, 10 positives
    assert all(len(set(row)) == 10 for row in enough.positives.tolist())
    few = prototype_triplets(Layout(4, 1, 5))  # 5 others
    assert all(set(row) == set(row[:5]) and len(set(row)) == 5 for row in few.positives.tolist())
    assert len(few) == 24 * 100
    assert all(len(set(row)) == 10 for rows in enough.negatives.tolist() for row in rows)


def test_the_seed_decides():
    first, twin, other = (prototype_triplets(Layout(3, 2, 2), seed=s).triplets for s in (1, 1, 2))
    assert np.array_equal(first, twin)
    assert not np.array_equal(first, other)


def test_tables_refuse():
    with pytest.raises(InputError, match="positives and negatives must be at least 1, got 0 and 5"):
        graph_triplets(GRAPHS, positives=0)
    for layout in (Layout(3, 2, 1, unlabelled=1), Layout(3, 2, 1, query_ways=1)):
        with pytest.raises(InputError, match="leave unlabelled and query_ways out"):
            prototype_triplets(layout)


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize("normalised", [False, True])
def test_the_loss_as_in_a_loop(dense, normalised, monkeypatch):
    monkeypatch.setattr(large_margin, "DENSE_UP_TO", dense)
    table = prototype_triplets(Layout(3, 2, 2), positives=2, negatives=3)
    rows = points(table)
    value = LargeMargin(table, margin=2.0, normalised=normalised)(rows)
    hinges = naive_hinges(F.normalize(rows, dim=1) if normalised else rows, table, 2.0)
    assert float(value.total) == pytest.approx(np.mean(hinges), rel=1e-12)
    assert value.statistics["active"] == pytest.approx(np.mean([h > 0 for h in hinges]))


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize(
    "table", [prototype_triplets(Layout(3, 2, 2)), graph_triplets(Layout(3, 2, 1))]
)
def test_gradient_when_every_hinge_is_active(table, dense, monkeypatch):
    """-(2|S_s|/N_t)(c_s - f_i) - (2|S_d|/N_t)(f_i - c_d), from the paper."""
    monkeypatch.setattr(large_margin, "DENSE_UP_TO", dense)
    rows = points(table).requires_grad_()
    LargeMargin(table, margin=1e4)(rows).total.backward()
    f, triplets = rows.detach(), table.triplets
    for i in range(table.points):
        same, different = [], []
        for a, p, n in triplets.tolist():
            if i in (a, p):
                same.append(f[p if i == a else a])
            if i in (a, n):
                different.append(f[n if i == a else a])
        expected = torch.zeros_like(f[i])
        if same:
            expected -= 2 * len(same) / len(triplets) * (torch.stack(same).mean(0) - f[i])
        if different:
            expected -= 2 * len(different) / len(triplets) * (f[i] - torch.stack(different).mean(0))
        assert rows.grad is not None
        torch.testing.assert_close(rows.grad[i], expected)


def test_gradients():
    table = prototype_triplets(Layout(2, 2, 1), positives=2, negatives=2)
    for normalised in (False, True):
        loss = LargeMargin(table, margin=0.7, normalised=normalised)
        assert torch.autograd.gradcheck(
            lambda rows, loss=loss: loss(rows).total, points(table).requires_grad_()
        )


def test_the_loss_is_the_margin_where_positive_and_negative_coincide():
    table = prototype_triplets(Layout(3, 2, 2))
    assert LargeMargin(table, margin=3.25)(torch.ones(table.points, 4)).total == 3.25
    # far from the origin, in float32, where squares of lengths would cancel
    far = torch.full((table.points, 64), 300.0)
    assert LargeMargin(table, margin=3.25)(far).total == 3.25


def test_inactive_triplets_count():
    """Two classes far apart but one pair: the mean is over all triplets, not over those left."""
    layout = Layout(2, 1, 1)
    table = prototype_triplets(layout, positives=1, negatives=1)
    rows = torch.tensor([[0.0], [10.0], [0.0], [5.0]])  # classes 0, 1, 0, 1
    hinges = naive_hinges(rows, table, 1.0)
    assert 0 < sum(h > 0 for h in hinges) < len(hinges)
    value = LargeMargin(table, margin=1.0)(rows)
    assert float(value.total) == pytest.approx(sum(hinges) / len(table))


def test_the_rule_is_half_the_mean_length_of_the_first_batch():
    table = prototype_triplets(Layout(3, 2, 2))
    loss = LargeMargin(table)
    first = points(table)
    loss(first)
    expected = 0.5 * first.norm(dim=1).mean()
    assert float(loss.present_margin) == pytest.approx(float(expected), rel=1e-12)
    value = loss(7 * points(table, seed=1))
    assert value.statistics["margin"] == pytest.approx(float(expected))  # never anew
    unit = LargeMargin(table, normalised=True)
    unit(first)
    assert float(unit.present_margin) == pytest.approx(0.5)


def test_the_rule_waits_for_training():
    """Running statistics at the start are not those of a batch, so neither are the points."""
    table = prototype_triplets(Layout(3, 2, 2))
    loss, rows = LargeMargin(table).eval(), points(table)
    half = 0.5 * rows.norm(dim=1).mean()
    assert loss(rows).statistics["margin"] == pytest.approx(float(half))
    assert math.isnan(loss.present_margin)
    assert loss.train()(3 * rows).statistics["margin"] == pytest.approx(3 * float(half))


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_rule_that_gives_no_margin_is_refused(value):
    table = prototype_triplets(Layout(3, 2, 2))
    with pytest.raises(InputError, match=f"margin='rule' must come to a finite .* got {value}"):
        LargeMargin(table)(torch.full((12, 3), value))


def test_the_margin_of_the_rule_is_kept_with_the_state():
    table = prototype_triplets(Layout(3, 2, 2))
    loss, twin = LargeMargin(table), LargeMargin(table)
    loss(points(table))
    twin.load_state_dict(loss.state_dict())
    assert twin(9 * points(table)).statistics["margin"] == float(loss.present_margin)
    assert math.isnan(LargeMargin(table).present_margin)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf, "ten"])
def test_margins_are_checked(margin):
    table = prototype_triplets(Layout(3, 2, 2))
    with pytest.raises(InputError, match="margin must be 'rule' or a finite number > 0"):
        LargeMargin(table, margin=margin)


def test_points_are_checked():
    table = prototype_triplets(Layout(3, 2, 2))
    with pytest.raises(InputError, match=r"chosen for 12 points .* got 11; make the table"):
        LargeMargin(table)(torch.rand(11, 3))
    with pytest.raises(InputError, match="must not all be zero where they are normalised"):
        LargeMargin(table, normalised=True)(torch.zeros(12, 3))
    one_zero = torch.eye(12, 12)
    one_zero[0] = 0
    one_zero.requires_grad_()
    LargeMargin(table, normalised=True)(one_zero).total.backward()
    assert one_zero.grad is not None
    assert one_zero.grad.isfinite().all()
