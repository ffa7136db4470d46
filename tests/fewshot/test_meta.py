"""The meta metric learner against plain gradient descent and autograd; its rules and refusals."""

import copy
import math

import pytest
import torch
from tests.fewshot.meta_cases import learner, network, seeded, task
from torch import nn
from torch.nn import functional as F

from tupelo.errors import InputError, TrainingDiverged
from tupelo.fewshot import (
    Direct,
    Episode,
    FewShot,
    FullContext,
    Matching,
    MetaCell,
    MetaLSTM,
    MetaMetricLearner,
)
from tupelo.fewshot.meta import Matcher, batches_of, can_halve, descend, halve
from tupelo.fewshot.meta_cell import _advance, _State


def test_halves_cover_each_class_and_the_support_has_the_odd_one():
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 1, 1])
    seen = set()
    for seed in range(20):
        halves = halve(labels, 3, seeded(seed))
        assert sorted([*halves.support.tolist(), *halves.training.tolist()]) == list(range(10))
        assert labels[halves.support].bincount().tolist() == [1, 3, 2]
        assert labels[halves.training].bincount().tolist() == [1, 2, 1]
        seen.add(tuple(halves.support.tolist()))
    assert len(seen) > 10


def test_a_class_of_one_item_cannot_be_halved():
    with pytest.raises(InputError, match="class 1 with 1 item; MML needs k>=2 or auxiliary tasks"):
        halve(torch.tensor([0, 0, 1]), 2, seeded())


def test_any_number_of_classes_without_building_anew():
    model = learner()
    for classes in (3, 17):
        given = task([2] * classes)
        assert model.solve(given, seeded()).shape == (2 * classes, classes)
        model.loss(given, seeded()).total.backward()
    assert model.solve(task((2, 5, 3)), seeded()).shape == (6, 3)


@pytest.mark.parametrize("batch", [None, 2])
def test_with_closed_gates_the_updates_are_gradient_descent(batch):
    model = learner(steps=3, batch=batch)
    model.cell.as_descent(0.05)
    given = task((4, 4, 4))
    adapted = model.adapt(given, seeded(5))

    plain = Matcher(network()).train()
    generator = seeded(5)
    torch.randperm(0, generator=generator)
    halves = halve(given.support_labels, 3, generator)
    rows_of = batches_of(halves.training, 3, batch, generator)
    descent = torch.optim.SGD(plain.parameters(), lr=0.05)
    for rows in rows_of:
        answers = plain(
            given.support[halves.support],
            given.support_labels[halves.support],
            given.support[rows],
            3,
        )
        descent.zero_grad()
        F.nll_loss(answers, given.support_labels[rows]).backward()
        descent.step()
    wanted = dict(plain.named_parameters())
    for name, found in model.matcher.weights(adapted.theta).items():
        torch.testing.assert_close(found, wanted[name].detach(), rtol=0, atol=1e-5)
    assert torch.equal(adapted.support, given.support[halves.support])


def test_the_loss_is_differentiated_through_the_updates_with_constant_gradients():
    model = learner(steps=3).double()
    given = doubled(task((4, 4)))
    found = gradients_of(model, model.loss(given, seeded(2)).total)

    generator = seeded(2)
    halves = halve(given.support_labels, 2, generator)
    way, _ = model._descend(model.start.detach(), given, halves, generator)
    theta, state = model.start, _State.zeros(model.cell, model.start)
    for gradient, loss in zip(way.gradients, way.losses, strict=True):
        state, theta = _advance(model.cell, state, theta, gradient, loss)
    final = final_loss(model, theta, given, halves)
    for mine, other in zip(found, gradients_of(model, final), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-12)
    assert found[0].abs().max() > 0  # c_0


def test_the_path_through_the_gradients_is_left_out():
    """With it the gradient of c_0 is another: the rule of first order is not a matter of words."""
    model = learner(steps=2, smooth=True).double()
    given = doubled(task((4, 4)))
    first = gradients_of(model, model.loss(given, seeded(2)).total)[0]
    generator = seeded(2)
    halves = halve(given.support_labels, 2, generator)
    theta, state = model.start, _State.zeros(model.cell, model.start)
    for rows in batches_of(halves.training, 2, None, generator):
        loss = inner_loss(model, theta, given, halves, rows)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        state, theta = _advance(model.cell, state, theta, gradient, loss.detach())
    second = gradients_of(model, final_loss(model, theta, given, halves))[0]
    assert (first - second).abs().max() > 1e-3 * first.abs().max()


def doubled(given):
    return Episode(
        given.support.double(),
        given.support_labels,
        given.queries.double(),
        given.query_labels,
        given.n_classes,
    )


def gradients_of(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [g for g in found if g is not None]


def inner_loss(model, theta, given, halves, rows):
    answers = model.matcher(
        theta,
        model.matcher.fresh_statistics(),
        True,
        given.support[halves.support],
        given.support_labels[halves.support],
        given.support[rows],
        given.n_classes,
    )
    return F.nll_loss(answers, given.support_labels[rows])


def final_loss(model, theta, given, halves):
    answers = model.matcher(
        theta,
        model.matcher.fresh_statistics(),
        True,
        given.support[halves.support],
        given.support_labels[halves.support],
        given.queries,
        given.n_classes,
    )
    return F.nll_loss(answers, given.query_labels)


def test_memory_of_the_loss_holds_no_state_of_the_meta_learner():
    model = learner(steps=4)
    loss = model.loss(task(), seeded()).total
    kept = {tuple(t.shape) for t in saved(loss.grad_fn) if model.matcher.size in t.shape}
    assert (4, model.matcher.size) in kept  # the gradients
    assert max(map(math.prod, kept)) == 4 * model.matcher.size


def saved(node, seen=None):
    seen = set() if seen is None else seen
    if node is None or node in seen:
        return []
    seen.add(node)
    own = [t for t in getattr(node, "saved_tensors", ()) if isinstance(t, torch.Tensor)]
    return own + [t for after, _ in node.next_functions for t in saved(after, seen)]


def test_the_order_of_the_support_matters_only_with_full_context():
    given = task((2, 2, 2))
    for fce, same in ((None, True), (FullContext(3), False)):
        model = learner(Matching(fce=fce))
        one = model.adapt(given, seeded(), eval_support="all")
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        other = copy.copy(one)
        object.__setattr__(other, "support", one.support[order])
        object.__setattr__(other, "labels", one.labels[order])
        close = torch.allclose(
            one.answer(given.queries), other.answer(given.queries), rtol=1e-4, atol=1e-5
        )
        assert close == same


def test_renaming_labels_permutes_the_columns():
    given, model = task((2, 3, 4)), learner()
    new = torch.tensor([2, 0, 1])
    renamed = Episode(
        given.support, new[given.support_labels], given.queries, new[given.query_labels], 3
    )
    one, other = model.solve(given, seeded()), model.solve(renamed, seeded())
    torch.testing.assert_close(other[:, new], one, rtol=1e-4, atol=1e-5)


def test_states_and_weights_begin_anew_with_each_task_and_labels_of_queries_are_not_read():
    given, model = task((4, 4, 4)), learner()
    first = model.solve(given, seeded())
    model.solve(task((2, 2), seed=9), seeded())
    lied = Episode(
        given.support, given.support_labels, given.queries, given.query_labels.flip(0), 3
    )
    assert torch.equal(model.solve(lied, seeded()), first)


def test_normalisation_by_running_statistics_answers_each_query_alone():
    given = task((4, 4))
    for mode, alone in (("inner_running", True), ("transductive", False)):
        adapted = learner(bn_mode=mode).adapt(given, seeded())
        whole, part = adapted.answer(given.queries), adapted.answer(given.queries[:1])
        assert torch.allclose(whole[:1], part, rtol=1e-4, atol=1e-5) == alone


def test_eval_support_chooses_what_queries_are_compared_with():
    given = task((4, 2))
    halves = learner().adapt(given, seeded())
    everything = learner(eval_support="all").adapt(given, seeded())
    assert (len(halves.support), len(everything.support)) == (3, 6)
    assert torch.equal(halves.theta, everything.theta)
    losses = [learner(eval_support=s).loss(given, seeded()).total.item() for s in ("DS", "all")]
    assert losses[0] != losses[1]


def test_legacy_scale_divides_gradients_by_the_batch():
    given, ways = task((4, 4)), []
    for legacy in (False, True):
        model = learner(steps=1, legacy_grad_scale=legacy)
        halves = halve(given.support_labels, 2, seeded())
        ways.append(model._descend(model.start.detach(), given, halves, seeded())[0])
    torch.testing.assert_close(ways[1].gradients, ways[0].gradients / 4)


def test_class_reduce_matters_where_classes_are_unbalanced():
    given = task((2, 8))
    answers = [
        learner(Matching(class_reduce=kind)).unadapted(given).answer(given.queries)
        for kind in ("sum", "mean")
    ]
    assert (answers[0][:, 0] < answers[1][:, 0]).all()


def test_a_one_shot_task_is_answered_with_the_help_of_others():
    given, model = task((1, 1, 2)), learner()
    with pytest.raises(InputError, match="class 0 with 1 item; MML needs k>=2 or auxiliary"):
        model.solve(given, seeded())
    with pytest.raises(InputError, match="class 0 with 1 item; MML needs k>=2 or auxiliary"):
        model.solve(given, seeded(), auxiliary=[task((1, 1), seed=4)])
    others = [task((2, 2), seed=4), task((1, 4), seed=5), task((4, 2, 2), seed=6)]
    adapted = model.adapt(given, seeded(), auxiliary=others)
    assert torch.equal(adapted.support, given.support)
    alone = [model.adapt(given, seeded(), auxiliary=[others[i]]).theta for i in (0, 2)]
    assert not any(torch.equal(adapted.theta, theta) for theta in alone)
    assert model.solve(given, seeded(), auxiliary=others).shape == (6, 3)


def test_auxiliary_tasks_come_first_in_random_order_and_the_task_last():
    given = task((2, 2))
    others = [task((2, 2), seed=seed) for seed in (4, 5, 6)]
    model, seen = learner(), []
    inner = model._descend

    def watched(start, each, halves, generator):
        seen.append(next(i for i, known in enumerate([*others, given]) if known is each))
        return inner(start, each, halves, generator)

    model._descend = watched
    orders = set()
    for seed in range(8):
        seen.clear()
        model.adapt(given, seeded(seed), auxiliary=others)
        assert seen[-1] == 3
        assert sorted(seen) == [0, 1, 2, 3]
        orders.add(tuple(seen))
    assert len(orders) > 2
    seen.clear()
    model.adapt(given, seeded(), auxiliary=others, passes=2)
    assert len(seen) == 7


def test_statistics_are_the_tasks_own_even_after_other_tasks():
    given, model = task((1, 1)), learner()
    adapted = model.adapt(given, seeded(), auxiliary=[task((2, 2), seed=4)])
    wanted = model.matcher.measured(
        adapted.theta, given.support, given.support_labels, given.support, 2
    )
    assert all(torch.equal(adapted.statistics[name], value) for name, value in wanted.items())


def permuted(given, order):
    return Episode(
        given.support[order],
        given.support_labels[order],
        given.queries,
        given.query_labels,
        given.n_classes,
    )


def test_the_order_of_a_support_that_is_not_divided_does_not_matter():
    given, model = task((1, 1, 2)), learner()
    other = permuted(given, torch.tensor([2, 0, 3, 1]))
    for answers in (
        lambda each: model.solve(each, seeded(), auxiliary=[task((2, 2), seed=4)]),
        lambda each: model.unadapted(each).answer(each.queries),
    ):
        torch.testing.assert_close(answers(other), answers(given), rtol=1e-4, atol=1e-5)


def dropping():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 3, 3, stride=4), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout(0.5)
    return FewShot(nn.Sequential(*layers, nn.Flatten()), Matching())


@pytest.mark.parametrize("mode", ["inner_running", "transductive"])
def test_answers_drop_nothing_and_leave_a_learner_as_it_was(mode):
    given = task((2, 2))
    adapted = MetaMetricLearner(dropping(), steps=1, bn_mode=mode).adapt(given, seeded())
    direct = Direct(dropping(), bn_mode=mode)
    direct.matcher.network.encoder.eval()
    before = copy.deepcopy(direct.state_dict()), copy.deepcopy(adapted.statistics)
    for answers in (lambda: adapted.answer(given.queries), lambda: direct.solve(given, seeded())):
        assert torch.equal(answers(), answers())
    for kept, now in zip(before, (direct.state_dict(), adapted.statistics), strict=True):
        assert all(torch.equal(value, now[name]) for name, value in kept.items())
    assert direct.matcher.training
    assert not direct.matcher.network.encoder.training


def test_what_updates_drop_follows_from_the_generator():
    given = task((2, 2))
    for model in (
        MetaMetricLearner(dropping(), steps=2),
        MetaLSTM(with_width(dropping().encoder), 2, steps=2),
    ):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = model.solve(given, seeded(3))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert torch.equal(model.solve(given, seeded(3)), first)


def with_width(encoder):
    encoder.num_features = 48
    return encoder


def test_c_0_may_stay_at_random():
    model = learner()
    model.start.requires_grad_(False)
    model.loss(task(), seeded()).total.backward()
    assert model.start.grad is None
    assert all(p.grad is not None for p in model.cell.parameters())


def test_batches_pass_over_all_rows():
    rows = torch.arange(10, 15)
    found = batches_of(rows, 4, 2, seeded())
    assert [len(each) for each in found] == [2, 2, 1, 2]
    assert sorted(torch.cat(found[:3]).tolist()) == rows.tolist()
    assert all(torch.equal(each, rows) for each in batches_of(rows, 3, None, seeded()))


def test_can_halve():
    assert can_halve(task((2, 3)))
    assert not can_halve(task((2, 1)))


def test_what_is_not_finite_is_named():
    cell = MetaCell(2)
    with pytest.raises(TrainingDiverged, match="the loss became nan at update 2 of 3"):
        descend(cell, torch.ones(2), rising([1.0, float("nan"), 1.0]), [torch.arange(1)] * 3)
    with pytest.raises(TrainingDiverged, match="gradient became NaN or infinite at update 1 of 1"):
        descend(cell, torch.zeros(2), lambda theta, rows: theta.sqrt().sum(), [torch.arange(1)])


def rising(values):
    given = iter(values)
    return lambda theta, rows: theta.sum() * next(given)


def test_a_task_that_diverges_among_the_auxiliary_ones_is_named():
    bad = task((2, 2), seed=4)
    object.__setattr__(bad, "support", bad.support * float("nan"))
    with pytest.raises(TrainingDiverged, match="auxiliary task 0: the loss became nan at update 1"):
        learner().adapt(task(), seeded(), auxiliary=[bad])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1 update, got 0"),
        ({"batch": 0}, "batch must be at least 1 item, or None for all, got 0"),
        ({"bn_mode": "batch"}, "bn_mode must be one of .*'transductive'.*got 'batch'"),
        ({"eval_support": "DT"}, "eval_support must be one of .*'all'.*got 'DT'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        MetaMetricLearner(network(), **options)


def test_options_of_adapt_are_checked():
    model, others = learner(), [task((2, 2), seed=4)]
    with pytest.raises(InputError, match="passes must be at least 1, got 0"):
        model.adapt(task((1, 1)), seeded(), auxiliary=others, passes=0)
    with pytest.raises(InputError, match=r"eval_support must be one of .*'all'.*got 'ds'"):
        model.adapt(task(), seeded(), eval_support="ds")


def test_a_network_without_a_head_is_refused():
    with pytest.raises(InputError, match=r"network must embed items.* got Linear"):
        MetaMetricLearner(torch.nn.Linear(2, 2))


def test_the_direct_learner_answers_as_its_head_does():
    one, given = network(), task((2, 3))
    model = Direct(one)
    one.eval()
    rows = one(torch.cat([given.support, given.queries])).raw
    wanted = one.head(rows[None, :5], given.support_labels[None], rows[None, 5:], ways=2)[0]
    torch.testing.assert_close(model.solve(given, seeded()), wanted, rtol=1e-4, atol=1e-5)
    assert model.loss(given, seeded()).total.requires_grad
    with pytest.raises(InputError, match="auxiliary tasks are for models that adapt"):
        model.solve(given, seeded(), auxiliary=[given])


def test_the_direct_learner_trains_with_the_statistics_of_the_batch():
    one, given = network(), task((2, 3))
    Direct(one).matcher.eval()
    wanted = copy.deepcopy(one).train()
    rows = wanted(torch.cat([given.support, given.queries])).raw
    logits = one.head(rows[None, :5], given.support_labels[None], rows[None, 5:], ways=2)[0]
    loss = Direct(one).loss(given, seeded()).total
    torch.testing.assert_close(loss, F.cross_entropy(logits, given.query_labels))
    for mine, other in zip(one.buffers(), wanted.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


def test_queries_of_the_direct_learner_are_normalised_as_asked():
    given = task((2, 3))
    answers = [Direct(network(), bn_mode=m).solve(given, seeded())
               for m in ("inner_running", "transductive")]  # fmt: skip
    assert not torch.allclose(*answers)
