import math

import pytest
import torch

from tupelo import losses
from tupelo.errors import InputError
from tupelo.types import Embedded

# item (1, 0) of class 0; class rows (3, 4) and (0, 2): cosines .6 and 0
ITEM = Embedded.of(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
OWN = torch.tensor([0])

BY_HAND = [
    # squared distances .8 and 2
    (losses.ProxyNCA(2, 2, scale=1.0), 0.8 - 2.0),
    (losses.ProxyNCA(2, 2, scale=1.0, include_own=True), 0.263282),  # log(1 + e^(.8 - 2))
    # log(1 + e^(-2 (.6 - .1))) / 1 + (log(1 + nothing) + log(1 + e^(2 (0 + .1)))) / 2
    (losses.ProxyAnchor(2, 2, alpha=2.0), 0.313262 + 0.798139 / 2),
    (losses.NormalizedSoftmax(2, 2, temperature=0.5), 0.263282),  # log(1 + e^-1.2)
    (losses.CosineSoftmax(2, 2, scale=2.0), 0.263282),
    (losses.CosFace(2, 2, scale=2.0), 0.474077),  # log(1 + e^(-2 (.6 - .35)))
    # cos(acos .6 + .5) = .6 * .877583 - .8 * .479426 = .143009; log(1 + e^(-2 * .143009))
    (losses.ArcFace(2, 2, scale=2.0), 0.560329),
]


@pytest.mark.parametrize(("loss", "value"), BY_HAND, ids=lambda x: type(x).__name__)
def test_value_worked_by_hand(loss, value):
    with torch.no_grad():
        loss.proxies.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    assert loss(ITEM, OWN).tolist() == pytest.approx([value], abs=2e-6)


def test_arcface_continues_straight_beyond_pi():
    # cosine -1 at margin .5: -1 - .5 sin .5 = -1.239713, against the other's cosine 0
    loss = losses.ArcFace(2, 2, scale=1.0)
    with torch.no_grad():
        loss.proxies.copy_(torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
    assert loss(ITEM, OWN).item() == pytest.approx(math.log(1 + math.exp(1.239713)), abs=2e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.ProxyNCA(1, 2), "n_classes >= 2 and dim >= 1 .* got 1 and 2"),
        (lambda: losses.ProxyNCA(2, 2, scale=0.0), "must be > 0, got 0.0"),
        (lambda: losses.ProxyAnchor(2, 2, alpha=0.0), "must be > 0, got 0.0"),
        (lambda: losses.NormalizedSoftmax(2, 2, temperature=-1.0), "must be > 0, got -1.0"),
        (lambda: losses.CosFace(2, 2, margin=2.0), r"margin must be in \[0, 2\)"),
        (lambda: losses.CosFace(2, 2, scale=math.nan), "must be > 0, got nan"),
        (lambda: losses.ArcFace(2, 2, margin_radians=28.6), r"margin_radians must be in \[0, pi/2"),
        (lambda: losses.CosineSoftmax(3, 4, scale=0.0), r"must be > 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("loss", [case[0] for case in BY_HAND], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([2]), r"labels must lie in \[0, 2\) .* got \[2, 2\]; set n_classes"),
        (torch.tensor([-1]), r"labels must lie in \[0, 2\)"),
        (torch.tensor([[True, False]]), "needs class indices"),
        (torch.tensor([0.0]), "needs class indices .* got torch.float32"),
        (torch.tensor([0, 1]), "needs one label per row, got 2 for 1 rows"),
    ],
)
def test_labels_without_a_class_row_are_refused(loss, labels, message):
    with pytest.raises(InputError, match=message):
        loss(ITEM, labels)


@pytest.mark.parametrize("loss", [case[0] for case in BY_HAND], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_labels_of_any_integer_type_are_the_same(loss, dtype):
    embedded, labels = Embedded.of(torch.randn(4, 2)), torch.tensor([0, 1, 1, 0])
    assert torch.equal(loss(embedded, labels.to(dtype)), loss(embedded, labels))


def test_a_width_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="got dim=5 for embeddings of width 2"):
        losses.CosFace(2, 5)(ITEM, OWN)


def test_the_scale_of_the_cosine_softmax_is_learned():
    loss = losses.CosineSoftmax(2, 2, scale=3.0)
    assert torch.nn.functional.softplus(loss.s).item() == pytest.approx(3.0, abs=1e-6)
    loss(ITEM, OWN).sum().backward()
    assert loss.s.grad is not None
    assert loss.s.grad != 0
