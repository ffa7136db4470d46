"""MOML with other square roots of its matrix, by eigenvalues at every step: for comparison only."""

from abc import abstractmethod

import numpy as np

from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import Layer, Row


class Rooted(Layer):
    """MOML that decomposes M at every step."""

    def __init__(self, d: int):
        super().__init__(d)
        self.M = np.eye(d)

    @abstractmethod
    def root(self, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """An L with L^T L = M, from eigenvalues (d,) and eigenvectors (d, d) of M."""

    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        """Step, projection on the cone, root."""
        if self.loss(x, p, q, options) <= 0:
            return False
        a, b = x - p, x - q
        values, vectors = np.linalg.eigh(self.M - options.gamma * (np.outer(a, a) - np.outer(b, b)))
        values = np.maximum(values, 1e-8 * values[-1])
        self.M = (vectors * values) @ vectors.T
        self.L = self.root(values, vectors)
        self.n_updates += 1
        return True


class Symmetric(Rooted):
    """M^(1/2): moves without jumps, and is I at M = I."""

    def root(self, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """See `Rooted`."""
        return (vectors * np.sqrt(values)) @ vectors.T


class Eigen(Rooted):
    """Rows are scaled eigenvectors, which near M = I are arbitrary."""

    def root(self, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """See `Rooted`."""
        return np.sqrt(values)[:, None] * vectors.T


class Cholesky(Rooted):
    """Upper triangle."""

    def root(self, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """See `Rooted`."""
        return np.linalg.cholesky(self.M).T
