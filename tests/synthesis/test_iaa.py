"""Augmented objectives against loops, limits, and the defects of the released code by number."""

import copy
import logging
import math

import numpy as np
import pytest
import torch

import tupelo as tp
from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.losses import (
    AllTriplets,
    AngularSoftmax,
    CosFace,
    CosineContrastive,
    ExponentialMean,
    HardestNegativeTriplets,
    Margin,
    MultiSimilarity,
    NormalizedSoftmax,
    NPairs,
    ProxyAnchor,
    Triplet,
)
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples, PerLearner, Sum
from tupelo.sections import Shown, ask
from tupelo.selection import AsDrawn, DistanceWeighted, PerAnchor, WithPositives
from tupelo.synthesis import AugmentedClasses, IntraClassAugmented
from tupelo.training import fit
from tupelo.types import Embedded, Objective

C, D, B = 4, 6, 12


def train_set(counts=(9, 9, 9, 9), dim=D, seed=0):
    """The embedded training set as `begin_epoch` gets it, and its rows."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    means = 2 * torch.randn(len(counts), dim, generator=generator)
    scale = 0.3 + torch.rand(len(counts), dim, generator=generator)
    noise = torch.randn(len(labels), dim, generator=generator)
    rows = means[labels] + scale[labels] * noise
    order = torch.randperm(len(rows), generator=generator)
    rows, labels = rows[order], labels[order]

    def embed_train():
        for start in range(0, len(rows), 7):
            yield Embedded.of(rows[start : start + 7]), labels[start : start + 7]

    return embed_train, rows, labels


def batch(seed=1, b=B, dim=D, classes=C, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(b) % classes
    centres = torch.randn(classes, dim, generator=generator, dtype=dtype)
    noise = torch.randn(b, dim, generator=generator, dtype=dtype)
    return Embedded.of((2 * centres[labels] + noise).requires_grad_()), labels


def augmented(objective=None, *, begun=1, counts=(9, 9, 9, 9), seed=0, **options):
    """An objective after so many begun epochs, due from the first on."""
    objective = OnPairs(CosineContrastive()) if objective is None else objective
    options = {"start_after": 0, "correction": False, **options}
    made = AugmentedClasses if isinstance(objective, OnClasses) else IntraClassAugmented
    whole = made(objective, len(counts), D, **options)
    for _ in range(begun):
        whole.begin_epoch(train_set(counts, seed=seed)[0])
    return whole


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def drawn(objective, output, labels, seed=5):
    return objective.noise.draw(output, labels, seeded(seed))[0]


class TestDrawing:
    @pytest.mark.parametrize("variance", ["class", "global", "isotropic", "identity"])
    def test_moments_of_every_copy(self, variance):
        """Defect 2: the released code takes the root again for every copy."""
        objective = augmented(variance=variance, copies=3, strength=0.8)
        rows = torch.randn(1, D, generator=seeded()).expand(100_000, D)
        labels = torch.full((len(rows),), 2)
        copies = drawn(objective, Embedded.of(rows), labels).unflatten(0, (3, -1))
        per_class = objective.noise.classes.variance
        want = {
            "class": per_class[2],
            "global": per_class.mean(0),  # classes are equally large
            "isotropic": per_class[2].mean().expand(D),
            "identity": torch.ones(D),
        }[variance]
        for copy_of_rows in copies:
            torch.testing.assert_close(copy_of_rows.mean(0), rows[0], rtol=0, atol=0.02)
            torch.testing.assert_close(copy_of_rows.var(0), 0.8 * want, rtol=0.03, atol=0)

    def test_copies_differ_and_lie_behind_each_other(self):
        output, labels = batch()
        objective = augmented(strength=1e-4)
        found = drawn(objective, output, labels)
        assert found.shape == (3 * B, D)
        torch.testing.assert_close(found, output.raw.repeat(3, 1), rtol=0, atol=0.1)
        assert not torch.equal(found[:B], found[B : 2 * B])

    def test_square_roots_of_square_roots_on_request(self):
        rows, labels = torch.zeros(50_000, D), torch.ones(50_000).long()
        objective = augmented(legacy_square_roots=True, strength=0.5)
        copies = drawn(objective, Embedded.of(rows), labels).unflatten(0, (3, -1))
        variance = objective.noise.classes.variance[1]
        for power, rows_of_copy in zip((1, 0.5, 0.25), copies, strict=True):
            torch.testing.assert_close(
                rows_of_copy.var(0), 0.5 * variance**power, rtol=0.04, atol=0
            )

    def test_the_correction_is_used(self):
        """Defect 1: the released code never calls it."""
        counts, (output, labels) = (2, 3, 4, 9), batch()
        raw, corrected = (augmented(counts=counts, correction=on) for on in (False, True))
        difference = drawn(raw, output, labels) - drawn(corrected, output, labels)
        assert difference.abs().amax(1).min() > 1e-3
        own = corrected.noise
        want = own.borrowing(own.classes.mean, own.classes.variance, own.classes.count)
        torch.testing.assert_close(own.deviation, want.sqrt().float())

    def test_only_small_classes_are_corrected_unless_all_are_asked_for(self):
        """Defect 7: the released code decides by the number of classes."""
        counts = (2, 9, 9, 9)
        raw, auto, everyone = (
            augmented(counts=counts, correction=on, most=5).noise for on in (False, "auto", True)
        )
        same = (raw.deviation == auto.deviation).all(1).tolist()
        assert same == [False, True, True, True]
        assert not (raw.deviation == everyone.deviation).all(1).any()
        assert [float(noise.summary[1]) for noise in (raw, auto, everyone)] == [0, 0.25, 1]

    def test_around_the_mean_of_the_class_there_is_no_gradient(self):
        output, labels = batch()
        objective = augmented(centre="mean", strength=0.0)
        found = drawn(objective, output, labels)
        assert torch.equal(found, objective.noise.classes.mean[labels].repeat(3, 1))
        assert not found.requires_grad

    def test_the_gradient_of_a_copy_is_that_of_its_row(self):
        """Defect 8 too: batches of any size."""
        output, labels = batch(b=5)
        objective = augmented()

        def copies(rows):
            return objective.noise.draw(Embedded.of(rows), labels, seeded())[0]

        jacobian = torch.autograd.functional.jacobian(copies, output.raw.detach())
        want = torch.eye(5 * D).repeat(3, 1).view(jacobian.shape)
        assert torch.equal(jacobian, want)

    def test_statistics_carry_no_gradient(self):
        output, labels = batch()
        objective = augmented()
        objective(output, labels, generator=seeded()).total.backward()
        assert output.raw.grad.abs().sum() > 0
        assert not list(objective.parameters())
        assert all(
            buffer.grad is None and not buffer.requires_grad for buffer in objective.buffers()
        )

    def test_buffers_fit_devices_without_float64(self):
        """Apple's have none, and moving a module there fails on one such buffer."""
        assert {buffer.dtype for buffer in augmented().buffers()} == {torch.float32, torch.int64}

    def test_float64_rows_and_half_precision_rows(self):
        output, labels = batch(dtype=torch.float64)
        assert drawn(augmented(), output, labels).dtype == torch.float64
        half = Embedded.of(output.raw.detach().bfloat16())
        assert drawn(augmented(), half, labels).dtype == torch.float32


class TestCandidates:
    def test_masks_against_the_rule(self):
        """Positive: same label and no copy of the anchor. Negative: another label."""
        output, labels = batch(b=7)
        objective = augmented(copies=2)
        items = torch.tensor([0, 1, 2, 3, 0, 5, 6])  # row 4 is the picture of row 0 once more
        comparison = objective.compare(output, labels, items, seeded())
        assert comparison.anchors.shape == (7, D)
        assert comparison.candidates.shape == (21, D)
        for i in range(7):
            for c in range(21):
                same, own = labels[i] == labels[c % 7], items[i] == items[c % 7]
                assert comparison.positive[i, c] == (same and not own)
                assert comparison.negative[i, c] == (not same)

    def test_copies_of_others_are_positives_and_own_ones_are_nothing(self):
        output, labels = batch(b=8)
        comparison = augmented().compare(output, labels, None, seeded())
        own = torch.eye(8, dtype=torch.bool).repeat(1, 4)
        assert not (comparison.positive | comparison.negative)[own].any()
        assert (comparison.positive | comparison.negative)[~own].all()

    def test_originals_and_copies_are_unit_rows_each(self):
        output, labels = batch()
        comparison = augmented().compare(output, labels, None, seeded())
        assert torch.equal(comparison.candidates[:B], output.z)
        norms = comparison.candidates.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(4 * B))

    def test_raw_rows_stay_raw(self):
        output, labels = batch()
        objective = augmented(OnPairs(NPairs(), normalize=False))
        comparison = objective.compare(output, labels, None, seeded())
        assert torch.equal(comparison.candidates[B:], drawn(objective, output, labels))

    def test_synthetic_rows_as_anchors_on_request(self):
        output, labels = batch()
        objective = augmented(all_anchors=True, copies=2)
        comparison = objective.compare(output, labels, None, seeded())
        assert comparison.positive.shape == (3 * B, 3 * B)
        assert torch.equal(comparison.anchors, comparison.candidates)
        i, c = torch.arange(3 * B)[:, None] % B, torch.arange(3 * B)[None] % B
        assert torch.equal(comparison.positive, (labels[i] == labels[c]) & (i != c))
        assert torch.equal(comparison.anchor_labels, labels.repeat(3))
        assert objective(output, labels, generator=seeded()).statistics["synthetic"] == 2 * B

    def test_the_relation_of_the_objective_holds_for_copies(self):
        output, labels = batch()
        objective = augmented(
            OnPairs(CosineContrastive(), relation=lambda a, b: a[:, None] % 2 == b[None] % 2)
        )
        comparison = objective.compare(output, labels, None, seeded())
        assert objective.relation is objective.objective.relation
        assert comparison.positive[0, B + 2]  # classes 0 and 2
        assert comparison.negative[0, B + 1]

    def test_a_last_batch_of_another_size(self):
        """Defect 8."""
        objective = augmented()
        for b in (12, 5, 9):
            output, labels = batch(b=b)
            assert objective(output, labels).total.isfinite()


def columns(objective, output, labels):
    """Unit rows of the batch and its copies, and the row each came from, as lists."""
    copies = drawn(objective, output, labels)
    rows = torch.cat([output.z, torch.nn.functional.normalize(copies, dim=1)]).detach()
    return rows.double().tolist(), [c % len(labels) for c in range(len(rows))]


def sides(labels, i, source):
    positives = [c for c, s in enumerate(source) if labels[i] == labels[s] and s != i]
    return positives, [c for c, s in enumerate(source) if labels[i] != labels[s]]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def apart(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) + 1e-8)


def contrastive_by_loops(rows, source, labels):
    total = 0.0
    for i in range(len(labels)):
        positives, negatives = sides(labels, i, source)
        total += sum(max(0.8 - cosine(rows[i], rows[c]), 0) for c in positives)
        total += sum(max(cosine(rows[i], rows[c]) - 0.5, 0) for c in negatives)
    return total / len(labels)


def multi_similarity_by_loops(rows, source, labels):
    total = 0.0
    for i in range(len(labels)):
        positives, negatives = sides(labels, i, source)
        s = [cosine(rows[i], row) for row in rows]
        low, high = min(s[c] for c in positives), max(s[c] for c in negatives)
        near = [s[c] for c in positives if s[c] - 0.1 < high]
        far = [s[c] for c in negatives if s[c] + 0.1 > low]
        if near and far:
            total += math.log(1 + sum(math.exp(-2 * (x - 0.5)) for x in near)) / 2
            total += math.log(1 + sum(math.exp(40 * (x - 0.5)) for x in far)) / 40
    return total / len(labels)


def triplet_by_loops(rows, source, labels, average):
    total = 0.0
    for i in range(len(labels)):
        positives, negatives = sides(labels, i, source)
        nearest = min(apart(rows[i], rows[c]) for c in negatives)
        hinges = [max(apart(rows[i], rows[c]) - nearest + 0.2, 0) for c in positives]
        count = 1 if average == "sum" else sum(h > 0 for h in hinges) or 1
        total += sum(hinges) / count
    return total / len(labels)


LOOPS = [
    (CosineContrastive(), contrastive_by_loops),
    (MultiSimilarity(), multi_similarity_by_loops),
    (HardestNegativeTriplets(), lambda *given: triplet_by_loops(*given, "active")),
    (HardestNegativeTriplets(average="sum"), lambda *given: triplet_by_loops(*given, "sum")),
]
OBJECTIVES = {
    "contrastive": lambda: OnPairs(CosineContrastive()),
    "multi-similarity": lambda: OnPairs(MultiSimilarity()),
    "multi-similarity-eps": lambda: OnPairs(MultiSimilarity(), positives="easiest"),
    "all-triplets": lambda: OnPairs(AllTriplets()),
    "hardest-negative": lambda: OnPairs(HardestNegativeTriplets()),
    "n-pairs": lambda: OnPairs(NPairs(), normalize=False),
    "triplet": lambda: OnTuples(PerAnchor("easiest", "hardest"), Triplet()),
    "margin": lambda: OnTuples(PerAnchor("easiest", "semi-hard"), Margin(C)),
    "proxy-anchor": lambda: OnClasses(ProxyAnchor(C, D)),
    "cosface": lambda: OnClasses(CosFace(C, D)),
    "angular": lambda: OnClasses(AngularSoftmax(C, D, constraint=ExponentialMean())),
}
every = pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES)


class TestLosses:
    @pytest.mark.parametrize(("loss", "oracle"), LOOPS)
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_loops_over_originals_and_copies(self, loss, oracle, seed):
        output, labels = batch(seed, dtype=torch.float64)
        objective = augmented(OnPairs(loss))
        rows, source = columns(objective, output, labels)
        found = objective(output, labels, generator=seeded()).total.item()
        assert found == pytest.approx(oracle(rows, source, labels.tolist()), rel=1e-9)

    def test_mining_looks_at_copies(self):
        """An anchor that only a copy makes hard contributes."""
        output, labels = batch()
        plain = OnPairs(MultiSimilarity())
        objective = augmented(plain, strength=4.0)
        assert plain(output, labels).total != objective(output, labels).total

    @every
    def test_finite_with_gradient_and_parts_that_add_up(self, build):
        output, labels = batch()
        value = augmented(build())(output, labels, generator=seeded())
        value.total.backward()
        assert output.raw.grad.isfinite().all()
        assert output.raw.grad.abs().sum() > 0
        assert sum(value.parts.values()).item() == pytest.approx(value.total.item())
        assert all(isinstance(number, float) for number in value.statistics.values())

    @every
    def test_no_copies_are_the_plain_objective_and_draw_nothing(self, build):
        output, labels = batch()
        torch.manual_seed(0)
        plain = build()
        objective = augmented(copy.deepcopy(plain), copies=0)
        one, other = seeded(), seeded()
        want = plain(output, labels, generator=one).total
        found = objective(output, labels, generator=other).total
        assert torch.equal(found, want)
        assert torch.equal(one.get_state(), other.get_state())
        gradients = [
            torch.autograd.grad(total, output.raw, retain_graph=True)[0] for total in (want, found)
        ]
        assert torch.equal(*gradients)

    @every
    def test_before_the_first_epoch_with_copies_it_is_the_plain_objective(self, build):
        output, labels = batch()
        torch.manual_seed(0)
        plain = build()
        objective = augmented(copy.deepcopy(plain), start_after=2, begun=2)
        one, other = seeded(), seeded()
        want = plain(output, labels, generator=one).total
        assert torch.equal(objective(output, labels, generator=other).total, want)
        assert torch.equal(one.get_state(), other.get_state())

    def test_strength_zero_repeats_the_rows_and_moves_no_threshold(self):
        output, labels = batch()
        objective = augmented(OnPairs(MultiSimilarity()), strength=0.0)
        comparison = objective.compare(output, labels, None, seeded())
        assert torch.equal(comparison.candidates, output.z.repeat(4, 1))
        plain = Comparison.within(output.z, labels)
        for mask, reduce in (("negative", torch.amax), ("positive", torch.amin)):
            fill = -9.0 if mask == "negative" else 9.0
            limits = [
                reduce(c.similarity.masked_fill(~getattr(c, mask), fill), 1)
                for c in (plain, comparison)
            ]
            torch.testing.assert_close(*limits)

    def test_copies_change_the_gradient(self):
        output, labels = batch()
        objective = augmented()
        with_copies = objective(output, labels, generator=seeded()).total
        without = objective.objective(output, labels).total
        one, other = (
            torch.autograd.grad(total, output.raw, retain_graph=True)[0]
            for total in (with_copies, without)
        )
        assert (one - other).abs().max() > 1e-3

    @every
    def test_class_numbers_do_not_matter(self, build):
        if build is OBJECTIVES["margin"] or isinstance(build(), OnClasses):
            pytest.skip("learns something per class")
        output, labels = batch()
        number = torch.tensor([2, 0, 3, 1])
        values = []
        for rename in (lambda y: y, lambda y: number[y]):
            objective = IntraClassAugmented(build(), C, D, start_after=0)
            embed_train = train_set((3, 9, 5, 2))[0]
            objective.begin_epoch(lambda e=embed_train, r=rename: ((o, r(y)) for o, y in e()))
            values.append(objective(output, rename(labels), generator=seeded()).total.item())
        assert values[0] == pytest.approx(values[1], rel=1e-6)

    @pytest.mark.parametrize("loss", [CosineContrastive(), MultiSimilarity(), AllTriplets()])
    def test_order_of_the_batch_does_not_matter(self, loss):
        output, labels = batch(dtype=torch.float64)
        order = torch.randperm(B, generator=seeded())
        objective = augmented(OnPairs(loss))
        comparison = objective.compare(output, labels, None, seeded())
        copies = comparison.candidates[B:].unflatten(0, (3, B))[:, order].flatten(0, 1)
        shuffled = Comparison.within(output.z[order], labels[order]).with_candidates(
            copies, *(m[order][:, B:].unflatten(1, (3, B))[..., order].flatten(1)
                      for m in (comparison.positive, comparison.negative))
        )  # fmt: skip
        one, other = (objective.on(c).total.item() for c in (comparison, shuffled))
        assert one == pytest.approx(other, rel=1e-9)

    def test_order_of_the_training_set_does_not_matter(self):
        embed_train, rows, labels = train_set()
        one, other = augmented(begun=0), augmented(begun=0)
        one.begin_epoch(embed_train)
        order = torch.randperm(len(rows), generator=seeded())
        other.begin_epoch(lambda: iter([(Embedded.of(rows[order]), labels[order])]))
        torch.testing.assert_close(one.noise.deviation, other.noise.deviation)

    def test_the_same_generator_draws_the_same(self):
        output, labels = batch()
        objective = augmented()
        one, two, other = (objective(output, labels, generator=seeded(s)).total for s in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    def test_gradient_against_differences(self):
        output, labels = batch(b=8, dtype=torch.float64)
        objective = augmented(OnPairs(MultiSimilarity())).double()

        def total(rows):
            return objective(Embedded.of(rows), labels, generator=seeded()).total

        assert torch.autograd.gradcheck(total, output.raw)

    def test_class_rows_get_every_copy_as_a_sample(self):
        output, labels = batch()
        loss = NormalizedSoftmax(C, D)
        objective = augmented(OnClasses(loss), copies=2)
        copies = drawn(objective, output, labels)
        both = Embedded.of(torch.cat([output.raw, copies]))
        found = objective(output, labels, generator=seeded())
        assert found.total.item() == pytest.approx(loss(both, labels.repeat(3)).mean().item())
        assert found.statistics["synthetic"] == 2 * B


class TestEpochs:
    @pytest.mark.parametrize(
        ("options", "estimates", "draws"),
        [
            ({"start_after": 0, "every": 4}, [1, 5, 9], range(1, 11)),
            ({"start_after": 3, "every": 2}, [4, 6, 8, 10], range(4, 11)),
            ({"start_after": 1, "every": 3, "warmup_epochs": 2}, [2, 5, 8], range(4, 11)),
            ({"start_after": 0, "copies": 0}, [], []),
        ],
    )
    def test_when_classes_are_estimated_and_rows_drawn(self, options, estimates, draws):
        objective = augmented(begun=0, **options)
        output, labels = batch()
        asked, drew = [], []
        for epoch in range(1, 11):

            def embed_train(epoch=epoch):
                asked.append(epoch)
                return train_set()[0]()

            objective.begin_epoch(embed_train)
            if objective(output, labels).statistics["synthetic"]:
                drew.append(epoch)
            objective.end_epoch()
        assert asked == estimates
        assert drew == list(draws)

    def test_strength_over_the_epochs_as_in_the_released_code(self):
        decay = ((0.4, 0.9), (0.6, 0.75), (0.8, 0.6))
        objective = augmented(begun=0, decay=decay, epochs=10, strength=0.5)
        output, labels = batch()
        found = []
        for _ in range(10):
            objective.begin_epoch(train_set()[0])
            found.append(objective(output, labels).statistics["strength"])
        factors = [1, 1, 1, 1, 0.9, 0.9, 0.75, 0.75, 0.6, 0.6]
        assert found == pytest.approx([0.5 * factor for factor in factors])

    def test_what_is_logged(self):
        output, labels = batch()
        objective = augmented(counts=(2, 9, 9, 9), correction="auto", most=5)
        logged = objective(output, labels).statistics
        assert logged["strength"] == 0.8
        assert logged["synthetic"] == 3 * B
        assert logged["corrected"] == 0.25
        mean = objective.noise.deviation.square().mean().item()
        assert logged["class_variance"] == pytest.approx(mean)
        comparison = objective.compare(output, labels, None, seeded())
        logged = objective.on(comparison).statistics
        nearest = comparison.similarity.masked_fill(~comparison.negative, -9).argmax(1)
        share = (nearest >= B).float().mean().item()
        assert logged["synthetic_hardest"] == pytest.approx(share)
        assert share > 0

    def test_both_are_passed_on_to_the_objective(self):
        called = []

        class Asked(OnPairs):
            def begin_epoch(self, embed_train):
                called.append(len(list(embed_train())))

            def end_epoch(self):
                called.append("end")

        objective = IntraClassAugmented(Asked(CosineContrastive()), C, D)
        objective.begin_epoch(train_set()[0])
        objective.end_epoch()
        assert called == [6, "end"]


class TestWrapping:
    def test_inside_a_memory(self):
        objective = Memory(augmented(), size=24, dim=D)
        for step in range(3):
            output, labels = batch(step)
            items = torch.arange(B) + B * step
            value = objective(output, labels, items=items, generator=seeded())
            value.total.backward()
        assert value.statistics["remembered"] == 24
        assert value.statistics["synthetic"] == 3 * B
        # what is remembered are the rows and not their copies
        assert torch.equal(objective.queue[:B], batch(2)[0].z.detach())

    def test_memory_sees_copies_and_the_queue(self):
        output, labels = batch(0)
        inner = augmented()
        objective = Memory(inner, size=24, dim=D)
        objective(output, labels, items=torch.arange(B), generator=seeded())
        later, labels = batch(1)
        found = objective(later, labels, items=B + torch.arange(B), generator=seeded()).total
        rows, source = columns(inner, later, labels)
        rows += output.z.detach().double().tolist()
        classes = labels.tolist() * 2
        source += [B + i for i in range(B)]
        total = 0.0
        for i in range(B):
            for c, s in enumerate(source):
                if s != i:
                    x = cosine(rows[i], rows[c])
                    total += max(0.8 - x, 0) if classes[i] == classes[s] else max(x - 0.5, 0)
        assert found.item() == pytest.approx(total / B, rel=1e-5)

    def test_a_memory_cannot_hold_rows_for_synthetic_anchors(self):
        objective = Memory(augmented(all_anchors=True), size=24, dim=D)
        output, labels = batch()
        objective(output, labels, generator=seeded())
        with pytest.raises(InputError, match=r"a memory cannot go around .*all_anchors=True"):
            objective(output, labels, generator=seeded())

    def test_one_for_each_learner(self):
        objective = PerLearner(IntraClassAugmented(OnPairs(CosineContrastive()), C, D), 2)
        for inner in objective.objectives:
            inner.noise.start_after = 0
        (_, rows, labels), (_, others, _) = train_set(seed=0), train_set(seed=1)
        objective.begin_epoch(
            lambda: iter([((Embedded.of(rows), Embedded.of(3 * others)), labels)])
        )
        first, second = (inner.noise.classes for inner in objective.objectives)
        assert torch.equal(first.variance, augmented().noise.classes.variance)
        assert not torch.equal(first.variance, second.variance)
        (z, y), (other, _) = batch(0), batch(1)
        value = objective((z, other), y, generator=seeded())
        assert value.statistics["learner1/synthetic"] == 3 * B

    def test_in_a_sum_around_a_wrapper_and_as_a_copy(self):
        output, labels = batch()
        whole = Sum({"pairs": augmented(), "classes": augmented(OnClasses(CosFace(C, D)))})
        assert whole(output, labels).total.isfinite()
        twice = augmented(augmented(copies=1), copies=2)
        comparison = twice.compare(output, labels, None, seeded())
        assert comparison.candidates.shape == (4 * B, D)
        assert torch.equal(comparison.positive[:, 2 * B :], comparison.positive[:, :B].repeat(1, 2))
        again = copy.deepcopy(twice)
        totals = [each(output, labels, generator=seeded()).total for each in (twice, again)]
        assert torch.equal(*totals)

    def test_state_comes_back_whole(self):
        output, labels = batch()
        first, second = augmented(counts=(2, 3, 9, 9), correction=True), augmented(begun=0)
        second.load_state_dict(first.state_dict())
        totals = [each(output, labels, generator=seeded()).total for each in (first, second)]
        assert torch.equal(*totals)

    @pytest.mark.parametrize("made", [IntraClassAugmented, AugmentedClasses])
    def test_an_interrupted_run_ends_like_one_without_a_break(
        self, tmp_path, make_pictures, make_network, make_settings, made
    ):
        def run(out, stop):
            inner = OnPairs(MultiSimilarity()) if made is IntraClassAugmented else None
            torch.manual_seed(0)
            objective = made(inner or OnClasses(ProxyAnchor(4, 4)), 4, 4, start_after=1, every=2)
            network = make_network()

            def interrupt(progress):
                if (progress.epoch, progress.batch) == stop:
                    raise KeyboardInterrupt

            settings = make_settings(epochs=4, checkpoint_every=1)
            done = fit(
                network, objective, make_pictures(), settings=settings, out=out, progress=interrupt
            )
            return done, network.state_dict(), objective.state_dict()

        done, *want = run(tmp_path / "whole", None)
        assert done.history[-1]["synthetic"] > 0
        for stop in ((1, 2), (2, 1), (3, 2)):
            out = tmp_path / "-".join(map(str, stop))
            with pytest.raises(KeyboardInterrupt):
                run(out, stop)
            _, *found = run(out, None)
            for one, other in zip(want, found, strict=True):
                assert one.keys() == other.keys()
                assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def make_pictures():
    def make(classes=4, each=6):
        rng = np.random.default_rng(0)
        centres = rng.integers(60, 196, size=(classes, 1, 8, 8))
        noise = rng.integers(-60, 60, size=(classes, each, 8, 8))
        pixels = (centres + noise).astype(np.uint8).reshape(-1, 8, 8)
        return tp.data.ImageSet.from_arrays(pixels, np.repeat(np.arange(classes), each))

    return make


@pytest.fixture
def make_network():
    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
            return tp.models.embedder(layers, features=16, dim=4, channels=1)

    return make


@pytest.fixture
def make_settings():
    def make(**values):
        fixed = {"classes": 3, "per_class": 2, "lr": 0.01, "precision": "float32"}
        return tp.training.Settings(**fixed, tensorboard=False, **values)

    return make


class TestReport:
    def shown(self, names):
        images = torch.rand(6, 1, 4, 4)
        labels = torch.tensor([0, 0, 0, 1, 1, 1])
        return Shown(images, labels, names, ["cat", "dog", "owl", "hen"])

    @pytest.mark.parametrize("names", [["dog", "cat"], ["never", "seen"]])
    def test_variance_by_class_and_points(self, names):
        objective = augmented(copies=2)

        class Model(torch.nn.Module):
            def forward(self, images):
                return Embedded.of(images.flatten(1)[:, :D])

        (section,) = ask([objective], Model(), self.shown(names))
        assert section.title == "Synthetic members of classes"
        *curves, bars, points = section.parts
        output, labels = batch()
        logged = objective(output, labels).statistics
        assert {column for part in curves for column in part.columns} <= set(logged)
        assert bars.names == ["cat", "dog", "owl", "hen"]
        variance = objective.noise.classes.variance.mean(1)
        assert bars.values == pytest.approx(variance.tolist(), rel=1e-5)
        assert points.kinds == ["real"] * 6 + ["synthetic"] * 12
        assert points.names[6] == names[0]

    def test_nothing_before_the_first_estimate(self):
        objective = augmented(begun=0)
        assert ask([objective], torch.nn.Identity(), self.shown(["a", "b"])) == []

    def test_outputs_of_several_learners_have_no_points(self):
        class Model(torch.nn.Module):
            def forward(self, images):
                return (Embedded.of(images.flatten(1)[:, :D]),) * 2

        (section,) = ask([augmented()], Model(), self.shown(["a", "b"]))
        assert len(section.parts) == 3


def begun_with(rows, labels, **options):
    objective = augmented(begun=0, **options)
    objective.begin_epoch(lambda: iter([(Embedded.of(rows), torch.as_tensor(labels))]))
    return objective


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"copies": -1}, "copies must be a whole number >= 0, got -1"),
            ({"copies": True}, "copies must be a whole number >= 0, got True"),
            ({"strength": -0.1}, "strength must be >= 0 and finite, got -0.1"),
            ({"strength": math.inf}, "strength must be >= 0 and finite, got inf"),
            ({"strength": math.nan}, "strength must be >= 0 and finite, got nan"),
            ({"start_after": -1}, "start_after and warmup_epochs must be >= 0"),
            ({"warmup_epochs": -1}, "start_after and warmup_epochs must be >= 0"),
            ({"every": 0}, "every >= 1 epochs, got 0, 0 and 0"),
            ({"correction": "always"}, "correction must be True, False or 'auto', got 'always'"),
            ({"variance": "full"}, "variance must be 'class', 'global', 'identity' or"),
            ({"centre": "median"}, "centre must be 'sample' or 'mean', got 'median'"),
            ({"beta": -1.0}, "beta must be >= 0 and finite, got -1.0"),
            ({"gamma": 2.0}, r"gamma must be in \[0, 1\], got 2.0"),
            ({"momentum": -0.5}, r"momentum must be in \[0, 1\], got -0.5"),
            ({"neighbours": 0}, "neighbours must be >= 1, got 0"),
            ({"sigma_mean": 0.0}, "sigma_mean and sigma_variance must be > 0"),
            ({"sigma_variance": 0.0}, "sigma_mean and sigma_variance must be > 0"),
            ({"most": -1, "correction": "auto"}, "most must be >= 0 samples, got -1"),
            ({"epochs": 0}, "epochs must be >= 1, got 0"),
            ({"decay": [(0.5, 0.5)]}, "epochs must say how many there are, got None"),
            ({"decay": [(0.5, 0.5), (0.4, 0.1)], "epochs": 9}, "shares rising in"),
            ({"decay": [(0.5, -0.5)], "epochs": 9}, "factors >= 0"),
        ],
    )
    @pytest.mark.parametrize("inner", [OnPairs(CosineContrastive()), OnClasses(CosFace(C, D))])
    def test_options_out_of_range(self, options, message, inner):
        with pytest.raises(InputError, match=message):
            augmented(inner, begun=0, **options)

    @pytest.mark.parametrize("counts", [(0, D), (C, 0)])
    def test_numbers_of_classes_and_dimensions(self, counts):
        with pytest.raises(InputError, match="n_classes and dim must be >= 1"):
            IntraClassAugmented(OnPairs(CosineContrastive()), *counts)

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: IntraClassAugmented(OnClasses(CosFace(C, D)), C, D), "AugmentedClasses takes"),
            (
                lambda: IntraClassAugmented(
                    Memory(OnPairs(CosineContrastive()), size=4, dim=D), C, D
                ),
                "got Memory; .* Memory and PerLearner go around it",
            ),
            (
                lambda: AugmentedClasses(OnPairs(CosineContrastive()), C, D),
                "takes OnClasses, got OnPairs; IntraClassAugmented takes",
            ),
            (
                lambda: IntraClassAugmented(
                    OnTuples(WithPositives(AsDrawn("triplets")), Triplet()), C, D
                ),
                "got AsDrawn, whose tuples are those of the batch",
            ),
        ],
    )
    def test_objectives_of_another_kind(self, build, message):
        with pytest.raises(InputError, match=message):
            build()

    @pytest.mark.parametrize(
        ("labels", "kind"),
        [
            ([{"red"}, {"big"}] * 6, "names or sets"),
            (["cat", "dog"] * 6, "names or sets"),
            (torch.eye(2, dtype=torch.bool).repeat(6, 1), "tags"),
        ],
    )
    def test_labels_that_are_no_class_indices(self, labels, kind):
        output, _ = batch()
        objective = augmented(begun=0, start_after=5)
        with pytest.raises(InputError, match=f"labels must be class indices .*got {kind}; number"):
            objective(output, labels)

    @pytest.mark.parametrize("label", [-1, C])
    def test_labels_out_of_range(self, label):
        output, labels = batch()
        labels = labels.clone()
        labels[3] = label
        with pytest.raises(InputError, match=r"labels must lie in \[0, 4\) for IAA, got"):
            augmented()(output, labels)
        with pytest.raises(InputError, match=r"labels must lie in \[0, 4\) for IAA, got"):
            begun_with(output.raw.detach(), labels)

    def test_another_width(self):
        output, labels = batch(dim=5)
        with pytest.raises(InputError, match=r"got dim=6 for embeddings \(12, 5\)"):
            augmented()(output, labels)
        with pytest.raises(InputError, match=r"got dim=6 for embeddings \(12, 5\)"):
            begun_with(output.raw.detach(), labels)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_embeddings_that_are_not_finite(self, bad):
        rows = torch.randn(8, D)
        rows[2, 1] = bad
        with pytest.raises(InputError, match="embeddings of the training set must be finite"):
            begun_with(rows, [0, 1, 2, 3] * 2)

    def test_a_class_without_samples(self):
        """Defect 10: an assertion that names nothing."""
        with pytest.raises(InputError, match=r"every class of \[0, 4\) .* got none for 2: 1, 3;"):
            begun_with(torch.randn(8, D), [0, 2] * 4)

    def test_only_classes_of_one_sample(self):
        with pytest.raises(InputError, match="IAA needs at least one class with two samples"):
            begun_with(torch.randn(4, D), [0, 1, 2, 3])

    def test_damaged_statistics(self):
        objective = augmented(momentum=1.0, every=1)
        objective.noise.classes.variance.fill_(-1e3)
        with pytest.raises(InputError, match="variances must be >= 0, got"):
            objective.begin_epoch(train_set()[0])

    @pytest.mark.parametrize("start_after", [0, 30])
    @pytest.mark.parametrize("inner", [OnPairs(CosineContrastive()), OnClasses(CosFace(C, D))])
    def test_no_epoch_begun(self, inner, start_after):
        """Else a loop that forgets it would train with the plain loss for ever."""
        output, labels = batch()
        objective = augmented(inner, begun=0, start_after=start_after)
        with pytest.raises(InputError, match=r"none was begun; .* call objective\.begin_epoch"):
            objective(output, labels)

    def test_rows_due_before_anything_was_estimated(self):
        output, labels = batch()
        objective = augmented(begun=0)
        objective.load_state_dict(augmented(copies=0, begun=2).state_dict())
        with pytest.raises(InputError, match=r"due from epoch 1 on, but at epoch 2 no statistics"):
            objective(output, labels)

    @pytest.mark.parametrize(
        "objective",
        [
            lambda: OnTuples(PerAnchor("random", "distance-weighted"), Triplet()),
            lambda: OnTuples(WithPositives(PerAnchor("random", DistanceWeighted())), Triplet()),
            lambda: OnPairs(AllTriplets(), positives="random", negatives="distance-weighted"),
        ],
    )
    def test_distance_weighted_selection_is_warned_of(self, objective, caplog):
        with caplog.at_level(logging.WARNING):
            augmented(objective(), begun=0)
        assert "distance-weighted selection leaves most synthetic rows out" in caplog.text

    def test_other_selections_are_not_warned_of(self, caplog):
        with caplog.at_level(logging.WARNING):
            augmented(OnTuples(PerAnchor("easiest", "hardest"), Triplet()))
        assert not caplog.text

    def test_embeddings_of_unit_length_are_warned_of_once(self, caplog):
        _, rows, labels = train_set()
        unit = Embedded.of(torch.nn.functional.normalize(rows, dim=1))
        objective = augmented(begun=0, every=1)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                objective.begin_epoch(lambda: iter([(unit, labels)]))
        assert caplog.text.count("already of unit length") == 1


def test_they_are_objectives():
    assert issubclass(IntraClassAugmented, Objective)
    assert issubclass(AugmentedClasses, Objective)
