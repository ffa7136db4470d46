"""The layer LEGO: a LogDet step brings pairs towards two target distances."""

import numpy as np

from tupelo.tabular.online.kernels import Options, lego_factor
from tupelo.tabular.online.layers import Layer, Row


class LEGO(Layer):
    """Two pair steps per triplet: |L (x - p)|^2 towards `near`, then |L (x - q)|^2 towards `far`.

    M^-1 <- M^-1 + gamma (y - target) s s^T, s the difference of the pair and y its new squared
    distance: M stays positive definite by itself. In L it is a factor along L s. O(d^2).

    Source: Jain, Kulis, Dhillon, Grauman, "Online metric learning and fast similarity search",
    NIPS 2008; formulas from memory, checked against their defining equation.
    """

    def update(self, x: Row, p: Row, q: Row, options: Options) -> bool:
        changed = False
        for other, target in ((p, options.near), (q, options.far)):
            w = self.L @ (x - other)
            length = float(w @ w)
            if not length < np.inf:
                raise FloatingPointError
            if length > 0.0:
                factor = lego_factor(length, target, options.gamma)
                if not factor < np.inf:
                    raise FloatingPointError
                self.L -= np.outer((1.0 - factor) / length * w, w @ self.L)
                changed = True
        self.n_updates += changed
        return changed
