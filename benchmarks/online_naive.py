"""The loops that `online.py` compares with: what one would write first, compiled with all freedoms.

They get their triplets as indices and unit rows, so forming triplets costs them nothing.
"""

import numpy as np
from numba import njit


@njit(fastmath=True, cache=True)
def opml_stack(X, triplets, L, gamma):
    """OPML layers with ReLU between them; L (n, d, d) is changed; active updates of each layer."""
    n, d = L.shape[0], L.shape[1]
    active = np.zeros(n, np.int64)
    h, s = np.empty((3, d)), np.empty((3, d))
    a, b, u, v = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    for t in range(triplets.shape[0]):
        for r in range(3):
            for k in range(d):
                h[r, k] = X[triplets[t, r], k]
        for i in range(n):
            alpha, beta, c = 0.0, 0.0, 0.0
            for k in range(d):
                a[k], b[k] = h[0, k] - h[1, k], h[0, k] - h[2, k]
                alpha += a[k] * a[k]
                beta += b[k] * b[k]
                c += a[k] * b[k]
            uu, vv = 0.0, 0.0
            for r in range(d):
                x, y = 0.0, 0.0
                for k in range(d):
                    x += L[i, r, k] * a[k]
                    y += L[i, r, k] * b[k]
                u[r], v[r] = x, y
                uu += x * x
                vv += y * y
            if 1.0 + uu - vv > 0.0:
                active[i] += 1
                down, up = 1.0 + gamma * alpha, 1.0 - gamma * beta
                scale = gamma / (down * up + gamma * gamma * c * c)
                for r in range(d):
                    x = scale * (up * u[r] + gamma * c * v[r])
                    y = scale * (gamma * c * u[r] - down * v[r])
                    for k in range(d):
                        L[i, r, k] -= x * a[k] + y * b[k]
            if i + 1 < n:
                for r in range(d):
                    x, y, z = 0.0, 0.0, 0.0
                    for k in range(d):
                        x += L[i, r, k] * h[0, k]
                        y += L[i, r, k] * h[1, k]
                        z += L[i, r, k] * h[2, k]
                    s[0, r], s[1, r], s[2, r] = max(x, 0.0), max(y, 0.0), max(z, 0.0)
                for r in range(3):
                    for k in range(d):
                        h[r, k] = s[r, k]
    return active


@njit(fastmath=True, cache=True)
def moml_matrix(X, triplets, M, gamma):
    """One MOML layer as M alone: no root, no look at its eigenvalues, nothing to pass on."""
    d, active = M.shape[0], 0
    a, b = np.empty(d), np.empty(d)
    for t in range(triplets.shape[0]):
        for k in range(d):
            x = X[triplets[t, 0], k]
            a[k], b[k] = x - X[triplets[t, 1], k], x - X[triplets[t, 2], k]
        z = 1.0
        for r in range(d):
            x, y = 0.0, 0.0
            for k in range(d):
                x += M[r, k] * a[k]
                y += M[r, k] * b[k]
            z += a[r] * x - b[r] * y
        if z > 0.0:
            active += 1
            for r in range(d):
                for k in range(d):
                    M[r, k] += gamma * (b[r] * b[k] - a[r] * a[k])
    return active
