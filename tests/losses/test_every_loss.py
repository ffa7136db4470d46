"""One matrix over all losses: each against loops written from the formula in its docstring.

An oracle takes unit (or raw) rows and labels as lists and returns the loss; it knows no tensors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tupelo import losses
from tupelo.comparison import Comparison, GivenPairs
from tupelo.objectives import OnBalancedPairs, OnClasses, OnPairs, OnTuples
from tupelo.selection import AllTuples, PerAnchor
from tupelo.types import Embedded, Objective

CLASSES, WIDTH = 4, 3


def related(a, b) -> bool:
    return bool(a & b) if isinstance(a, set) else a == b


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def apart(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) + 1e-8)


def relu(x: float) -> float:
    return max(x, 0.0)


def neighbours(labels, i):
    others = [j for j in range(len(labels)) if j != i]
    positives = [j for j in others if related(labels[i], labels[j])]
    return positives, [j for j in others if j not in positives]


def pairs(labels):
    """Positive pairs and negative pairs, both orders."""
    n = range(len(labels))
    return (
        [(i, j) for i in n for j in neighbours(labels, i)[0]],
        [(i, j) for i in n for j in neighbours(labels, i)[1]],
    )


def mean_active(values) -> float:
    active = [v for v in values if v > 0]
    return sum(active) / max(len(active), 1)


def contrastive(z, labels, near=0.0, far=1.0, power=1):
    positive, negative = pairs(labels)
    pulled = [relu(apart(z[i], z[j]) - near) ** power for i, j in positive]
    pushed = [relu(far - apart(z[i], z[j])) ** power for i, j in negative]
    return mean_active(pulled) + mean_active(pushed)


def cosine_contrastive(z, labels):
    positive, negative = pairs(labels)
    pulled = sum(relu(0.8 - dot(z[i], z[j])) for i, j in positive)
    return (pulled + sum(relu(dot(z[i], z[j]) - 0.5) for i, j in negative)) / len(z)


def multi_similarity(z, labels, slack=0.1, eps=False, reference="kept"):
    total = 0.0
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        if not positives or not negatives:
            continue
        all_positives = positives
        if eps:
            positives = [min(positives, key=lambda j: apart(z[i], z[j]))]
        s = [dot(z[i], z[j]) for j in range(len(z))]
        if slack is not None:
            low = min(s[j] for j in (all_positives if reference == "all" else positives))
            high = max(s[j] for j in negatives)
            positives = [j for j in positives if s[j] - slack < high]
            negatives = [j for j in negatives if s[j] + slack > low]
        if positives and negatives:
            up = sum(math.exp(-2 * (s[j] - 0.5)) for j in positives)
            down = sum(math.exp(40 * (s[j] - 0.5)) for j in negatives)
            total += math.log(1 + up) / 2 + math.log(1 + down) / 40
    return total / len(z)


def binomial_deviance(z, labels):
    positive, negative = pairs(labels)
    up = [math.log1p(math.exp(-2 * (dot(z[i], z[j]) - 0.5))) for i, j in positive]
    down = [math.log1p(math.exp(2 * 25 * (dot(z[i], z[j]) - 0.5))) for i, j in negative]
    return np.mean(up) + np.mean(down)


def nt_xent(z, labels, temperature=0.2):
    values = []
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        against = sum(math.exp(dot(z[i], z[k]) / temperature) for k in negatives)
        for j in positives:
            own = math.exp(dot(z[i], z[j]) / temperature)
            values.append(-math.log(own / (own + against)))
    return np.mean(values)


def n_pairs(z, labels):
    values, norms = [], 0.0
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        terms = [
            math.log(1 + sum(math.exp(dot(z[i], z[k]) - dot(z[i], z[j])) for k in negatives))
            for j in positives
        ]
        if terms:
            values.append(np.mean(terms))
        norms += 0.002 * dot(z[i], z[i])
    return np.mean(values) + norms / len(z)


def lifted(z, labels):
    values = []
    for i, j in pairs(labels)[0]:
        soft = sum(
            math.exp(1 - apart(z[row], z[k])) for row in (i, j) for k in neighbours(labels, row)[1]
        )
        values.append(relu(math.log(soft) + apart(z[i], z[j])) ** 2)
    # each unordered pair occurs twice: 1/(2 |P|) over unordered is 1/(2 |P|) over ordered pairs
    return sum(values) / (2 * len(values))


def triples(labels):
    for i in range(len(labels)):
        positives, negatives = neighbours(labels, i)
        yield from ((i, j, k) for j in positives for k in negatives)


def all_triplets(z, labels, average="active", margin=0.2):
    hinges = [relu(apart(z[i], z[j]) - apart(z[i], z[k]) + margin) for i, j, k in triples(labels)]
    return mean_active(hinges) if average == "active" else np.mean(hinges)


def hardest_negative(z, labels, average="active"):
    total = 0.0
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        if positives and negatives:
            nearest = min(apart(z[i], z[k]) for k in negatives)
            hinges = [relu(apart(z[i], z[j]) - nearest + 0.2) for j in positives]
            mean = {"active": mean_active, "all": np.mean, "sum": sum}[average]
            total += mean(hinges)
    return total / len(z)


def triplet(z, labels, power=1):
    return np.mean(
        [
            relu(apart(z[i], z[j]) ** power - apart(z[i], z[k]) ** power + 0.2)
            for i, j, k in triples(labels)
        ]
    )


def margin(z, labels):
    parts = []
    for i, j, k in triples(labels):
        parts += [relu(apart(z[i], z[j]) - 1.25 + 0.2), relu(1.25 - apart(z[i], z[k]) + 0.2)]
    return mean_active(parts)


def n_pair_hardest(z, labels):
    """Hardest positive, two nearest negatives."""
    values = []
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        if positives and len(negatives) >= 2:
            j = max(positives, key=lambda j: apart(z[i], z[j]))
            nearest = sorted(negatives, key=lambda k: apart(z[i], z[k]))[:2]
            soft = sum(math.exp(dot(z[i], z[k]) - dot(z[i], z[j])) for k in nearest)
            values.append(math.log(1 + soft) + 0.002 * dot(z[i], z[i]))
    return np.mean(values)


def unit(row):
    return [x / math.sqrt(dot(row, row)) for x in row]


def proxy_nca(z, labels, w, own=False):
    values = []
    for x, y in zip(z, labels, strict=True):
        e = [math.exp(-9 * sum((a - b) ** 2 for a, b in zip(x, unit(p), strict=True))) for p in w]
        values.append(-math.log(e[y] / sum(e[c] for c in range(len(w)) if own or c != y)))
    return np.mean(values)


def proxy_anchor(z, labels, w, delta=0.1, alpha=32):
    pull, push = [], []
    for c, p in enumerate(w):
        mine = [dot(x, unit(p)) for x, y in zip(z, labels, strict=True) if y == c]
        rest = [dot(x, unit(p)) for x, y in zip(z, labels, strict=True) if y != c]
        if mine:
            pull.append(math.log(1 + sum(math.exp(-alpha * (s - delta)) for s in mine)))
        push.append(math.log(1 + sum(math.exp(alpha * (s + delta)) for s in rest)))
    return np.mean(pull) + sum(push) / len(w)


def softmax(z, labels, w, scale, target=lambda cosine: cosine):
    values = []
    for x, y in zip(z, labels, strict=True):
        cosines = [dot(x, unit(p)) for p in w]
        cosines[y] = target(cosines[y])
        values.append(math.log(sum(math.exp(scale * (c - cosines[y])) for c in cosines)))
    return np.mean(values)


def arc(cosine, m=0.5):
    angle = math.acos(cosine)
    return math.cos(angle + m) if angle + m <= math.pi else cosine - m * math.sin(m)


@dataclass(frozen=True)
class Case:
    build: Callable[[], Objective]
    oracle: Callable
    normalize: bool = True

    @property
    def of_classes(self) -> bool:
        return isinstance(self.build(), OnClasses)


def on_pairs(loss, positives=None, **settings):
    return lambda: OnPairs(loss(**settings), positives=positives)


def on_classes(loss, **settings):
    return lambda: OnClasses(loss(CLASSES, WIDTH, **settings))


def squared_contrastive(z, labels, margin=1.0, average="kinds"):
    positive, negative = pairs(labels)
    near = [apart(z[i], z[j]) ** 2 for i, j in positive]
    far = [relu(margin - apart(z[i], z[j]) ** 2) for i, j in negative]
    if average == "pairs":
        return sum(near + far) / len(near + far)
    return sum(near) / len(near) + sum(far) / len(far)


def siamese(z, labels, margin=1.0, power=2):
    """Hadsell et al., eq. 4, over all pairs."""
    positive, negative = pairs(labels)
    near = [apart(z[i], z[j]) ** power for i, j in positive]
    far = [relu(margin - apart(z[i], z[j])) ** power for i, j in negative]
    return sum(near + far) / len(near + far) / 2


def balanced_siamese(z, labels):
    """The same over all positive pairs and as many of the nearest negative ones."""
    positive, negative = pairs(labels)
    near = [apart(z[i], z[j]) ** 2 for i, j in positive]
    nearest = sorted(apart(z[i], z[j]) for i, j in negative)[: len(near)]
    far = [relu(1 - distance) ** 2 for distance in nearest]
    return sum(near + far) / len(near + far) / 2


def soft_triplet(z, labels):
    values = []
    for i in range(len(z)):
        positives, negatives = neighbours(labels, i)
        if positives and negatives:
            gap = max(apart(z[i], z[j]) for j in positives)
            gap -= min(apart(z[i], z[j]) for j in negatives)
            values.append(math.log(1 + math.exp(gap)))
    return np.mean(values)


CASES = {
    "siamese": Case(on_pairs(losses.Contrastive, squared=True, average="pairs"), siamese),
    "siamese-plain": Case(
        on_pairs(losses.Contrastive, negative_margin=1.4, average="pairs"),
        lambda z, y: siamese(z, y, 1.4, 1),
    ),
    "siamese-balanced": Case(
        lambda: OnBalancedPairs(losses.Contrastive(squared=True, average="pairs"), random_epochs=0),
        balanced_siamese,
    ),
    "batch-hard": Case(
        lambda: OnTuples(PerAnchor("hardest", "hardest"), losses.SoftTriplet()), soft_triplet
    ),
    "cosine-softmax": Case(
        on_classes(losses.CosineSoftmax, scale=8.0),
        lambda z, y, w, s: softmax(z, y, w, math.log(1 + math.exp(s))),
    ),
    "contrastive": Case(on_pairs(losses.Contrastive), contrastive),
    "contrastive-squared": Case(
        on_pairs(losses.Contrastive, positive_margin=0.2, negative_margin=1.3, squared=True),
        lambda z, y: contrastive(z, y, 0.2, 1.3, 2),
    ),
    "squared-contrastive": Case(on_pairs(losses.SquaredContrastive), squared_contrastive),
    "squared-contrastive-pairs": Case(
        on_pairs(losses.SquaredContrastive, margin=1.5, average="pairs"),
        lambda z, y: squared_contrastive(z, y, 1.5, "pairs"),
    ),
    "cosine-contrastive": Case(on_pairs(losses.CosineContrastive), cosine_contrastive),
    "multi-similarity": Case(on_pairs(losses.MultiSimilarity), multi_similarity),
    "multi-similarity-unmined": Case(
        on_pairs(losses.MultiSimilarity, slack=None), lambda z, y: multi_similarity(z, y, None)
    ),
    "multi-similarity-eps": Case(
        on_pairs(losses.MultiSimilarity, "easiest"), lambda z, y: multi_similarity(z, y, eps=True)
    ),
    "multi-similarity-eps-all": Case(
        on_pairs(losses.MultiSimilarity, "easiest", negative_reference="all"),
        lambda z, y: multi_similarity(z, y, eps=True, reference="all"),
    ),
    "binomial-deviance": Case(on_pairs(losses.BinomialDeviance), binomial_deviance),
    "nt-xent": Case(on_pairs(losses.NTXent, temperature=0.2), nt_xent),
    "n-pairs": Case(lambda: OnPairs(losses.NPairs(), normalize=False), n_pairs, False),
    "lifted-structure": Case(on_pairs(losses.LiftedStructure), lifted),
    "all-triplets": Case(on_pairs(losses.AllTriplets), all_triplets),
    "all-triplets-mean": Case(
        on_pairs(losses.AllTriplets, average="all"), lambda z, y: all_triplets(z, y, "all")
    ),
    "hardest-negative": Case(on_pairs(losses.HardestNegativeTriplets), hardest_negative),
    "hardest-negative-mean": Case(
        on_pairs(losses.HardestNegativeTriplets, average="all"),
        lambda z, y: hardest_negative(z, y, "all"),
    ),
    "hardest-negative-sum": Case(
        on_pairs(losses.HardestNegativeTriplets, average="sum"),
        lambda z, y: hardest_negative(z, y, "sum"),
    ),
    "triplet": Case(lambda: OnTuples(AllTuples(), losses.Triplet()), triplet),
    "triplet-squared": Case(
        lambda: OnTuples(AllTuples(), losses.Triplet(squared=True)), lambda z, y: triplet(z, y, 2)
    ),
    # a boundary that float32 holds exactly
    "margin": Case(lambda: OnTuples(AllTuples(), losses.Margin(beta=1.25)), margin),
    "n-pair": Case(
        lambda: OnTuples(
            PerAnchor("hardest", "hardest", negatives=2), losses.NPair(), normalize=False
        ),
        n_pair_hardest,
        False,
    ),
    "proxy-nca": Case(on_classes(losses.ProxyNCA), proxy_nca),
    "proxy-nca-own": Case(
        on_classes(losses.ProxyNCA, include_own=True), lambda z, y, w: proxy_nca(z, y, w, True)
    ),
    "proxy-anchor": Case(on_classes(losses.ProxyAnchor), proxy_anchor),
    "normalized-softmax": Case(
        on_classes(losses.NormalizedSoftmax), lambda z, y, w: softmax(z, y, w, 20)
    ),
    "cosface": Case(
        on_classes(losses.CosFace, scale=8.0),
        lambda z, y, w: softmax(z, y, w, 8, lambda c: c - 0.35),
    ),
    "arcface": Case(
        on_classes(losses.ArcFace, scale=8.0), lambda z, y, w: softmax(z, y, w, 8, arc)
    ),
}
COMPARING = {name: case for name, case in CASES.items() if not case.of_classes}
OF_CLASSES = {name: case for name, case in CASES.items() if case.of_classes}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
comparing = pytest.mark.parametrize("case", COMPARING.values(), ids=COMPARING)
of_classes = pytest.mark.parametrize("case", OF_CLASSES.values(), ids=OF_CLASSES)


def batch(seed, n=9, width=WIDTH):
    """Rows with class structure, and labels of which one in five is wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    centres = torch.randn(CLASSES, width, generator=generator, dtype=torch.float64)
    raw = centres[labels] + torch.randn(n, width, generator=generator, dtype=torch.float64)
    flipped = torch.rand(n, generator=generator) < 0.2
    wrong = torch.randint(0, CLASSES, (n,), generator=generator)
    return raw, torch.where(flipped, wrong, labels)


def built(case, seed=0):
    torch.manual_seed(seed)
    return case.build().double()


def expected(case, objective, raw, labels):
    z = raw / raw.norm(dim=1, keepdim=True) if case.normalize else raw
    labels = labels.tolist() if isinstance(labels, torch.Tensor) else labels
    weights = [p.tolist() for p in objective.parameters()] if case.of_classes else []
    return case.oracle(z.tolist(), labels, *weights)


def value(objective, raw, labels):
    return objective(Embedded.of(raw), labels).total


@every
@pytest.mark.parametrize("seed", range(5))
def test_equals_loops_written_from_the_formula(case, seed):
    raw, labels = batch(seed, n=9 + seed)
    objective = built(case, seed)
    got = value(objective, raw, labels).item()
    assert got == pytest.approx(expected(case, objective, raw, labels), rel=1e-9)


@every
@pytest.mark.parametrize("seed", [1, 2])
def test_gradient_of_rows_and_parameters(case, seed):
    raw, labels = batch(seed, n=8)
    objective = built(case, seed)
    inputs = (raw.requires_grad_(), *objective.parameters())
    assert torch.autograd.gradcheck(lambda *_: value(objective, raw, labels), inputs)


@every
def test_order_of_the_batch_does_not_matter(case):
    raw, labels = batch(3, n=12)
    objective = built(case)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    before, after = value(objective, raw, labels), value(objective, raw[order], labels[order])
    assert after.item() == pytest.approx(before.item(), rel=1e-12)


NAMES = [2**62 + 5, -7, 16_777_216, 16_777_217]


def renamed_to_integers(labels):
    return torch.tensor([NAMES[i] for i in labels])


def renamed_to_strings(labels):
    return [f"class {i}" for i in labels]


def renamed_to_tags(labels):
    return [{f"tag {i}"} for i in labels]


def renamed_to_pairs_of_numbers(labels):
    return [(int(i), "x") for i in labels]


@comparing
@pytest.mark.parametrize(
    "rename",
    [renamed_to_integers, renamed_to_strings, renamed_to_tags, renamed_to_pairs_of_numbers],
)
def test_names_of_classes_do_not_matter(case, rename):
    raw, labels = batch(4, n=12)
    objective = built(case)
    assert torch.equal(value(objective, raw, rename(labels)), value(objective, raw, labels))


@of_classes
def test_numbering_of_classes_does_not_matter(case):
    raw, labels = batch(4, n=12)
    objective = built(case)
    before = value(objective, raw, labels).item()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        objective.loss.proxies.copy_(objective.loss.proxies[order])
    assert value(objective, raw, order.argsort()[labels]).item() == pytest.approx(before, rel=1e-12)


@comparing
def test_tags_against_loops(case):
    raw, _ = batch(5, n=10)
    tags = [{0, 1}, {1, 2}, {0}, {2}, {3}, {1, 3}, set(), {0, 3}, {2}, {4}]
    objective = built(case)
    want = expected(case, objective, raw, tags)
    assert value(objective, raw, tags).item() == pytest.approx(want, rel=1e-6)
    matrix = torch.tensor([[tag in item for tag in range(5)] for item in tags])
    assert value(objective, raw, matrix).item() == pytest.approx(want, rel=1e-6)


@comparing
def test_relations_and_given_pairs_state_the_same_as_labels(case):
    raw, labels = batch(6, n=10)
    want = value(built(case), raw, labels)
    asked = built(case)
    asked.relation = lambda a, c: a[:, None] % 100 == c[None, :] % 100
    assert torch.equal(value(asked, raw, labels + 100 * torch.arange(10)), want)
    positive, negative = pairs(labels.tolist())
    listed = built(case)
    identity = lambda listed_pairs: [(500 + i, 500 + j) for i, j in listed_pairs]  # noqa: E731
    listed.relation = GivenPairs(identity(positive), identity(negative))
    assert torch.equal(value(listed, raw, 500 + torch.arange(10)), want)


@comparing
def test_rows_of_the_same_item_are_neither_positive_nor_negative(case):
    raw, labels = batch(7, n=10)
    objective = built(case)
    items = torch.arange(10)
    plain = objective(Embedded.of(raw), labels, items=items).total
    assert torch.equal(plain, value(objective, raw, labels))
    items[4] = items[0]  # rows 0 and 4 share a class
    assert labels[0] == labels[4]
    merged = objective(Embedded.of(raw), labels, items=items).total
    listed = built(case)
    keep = lambda some: [p for p in some if set(p) != {0, 4}]  # noqa: E731
    listed.relation = GivenPairs(*map(keep, pairs(labels.tolist())))
    assert torch.equal(merged, value(listed, raw, torch.arange(10)))


def finite_with_gradient(total, raw, objective):
    leaves = [raw, *(p for p in objective.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    assert torch.isfinite(total)
    assert gradients[0] is not None
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


ROWS = {
    "equal": lambda n: torch.ones(n, WIDTH),
    "coincident": lambda n: torch.randn(2, WIDTH).repeat(n // 2, 1),
    "opposite": lambda n: torch.ones(n, WIDTH) * (torch.arange(n) % 2 * 2 - 1)[:, None],
    "zero": lambda n: torch.zeros(n, WIDTH),
    "huge": lambda n: torch.randn(n, WIDTH) * 1e4,
}


@every
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_degenerate_rows_stay_finite(case, rows):
    torch.manual_seed(0)
    raw = rows(8).requires_grad_()
    objective = case.build()
    finite_with_gradient(value(objective, raw, torch.arange(8) // 2 % 4), raw, objective)


@of_classes
def test_items_on_and_opposite_to_class_rows_stay_finite(case):
    objective = case.build()
    raw = torch.cat([objective.loss.proxies.data, -objective.loss.proxies.data]).requires_grad_()
    finite_with_gradient(value(objective, raw, torch.arange(CLASSES).repeat(2)), raw, objective)


PAIR_CASES = {name: case for name, case in COMPARING.items() if isinstance(case.build(), OnPairs)}


@pytest.mark.parametrize("case", PAIR_CASES.values(), ids=PAIR_CASES)
@pytest.mark.parametrize("labels", [torch.arange(6), torch.zeros(6).long()], ids=["none", "all"])
def test_pair_losses_without_positives_or_without_negatives_stay_finite(case, labels):
    torch.manual_seed(0)
    raw = torch.randn(6, WIDTH, requires_grad=True)
    objective = case.build()
    terms = objective.loss(Comparison.within(raw, labels))
    assert terms.shape == (6,)
    finite_with_gradient(terms.mean(), raw, objective)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows_are_compared_in_float32(case, dtype):
    raw, labels = batch(8, n=12)
    raw = raw.to(dtype)
    half, wide = raw.clone().requires_grad_(), raw.float().requires_grad_()
    objective = case.build()
    total, want = value(objective, half, labels), value(objective, wide, labels)
    assert total.dtype == torch.float32
    assert torch.equal(total, want)
    total.backward()
    want.backward()
    assert torch.equal(half.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("case", PAIR_CASES.values(), ids=PAIR_CASES)
def test_a_comparison_of_half_precision_rows_is_float32(case):
    raw, labels = batch(9, n=12)
    terms = case.build().on(Comparison.within(raw.bfloat16(), labels)).total
    assert torch.equal(
        terms, case.build().on(Comparison.within(raw.bfloat16().float(), labels)).total
    )


@comparing
def test_autocast_does_not_reach_the_comparison(case):
    raw, labels = batch(10, n=12)
    objective = case.build()
    plain = value(objective, raw.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value(objective, raw.float(), labels).item() == pytest.approx(plain.item(), rel=1e-5)
