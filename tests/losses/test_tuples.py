import pytest
import torch

from tupelo import losses
from tupelo.errors import InputError
from tupelo.sections import Shown


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_triplet_by_hand():
    # distances 1 to the positive, 1.1 and 2 to the negatives: (.1 + 0) / 2
    a, p, n = rows([0, 0]), rows([0.6, 0.8]), rows([[0, 1.1], [2, 0]])
    assert losses.Triplet(0.2)(a, p, n).tolist() == pytest.approx([0.05], abs=1e-7)
    # 1 - 1.05^2 + .2
    assert losses.Triplet(0.2, squared=True)(a, p, rows([[0, 1.05]])).item() == pytest.approx(
        0.0975, abs=1e-7
    )


def test_margin_by_hand():
    # (1.3 - 1.2 + .2) + (1.2 - 1.3 + .2) over 2 active; the second tuple is inactive
    a, p, n = rows([0, 0], [0, 0]), rows([1.3, 0], [0.5, 0]), rows([[0, 1.3]], [[0, 3]])
    loss = losses.Margin()
    assert loss(a, p, n).mean().item() == pytest.approx(0.2, abs=1e-7)
    loss = losses.Margin(n_classes=2)
    with torch.no_grad():
        loss.beta.copy_(torch.tensor([1.2, 2.9]))
    # the second anchor's boundary 2.9: its positive is inactive, its negative 2.9 - 3 + .2 = .1
    assert loss(a, p, n, torch.tensor([0, 1])).mean().item() == pytest.approx(0.5 / 3, abs=1e-6)


def test_margin_without_active_pairs_is_zero_with_a_graph():
    a, p, n = rows([0, 0]).requires_grad_(), rows([0.1, 0]), rows([[0, 3]])
    total = losses.Margin()(a, p, n).mean()
    total.backward()
    assert total.item() == 0
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_margin_boundaries_have_their_own_rate_and_may_be_fixed():
    assert losses.Margin().learning_rate == 5e-4
    assert losses.Margin().beta.requires_grad
    assert not losses.Margin(learning_rate=0.0).beta.requires_grad


def test_n_pair_by_hand():
    # similarities 1 and 2, -1: log(1 + e^1 + e^-2) + .002 * 5
    a, p, n = rows([1, 2]), rows([1, 0]), rows([[0, 1], [1, -1]])
    assert losses.NPair()(a, p, n).item() == pytest.approx(1.349013 + 0.01, abs=2e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.Triplet(0.0), "margin must be > 0, got 0.0"),
        (lambda: losses.Margin(0), "n_classes must be >= 1, got 0"),
        (lambda: losses.Margin(beta=0.0), "beta and alpha must be > 0"),
        (lambda: losses.Margin(alpha=-1.0), "beta and alpha must be > 0"),
        (lambda: losses.NPair(-0.1), "l2_weight must be >= 0, got -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs class indices .* as labels, got none; tags and pairs work"),
        (torch.tensor([0.0]), "got torch.float32 of shape"),
        (torch.tensor([3]), r"labels must lie in \[0, 3\) .* got \[3, 3\]; set n_classes"),
        (torch.tensor([-1]), r"labels must lie in \[0, 3\)"),
        (torch.tensor([0, 1]), "needs one label per row, got 2 for 1 rows"),
    ],
)
def test_margin_refuses_labels_without_a_boundary(labels, message):
    a, p, n = torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 1, 2)
    with pytest.raises(InputError, match=message):
        losses.Margin(n_classes=3)(a, p, n, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_boundaries_are_those_of_labels_of_any_integer_type(dtype):
    loss, labels = losses.Margin(n_classes=2), torch.tensor([0, 1])
    with torch.no_grad():
        loss.beta.copy_(torch.tensor([0.9, 1.1]))
    tuples = torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 1, 3)
    assert torch.equal(loss(*tuples, labels.to(dtype)), loss(*tuples, labels))


def test_margin_shows_its_learned_boundaries_in_the_report():
    shown = Shown(torch.zeros(0, 1, 4, 4), torch.zeros(0).long(), ["x"], ["ant", "bee"])
    nothing = torch.nn.Identity(), shown
    loss = losses.Margin(n_classes=3, alpha=0.25)
    with torch.no_grad():
        loss.beta.copy_(torch.tensor([1.25, 0.75, 1.0]))
    (section,) = loss.sections(*nothing)
    (bars,) = section.parts
    assert (list(bars.names), list(bars.values)) == (
        ["ant", "bee", "class 2"],
        [1.25, 0.75, 1.0],
    )
    assert "a boundary less 0.25" in section.text
    assert "each of the 3 classes" in section.text
    assert "A class with a low boundary" in section.text
    assert "0.75 to 1.25" in section.text
    (shared,) = losses.Margin(beta=1.5).sections(*nothing)
    assert "all classes share one boundary: 1.5." in shared.text
    assert "A class with" not in shared.text
    assert shared.parts == []
    assert losses.Margin(n_classes=3, learning_rate=0.0).sections(*nothing) == []


def test_n_pair_with_squared_norms_everywhere():
    """The golden values 6.2 of HDML's N-pair loss: tuples of two anchors, r = 0.003."""
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    p = torch.tensor([[2.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    plain = losses.NPair(l2_weight=0.0)(a, p, p[[1, 0], None]).mean()
    whole = losses.NPair(l2_weight=0.003 / 4, l2_everywhere=True)(a, p, p[[1, 0], None]).mean()
    assert plain.item() == pytest.approx(0.25733748, abs=1e-8)
    assert whole.item() == pytest.approx(0.26005623, abs=1e-8)
