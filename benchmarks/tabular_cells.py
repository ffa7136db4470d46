"""What is measured of tables: the published protocol, the grid of all sets, the ablations."""

import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis

import tabular_data as data
from tupelo.recipes.table_learners import Unchanged, accuracy, sample
from tupelo.tabular import ODML, MIOMetric
from tupelo.tabular.inputs import unit_rows

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".venv-peers-tabular/bin/python"
GAMMAS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FOLDS = 3
CHOSEN_ON = 400  # rows of a training half at most: all of them, but for waveform
K_PROTOCOL, K = 5, 3
SCANS = 20
TRIPLETS, WIDE = 40_000, 64  # a fit of the grid sees at most; fewer of more features
PEER_SECONDS = 300  # that all splits of one cell may take
COUNT_ROWS, COUNT_WIDTH, COUNT_SECONDS, COUNT_ROUNDS = 80, 40, 5.0, 8


def protocol_splits(name: str) -> range:
    """Thirty, and ten of waveform, which has 5,000 rows."""
    return range(10 if name == "waveform" else 30)


LAYERS: Mapping[str, Mapping[str, Any] | None] = {
    "Euclidean": None,
    "MOML": {"layer": "moml", "n_layers": 1},
    "OPML": {"layer": "opml", "n_layers": 1},
    "MLOML-r, 3 MOML layers": {"layer": "moml", "n_layers": 3},
    "ODML, 3 OPML layers": {"layer": "opml", "n_layers": 3},
    "ODML, 5 OPML layers": {"layer": "opml", "n_layers": 5},
}
"""Methods of the published protocol, as options of `ODML`."""


def protocol(name: str, options: Mapping[str, Any] | None, splits: int | None = None) -> dict:
    """5-NN errors over random halves of unit rows, gamma chosen on training halves.

    Args:
        name: of the set.
        options: of `ODML`; None: Euclidean distance.
        splits: so many; None: all of the protocol.
    """
    X, y = data.raw(name)
    X = unit_rows(X)
    seeds = protocol_splits(name) if splits is None else range(splits)
    errors, seconds, chosen = [], [], []
    for seed in seeds:
        seen, new = data.halves(y, seed)
        gamma = None
        if options is not None:
            part = seen[sample(y[seen], CHOSEN_ON, seed)]
            gamma = choose(X[part], y[part], options, seed)
        chosen.append(gamma)
        learner, taken = fitted_stack(X[seen], y[seen], options, gamma, seed)
        errors.append(1 - accuracy(learner, X[seen], y[seen], X[new], y[new], K_PROTOCOL))
        seconds.append(taken)
    return {"errors": errors, "gamma": chosen, "fit": seconds, "rows": len(y), "d": X.shape[1]}


def choose(X: np.ndarray, y: np.ndarray, options: Mapping[str, Any], seed: int) -> float:
    """The gamma with the least error by cross-validation.

    Of equal errors the smaller gamma counts; one at which a layer runs away is not taken.
    """
    errors = []
    for gamma in GAMMAS:
        try:
            errors.append(_wrong(X, y, options, gamma, seed))
        except FloatingPointError:
            errors.append(len(y))
    return GAMMAS[int(np.argmin(errors))]


def _wrong(
    X: np.ndarray, y: np.ndarray, options: Mapping[str, Any], gamma: float, seed: int
) -> int:
    """Rows that three folds classify wrong."""
    wrong = 0
    for fold in _folds(y, seed):
        inside = np.ones(len(y), dtype=bool)
        inside[fold] = False
        learner, _ = fitted_stack(X[inside], y[inside], options, gamma, seed)
        right = accuracy(learner, X[inside], y[inside], X[fold], y[fold], K_PROTOCOL)
        wrong += round((1 - right) * len(fold))
    return wrong


def _folds(y: np.ndarray, seed: int) -> list[np.ndarray]:
    """Three parts with a third of every class."""
    rng = np.random.default_rng(seed)
    part = np.empty(len(y), dtype=int)
    offset = 0
    for label in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == label))
        part[places] = (np.arange(len(places)) + offset) % FOLDS
        offset += len(places)
    return [np.flatnonzero(part == number) for number in range(FOLDS)]


def fitted_stack(
    X: np.ndarray,
    y: np.ndarray,
    options: Mapping[str, Any] | None,
    gamma: float | None,
    seed: int,
) -> tuple[Any, float]:
    """A fitted stack in the order of a random stream, and the seconds it took."""
    if options is None:
        return Unchanged().fit(X), 0.0
    order = np.random.default_rng(1_000 + seed).permutation(len(y))
    learner = ODML(**{"n_scans": SCANS, "gamma": gamma, "random_state": seed, **options})
    started = time.perf_counter()
    learner.fit(X[order], y[order])
    return learner, time.perf_counter() - started


def _odml(X: np.ndarray, seed: int, **options: Any) -> Any:
    n, d = X.shape
    scans = min(SCANS, max(1, int(TRIPLETS * min(1.0, WIDE / d)) // n))
    return ODML(n_scans=scans, random_state=seed, **options)


def _mio(X: np.ndarray, seed: int, **options: Any) -> Any:
    return MIOMetric(**{"random_state": seed, "time_limit": 30.0, **options})


class UnitRows(Unchanged):
    """Euclidean distance of rows divided by their length."""

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Rows of length 1; those of zeros stay."""
        lengths = np.linalg.norm(X, axis=1, keepdims=True)
        return X / np.where(lengths > 0, lengths, 1.0)


METHODS: Mapping[str, tuple[Callable[[np.ndarray, int], Any] | str, int | None]] = {
    "Euclidean": (lambda X, seed: Unchanged(), None),
    "Euclidean, unit rows": (lambda X, seed: UnitRows(), None),
    "OPML": (partial(_odml, n_layers=1), None),
    "MOML": (partial(_odml, n_layers=1, layer="moml"), None),
    "ODML 3": (partial(_odml, n_layers=3), None),
    "ODML 5": (partial(_odml, n_layers=5), None),
    "MIO diag": (partial(_mio, atoms="diag"), 300),
    "MIO rank1": (partial(_mio, atoms="rank1"), 150),
    "MIO l1+l2": (partial(_mio, atoms="l1+l2"), 300),
    "NCA": (lambda X, seed: NeighborhoodComponentsAnalysis(random_state=seed), 500),
    "LMNN": ("LMNN", 150),
    "ITML": ("ITML", 300),
    "SCML": ("SCML", 150),
    "OPML, no constant": (partial(_odml, n_layers=1), None),
}
"""A learner from rows and a seed, or a name in the environment of the peers; and how many rows
a fit takes at most."""


UNIT = ("OPML", "MOML", "ODML 3", "ODML 5", "Euclidean, unit rows")
"""Methods that divide rows by their length: they see a constant feature."""


def grid(name: str, method: str, splits: int | None = None) -> dict:
    """3-NN accuracy of a method on random halves of a table, standardised by the training half."""
    seeds = data.seeds(name) if splits is None else range(splits)
    make, at_most = METHODS[method]
    found = [data.split(name, seed) for seed in seeds]
    if method in UNIT:
        found = [one.lifted() for one in found]
    chosen = [sample(one.y, at_most, seed) for one, seed in zip(found, seeds, strict=True)]
    if isinstance(make, str):
        return _peer(make, found, chosen)
    right, seconds = [], []
    for one, rows, seed in zip(found, chosen, seeds, strict=True):
        learner = make(one.X[rows], seed)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                learner.fit(one.X[rows], one.y[rows])
        except Exception as error:  # noqa: BLE001  (a cell that fails is a result)
            return {"failed": f"{type(error).__name__}: {error}", "rows": len(rows)}
        seconds.append(time.perf_counter() - started)
        right.append(accuracy(learner, one.X, one.y, one.new, one.labels, K))
    return {"right": right, "fit": seconds, "rows": max(map(len, chosen)), "d": one.X.shape[1]}


def _peer(learner: str, found: list[data.Split], chosen: list[np.ndarray]) -> dict:
    """The same by metric-learn, in the environment of `make peers-tabular`."""
    if not PEER.exists():
        raise SystemExit("make peers-tabular makes the environment of metric-learn first")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "splits.npz", Path(folder) / "maps.npz"
        arrays = {}
        for place, (one, rows) in enumerate(zip(found, chosen, strict=True)):
            arrays[f"X{place}"] = one.X[rows]
            arrays[f"y{place}"] = np.unique(one.y[rows], return_inverse=True)[1]
        np.savez(source, **arrays)
        script = Path(__file__).with_name("peers_tabular.py")
        try:
            subprocess.run(
                [PEER, script, learner, source, out],
                check=True,
                env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                timeout=PEER_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"took more than {PEER_SECONDS} s", "rows": max(map(len, chosen))}
        with np.load(out) as maps:
            got = dict(maps)
    failed = [str(got[name]) for name in got if name.startswith("failed")]
    failed += ["a metric of rank 0" for name in got if name.startswith("L") and not got[name].size]
    rows = max(map(len, chosen))
    if failed:
        return {"failed": f"{len(failed)} of {len(found)} splits: {failed[0]}", "rows": rows}
    right = []
    for place, one in enumerate(found):
        linear = got[f"L{place}"].T
        votes = KNeighborsClassifier(K).fit(one.X @ linear, one.y)
        right.append(float((votes.predict(one.new @ linear) == one.labels).mean()))
    seconds = [float(got[f"seconds{place}"]) for place in range(len(found))]
    return {"right": right, "fit": seconds, "rows": rows, "d": found[0].X.shape[1]}


def count(name: str, splits: int = 2) -> dict:
    """Model E on small samples: errors from Euclid to the end, what is proven, accuracy."""
    found = {"errors_euclid": [], "errors": [], "gap": [], "certified": [], "fit": [], "right": []}
    found |= {"right_euclid": [], "right_hinge": []}
    for seed in range(splits):
        one = data.split(name, seed)
        rows = sample(one.y, COUNT_ROWS, seed)
        X, y = one.X[rows], one.y[rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exact = _mio(
                X, seed, objective="count", time_limit=COUNT_SECONDS, max_rounds=COUNT_ROUNDS
            )
            started = time.perf_counter()
            exact.fit(X, y)
            found["fit"].append(time.perf_counter() - started)
            soft = _mio(X, seed).fit(X, y)
        told = exact.report()
        found["errors_euclid"].append(told.errors_euclid)
        found["errors"].append(told.errors)
        found["gap"].append(told.gap)
        found["certified"].append(told.certificate is not None)
        for key, learner in (
            ("right", exact),
            ("right_hinge", soft),
            ("right_euclid", Unchanged().fit(X)),
        ):
            found[key].append(accuracy(learner, X, y, one.new, one.labels, K))
    return {**found, "rows": len(rows), "d": one.X.shape[1]}
