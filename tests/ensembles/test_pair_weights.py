import math

import pytest
import torch

from tupelo.comparison import Comparison
from tupelo.ensembles.pair_weights import (
    Redirected,
    WeightedSum,
    ensemble_similarity,
    pair_weights,
    slopes,
)
from tupelo.errors import InputError
from tupelo.losses import (
    BinomialDeviance,
    Contrastive,
    CosineContrastive,
    LiftedStructure,
    MultiSimilarity,
    NTXent,
    SquaredContrastive,
)
from tupelo.selection import one_positive
from tupelo.types import PairLoss

# similarities of four pairs at three learners, and who is positive (specification, 6.4)
PAIRS = torch.tensor(
    [[0.8, 0.7, 0.6], [0.1, 0.2, 0.0], [0.6, 0.55, 0.5], [0.1, 0.0, 0.2]], dtype=torch.float64
)
POSITIVE = torch.tensor([[True, True, False, False]])
ADDITIVE = [
    [1, 0.369119, 0.363547, 0.360775],
    [1, 0.388885, 0.397474, 0.411928],
    [1, 0.900332, 0.975005, 0.975005],
    [1, 0.308931, 0.078331, 0.032605],
]
ETA = [
    [1, 0.354344, 0.385406, 0.417430],
    [1, 0.689974, 0.660756, 0.697059],
    [1, 0.993307, 0.965555, 0.841131],
    [1, 0.0, 0.0, 0.0],
]
SUM_LOSSES = {
    "deviance": BinomialDeviance(),
    "contrastive": Contrastive(0.1, 0.9),
    "squared": Contrastive(0.1, 1.1, squared=True),
    "cosine": CosineContrastive(),
    "squared distances": SquaredContrastive(1.5),
    "of all pairs": SquaredContrastive(1.5, average="pairs"),
}
ONE = torch.ones(())


def rows(b=8, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(b, d, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(z).requires_grad_()


def labels(b=8):
    return torch.arange(b) // 2 % 3


class TestGoldenValues:
    @pytest.mark.parametrize(("rule", "expected"), [("additive", ADDITIVE), ("eta", ETA)])
    def test_weights(self, rule, expected):
        for learner in range(4):
            so_far = [PAIRS[None, :, i] for i in range(learner)]
            weights = pair_weights(BinomialDeviance(), so_far, POSITIVE, rule=rule)[0]
            golden = torch.tensor([row[learner] for row in expected], dtype=torch.float64)
            torch.testing.assert_close(weights.double(), golden, rtol=0, atol=1e-6)

    def test_the_ensemble_similarity(self):
        joined = ensemble_similarity([PAIRS[None, :, i] for i in range(3)])[0]
        assert float(joined[0]) == pytest.approx(2 / 3)
        shares = torch.tensor([1 / 6, 1 / 3, 1 / 2], dtype=torch.float64)
        torch.testing.assert_close(joined, PAIRS @ shares)

    @pytest.mark.parametrize(
        ("s", "positive", "value"),
        [
            (0.9, True, 0.37110067),
            (0.5, True, 0.69314718),
            (0.1, True, 1.17110067),
            (0.1, False, 2.0611536e-9),
            (0.5, False, 0.69314718),
            (0.55, False, 2.57888973),
        ],
    )
    def test_the_deviance_of_a_pair(self, s, positive, value):
        anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        candidate = torch.tensor([[s, math.sqrt(1 - s * s)]], dtype=torch.float64)
        mask = torch.tensor([[positive]])
        comparison = Comparison(anchor, candidate, mask, ~mask)
        term = WeightedSum(BinomialDeviance(), ONE)(comparison)
        assert float(term) == pytest.approx(value, rel=1e-6)

    def test_base_weights(self):
        """Labels 0011: every entry .125; positives weigh .5 together, negatives 1."""
        z = rows(4)
        comparison = Comparison.within(z, torch.tensor([0, 0, 1, 1]))
        s = comparison.similarity
        x = torch.where(comparison.positive, 2 * (s - 0.5), -50 * (s - 0.5))
        terms = torch.nn.functional.softplus(-x) * (1 - torch.eye(4))
        total = WeightedSum(BinomialDeviance(), ONE, with_diagonal=True)(comparison).mean()
        assert float((total - 0.125 * terms.sum()).detach()) == pytest.approx(0, abs=1e-12)
        plain = WeightedSum(BinomialDeviance(), ONE)(comparison).mean()
        near = terms[comparison.positive].sum()
        assert float((plain - total - 0.125 * near).detach()) == pytest.approx(0, abs=1e-12)


def naive(loss, comparison, weights):
    """Sum over pairs of base weight, weight and loss, one pair at a time."""
    near, far = [], []
    for i in range(len(comparison.anchors)):
        for j in range(len(comparison.candidates)):
            s, w = comparison.anchors[i] @ comparison.candidates[j], weights[i, j]
            d = ((comparison.anchors[i] - comparison.candidates[j]).square().sum() + 1e-8).sqrt()
            if isinstance(loss, BinomialDeviance):
                plus, minus = -2 * (s - 0.5), 50 * (s - 0.5)
                plus, minus = (x.exp().log1p() for x in (plus, minus))
            elif isinstance(loss, Contrastive):
                plus = (d - loss.positive_margin).clamp(min=0)
                minus = (loss.negative_margin - d).clamp(min=0)
                if loss.squared:
                    plus, minus = plus.square(), minus.square()
            elif isinstance(loss, SquaredContrastive):
                plus, minus = d.square(), (loss.margin - d.square()).clamp(min=0)
            else:
                plus, minus = (0.8 - s).clamp(min=0), (s - 0.5).clamp(min=0)
            if comparison.positive[i, j]:
                near.append((plus, w))
            elif comparison.negative[i, j]:
                far.append((minus, w))
    b = len(comparison.anchors)
    counts = {
        BinomialDeviance: (len(near), len(far)),
        Contrastive: tuple(max(1, sum(float(x.detach()) > 0 for x, _ in y)) for y in (near, far)),
        CosineContrastive: (b, b),
        SquaredContrastive: (len(near), len(far)),
    }[type(loss)]
    if getattr(loss, "average", "") == "pairs":
        counts = (len(near) + len(far),) * 2
    parts = [sum(x * w for x, w in y) / n for y, n in zip((near, far), counts, strict=True)]
    return parts[0] + parts[1]


@pytest.mark.parametrize("name", SUM_LOSSES)
def test_weighted_sums_equal_the_naive_loop(name):
    loss, z = SUM_LOSSES[name], rows()
    weights = torch.rand(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = WeightedSum(loss, weights)(Comparison.within(z, labels())).mean()
    expected = naive(loss, Comparison.within(z, labels()), weights)
    torch.testing.assert_close(total, expected)
    one, other = (torch.autograd.grad(x, z)[0] for x in (total, expected))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", SUM_LOSSES)
def test_without_weights_it_is_the_loss(name):
    loss, z = SUM_LOSSES[name], rows()
    torch.testing.assert_close(
        WeightedSum(loss, ONE)(Comparison.within(z, labels())), loss(Comparison.within(z, labels()))
    )


class Renamed(PairLoss):
    """A loss that is not known to be a sum over pairs."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, comparison):
        return self.loss(comparison)


class Squares(PairLoss):
    def forward(self, comparison):
        return comparison.anchors.square().sum(1)


def of_pairs(loss, comparison, *at):
    """d loss / d similarity (or distance) of every pair, at the comparison's own or others."""
    other = comparison.with_pairs(comparison.positive, comparison.negative)
    if at:
        s = at[0].detach().clone().requires_grad_()
        other.__dict__["similarity"] = s
        other.__dict__["distance"] = ((2 - 2 * s).clamp(min=0) + 1e-8).sqrt()
    name = "distance" if isinstance(loss, LiftedStructure) and not at else "similarity"
    pairs = getattr(other, name)
    return torch.autograd.grad(loss(other).mean(), pairs, retain_graph=True)[0], pairs


class TestOtherLosses:
    def joined(self):
        unit = rows(seed=3).detach()
        return unit @ unit.T

    @pytest.mark.parametrize("kept", ["all", "one positive"])
    @pytest.mark.parametrize("loss", [MultiSimilarity(), NTXent(), LiftedStructure()], ids=repr)
    def test_gradients_move_to_pairs_with_a_slope_and_the_value_is_kept(self, loss, kept):
        """Pair by pair: own gradient times slope, scaled for positives and negatives apart."""
        z, joined = rows(), self.joined()
        plain = Comparison.within(z, labels())
        if kept != "all":  # EPS: what is left out counts nowhere
            plain = one_positive(plain, "easiest")
        own, pairs = of_pairs(loss, plain)
        slope = of_pairs(loss, plain, joined)[0].abs()
        moved = torch.zeros_like(own)
        for mask in (plain.positive, plain.negative):
            where = [tuple(at) for at in mask.nonzero().tolist()]
            new = {at: float(own[at] * slope[at]) for at in where}
            scale = sum(abs(float(own[at])) for at in where) / sum(map(abs, new.values()))
            for at, value in new.items():
                moved[at] = value * scale
        (expected,) = torch.autograd.grad(pairs, z, moved, retain_graph=True)
        redirected = Redirected(loss, joined)(plain).mean()
        assert float(redirected.detach()) == pytest.approx(float(loss(plain).mean().detach()))
        torch.testing.assert_close(torch.autograd.grad(redirected, z)[0], expected)

    @pytest.mark.parametrize("kind", ["positive", "negative"])
    @pytest.mark.parametrize("name", ["deviance", "cosine", "squared distances"])
    def test_up_to_a_scale_it_is_the_weighted_sum_where_both_are_defined(self, name, kind):
        loss, joined, z = SUM_LOSSES[name], self.joined(), rows()
        whole = Comparison.within(z, labels())
        none = torch.zeros_like(whole.positive)
        pairs = (whole.positive, none) if kind == "positive" else (none, whole.negative)
        weights = pair_weights(loss, [joined], whole.positive, rule="eta")
        found, exact = (
            torch.autograd.grad(each(whole.with_pairs(*pairs)).mean(), z)[0]
            for each in (Redirected(Renamed(loss), joined), WeightedSum(loss, weights))
        )
        torch.testing.assert_close(found / found.norm(), exact / exact.norm())

    def test_nothing_left_teaches_nothing(self):
        for loss in (Renamed(CosineContrastive()), MultiSimilarity()):
            z = rows()
            comparison = Comparison.within(z, labels())
            solved = torch.where(comparison.positive, 1.0, 0.0).double()
            (gradient,) = torch.autograd.grad(Redirected(loss, solved)(comparison).mean(), z)
            assert torch.equal(gradient, torch.zeros_like(z))

    def test_tiny_slopes_overflow_nowhere(self):
        """NT-Xent of temperature 0.01 in float32: slopes of e^-100."""
        z = rows().detach().float().requires_grad_()
        comparison = Comparison.within(z, labels())
        solved = torch.where(comparison.positive, 1.0, -1.0)
        solved[0, 7] = 0.5
        total = Redirected(NTXent(0.01), solved)(comparison).mean()
        (gradient,) = torch.autograd.grad(total, z)
        assert torch.isfinite(gradient).all()

    def test_slopes_of_the_deviance_are_its_derivative(self):
        comparison, joined = Comparison.within(rows(), labels()), self.joined()
        found = slopes(BinomialDeviance(), comparison, joined)
        near, far = comparison.positive, comparison.negative
        expected = torch.where(
            near,
            2 * torch.sigmoid(-2 * (joined - 0.5)) / near.sum(),
            50 * torch.sigmoid(50 * (joined - 0.5)) / far.sum(),
        )
        torch.testing.assert_close(found, torch.where(near | far, expected, 0.0))
        assert not found.requires_grad

    def test_a_loss_of_something_else_is_refused(self):
        comparison = Comparison.within(rows(), labels())
        with pytest.raises(InputError, match="Squares depends on neither similarity nor distance"):
            Redirected(Squares(), comparison.similarity)(comparison)


def test_shrinkage_of_the_eta_rule_scales_the_averaged_similarities():
    """Averaged times .5, then formed into margins; written out for two learners."""
    loss, so_far = BinomialDeviance(), [PAIRS[None, :, 0], PAIRS[None, :, 1]]
    found = pair_weights(loss, so_far, POSITIVE, rule="eta", shrinkage=0.5)
    s = PAIRS[:, 0] * 0.5 / 3 + PAIRS[:, 1] * 0.5 * 2 / 3
    x = 2 * (s - 0.5) * torch.tensor([1, 1, -25, -25])
    torch.testing.assert_close(found[0], torch.sigmoid(-x))


def test_contrastive_weights_are_indicators():
    s, positive = torch.tensor([[0.9, 0.7, 0.6, 0.4]]), torch.tensor([[True, True, False, False]])
    assert pair_weights(CosineContrastive(), [s], positive, rule="eta").tolist() == [[0, 1, 1, 0]]
    # distances of unit rows: 0.447, 0.775, 0.894, 1.095
    loss = Contrastive(0.5, 1.0)
    assert pair_weights(loss, [s], positive, rule="eta").tolist() == [[0, 1, 1, 0]]
    squared = pair_weights(Contrastive(0.5, 1.0, squared=True), [s], positive, rule="eta")
    torch.testing.assert_close(squared, torch.tensor([[0, 0.5492, 0.2111, 0]]), atol=1e-4, rtol=0)
    # squared distances: 0.2, 0.6, 0.8, 1.2; positives have no margin
    assert pair_weights(SquaredContrastive(), [s], positive, rule="eta").tolist() == [[1, 1, 1, 0]]


def test_weights_carry_no_gradient():
    s = torch.rand(2, 3, requires_grad=True)
    positive = torch.tensor([[True, False, False]] * 2)
    for rule in ("additive", "eta"):
        assert not pair_weights(BinomialDeviance(), [s, s], positive, rule=rule).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "gradient"}, "rule must be 'additive' or 'eta', got 'gradient'"),
        ({"shrinkage": 0.0}, "shrinkage must be > 0, got 0.0"),
        ({"shrinkage": -1.0}, "shrinkage must be > 0, got -1.0"),
        ({"shrinkage": math.nan}, "shrinkage must be > 0, got nan"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        pair_weights(BinomialDeviance(), [], POSITIVE, **options)


def test_refused_losses():
    with pytest.raises(InputError, match="rule='additive' adds up margins of BinomialDeviance"):
        pair_weights(Contrastive(), [], POSITIVE)
    with pytest.raises(InputError, match="loss must be a sum over pairs, one of BinomialDeviance"):
        pair_weights(MultiSimilarity(), [], POSITIVE, rule="eta")
    with pytest.raises(InputError, match=r"alpha and negative_cost must be > 0, got 0\.0 and 25"):
        BinomialDeviance(alpha=0.0)
    with pytest.raises(InputError, match=r"alpha and negative_cost must be > 0, got 2\.0 and -1"):
        BinomialDeviance(negative_cost=-1.0)
