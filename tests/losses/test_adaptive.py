import copy
import math
from itertools import pairwise

import pytest
import torch

from tupelo.errors import CheckpointError, InputError
from tupelo.losses import AdaptiveMargin, Mining

GAPS = torch.tensor([0.5, -1.0, 0.25, 0.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize(
    ("mining", "mean"),
    [
        (Mining(), 1.25 / 5),
        (Mining(power=2), (0.25 + 0.0625 + 0.25) / 2 / 5),
        (Mining("none"), 0.25 / 5),
        (Mining("violators"), 1.25 / 3),
        (Mining("violators", power=2), (0.25 + 0.0625 + 0.25) / 2 / 3),
        (Mining("topk", share=0.25), 0.5),  # ceil(1.25) = 2 of the largest
        (Mining("topk", share=0.41), 1.25 / 3),
        (Mining("topk", share=1.0), 1.25 / 5),
    ],
    ids=str,
)
def test_the_mean_of_terms_by_hand(mining, mean):
    assert mining(GAPS).mean().item() == pytest.approx(mean, abs=1e-15)


@pytest.mark.parametrize(("share", "b", "kept"), [(0.07, 100, 7), (0.55, 100, 55), (0.1, 5, 1)])
def test_a_share_is_counted_as_it_is_printed(share, b, kept):
    assert int((Mining("topk", share=share)(torch.ones(b)) > 0).sum()) == kept


def test_equal_gaps_are_taken_in_their_order():
    assert Mining("topk", share=0.5)(torch.ones(4)).tolist() == [2.0, 2.0, 0.0, 0.0]


def test_violators_of_a_batch_without_any_cost_nothing():
    gaps = torch.tensor([-0.1, -0.2], requires_grad=True)
    terms = Mining("violators")(gaps)
    terms.mean().backward()
    assert terms.tolist() == [0, 0]
    assert gaps.grad.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mining("hard"), "mode must be .* got 'hard'"),
        (lambda: Mining("topk", share=0.0), r"share must be in \(0, 1\] of the batch, got 0.0"),
        (lambda: Mining("topk", share=1.5), r"share must be in \(0, 1\]"),
        (lambda: Mining(power=3), "power must be 1, or 2 .* got 3 with 'hinge'"),
        (lambda: Mining("none", power=2), "got 2 with 'none'"),
        (lambda: AdaptiveMargin(rate=0.0), r"rate must be in \(0, 1\], got 0.0"),
        (lambda: AdaptiveMargin(rate=1.1), r"rate must be in \(0, 1\], got 1.1"),
        (lambda: AdaptiveMargin(quantile=1.0), r"quantile must be in \(0, 1\), got 1.0"),
        (lambda: AdaptiveMargin(update="batch"), "update must be 'step', or 'epoch'"),
        (lambda: AdaptiveMargin(update="epoch", quantile=0.5), "without quantile, got 'epoch'"),
        (lambda: AdaptiveMargin(delta=math.nan), "must be finite, got nan"),
        (lambda: AdaptiveMargin(start=0.5, highest=0.4), "highest must be at least start 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_the_margin_follows_its_rule():
    margin, m = AdaptiveMargin(), 0.0
    for mean in (0.1, 0.5, -0.9, 0.3, 0.95, 0.99):
        margin.update(torch.tensor([mean - 0.01, mean + 0.01]), highest=0.98)
        m = max(m, min(0.98, 0.9 * m + 0.1 * (mean + 0.1)))
        assert float(margin.margin) == pytest.approx(m, abs=1e-6)


@pytest.mark.parametrize(("mean", "limit"), [(0.5, 0.6), (0.95, 0.98)])
def test_a_constant_mean_gives_geometric_convergence_from_below(mean, limit):
    margin, trace = AdaptiveMargin(highest=0.98), [0.0]
    for _ in range(200):
        margin.update(torch.full((3,), mean), highest=5.0)
        trace.append(float(margin.margin))
    assert all(b >= a for a, b in pairwise(trace))
    assert max(trace) <= torch.tensor(0.98)
    assert trace[-1] == pytest.approx(limit, abs=1e-6)
    # the distance to mean + delta shrinks by 1 - rate
    assert (mean + 0.1 - trace[5]) / (mean + 0.1 - trace[4]) == pytest.approx(0.9, abs=1e-5)


def test_without_monotone_it_falls_too():
    margin = AdaptiveMargin(start=0.5, monotone=False)
    margin.update(torch.zeros(2), highest=0.98)
    assert float(margin.margin) == pytest.approx(0.46)


def test_by_the_epoch_it_follows_the_mean_of_all_samples():
    margin = AdaptiveMargin(update="epoch", rate=0.5)
    margin.update(torch.tensor([0.2, 0.2, 0.2]), highest=0.98)
    margin.update(torch.tensor([0.6]), highest=0.98)
    assert float(margin.margin) == 0
    margin.end_epoch(0.98)
    assert float(margin.margin) == pytest.approx(0.5 * (0.3 + 0.1))
    margin.end_epoch(0.98)  # an epoch without a batch
    assert float(margin.margin) == pytest.approx(0.2)


def test_a_quantile_makes_that_share_hard():
    margin = AdaptiveMargin(quantile=0.5, highest=0.9)
    margin.update(torch.tensor([0.1, 0.2, 0.6]), highest=0.98)
    assert float(margin.margin) == pytest.approx(0.2)
    margin.update(torch.full((3,), 0.95), highest=0.98)
    assert float(margin.margin) == pytest.approx(0.9)


def test_what_it_follows_gets_no_gradient():
    reached = torch.tensor([0.5], requires_grad=True)
    margin = AdaptiveMargin()
    margin.update(reached, highest=0.98)
    assert not margin.margin.requires_grad


def test_it_is_saved_and_resumes_exactly():
    one = AdaptiveMargin(update="epoch")
    one.update(torch.rand(5), highest=0.98)
    one.end_epoch(0.98)
    one.update(torch.rand(5), highest=0.98)
    other = AdaptiveMargin(update="epoch")
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, other):
        each.end_epoch(0.98)
    assert torch.equal(one.margin, other.margin)


def test_a_state_without_the_margin_is_refused():
    state = AdaptiveMargin().state_dict()
    del state["margin"]
    with pytest.raises(CheckpointError, match="no margin, which a self-adaptive margin resumes"):
        AdaptiveMargin().load_state_dict(state)
