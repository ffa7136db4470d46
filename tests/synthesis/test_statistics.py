"""Statistics of classes against NumPy, and the correction against loops written from eqs. 9-16."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tupelo.errors import InputError
from tupelo.synthesis.statistics import (
    ClassStatistics,
    NeighbourCorrection,
    global_variance,
    standard_deviation,
)


def samples(counts, dim=4, seed=0, centre=0.0):
    """Rows in a random order with their class indices."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    scale = 0.5 + torch.rand(len(counts), dim, generator=generator)
    means = centre + torch.randn(len(counts), dim, generator=generator)
    noise = torch.randn(len(labels), dim, generator=generator)
    return means[labels] + scale[labels] * noise, labels


def estimated(*passes, classes, dim=4, momentum=0.0, batch=7):
    statistics = ClassStatistics(classes, dim, momentum=momentum)
    for rows, labels in passes:
        statistics.update(zip(rows.split(batch), labels.split(batch), strict=True))
    return statistics


class TestClassStatistics:
    def test_equals_numpy_whatever_the_batches(self):
        rows, labels = samples([1, 2, 5, 40, 3])
        for batch in (1, 7, 1000):
            found = estimated((rows, labels), classes=5, batch=batch)
            for k in range(5):
                mine = rows[labels == k].double().numpy()
                np.testing.assert_allclose(found.mean[k], mine.mean(0), rtol=1e-6, atol=1e-7)
                np.testing.assert_allclose(found.variance[k], mine.var(0), rtol=1e-6, atol=1e-12)
            assert found.count.tolist() == [1, 2, 5, 40, 3]

    def test_a_class_of_one_sample_is_that_sample_with_variance_zero(self):
        """Defect 4: the released code leaves its mean at the origin."""
        found = estimated((torch.tensor([[3.0, -2.0]]), torch.tensor([1])), classes=2, dim=2)
        assert found.mean.tolist() == [[0, 0], [3, -2]]
        assert found.variance.tolist() == [[0, 0], [0, 0]]
        assert found.seen.tolist() == [0, 1]

    @pytest.mark.parametrize("centre", [1e3, 1e5])
    def test_variance_survives_far_from_the_origin(self, centre):
        rows, labels = samples([50, 400], centre=centre)
        found = estimated((rows, labels), classes=2, batch=32)
        for k in range(2):
            exact = rows[labels == k].double().var(0, unbiased=False)
            torch.testing.assert_close(found.variance[k].double(), exact, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("sizes", [(3, 3), (1, 9), (20, 2)])
    def test_pure_count_weighting_over_two_halves_is_the_statistic_of_both(self, sizes):
        one, other = (samples([n] * 3, seed=n + i) for i, n in enumerate(sizes))
        merged = estimated(one, other, classes=3, momentum=1.0)
        rows, labels = (torch.cat(pair) for pair in zip(one, other, strict=True))
        at_once = estimated((rows, labels), classes=3)
        torch.testing.assert_close(merged.mean, at_once.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(merged.variance, at_once.variance, rtol=1e-5, atol=1e-6)
        assert merged.seen.tolist() == at_once.seen.tolist()

    def test_momentum_is_the_least_memory_of_new_samples(self):
        one, other = samples([4, 4], seed=1), samples([4, 4], seed=2)
        first, second = (estimated(part, classes=2) for part in (one, other))
        found = estimated(one, other, classes=2, momentum=0.2)
        w = 0.8  # max(4 / 8, 1 - 0.2)
        torch.testing.assert_close(found.mean, (1 - w) * first.mean + w * second.mean)
        apart = (first.mean - second.mean).square()
        want = (1 - w) * first.variance + w * second.variance + w * (1 - w) * apart
        torch.testing.assert_close(found.variance, want)
        fresh = estimated(one, other, classes=2, momentum=0.0)
        torch.testing.assert_close(fresh.variance, second.variance)

    def test_classes_absent_from_a_pass_keep_their_values(self):
        rows, labels = samples([4, 6])
        found = estimated((rows, labels), (rows[labels == 0] * 2, labels[labels == 0]), classes=2)
        before = estimated((rows, labels), classes=2)
        assert torch.equal(found.variance[1], before.variance[1])
        assert torch.equal(found.mean[1], before.mean[1])
        assert found.count.tolist() == [4, 6]
        assert found.seen.tolist() == [8, 6]

    def test_no_tensor_of_samples_times_classes_times_width(self):
        """Spec 3.6: the released code expands one of 1.2 GB for CUB."""
        n, classes, dim = 5864, 100, 512
        rows, labels = torch.randn(n, dim), torch.arange(n) % classes
        statistics = ClassStatistics(classes, dim)
        with Largest() as seen:
            statistics.update(zip(rows.split(128), labels.split(128), strict=True))
        assert seen.numbers <= max(128, classes) * dim

    @pytest.mark.parametrize("settings", [{"momentum": -0.1}, {"momentum": 1.1}])
    def test_momentum_out_of_range_is_refused(self, settings):
        with pytest.raises(InputError, match=r"momentum must be in \[0, 1\], got"):
            ClassStatistics(2, 2, **settings)

    def test_no_classes_are_refused(self):
        with pytest.raises(InputError, match="n_classes and dim must be >= 1, got 0 and 2"):
            ClassStatistics(0, 2)


class Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor held that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        self.numbers = max([self.numbers, *(tensor.numel() for tensor in tensors)])
        return out


def alpha(n, beta=0.1):
    return 1 / (1 + math.log(1 + beta * (n - 1)))


def corrected_by_loops(mean, variance, count, *, options):
    """Eqs. 9 to 16, one class at a time."""
    classes = range(len(count))
    eligible = [i for i in classes if count[i] >= 2]
    everything = sum(count[i] * variance[i] for i in eligible) / sum(count[i] for i in eligible)
    out = []
    for k in classes:
        share = alpha(count[k], options.beta)
        if options.most is not None and count[k] > options.most:
            share = 0.0
        others = [i for i in eligible if i != k]
        of_means = {i: np.linalg.norm(mean[i] ** 2 - mean[k] ** 2) for i in others}
        of_variances = {i: np.linalg.norm(variance[i] - variance[k]) for i in others}
        nearest = sorted(others, key=of_means.get)[: options.neighbours]

        def unit(distances, i):
            low, high = min(distances.values()), max(distances.values())
            return 0.0 if high == low else (distances[i] - low) / (high - low)

        weights = [
            count[i]
            * math.exp(
                -(unit(of_means, i) ** 2) / (2 * options.sigma_mean**2)
                - unit(of_variances, i) ** 2 / (2 * options.sigma_variance**2)
            )
            for i in nearest
        ]
        near = sum(w * variance[i] for w, i in zip(weights, nearest, strict=True)) / sum(weights)
        borrowed = (1 - options.gamma) * near + options.gamma * everything
        out.append((1 - share) * variance[k] + share * borrowed)
    return np.array(out)


def classes_of(counts, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=(len(counts), dim)), rng.uniform(0.1, 2, (len(counts), dim))
    variance[np.array(counts) < 2] = 0
    return mean, variance, counts


def corrected(mean, variance, count, options):
    found = options(torch.tensor(mean), torch.tensor(variance), torch.tensor(count))
    return found.numpy()


class TestNeighbourCorrection:
    @pytest.mark.parametrize(
        ("n", "value"), [(1, 1), (2, 0.913), (3, 0.846), (5, 0.748), (10, 0.609), (40, 0.39)]
    )
    def test_how_much_is_borrowed(self, n, value):
        """Defect 5: a class of exactly 40 samples is still corrected."""
        assert NeighbourCorrection().shares(torch.tensor([n])).item() == pytest.approx(
            value, abs=6e-3 if n == 40 else 6e-4
        )

    def test_nothing_is_borrowed_beyond_the_limit_unless_all_classes_are_corrected(self):
        assert NeighbourCorrection().shares(torch.tensor([41])).item() == 0
        everyone = NeighbourCorrection(most=None).shares(torch.tensor([41, 1000]))
        assert everyone.tolist() == pytest.approx([alpha(41), alpha(1000)])

    @pytest.mark.parametrize(
        "options",
        [
            NeighbourCorrection(neighbours=3),
            NeighbourCorrection(neighbours=1, gamma=0.0),
            NeighbourCorrection(neighbours=4, gamma=0.7, sigma_mean=0.3, sigma_variance=2.0),
            NeighbourCorrection(neighbours=3, beta=0.0),
            NeighbourCorrection(neighbours=3, most=4),
            NeighbourCorrection(neighbours=3, most=None, sigma_mean=math.inf),
        ],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_loops_written_from_the_equations(self, options, seed):
        given = classes_of([1, 2, 3, 50, 7, 1, 4, 12], seed=seed)
        want = corrected_by_loops(*given, options=options)
        np.testing.assert_allclose(corrected(*given, options), want, rtol=1e-9)

    @pytest.mark.parametrize("neighbours", [5, 6, 25])
    def test_more_neighbours_than_there_are(self, neighbours):
        """Defect 6: the released code crashes with fewer than 25 classes."""
        given = classes_of([1, 2, 3, 9, 7, 1, 4, 12])
        options = NeighbourCorrection(neighbours=neighbours)
        want = corrected_by_loops(*given, options=options)
        np.testing.assert_allclose(corrected(*given, options), want, rtol=1e-9)

    def test_equal_distances_count_as_zero(self):
        mean, variance, count = classes_of([3, 4, 5])
        options = NeighbourCorrection()
        for same_mean, same_variance in ((True, False), (False, True), (True, True)):
            one = np.repeat(mean[:1], 3, 0) if same_mean else mean
            other = np.repeat(variance[:1], 3, 0) if same_variance else variance
            want = corrected_by_loops(one, other, count, options=options)
            found = corrected(one, other, count, options)
            np.testing.assert_allclose(found, want, rtol=1e-9)

    def test_equal_distances_count_as_zero_whatever_rounding_leaves(self):
        rng = np.random.default_rng(0)
        mean, variance = rng.normal(size=(60, 64)), np.repeat(rng.random((1, 64)), 60, 0)
        count = rng.integers(2, 9, 60).tolist()
        options = NeighbourCorrection(sigma_variance=1e-3)
        found = corrected(mean, variance, count, options)
        np.testing.assert_allclose(found, variance, rtol=1e-9)
        scattered = corrected(np.repeat(mean[:1], 60, 0), mean**2, count, NeighbourCorrection())
        assert np.isfinite(scattered).all()

    def test_the_distance_of_means_has_an_effect(self):
        """Defect 3: place holders in the normalised row make every distance 0."""
        given = classes_of([3, 4, 5, 6, 7, 1])
        near = corrected(*given, NeighbourCorrection(sigma_mean=0.2))
        ignored = corrected(*given, NeighbourCorrection(sigma_mean=math.inf))
        assert np.abs(near - ignored).max() > 0.01

    def test_neighbours_of_a_single_sample_are_those_of_its_embedding(self):
        """Defect 4: and it is no neighbour of others."""
        mean = np.array([[3.0], [3.1], [0.1], [0.2]])
        variance = np.array([[0.0], [5.0], [1.0], [2.0]])
        options = NeighbourCorrection(neighbours=1, gamma=0.0)
        found = corrected(mean, variance, [1, 9, 9, 9], options)
        assert found[0] == pytest.approx(5.0)
        # the nearest eligible class of class 1 is class 3; the singleton beside it is left out
        assert found[1] == pytest.approx((1 - alpha(9)) * 5.0 + alpha(9) * 2.0)

    def test_single_samples_do_not_enter_the_global_variance(self):
        variance = torch.tensor([[0.0], [4.0], [1.0]])
        assert global_variance(variance, torch.tensor([1, 2, 6])).item() == pytest.approx(14 / 8)

    def test_order_of_classes_does_not_matter(self):
        mean, variance, count = classes_of([1, 2, 3, 50, 7, 1, 4, 12])
        order = np.random.default_rng(0).permutation(8)
        options = NeighbourCorrection(neighbours=3)
        one = corrected(mean, variance, count, options)[order]
        other = corrected(mean[order], variance[order], np.array(count)[order], options)
        np.testing.assert_allclose(other, one, rtol=1e-9)

    def test_blocks_of_classes_do_not_matter(self, monkeypatch):
        given = classes_of(list(range(1, 40)))
        options = NeighbourCorrection(neighbours=6)
        whole = corrected(*given, options)
        monkeypatch.setattr("tupelo.synthesis.statistics.BLOCK", 1)
        np.testing.assert_allclose(corrected(*given, options), whole, rtol=1e-9)

    def test_small_sigmas_do_not_underflow(self):
        found = corrected(*classes_of([3] * 9), NeighbourCorrection(sigma_mean=1e-3))
        assert np.isfinite(found).all()

    @pytest.mark.parametrize("counts", [[3, 1, 1], [1, 1, 2]])
    def test_one_class_with_two_samples_has_no_neighbours_to_offer(self, counts):
        with pytest.raises(InputError, match="at least two classes with two samples, got 1; set"):
            corrected(*classes_of(counts), NeighbourCorrection())

    def test_one_large_class_needs_no_neighbours(self):
        mean, variance, count = classes_of([50])
        assert corrected(mean, variance, count, NeighbourCorrection()) == pytest.approx(variance)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"beta": -0.1}, "beta must be >= 0 and finite, got -0.1"),
            ({"beta": math.inf}, "beta must be >= 0 and finite, got inf"),
            ({"gamma": 1.1}, r"gamma must be in \[0, 1\], got 1.1"),
            ({"gamma": -0.1}, r"gamma must be in \[0, 1\], got -0.1"),
            ({"neighbours": 0}, "neighbours must be >= 1, got 0"),
            ({"sigma_mean": 0.0}, "sigma_mean and sigma_variance must be > 0, got 0.0"),
            ({"sigma_variance": -1.0}, "must be > 0, got 1.0 and -1.0"),
            ({"most": -1}, "most must be >= 0 samples, got -1"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, settings, message):
        with pytest.raises(InputError, match=message):
            NeighbourCorrection(**settings)


def test_roundings_below_zero_are_zero_and_more_is_refused():
    assert standard_deviation(torch.tensor([-1e-7, 4.0])).tolist() == [0, 2]
    for bad in (-2e-6, math.nan):
        with pytest.raises(InputError, match="variances must be >= 0, got"):
            standard_deviation(torch.tensor([1.0, bad]))
