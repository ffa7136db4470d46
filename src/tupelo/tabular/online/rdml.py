"""The layer RDML: regularised steps on pairs, projected where they must be."""

import numpy as np

from tupelo.tabular.online.kernels import LARGEST, LEAST, Options, rdml_factors
from tupelo.tabular.online.layers import Row, WithInverse


class RDML(WithInverse):
    """Two pair steps per triplet: M <- M - gamma s (x - z)(x - z)^T where s (1 - D(x, z)) < margin.

    s is 1 for the positive and -1 for the negative; the result is projected on positive
    semidefinite matrices where it must be. O(d^2), O(d^3) with a projection, which is counted.

    Source: Jin, Wang, Zhou, "Regularized distance metric learning: theory and algorithm", NIPS
    2009; formulas from memory.
    """

    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        changed = False
        for other, sign in ((p, 1.0), (q, -1.0)):
            s = x - other
            w = self.L @ s
            distance = float(w @ w)
            if not distance < np.inf:
                raise FloatingPointError
            if sign * (1.0 - distance) < options.margin:
                k = s @ self.K
                least, c, d = rdml_factors(float(k @ k), sign * options.gamma)
                if not least >= LEAST:
                    self.project(-sign * options.gamma * np.outer(s, s))
                else:
                    inverse = np.stack([(d * (self.K @ k))[None], k[None]])
                    self.change((c * k)[None], s[None], inverse, probe=x, much=least > LARGEST)
                changed = True
        self.n_updates += changed
        return changed
