"""Model E the slow way: loops over points, and every interval of the only free weight."""

import numpy as np


def naive_errors(atoms, w, X, y, *, k=1, rho=0.1, epsilon=1e-3, majority=False):
    """Theorem 1 point by point, from the definition of the distance."""
    need, allowed = ((k + 1) // 2, k // 2) if majority else (k, 0)
    errors = []
    for i in range(len(X)):
        own = sorted(atoms.of(X[i] - X[j]) @ w for j in range(len(X)) if y[j] == y[i] and j != i)
        other = sorted(atoms.of(X[i] - X[j]) @ w for j in range(len(X)) if y[j] != y[i])
        if len(own) < need:
            errors.append(True)
            continue
        radius = own[need - 1]
        errors.append(sum((1 + rho) * radius + epsilon > D for D in other) > allowed)
    return np.array(errors)


def fewest_errors(atoms, X, y, *, k=1, rho=0.1, epsilon=1e-3, majority=False):
    """The minimum over all w = (u, 1 - u), exactly: whether i is an error changes only where
    (1 + rho) D(i, j) + epsilon = D(i, l) for some j and l, so one u between changes is enough."""
    assert len(atoms) == 2
    changes = {0.0, 1.0}
    for i in range(len(X)):
        phi = atoms.of(X - X[i])
        for j in np.flatnonzero((y == y[i]) & (np.arange(len(X)) != i)):
            for m in np.flatnonzero(y != y[i]):
                g = (1 + rho) * phi[j] - phi[m]
                slope = g[0] - g[1]
                if slope != 0:
                    u = (-epsilon - g[1]) / slope
                    if 0 < u < 1:
                        changes.add(u)
    at = np.array(sorted(changes))
    between = np.concatenate([(at[1:] + at[:-1]) / 2, [0.0, 1.0]])
    need, allowed = ((k + 1) // 2, k // 2) if majority else (k, 0)
    weights = np.stack([between, 1 - between])
    total = np.zeros(len(between))
    for i in range(len(X)):
        D = atoms.of(X - X[i]) @ weights
        own = D[(y == y[i]) & (np.arange(len(X)) != i)]
        if len(own) < need:
            total += 1
            continue
        radius = np.sort(own, axis=0)[need - 1]
        total += np.sum(D[y != y[i]] < (1 + rho) * radius + epsilon, axis=0) > allowed
    return int(total.min())


def clouds(seed, n=14, d=2, classes=2, spread=1.2):
    """Standardised points of overlapping classes, the last feature noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, d))
    X[:, 0] += spread * y
    return (X - X.mean(0)) / X.std(0), y
