import pytest
import torch

from tupelo.ensembles import ActivationDiversity, AdversarialDiversity, init_embeddings
from tupelo.ensembles.diversity import reverse_gradient, unit_length
from tupelo.errors import InputError
from tupelo.models import divided, embedder

WIDTHS = (2, 3, 4)


def weights(f=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(d, f, generator=generator, dtype=torch.float64) for d in WIDTHS]
    return [weight.requires_grad_() for weight in drawn]


def features(b=7, f=6):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(b, f, generator=generator, dtype=torch.float64).requires_grad_()


def adversarial(**options):
    torch.manual_seed(0)
    return AdversarialDiversity(WIDTHS, hidden=5, **options).double()


def test_golden_activation_loss():
    diversity = ActivationDiversity((2, 3))
    one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    assert float(diversity.alike([one, other])[0]) == pytest.approx(8.33333333)


def test_the_activation_loss_equals_the_naive_loop():
    ws, h = weights(), features()
    found, _ = ActivationDiversity(WIDTHS)(ws, h)
    ws, expected = [weight.detach() for weight in ws], 0.0
    for i in range(3):
        for j in range(i + 1, 3):
            products = [
                float((ws[i][k] @ x) * (ws[j][n] @ x)) ** 2
                for x in h.detach()
                for k in range(WIDTHS[i])
                for n in range(WIDTHS[j])
            ]
            expected += sum(products) / len(products)
    assert float(found.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [ActivationDiversity, AdversarialDiversity])
@pytest.mark.parametrize("axis", ["input", "output"])
def test_the_weight_constraint_of_both_axes(kind, axis):
    ws, h = weights(), features()
    diversity = kind(WIDTHS, constraint_weight=3.0, norm_axis=axis).double()
    _, found = diversity(ws, h)
    expected = 0.0
    for weight in ws:
        lengths = weight.detach() if axis == "output" else weight.detach().T
        expected += sum((float(row @ row) - 1) ** 2 for row in lengths) / len(lengths)
    if kind is AdversarialDiversity:  # always of the input units of its regressors, and biases
        for layer in diversity.modules():
            if isinstance(layer, torch.nn.Linear):
                columns, bias = layer.weight.detach().T, layer.bias.detach()
                expected += sum((float(c @ c) - 1) ** 2 for c in columns) / len(columns)
                expected += max(float(bias @ bias) - 1, 0)
    assert float(found.detach()) == pytest.approx(3 * expected)


def test_published_axes():
    assert ActivationDiversity(WIDTHS).norm_axis == "output"
    assert AdversarialDiversity(WIDTHS).norm_axis == "input"
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(unit_length(weight, "input")) == pytest.approx(1.0)  # lengths 2 and 0
    assert float(unit_length(weight, "output")) == 0.0


@pytest.mark.parametrize("made", [lambda: ActivationDiversity(WIDTHS), adversarial])
def test_the_network_learns_nothing_from_it(made):
    ws, h = weights(), features()
    sum(made()(ws, h)).backward()
    assert h.grad is None
    assert all(weight.grad.abs().sum() > 0 for weight in ws)


def product(diversity, ws, h):
    """(r_i R_ji(r_j))^2, what the regressors find in common."""
    with torch.no_grad():
        return -float(diversity.alike([h @ w.T for w in ws])[0])


def test_gradient_reversal_has_the_signs_of_b3():
    """With W frozen a step raises the squared product; with the regressors frozen it lowers it."""
    h = features().detach()
    for learns in ("regressors", "weights"):
        ws, diversity = weights(), adversarial(constraint_weight=0.0)
        before = product(diversity, ws, h)
        alike, _ = diversity(ws, h)
        alike.backward()
        with torch.no_grad():
            for tensor in diversity.parameters() if learns == "regressors" else ws:
                tensor.sub_(tensor.grad, alpha=1e-4)
        after = product(diversity, ws, h)
        assert (after > before) == (learns == "regressors"), learns
        assert abs(after - before) > 1e-9


def test_reversed_gradients_are_those_of_the_negative():
    ws, h, diversity = weights(), features(), adversarial(constraint_weight=0.0)
    diversity(ws, h)[0].backward()
    plain = [w.detach().clone().requires_grad_() for w in ws]
    rs = [h.detach() @ w.T for w in plain]
    pairs = [(0, 1), (0, 2), (1, 2)]
    squares = [
        (rs[i] * regressor(rs[j])).square().mean()
        for regressor, (i, j) in zip(diversity.regressors, pairs, strict=True)
    ]
    sum(squares).backward()
    for one, other in zip(ws, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)  # so W descends the product itself


def test_reversal_keeps_values():
    x = torch.randn(3, requires_grad=True)
    y = reverse_gradient(x)
    assert torch.equal(y, x)
    (y * torch.tensor([2.0, 0.0, 1.0])).sum().backward()
    assert x.grad.tolist() == [-2, 0, -1]


def test_shapes_of_the_regressors():
    layers = [(r[0].in_features, r[2].out_features) for r in adversarial().regressors]
    assert layers == [(3, 2), (4, 2), (4, 3)]


@pytest.mark.parametrize("kind", [ActivationDiversity, AdversarialDiversity])
@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ((4,), {}, "diversity needs two learners or more, got 1; set diversity='none'"),
        ((2, 3), {"constraint_weight": -1.0}, "constraint_weight must be >= 0, got -1.0"),
        ((2, 3), {"norm_axis": "rows"}, "norm_axis must be 'input' or 'output', got 'rows'"),
    ],
)
def test_refused(kind, widths, options, message):
    with pytest.raises(InputError, match=message):
        kind(widths, **options)


def test_refused_regressors():
    with pytest.raises(InputError, match="hidden must be >= 1, got 0"):
        AdversarialDiversity((2, 3), hidden=0)
    with pytest.raises(InputError, match=r"regressors must be > 0, got 0\.0"):
        AdversarialDiversity((2, 3), learning_rate=0.0)


class TestInitEmbeddings:
    def model(self, learners=2):
        torch.manual_seed(0)
        whole = embedder(torch.nn.Flatten(), features=16, dim=6, channels=1)
        return divided(whole, learners=learners)

    def rows(self):
        return torch.rand(40, 16, generator=torch.Generator().manual_seed(1))

    def test_only_the_weights_change_and_the_losses_fall(self):
        model, rows = self.model(), self.rows()
        diversity = ActivationDiversity(model.learners.widths, constraint_weight=1.0)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        apart = [float(part.detach()) for part in diversity(model.weights, rows)]
        generator = torch.Generator().manual_seed(0)
        losses = init_embeddings(
            model, rows, constraint_weight=1.0, steps=150, lr=2e-2, generator=generator
        )
        after = [float(part.detach()) for part in diversity(model.weights, rows)]
        assert len(losses) == 150
        assert after[0] < 0.5 * apart[0]
        assert after[1] < 0.2  # lengths did not go to 0, which would cost 2
        changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == {"embedder.head.0.weight"}
        assert model.linear.weight.grad is None

    def test_it_is_repeatable(self):
        found = []
        for _ in range(2):
            model, generator = self.model(), torch.Generator().manual_seed(4)
            init_embeddings(model, self.rows(), steps=3, generator=generator)
            found.append(model.linear.weight.detach())
        assert torch.equal(*found)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 0}, "steps must be >= 1, got 0"),
            ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
            ({"lr": 0.0}, "lr must be > 0, got 0.0"),
            ({"features": torch.ones(3, 5)}, r"features must be rows of the 16 values .* \(3, 5\)"),
            ({"features": torch.ones(0, 16)}, r"features must be rows of the 16 values"),
            ({"features": torch.full((3, 16), torch.nan)}, "features must be finite, got NaN"),
        ],
    )
    def test_refused(self, options, message):
        with pytest.raises(InputError, match=message):
            init_embeddings(self.model(), **{"features": self.rows(), **options})

    def test_refused_models(self):
        with pytest.raises(InputError, match="diversity needs two learners or more, got 1"):
            init_embeddings(self.model(1), self.rows())
