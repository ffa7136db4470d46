"""The sample and the projection of the map."""

import numpy as np
import pytest

from tupelo.report.embedding_map import project, sample


def test_a_sample_gives_every_class_its_share():
    labels = np.repeat(np.arange(4), [4_000, 2_000, 1_000, 1_000])
    np.random.default_rng(1).shuffle(labels)
    rows = sample(labels, 80, seed=3)
    assert len(set(rows.tolist())) == 80
    assert np.bincount(labels[rows]).tolist() == [40, 20, 10, 10]
    assert rows.tolist() != sample(labels, 80, seed=4).tolist()
    assert sample(labels[:50], 80).tolist() == list(range(50))
    tags = np.zeros((100, 3), bool)
    tags[:50, 1] = tags[50:, 2] = tags[::2, 2] = True
    assert (sample(tags, 10) < 50).sum() == 5


@pytest.mark.parametrize("n", [2, 3, 5, 7, 8, 9, 12, 40])
def test_few_points_are_placed(n):
    z = np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32)
    found = project(z)
    assert found is not None
    assert found.xy.shape == (n, 2)
    assert np.isfinite(found.xy).all()
    assert found.method == ("PCA" if n < 8 else "t-SNE")


def test_clusters_stay_together_and_the_seed_fixes_the_map():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    z = (10 * np.eye(3, 12)[labels] + rng.normal(size=(90, 12))).astype(np.float32)
    found = project(z, seed=1)
    xy = found.xy
    apart = ((xy[:, None] - xy) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    assert (labels[apart.argmin(1)] == labels).all()
    assert np.array_equal(project(z, seed=1).xy, xy)


@pytest.mark.parametrize("z", [np.ones((1, 4)), np.ones((50, 4)), np.ones((3, 1))])
def test_one_point_has_no_map(z):
    assert project(z.astype(np.float32)) is None


def test_equal_rows_and_one_dimension_are_placed():
    two = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    assert np.isfinite(project(two).xy).all()
    assert project(np.array([[1.0], [-1.0], [1.0]], np.float32)).xy.shape == (3, 2)
