"""The constant-velocity Kalman filter of all tracks at once.

State of a track: middle x, middle y, aspect ratio, height (pixels), and their velocities (pixels a
frame). The noise is proportional to the height, as in DeepSORT (Wojke, Bewley & Paulus, 2017).

Nothing couples the four coordinates: the first covariance is diagonal, so are both noises, and the
motion adds a velocity to its own coordinate. So the 8 x 8 covariance stays four blocks of 2 x 2,
and the filter is exactly four small ones, whose inverse is a division. All tracks are updated by a
few operations on arrays, where one track at a time would take a Cholesky factor each.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from tupelo.errors import TrackingDiverged

POSITION, VELOCITY = 1 / 20, 1 / 160  # of the height: standard deviations
GATE = 9.4877  # chi-square with four degrees of freedom: 95 % of the true measurements are nearer
_HEIGHT = 3


@dataclass(frozen=True)
class States:
    """Means and covariances of n tracks; columns are the four coordinates.

    Attributes:
        position: middle x, middle y, aspect ratio, height.
        velocity: of each, a frame.
        variance: of the positions.
        covariance: of a position with its own velocity.
        velocity_variance: of the velocities.
    """

    position: Float64[np.ndarray, "n 4"]
    velocity: Float64[np.ndarray, "n 4"]
    variance: Float64[np.ndarray, "n 4"]
    covariance: Float64[np.ndarray, "n 4"]
    velocity_variance: Float64[np.ndarray, "n 4"]

    def __len__(self) -> int:
        return len(self.position)

    @property
    def parts(self) -> tuple[Float64[np.ndarray, "n 4"], ...]:
        """All five arrays."""
        return (
            self.position,
            self.velocity,
            self.variance,
            self.covariance,
            self.velocity_variance,
        )

    def take(self, rows: Shaped[np.ndarray, " k"]) -> "States":
        """Those of some tracks: rows or a mask."""
        return States(*(part[rows] for part in self.parts))

    def joined(self, others: "States") -> "States":
        """These tracks, then others."""
        pairs = zip(self.parts, others.parts, strict=True)
        return States(*(np.concatenate(pair) for pair in pairs))

    def put(self, rows: Int64[np.ndarray, " k"], changed: "States") -> "States":
        """These tracks, some of them changed."""
        parts = tuple(part.copy() for part in self.parts)
        for part, new in zip(parts, changed.parts, strict=True):
            part[rows] = new
        return States(*parts)


def initiated(measurements: Float64[np.ndarray, "n 4"]) -> States:
    """Tracks that begin at these measurements, at rest.

    >>> initiated(np.array([[100.0, 200, 0.5, 80]])).variance
    array([[6.4e+01, 6.4e+01, 1.0e-04, 6.4e+01]])
    """
    height = measurements[:, _HEIGHT]
    variance = _squared(2 * POSITION * height, 1e-2)
    velocity_variance = _squared(10 * VELOCITY * height, 1e-5)
    rest = np.zeros_like(variance)
    return States(measurements.copy(), rest, variance, rest.copy(), velocity_variance)


def predicted(states: States) -> States:
    """One frame later."""
    height = states.position[:, _HEIGHT]
    shared = states.covariance + states.velocity_variance
    return States(
        states.position + states.velocity,
        states.velocity,
        states.variance + states.covariance + shared + _squared(POSITION * height, 1e-2),
        shared,
        states.velocity_variance + _squared(VELOCITY * height, 1e-5),
    )


def innovation(states: States, noise: float = 1.0) -> Float64[np.ndarray, "n 4"]:
    """Variances of a measurement about what is predicted; the covariances are 0.

    Args:
        states: after `predicted`.
        noise: factor of the standard deviation of measuring.
    """
    return states.variance + _squared(noise * POSITION * states.position[:, _HEIGHT], noise * 1e-1)


def distances(
    states: States, measurements: Float64[np.ndarray, "m 4"]
) -> Float64[np.ndarray, "n m"]:
    """Squared Mahalanobis distance of every measurement from what every track predicts."""
    weights = 1 / innovation(states)
    total = np.zeros((len(states), len(measurements)))
    for coordinate in range(4):
        apart = measurements[:, coordinate] - states.position[:, coordinate, None]
        apart *= apart
        apart *= weights[:, coordinate, None]
        total += apart
    return total


def updated(states: States, measurements: Float64[np.ndarray, "n 4"], noise: float = 1.0) -> States:
    """Each track corrected by its measurement.

    Boxes smaller than a pixel are made one pixel.

    Args:
        states: after `predicted`.
        measurements: one a track.
        noise: factor of the standard deviation of measuring.
    """
    expected = innovation(states, noise)
    gain, velocity_gain = states.variance / expected, states.covariance / expected
    apart = measurements - states.position
    position = states.position + gain * apart
    position[:, 3] = np.maximum(position[:, 3], 1)
    position[:, 2] = np.maximum(position[:, 2], 1 / position[:, 3])
    return States(
        position,
        states.velocity + velocity_gain * apart,
        states.variance - gain * states.variance,
        states.covariance - gain * states.covariance,
        states.velocity_variance - velocity_gain * states.covariance,
    )


def check_definite(states: States, ids: Int64[np.ndarray, " n"], frame: int) -> None:
    """Refuse covariances that are not positive definite.

    Raises:
        TrackingDiverged: the track and the frame are named.
    """
    determinant = states.variance * states.velocity_variance - states.covariance**2
    fine = ((states.variance > 0) & (determinant > 0)).all(axis=1)
    if not fine.all():
        raise TrackingDiverged(
            f"the covariance of track {ids[~fine][0]} is not positive definite in frame {frame}; "
            "its detections are too large or too small for float64: give boxes in pixels"
        )


def _squared(size: Float64[np.ndarray, " n"], aspect: float) -> Float64[np.ndarray, "n 4"]:
    """Variances of x, y, aspect ratio, height."""
    rows = np.empty((len(size), 4))
    rows[:] = (size * size)[:, None]
    rows[:, 2] = aspect * aspect
    return rows
