import io

import pytest
import torch

from tupelo import losses
from tupelo.comparison import Comparison, GivenPairs
from tupelo.errors import InputError
from tupelo.objectives import (
    Memory,
    Misplaced,
    OnBalancedPairs,
    OnClasses,
    OnPairs,
    OnTuples,
    PerLearner,
    Sum,
)
from tupelo.selection import AllTuples, PerAnchor
from tupelo.types import Embedded

WIDTH = 4
COMPARING = {
    "pairs": lambda: OnPairs(losses.NTXent()),
    "easy positives": lambda: OnPairs(losses.MultiSimilarity(), positives="easiest"),
    "raw rows": lambda: OnPairs(losses.NPairs(), normalize=False),
    "tuples": lambda: OnTuples(AllTuples(), losses.Triplet()),
    "drawn tuples": lambda: OnTuples(PerAnchor("random", "distance-weighted"), losses.Margin(8)),
}
comparing = pytest.mark.parametrize("build", COMPARING.values(), ids=COMPARING)


def steps(n, seed=0, b=8, items=40):
    """Batches of rows, labels and identities; identities come back in later batches."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        item = torch.randperm(items, generator=generator)[:b]
        raw = torch.randn(b, WIDTH, generator=generator)
        yield Embedded.of(raw), item % 4, item


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@comparing
def test_memory_is_as_if_the_candidates_were_concatenated(build):
    objective, size = build(), 20
    memory = Memory(objective, size, WIDTH)
    kept_rows, kept_labels, kept_items = torch.empty(0, WIDTH), torch.empty(0), torch.empty(0)
    for step, (output, labels, items) in enumerate(steps(6)):
        value = memory(output, labels, items=items, generator=seeded(step))
        rows = objective.rows(output)
        all_items = torch.cat([items, kept_items])
        same = labels[:, None] == torch.cat([labels, kept_labels])
        other = items[:, None] != all_items
        whole = Comparison(
            rows, torch.cat([rows, kept_rows]), same & other, ~same & other, anchor_labels=labels
        )
        want = objective.on(whole, seeded(step)).total
        assert value.total.item() == pytest.approx(want.item(), rel=1e-5)
        assert value.statistics["remembered"] == len(kept_rows)
        # the queue is a ring: where it is full the oldest make room, in place
        at = [(8 * step + i) % size for i in range(8)]
        if len(kept_rows) < size:
            grow = max(0, min(8 * (step + 1), size) - len(kept_rows))
            kept_rows = torch.cat([kept_rows, torch.empty(grow, WIDTH)])
            kept_labels = torch.cat([kept_labels, torch.empty(grow)])
            kept_items = torch.cat([kept_items, torch.empty(grow)])
        kept_rows[at], kept_labels[at], kept_items[at] = rows, labels.float(), items.float()


def test_memory_starts_empty_and_waits():
    plain, memory = OnPairs(losses.NTXent()), Memory(OnPairs(losses.NTXent()), 16, WIDTH)
    waiting = Memory(OnPairs(losses.NTXent()), 16, WIDTH, start_after=2)
    for step, (output, labels, items) in enumerate(steps(4)):
        alone = plain(output, labels, items=items).total
        assert torch.equal(waiting(output, labels, items=items).total, alone) == (step < 2)
        assert torch.equal(memory(output, labels, items=items).total, alone) == (step < 1)


def test_remembered_rows_get_no_gradient_but_the_batch_does():
    memory = Memory(OnPairs(losses.Contrastive(0.0, 2.0)), 16, WIDTH)
    first, second = (torch.randn(6, WIDTH, requires_grad=True) for _ in range(2))
    labels = torch.arange(6) // 2
    memory(Embedded.of(first), labels)
    memory(Embedded.of(second), labels).total.backward()
    assert first.grad is None
    assert second.grad.abs().sum() > 0


def test_an_item_is_never_its_own_remembered_positive():
    memory = Memory(OnPairs(losses.NTXent()), 16, WIDTH)
    seen = []
    memory.objective.on = lambda comparison, generator: (
        seen.append(comparison) or OnPairs(losses.NTXent()).on(comparison, generator)
    )
    output, labels = Embedded.of(torch.randn(6, WIDTH)), torch.arange(6) // 3
    memory(output, labels, items=torch.arange(6))
    memory(output, labels, items=torch.arange(6))
    assert torch.equal(seen[1].positive[:, 6:], seen[1].positive[:, :6])
    assert not seen[1].positive[:, 6:].diagonal().any()
    assert not seen[1].negative[:, 6:].diagonal().any()


@comparing
def test_a_restored_memory_continues_identically(build):
    torch.manual_seed(0)
    run = list(steps(6))
    memory = Memory(build(), 20, WIDTH, start_after=1)
    for output, labels, items in run[:4]:
        memory(output, labels, items=items, generator=seeded())
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    restored = Memory(build(), 20, WIDTH, start_after=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for output, labels, items in run[4:]:
        want = memory(output, labels, items=items, generator=seeded()).total
        got = restored(output, labels, items=items, generator=seeded()).total
        assert torch.equal(got, want)


def test_memory_of_tags_and_of_given_pairs():
    tags = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]]).bool()
    memory = Memory(OnPairs(losses.NTXent()), 8, WIDTH, tags=3)
    output = Embedded.of(torch.randn(4, WIDTH))
    for _ in range(3):
        value = memory(output, tags, items=torch.arange(4))
    assert value.statistics["remembered"] == 8
    relation = GivenPairs(similar=[(0, 1)], dissimilar=[(0, 2), (1, 3)])
    memory = Memory(OnPairs(losses.NTXent(), relation=relation), 8, WIDTH)
    for _ in range(2):
        value = memory(output, torch.arange(4), items=torch.arange(4))
    assert torch.isfinite(value.total)


def test_large_labels_are_remembered_exactly():
    memory = Memory(OnPairs(losses.NTXent()), 8, WIDTH)
    labels = torch.tensor([2**62, 2**62, 2**62 + 1, 16_777_217])
    memory(Embedded.of(torch.randn(4, WIDTH)), labels)
    assert memory.labels[:4].tolist() == labels.tolist()


def test_a_batch_larger_than_the_memory_leaves_its_last_rows():
    memory = Memory(OnPairs(losses.NTXent()), 3, WIDTH)
    output = Embedded.of(torch.randn(8, WIDTH))
    memory(output, torch.arange(8) // 2, items=torch.arange(8))
    assert sorted(memory.items.tolist()) == [5, 6, 7]


def test_memory_refuses_what_it_cannot_keep():
    with pytest.raises(InputError, match="size must be >= 1 rows, got 0"):
        Memory(OnPairs(losses.NTXent()), 0, WIDTH)
    memory = Memory(OnPairs(losses.NTXent()), 8, WIDTH)
    with pytest.raises(InputError, match=r"got width 5 with class indices; set dim and tags"):
        memory(Embedded.of(torch.randn(4, 5)), torch.arange(4) // 2)
    with pytest.raises(InputError, match=r"keeps .* with class indices, got width 4 with 2 tags"):
        memory(Embedded.of(torch.randn(4, WIDTH)), torch.ones(4, 2).bool())
    for unnumbered in (["a", "a", "b", "b"], [{"a"}, {"a"}, {"b"}, {"b"}], [2**70] * 4):
        with pytest.raises(InputError, match="would be numbered anew in every batch"):
            memory(Embedded.of(torch.randn(4, WIDTH)), unnumbered)
    tagged = Memory(OnPairs(losses.NTXent()), 8, WIDTH, tags=3)
    with pytest.raises(InputError, match="with 3 tags, got width 4 with 2 tags"):
        tagged(Embedded.of(torch.randn(4, WIDTH)), torch.ones(4, 2).bool())


def test_boundaries_of_classes_know_integer_labels_of_any_kind():
    loss = losses.Margin(2)
    with torch.no_grad():
        loss.beta.copy_(torch.tensor([0.5, 1.5]))
    objective = OnTuples(PerAnchor("easiest", "hardest"), loss)
    output, labels = Embedded.of(torch.randn(4, WIDTH)), torch.tensor([0, 0, 1, 1])
    want = objective(output, labels).total
    for same in (labels.tolist(), labels.numpy(), labels.to(torch.uint8), labels.bool()):
        assert torch.equal(objective(output, same).total, want)
    with pytest.raises(InputError, match=r"needs class indices .* got none"):
        objective(output, ["a", "a", "b", "b"])
    points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])  # labels that only a relation understands
    near = lambda a, c: (a - c.T).abs() < 1  # noqa: E731
    objective = OnTuples(PerAnchor("easiest", "hardest"), losses.Margin(), relation=near)
    assert torch.isfinite(objective(output, points).total)


def test_sum_adds_weighted_parts_under_their_names():
    torch.manual_seed(0)
    pairs, classes = OnPairs(losses.NTXent()), OnClasses(losses.CosFace(4, WIDTH))
    both = Sum({"pairs": pairs, "classes": classes}, {"classes": 0.25})
    output, labels, _ = next(steps(1))
    value = both(output, labels)
    want = pairs(output, labels).total + 0.25 * classes(output, labels).total
    assert value.total.item() == pytest.approx(want.item())
    assert sorted(value.parts) == ["classes/loss", "pairs/loss"]
    assert sum(p.item() for p in value.parts.values()) == pytest.approx(value.total.item())
    assert set(value.statistics) == {"classes/active", "pairs/active"}


@pytest.mark.parametrize(
    ("objectives", "weights"),
    [({}, None), ({"a": OnPairs(losses.NTXent())}, {"b": 1.0})],
)
def test_sum_refuses_weights_of_nothing(objectives, weights):
    with pytest.raises(InputError, match="weights must name objectives that exist"):
        Sum(objectives, weights)


def test_per_learner_averages_independent_copies():
    torch.manual_seed(0)
    ensemble = PerLearner(OnClasses(losses.NormalizedSoftmax(4, WIDTH)), 3)
    outputs = tuple(output for output, _, _ in steps(3))
    _, labels, _ = next(steps(1))
    with torch.no_grad():
        ensemble.objectives[1].loss.proxies.mul_(-1)
    single = [o(z, labels).total for o, z in zip(ensemble.objectives, outputs, strict=True)]
    value = ensemble(outputs, labels)
    assert value.total.item() == pytest.approx(torch.stack(single).mean().item())
    assert sorted(value.parts) == [f"learner{i}/loss" for i in range(3)]


def test_per_learner_takes_one_objective_each_and_may_add_them_up():
    pairs = [OnPairs(losses.NTXent(scale)) for scale in (0.1, 0.5)]
    outputs = tuple(output for output, _, _ in steps(2))
    _, labels, _ = next(steps(1))
    single = [o(z, labels).total for o, z in zip(pairs, outputs, strict=True)]
    value = PerLearner(pairs, reduction="sum")(outputs, labels)
    assert value.total.item() == pytest.approx(torch.stack(single).sum().item())
    assert sum(value.parts.values()).item() == pytest.approx(value.total.item())


def test_per_learner_refuses_another_number_of_outputs():
    one = OnPairs(losses.NTXent())
    for wrong in ((one, 0), (one,), ([one], 2), ([],)):
        with pytest.raises(InputError, match="learners must be >= 1, and as many as"):
            PerLearner(*wrong)
    with pytest.raises(InputError, match="reduction must be 'mean' or 'sum', got 'max'"):
        PerLearner(one, 2, reduction="max")
    output, labels, _ = next(steps(1))
    for outputs, came in ((output, "one"), ((output,), "1")):
        with pytest.raises(InputError, match=f"must return 2 embeddings, .* got {came}"):
            PerLearner(OnPairs(losses.NTXent()), 2)(outputs, labels)


def test_epochs_reach_every_wrapped_objective():
    called = []
    inner = [OnPairs(losses.NTXent()) for _ in range(2)]
    for one in inner:
        one.begin_epoch = lambda embed: called.append("begin")
        one.end_epoch = lambda: called.append("end")
    both = Sum({"a": inner[0], "b": inner[1]})
    both.begin_epoch(lambda: iter(()))
    both.end_epoch()
    assert called == ["begin", "begin", "end", "end"]
    ensemble = PerLearner(OnPairs(losses.NTXent()), 2)
    for one in ensemble.objectives:
        one.begin_epoch = lambda embed: called.append("learner")
        one.end_epoch = lambda: called.append("learner ends")
    ensemble.begin_epoch(lambda: iter(()))
    ensemble.end_epoch()
    assert called[4:] == ["learner"] * 2 + ["learner ends"] * 2


def test_parameter_groups_have_their_own_rate_and_no_decay():
    both = Sum(
        {
            "margin": Memory(OnTuples(PerAnchor(), losses.Margin(4)), 8, WIDTH),
            "classes": OnClasses(losses.CosFace(4, WIDTH, learning_rate=0.5)),
            "pairs": OnPairs(losses.NTXent()),
        }
    )
    groups = both.parameter_groups()
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(5e-4, 0.0), (0.5, 0.0)]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in both.parameters()}


MISPLACED = {
    "class loss on pairs": (lambda: OnPairs(losses.CosFace(4, 4)), "takes a PairLoss, got CosFace"),
    "class loss with easy positives": (
        lambda: OnPairs(losses.ProxyNCA(4, 4), positives="easiest"),
        "class losses, which know no positive items to choose from, into OnClasses",
    ),
    "class loss on tuples": (
        lambda: OnTuples(PerAnchor("easiest"), losses.ArcFace(4, 4)),
        "OnTuples takes a TupleLoss, got ArcFace",
    ),
    "pair loss on classes": (lambda: OnClasses(losses.NTXent()), "takes a ClassLoss, got NTXent"),
}


@pytest.mark.parametrize(("build", "message"), MISPLACED.values(), ids=MISPLACED)
def test_a_loss_of_another_kind_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_class_losses_refuse_names_as_labels():
    objective = OnClasses(losses.ProxyNCA(2, 3))
    with pytest.raises(InputError, match=r"class indices .* numbered once for the whole data set"):
        objective(Embedded.of(torch.randn(2, 3)), ["cat", "dog"])


def test_negatives_of_a_pair_loss_need_positives():
    with pytest.raises(InputError, match="so positives must name a rule too"):
        OnPairs(losses.Contrastive(), negatives="semi-hard")
    objective = OnPairs(losses.Contrastive(0.0, 2.0), positives="easiest", negatives="hardest")
    output, labels = Embedded.of(torch.randn(8, WIDTH)), torch.arange(8) % 3
    c = objective.compare(output, labels)
    near = c.distance.masked_fill(~c.positive, 9).min(1).values
    far = (2 - c.distance.masked_fill(~c.negative, 9).min(1).values).clamp(min=0)
    expected = near[near > 0].mean() + far[far > 0].mean()
    torch.testing.assert_close(objective(output, labels).total, expected)


def test_each_learner_estimates_from_its_own_embeddings():
    class Listening(OnPairs):
        def begin_epoch(self, embed_train):
            self.heard = [output.raw.flatten()[0].item() for output, _ in embed_train()]

    each = PerLearner(Memory(Listening(losses.NTXent()), 4, 1), 2)
    outputs = tuple(Embedded.of(torch.full((2, 1), value)) for value in (1.0, 2.0))
    each.begin_epoch(lambda: iter([(outputs, torch.zeros(2))]))
    assert [memory.objective.heard for memory in each.objectives] == [[1.0], [2.0]]


def test_negatives_are_drawn_in_the_first_epoch_and_then_the_nearest():
    output, labels, _ = next(steps(1, b=12))
    objective = OnBalancedPairs(losses.Contrastive(squared=True, average="pairs"))
    drawn = {float(objective(output, labels, generator=seeded(s)).total) for s in range(5)}
    assert len(drawn) > 1
    objective.end_epoch()
    hard = {float(objective(output, labels, generator=seeded(s)).total) for s in range(5)}
    assert len(hard) == 1
    assert min(hard) > max(drawn)
    resumed = OnBalancedPairs(losses.Contrastive(squared=True, average="pairs"))
    resumed.load_state_dict(objective.state_dict())
    assert float(resumed(output, labels, generator=seeded(7)).total) in hard


def test_misplaced_rows_are_negatives_of_all_others():
    output, labels, items = next(steps(1, b=8))
    labels[6:], items[6:] = labels[:2], items[:2]  # the pictures of the first two again
    inner = OnPairs(losses.NTXent())
    value = Misplaced(inner, rows=6)(output, labels, items=items).total
    other = torch.cat([labels[:6], torch.tensor([100, 101])])
    apart = torch.cat([items[:6], torch.tensor([100, 101])])
    torch.testing.assert_close(value, inner(output, other, items=apart).total)
    assert float(inner(output, labels, items=items).total) != float(value)
    plain = Misplaced(inner, rows=8)(output, labels, items=items).total
    torch.testing.assert_close(plain, inner(output, labels, items=items).total)


def test_misplaced_passes_epochs_on():
    inner = OnBalancedPairs(losses.Contrastive())
    objective = Misplaced(inner, rows=2)
    objective.begin_epoch(lambda: iter(()))
    objective.end_epoch()
    assert int(inner.epochs) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OnBalancedPairs(losses.Triplet()), "OnBalancedPairs takes a PairLoss"),
        (lambda: OnBalancedPairs(losses.NTXent(), random_epochs=-1), "random_epochs must be >= 0"),
        (lambda: Misplaced(OnClasses(losses.ArcFace(2, 4)), 2), "class losses have no class"),
        (lambda: Misplaced(OnPairs(losses.NTXent()), 0), "rows must be >= 1, got 0"),
        (
            lambda: Misplaced(OnPairs(losses.NTXent()), 9)(Embedded.of(torch.eye(4)), [0, 0, 1, 1]),
            r"class indices \(b,\) of 9 rows or more, got shape \(4,\)",
        ),
        (
            lambda: Misplaced(OnPairs(losses.NTXent()), 1)(Embedded.of(torch.eye(2)), ["a", "b"]),
            "got list; draw the batches with data.WithShifted",
        ),
    ],
)
def test_refusals_of_balanced_and_misplaced(build, message):
    with pytest.raises(InputError, match=message):
        build()
