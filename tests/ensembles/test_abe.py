import logging
import math

import pytest
import torch
from torch import nn

from tupelo import fit
from tupelo.comparison import Comparison
from tupelo.data import ImageSet, RandomPairs
from tupelo.ensembles import Divergence, OnDrawnPairs, attention_based
from tupelo.errors import InputError
from tupelo.losses import ProxyNCA, SquaredContrastive, Triplet
from tupelo.models import ConvNet, attentive, embedder, many_heads
from tupelo.objectives import Memory, OnPairs
from tupelo.training import Settings
from tupelo.types import Embedded

LABELS = torch.tensor([0, 0, 1])
FIRST = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
SECOND = [[0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]


def golden():
    return tuple(Embedded.of(torch.tensor(rows).double()) for rows in (FIRST, SECOND))


def random_learners(m=4, b=7, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, b, d, generator=generator, dtype=torch.float64).requires_grad_()
    return rows, tuple(Embedded.of(one) for one in rows)


def squares(rows):
    return torch.cdist(rows, rows).square()


def test_squared_distances_of_the_golden_rows():
    one, two = (squares(learner.z) for learner in golden())
    for got, expected in ((one, (0.8, 2, 0.4)), (two, (0.8, 3.6, 2))):
        assert got[[0, 0, 1], [1, 2, 2]].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("learner", "positive", "negative"), [(0, 0.8, 0.3), (1, 0.8, 0.0)])
def test_golden_metric_loss(learner, positive, negative):
    total = OnPairs(SquaredContrastive())(golden()[learner], LABELS).total
    assert float(total) == pytest.approx(positive + negative, abs=1e-6)


@pytest.mark.parametrize(("learner", "expected"), [(0, 0.93333333), (1, 0.53333333)])
def test_golden_sum_over_ordered_pairs(learner, expected):
    """The mean over all pairs, times 6 ordered pairs, over N = 3 pictures."""
    total = OnPairs(SquaredContrastive(average="pairs"))(golden()[learner], LABELS).total
    assert float(total) * 6 / 3 == pytest.approx(expected, abs=1e-6)


def test_golden_divergence():
    value = Divergence()(golden(), LABELS)
    assert float(value.total) == pytest.approx(0.4, abs=1e-6)
    assert float(Divergence(reduction="sum")(golden(), LABELS).total) == pytest.approx(1.2)
    assert value.statistics["self_cosine"] == pytest.approx(1 - (0.4 + 0.4 + 2) / 3 / 2)
    assert value.statistics["active"] == pytest.approx(2 / 3)


def test_the_whole_of_the_golden_rows():
    value = attention_based(OnPairs(SquaredContrastive()), 2, divergence=0.5)(golden(), LABELS)
    assert float(value.total) == pytest.approx(1.1 + 0.8 + 0.5 * 0.4, abs=1e-6)
    assert sum(map(float, value.parts.values())) == pytest.approx(float(value.total))


@pytest.mark.parametrize("margin", [0.3, 1.0, 4.0])
def test_divergence_equals_loops_over_pictures_and_learners(margin):
    output = tuple(Embedded.of(one) for one in random_learners()[0].detach())
    expected = 0.0
    for i in range(7):
        for p in range(4):
            for q in range(p + 1, 4):
                apart = sum(
                    (float(x) - float(y)) ** 2
                    for x, y in zip(output[p].z[i], output[q].z[i], strict=True)
                )
                expected += max(margin - apart, 0.0) / 7
    assert float(Divergence(margin)(output, None).total) == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_divergence():
    def loss(rows):
        return Divergence(3.0)(tuple(Embedded.of(one) for one in rows), None).total

    assert torch.autograd.gradcheck(loss, random_learners(m=3, b=3, d=3)[0])


def test_labels_and_the_order_of_learners_play_no_part():
    _, output = random_learners()
    total = Divergence()(output, None).total
    torch.testing.assert_close(Divergence()(output[::-1], torch.arange(7)).total, total)


def test_one_learner_diverges_from_nobody():
    rows, output = random_learners(m=1)
    value = Divergence()(output, None)
    assert value.total == 0
    assert value.statistics == {}
    value.total.backward()
    assert not rows.grad.any()


def test_a_pair_counts_while_its_cosine_is_above_a_half():
    for cosine, active in ((0.51, True), (0.49, False)):
        other = [cosine, math.sqrt(1 - cosine**2)]
        output = (Embedded.of(torch.tensor([[1.0, 0.0]])), Embedded.of(torch.tensor([other])))
        assert (Divergence()(output, None).total > 0) == active


@pytest.mark.parametrize("margin", [0.0, -1.0, 4.1, math.nan])
def test_margins_that_cannot_be(margin):
    with pytest.raises(InputError, match="margin must be > 0 and at most 4, the largest"):
        Divergence(margin)
    with pytest.raises(InputError, match="margin must be > 0 and at most 4"):
        attention_based(OnPairs(SquaredContrastive()), 2, margin=margin)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_margins_of_the_metric_loss(margin):
    with pytest.raises(InputError, match="margin must be > 0, in squared distance"):
        SquaredContrastive(margin)


def test_other_refusals():
    with pytest.raises(InputError, match="average must be 'kinds' or 'pairs', got 'all'"):
        SquaredContrastive(average="all")
    with pytest.raises(InputError, match="reduction must be 'mean' or 'sum', got 'max'"):
        Divergence(reduction="max")
    for weight in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="divergence must be a weight >= 0"):
            attention_based(OnPairs(SquaredContrastive()), 2, divergence=weight)
    with pytest.raises(InputError, match="learners must be >= 1"):
        attention_based(OnPairs(SquaredContrastive()), 0)
    one, two = golden()
    with pytest.raises(InputError, match="for each learner of an ensemble"):
        Divergence()(one, LABELS)
    with pytest.raises(InputError, match="learners must be of one width"):
        Divergence()((one, Embedded.of(torch.ones(3, 5).double())), LABELS)
    for z in (2 * one.z, torch.zeros_like(one.z), one.z * math.nan):
        with pytest.raises(InputError, match="rows of learners must be of unit length"):
            Divergence()((one._replace(z=z), two), LABELS)


def test_a_weight_for_one_learner_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        attention_based(OnPairs(SquaredContrastive()), 1, divergence=0.0)
        assert not caplog.records
        attention_based(OnPairs(SquaredContrastive()), 1)
    assert "divergence=1 has no effect: one learner" in caplog.text


def test_drawn_pairs_alone_count():
    z = nn.functional.normalize(torch.randn(8, 3, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 0, 2, 1, 0])
    value = OnDrawnPairs(SquaredContrastive(average="pairs"))(Embedded.of(z), labels)
    apart = [float((z[i] - z[i + 1]).square().sum()) for i in (0, 2, 4, 6)]
    terms = [apart[0], apart[1], max(1 - apart[2], 0), max(1 - apart[3], 0)]
    assert float(value.total) == pytest.approx(sum(terms) / 4, abs=1e-7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 0, 1], "no positive pair among the 2 pairs"),
        ([0, 0, 1, 1], "no negative pair among the 2 pairs"),
        ([0, 0, 1], "must hold an even number of rows"),
    ],
)
def test_batches_without_a_kind_of_pair(labels, message):
    output = Embedded.of(torch.randn(len(labels), 3))
    with pytest.raises(InputError, match=message):
        OnDrawnPairs(SquaredContrastive())(output, torch.tensor(labels))


def test_batches_without_a_kind_of_pair_where_all_count():
    objective = attention_based(OnPairs(SquaredContrastive()), 2)
    with pytest.raises(InputError, match="no anchor has a positive"):
        objective(golden(), torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match=r"no anchor has both a positive and 1 negative"):
        objective(golden(), torch.tensor([0, 0, 0]))


def test_drawn_pairs_take_pair_losses_and_no_memory():
    for loss in (Triplet(), ProxyNCA(2, 3)):
        with pytest.raises(InputError, match="OnDrawnPairs takes a PairLoss"):
            OnDrawnPairs(loss)
    memory = Memory(OnDrawnPairs(SquaredContrastive()), size=4, dim=3)
    output = Embedded.of(torch.randn(4, 3))
    memory(output, torch.tensor([0, 0, 1, 2]))
    with pytest.raises(InputError, match="put no memory around the objective"):
        memory(output, torch.tensor([0, 0, 1, 2]))


def test_rows_of_drawn_pairs_need_not_be_unit():
    z = 3 * torch.randn(4, 3)
    labels = torch.tensor([0, 0, 1, 2])
    objective = OnDrawnPairs(SquaredContrastive(), normalize=False)
    comparison = Comparison.within(z, labels)
    assert torch.equal(objective(Embedded.of(z), labels).total, objective.on(comparison).total)


@pytest.mark.parametrize(
    ("make", "drawn", "precision"),
    [
        (attentive, False, "float32"),
        (attentive, True, "float32"),
        (attentive, True, "bfloat16"),
        (many_heads, False, "float32"),
    ],
)
def test_training(tmp_path, make, drawn, precision):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randint(60, 196, (4, 1, 16, 16), generator=generator)
    noise = torch.randint(-40, 40, (4, 8, 16, 16), generator=generator)
    pixels = (centres + noise).to(torch.uint8).flatten(0, 1).numpy()
    data = ImageSet.from_arrays(pixels, torch.arange(4).repeat_interleave(8).tolist())
    torch.manual_seed(0)
    network = ConvNet(channels=1, widths=(4, 6, 8, 8))
    model = make(embedder(network, dim=8, channels=1, size=16), 2)
    pairs = OnDrawnPairs(SquaredContrastive(average="pairs"))
    objective = attention_based(pairs if drawn else OnPairs(SquaredContrastive()), 2)
    batches = RandomPairs(data.labels, 8) if drawn else None
    settings = Settings(
        epochs=1, classes=4, per_class=2, lr=1e-3, precision=precision, tensorboard=False
    )
    run = fit(model, objective, data, out=tmp_path, settings=settings, batches=batches)
    assert math.isfinite(run.history[-1]["loss"])
    assert "divergence/self_cosine" in run.history[-1]
    assert (tmp_path / "model" / "model.safetensors").is_file()
