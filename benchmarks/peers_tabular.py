"""One learner of metric-learn on the training rows of some splits, in its own environment.

    .venv-peers-tabular/bin/python benchmarks/peers_tabular.py LMNN splits.npz maps.npz

`splits.npz` holds `X0, y0, X1, y1, ...`, one pair a split; `maps.npz` gets `L0, L1, ...` with the
seconds of each fit, or why it failed. Nothing of Tupelo is imported: `make peers-tabular` makes an
environment with the scikit-learn that metric-learn still works with.
"""

import sys
import time
import warnings

import metric_learn  # pyright: ignore[reportMissingImports]
import numpy as np

LEARNERS = {
    # 1,000 steps take minutes where classes are many
    "LMNN": [lambda k, seed: metric_learn.LMNN(n_neighbors=k, max_iter=300, random_state=seed)],
    "ITML": [lambda k, seed: metric_learn.ITML_Supervised(random_state=seed)],
    # its own basis fails where classes are small
    "SCML": [
        lambda k, seed: metric_learn.SCML_Supervised(random_state=seed),
        lambda k, seed: metric_learn.SCML_Supervised(basis="triplet_diffs", random_state=seed),
    ],
}
"""Ways to make each, the next where one fails."""


def main() -> None:
    """Fit every split and write its map."""
    name, source, out = sys.argv[1:]
    found: dict[str, np.ndarray] = {}
    with np.load(source) as splits:
        for split in range(len(splits.files) // 2):
            X, y = splits[f"X{split}"], splits[f"y{split}"]
            smallest = np.unique(y, return_counts=True)[1].min()
            for make in LEARNERS[name]:
                learner = make(int(min(3, smallest - 1)), split)
                started = time.perf_counter()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        learner.fit(X, y)
                except Exception as error:  # noqa: BLE001  (others' learners fail in their ways)
                    found[f"failed{split}"] = np.array(f"{type(error).__name__}: {error}")
                    continue
                found[f"seconds{split}"] = np.array(time.perf_counter() - started)
                found[f"L{split}"] = np.asarray(learner.components_, dtype=np.float64)
                found.pop(f"failed{split}", None)
                break
    np.savez(out, **found)


if __name__ == "__main__":
    main()
