"""The layer OPML: the proximal step has a closed form, and no constraint is needed."""

import numpy as np

from tupelo.tabular.online.kernels import SAFE, Options, opml_exact_rate, opml_factors
from tupelo.tabular.online.layers import Layer, Row, refused


class OPML(Layer):
    """L <- L (I + gamma (a a^T - b b^T))^-1 with a = x - p, b = x - q, while the hinge is active.

    The step minimises 1/2 |L - L_prev|_F^2 + gamma/2 hinge(L) as long as the hinge stays active;
    `exact` stops where it becomes 0. It is only valid for gamma |b|^2 < 1: larger rates are shrunk
    and counted, or refused. O(d^2).

    Source: Li et al., Pattern Recognition 75, 2018; the O(d^2) form by Woodbury's identity.
    """

    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        a, b = x - p, x - q
        u, v = self.L @ a, self.L @ b
        uu, vv = float(u @ u), float(v @ v)
        z = options.margin + uu - vv
        if not abs(z) < np.inf:
            raise FloatingPointError
        if z <= 0.0:
            return False
        alpha, beta, c, gamma = float(a @ a), float(b @ b), float(a @ b), options.gamma
        if gamma * beta >= 1.0 - SAFE:
            if not options.shrink:
                raise refused(gamma)
            gamma = (1.0 - SAFE) / beta
            self.n_unstable += 1
        if options.exact:
            gamma = opml_exact_rate(uu, vv, float(u @ v), alpha, beta, c, gamma, options.margin)
        pu, m, qv = opml_factors(alpha, beta, c, gamma)
        change = np.outer(pu * u + m * v, a) + np.outer(m * u + qv * v, b)
        if not np.isfinite(change).all():
            raise FloatingPointError
        self.L -= change
        self.n_updates += 1
        return True
