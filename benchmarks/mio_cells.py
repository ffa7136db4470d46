"""What is measured of exact metrics: one function a cell, which other processes can import."""

import math
import os
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.model_selection import train_test_split

from tupelo.tabular.generated import waveform
from tupelo.tabular.optimal.atoms import Atoms, make_atoms
from tupelo.tabular.optimal.model import PAIRS_PER_ROW, count_model, evaluate
from tupelo.tabular.optimal.neighbours import nearest
from tupelo.tabular.optimal.presolve import presolve, trust_region, unreduced, whole_simplex
from tupelo.tabular.optimal.rounds import optimise
from tupelo.tabular.optimal.rows import Columns, Rows
from tupelo.tabular.optimal.soft import SoftModel, alternate, margin_of
from tupelo.tabular.optimal.solvers import Program, solve

RHO, EPSILON, DISTORTION = 0.1, 1e-3, 0.01
LOADERS = {"iris": load_iris, "wine": load_wine, "wdbc": load_breast_cancer}


def table(name: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n standardised rows of a set, stratified where classes allow, and their classes."""
    if name in LOADERS:
        X, y = LOADERS[name](return_X_y=True)
    elif name == "waveform":  # 21 features of waves and 9 of noise
        X, y = waveform(n, np.random.default_rng(seed), noise_features=9)
    else:
        X, y = _uci(name)
    if n < len(X):
        X, _, y, _ = train_test_split(X, y, train_size=n, random_state=seed, stratify=y)
    X = X[:, X.std(0) > 0]
    return (X - X.mean(0)) / X.std(0), np.unique(y, return_inverse=True)[1]


def _uci(name: str) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(os.environ["TUPELO_DATA"]) / "uci"
    path = next(folder.glob(f"{name}.csv*"))
    cells = np.genfromtxt(path, delimiter=",", dtype=str, skip_header=1)
    return cells[:, :-1].astype(float), cells[:, -1]


def theorem(seeds: int, n: int) -> dict:
    """Optima of Model E on random points in the plane against brute force."""
    found = {}
    for majority, ks in ((False, (1, 2)), (True, (1, 3))):
        equal = 0
        for seed in range(seeds):
            X, y = clouds(seed, n)
            atoms = make_atoms("diag", X, y)
            for k in ks:
                exact = optimise(
                    atoms, X, y, k=k, majority=majority, kappa=None, distortion=0.0, mip_gap=0.0
                )
                fewest = fewest_errors(atoms, X, y, k=k, majority=majority)
                equal += exact.status == "optimal" and int(exact.errors.sum()) == fewest
        name = "majority" if majority else "all k nearest"
        found |= {f"{name}, problems": seeds * len(ks), f"{name}, equal": equal}
    return found


def clouds(
    seed: int, n: int = 14, d: int = 2, classes: int = 2, spread: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Standardised points of classes that overlap along the first feature."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, d))
    X[:, 0] += spread * y
    return (X - X.mean(0)) / X.std(0), y


def fewest_errors(
    atoms: Atoms,
    X: np.ndarray,
    y: np.ndarray,
    *,
    k: int = 1,
    rho: float = RHO,
    epsilon: float = EPSILON,
    majority: bool = False,
) -> int:
    """The fewest errors of any w = (u, 1 - u), by looking at every interval of u.

    Whether i is an error changes only where (1 + rho) D(i, j) + epsilon = D(i, l) for some j of
    its class and l of another. So one u between any two changes is enough.
    """
    assert len(atoms) == 2
    changes = [np.array([0.0, 1.0])]
    phi = atoms.of(X[:, None] - X)
    for i in range(len(X)):
        own = np.flatnonzero((y == y[i]) & (np.arange(len(X)) != i))
        g = (1 + rho) * phi[i, own][:, None] - phi[i, y != y[i]]
        slope = g[..., 0] - g[..., 1]
        u = (-epsilon - g[..., 1]) / np.where(slope == 0, np.nan, slope)
        changes.append(u[(u > 0) & (u < 1)])
    at = np.unique(np.concatenate(changes))
    u = np.concatenate([(at[1:] + at[:-1]) / 2, [0.0, 1.0]])
    need, allowed = ((k + 1) // 2, k // 2) if majority else (k, 0)
    total = np.zeros(len(u))
    for i in range(len(X)):
        D = phi[i] @ np.stack([u, 1 - u])
        own = D[(y == y[i]) & (np.arange(len(X)) != i)]
        if len(own) < need:
            total += 1
            continue
        bound = (1 + rho) * np.sort(own, axis=0)[need - 1] + epsilon
        total += np.count_nonzero(D[y != y[i]] < bound, axis=0) > allowed
    return int(total.min())


def exact(
    name: str,
    n: int,
    seed: int,
    k: int,
    kappa: float | None,
    limit: float,
    reduce: bool = True,
    solver: str = "highs",
    pairs_per_row: float = PAIRS_PER_ROW,
) -> dict:
    """One solve of Model E around the Euclidean metric, with or without presolve and region."""
    _warm_up()
    X, y = table(name, n, seed)
    atoms = make_atoms("diag", X, y)
    settings = {"k": k, "rho": RHO, "epsilon": EPSILON, "distortion": DISTORTION}
    began = time.perf_counter()
    start = atoms.start
    region = whole_simplex(start) if kappa is None else trust_region(start, kappa)
    if reduce:
        points = presolve(atoms, X, y, region, need=k, rho=RHO, epsilon=EPSILON)
    else:
        points = unreduced(atoms, X, y, need=k)
    reduced = time.perf_counter()
    model = count_model(
        atoms, X, points, region, **settings, tight=reduce, pairs_per_row=pairs_per_row
    )
    solution = solve(model.program, solver, start=model.completion(start), time_limit=limit)
    w = start if solution.x is None else model.weights(solution.x)
    true = evaluate(atoms, w, X, y, **settings)
    bound = min(solution.bound + model.offset, true.objective)
    euclid = evaluate(atoms, start, X, y, **settings)
    return {
        "n": n,
        "d": X.shape[1],
        "presolve": round(reduced - began, 3),
        "time": round(time.perf_counter() - began, 3),
        "status": solution.status,
        "objective": true.objective,
        "bound": max(bound, 0.0) if math.isfinite(bound) else 0.0,  # costs are never negative
        "errors": int(true.errors.sum()),
        "errors euclid": int(euclid.errors.sum()),
        "free": model.free,
        "rows": len(model.program.lower),
        "binaries": int(np.sum(model.program.integrality)),
    }


def rounds(name: str, n: int, seed: int, k: int, limit: float, most: int) -> dict:
    """The whole method: alternating linear program, then exact solves within a factor 1.5."""
    _warm_up()
    X, y = table(name, n, seed)
    atoms = make_atoms("diag", X, y)
    began = time.perf_counter()
    soft = alternate(_soft_model(atoms, X, y, k), atoms.start, time_limit=limit)
    relaxed = time.perf_counter()
    found = optimise(
        atoms, X, y, soft.w, k=k, rho=RHO, epsilon=EPSILON, distortion=DISTORTION,
        max_rounds=most, time_limit=limit,
    )  # fmt: skip
    errors = [
        int(evaluate(atoms, w, X, y, k=k, rho=RHO, epsilon=EPSILON).errors.sum())
        for w in (atoms.start, soft.w, found.weights)
    ]
    return {
        "d": X.shape[1],
        "errors": errors,
        "objective": found.objective,
        "bound": max(found.bound, 0.0),
        "status": found.status,
        "certificate": found.certificate,
        "rounds": found.rounds,
        "proven rounds": sum(one.status == "optimal" for one in found.history),
        "time of LP": round(relaxed - began, 3),
        "time": round(time.perf_counter() - began, 3),
    }


def _soft_model(atoms: Atoms, X: np.ndarray, y: np.ndarray, k: int) -> SoftModel:
    return SoftModel(atoms, X, y, k, DISTORTION, margin_of(atoms, X, y, 1.0))


def alternating(name: str, n: int, seed: int, k: int) -> dict:
    """The soft model by alternating linear programs, until it converges."""
    X, y = table(name, n, seed)
    atoms = make_atoms("diag", X, y)
    model = _soft_model(atoms, X, y, k)
    began = time.perf_counter()
    found = alternate(model, atoms.start)
    taken = time.perf_counter() - began
    return {
        "first program": alternate(model, atoms.start, rounds=1).bound,
        "d": X.shape[1],
        "objective": found.objective,
        "objective euclid": found.history[0],
        "status": found.status,
        "rounds": found.rounds,
        "rows": found.rows,
        "time": round(taken, 3),
    }


def alternating_in_full(name: str, n: int, seed: int, k: int, limit: float) -> dict:
    """The same with every row of every linear program."""
    X, y = table(name, n, seed)
    atoms = make_atoms("diag", X, y)
    model = _soft_model(atoms, X, y, k)
    began = time.perf_counter()
    w, objective, status, done, rows = atoms.start, model.objective(atoms.start), "rounds", 0, 0
    first = math.nan
    for _ in range(10):
        left = limit - (time.perf_counter() - began)
        if left <= 0:
            status = "time_limit"
            break
        program = _full_program(model, atoms, w)
        rows = len(program.lower)
        solution = solve(program, time_limit=left)
        if solution.x is None or solution.status != "optimal":
            status = solution.status
            break
        first = solution.objective if math.isnan(first) else first
        there = np.maximum(solution.x[: len(atoms)], 0)
        there /= there.sum()
        value = model.objective(there)
        if value >= objective - 1e-9:
            status = "converged"
            break
        w, objective, done = there, value, done + 1
    return {
        "first program": None if math.isnan(first) else first,
        "d": X.shape[1],
        "objective": objective,
        "status": status,
        "rounds": done,
        "rows": rows,
        "time": round(time.perf_counter() - began, 3),
    }


def _full_program(model: SoftModel, atoms: Atoms, w: np.ndarray) -> Program:
    """The linear program for the neighbours nearest under w, a row for every other point."""
    X, y, n, A = model.X, model.y, len(model.X), len(atoms)
    near = nearest(atoms, w, X, y, k=model.k).own
    rows, columns = Rows(), Columns()
    columns.new(A, 0.0, 0.0, 1.0)
    rows.add(rows.one(1.0, 1.0), np.arange(A), 1.0)
    moved = columns.new(A, model.distortion, 0.0, 1.0)
    for sign in (1.0, -1.0):
        each = rows.dense(np.diag(np.full(A, sign)), 0, -np.inf, sign * atoms.start)
        rows.add(each, moved, -1.0)
    radius = columns.new(n, 0.0, 0.0, np.inf)
    slack = columns.new(n, 1 / (n * model.margin), 0.0, np.inf)
    for i in range(n):
        each = rows.dense(atoms.of(X[near[i]] - X[i]), 0, -np.inf, 0.0)
        rows.add(each, radius[i], -1.0)
        each = rows.dense(atoms.of(X[y != y[i]] - X[i]), 0, model.margin, np.inf)
        rows.add(each, radius[i], -1.0)
        rows.add(each, slack[i], 1.0)
    c, lb, ub, _ = columns.all()
    return Program(c, csr_array(rows.matrix(len(c))), *rows.bounds(), lb, ub)


def _warm_up() -> None:
    """Load what is compiled before the clock starts."""
    X, y = clouds(0, n=8)
    optimise(make_atoms("diag", X, y), X, y, max_rounds=1)
