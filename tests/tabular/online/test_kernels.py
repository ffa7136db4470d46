"""The numbers of a step against explicit inverses and roots."""

import numpy as np
import pytest

from tupelo.tabular.online.kernels import (
    bracket_factors,
    lego_factor,
    moml_rate,
    opml_exact_rate,
    opml_factors,
    rdml_factors,
)
from tupelo.tabular.online.moml import parallelogram

RNG = np.random.default_rng(0)
UNIT = RNG.normal(size=(200, 3, 5))
UNIT /= np.linalg.norm(UNIT, axis=2, keepdims=True)


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def factors(u, v, gamma):
    square = parallelogram(u, v) if u @ u > v @ v else parallelogram(v, u)
    return bracket_factors(u @ u, v @ v, u @ v, square, gamma)


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 0.24])
def test_opml_is_the_inverse(gamma):
    for x, p, q in UNIT:
        a, b, L = x - p, x - q, RNG.normal(size=(5, 5))
        u, v = L @ a, L @ b
        pu, m, qv = opml_factors(a @ a, b @ b, a @ b, gamma)
        A = np.outer(a, a) - np.outer(b, b)
        explicit = L @ np.linalg.inv(np.eye(5) + gamma * A)
        got = L - np.outer(pu * u + m * v, a) - np.outer(m * u + qv * v, b)
        assert np.allclose(got, explicit, rtol=1e-12, atol=1e-13)
        # Delta, by which all is divided, is the determinant
        delta = gamma * (1 + gamma * a @ a) / -qv
        assert delta == pytest.approx(np.linalg.det(np.eye(5) + gamma * A), rel=1e-12)


def test_opml_stops_where_the_hinge_is_zero():
    stopped = 0
    for x, p, q in UNIT:
        a, b, L = x - p, x - q, np.eye(5)
        u, v, gamma = L @ a, L @ b, 0.24
        numbers = u @ u, v @ v, u @ v, a @ a, b @ b, a @ b
        z = 1 + u @ u - v @ v
        if z <= 0:
            continue
        rate = opml_exact_rate(*numbers, gamma, 1.0)

        def hinge(rate, a=a, b=b, L=L):
            after = L @ np.linalg.inv(np.eye(5) + rate * (np.outer(a, a) - np.outer(b, b)))
            return 1 + ((after @ a) ** 2).sum() - ((after @ b) ** 2).sum()

        if rate < gamma:
            stopped += 1
            assert rate > 0
            assert hinge(rate) == pytest.approx(0, abs=1e-12)
        else:
            assert rate == gamma
            assert hinge(gamma) >= 0
    assert stopped > 10


@pytest.mark.parametrize("gamma", [1e-6, 1e-2, 0.3])
def test_the_bracket_and_its_root(gamma):
    tried = 0
    for u, v, _ in UNIT * np.array([1.0, 1.5, 1.0])[:, None]:
        B = np.eye(5) - gamma * np.outer(u, u) + gamma * np.outer(v, v)
        least, *c, d11, d12, d22 = factors(u, v, gamma)
        assert least == pytest.approx(min(np.linalg.eigvalsh(B)), abs=1e-7)
        if least < 1e-2:
            continue
        tried += 1
        U = np.stack([u, v], axis=1)
        C, D = (np.array([[s[0], s[1]], [s[1], s[2]]]) for s in (c, (d11, d12, d22)))
        assert np.allclose(np.eye(5) + U @ C @ U.T, root(B), rtol=0, atol=1e-14)
        assert np.allclose(np.eye(5) + U @ D @ U.T, np.linalg.inv(root(B)), rtol=0, atol=1e-13)
    assert tried > 50


@pytest.mark.parametrize("kind", ["u is zero", "v is zero", "both", "equal", "parallel"])
def test_the_bracket_of_vectors_that_span_no_plane(kind):
    u = np.array([0.6, 0.8, 0.0])
    v = {"equal": u, "parallel": -0.5 * u}.get(kind, np.array([0.0, 0.3, 0.4]))
    u = u * (kind not in ("u is zero", "both"))
    v = v * (kind not in ("v is zero", "both"))
    B = np.eye(3) - 0.1 * np.outer(u, u) + 0.1 * np.outer(v, v)
    _, c11, c12, c22, *_ = factors(u, v, 0.1)
    U = np.stack([u, v], axis=1)
    C = np.array([[c11, c12], [c12, c22]])
    assert np.allclose(np.eye(3) + U @ C @ U.T, root(B), rtol=0, atol=1e-15)


def test_a_bracket_that_is_not_positive_is_told():
    least, *rest = bracket_factors(2.0, 0.0, 0.0, 0.0, 0.6)
    assert least == pytest.approx(-0.2)
    assert rest == [0.0] * 6


def test_moml_goes_no_further_than_it_must():
    square = 0.8**2 + 0.4**2 - 2 * 0.3**2  # |A|^2
    A = np.outer([0.8**0.5, 0.0], [0.8**0.5, 0.0])
    b = np.array([0.3 / 0.8**0.5, (0.4 - 0.09 / 0.8) ** 0.5])
    A -= np.outer(b, b)
    assert square == pytest.approx((A**2).sum())
    assert moml_rate(0.01, 0.8, 0.4, 0.3, 0.1, True) == pytest.approx(0.01 / square)
    assert moml_rate(5.0, 0.8, 0.4, 0.3, 0.1, True) == 0.1
    assert moml_rate(0.01, 0.8, 0.4, 0.3, 0.1, False) == 0.1
    assert moml_rate(1.0, 0.5, 0.5, 0.5, 0.1, True) == 0.1  # a = b, and nothing to divide by


@pytest.mark.parametrize("eta", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("target", [0.0, 0.1, 1.0, 1e4])
def test_lego_solves_its_equation(eta, target):
    for length in (1e-6, 0.3, 1.0, 4.0):
        y = lego_factor(length, target, eta) ** 2 * length
        assert y > 0
        assert 1 / y == pytest.approx(1 / length + eta * (y - target), rel=1e-9, abs=1e-9)


def test_rdml_is_a_root():
    k = np.array([0.5, -1.0])
    for gamma in (0.3, -0.3):
        least, c, d = rdml_factors(float(k @ k), gamma)
        B = np.eye(2) - gamma * np.outer(k, k)
        assert least == pytest.approx(1 - gamma * (k @ k))
        assert np.allclose(np.eye(2) + c * np.outer(k, k), root(B))
        assert np.allclose(np.eye(2) + d * np.outer(k, k), np.linalg.inv(root(B)))
    assert rdml_factors(4.0, 0.3)[0] == pytest.approx(-0.2)
