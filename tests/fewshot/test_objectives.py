import copy
import math

import pytest
import torch
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot import (
    FewShot,
    FullContext,
    GraphHead,
    LargeMargin,
    Layout,
    Matching,
    OnEpisodes,
    Prototypical,
    conv4,
    graph_triplets,
    prototype_triplets,
)
from tupelo.types import Embedded

LAYOUT = Layout(3, 2, 2, per_batch=2)
LABELS = torch.tensor([5, 5, 1, 1, 8, 8, 5, 5, 1, 1, 8, 8, 0, 0, 2, 2, 9, 9, 0, 0, 2, 2, 9, 9])


def output(d=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return Embedded.of(torch.randn(24, d, generator=generator, dtype=dtype).requires_grad_())


def objective(**options):
    return OnEpisodes(Prototypical(), LAYOUT, **options)


def margin(**options):
    return LargeMargin(prototype_triplets(LAYOUT), margin=2.0, **options)


def test_the_loss_is_the_mean_over_all_queries():
    given = output()
    rows, losses, right = given.raw.detach(), [], []
    for episode in rows.view(2, 12, 4):
        prototypes = episode[:6].view(3, 2, 4).mean(1)
        for place, query in enumerate(episode[6:]):
            logits = -((query - prototypes) ** 2).sum(1)
            losses.append(-logits.log_softmax(0)[place // 2])
            right.append(float(logits.argmax() == place // 2))
    value = objective()(given, LABELS)
    torch.testing.assert_close(value.total, torch.stack(losses).mean())
    assert value.statistics["accuracy"] == pytest.approx(sum(right) / 12)


def test_parts_add_up():
    value = objective(margin=margin(), weight=0.5)(output(), LABELS)
    assert set(value.parts) == {"episodes", "margin"}
    torch.testing.assert_close(sum(value.parts.values()), value.total.detach())
    bare = objective()(output(), LABELS)
    alone = margin()(output().raw)
    torch.testing.assert_close(value.total, bare.total + 0.5 * alone.total)
    assert value.statistics["margin/weight"] == 0.5


def test_weight_zero_is_the_baseline_bit_for_bit():
    results = []
    for options in ({}, {"margin": margin(), "weight": 0.0}):
        given = output(dtype=torch.float32)
        value = objective(**options)(given, LABELS)
        results.append((value.total, *torch.autograd.grad(value.total, given.raw)))
    assert all(map(torch.equal, *results))


def test_the_weight_rises_from_the_first_step_on():
    made = objective(margin=margin(), weight=2.0, warmup_steps=4)
    weights = [made(output(), LABELS).statistics["margin/weight"] for _ in range(6)]
    assert weights == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    with torch.no_grad():  # looking at the loss is no step
        before = int(made.steps)
        made(output(), LABELS)
    assert int(made.steps) == before


def test_the_rule_sees_the_first_step_in_warm_up():
    made = objective(margin=LargeMargin(prototype_triplets(LAYOUT)), warmup_steps=100)
    made(output(), LABELS)
    expected = output().raw.detach().norm(dim=1).mean() / 2
    assert made.margin is not None
    assert float(made.margin.present_margin) == pytest.approx(float(expected))


def test_another_loss_of_the_answers():
    value = objective(loss=F.multi_margin_loss)(output(), LABELS)
    assert value.total != objective()(output(), LABELS).total


def test_the_head_belongs_to_the_model_alone():
    model = FewShot(conv4(width=2), Matching(fce=FullContext(2)))
    made = OnEpisodes(model.head, LAYOUT)
    assert made.parameter_groups() == []
    value = made(model(torch.rand(24, 1, 28, 28)), LABELS)
    value.total.backward()
    assert all(p.grad is not None for p in model.head.parameters())
    again, copied = copy.deepcopy((model, made))
    assert copied.head is again.head
    assert again.head is not model.head
    with pytest.raises(InputError, match="must be copied together with its model"):
        copy.deepcopy(made)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_are_checked(weight):
    with pytest.raises(InputError, match="weight must be a finite number >= 0"):
        objective(weight=weight)


def test_refusals():
    with pytest.raises(InputError, match="warmup_steps must be >= 0, got -1"):
        objective(warmup_steps=-1)
    with pytest.raises(InputError, match=r"the margin was made for batches of Layout\(ways=3, sho"):
        OnEpisodes(Prototypical(), Layout(3, 2, 3), margin=margin())
    with pytest.raises(InputError, match="labels must be laid out class by class"):
        objective()(output(), LABELS.roll(1))
    items = torch.arange(24)
    items[7] = 0
    with pytest.raises(InputError, match=r"an item must occur once in an episode.*\[0\] twice"):
        objective()(output(), LABELS, items=items)
    items[7], items[13] = 7, 0  # in two episodes it may
    objective()(output(), LABELS, items=items)


def test_a_table_of_nodes_is_for_graph_heads_and_one_of_rows_for_others():
    layout = Layout(5, 1, 1, per_batch=2, query_ways=1)
    nodes = graph_triplets(layout)
    assert nodes.points == layout.batch_size  # so that their number alone tells nothing
    with pytest.raises(InputError, match="of nodes of graphs, which Prototypical does not give"):
        OnEpisodes(Prototypical(), layout, margin=LargeMargin(nodes))
    OnEpisodes(GraphHead(4, 5), layout, margin=LargeMargin(nodes))
    rows = prototype_triplets(LAYOUT)
    with pytest.raises(InputError, match=r"is of rows, .*GraphHead.*make it with graph_triplet"):
        OnEpisodes(GraphHead(4, 3), LAYOUT, margin=LargeMargin(rows))
