"""HDML against the official graph, built from scratch with loops in `official`."""

import math

import pytest
import torch
from torch import nn

from tupelo.losses import NPair, Triplet
from tupelo.models import embedder
from tupelo.objectives import OnTuples
from tupelo.selection import AsDrawn
from tupelo.synthesis import HardnessAware

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
):
    """Losses and gradients of section 2 with loops, from the weights of model and objective."""
    first, second, third = (getattr(objective.generator, n) for n in ("first", "norm", "second"))
    judge, (norm, linear) = objective.classifier, model.head

    def normalised(x, bn):
        centred = x - x.mean(0)
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
    total = j_metric + j_gen + j_ce
    return (
        {k: float(torch.as_tensor(v).detach()) for k, v in numbers.items()},
        total.item(),
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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"detach_synthetic": True},
        {"bn_update_from_synthetic": False},
        {"weight_decay": 5e-3},
        {"generator_reduction": "row", "soft_scale": 80.0, "beta": 80.0},
        {"soft_share": 0.0},
        {"soft_share": 1.0},
        {"alpha": 0.0},
        {"beta": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("averages", [(1e6, 1e6), (60.0, 2e4), (2.0, 50.0)])
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
