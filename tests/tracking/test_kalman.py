import numpy as np
import pytest
from tests.tracking.naive_tracker import Filter

from tupelo.tracking import kalman

FIRST = np.array([[100.0, 200, 0.5, 80]])


def test_golden_numbers():
    states = kalman.initiated(FIRST)
    np.testing.assert_allclose(states.variance, [[64, 64, 1e-4, 64]])
    np.testing.assert_allclose(states.velocity_variance, [[25, 25, 1e-10, 25]])
    states = kalman.predicted(states)
    np.testing.assert_array_equal(states.position, FIRST)
    np.testing.assert_allclose(states.variance, [[105, 105, 2.000001e-4, 105]])
    np.testing.assert_allclose(states.velocity_variance, [[25.25, 25.25, 2e-10, 25.25]])
    assert states.covariance[0, 0] == 25
    np.testing.assert_allclose(kalman.innovation(states), [[121, 121, 0.0102000001, 121]])
    near = np.array([[104.0, 202, 0.52, 82]])
    found = kalman.distances(states, np.concatenate([near, [[120, 200, 0.5, 80]]]))
    np.testing.assert_allclose(found, [[0.23756279, 3.30578512]], rtol=2e-8)
    states = kalman.updated(states, near)
    np.testing.assert_allclose(
        states.position, [[103.471074, 201.735537, 0.500392157, 81.7355372]], rtol=1e-8
    )
    np.testing.assert_allclose(
        states.velocity, [[0.826446281, 0.413223140, 1.96078429e-10, 0.413223140]], rtol=1e-8
    )
    np.testing.assert_allclose(
        states.variance, [[13.8842975, 13.8842975, 1.96078527e-4, 13.8842975]], rtol=1e-8
    )
    np.testing.assert_allclose(
        states.velocity_variance, [[20.0847107, 20.0847107, 1.99999999e-10, 20.0847107]], rtol=1e-8
    )


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_equals_filters_of_8_by_8(noise):
    rng = np.random.default_rng(0)
    first = np.concatenate(
        [rng.uniform(0, 500, (6, 2)), rng.uniform((0.3, 40), (1.5, 200), (6, 2))], 1
    )
    states, naive = kalman.initiated(first), [Filter(z) for z in first]
    for _ in range(30):
        states = kalman.predicted(states)
        for each in naive:
            each.predict()
        z = states.position + rng.normal(0, (5, 5, 0.02, 4), (6, 4))
        np.testing.assert_allclose(
            kalman.distances(states, z), [[each.distance(row) for row in z] for each in naive]
        )
        for row in np.flatnonzero(rng.random(6) < 0.7):
            chosen = np.array([row])
            corrected = kalman.updated(states.take(chosen), z[chosen], noise)
            states = states.put(chosen, corrected)
            naive[row].update(z[row], noise)
        means = np.array([each.mean for each in naive])
        np.testing.assert_allclose(np.concatenate([states.position, states.velocity], 1), means,
                                   atol=1e-9)  # fmt: skip
        for row, each in enumerate(naive):
            blocks = np.zeros((8, 8))
            for i in range(4):
                blocks[i, i] = states.variance[row, i]
                blocks[i, i + 4] = blocks[i + 4, i] = states.covariance[row, i]
                blocks[i + 4, i + 4] = states.velocity_variance[row, i]
            np.testing.assert_allclose(blocks, each.cov, atol=1e-9)


def test_a_box_is_never_less_than_a_pixel():
    states = kalman.predicted(kalman.initiated(np.array([[10.0, 10, 0.5, 4]])))
    states = kalman.updated(states, np.array([[10.0, 10, 1e-3, 1e-3]]))
    assert states.position[0, 3] >= 1
    assert states.position[0, 2] * states.position[0, 3] >= 1 - 1e-12
