"""What parts of ODML do: depth, activations, strategies, passes, the order of the stream."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import tabular_cells as cells
import tabular_data as data
from tabular_roots import Cholesky, Eigen, Symmetric
from tupelo.recipes.table_learners import accuracy, by_depth
from tupelo.tabular import ODML
from tupelo.tabular.inputs import unit_rows

SETS = ("balance", "ionosphere")
DEEP = {"layer": "moml", "n_layers": 5}
ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "FP": {"strategy": "fp"},
    "BP, last loss only": {"strategy": "bp", "local_weight": 0.0},
    "BP, local losses too": {"strategy": "bp"},
    "FBP": {"strategy": "fbp"},
}
ROOTS = {"symmetric": Symmetric, "upper Cholesky": Cholesky, "eigen": Eigen}
ROOTED = ("iris", "wine", "balance", "ionosphere")
SPLITS = dict.fromkeys(ROOTED, 30)  # as in the published protocol; 10 of other sets
SCANS = (1, 3, 20)


def depth(name: str, splits: int | None = None) -> dict:
    """Error after each layer of one stack of five MOML layers, learned forward."""
    X, y, seeds = _of(name, splits)
    errors = []
    for seed in seeds:
        seen, new = data.halves(y, seed)
        gamma = cells.choose(X[seen], y[seen], DEEP, seed)
        learner, _ = cells.fitted_stack(X[seen], y[seen], DEEP, gamma, seed)
        parts = X[seen], y[seen], X[new], y[new], cells.K_PROTOCOL
        errors.append([1 - right for right in by_depth(learner, *parts)])
    return {"errors": np.mean(errors, axis=0).tolist()}


def activation(name: str, kind: str, splits: int | None = None) -> dict:
    """Error of three MOML layers with this activation, gamma chosen, and at gamma 0.01."""
    options = {"layer": "moml", "n_layers": 3, "activation": kind}
    return _errors(name, options, splits) | {
        "at_0.01": _errors(name, options, splits, gamma=1e-2)["errors"]
    }


def strategy(name: str, kind: str, splits: int | None = None) -> dict:
    """Error of three MOML layers trained so; gamma is that of FP."""
    forward = {"layer": "moml", "n_layers": 3}
    return _errors(name, {**forward, **STRATEGIES[kind]}, splits, chosen_for=forward)


def root(name: str, kind: str, splits: int | None = None) -> dict:
    """Error of three MOML layers with this square root; gamma is that of the closed form."""
    forward = {"layer": "moml", "n_layers": 3}
    return _errors(name, {**forward, "layer": ROOTS[kind]}, splits, chosen_for=forward)


def scans(name: str, n: int, splits: int | None = None) -> dict:
    """Error of one OPML layer after so many passes at gamma 0.001."""
    return _errors(name, {"layer": "opml", "n_layers": 1, "n_scans": n}, splits, gamma=1e-3)


def order(name: str, by_class: bool, splits: int | None = None) -> dict:
    """Error and triplets of one pass of one OPML layer, rows at random or class by class."""
    X, y, seeds = _of(name, splits)
    errors, triplets = [], []
    for seed in seeds:
        seen, new = data.halves(y, seed)
        seen = np.random.default_rng(1_000 + seed).permutation(seen)
        if by_class:
            seen = seen[np.argsort(y[seen], kind="stable")]
        learner = ODML(n_layers=1, gamma=1e-2, random_state=seed).fit(X[seen], y[seen])
        triplets.append(int(learner.n_triplets_))
        right = accuracy(learner, X[seen], y[seen], X[new], y[new], cells.K_PROTOCOL)
        errors.append(1 - right)
    return {"errors": errors, "triplets": triplets}


def _errors(
    name: str,
    options: Mapping[str, Any],
    splits: int | None,
    *,
    gamma: float | None = None,
    chosen_for: Mapping[str, Any] | None = None,
) -> dict:
    """Errors at this gamma, or at the one chosen on each training half for these options."""
    X, y, seeds = _of(name, splits)
    errors = []
    for seed in seeds:
        seen, new = data.halves(y, seed)
        best = gamma or cells.choose(X[seen], y[seen], chosen_for or options, seed)
        learner, _ = cells.fitted_stack(X[seen], y[seen], options, best, seed)
        right = accuracy(learner, X[seen], y[seen], X[new], y[new], cells.K_PROTOCOL)
        errors.append(1 - right)
    return {"errors": errors}


def _of(name: str, splits: int | None) -> tuple[np.ndarray, np.ndarray, range]:
    X, y = data.raw(name)
    return unit_rows(X), y, range(SPLITS.get(name, 10) if splits is None else splits)
