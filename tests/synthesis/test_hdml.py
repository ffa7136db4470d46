"""HDML against the official graph, built from scratch with loops in `official`."""

import copy
import math

import pytest
import torch
from torch import nn

from tupelo.comparison import Comparison
from tupelo.errors import InputError, TrainingDiverged
from tupelo.losses import Contrastive, Margin, NPair, Triplet
from tupelo.models import embedder
from tupelo.objectives import OnPairs, OnTuples, PerLearner, Sum
from tupelo.selection import AsDrawn, PerAnchor
from tupelo.synthesis import HardnessAware
from tupelo.synthesis.generator import FeatureGenerator
from tupelo.synthesis.schedule import Schedule
from tupelo.types import Embedded

CLASSES, FEATURES, DIM = 12, 10, 6
R = 3e-3  # weight of N-pair's regulariser


def network(*, seed=0, batch_norm=True, dtype=torch.float64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(8, FEATURES), nn.Tanh())
        made = embedder(
            backbone, features=FEATURES, dim=DIM, channels=1, batch_norm=batch_norm, **options
        )
        return made.to(dtype)


def published(variant):
    """The objective that makes HDML the published variant."""
    if variant == "triplet":
        loss = Triplet(1.0, squared=True)
        return OnTuples(AsDrawn("triplets"), loss, normalize=False)
    return OnTuples(AsDrawn("n-pair"), NPair(R / 4, l2_everywhere=True), normalize=False)


def batch(variant, *, n=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randperm(CLASSES, generator=generator)
    parts = 3 if variant == "triplet" else 2
    first, last = classes[:n], classes[n : 2 * n]
    labels = torch.cat([first, first, last] if parts == 3 else [first, first])
    images = torch.rand(parts * n, 1, 2, 4, generator=generator, dtype=dtype)
    return images, labels


def hdml(variant, model, **options):
    torch.manual_seed(7)
    options = {"reduction": "sum" if variant == "triplet" else "mean", "hidden": 9} | options
    made = HardnessAware(published(variant), model, CLASSES, **options)
    return made.to(next(model.parameters()).dtype)


def at(objective, j_avg, j_gen_avg):
    objective.schedule.j_avg.value.fill_(j_avg)
    objective.schedule.j_gen_avg.value.fill_(j_gen_avg)
    return objective


def official(
    variant,
    model,
    objective,
    images,
    labels,
    *,
    j_avg,
    j_gen_avg,
    decay=0.0,
    detach=False,
    row=False,
    track=False,
):
    """Losses and gradients of section 2 with loops, from the weights of model and objective.

    With `track` both batch normalisations take in what they saw.
    """
    first, second, third = (getattr(objective.generator, n) for n in ("first", "norm", "second"))
    judge, (norm, linear) = objective.classifier, model.head

    def normalised(x, bn):
        centred = x - x.mean(0)
        if track:
            unbiased = (centred**2).sum(0) / (len(x) - 1)
            bn.running_mean.mul_(0.9).add_(0.1 * x.mean(0).detach())
            bn.running_var.mul_(0.9).add_(0.1 * unbiased.detach())
            bn.num_batches_tracked += 1
        return centred / ((centred**2).mean(0) + bn.eps).sqrt() * bn.weight + bn.bias

    def gen(z):
        hidden = normalised((z @ first.weight.T + first.bias).clamp(min=0), second)
        return hidden @ third.weight.T + third.bias

    def g(y):
        return normalised(y, norm) @ linear.weight.T + linear.bias

    def ce(logits, label):
        return -(logits - logits.exp().sum().log())[label]

    def hinge(a, p, n):
        return (((a - p) ** 2).sum() - ((a - n) ** 2).sum() + 1).clamp(min=0)

    def moved(a, p, n):
        near, far = (a - p).norm(), (a - n).norm()
        if not far > near:
            return n
        lam = math.exp(-objective.alpha / j_avg)
        return a + (n - a) * (near + lam * (far - near)) / far

    y = model.backbone((images - 0.5) / 0.5)
    z = g(y)
    b = len(z)
    if variant == "triplet":
        n = b // 3
        tuples = [(z[i], z[n + i], z[2 * n + i]) for i in range(n)]
        j_m = sum(hinge(*each) for each in tuples)
        synthetic = [a for a, _, _ in tuples] + [p for _, p, _ in tuples]
        synthetic += [moved(*each) for each in tuples]
        classes = labels
    else:
        n = b // 2
        anchors, positives = z[:n], z[n:]
        j_m = sum(ce(anchors[i] @ positives.T, i) for i in range(n)) / n
        j_m = j_m + 0.25 * R * ((anchors**2).sum(1).mean() + (positives**2).sum(1).mean())
        synthetic = list(anchors)
        for i in range(n):
            for j in range(n):
                synthetic.append(moved(anchors[i], positives[i], positives[j]))
        classes = torch.cat([labels[:n], labels[n:].repeat(n)])
    made = gen(torch.cat([z, torch.stack(synthetic)]))
    again, y_syn = made[:b], made[b:]
    z_syn = g(y_syn.detach() if detach else y_syn)
    each = [ce(row @ judge.weight.T + judge.bias, c) for row, c in zip(y_syn, classes, strict=True)]
    if variant == "triplet":
        j_syn = sum(hinge(z_syn[i], z_syn[n + i], z_syn[2 * n + i]) for i in range(n))
        j_soft = sum(each) / len(each)
    else:
        anchors, grid = z_syn[:n], z_syn[n:].unflatten(0, (n, n))
        j_syn = sum(ce(grid[i] @ anchors[i], i) for i in range(n)) / n
        j_syn = j_syn + 0.25 * R * ((anchors**2).sum(1).mean() + (grid**2).sum(2).mean())
        j_soft = sum(each[:n]) / n + sum(each[n:]) / n**2
    j_recon = ((again - y) ** 2).sum() / (b if row else 1)
    lam, scale = objective.soft_share, objective.soft_scale
    j_gen = (1 - lam) * j_recon + lam * scale * j_soft
    j_ce = (
        sum(
            ce(row @ judge.weight.T + judge.bias, c)
            for row, c in zip(y.detach(), labels, strict=True)
        )
        / b
    )
    decayed = [*model.backbone.parameters(), *linear.parameters()]
    j_wd = decay * sum((v**2).sum() / 2 for v in decayed)
    w = math.exp(-objective.beta / j_gen_avg)
    j_metric = w * (j_m + j_wd) + (1 - w) * j_syn
    lists = {
        "model": dict(model.named_parameters()),
        "generator": dict(objective.generator.named_parameters()),
        "classifier": dict(objective.classifier.named_parameters()),
    }
    losses = {"model": j_metric, "generator": j_gen, "classifier": j_ce}
    gradients = {
        f"{kind}.{name}": gradient
        for kind, named in lists.items()
        for name, gradient in zip(
            named,
            torch.autograd.grad(
                losses[kind], list(named.values()), retain_graph=True, allow_unused=True
            ),
            strict=True,
        )
        if gradient is not None
    }
    numbers = {"J_m": j_m, "J_syn": j_syn, "J_recon": j_recon, "J_soft": j_soft, "w": w}
    numbers |= {"J_gen": j_gen, "J_ce": j_ce}
    return (
        {k: float(torch.as_tensor(v, dtype=y.dtype).detach()) for k, v in numbers.items()},
        j_metric.item(),
        gradients,
    )


def gradients_of(model, objective):
    kinds = {
        "model": model,
        "generator": objective.generator,
        "classifier": objective.classifier,
    }
    return {
        f"{kind}.{name}": parameter.grad
        for kind, module in kinds.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


MIDWAY = (60.0, 2e4)


@pytest.mark.parametrize(
    ("averages", "options"),
    [
        ((1e6, 1e6), {}),
        ((2.0, 50.0), {}),
        (MIDWAY, {}),
        (MIDWAY, {"detach_synthetic": True}),
        (MIDWAY, {"bn_update_from_synthetic": False}),
        (MIDWAY, {"weight_decay": 5e-3}),
        ((60.0, 200.0), {"generator_reduction": "row", "soft_scale": 80.0, "beta": 80.0}),
        (MIDWAY, {"soft_share": 0.0}),
        (MIDWAY, {"soft_share": 1.0}),
        (MIDWAY, {"alpha": 0.0}),
        (MIDWAY, {"beta": 0.0}),
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", ["triplet", "n-pair"])
def test_each_part_learns_what_the_official_graph_gives_it(variant, averages, options):
    model = network()
    objective = hdml(variant, model, **options)
    images, labels = batch(variant)
    numbers, total, expected = official(
        variant,
        model,
        objective,
        images,
        labels,
        j_avg=averages[0],
        j_gen_avg=averages[1],
        decay=options.get("weight_decay", 0.0),
        detach=options.get("detach_synthetic", False),
        row="generator_reduction" in options,
    )
    value = at(objective, *averages)(model(images), labels)
    value.total.backward()
    found = gradients_of(model, objective)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    assert {name: value.statistics[name] for name in numbers} == pytest.approx(numbers, rel=1e-6)
    assert value.total.item() == pytest.approx(total, rel=1e-6)
    assert sum(value.parts.values()).item() == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("variant", ["triplet", "n-pair"])
def test_a_run_of_several_windows_equals_the_official_one_with_three_optimizers(variant):
    """Ten steps of Adam, running means over three windows, and both batch normalisations."""
    model = network()
    options = {"alpha": 1.25, "beta": 40.0, "soft_scale": 30.0, "weight_decay": 5e-3, "window": 3}
    objective = hdml(variant, model, **options)
    theirs, judged = copy.deepcopy((model, objective))
    groups = [{"params": list(model.parameters())}, *objective.parameter_groups()]
    ours = torch.optim.Adam(groups, lr=7e-3)
    parts = {"model": theirs, "generator": judged.generator, "classifier": judged.classifier}
    rates = {"model": 7e-3, "generator": 1e-2, "classifier": 1e-3}
    optimizers = [torch.optim.Adam(parts[kind].parameters(), lr=rates[kind]) for kind in parts]
    j_avg, j_gen_avg, metrics, generators, seen = 1e6, 1e6, [], [], []
    for step in range(10):
        images, labels = batch(variant, n=4, seed=step)
        value = objective(model(images), labels)
        ours.zero_grad()
        value.total.backward()
        ours.step()
        numbers, _, gradients = official(
            variant,
            theirs,
            judged,
            images,
            labels,
            j_avg=j_avg,
            j_gen_avg=j_gen_avg,
            decay=5e-3,
            track=True,
        )
        layers = [theirs.backbone[1], theirs.head[1]]
        j_wd = 5e-3 / 2 * sum((v**2).sum().item() for each in layers for v in each.parameters())
        seen.append((value.statistics["lambda"], math.exp(-1.25 / j_avg)))
        assert {k: value.statistics[k] for k in numbers} == pytest.approx(numbers, rel=1e-8)
        metrics.append(numbers["w"] * (numbers["J_m"] + j_wd))
        generators.append(0.5 * numbers["J_recon"] + 0.5 * 30.0 * numbers["J_soft"])
        if len(metrics) == 3:
            j_avg, j_gen_avg = sum(metrics) / 3, sum(generators) / 3
            metrics, generators = [], []
        for kind, optimizer in zip(parts, optimizers, strict=True):
            for name, parameter in parts[kind].named_parameters():
                parameter.grad = gradients.get(f"{kind}.{name}")
            optimizer.step()
    assert all(one == pytest.approx(other, rel=1e-8) for one, other in seen)
    assert len({other for _, other in seen}) == 4
    found = {**model.state_dict(), **objective.state_dict()}
    for name, tensor in {**theirs.state_dict(), **judged.state_dict()}.items():
        if not name.startswith("schedule."):
            torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-8, msg=name)
    averages = objective.schedule.j_avg.value.item(), objective.schedule.j_gen_avg.value.item()
    assert averages == pytest.approx((j_avg, j_gen_avg), rel=1e-8)


def of_all(model, objective, images, labels, tuples):
    """J_metric, J_gen and J_ce of any tuples: rows that occur twice go through everything twice."""
    output = model(images)
    z, y = objective.objective.rows(output), output.features
    lam, w = float(objective.schedule.hardness()), float(objective.schedule.weight())
    anchor, positive, negative = (z[index] for index in tuples)
    pulled = []
    for i in range(len(anchor)):
        for one in negative[i]:
            near, far = (anchor[i] - positive[i]).norm(), (anchor[i] - one).norm()
            share = (near + lam * (far - near)) / far if far > near else 1.0
            pulled.append(anchor[i] + (one - anchor[i]) * share)
    t, k = tuples.negative.shape
    made = objective.generator(torch.cat([z, anchor, positive, torch.stack(pulled)]))
    y_syn = made[len(z) :]
    embedded = objective.objective.rows(model.embed(y_syn))
    loss, own = objective.objective.loss, labels[tuples.anchor]
    j_m = loss(anchor, positive, negative, own).mean()
    j_syn = loss(
        embedded[:t], embedded[t : 2 * t], embedded[2 * t :].unflatten(0, (t, k)), own
    ).mean()
    classes = torch.cat([own, labels[tuples.positive], labels[tuples.negative].flatten()])
    each = nn.functional.cross_entropy(objective.classifier(y_syn), classes, reduction="none")
    j_soft = each.mean() if k == 1 else each[:t].mean() + each[t:].mean()
    j_recon = (made[: len(z)] - y).square().sum()
    share = objective.soft_share
    j_gen = (1 - share) * j_recon + share * objective.soft_scale * j_soft
    j_ce = nn.functional.cross_entropy(objective.classifier(y.detach()), labels)
    return w * j_m + (1 - w) * j_syn, j_gen, j_ce


GENERAL = {
    "margin loss, easy positives": lambda: OnTuples(
        PerAnchor("easiest", "distance-weighted"), Margin(CLASSES)
    ),
    "margin loss, four negatives": lambda: OnTuples(
        PerAnchor("easiest", "random", negatives=4), Margin(CLASSES)
    ),
    "triplets of unit rows": lambda: OnTuples(PerAnchor("random", "semi-hard"), Triplet(0.3)),
    "N-pair, three negatives": lambda: OnTuples(
        PerAnchor(negatives=3), NPair(0.01), normalize=False
    ),
}


def items_of(classes=4, each=3):
    torch.manual_seed(3)
    images = torch.rand(classes * each, 1, 2, 4, dtype=torch.float64)
    return images, torch.arange(classes).repeat_interleave(each)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", GENERAL)
def test_other_tuples_and_losses_learn_what_separate_calls_give_them(name, batch_norm):
    model = network(batch_norm=batch_norm)
    images, labels = items_of()
    objective = at(HardnessAware(GENERAL[name](), model, CLASSES, hidden=9), 60.0, 2e4).double()
    with torch.no_grad():
        rows = objective.objective.rows(model(images))
    comparison = Comparison.within(rows, labels)
    tuples = objective.objective.selector(comparison, torch.Generator().manual_seed(1))
    joint, j_gen, j_ce = of_all(model, objective, images, labels, tuples)
    lists = [
        (joint, [*model.parameters(), *objective.objective.parameters()]),
        (j_gen, list(objective.generator.parameters())),
        (j_ce, list(objective.classifier.parameters())),
    ]
    expected = {
        parameter: gradient
        for loss, own in lists
        for parameter, gradient in zip(
            own, torch.autograd.grad(loss, own, retain_graph=True), strict=True
        )
    }
    value = objective(model(images), labels, generator=torch.Generator().manual_seed(1))
    value.total.backward()
    torch.testing.assert_close(value.total, joint)
    for parameter, gradient in expected.items():
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


def test_rows_that_occur_twice_pass_the_generator_once_with_the_same_result():
    torch.manual_seed(0)
    made = FeatureGenerator(DIM, 9, FEATURES).double()
    plain = copy.deepcopy(made)
    z, pulled = torch.randn(2, 5, DIM, dtype=torch.float64)
    chosen = torch.tensor([0, 1, 1, 4])
    results = []
    for generator in (made, plain):
        inputs = [rows.clone().requires_grad_() for rows in (z, pulled)]
        if generator is made:
            again, synthetic = made.of_tuples(inputs[0], chosen, inputs[1])
        else:
            every = torch.cat([inputs[0], inputs[0][chosen], inputs[1]])
            again, synthetic = plain(every).split([5, 9])
        weights = torch.arange(1.0, 10, dtype=torch.float64)[:, None]
        (again.square().sum() + (weights * synthetic.sin()).sum()).backward()
        gradients = [tensor.grad for tensor in (*inputs, *generator.parameters())]
        results.append([again, synthetic, *gradients, *generator.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_golden_n_pair_loss():
    """J_m of 6.2, in which the head is the identity."""
    model = embedder(nn.Flatten(), features=2, dim=2, channels=1).double()
    with torch.no_grad():
        model.head[0].weight.copy_(torch.eye(2))
        model.head[0].bias.zero_()
    objective = HardnessAware(published("n-pair"), model, 3).double()
    rows = torch.tensor([[1, 0], [0, 1], [2, 0], [0.5, 1]], dtype=torch.float64)
    value = objective(model.embed(rows), torch.tensor([0, 1, 0, 1]))
    assert value.statistics["J_m"] == pytest.approx(0.26005623, abs=1e-6)
    assert value.statistics["w"] == pytest.approx(0.99004983, abs=1e-7)


def learned(variant, *, averages=(60.0, 2e4), **options):
    model = network()
    objective = at(hdml(variant, model, **options), *averages)
    images, labels = batch(variant)
    objective(model(images), labels).total.backward()
    return gradients_of(model, objective)


@pytest.mark.parametrize("variant", ["triplet", "n-pair"])
@pytest.mark.parametrize(
    ("changed", "trains"),
    [
        ({"soft_scale": 7.0}, {"generator"}),
        ({"beta": 5e3}, {"model"}),
        ({"alpha": 3.0}, {"model", "generator"}),
        ({"weight_decay": 0.1}, {"model"}),
    ],
    ids=["soft", "generated", "alpha", "weight decay"],
)
def test_each_loss_reaches_only_its_own_parts(variant, changed, trains):
    """M5: bit for bit, so one loss cannot leak into another's parts."""
    before, after = learned(variant), learned(variant, **changed)
    different = {
        name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert different == trains


def test_features_learn_only_through_the_head():
    model = network()
    images, labels = batch("triplet")
    features = model.backbone(images).detach().requires_grad_()
    output = model.embed(features)
    separate = output._replace(features=output.features.detach().requires_grad_())
    hdml("triplet", model)(separate, labels).total.backward()
    assert separate.features.grad is None
    assert features.grad.abs().max() > 0


def test_a_weighted_sum_scales_all_gradients():
    model = network()
    images, labels = batch("triplet")
    objective = hdml("triplet", model, bn_update_from_synthetic=False)
    objective(model(images), labels).total.backward()
    once = {name: gradient.clone() for name, gradient in gradients_of(model, objective).items()}
    model.zero_grad()
    objective.zero_grad()
    (3 * objective(model(images), labels).total).backward()
    for name, gradient in gradients_of(model, objective).items():
        torch.testing.assert_close(gradient, 3 * once[name])


def test_the_model_keeps_its_parameters_to_itself():
    model = network()
    objective = hdml("triplet", model)
    own = {id(p) for p in objective.parameters()}
    assert not own & {id(p) for p in model.parameters()}
    assert [group.get("lr") for group in objective.parameter_groups()] == [1e-2, 1e-3]
    assert all(group["weight_decay"] == 0 for group in objective.parameter_groups())


def test_it_is_copied_with_its_model():
    model = network()
    objective = hdml("triplet", model)
    twin, other = copy.deepcopy((model, Sum({"hdml": objective})))
    copied = other.objectives["hdml"]
    assert copied.model is twin
    images, labels = batch("triplet")
    for made, of in ((model, objective), (twin, copied)):
        of(made(images), labels).total.backward()
    expected, found = gradients_of(model, objective), gradients_of(twin, copied)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in objective.parameters()}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda objective: PerLearner(objective, 2)])
def test_a_copy_without_its_model_is_refused(copied):
    """It would train a generator for the head of a model that nobody trains."""
    with pytest.raises(InputError, match=r"copied together with its model.* ensembles cannot be"):
        copied(hdml("triplet", network()))


def test_a_scale_meant_for_a_sum_is_noted(caplog):
    HardnessAware(published("triplet"), network(), 3, generator_reduction="row", soft_scale=80.0)
    assert not caplog.records
    HardnessAware(published("triplet"), network(), 3, generator_reduction="row")
    assert "soft_scale=10000 is meant for generator_reduction='sum'" in caplog.text


class TestBatchNormalisation:
    def run(self, **options):
        model = network()
        objective = hdml("triplet", model, **options)
        images, labels = batch("triplet")
        output = model(images)
        after_real = [buffer.clone() for buffer in model.head.buffers()]
        value = objective(output, labels)
        value.total.backward()
        return after_real, list(model.head.buffers()), objective

    def test_synthetic_batches_count_in_its_running_statistics(self):
        real, after, _ = self.run()
        assert [int(real[2]), int(after[2])] == [1, 2]
        assert not torch.equal(real[0], after[0])

    def test_unless_they_should_not(self):
        real, after, objective = self.run(bn_update_from_synthetic=False)
        assert all(torch.equal(a, b) for a, b in zip(real, after, strict=True))
        assert int(objective.generator.norm.num_batches_tracked) == 1


class TestHardCases:
    def value(self, variant="triplet", *, averages=(1e6, 1e6), same=False, dtype=torch.float64):
        model = network(dtype=dtype)
        objective = at(hdml(variant, model), *averages)
        images, labels = batch(variant, dtype=dtype)
        if same:
            images = images[:1].expand_as(images)
        return model, objective, images, labels

    @pytest.mark.parametrize("variant", ["triplet", "n-pair"])
    def test_coincident_rows_give_no_nan(self, variant):
        model, objective, images, labels = self.value(variant, averages=(1.0, 1.0), same=True)
        value = objective(model(images), labels)
        value.total.backward()
        assert value.statistics["skipped"] == 0
        assert value.statistics["pulled"] == 0
        assert all(g.isfinite().all() for g in gradients_of(model, objective).values())

    def test_means_of_zero_pull_fully_and_trust_the_generator(self):
        model, objective, images, labels = self.value(averages=(0.0, 0.0))
        value = objective(model(images), labels)
        value.total.backward()
        assert (value.statistics["lambda"], value.statistics["w"]) == (0, 0)
        assert value.parts["metric"] == 0
        assert all(g.isfinite().all() for g in gradients_of(model, objective).values())

    def test_the_first_step_barely_moves_negatives(self):
        model, objective, images, labels = self.value()
        statistics = objective(model(images), labels).statistics
        assert statistics["w"] == pytest.approx(0.990, abs=1e-3)
        assert statistics["lambda"] == pytest.approx(0.99991, abs=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_changes_nothing(self, dtype):
        found = []
        for enabled in (False, True):
            model, objective, images, labels = self.value(dtype=torch.float32)
            objective.soft_scale = 1e8  # beyond what float16 can hold
            output = model(images)
            with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                value = objective(output, labels)
            value.total.backward()
            assert value.total.dtype == torch.float32
            found.append((value.total.item(), gradients_of(model, objective)))
        assert found[0][0] == found[1][0]
        assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])

    def test_without_gradient_nothing_is_recorded(self):
        model, objective, images, labels = self.value()
        with torch.no_grad():
            value = objective(model(images), labels)
        assert not value.total.requires_grad
        assert value.statistics["J_m"] > 0
        assert int(objective.schedule.steps) == 0

    @pytest.mark.parametrize(("most", "rows"), [(None, 30), (100, 30), (4, 30), (2, 20), (1, 15)])
    def test_memory_is_bounded_by_max_negatives(self, most, rows):
        model = network()
        objective = hdml("n-pair", model, max_negatives=most)
        seen = []
        objective.classifier.register_forward_hook(lambda *a: seen.append(len(a[1][0])))
        images, labels = batch("n-pair")
        objective(model(images), labels, generator=torch.Generator().manual_seed(0))
        assert max(seen) == rows


class TestWindows:
    def test_means_change_when_a_window_is_complete(self):
        model = network()
        objective = hdml("triplet", model, window=3, weight_decay=0.01)
        images, labels = batch("triplet")
        seen = []
        for _ in range(4):
            value = objective(model(images), labels)
            seen.append((value.parts["metric"] + value.parts["decay"], value.statistics["J_gen"]))
            now = objective.schedule.j_avg.value, objective.schedule.j_gen_avg.value
            if len(seen) < 3:
                assert [float(mean) for mean in now] == [1e6, 1e6]
        torch.testing.assert_close(torch.stack(now), torch.tensor(seen[:3]).mean(0).double())

    def test_plain_means_know_neither_weight_nor_decay(self):
        model = network()
        objective = hdml("triplet", model, window=1, weight_decay=0.01, j_avg_source="plain")
        images, labels = batch("triplet")
        value = at(objective, 5.0, 2e4)(model(images), labels)
        assert float(objective.schedule.j_avg.value) == pytest.approx(value.statistics["J_m"])

    def test_sixty_four_steps_are_the_default(self):
        schedule = Schedule(90.0, 1e4, window=64, calibrate=0)
        for number in range(130):
            schedule.record(torch.tensor(float(number)), torch.tensor(2.0 * number))
        assert float(schedule.j_avg.value) == sum(range(64, 128)) / 64
        assert int(schedule.j_avg.count) == 2

    def test_calibration_starts_both_at_one_half(self):
        schedule = Schedule(90.0, 1e4, window=64, calibrate=10)
        for number in range(10):
            assert float(schedule.weight()) == 1
            schedule.record(torch.tensor(float(number)), torch.tensor(10.0 * number))
        assert schedule.constants.tolist() == pytest.approx([math.log(2) * 7, math.log(2) * 70])
        assert float(schedule.hardness()) == pytest.approx(0.5)
        assert float(schedule.weight()) == pytest.approx(0.5)
        assert float(schedule.j_avg.value) == 7
        for _ in range(64):
            schedule.record(torch.tensor(3.5), torch.tensor(140.0))
        assert float(schedule.hardness()) == pytest.approx(0.25)
        assert float(schedule.weight()) == pytest.approx(0.5**0.5)

    def test_a_loss_of_zero_keeps_alpha(self):
        schedule = Schedule(90.0, 1e4, window=64, calibrate=1)
        schedule.record(torch.tensor(0.0), torch.tensor(1.0))
        assert float(schedule.constants[0]) == 90
        assert float(schedule.hardness()) == 0

    def test_the_embedding_trains_on_real_tuples_while_calibrating(self):
        model, twin = network(), network()
        images, labels = batch("triplet")
        hdml("triplet", model, calibrate=5, reduction="mean")(
            model(images), labels
        ).total.backward()
        published("triplet")(twin(images), labels).total.backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


class TestSkipping:
    @pytest.fixture
    def broken(self):
        """A model, and an objective whose generator overflows float32."""
        model = network(dtype=torch.float32)
        objective = hdml("triplet", model, weight_decay=0.1)
        self.sound = objective.generator.second.weight.detach().clone()
        objective.generator.second.weight.data.fill_(1e30)
        return model, objective

    def step(self, model, objective):
        images, labels = batch("triplet", dtype=torch.float32)
        output = model(images)
        before = {
            name: tensor.clone()
            for name, tensor in (*model.state_dict().items(), *objective.state_dict().items())
        }
        value = objective(output, labels)
        model.zero_grad()
        objective.zero_grad()
        value.total.backward()
        return value, before

    def test_nothing_is_learned_and_nothing_poisoned(self, broken):
        model, objective = broken
        value, before = self.step(model, objective)
        assert value.statistics == {"skipped": 1.0}
        assert value.total == 0
        assert all(part == 0 for part in value.parts.values())
        found = gradients_of(model, objective)
        assert len(found) == len(list(model.parameters())) + 8
        assert all((gradient == 0).all() for gradient in found.values())
        after = {**model.state_dict(), **objective.state_dict()}
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        assert changed == ["skips"]
        assert int(objective.schedule.steps) == 0

    def test_a_sound_step_forgets_the_skipped_ones(self, broken):
        model, objective = broken
        for _ in range(4):
            self.step(model, objective)
        assert int(objective.skips) == 4
        objective.generator.second.weight.data.copy_(self.sound)
        value, _ = self.step(model, objective)
        assert value.statistics["skipped"] == 0
        assert int(objective.skips) == 0
        assert int(objective.schedule.j_avg.count) == 1
        assert float(objective.schedule.j_gen_avg.total) == pytest.approx(value.statistics["J_gen"])

    def test_too_many_in_a_row_end_the_run(self, broken):
        model, objective = broken
        for _ in range(4):
            self.step(model, objective)
        with pytest.raises(TrainingDiverged, match="NaN or infinite in 5 steps in a row; lower lr"):
            self.step(model, objective)


REFUSED = {
    "objective must be OnTuples, got OnPairs": {"objective": OnPairs(Contrastive())},
    "model must be an Embedder, .* got Linear": {"model": nn.Linear(2, 2)},
    "n_classes must be >= 2, got 1": {"n_classes": 1},
    r"alpha must be >= 0, got -1\.0": {"alpha": -1.0},
    "alpha must be >= 0, got nan": {"alpha": math.nan},
    r"beta must be >= 0, got -1\.0": {"beta": -1.0},
    r"soft_share must be in \[0, 1\], got 1\.5": {"soft_share": 1.5},
    r"soft_scale must be > 0, got 0\.0": {"soft_scale": 0.0},
    "hidden must be >= 1, got 0": {"hidden": 0},
    r"generator_rate must be > 0, got 0\.0": {"generator_rate": 0.0},
    r"classifier_rate must be > 0, got -1\.0": {"classifier_rate": -1.0},
    r"weight_decay must be >= 0, got -0\.1": {"weight_decay": -0.1},
    "reduction must be 'mean' or 'sum', got 'max'": {"reduction": "max"},
    "generator_reduction must be 'sum' or 'row', got 'mean'": {"generator_reduction": "mean"},
    "j_avg_source must be 'official' or 'plain', got 'x'": {"j_avg_source": "x"},
    "window must be >= 1, got 0": {"window": 0},
    "calibrate must be >= 0, got -1": {"calibrate": -1},
    "max_negatives must be >= 1, got 0": {"max_negatives": 0},
    "skip_limit must be >= 1, got 0": {"skip_limit": 0},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_it_cannot_be_made_of(message):
    options = {"objective": published("triplet"), "model": network(), "n_classes": 3}
    options |= REFUSED[message]
    with pytest.raises(InputError, match=message):
        HardnessAware(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o, y: ((o, o), y), "got tuple; ensembles cannot be trained"),
        (lambda o, y: (o._replace(features=o.features[:, :3]), y), "features of width 10, got 6"),
        (
            lambda o, y: (o._replace(features=o.features.clone().fill_(math.nan)), y),
            "features must be finite, got NaN or infinity in 15 of 15 rows",
        ),
        (
            lambda o, y: (o._replace(raw=o.raw / 0), y),
            "z must be finite, got NaN or infinity in 15 of 15 rows",
        ),
        (lambda o, y: (o, y + 100), r"labels must lie in \[0, 12\) for the classifier"),
        (lambda o, y: (o, y - 100), r"labels must lie in \[0, 12\) for the classifier"),
        (lambda o, y: (o, y.float()), "labels"),
        (lambda o, y: (o, y[:-1]), "one label per row, got 14 for 15 rows"),
        (lambda o, y: (o, nn.functional.one_hot(y).bool()), "needs class indices"),
        (lambda o, y: (o, [str(label) for label in y.tolist()]), "needs class indices"),
        (lambda o, y: (Embedded(*(t[:14] for t in o)), y[:14]), "must hold 3 rows a tuple"),
        (lambda o, y: (o, y.flip(0)), "must have the label of its positive"),
    ],
)
def test_batches_it_refuses(change, message):
    model = network()
    images, labels = batch("triplet")
    output, labels = change(model(images), labels)
    with pytest.raises(InputError, match=message):
        hdml("triplet", model)(output, labels)


def test_a_relation_against_the_labels_is_refused():
    model = network()
    images, labels = items_of()
    objective = OnTuples(PerAnchor(), Triplet(), relation=lambda a, c: a[:, None] != c[None, :])
    with pytest.raises(InputError, match="a relation that contradicts them"):
        HardnessAware(objective, model, CLASSES).double()(model(images), labels)
