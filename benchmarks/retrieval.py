"""Speed of retrieval evaluation: Tupelo, peers, and the bare product side by side.

    python benchmarks/retrieval.py [--quick]      # about 6 minutes on 2 cores; --quick about 1

Writes docs/results/evaluation-speed.json and .md. Repetitions are interleaved with the floor in one
process; ratios are medians of ratios within a repetition. A peer that is not installed is named
with the reason. `--quick` only prints.
"""

import argparse
import datetime
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tupelo.evaluation import retrieval

RESULTS = Path(__file__).parents[1] / "docs" / "results"
TILES = ((256, 1024), (512, 1024), (1024, 1024), (512, 4096), (1024, 4096))


@dataclass(frozen=True)
class Case:
    """Gaussian classes with a decaying spectrum, turned at random."""

    name: str
    items: int
    width: int
    classes: int
    spread: float  # of a class, in units of the spread of class centres
    queries: int  # rows 0 .. queries - 1 search all others

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        labels = np.arange(self.items) % self.classes
        spectrum = (1 + np.arange(self.width)) ** -0.5
        turn = np.linalg.qr(rng.normal(size=(self.width, self.width)))[0]
        centres = rng.normal(size=(self.classes, self.width))
        rows = centres[labels] + self.spread * rng.normal(size=(self.items, self.width))
        rows = (rows * spectrum) @ turn
        return (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32), labels


CASES = (
    Case("5,924 x 512, 100 classes", 5_924, 512, 100, 1.0, 5_924),
    Case("60,000 x 128, 1,000 classes", 60_000, 128, 1_000, 0.8, 6_000),
    Case("60,502 x 512, 11,316 classes", 60_502, 512, 11_316, 0.8, 3_000),
)


def floor(rows: torch.Tensor, queries: int, tile: tuple[int, int]) -> None:
    """The similarity product and nothing else, tile by tile into one buffer."""
    buffer = torch.empty(tile[0] * tile[1])
    for block in rows[:queries].split(tile[0]):
        for columns in rows.split(tile[1]):
            out = buffer[: len(block) * len(columns)].view(len(block), len(columns))
            torch.mm(block, columns.T, out=out)


def tupelo(rows: np.ndarray, labels: np.ndarray, queries: int, precision: str) -> dict[str, float]:
    """Queries against all rows but themselves."""
    items = np.arange(len(rows))
    report = retrieval(
        rows[:queries], labels[:queries], rows, labels,
        query_items=items[:queries], gallery_items=items, precision=precision,
    )  # fmt: skip
    return {"R@1": report.recall[1], "RP": report.r_precision, "MAP@R": report.map_at_r}


def tupelo_all(rows: np.ndarray, labels: np.ndarray, precision: str) -> dict[str, float]:
    """Leave-one-out over all rows."""
    report = retrieval(rows, labels, precision=precision)
    return {"R@1": report.recall[1], "RP": report.r_precision, "MAP@R": report.map_at_r}


def faiss_search(rows: np.ndarray, queries: int, k: int) -> None:
    """The neighbour search that peers start from, without any metric."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    index.search(rows[:queries], k)


def pml(rows: torch.Tensor, labels: torch.Tensor, queries: int) -> dict[str, float]:
    """AccuracyCalculator with as many neighbours as the largest class needs."""
    import faiss
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    faiss.omp_set_num_threads(torch.get_num_threads())
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    found = calculator.get_accuracy(rows[:queries], labels[:queries], rows, labels, True)
    return dict(zip(("R@1", "RP", "MAP@R"), (found[name] for name in names), strict=True))


def oml(rows: torch.Tensor, labels: torch.Tensor, queries: int, k: int) -> dict[str, float]:
    """Distances by blocks of queries, top k, then the library's metrics."""
    from oml.functional.metrics import calc_retrieval_metrics
    from oml.utils.misc_torch import pairwise_dist

    parts = []
    for block in torch.arange(queries).split(2_000):
        distances = pairwise_dist(rows[block], rows)
        distances[torch.arange(len(block)), block] = torch.inf
        nearest = distances.topk(k, largest=False).indices
        truth = [torch.nonzero(labels == labels[i]).ravel() for i in block.tolist()]
        truth = [found[found != i] for i, found in zip(block.tolist(), truth, strict=True)]
        parts.append(
            calc_retrieval_metrics(
                list(nearest),
                truth,
                cmc_top_k=(1,),
                precision_top_k=(k,),
                map_top_k=(k,),
                verbose=False,
            )
        )
    weights = [len(block) for block in torch.arange(queries).split(2_000)]
    first = [float(part["cmc"][1]) for part in parts]
    return {"R@1": float(np.average(first, weights=weights))}


def contestants(case: Case) -> tuple[dict[str, Callable[[], dict | None]], dict[str, str]]:
    """Runs by name, and the reasons of those that cannot run here."""
    rows, labels = case.data()
    tensor, label_tensor = torch.from_numpy(rows), torch.from_numpy(labels)
    q, k = case.queries, -(-case.items // case.classes) - 1
    tile = best_tile(tensor)
    runs = {f"floor: float32 product, tile {tile[0]} x {tile[1]}": partial(floor, tensor, q, tile)}
    for precision in ("float32", "bfloat16", "int8", "auto"):
        runs[f"Tupelo {precision}"] = partial(tupelo, rows, labels, q, precision)
    peers = {
        f"faiss IndexFlatIP, search of {k + 1} alone": partial(faiss_search, rows, q, k + 1),
        "pytorch-metric-learning": partial(pml, tensor, label_tensor, q),
        "open-metric-learning": partial(oml, tensor, label_tensor, q, k),
    }
    missing = {}
    small = Case("", 60, case.width, 20, 1.0, 30)
    few, few_labels = small.data()
    trials = {
        "faiss": partial(faiss_search, few, 30, 3),
        "pytorch": partial(pml, torch.from_numpy(few), torch.from_numpy(few_labels), 30),
        "open": partial(oml, torch.from_numpy(few), torch.from_numpy(few_labels), 30, 2),
    }
    for (name, run), trial in zip(peers.items(), trials.values(), strict=True):
        try:
            trial()
        except Exception as error:  # noqa: BLE001  peers fail to import in many ways
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            runs[name] = run
    return runs, missing


def best_tile(rows: torch.Tensor) -> tuple[int, int]:
    """The tile shape in which the bare product is fastest, on one thread."""

    def seconds(tile: tuple[int, int]) -> float:
        floor(rows, 1024, tile)
        start = time.process_time()
        floor(rows, 1024, tile)
        return time.process_time() - start

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(TILES, key=seconds)
    finally:
        torch.set_num_threads(threads)


def measured(run: Callable[[], dict | None]) -> dict:
    """Wall and CPU seconds, and the peak of resident memory over the start, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    metrics = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "mb": status_mb("VmHWM") - before, "metrics": metrics}


def status_mb(field: str) -> float:
    """A field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(runs: dict[str, Callable], threads: int, repetitions: int) -> dict[str, list[dict]]:
    """Repeat all runs in turn on so many threads."""
    torch.set_num_threads(threads)
    found: dict[str, list[dict]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            found[name].append(measured(run))
    return found


def table(one: dict[str, list[dict]], two: dict[str, list[dict]] | None) -> list[str]:
    """Markdown rows: CPU time on one thread, wall time on two, memory, metrics."""
    lines = [
        "| run | CPU s, 1 thread | x floor | wall s, 2 threads | x floor | peak MB over inputs "
        "| R@1 | R-precision | MAP@R |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    reference = next(iter(one))

    def cells(found: dict[str, list[dict]] | None, name: str, field: str) -> str:
        if found is None:
            return "- | -"
        values = [entry[field] for entry in found[name]]
        base = [entry[field] for entry in found[reference]]
        ratio = statistics.median(v / b for v, b in zip(values, base, strict=True))
        return f"{statistics.median(values):.2f} | {ratio:.2f}"

    for name, entries in one.items():
        mb = max(entry["mb"] for entry in (two or one)[name])
        metrics = entries[0]["metrics"] or {}
        shown = " | ".join(
            f"{metrics[key]:.6f}" if key in metrics else "-" for key in ("R@1", "RP", "MAP@R")
        )
        lines.append(
            f"| {name} | {cells(one, name, 'cpu')} | {cells(two, name, 'wall')} "
            f"| {mb:.0f} | {shown} |"
        )
    return lines


def machine() -> str:
    """Processor and library versions, without names of hosts."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    torch_version = torch.__version__.split("+")[0]
    return f"{model}, {os.cpu_count()} cores, torch {torch_version}, numpy {np.__version__}"


def main() -> None:
    """Measure all cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries; print only")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # of the peers
    tupelo(*CASES[0].data(), 300, "float32")  # compile
    tupelo(*CASES[0].data(), 300, "int8")
    begun = time.perf_counter()
    repetitions = 1
    numbers: dict = {"cases": {}}
    text = []
    for case in (replace(case, queries=case.queries // 10) if quick else case for case in CASES):
        runs, missing = contestants(case)
        one, two = measure(runs, 1, repetitions), measure(runs, 2, repetitions)
        text += ["", f"## {case.name}; queries: the first {case.queries:,} rows", ""]
        text += table(one, two)
        text += [f"\nNot run: {name} ({reason})." for name, reason in missing.items()]
        numbers["cases"][case.name] = {
            "case": vars(case), "one_thread": one, "two_threads": two, "missing": missing,
        }  # fmt: skip
        print("\n".join(text[-len(runs) - 5 :]), flush=True)
    if not quick:
        case = CASES[-1]
        rows, labels = case.data()
        tensor = torch.from_numpy(rows)
        tile = best_tile(tensor)
        runs = {"floor: float32 product": partial(floor, tensor, case.items, tile)}
        for precision in ("float32", "auto"):
            runs[f"Tupelo {precision}"] = partial(tupelo_all, rows, labels, precision)
        full = measure(runs, 2, 1)
        text += ["", f"## {case.name}; leave-one-out with all rows, once, 2 threads", ""]
        text += [
            "| run | wall s | x floor | CPU s | peak MB over inputs |",
            "|---|---|---|---|---|",
        ]
        base = next(iter(full.values()))[0]["wall"]
        for name, (entry,) in full.items():
            text.append(
                f"| {name} | {entry['wall']:.1f} | {entry['wall'] / base:.2f} | "
                f"{entry['cpu']:.1f} | {entry['mb']:.0f} |"
            )
        numbers["full"] = full
    numbers |= {
        "command": "python benchmarks/retrieval.py" + " --quick" * quick,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "repetitions": repetitions,
        "seconds": round(time.perf_counter() - begun),
    }
    head = [
        "# Speed of retrieval evaluation",
        "",
        f"`{numbers['command']}`, {numbers['date']}, {numbers['machine']}; medians of "
        f"{repetitions} interleaved repetitions; {numbers['seconds']} s in all.",
        "",
        "The floor is the float32 similarity product alone, tile by tile into a reused buffer. "
        "Tupelo computes recall@1/2/4/8, precision@1/2/4/8, R-precision, MAP@R and MRR, exactly, "
        "with the same bits in every row; its time includes checking, normalising and preparing "
        "the whole gallery, which weighs more here than with all queries. Peers compute the "
        "metrics shown. CPU seconds on one thread are the trustworthy figure on a shared machine.",
    ]
    if quick:
        print("\n".join(head))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "evaluation-speed.md").write_text("\n".join(head + text) + "\n")
    (RESULTS / "evaluation-speed.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
