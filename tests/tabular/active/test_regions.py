"""Regions: balls, ellipsoids and boxes, against points that were drawn."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from tupelo.tabular import MIOMetric
from tupelo.tabular.active.regions import Labelled, Ruler, regions

ATOMS = ["diag", "rank1", "psd", "l1", "l1+l2", "l2+l4"]


def fitted(atoms="diag", **options):
    X, y = load_iris(return_X_y=True)
    return MIOMetric(atoms=atoms, n_neighbors=1, max_rounds=1, random_state=0, **options).fit(
        X[::3], y[::3]
    )


def known_line(points, labels, d=2):
    """Labelled rows along the first feature, with neighbours by hand."""
    X = np.zeros((len(points), d))
    X[:, 0] = points
    X[:, 1:] = np.random.default_rng(0).normal(scale=1e-3, size=(len(points), d - 1))
    y = np.array(list(labels))
    D = (X[:, :1] - X[:, :1].T) ** 2
    same = y[:, None] == y
    own = np.where(same & ~np.eye(len(y), dtype=bool), D, np.inf).min(1)
    other = np.where(same, np.inf, D)
    near = other.argmin(1)
    pairs = [(i, j) for i, j in enumerate(near) if near[j] == i and i < j]
    outliers = np.flatnonzero(own >= other.min(1))
    return Labelled(X, y, own, other.min(1), near, outliers, np.array(pairs).reshape(-1, 2))


LINE = Ruler(np.array([[1.0, 0.0]]), np.array([2]))


def test_a_boundary_ball_has_both_points_on_its_surface_and_the_middle_inside():
    found = regions(LINE, known_line([0, 1, 3, 4], "aabb"))
    assert [(one.kind, one.points) for one in found] == [("boundary", (1, 2))]
    (region,) = found
    assert region.radius == pytest.approx(1)
    assert region.score == pytest.approx(2)  # gap 2 over spacing 1
    assert region.centre[0] == 2
    asked = np.array([[2.0, 9.0], [1.01, 0.0], [0.99, 0.0], [3.01, 0.0]])
    assert region.contains(asked).tolist() == [True, True, False, False]
    assert "rows 1 of class a and 2 of class b" in region.reason
    assert "2 times the local spacing" in region.reason
    assert not region.resolved


def test_a_region_that_holds_another_label_counts_half():
    alone = regions(LINE, known_line([0, 1, 5, 6], "aabb"))[0]
    known = known_line([0, 1, 5, 6, 3], "aabbc")
    known = Labelled(
        known.X, known.labels, known.radius, known.gap, known.other,
        np.array([], dtype=int), np.array([[1, 2]]),
    )  # fmt: skip
    resolved = regions(LINE, known)[0]
    assert resolved.resolved
    assert resolved.score < alone.score
    assert "Another labelled row lies there already." in resolved.reason


def test_an_emptied_region_is_preferred():
    X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 50.0], [4.0, 50.0], [2.0, 50.0]])
    ruler = Ruler(np.eye(2), np.array([2, 2]))
    known = Labelled(
        X, np.array(list("ababa")), np.full(5, 1.0), np.full(5, 16.0), np.array([1, 0, 3, 2, 3]),
        np.array([], dtype=int), np.array([[2, 3], [0, 1]]),
    )  # fmt: skip
    first, second = regions(ruler, known)
    assert first.points == (0, 1)
    assert first.score == pytest.approx(2 * second.score)


def test_outliers_come_first_with_their_radius():
    known = known_line([0, 1, 10, 11, 10.4], "aabbA")
    known = Labelled(
        known.X, np.array(list("aabba")), np.array([1, 1, 1, 1, 9.4**2]),
        np.array([100, 81, 0.16, 0.36, 0.16]), np.array([2, 2, 4, 4, 2]),
        np.array([4]), np.array([[2, 4]]),
    )  # fmt: skip
    found = regions(LINE, known)
    assert [one.kind for one in found] == ["outlier", "boundary"]
    assert found[0].points == (4,)
    assert found[0].radius == pytest.approx(2 * 0.4)  # 4 q < d
    assert found[0].score == np.inf
    assert "row 4 of class a is nearer to class b (0.4) than to its own (9.4)" in found[0].reason


def test_a_class_of_one_has_the_ball_up_to_its_nearest_other():
    found = regions(LINE, known_line([0, 1, 5], "aab"))
    assert found[0].kind == "outlier"
    assert found[0].radius == pytest.approx(4)
    assert "too few others of its class b" in found[0].reason


@pytest.mark.parametrize("atoms", ATOMS)
def test_balls_boxes_and_points_agree(atoms):
    metric = fitted(atoms)
    X, _ = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    for region in metric.regions()[:4]:
        spread = np.ptp(X, axis=0)
        drawn = region.centre + rng.uniform(-1, 1, size=(4000, 4)) * spread
        inside = region.contains(drawn)
        expected = metric.distances(drawn, region.centre[None])[:, 0] <= region.radius
        assert (inside == expected).mean() > 0.999  # but for rounding at the surface
        if region.matrix is not None:
            gap = drawn - region.centre
            by_matrix = np.einsum("nd,de,ne->n", gap, region.matrix, gap) <= region.radius**2
            assert (by_matrix == inside).mean() > 0.999
        # what is inside, within the observed ranges, is inside the box
        low, high = X[::3].min(0), X[::3].max(0)
        held = drawn[inside & ((drawn >= low) & (drawn <= high)).all(1)]
        assert (held >= region.lower - 1e-9).all()
        assert (held <= region.upper + 1e-9).all()
        assert (region.lower >= low).all()
        assert (region.upper <= high).all()
        assert (region.lower <= region.centre).all()
        assert (region.centre <= region.upper).all()


@pytest.mark.parametrize("atoms", ATOMS)
def test_the_middle_of_a_boundary_pair_is_inside_and_both_are_on_the_surface(atoms):
    metric = fitted(atoms)
    boundaries = [one for one in metric.regions() if one.kind == "boundary"]
    assert boundaries
    X, y = load_iris(return_X_y=True)
    X, y = X[::3], y[::3]
    for region in boundaries:
        i, j = region.points
        assert y[i] != y[j]
        assert region.contains(((X[i] + X[j]) / 2)[None])[0]
        ends = metric.distances(X[[i, j]], region.centre[None])[:, 0]
        np.testing.assert_allclose(ends, region.radius, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("atoms", ["diag", "rank1", "l1", "l1+l2", "l2+l4"])
def test_boxes_touch_their_balls(atoms):
    metric = fitted(atoms)
    region = max(metric.regions(), key=lambda one: one.radius)
    reach = region.ruler.extent(region.radius)
    if region.matrix is None:
        for feature in np.flatnonzero(np.isfinite(reach)):
            tip = region.centre.copy()
            tip[feature] += reach[feature]
            distance = metric.distances(tip[None], region.centre[None])[0, 0]
            assert distance == pytest.approx(region.radius, rel=1e-6)
        return
    for feature in np.flatnonzero(np.isfinite(reach)):
        # the farthest point of the ellipsoid along a feature: M^-1 e_r, scaled
        inverse = np.linalg.pinv(region.matrix)
        tip = inverse[:, feature] / np.sqrt(inverse[feature, feature]) * region.radius
        assert tip[feature] == pytest.approx(reach[feature], rel=1e-5)


def test_directions_without_end_are_flagged():
    ruler = Ruler(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), np.array([2, 2]))
    assert np.isinf(ruler.extent(1.0)).all()  # only the sum of the first two has a length
    ruler = Ruler(np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]), np.array([2, 2]))
    np.testing.assert_allclose(ruler.extent(1.0), [np.sqrt(0.5), np.sqrt(0.5), np.inf])
    (region,) = regions(LINE, known_line([0, 1, 3, 4], "aabb"))
    assert region.unbounded.tolist() == [False, True]
    noise = known_line([0, 1, 3, 4], "aabb").X[:, 1]
    assert (region.lower[1], region.upper[1]) == (noise.min(), noise.max())


def test_constant_features_are_unbounded_and_clipped():
    X, y = load_iris(return_X_y=True)
    wide = np.insert(X[::3], 2, 7.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        metric = MIOMetric(n_neighbors=1, max_rounds=1).fit(wide, y[::3])
    region = metric.regions()[0]
    assert region.unbounded[2]
    assert region.lower[2] == region.upper[2] == 7.0


def test_points_that_coincide_have_a_ball_of_radius_zero():
    metric = MIOMetric(n_neighbors=1).fit(
        np.array([[0.0, 1], [0, 1], [1, 0], [1, 2], [2, 1], [3, 0]]), [0, 1, 0, 1, 0, 1]
    )
    first = metric.regions()[0]
    assert first.radius == 0
    assert first.contains(np.array([[0.0, 1.0]]))[0]
    assert str(first).startswith("outlier region around rows ")


def test_a_gap_without_bound_over_the_local_spacing_does_not_warn():
    X = np.repeat([[0.0, 0.0], [9.0, 8.0]], [20, 2], axis=0)
    metric = MIOMetric(n_neighbors=1).fit(X, np.repeat([0, 1], [20, 2]))
    assert metric.regions()[0].score == np.inf
