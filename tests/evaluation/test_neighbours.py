import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.evaluation import nearest
from tupelo.evaluation.kernels import similarity


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_equals_a_sorted_list(precision):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        q, g, d = rng.integers(1, 30, 3)
        rows = rng.integers(-1, 2, (q + g, d)).astype(np.float32)
        rows[np.abs(rows).sum(1) == 0, 0] = 1
        queries, gallery = rows[:q], rows[q:]
        k = int(rng.integers(1, g + 1))
        found = nearest(queries, gallery, k, normalize=False, precision=precision)
        for i, x in enumerate(queries):
            scores = [similarity(x, y) for y in gallery]
            order = sorted(range(g), key=lambda j, s=scores: (-s[j], j))[:k]
            assert found.indices[i].tolist() == order
            assert found.similarity[i].tolist() == [scores[j] for j in order]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_many_tiles_give_the_same_neighbours(precision):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2500, 24)).astype(np.float32)
    rows[2000:] = rows[:500]
    found = nearest(rows[:300], rows, 7, exclude_self=True, precision=precision)
    scores = (lambda u: u[:300] @ u.T)(rows / np.linalg.norm(rows.astype(float), axis=1)[:, None])
    scores[np.arange(300), np.arange(300)] = -np.inf
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(2000, 2300))
    np.testing.assert_allclose(found.similarity, -np.sort(-scores, axis=1)[:, :7], atol=1e-6)


@pytest.mark.parametrize("k", [0, 3])
def test_k_must_be_available(k):
    with pytest.raises(InputError, match=rf"k must be from 1 .* candidates 2; got {k}"):
        nearest(np.eye(3), None, k, exclude_self=True)


def test_widths_must_agree():
    with pytest.raises(InputError, match="one width; got 3 and 2"):
        nearest(np.eye(3), np.eye(2), 1)
