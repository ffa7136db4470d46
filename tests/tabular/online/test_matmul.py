"""Products of few rows with a stored matrix: their values, and that nothing changes a bit."""

import numpy as np
import pytest

from tupelo.tabular.online import matmul

WIDTHS = (1, 3, 8, 13, 24, 40)


@pytest.fixture(params=WIDTHS)
def parts(request):
    """A matrix, the same stored, and a maker of stored rows."""
    d = request.param
    rng = np.random.default_rng(d)

    def rows(m):
        stored = np.zeros((m, matmul.width_for(d)))
        stored[:, :d] = rng.normal(size=(m, d))
        return stored

    B = rng.normal(size=(d, d))
    return d, B, matmul.to_panels(B), rows


def test_what_is_stored_comes_back(parts):
    d, B, stored, _ = parts
    assert (matmul.from_panels(stored, d) == B).all()
    assert stored.shape[1] % 8 == 0


@pytest.mark.parametrize("m", [1, 2, 3, 5])
@pytest.mark.parametrize("transposed", [False, True])
def test_products(parts, m, transposed):
    d, B, stored, rows = parts
    A, together, alone = rows(m), rows(m + 1), rows(m)
    product = matmul.times_transposed if transposed else matmul.times
    product(A, 0, m, stored, d, together, 1)
    assert np.allclose(together[1:, :d], A[:, :d] @ (B.T if transposed else B))
    assert not together[1:, d:].any()
    for i in range(m):
        product(A, i, 1, stored, d, alone, i)
    assert (alone == together[1:]).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_outer_products_are_added(parts, n):
    d, B, stored, rows = parts
    Q, P = rows(3), rows(3)
    matmul.add_outer(stored, d, Q, P, n)
    assert np.allclose(matmul.from_panels(stored, d), B + Q[:n, :d].T @ P[:n, :d])


@pytest.mark.parametrize("m", [2, 3])
def test_one_pass_gives_the_bits_of_two(parts, m):
    d, _, stored, rows = parts
    A, Q, P, together, apart = rows(m), rows(2), rows(2), rows(m), rows(m)
    other = stored.copy()
    matmul.renew_and_times(stored, d, Q, P, A, 0, m, together, 0)
    matmul.add_outer(other, d, Q, P, 2)
    matmul.times(A, 0, m, other, d, apart, 0)
    assert (stored == other).all()
    assert (together == apart).all()
