"""Triplets per second of the online layers, against NumPy, a plain compiled loop, and memory.

    python benchmarks/online.py            # about 3 minutes on an idle machine
    python benchmarks/online.py --quick    # half a minute, three widths; prints only

Writes docs/results/online-speed.md and .json; resumable. One thread, float64, unit rows of five
classes. Our loop, the plain loop and the copy of a d x d matrix take turns, and the smallest time
of each counts, so that other work on the machine cancels; then NumPy. Ours forms its triplets and
divides rows by their length within the time; the plain loop gets both. Compilation is not counted:
what it takes is a cell of its own.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
from threadpoolctl import threadpool_limits

from online_naive import moml_matrix, opml_stack
from results import Page
from tupelo.tabular import ODML
from tupelo.tabular.online.engine import CompiledStack
from tupelo.tabular.online.estimator import LAYERS
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.stack import Stack
from tupelo.tabular.online.triplets import Labels, Memory

WIDTHS = (8, 32, 64, 128, 256, 784)
KINDS = {"OPML": ("opml", 1), "MOML": ("moml", 1), "stack of 3": ("opml", 3)}
# Triplets per second of OPML, numba with fastmath, and of C, as the specification measured them.
GIVEN = {8: 6.7e6, 32: 1.56e6, 64: 509e3, 128: 65e3, 256: 20.9e3, 784: 1160.0}
GIVEN_C = {8: 10.2e6, 32: 1.28e6, 64: 361e3, 128: 57e3, 256: 12.4e3, 784: 1100.0}
CLASSES, GAMMA = 5, 1e-3
OPTIONS = Options(GAMMA, 1e-3, 1.0, True, False, False, 0.1, 1.0, 1e-3, 1 / 3, 1e-4)
ROUNDS = 60
STREAM, WIDTH = 1_000_000, 64


def rows_and_classes(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows whose classes barely differ, so that nearly all triplets stay active."""
    rng = np.random.default_rng(0)
    y = Labels().codes(rng.integers(CLASSES, size=n))
    X = rng.normal(size=(n, d)) + 0.05 * rng.normal(size=(CLASSES, d))[y]
    return X / np.linalg.norm(X, axis=1)[:, None], y


def as_indices(y: np.ndarray) -> np.ndarray:
    """The triplets of the stream as rows, for the plain loops."""
    memory, found = Memory(1, "author", False, 0), []
    memory.make_room(CLASSES)
    for i, code in enumerate(y.tolist()):
        triplet = memory.pair_up(np.array([float(i)]), code)
        if triplet is not None:
            found.append((i, int(triplet[0][0]), int(triplet[1][0])))
    return np.array(found)


def take_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The shortest time of each."""
    best = dict.fromkeys(steps, float("inf"))
    for step in steps.values():  # compiles, and touches the data once
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def widths(d: int, kind: str, rounds: int) -> dict:
    """One width and one kind of stack: rates of all four, and how far ours is from NumPy."""
    layer, depth = KINDS[kind]
    # a few milliseconds a step: short enough that many are not interrupted
    n = int(np.clip(2e7 / (d * d * depth), 64, 4000))
    few = min(n, 1000)
    X, y = rows_and_classes(n, d)
    triplets = as_indices(y)
    stacks: dict[str, Stack | CompiledStack] = {}

    def run(name: str, stack: Stack | CompiledStack, rows: int) -> None:
        memory = Memory(stack.width, "author", False, 0)
        memory.make_room(CLASSES)
        stack.learn(X[:rows], y[:rows], memory, OPTIONS, unit=True)
        stacks[name] = stack

    def compiled(rows: int = n) -> None:
        run("ours", CompiledStack(layer, depth, d, "relu", "fp"), rows)

    def plain() -> None:
        if layer == "opml":
            opml_stack(X, triplets, np.stack([np.eye(d)] * depth), GAMMA)
        else:
            moml_matrix(X, triplets, np.eye(d), GAMMA)

    one, other = np.eye(d), np.empty((d, d))
    copies = max(4, int(1e6 / (d * d)))

    def copy() -> None:
        for _ in range(copies):
            np.copyto(other, one)

    with threadpool_limits(1):
        steps = {
            "numpy": lambda: run("numpy", Stack(LAYERS[layer], depth, d, "relu", "fp"), few),
            "ours": compiled,
            "plain": plain,
            "copy": copy,
        }
        fast = {name: step for name, step in steps.items() if name != "numpy"}
        times = take_turns(fast, rounds) | take_turns({"numpy": steps["numpy"]}, 3)
        active = stacks["ours"].n_updates[0] / len(triplets)
        unstable = stacks["ours"].n_unstable[0]
        compiled(few)
    apart = max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in zip(stacks["ours"].maps(), stacks["numpy"].maps(), strict=True)
    )
    part = int((triplets[:, 0] < few).sum())
    return {
        "numpy": part / times["numpy"],
        "ours": len(triplets) / times["ours"],
        "plain": len(triplets) / times["plain"],
        "copies": copies / times["copy"],
        "active": active,
        "unstable": unstable,
        "difference": apart,
    }


def calls(depth: int, rows: int) -> dict:
    """Samples per second of `partial_fit` by the size of its chunks, at d = 64."""
    X, y = rows_and_classes(rows, WIDTH)
    found = {}
    for size in (1, 10, 100, rows):
        best = float("inf")
        for _ in range(3):
            learner = ODML(depth, gamma=GAMMA).partial_fit(X[:2], y[:2])
            start = time.perf_counter()
            for at in range(0, rows, size):
                learner.partial_fit(X[at : at + size], y[at : at + size])
            best = min(best, time.perf_counter() - start)
        found[str(size) if size < rows else "all"] = rows / best
    return found


def long_stream(rows: int) -> dict:
    """Samples per second and growth of memory over a long stream, drawn as it goes."""
    rng = np.random.default_rng(0)
    learner = ODML(1, gamma=GAMMA)
    spent, before = 0.0, 0
    for chunk in range(rows // 10_000):
        X, y = rng.normal(size=(10_000, WIDTH)), rng.integers(CLASSES, size=10_000)
        start = time.perf_counter()
        learner.partial_fit(X, y)
        spent += time.perf_counter() - start if chunk else 0.0
        if chunk == 1:  # all is compiled and allocated
            before = resident()
    return {
        "rows": learner.n_samples_seen_,
        "samples": (rows - 10_000) / spent,
        "megabytes": (resident() - before) / 1e6,
        "largest": float(np.abs(learner.layers_[0]).max()),
    }


def resident() -> int:
    """High-water mark of the memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def first_call(layer: str) -> dict:
    """Seconds of the first `fit` of a process, without and with compiled code on the disk."""
    code = (
        "import time, numpy as np\nfrom tupelo.tabular import ODML\n"
        "X, y = np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 3\n"
        f"start = time.perf_counter(); ODML(3, layer={layer!r}).fit(X, y)\n"
        "print(time.perf_counter() - start)"
    )
    with TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        times = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment,
                    capture_output=True,
                    check=True,
                    text=True,
                ).stdout
            )
            for _ in range(2)
        ]
    return {"compiled": times[0], "loaded": times[1]}


def write(page: Page, chosen: tuple[int, ...]) -> None:
    """The tables."""
    cells = page.numbers["cells"]
    for kind in KINDS:
        rows = []
        for d in chosen:
            cell = cells[f"{kind}/{d}"]
            row = [d, *(rate(cell[name]) for name in ("numpy", "ours", "plain"))]
            row += [f"{cell['ours'] / cell['plain']:.2f}"]
            if kind == "OPML":
                row += [rate(GIVEN[d]), f"{cell['ours'] / GIVEN[d]:.2f}", rate(GIVEN_C[d])]
            row += [f"{cell['ours'] / cell['copies']:.2f}", f"{cell['active']:.0%}"]
            rows.append([*row, f"{cell['difference']:.0e}"])
        given = ["numba, given", "ours / given", "C, given"] if kind == "OPML" else []
        header = ["d", "NumPy", "ours", "plain loop", "ours / plain", *given]
        text = {
            "OPML": "Triplets per second. *Given*: what the specification measured on its machine, "
            "without the forming of triplets.",
            "MOML": "The plain loop changes M alone: no root, no care for its eigenvalues, nothing "
            "that a next layer could take. Ours keeps L and its inverse.",
            "stack of 3": "Three OPML layers with ReLU, learned forward.",
        }[kind]
        page.table(
            {"OPML": "One layer OPML", "MOML": "One layer MOML"}.get(kind, "Stack of three"),
            f"{text} *Of copying*: ours over copies of a d x d matrix per second, one reading and "
            "one writing of memory for each triplet (far above 2 the matrices of the copy happened "
            "to lie badly); *active*: triplets that change the first layer; *difference*: of L to "
            "NumPy's, relative.",
            [*header, "of copying", "active", "difference"],
            rows,
        )
    one, three = cells["calls/1"], cells["calls/3"]
    page.table(
        "Calls of `partial_fit`",
        f"Samples per second at d = {WIDTH}, by rows a call.",
        ["rows", "one layer", "three layers"],
        [[size, rate(one[size]), rate(three[size])] for size in one if size != "seconds"],
    )
    stream = cells["stream"]
    page.text(
        "A long stream",
        f"{stream['rows']:,} rows at d = {WIDTH} in chunks of 10,000, one layer: "
        f"{stream['samples']:,.0f} samples per second, {stream['megabytes']:.1f} MB more at the "
        "end than after the second chunk.",
    )
    page.table(
        "The first call",
        "Seconds of the first `fit` of a process: compiled, and loaded from the disk afterwards.",
        ["layer", "compiled", "loaded"],
        [
            [name, *(f"{cells[f'first/{name}'][key]:.1f}" for key in ("compiled", "loaded"))]
            for name in ("opml", "moml")
            if f"first/{name}" in cells
        ],
    )


def rate(value: float) -> str:
    """Per second, three digits."""
    return f"{float(f'{value:.3g}'):,.0f}"


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="three widths, prints only")
    quick = parser.parse_args().quick
    folder = {"folder": Path(mkdtemp())} if quick else {}
    page = Page("online-speed", "Speed of the online layers", **folder)
    chosen = (8, 64, 256) if quick else WIDTHS
    for kind in KINDS:
        for d in chosen:
            page.once(
                f"{kind}/{d}", lambda d=d, kind=kind: widths(d, kind, 20 if quick else ROUNDS)
            )
    for depth in (1, 3):
        page.once(f"calls/{depth}", lambda depth=depth: calls(depth, 2000 if quick else 20_000))
    page.once("stream", lambda: long_stream(50_000 if quick else STREAM))
    if not quick:
        for layer in ("opml", "moml"):
            page.once(f"first/{layer}", lambda layer=layer: first_call(layer))
    write(page, chosen)
    page.write("python benchmarks/online.py", (0,))
    if quick:
        print(page.path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
