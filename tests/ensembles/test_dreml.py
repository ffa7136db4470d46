"""Random meta-classes and their loss, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from tupelo.ensembles import MetaClassification, joined, meta_classes
from tupelo.errors import InputError
from tupelo.objectives import OnClasses
from tupelo.types import Embedded

GOLDEN = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)


def loss_of(raw, label, **options):
    loss = MetaClassification(raw.shape[1], **options)
    return loss(Embedded.of(raw), torch.tensor([label])).item()


class TestMetaClasses:
    @pytest.mark.parametrize(("n", "d"), [(100, 12), (136, 4), (12, 12), (13, 12), (17, 5)])
    def test_sizes_differ_by_at_most_one_and_columns_differ(self, n, d):
        bags = meta_classes(n, d, 6, seed=3)
        assert bags.shape == (n, 6)
        for column in bags.T:
            sizes = np.bincount(column, minlength=d)
            assert len(sizes) == d
            assert sizes.max() - sizes.min() <= 1
        assert len({tuple(column) for column in bags.T}) == 6

    def test_a_hundred_classes_in_twelve(self):
        sizes = sorted(np.bincount(meta_classes(100, 12, 1)[:, 0]).tolist())
        assert sizes == [8] * 8 + [9] * 4

    def test_columns_stay_when_members_are_added(self):
        few, many = meta_classes(50, 7, 3, seed=5), meta_classes(50, 7, 9, seed=5)
        assert np.array_equal(few, many[:, :3])
        assert not np.array_equal(few, meta_classes(50, 7, 3, seed=6))

    def test_classes_meet_by_chance_alone(self):
        """Two classes share a meta-class as often as the balanced merging says: here 1 in 3."""
        bags = meta_classes(4, 2, 3000, seed=0)
        assert np.mean(bags[0] == bags[1]) == pytest.approx(1 / 3, abs=0.03)

    def test_sizes_are_balanced_whoever_gets_the_extra_class(self):
        larger = [np.bincount(column).argmax() for column in meta_classes(7, 3, 300).T]
        assert np.bincount(larger).min() > 60

    def test_as_many_as_classes_merges_nothing(self):
        assert sorted(meta_classes(9, 9, 1)[:, 0]) == list(range(9))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((10, 1, 2), "n_meta must be at least 2, since one meta-class leaves nothing to learn"),
            ((10, 11, 2), "n_meta must not exceed the 10 classes"),
            ((10, 3, 0), "need learners >= 1 and seed >= 0, got 0"),
        ],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(InputError, match=message):
            meta_classes(*arguments)

    def test_negative_seed_is_refused(self):
        with pytest.raises(InputError, match="seed >= 0, got 2 and -1"):
            meta_classes(10, 3, 2, seed=-1)


class TestMetaClassification:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, 1.40760596),
            ({"nca": True}, 1.12692801),
            ({"distance": True}, 1.34931291),
            ({"distance": True, "nca": True}, 1.04899340),
        ],
    )
    def test_golden_values(self, options, expected):
        assert loss_of(GOLDEN, 1, **options) == pytest.approx(expected, abs=1e-7)

    def test_distances_to_the_proxies_by_hand(self):
        z = GOLDEN / GOLDEN.norm()
        squared = torch.cdist(z, torch.eye(3, dtype=torch.float64)).square()[0]
        assert squared.tolist() == pytest.approx([0.21114562, 1.10557281, 2.0], abs=1e-7)
        expected = -torch.log_softmax(-squared, 0)[1].item()
        assert loss_of(GOLDEN, 1, distance=True) == pytest.approx(expected, abs=1e-12)

    def test_the_normalised_loss_has_a_floor(self):
        """Best is a vector with the own entry positive and all others equal and negative."""
        d = 12
        floor = math.log(1 + (d - 1) * math.exp(-math.sqrt(d / (d - 1))))
        assert floor == pytest.approx(1.583, abs=5e-4)
        best = torch.full((1, d), -1 / math.sqrt(d * (d - 1)), dtype=torch.float64)
        best[0, 4] = math.sqrt((d - 1) / d)
        assert loss_of(best, 4, normalize=True) == pytest.approx(floor, abs=1e-12)
        raw = torch.randn(1, d, dtype=torch.float64, requires_grad=True)
        loss = MetaClassification(d, normalize=True)
        optimizer = torch.optim.Adam([raw], lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            value = loss(Embedded.of(raw), torch.tensor([4])).mean()
            value.backward()
            optimizer.step()
        assert value.item() == pytest.approx(floor, abs=1e-3)
        assert value.item() >= floor - 1e-9

    def test_the_plain_loss_has_none(self):
        assert loss_of(100 * torch.eye(12)[:1], 0) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("options", [{}, {"normalize": True}, {"nca": True, "distance": True}])
    def test_gradients(self, options):
        loss = MetaClassification(4, **options)
        raw = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0, 1, 2, 3, 0])
        assert torch.autograd.gradcheck(lambda rows: loss(Embedded.of(rows), labels), raw)

    def test_nothing_is_learned_by_the_loss_itself(self):
        objective = OnClasses(MetaClassification(3))
        assert objective.parameter_groups() == []
        value = objective(Embedded.of(GOLDEN), torch.tensor([1]))
        assert value.total.item() == pytest.approx(1.40760596)

    def test_refused(self):
        with pytest.raises(InputError, match="n_meta must be at least 2, got 1"):
            MetaClassification(1)
        with pytest.raises(InputError, match="as wide as there are meta-classes, n_meta=4, got"):
            MetaClassification(4)(Embedded.of(GOLDEN), torch.tensor([1]))
        with pytest.raises(InputError, match=r"labels must lie in \[0, 3\) for MetaClassification"):
            loss_of(GOLDEN, 3)
        rows = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
        loss = MetaClassification(2, normalize=True)
        with pytest.raises(InputError, match=r"1 of 2 rows are zero .* the first is row 1"):
            loss(Embedded.of(rows), torch.tensor([0, 1]))


class TestJoined:
    def test_products_are_sums_of_cosines(self):
        rng = np.random.default_rng(0)
        features = [rng.normal(size=(5, width)) for width in (3, 4, 2)]
        rows = joined(features, dtype=np.float64)
        assert rows.shape == (5, 9)
        assert np.square(rows).sum(1) == pytest.approx(np.full(5, 3.0))  # ||e||^2 = L
        expected = sum(
            (f[0] @ f[1]) / (np.linalg.norm(f[0]) * np.linalg.norm(f[1])) for f in features
        )
        assert rows[0] @ rows[1] == pytest.approx(expected)

    def test_large_outputs_of_one_member_do_not_dominate(self):
        one, other = np.eye(3), np.eye(3)[[1, 0, 2]]
        assert np.allclose(joined([1000 * one, other]), joined([one, other]))

    def test_half_precision(self):
        assert joined([np.eye(2)], dtype=np.float16).dtype == np.float16

    def test_refused(self):
        with pytest.raises(InputError, match="the output of one or more members, got none"):
            joined([])
        with pytest.raises(InputError, match=r"embedded the same pictures, got \[3, 2\] rows"):
            joined([np.eye(3), np.eye(2)])
        broken = np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0]])
        with pytest.raises(InputError, match=r"member 1 have 2 rows without a .* first is row 1"):
            joined([np.eye(3), broken])
