"""Single layers: worked values, what every layer promises, and what holds after many steps."""

import copy

import numpy as np
import pytest
from scipy.optimize import minimize

from tupelo.errors import InputError
from tupelo.tabular.online.estimator import LAYERS
from tupelo.tabular.online.kernels import FLOOR, Options
from tupelo.tabular.online.layers import inverse_of, projected_root
from tupelo.tabular.online.lego import LEGO
from tupelo.tabular.online.moml import MOML
from tupelo.tabular.online.opml import OPML
from tupelo.tabular.online.rdml import RDML

PAPER = Options(
    *(0.1, 1e-3, 1.0, True, False, False),
    *(0.1, 1.0, 1e-3, 1 / 3, 1e-4),
)
X = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8], [0.96, 0.28], [0.28, 0.96]])
TRIPLET = X[0], np.array([0.6, 0.8]), np.array([0.8, -0.6])
EACH = pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS)


def stream(n=1000, d=6, seed=0, shift=0.3):
    """Triplets of unit rows."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3, d)) + shift
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def outer(x, z):
    return np.outer(x - z, x - z)


class TestOPML:
    def test_one_step_worked_by_hand(self):
        layer = OPML(2)
        assert layer.loss(*TRIPLET, PAPER) == pytest.approx(1.4)
        assert layer.update(*TRIPLET, PAPER)
        expected = [[0.98998459168, 0.042372881356], [0.042372881356, 0.974576271186]]
        assert np.allclose(layer.L, expected, rtol=0, atol=1e-12)
        assert layer.loss(*TRIPLET, PAPER) == pytest.approx(1.3110154059)

    def test_a_stream_worked_by_hand(self):
        layer = OPML(2)
        # labels 0, 0, 1, 1, 0, 1
        for t, p, q in ((3, 2, 1), (4, 1, 3), (5, 3, 4)):
            assert layer.update(X[t], X[p], X[q], PAPER)
        expected = [[1.018005762419, -0.049692323014], [-0.051843152752, 1.065926619307]]
        assert np.allclose(layer.L, expected, rtol=0, atol=1e-12)

    def test_many_steps_are_inverses(self):
        layer, L = OPML(6), np.eye(6)
        for x, p, q in stream(300):
            A = outer(x, p) - outer(x, q)
            if layer.loss(x, p, q, PAPER) > 0:
                L = L @ np.linalg.inv(np.eye(6) + 0.1 * A)
            layer.update(x, p, q, PAPER)
        assert np.allclose(layer.L, L, rtol=1e-11, atol=1e-12)
        assert 0 < layer.n_updates < 300

    def test_a_rate_that_is_too_large_is_shrunk(self):
        x, p, q = np.array([2.0, 0.0]), np.array([2.0, 0.1]), np.array([0.5, 0.0])
        beta = 2.25  # |x - q|^2: gamma * beta is 2.25
        options = PAPER._replace(gamma=1.0, margin=5.0)
        layer = OPML(2)
        assert layer.update(x, p, q, options)
        assert layer.n_unstable == 1
        A = outer(x, p) - outer(x, q)
        safe = (1 - 1e-3) / beta
        assert np.allclose(layer.L, np.linalg.inv(np.eye(2) + safe * A))
        assert min(np.linalg.eigvals(layer.L).real) > 0  # the plain step reflects
        assert min(np.linalg.eigvals(np.linalg.inv(np.eye(2) + A)).real) < 0
        with pytest.raises(InputError, match=r"gamma=1 is too large .* must stay below 1"):
            OPML(2).update(x, p, q, options._replace(shrink=False))

    def test_the_exact_step_is_the_minimum(self):
        stopped = 0
        for x, p, q in stream(40, d=3, shift=0.0):
            layer = OPML(3)
            layer.L = np.random.default_rng(1).normal(size=(3, 3))
            before = layer.L.copy()
            options = PAPER._replace(gamma=0.2, exact=True)

            def value(flat, x=x, p=p, q=q, before=before):
                L = flat.reshape(3, 3)
                z = 1 + ((L @ (x - p)) ** 2).sum() - ((L @ (x - q)) ** 2).sum()
                return 0.5 * ((L - before) ** 2).sum() + 0.1 * max(z, 0)

            if not layer.update(x, p, q, options):
                continue
            found = minimize(value, layer.L.ravel(), method="Nelder-Mead", options={"xatol": 1e-9})
            assert value(layer.L.ravel()) <= found.fun + 1e-9
            assert value(layer.L.ravel()) < value(before.ravel())
            stopped += abs(layer.loss(x, p, q, options)) < 1e-9
        assert stopped > 3

    def test_a_pair_is_a_triplet_without_negative(self):
        x, p = TRIPLET[:2]
        layer = OPML(2)
        assert layer.update(x, p, x, PAPER._replace(gamma=0.05))
        assert np.allclose(layer.L, np.linalg.inv(np.eye(2) + 0.05 * outer(x, p)))


class TestMOML:
    def test_one_step_worked_by_hand(self):
        layer = MOML(2)
        assert layer.update(*TRIPLET, PAPER)
        M = [[0.988, 0.044], [0.044, 0.972]]
        assert np.allclose(layer.L.T @ layer.L, M, rtol=0, atol=1e-14)
        expected = [[0.993733296745, 0.022229146179], [0.022229146179, 0.985649970862]]
        assert np.allclose(layer.L, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("gamma", "projects"), [(0.01, False), (0.2, True)])
    def test_thousand_steps_are_those_of_the_matrix(self, gamma, projects):
        options = PAPER._replace(gamma=gamma)
        layer, M = MOML(6), np.eye(6)
        for x, p, q in stream():
            active = layer.loss(x, p, q, options) > 0
            unstable = layer.n_unstable
            layer.update(x, p, q, options)
            if active:
                M = M - gamma * (outer(x, p) - outer(x, q))
            if layer.n_unstable > unstable:
                values, vectors = np.linalg.eigh(M)
                M = (vectors * np.maximum(values, 1e-8 * values[-1])) @ vectors.T
            own = np.linalg.eigvalsh(layer.L.T @ layer.L)
            assert own[0] > -1e-14 * own[-1]
        assert (layer.n_unstable > 0) == projects
        assert np.abs(layer.L.T @ layer.L - M).max() < 1e-11 * np.abs(M).max()
        assert np.abs(layer.L @ layer.K - np.eye(6)).max() < 1e-13

    def test_the_passive_aggressive_step_ends_at_the_hinge(self):
        options = PAPER._replace(gamma=10.0, passive_aggressive=True)
        done = 0
        for x, p, q in stream(50):
            layer = MOML(6)
            if layer.update(x, p, q, options) and not layer.n_unstable:
                assert layer.loss(x, p, q, options) == pytest.approx(0, abs=1e-12)
                done += 1
        assert done > 5

    def test_a_drifted_inverse_is_renewed(self):
        layer = MOML(6)
        layer.K = layer.K + 1e-6
        for x, p, q in stream(200):
            layer.update(x, p, q, PAPER._replace(gamma=1e-3))
        assert layer.n_updates >= 64
        assert np.abs(layer.L @ layer.K - np.eye(6)).max() < 1e-12


class TestPairs:
    def test_lego_solves_its_equation(self):
        x, p, q = stream(1)[0]
        layer, options = LEGO(6), PAPER._replace(gamma=0.5, near=0.2, far=1.5)
        layer.L = np.random.default_rng(0).normal(size=(6, 6))
        inverse = np.linalg.inv(layer.L.T @ layer.L)
        layer.update(x, p, x, options)  # the pair (x, x) has no length and does nothing
        M = layer.L.T @ layer.L
        y = (x - p) @ M @ (x - p)
        assert np.allclose(np.linalg.inv(M), inverse + 0.5 * (y - 0.2) * outer(x, p))
        layer.update(x, x, q, options)
        y = (x - q) @ layer.L.T @ layer.L @ (x - q)
        inverse = np.linalg.inv(M)
        after = np.linalg.inv(layer.L.T @ layer.L)
        assert np.allclose(after, inverse + 0.5 * (y - 1.5) * outer(x, q))

    def test_lego_never_leaves_the_cone(self):
        layer = LEGO(6)
        for x, p, q in stream(500):
            layer.update(x, p, q, PAPER._replace(gamma=1.0, far=4.0))
        assert np.linalg.eigvalsh(layer.L.T @ layer.L)[0] > 0

    @pytest.mark.parametrize("near", [0.0, 0.1])
    def test_lego_refuses_what_leaves_the_range_of_floats(self, near):
        layer = LEGO(2)
        x, p = np.array([1e90, 0.0]), np.zeros(2)
        with pytest.raises(FloatingPointError):
            layer.update(x, p, x, PAPER._replace(near=near))
        assert np.array_equal(layer.L, np.eye(2))

    def test_rdml_steps_are_those_of_the_matrix(self):
        layer, M, options = RDML(6), np.eye(6), PAPER._replace(gamma=0.02)
        for x, p, q in stream(300):
            layer.update(x, p, q, options)
            for other, sign in ((p, 1.0), (q, -1.0)):
                if sign * (1 - (x - other) @ M @ (x - other)) < 1.0:
                    M = M - 0.02 * sign * outer(x, other)
        assert layer.n_unstable == 0
        assert np.allclose(layer.L.T @ layer.L, M, rtol=0, atol=1e-12)
        assert np.allclose(layer.L @ layer.K, np.eye(6), rtol=0, atol=1e-11)

    def test_rdml_projects(self):
        layer = RDML(6)
        for x, p, q in stream(300):
            layer.update(x, p, q, PAPER._replace(gamma=0.5))
            assert np.linalg.eigvalsh(layer.L.T @ layer.L)[0] > 0
        assert layer.n_unstable > 0


def test_a_matrix_without_a_positive_eigenvalue_is_projected():
    for eigenvalue in (0.0, -0.2):
        root, K = projected_root(np.array([[eigenvalue]]))
        assert root[0, 0] ** 2 == pytest.approx(FLOOR)
        assert root[0, 0] * K[0, 0] == pytest.approx(1)


def test_a_singular_map_has_no_inverse():
    with pytest.raises(FloatingPointError):
        inverse_of(np.ones((2, 2)))


@EACH
class TestEveryLayer:
    def test_an_inactive_triplet_changes_nothing(self, kind):
        x = np.array([1.0, 0.0, 0.0])
        far = np.array([-1.0, 0.0, 0.0])
        layer = kind(3)
        if kind is LEGO:  # it has no hinge; only pairs without length are left alone
            assert not layer.update(x, x, x, PAPER)
        elif kind is RDML:  # of the positive, margin 1 leaves alone what has no length
            assert layer.update(x, x, far, PAPER._replace(margin=1e-9)) is False
        else:
            assert layer.update(x, x, far, PAPER) is False
        assert np.array_equal(layer.L, np.eye(3))
        assert layer.n_updates == 0

    @pytest.mark.parametrize("same", ["positive", "negative", "both"])
    def test_equal_rows_do_no_harm(self, kind, same):
        layer = kind(6)
        for x, p, q in stream(50):
            layer.update(x, x if same != "negative" else p, x if same != "positive" else q, PAPER)
        assert np.isfinite(layer.L).all()

    def test_reset_and_copy(self, kind):
        layer = kind(6)
        for x, p, q in stream(20):
            layer.update(x, p, q, PAPER)
        other = copy.deepcopy(layer)
        x, p, q = stream(1, seed=9)[0]
        layer.update(x, p, q, PAPER)
        assert not (layer.L == other.L).all()
        other.update(x, p, q, PAPER)
        assert (layer.L == other.L).all()
        layer.reset()
        assert np.array_equal(layer.L, np.eye(6))
        assert layer.n_updates == layer.n_unstable == 0

    @pytest.mark.parametrize("scale", [1e160, np.inf])
    def test_infinite_numbers_are_refused_and_nothing_changes(self, kind, scale):
        layer = kind(2)
        with (
            np.errstate(over="ignore", invalid="ignore"),
            pytest.raises(FloatingPointError),
        ):
            layer.update(
                *(np.array(row) * scale for row in ([1.0, 0.1], [0.3, 1.0], [1, 0.2])), PAPER
            )
        assert np.array_equal(layer.L, np.eye(2))

    def test_a_step_lowers_its_hinge(self, kind):
        if kind in (LEGO, RDML):
            return  # their two steps each mind one pair
        layer = kind(6)
        for x, p, q in stream(30):
            before = layer.loss(x, p, q, PAPER)
            if layer.update(x, p, q, PAPER._replace(gamma=0.02)):
                assert layer.loss(x, p, q, PAPER) < before
