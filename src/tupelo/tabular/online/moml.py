"""The layer MOML, the one of the paper: a passive-aggressive step on M, kept as M = L^T L."""

import numpy as np

from tupelo.tabular.online.kernels import LARGEST, LEAST, Options, bracket_factors, moml_rate
from tupelo.tabular.online.layers import Row, WithInverse


class MOML(WithInverse):
    """M <- M - gamma (a a^T - b b^T), projected on positive semidefinite matrices where it must be.

    M = L^T B L with B = I - gamma u u^T + gamma v v^T, u = K^T a, v = K^T b, and the symmetric root
    of B is a correction of rank two. So L stays the root that equals I at first and moves without
    jumps: behind it comes an activation, which is not indifferent to rotations. O(d^2); a step
    whose B has an eigenvalue below 0.01 is done by eigenvalues, O(d^3), and counted as unstable.

    Source: Li et al., "MLOML", IEEE TNNLS 34, 2023; the root is ours.
    """

    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        a, b = x - p, x - q
        z = self.loss(x, p, q, options)
        if not abs(z) < np.inf:
            raise FloatingPointError
        if z <= 0.0:
            return False
        u, v = a @ self.K, b @ self.K
        gamma = moml_rate(
            *(z, float(a @ a), float(b @ b), float(a @ b)),
            *(options.gamma, options.passive_aggressive),
        )
        uu, vv, uv = float(u @ u), float(v @ v), float(u @ v)
        square = parallelogram(u, v) if uu > vv else parallelogram(v, u)
        least, c11, c12, c22, d11, d12, d22 = bracket_factors(uu, vv, uv, square, gamma)
        if not least >= LEAST:
            self.project(gamma * (np.outer(b, b) - np.outer(a, a)))
        else:
            left = np.stack([c11 * u + c12 * v, c12 * u + c22 * v])
            behind = np.stack([d11 * u + d12 * v, d12 * u + d22 * v])
            inverse = np.stack([np.stack([self.K @ u, self.K @ v]), behind])
            self.change(left, np.stack([a, b]), inverse, probe=x, much=gamma * vv > LARGEST)
        self.n_updates += 1
        return True


def parallelogram(longer: Row, shorter: Row) -> float:
    """|u|^2 |v|^2 - (u^T v)^2, also where u and v are nearly parallel.

    >>> parallelogram(np.array([1.0, 1.0]), np.array([1.0, 0.0]))
    1.0
    """
    most = float(longer @ longer)
    if most == 0.0:
        return 0.0
    rest = shorter - float(longer @ shorter) / most * longer
    return most * float(rest @ rest)
