"""What a metric layer is, in plain NumPy, and the four of them by name."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from threadpoolctl import ThreadpoolController

from tupelo.errors import InputError
from tupelo.tabular.online.kernels import FLOOR, Options

Row = Float[ndarray, " d"]
RENEW_EVERY, DRIFT = 64, 1e-9


class Layer(ABC):
    """One online metric learner: D(x, z) = |L (x - z)|^2, improved by one triplet at a time.

    A layer of your own is one class: `ODML(layer=MyLayer)`. It runs in the NumPy engine.

    Args:
        d: width of its input and of its output.

    Attributes:
        L: (d, d), the identity at first.
        n_updates: triplets that changed it.
        n_unstable: steps that had to be made safe.
    """

    def __init__(self, d: int):
        self.L = np.eye(d)
        self.n_updates = 0
        self.n_unstable = 0

    def loss(self, x: Row, p: Row, q: Row, options: Options) -> float:
        """The hinge before it is cut at 0: margin + |L (x - p)|^2 - |L (x - q)|^2."""
        u, v = self.L @ (x - p), self.L @ (x - q)
        return options.margin + float(u @ u) - float(v @ v)

    @abstractmethod
    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        """Learn from one triplet; whether L changed.

        Raises:
            FloatingPointError: L would become infinite or NaN; it stays what it was.
        """

    def moved(self) -> None:  # noqa: B027
        """L was changed from outside, by a step of back-propagation."""

    def reset(self) -> None:
        """Back to the identity, all counters 0."""
        self.__init__(len(self.L))


class WithInverse(Layer):
    """A layer that also keeps K = L^-1, which is what makes an exact root cost O(d^2).

    Rounding errors of L and K add up; every 64 steps one vector tells how far they are apart, and
    from 1e-9 on K is computed anew. So it is behind a step that changes K much.
    """

    def __init__(self, d: int):
        super().__init__(d)
        self.K = np.eye(d)
        self._steps = 0

    def change(
        self, left: ndarray, right: ndarray, inverse: ndarray, *, probe: Row, much: bool
    ) -> None:
        """L += left^T right and K += inverse[0]^T inverse[1], sums of outer products of rows.

        Args:
            probe: tells now and then whether K is the inverse of L.
            much: it will not be.
        """
        if not (np.isfinite(left).all() and np.isfinite(inverse).all()):
            raise FloatingPointError
        self.L += left.T @ right
        self.K += inverse[0].T @ inverse[1]
        self._steps += 1
        if much:
            self.K = inverse_of(self.L)
        elif self._steps % RENEW_EVERY == 0:
            drift = self.K @ (self.L @ probe) - probe
            if drift @ drift > DRIFT**2 * (probe @ probe):
                self.K = inverse_of(self.L)

    def project(self, change: Float[ndarray, "d d"]) -> None:
        """M = L^T L + change, projected."""
        self.L, self.K = projected_root(self.L.T @ self.L + change)
        self.n_unstable += 1

    def moved(self) -> None:
        self.K = inverse_of(self.L)


def inverse_of(L: Float[ndarray, "d d"]) -> Float[ndarray, "d d"]:
    """K = L^-1.

    Raises:
        FloatingPointError: L is singular.

    >>> inverse_of(np.diag([2.0, 4.0])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    try:
        return np.linalg.inv(L)
    except np.linalg.LinAlgError:
        raise FloatingPointError from None


def projected_root(
    M: Float[ndarray, "d d"],
) -> tuple[Float[ndarray, "d d"], Float[ndarray, "d d"]]:
    """Symmetric root of M, whose eigenvalues are raised to a floor, and its inverse.

    Raises:
        FloatingPointError: M is not finite.

    >>> root, inverse = projected_root(np.diag([4.0, -1.0]))
    >>> root.round(4).tolist(), inverse.round(4).tolist()
    ([[2.0, 0.0], [0.0, 0.0002]], [[0.5, 0.0], [0.0, 5000.0]])
    """
    if not np.isfinite(M).all():
        raise FloatingPointError
    with one_thread():
        values, vectors = np.linalg.eigh(M)
    # a step leaves no positive eigenvalue only where there is a single feature
    largest = values[-1] if values[-1] > 0.0 else 1.0
    root = np.sqrt(np.maximum(values, FLOOR * largest))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def one_thread() -> AbstractContextManager:
    """BLAS on one thread: for so small a matrix several only wait for each other.

    On a machine with other work two threads took 60 times as long; and the last bits stay the same
    however many there are.
    """
    return _blas().limit(limits=1, user_api="blas")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def refused(gamma: float) -> InputError:
    """What is raised when a step is unstable and that is to be refused."""
    return InputError(
        f"gamma={gamma:g} is too large for this stream: gamma |x - x_q|^2 must stay below 1; take "
        "a smaller gamma, rows of unit length (normalize='l2'), or on_unstable='shrink', which "
        "takes the largest rate allowed"
    )


def diverged(options: Options, strategy: str, triplet: int) -> FloatingPointError:
    """What is raised when L, or its inverse where that is kept, would become infinite or NaN."""
    rate = f"gamma={options.gamma:g}" if strategy == "fp" else f"eta={options.eta:g}"
    if strategy == "fbp":
        rate = f"gamma={options.gamma:g} and eta={options.eta:g}"
    return FloatingPointError(
        f"L became infinite or NaN at triplet {triplet} with {rate}: take a smaller rate, or rows "
        "of unit length (normalize='l2'), and fit again"
    )
