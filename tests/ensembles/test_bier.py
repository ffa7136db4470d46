import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tupelo.comparison import Comparison
from tupelo.data import ImageSet
from tupelo.ensembles import Boosted
from tupelo.ensembles.bier import correlation
from tupelo.ensembles.pair_weights import Redirected
from tupelo.errors import InputError
from tupelo.losses import (
    BinomialDeviance,
    Contrastive,
    CosineContrastive,
    Margin,
    MultiSimilarity,
    NPair,
    NTXent,
    ProxyNCA,
    Triplet,
)
from tupelo.models import divided, embedder
from tupelo.objectives import Memory, OnClasses, OnPairs, OnTuples, PerLearner, Sum
from tupelo.sections import Shown
from tupelo.selection import AllTuples, PerAnchor
from tupelo.synthesis import HardnessAware, IntraClassAugmented
from tupelo.training import Settings, fit
from tupelo.training.optimizers import build_optimizer
from tupelo.types import Embedded

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
OBJECTIVES = {
    "deviance": lambda: OnPairs(BinomialDeviance()),
    "contrastive": lambda: OnPairs(Contrastive(0.0, 1.2)),
    "cosine": lambda: OnPairs(CosineContrastive()),
    "multi-similarity": lambda: OnPairs(MultiSimilarity()),
    "NT-Xent": lambda: OnPairs(NTXent()),
    "EPS": lambda: OnPairs(BinomialDeviance(), positives="easiest"),
    "triplet": lambda: OnTuples(AllTuples(), Triplet()),
    "margin": lambda: OnTuples(PerAnchor("easiest", "distance-weighted"), Margin(n_classes=3)),
    "negatives": lambda: OnTuples(PerAnchor(negatives=2), Triplet(squared=True)),
}


def build(widths=(3, 4, 5), *, scale="sqrt", seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    whole = embedder(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 6)),
        features=6,
        dim=sum(widths),
        channels=1,
        **options,
    )
    return divided(whole, widths, scale=scale).to(dtype)


def pictures(b=8, dtype=torch.float64):
    return torch.rand(b, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def gradients(value, *modules):
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return torch.autograd.grad(value.total, parameters, allow_unused=True, retain_graph=True)


def same(one, other):
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_learner_equals_the_plain_objective_exactly(name):
    model, plain = build((5,)), OBJECTIVES[name]().double()
    boosted = Boosted(plain, model).double()
    output = model(pictures())
    one = boosted(output, LABELS, generator=torch.Generator().manual_seed(3))
    other = plain(output[0], LABELS, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one.total, other.total)
    assert same(gradients(one, model), gradients(other, model))
    assert "correlation" not in one.statistics


def official(raws, labels, *, rule, shrinkage, exclude):
    """The computation of the released code, one pair at a time, with constants 2, .5 and 25."""
    b, m = len(labels), len(raws)
    rows = [[raw[i] / raw[i].norm().clamp(min=1e-5) for i in range(b)] for raw in raws]
    same = [[labels[i] == labels[j] for j in range(b)] for i in range(b)]
    near = sum(same[i][j] for i in range(b) for j in range(b) if not (exclude and i == j))
    far = sum(not same[i][j] for i in range(b) for j in range(b))
    total = 0.0
    for i in range(b):
        for j in range(b):
            if i == j:
                continue
            sign = 1.0 if same[i][j] else -25.0
            base = 1 / near if same[i][j] else 1 / far
            weight, act, joined = 1.0, 0.5 if rule == "additive" else 0.0, 0.0
            for k in range(m):
                s = rows[k][i] @ rows[k][j]
                x = 2 * (s - 0.5) * sign
                total = total + torch.log1p(torch.exp(-x)) * weight * base / m
                if rule == "additive":
                    act = act + shrinkage * float(x.detach())
                    weight = 1 / (1 + np.exp(act)) * (1 if same[i][j] else 2)
                else:
                    nu = 2 / (k + 2)
                    joined = (1 - nu) * joined + nu * shrinkage * float(s.detach())
                    act = 2 * (joined - 0.5) * sign
                    weight = 1 / (1 + np.exp(act))
    return total


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize(
    ("rule", "shrinkage", "given"),
    [
        ("additive", 0.06, None),
        ("additive", 0.3, 0.3),
        ("eta", 1.0, None),
        ("eta", 0.7, 0.7),
    ],
)
def test_loss_and_gradients_equal_the_naive_loop(rule, shrinkage, given, exclude):
    model = build()
    boosted = Boosted(
        OnPairs(BinomialDeviance()),
        model,
        rule=rule,
        shrinkage=given,
        exclude_diag_from_norm=exclude,
    )
    output = model(pictures())
    value = boosted(output, LABELS)
    raws = [one.raw for one in output]
    expected = official(raws, LABELS.tolist(), rule=rule, shrinkage=shrinkage, exclude=exclude)
    torch.testing.assert_close(value.total, expected)
    for one, other in zip(
        torch.autograd.grad(value.total, raws, retain_graph=True),
        torch.autograd.grad(expected, raws),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_usual_rules():
    """Additive with the deviance, eta with all other losses."""
    model = build()
    output = model(pictures())
    for name, usual in (("deviance", "additive"), ("contrastive", "eta"), ("triplet", "eta")):
        without, given = (
            Boosted(OBJECTIVES[name](), model, rule=rule)(output, LABELS).total
            for rule in (None, usual)
        )
        assert torch.equal(without, given)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learners_get_gradients_of_their_own_loss_only(name):
    """Weights are detached: the loss of a learner moves neither earlier nor later learners."""
    model, boosted = build(), Boosted(OBJECTIVES[name](), build()).double()
    boosted._model = (model,)
    raws = [one.raw.detach().requires_grad_() for one in model(pictures())]
    parts = boosted.learners.objectives
    for i in range(3):
        output = tuple(Embedded.of(raw if i == j else raw.detach()) for j, raw in enumerate(raws))
        alone = boosted(output, LABELS, generator=torch.Generator().manual_seed(0)).total
        together = boosted(
            tuple(map(Embedded.of, raws)), LABELS, generator=torch.Generator().manual_seed(0)
        ).total
        torch.testing.assert_close(
            torch.autograd.grad(alone, raws[i])[0], torch.autograd.grad(together, raws[i])[0]
        )
    assert len({id(each) for each in parts}) == 3


def test_the_first_learner_weighs_one_and_later_ones_less():
    model = build()
    for _, made in OBJECTIVES.items():
        statistics = Boosted(made(), model).double()(model(pictures()), LABELS).statistics
        assert statistics["learner0/weight"] == 1
        assert all(type(number) is float for number in statistics.values())
    statistics = Boosted(OBJECTIVES["deviance"](), model)(model(pictures()), LABELS).statistics
    assert statistics["learner2/weight"] != 1
    assert 0 < statistics["correlation"] < 1


@pytest.mark.parametrize("positives", [None, "easiest"])
def test_other_pair_losses_follow_their_slope_at_the_ensemble(positives):
    model = build()
    output = model(pictures())
    objective = OnPairs(MultiSimilarity(), positives=positives)
    value = Boosted(objective, model)(output, LABELS)
    first, second, third = (Comparison.within(one.z, LABELS) for one in output)
    s, t = first.similarity.detach(), second.similarity.detach()
    total = sum(
        OnPairs(loss, positives=positives).on(comparison).total / 3
        for loss, comparison in (
            (MultiSimilarity(), first),
            (Redirected(MultiSimilarity(), s), second),
            (Redirected(MultiSimilarity(), s / 3 + 2 / 3 * t), third),
        )
    )
    plain = PerLearner(objective, 3)(output, LABELS).total
    torch.testing.assert_close(value.total, plain)
    raws = [one.raw for one in output]
    found, expected, alone = (
        torch.autograd.grad(x, raws, retain_graph=True) for x in (value.total, total, plain)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found[0], alone[0])
    assert not torch.allclose(found[1], alone[1])


def hinges(name, output):
    """Each tuple and learner in a loop; a hinge counts where the learners before leave it open."""
    z, b, total = [one.z for one in output], len(LABELS), 0.0
    for i in range(len(z)):
        shares = [[1.0], [1 / 3, 2 / 3]][i - 1] if i else []
        terms, active = [], 0

        def distance(rows, a, c):
            return ((rows[a] - rows[c]).square().sum() + 1e-8).sqrt()

        def joined(a, c, shares=shares):
            return (2 - 2 * sum(w * float(z[k][a].detach() @ z[k][c].detach()) for k, w in
                                enumerate(shares)) + 1e-8) ** 0.5  # fmt: skip

        for a in range(b):
            for p in range(b):
                for n in range(b):
                    if a == p or LABELS[a] != LABELS[p] or LABELS[a] == LABELS[n]:
                        continue
                    near, far = distance(z[i], a, p), distance(z[i], a, n)
                    if name == "triplet":
                        left = not i or joined(a, p) - joined(a, n) + 0.2 > 0
                        terms.append((near - far + 0.2).clamp(min=0) * left)
                        active = len(terms)
                    else:
                        near, far = (near - 1.0).clamp(min=0), (1.4 - far).clamp(min=0)
                        active += int(near > 0) + int(far > 0)
                        left = not i or joined(a, p) > 1.0, not i or joined(a, n) < 1.4
                        terms.append(near * left[0] + far * left[1])
        total = total + sum(terms) / active / len(z)
    return total


@pytest.mark.parametrize("name", ["triplet", "margin"])
def test_hinges_equal_the_naive_loop(name):
    loss = Triplet() if name == "triplet" else Margin()
    model = build()
    output = model(pictures())
    value = Boosted(OnTuples(AllTuples(), loss), model).double()(output, LABELS)
    raws = [one.raw for one in output]
    expected = hinges(name, output)
    torch.testing.assert_close(value.total, expected)
    for one, other in zip(
        torch.autograd.grad(value.total, raws, retain_graph=True),
        torch.autograd.grad(expected, raws),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


class TestDiversity:
    @pytest.mark.parametrize("kind", ["activation", "adversarial"])
    def test_it_trains_only_the_linear_layer_and_the_regressors(self, kind):
        model = build()
        boosted, plain = (
            Boosted(OBJECTIVES["deviance"](), model, diversity=d, hidden=4).double()
            for d in (kind, "none")
        )
        output = model(pictures())
        one, other = boosted(output, LABELS), plain(output, LABELS)
        names = [name for name, _ in model.named_parameters()]
        found = zip(names, gradients(one, model), gradients(other, model), strict=True)
        changed = {name for name, a, b in found if not torch.allclose(a, b)}
        assert changed == {"embedder.head.0.weight"}
        own = gradients(one, boosted) if kind == "adversarial" else ()
        assert len(own) == (12 if kind == "adversarial" else 0)
        assert all(gradient.abs().sum() > 0 for gradient in own)
        total = sum(one.parts.values())
        torch.testing.assert_close(one.total, total)

    def test_published_axes_and_one_of_ones_own(self):
        model = build()
        for kind, axis in (("activation", "output"), ("adversarial", "input")):
            made = [
                Boosted(OBJECTIVES["deviance"](), model, diversity=kind, norm_axis=given, hidden=4)
                for given in (None, "input", "output")
            ]
            assert [each.diversity.norm_axis for each in made] == [axis, "input", "output"]

    def test_layers_before_the_linear_one_are_seen_by_it_too(self):
        """r is W h of what the linear layer saw, whatever normalised it before."""
        model = build(batch_norm=True, layer_norm=True)
        output = model(pictures())
        for one, weight in zip(output, model.weights, strict=True):
            torch.testing.assert_close(one.raw, one.features @ weight.T)  # the bias is still 0

    def test_regressors_have_their_own_rate(self):
        model = build(dtype=torch.float32)
        settings = Settings(lr=1e-4)
        for rate, wanted in ((None, 1e-4), (1e-5, 1e-5)):
            boosted = Boosted(
                OBJECTIVES["margin"](), model, diversity="adversarial", regressor_rate=rate
            )
            optimizer = build_optimizer(model, boosted, settings)
            regressor = next(boosted.diversity.parameters())
            group = next(
                g for g in optimizer.param_groups if any(p is regressor for p in g["params"])
            )
            assert group["lr"] == wanted
            assert group["weight_decay"] == 0
            assert len(group["params"]) == 12
            network = {id(p) for p in model.parameters()}
            assert not network & {id(p) for p in boosted.parameters()}


class TestAugmented:
    def made(self, model, copies=(1, 1, 1), start_after=0):
        each = [
            IntraClassAugmented(
                OnPairs(BinomialDeviance()), 3, width, copies=m, start_after=start_after, most=100
            )
            for width, m in zip(model.learners.widths, copies, strict=True)
        ]
        boosted = Boosted(each, model)
        output = model(pictures(dtype=torch.float32))
        boosted.begin_epoch(lambda: iter([(output, LABELS)]))
        return boosted, output

    def test_every_learner_has_copies_of_its_own_width(self):
        boosted, output = self.made(build(dtype=torch.float32))
        value = boosted(output, LABELS, generator=torch.Generator().manual_seed(0))
        assert torch.isfinite(value.total)
        for i, one in enumerate(output):
            assert value.statistics[f"learner{i}/synthetic"] == 8
            (gradient,) = torch.autograd.grad(value.total, one.raw, retain_graph=True)
            assert gradient.abs().sum() > 0
        assert value.statistics["learner1/weight"] < 1

    def test_before_the_classes_are_estimated_it_is_the_plain_loss(self):
        model = build(dtype=torch.float32)
        boosted, output = self.made(model, start_after=1)
        early = boosted(output, LABELS, generator=torch.Generator().manual_seed(0))
        plain = Boosted(OBJECTIVES["deviance"](), model)(output, LABELS)
        assert torch.equal(early.total, plain.total)
        assert early.statistics["learner1/weight"] == plain.statistics["learner1/weight"]
        assert early.statistics["learner1/synthetic"] == 0
        boosted.begin_epoch(lambda: iter([(output, LABELS)]))
        later = boosted(output, LABELS, generator=torch.Generator().manual_seed(0))
        assert later.statistics["learner1/synthetic"] == 8
        assert later.parts.keys() == early.parts.keys()
        assert later.statistics.keys() >= early.statistics.keys() >= plain.statistics.keys()

    def test_epochs_that_were_never_begun_are_refused(self):
        model = build(dtype=torch.float32)
        each = [
            IntraClassAugmented(OnPairs(BinomialDeviance()), 3, width, start_after=0)
            for width in model.learners.widths
        ]
        with pytest.raises(InputError, match="IAA counts epochs, and none was begun"):
            Boosted(each, model)(model(pictures(dtype=torch.float32)), LABELS)

    def test_different_numbers_of_copies_are_refused(self):
        boosted, output = self.made(build(dtype=torch.float32), copies=(1, 2, 1))
        with pytest.raises(InputError, match=r"all learners must compare the same pairs, got \(8"):
            boosted(output, LABELS)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rule": "gradient"}, "rule must be 'additive' or 'eta', got 'gradient'"),
            ({"shrinkage": 0.0}, "shrinkage must be > 0, got 0.0"),
            ({"shrinkage": -0.1}, "shrinkage must be > 0, got -0.1"),
            ({"diversity": "both"}, "diversity must be one of none, activation, adversarial"),
            ({"diversity_weight": -1.0}, "diversity_weight must be >= 0, got -1.0"),
            ({"norm_axis": "rows"}, "norm_axis must be 'input' or 'output', got 'rows'"),
            (
                {"diversity": "activation", "constraint_weight": -1.0},
                "constraint_weight must be >= 0, got -1.0",
            ),
            ({"diversity": "adversarial", "hidden": 0}, "hidden must be >= 1, got 0"),
            (
                {"diversity": "adversarial", "regressor_rate": 0.0},
                "learning rate of the regressors must be > 0",
            ),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(InputError, match=message):
            Boosted(OBJECTIVES["deviance"](), build(), **options)

    @pytest.mark.parametrize("kind", ["activation", "adversarial"])
    def test_diversity_of_one_learner(self, kind):
        with pytest.raises(InputError, match="diversity needs two learners or more, got 1"):
            Boosted(OBJECTIVES["deviance"](), build((4,)), diversity=kind)

    @pytest.mark.parametrize(
        "made",
        [
            lambda model: OnClasses(ProxyNCA(3, 4)),
            lambda model: Memory(OBJECTIVES["deviance"](), 8, 4),
            lambda model: Sum({"a": OBJECTIVES["deviance"]()}),
            lambda model: PerLearner(OBJECTIVES["deviance"](), 3),
            lambda model: HardnessAware(OBJECTIVES["triplet"](), model.embedder, 3, hidden=4),
        ],
    )
    def test_objectives_without_pairs(self, made):
        model = build()
        with pytest.raises(InputError, match="HardnessAware has a generator for one head"):
            Boosted(made(model), model)

    def test_hdml_around_it(self):
        model = build()
        with pytest.raises(InputError, match="objective must be OnTuples, got Boosted"):
            HardnessAware(Boosted(OBJECTIVES["triplet"](), model), model.embedder, 3)

    def test_losses_and_rows(self):
        model = build()
        with pytest.raises(InputError, match="which Triplet and Margin have, got NPair"):
            Boosted(OnTuples(PerAnchor(), NPair()), model)
        with pytest.raises(InputError, match="must compare unit rows, got OnPairs with normalize"):
            Boosted(OnPairs(BinomialDeviance(), normalize=False), model)
        with pytest.raises(InputError, match="rule='additive' adds up margins of BinomialDev"):
            Boosted(OBJECTIVES["contrastive"](), model, rule="additive")

    def test_models(self):
        with pytest.raises(InputError, match=r"model must be an ensemble, such as .* got Embedder"):
            Boosted(OBJECTIVES["deviance"](), build().embedder)
        with pytest.raises(InputError, match="learners must be >= 1, and as many as there are"):
            Boosted([OBJECTIVES["deviance"]()] * 2, build())

    def test_batches(self):
        model = build()
        boosted, output = Boosted(OBJECTIVES["deviance"](), model), model(pictures())
        with pytest.raises(InputError, match="got no positive among 8 items; draw P x K"):
            boosted(output, torch.arange(8))
        with pytest.raises(InputError, match="got no negative among 8 items; draw batches of 2"):
            boosted(output, torch.zeros(8).long())
        with pytest.raises(InputError, match="labels must have one entry per row"):
            boosted(output, torch.zeros(7).long())
        with pytest.raises(InputError, match=r"labels \(n, tags\) must be boolean"):
            boosted(output, LABELS[:, None])
        with pytest.raises(InputError, match=r"the model must return 3 embeddings, .* got one"):
            boosted(output[0], LABELS)
        with pytest.raises(InputError, match=r"the model must return 3 embeddings, .* got 2"):
            boosted(output[:2], LABELS)
        with pytest.raises(InputError, match=r"have widths \(3, 4, 5\), got \(5, 4, 3\)"):
            boosted(output[::-1], LABELS)

    def test_short_rows_are_warned_of_once(self, caplog):
        model = build()
        boosted = Boosted(OBJECTIVES["deviance"](), model)
        with torch.no_grad():
            model.linear.weight[:3] = 0
        with caplog.at_level(logging.WARNING):
            value = boosted(model(pictures()), LABELS)
            boosted(model(pictures()), LABELS)
        assert caplog.text.count("8 embeddings of learners are shorter than 1e-05") == 1
        assert all(torch.isfinite(g).all() for g in gradients(value, model))

    def test_copied_alone(self):
        model = build()
        boosted = Boosted(OBJECTIVES["deviance"](), model)
        with pytest.raises(InputError, match="Boosted must be copied together with its model"):
            copy.deepcopy(boosted)
        twin, again = copy.deepcopy((model, boosted))
        assert again.model is twin


def test_correlation_equals_numpy():
    rows = [torch.randn(20, d, generator=torch.Generator().manual_seed(d)) for d in (2, 3, 1)]
    whole = np.abs(np.corrcoef(torch.cat(rows, 1).numpy().T))
    blocks = [whole[:2, 2:5], whole[:2, 5:], whole[2:5, 5:]]
    expected = np.mean(np.concatenate([block.ravel() for block in blocks]))
    assert correlation(rows) == pytest.approx(float(expected), abs=1e-6)
    assert correlation([torch.ones(4, 1), rows[0][:4]]) == 0


def test_order_within_the_batch_does_not_matter():
    model, order = build(), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for name in ("deviance", "multi-similarity", "triplet"):
        boosted = Boosted(OBJECTIVES[name](), model)
        one = boosted(model(pictures()), LABELS).total
        other = boosted(model(pictures()[order]), LABELS[order]).total
        torch.testing.assert_close(one, other)


def test_sections():
    model = build(dtype=torch.float32)
    boosted = Boosted(OBJECTIVES["deviance"](), model)
    shown = Shown(pictures(dtype=torch.float32), LABELS, ["a", "b", "c"], ["a", "b", "c"])
    with torch.no_grad():
        (section,) = boosted.sections(model, shown)
    assert section.title == "Boosted learners (BIER)"
    assert [row[1] for row in section.parts[0].rows] == [3, 4, 5]
    columns = {name for part in section.parts[1:4] for name in part.columns}
    value = boosted(model(shown.images), LABELS)
    assert columns <= {*value.statistics, *value.parts}


class Killed(Exception):
    pass


@pytest.mark.parametrize("diversity", ["none", "adversarial"])
def test_a_run_interrupted_anywhere_equals_the_uninterrupted_one(tmp_path, diversity):
    rng = np.random.default_rng(0)
    data = ImageSet.from_arrays(
        rng.integers(256, size=(24, 4, 4)).astype(np.uint8), np.repeat(np.arange(3), 8)
    )
    settings = Settings(
        epochs=3,
        classes=3,
        per_class=3,
        lr=0.01,
        precision="float32",
        tensorboard=False,
        log_every=1,
        checkpoint_every=2,
    )

    def made(seed):
        model = build(seed=seed, dtype=torch.float32)
        options = {"diversity": diversity, "hidden": 4, "diversity_weight": 0.1}
        return model, Boosted(OBJECTIVES["margin"](), model, constraint_weight=1.0, **options)

    model, objective = made(0)
    fit(model, objective, data, settings=settings)
    for attempt, after in enumerate((3, 1, 100)):
        left = [after]

        def progress(_, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        again, resumed = made(attempt)
        try:
            fit(again, resumed, data, settings=settings, out=tmp_path, progress=progress)
        except Killed:
            continue
    for one, other in ((model, again), (objective, resumed)):
        states = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)
    assert (tmp_path / "model").is_dir()
    assert F.cosine_similarity(model.linear.weight, build().linear.weight.float()).min() < 1
