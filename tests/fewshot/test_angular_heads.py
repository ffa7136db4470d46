import copy
import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot import (
    GraphHead,
    Layout,
    NormalisedContrastive,
    Prototypical,
    arc_face,
    cos_face,
    graph_triplets,
    norm_face,
)

SCALE = 10.0
ANGULAR = [norm_face, cos_face, arc_face]
COSINES = torch.tensor([[0.6, 0.0, -0.3], [-0.999, 0.5, 0.2]], dtype=torch.float64)
WANTED = torch.tensor([0, 0])
LAYOUT = Layout(ways=3, shots=2, queries=1, per_batch=2, query_ways=1)


def head(scale: float | None = SCALE):
    return GraphHead(4, 3, growth=2, scale=scale)


def cross_entropy(rows, wanted):
    terms = [
        math.log(sum(math.exp(SCALE * c) for c in row)) - SCALE * row[y]
        for row, y in zip(rows, wanted.tolist(), strict=True)
    ]
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        (norm_face(head()), lambda c: c),
        (cos_face(head()), lambda c: c - 0.2),
        (cos_face(head(), margin=0.5), lambda c: c - 0.5),
        # the second is beyond pi - 0.1, whose cosine is -0.995: straight on
        (arc_face(head()), lambda c: cos_of_wider(c, 0.1)),
        (arc_face(head(), margin_radians=1.0), lambda c: cos_of_wider(c, 1.0)),
    ],
)
def test_values_of_a_plain_loop(loss, own):
    rows = [[own(c) if k == 0 else c for k, c in enumerate(row)] for row in COSINES.tolist()]
    found = loss(SCALE * COSINES, WANTED)
    assert found.item() == pytest.approx(cross_entropy(rows, WANTED), rel=1e-9)


def cos_of_wider(cosine, margin):
    angle = math.acos(cosine) + margin
    return math.cos(angle) if angle < math.pi else cosine - margin * math.sin(margin)


def test_the_target_of_arcface_never_rises_again():
    cosines = torch.linspace(1, -1, 401, dtype=torch.float64)
    rows = torch.stack([cosines, torch.zeros_like(cosines)], 1)
    loss = arc_face(head())
    losses = [float(loss(SCALE * row[None], torch.tensor([0]))) for row in rows]
    assert all(after >= before for before, after in pairwise(losses))


@pytest.mark.parametrize("make", ANGULAR)
def test_gradients_are_finite_where_a_cosine_is_one(make):
    cosines = torch.tensor([[1.0, -1.0, 0.0]], requires_grad=True)
    make(head())(SCALE * cosines, torch.tensor([0])).backward()
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("make", ANGULAR)
def test_what_has_no_cosines_is_refused(make):
    with pytest.raises(InputError, match=r"linear classifier, which Prototypical does not have"):
        make(Prototypical("cosine"))
    with pytest.raises(InputError, match=r"a plain linear classifier; .* GraphHead\(scale=10.0\)"):
        make(head(scale=None))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cos_face(head(), margin=2.0), r"margin must be in \[0, 2\), .* got 2.0"),
        (lambda: arc_face(head(), margin_radians=5.7), r"in \[0, pi/2\), got 5.7"),
        (
            lambda: NormalisedContrastive(graph_triplets(LAYOUT), margin=0.0),
            r"margin must be in \(0, 2\], .* got 0.0",
        ),
        (
            lambda: NormalisedContrastive(graph_triplets(LAYOUT))(torch.ones(3, 4)),
            "chosen for 14 points of .* got 3; make the table",
        ),
        (
            lambda: NormalisedContrastive(graph_triplets(LAYOUT))(torch.zeros(14, 4)),
            "must not all be zero where they are normalised",
        ),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("dense", [True, False])
def test_contrastive_of_a_plain_loop(dense, monkeypatch):
    monkeypatch.setattr("tupelo.fewshot.large_margin.DENSE_UP_TO", 1000 if dense else 0)
    table = graph_triplets(LAYOUT)
    points = torch.randn(table.points, 4, dtype=torch.float64, requires_grad=True)
    unit = [p / p.norm() for p in points]
    pairs = {
        (0, i, k): (a, p)
        for i, (a, row) in enumerate(zip(table.anchors, table.positives, strict=True))
        for k, p in enumerate(row)
    }
    terms = [(unit[a] - unit[p]).square().sum() for a, p in pairs.values()]
    for a, _, n in table.triplets:
        terms.append(F.relu(0.9 - (unit[a] - unit[n]).norm()).square())
    expected = sum(terms) / len(terms)
    found = NormalisedContrastive(table, margin=0.9)(points)
    torch.testing.assert_close(found.total, expected)
    (a,) = torch.autograd.grad(expected, points)
    (b,) = torch.autograd.grad(found.total, points)
    torch.testing.assert_close(b, a)
    assert 0 < found.statistics["active"] < 1


def test_contrastive_where_points_coincide():
    points = torch.ones(14, 4, requires_grad=True)
    NormalisedContrastive(graph_triplets(LAYOUT))(points).total.backward()
    assert points.grad.isfinite().all()


def test_losses_can_be_copied():
    assert copy.deepcopy(cos_face(head()))(SCALE * COSINES, WANTED) == cos_face(head())(
        SCALE * COSINES, WANTED
    )
