import copy
import logging
import math

import pytest
import torch
from torch.nn import functional as F

from tupelo.errors import CheckpointError, InputError
from tupelo.losses import (
    AdaptiveMargin,
    AngularSoftmax,
    CosineMargin,
    ExponentialMean,
    Mining,
    usual_scale,
)
from tupelo.objectives import OnClasses
from tupelo.types import Embedded

C, D, B = 5, 4, 9
VARIANTS = {
    "softmax": lambda: AngularSoftmax(C, D),
    "basic": lambda: AngularSoftmax(C, D, constraint=CosineMargin()),
    "squared": lambda: AngularSoftmax(C, D, constraint=CosineMargin(mining=Mining(power=2))),
    "every sample": lambda: AngularSoftmax(C, D, constraint=CosineMargin(mining=Mining("none"))),
    "violators": lambda: AngularSoftmax(
        C, D, constraint=CosineMargin(0.3, mining=Mining("violators")), weight=3.0
    ),
    "topk": lambda: AngularSoftmax(C, D, constraint=CosineMargin(mining=Mining("topk"))),
    "adaptive": lambda: AngularSoftmax(C, D, constraint=CosineMargin(AdaptiveMargin(start=0.4))),
    "normalised": lambda: AngularSoftmax(C, D, constraint=CosineMargin(), scale=16.0),
    "learned scale": lambda: AngularSoftmax(C, D, scale=4.0, learn_scale=True),
    "exponential": lambda: AngularSoftmax(C, D, constraint=ExponentialMean()),
    "exponential, inside": lambda: AngularSoftmax(
        C, D, constraint=ExponentialMean(0.4, form="inside"), scale=16.0
    ),
    "exponential, log": lambda: AngularSoftmax(
        C, D, constraint=ExponentialMean(20.0, sharpness=30.0, form="log"), scale=30.0
    ),
    "exponential, adaptive": lambda: AngularSoftmax(
        C, D, constraint=ExponentialMean(AdaptiveMargin(), sharpness=2.0)
    ),
    "detached": lambda: AngularSoftmax(C, D, constraint=CosineMargin(), detach_weight=True),
    "exponential, detached": lambda: AngularSoftmax(
        C, D, constraint=ExponentialMean(), detach_weight=True, scale=8.0
    ),
}


def batch(seed=0, b=B):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(b, D, dtype=torch.float64, generator=draw)
    return rows, torch.randint(C, (b,), generator=draw)


def made(name, seed=0):
    torch.manual_seed(seed)
    return VARIANTS[name]().double()


def naive(loss, rows, labels):
    """The loss of the specification with loops over samples and classes."""
    weights = loss.weights.tolist()
    bias = [0.0] * C if loss.bias is None else loss.bias.tolist()

    def dot(x, y):
        return sum(a * b for a, b in zip(x, y, strict=True))

    def cosine(x, w):
        return dot(x, w) / math.sqrt(dot(x, x) * dot(w, w))

    scale = loss.scale
    softmax, gaps = [], []
    for x, y in zip(rows.tolist(), labels.tolist(), strict=True):
        c = [cosine(x, w) for w in weights]
        if scale is None:
            logits = [dot(x, w) + b for w, b in zip(weights, bias, strict=True)]
        else:
            logits = [scale * each for each in c]
        softmax.append(math.log(sum(map(math.exp, logits))) - logits[y])
        constraint = loss.constraint
        if isinstance(constraint, CosineMargin):
            margin = constraint.margin
            gaps.append((float(margin.margin) if hasattr(margin, "margin") else margin) - c[y])
        elif constraint is not None:
            k = constraint.sharpness
            others = sum(math.exp(k * each) for j, each in enumerate(c) if j != y) / (C - 1)
            m = constraint.margin
            m = float(m.margin) if hasattr(m, "margin") else m
            gaps.append(
                {
                    "outside": others + m - math.exp(k * c[y]),
                    "inside": others - math.exp(k * (c[y] - m)),
                    "log": math.log(others) + m - k * c[y],
                }[constraint.form]
            )
    total = sum(softmax) / len(softmax)
    if loss.constraint is None:
        return total
    mining = loss.constraint.mining
    short = [max(0.0, g) for g in gaps] if mining.mode != "none" else gaps
    if mining.power == 2:
        short = [g * g / 2 for g in short]
    count = len(short)
    if mining.mode == "violators":
        count = max(1, sum(g > 0 for g in gaps))
    if mining.mode == "topk":
        count = math.ceil(mining.share * len(short))
        short = sorted(short, reverse=True)[:count]
    return total + loss.weight * sum(short) / count


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_loops(name, seed):
    loss, (rows, labels) = made(name, seed), batch(seed)
    value = naive(loss, rows, labels)
    assert loss(Embedded.of(rows), labels).terms.mean().item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "detached" not in name])
def test_gradients_of_features_and_weights(name):
    loss, (rows, labels) = made(name).eval(), batch(b=6)

    def value(rows, weights):
        state = {"weights": weights}
        call = torch.func.functional_call
        return call(loss, state, (Embedded.of(rows), labels)).terms

    rows.requires_grad_()
    assert torch.autograd.gradcheck(value, (rows, loss.weights.detach().requires_grad_()))


@pytest.mark.parametrize("name", VARIANTS)
def test_order_of_the_batch_and_names_of_classes_do_not_matter(name):
    loss, (rows, labels) = made(name).eval(), batch()
    value = loss(Embedded.of(rows), labels).terms.mean()
    order = torch.randperm(B)
    torch.testing.assert_close(loss(Embedded.of(rows[order]), labels[order]).terms.mean(), value)
    names = torch.randperm(C)
    other = copy.deepcopy(loss)
    with torch.no_grad():
        other.weights[names] = loss.weights
        if loss.bias is not None:
            other.bias[names] = loss.bias
    torch.testing.assert_close(other(Embedded.of(rows), names[labels]).terms.mean(), value)


@pytest.mark.parametrize("name", ["basic", "violators", "topk", "exponential", "normalised"])
def test_the_constraint_turns_features_and_never_stretches_them(name):
    loss, (rows, labels) = made(name), batch()
    rows.requires_grad_()
    found = loss(Embedded.of(rows), labels)
    (gradient,) = torch.autograd.grad(found.parts["penalty"].sum(), rows)
    assert gradient.abs().sum() > 0
    assert (gradient * rows).sum(1).abs().max() < 1e-12


def test_the_gradient_of_a_violator_is_the_published_one():
    loss, (rows, labels) = made("basic"), batch()
    rows.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(Embedded.of(rows), labels).parts["penalty"].sum(), rows)
    x, w = F.normalize(rows, dim=1), F.normalize(loss.weights[labels], dim=1)
    expected = -(w - (x * w).sum(1, keepdim=True) * x) / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", ["detached", "exponential, detached"])
def test_a_detached_constraint_leaves_the_weights_alone(name):
    loss, (rows, labels) = made(name), batch()
    rows.requires_grad_()
    penalty = loss(Embedded.of(rows), labels).parts["penalty"].sum()
    (of_rows,) = torch.autograd.grad(penalty, rows, retain_graph=True)
    (of_weights,) = torch.autograd.grad(penalty, loss.weights, allow_unused=True)
    assert of_weights is None
    plain = VARIANTS["basic" if name == "detached" else "exponential"]().double()
    plain.load_state_dict({**plain.state_dict(), "weights": loss.weights.detach()}, strict=True)
    (same,) = torch.autograd.grad(plain(Embedded.of(rows), labels).parts["penalty"].sum(), rows)
    torch.testing.assert_close(of_rows, same)


@pytest.mark.parametrize(
    "options",
    [
        {"constraint": CosineMargin(), "weight": 0.0},
        {"constraint": CosineMargin(-1.0)},
        {"constraint": ExponentialMean(-50.0)},
    ],
    ids=["weight 0", "m = -1", "m_e far below 0"],
)
@pytest.mark.parametrize("scale", [None, 16.0])
def test_an_inert_constraint_is_the_softmax_bit_for_bit(options, scale):
    rows, labels = batch()
    rows.requires_grad_()
    found = []
    for each in (options, {}):
        torch.manual_seed(0)
        loss = AngularSoftmax(C, D, scale=scale, **each).double()
        value = loss(Embedded.of(rows), labels).terms.mean()
        found.append((value, *torch.autograd.grad(value, (rows, loss.weights))))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_plain_softmax_is_that_of_torch():
    loss, (rows, labels) = made("softmax"), batch()
    expected = F.cross_entropy(rows @ loss.weights.T + loss.bias, labels, reduction="none")
    torch.testing.assert_close(loss(Embedded.of(rows), labels).terms, expected)


def test_statistics_are_those_of_the_cosines():
    loss, (rows, labels) = made("basic"), batch()
    told = loss(Embedded.of(rows), labels).statistics
    cosines = F.normalize(rows, dim=1) @ F.normalize(loss.weights, dim=1).T
    own = F.one_hot(labels, C).bool()
    assert told["intra cosine"] == pytest.approx(cosines[own].mean().item())
    assert told["inter cosine"] == pytest.approx(cosines[~own].mean().item())
    assert told["active"] == pytest.approx((cosines[own] < 0.9).double().mean().item())
    assert told["margin"] == 0.9


def test_on_classes_gives_means_of_the_parts():
    objective, (rows, labels) = OnClasses(made("basic")), batch()
    value = objective(Embedded.of(rows), labels)
    assert set(value.parts) == {"softmax", "penalty"}
    assert value.total.item() == pytest.approx(sum(value.parts.values()).item())
    assert not value.parts["penalty"].requires_grad
    assert value.statistics["margin"] == 0.9


def test_the_constraint_waits_for_its_first_step():
    loss, (rows, labels) = AngularSoftmax(C, D, constraint=CosineMargin(), start_step=2), batch()
    loss.double()
    parts = [set(loss(Embedded.of(rows), labels).parts) for _ in range(3)]
    assert parts == [{"softmax"}, {"softmax"}, {"softmax", "penalty"}]
    assert "penalty" in loss.eval()(Embedded.of(rows), labels).parts
    assert int(loss.steps) == 3


@pytest.mark.parametrize("name", ["adaptive", "exponential, adaptive"])
def test_an_adaptive_margin_moves_in_training_alone_and_resumes(name):
    loss, (rows, labels) = made(name), batch()
    before = float(loss.constraint.margin.margin)
    loss.eval()(Embedded.of(rows), labels)
    assert float(loss.constraint.margin.margin) == before
    told = loss.train()(Embedded.of(rows), labels).statistics
    assert told["margin"] == pytest.approx(before)  # the batch met the old one
    for _ in range(3):
        loss(Embedded.of(rows), labels)
    other = made(name, seed=1)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    for each in (loss, other):
        each(Embedded.of(rows), labels)
    assert torch.equal(loss.constraint.margin.margin, other.constraint.margin.margin)


def test_a_margin_by_the_epoch_moves_when_the_objective_ends_it():
    constraint = CosineMargin(AdaptiveMargin(update="epoch", rate=0.5))
    objective = OnClasses(AngularSoftmax(C, D, constraint=constraint)).double()
    rows, labels = batch()
    told = [objective(Embedded.of(rows), labels).statistics for _ in range(2)]
    assert told[1]["margin"] == 0
    objective.end_epoch()
    expected = 0.5 * (told[0]["intra cosine"] + 0.1)
    assert objective(Embedded.of(rows), labels).statistics["margin"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("constraint", "ceiling"),
    [
        (CosineMargin, 0.98),
        (ExponentialMean, 0.95 * (math.e - 1)),
        (lambda margin: ExponentialMean(margin, sharpness=2.0, form="inside"), 0.95),
        (lambda margin: ExponentialMean(margin, sharpness=2.0, form="log"), 1.9),
    ],
)
def test_the_ceiling_of_a_margin_that_does_not_say(constraint, ceiling):
    margin = AdaptiveMargin(rate=1.0, delta=100.0)
    loss, (rows, labels) = AngularSoftmax(C, D, constraint=constraint(margin)), batch()
    loss.double()(Embedded.of(rows), labels)
    assert float(margin.margin) == pytest.approx(ceiling)


def test_inside_a_margin_follows_the_lead_in_cosines():
    # own cosine 0.8, others 0: the lead is 0.8 whatever the sharpness
    constraint = ExponentialMean(0.5, sharpness=3.0, form="inside")
    own, cosines = torch.tensor([0.8]), torch.tensor([[0.8, 0.0, 0.0]])
    assert constraint(own, cosines, torch.tensor([0])).reached.item() == pytest.approx(0.8)


def test_an_adaptive_margin_ends_at_what_its_constraint_can_reach():
    constraint = ExponentialMean(AdaptiveMargin(rate=1.0, delta=100.0))
    loss, (rows, labels) = AngularSoftmax(C, D, constraint=constraint).double(), batch()
    loss(Embedded.of(rows), labels)
    assert float(constraint.margin.margin) == pytest.approx(0.95 * (math.e - 1))


def test_a_state_without_the_margin_is_refused():
    with pytest.raises(CheckpointError, match=r"no constraint\.margin\.margin"):
        made("adaptive").load_state_dict(made("basic").state_dict())


@pytest.mark.parametrize(
    ("margin", "message"),
    [(0.99, "no sample reached the margin 0.99"), (-0.99, "every sample kept the margin -0.99")],
)
def test_a_margin_out_of_reach_or_without_effect_is_told(margin, message, caplog):
    loss, (rows, labels) = AngularSoftmax(C, D, constraint=CosineMargin(margin)).double(), batch()
    with caplog.at_level(logging.WARNING):
        OnClasses(loss).end_epoch()
        assert not caplog.records  # there was no batch
        loss(Embedded.of(rows), labels)
        OnClasses(loss).end_epoch()
    assert message in caplog.text
    caplog.clear()
    loss = AngularSoftmax(C, D, constraint=CosineMargin(0.0)).double()
    loss(Embedded.of(rows), labels)
    loss.end_epoch()
    assert not caplog.records


def test_every_epoch_is_told_by_itself(caplog):
    loss, (rows, labels) = AngularSoftmax(C, D, constraint=CosineMargin(0.0)).double(), batch()
    away = -50 * loss.weights.detach()[labels]  # cosine -1
    for rows_ in (rows, away):
        loss(Embedded.of(rows_), labels)
    loss.end_epoch()  # some samples of the first batch kept the margin
    assert not caplog.records
    loss(Embedded.of(away), labels)
    loss.end_epoch()
    assert "no sample reached the margin" in caplog.text
    caplog.clear()
    loss.end_epoch()  # an epoch without a batch
    assert not caplog.records


def test_the_rate_of_class_weights():
    objective = OnClasses(AngularSoftmax(C, D, learning_rate=0.3))
    assert [group["lr"] for group in objective.parameter_groups()] == [0.3]
    assert "lr" not in OnClasses(AngularSoftmax(C, D)).parameter_groups()[0]


def test_half_precision_features_are_compared_in_float32():
    loss, (rows, labels) = made("exponential").float(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(Embedded.of(rows.bfloat16()), labels).terms
    assert terms.dtype == torch.float32
    torch.testing.assert_close(terms, loss(Embedded.of(rows.bfloat16().float()), labels).terms)


def test_a_learned_scale_starts_where_it_was_given_and_is_learned():
    loss, (rows, labels) = made("learned scale"), batch()
    same = AngularSoftmax(C, D, scale=4.0).double()
    same.load_state_dict({k: v for k, v in loss.state_dict().items() if k != "raw_scale"})
    terms = loss(Embedded.of(rows), labels).terms
    torch.testing.assert_close(terms, same(Embedded.of(rows), labels).terms, rtol=1e-6, atol=1e-6)
    assert torch.autograd.grad(terms.mean(), loss.raw_scale)[0] != 0


def test_the_usual_scale_gives_that_probability():
    scale = usual_scale(100, 0.9)
    assert math.exp(scale) / (math.exp(scale) + 99) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AngularSoftmax(1, 2), "need n_classes >= 2 and dim >= 1, got 1 and 2"),
        (lambda: AngularSoftmax(2, 2, weight=-0.1), "weight must be a finite number >= 0"),
        (lambda: AngularSoftmax(2, 2, scale=0.0), "scale must be a finite number > 0"),
        (lambda: AngularSoftmax(2, 2, learn_scale=True), "learn_scale needs the scale to start"),
        (lambda: AngularSoftmax(2, 2, start_step=-1), "start_step must be >= 0"),
        (lambda: CosineMargin(1.0), r"margin must be in \[-1, 1\), a cosine, got 1.0"),
        (lambda: CosineMargin(-1.1), r"margin must be in \[-1, 1\)"),
        (lambda: CosineMargin(AdaptiveMargin(highest=1.0)), r"margin must be in \[-1, 1\)"),
        (lambda: CosineMargin(AdaptiveMargin(start=5.0)), "start must be at most 0.98"),
        (lambda: CosineMargin(AdaptiveMargin(start=-2.0)), r"margin must be in \[-1, 1\)"),
        (lambda: ExponentialMean(AdaptiveMargin(start=2.0)), "start must be at most 1.632"),
        (lambda: ExponentialMean(2.0, sharpness=1.0, form="log"), "must be below 2, the most"),
        (lambda: ExponentialMean(2.3505), "must be below 2.35, the most .* got 2.3505"),
        (lambda: ExponentialMean(2.0, form="inside"), "must be below 2, the most"),
        (lambda: ExponentialMean(AdaptiveMargin(highest=9.0)), "must be below 2.35"),
        (lambda: ExponentialMean(sharpness=0.0), "sharpness must be a finite number > 0"),
        (lambda: ExponentialMean(sharpness=21.0), "at most 20 .* take form='log'"),
        (lambda: ExponentialMean(form="both"), "form must be .* got 'both'"),
        (lambda: usual_scale(1), "n_classes >= 2 and probability"),
        (lambda: usual_scale(5, 1.0), "n_classes >= 2 and probability"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_an_exponential_constraint_needs_other_classes():
    with pytest.raises(InputError, match="needs at least 2 classes, got 1"):
        ExponentialMean()(torch.ones(1), torch.ones(1, 1), torch.tensor([0]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.0] * D, "got a feature of length 0 at row 1; do not end the network in a ReLU"),
        ([math.nan] * D, "features must be finite, and their length"),
        ([math.inf] * D, "features must be finite"),
    ],
)
def test_features_without_a_direction_are_refused(row, message):
    rows, labels = batch()
    rows[1] = torch.tensor(row)
    with pytest.raises(InputError, match=message):
        made("basic")(Embedded.of(rows), labels)


def test_class_weights_without_a_direction_are_refused():
    loss, (rows, labels) = made("basic"), batch()
    with torch.no_grad():
        loss.weights[2] = 0
    message = "got a class weight row of length 0 at row 2; start class weights from random"
    with pytest.raises(InputError, match=message):
        loss(Embedded.of(rows), labels)
    for value in (math.nan, math.inf):
        with torch.no_grad():
            loss.weights[2] = value
        with pytest.raises(InputError, match="class weight rows must be finite"):
            loss(Embedded.of(rows), labels)


def test_labels_and_widths_that_do_not_fit_are_refused():
    loss, (rows, labels) = made("basic"), batch()
    with pytest.raises(InputError, match=r"labels must lie in \[0, 5\) for AngularSoftmax"):
        loss(Embedded.of(rows), labels + C)
    with pytest.raises(InputError, match="got dim=4 for embeddings of width 3"):
        loss(Embedded.of(rows[:, :3]), labels)
