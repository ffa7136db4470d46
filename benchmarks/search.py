"""Speed of searching an index: Tupelo, LanceDB's own searches, faiss, and the bare product.

    python benchmarks/search.py [--quick]     # about 14 minutes on 2 idle cores; --quick about 1

Writes docs/results/search-speed.json and .md. Contestants take turns in one process, repetition by
repetition; ratios are medians of ratios to the bare product of the same repetition. A peer that is
not installed is named. `--quick` measures 20,000 rows and only prints.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from results import Page
from tupelo import search
from tupelo.evaluation import nearest
from tupelo.search import Items, store

WIDTH, K = 128, 10
SIZES = (100_000, 1_000_000)
BATCHES = {1: 30, 64: 9, 1_000: 3}  # queries: repetitions
LANCE_AT_MOST = 64  # queries of LanceDB's flat search, which takes long; its time is scaled
TILE = (256, 4_096)


def rows_like_embeddings(n: int, seed: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around 1,000 centres with a decaying spectrum, turned at random; and queries."""
    rng = np.random.default_rng(seed)
    spectrum = (1 + np.arange(WIDTH)) ** -0.5
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] * spectrum[:, None]
    centres = rng.normal(size=(1_000, WIDTH))
    z = np.empty((n + queries, WIDTH), np.float32)
    for start in range(0, len(z), 50_000):
        part = z[start : start + 50_000]
        of = rng.integers(1_000, size=len(part))
        part[:] = (centres[of] + 0.8 * rng.normal(size=part.shape)) @ turn
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z[:n], z[n:]


def floor(rows: torch.Tensor, queries: np.ndarray) -> None:
    """The float32 product and the k best of it, some rows at a time."""
    asked = torch.from_numpy(queries)
    for block in asked.split(TILE[0]):
        best = [(block @ part.T).topk(K) for part in rows.split(TILE[1] * 16)]
        torch.cat([values for values, _ in best], 1).topk(K)


def lance(table, queries: np.ndarray, probes: int | None, refine: int) -> list[set[int]]:
    """LanceDB alone: flat, or through its IVF-PQ index."""
    asked = queries[0] if len(queries) == 1 else list(queries)
    query = table.search(asked, vector_column_name="vector").distance_type("cosine").limit(K)
    if probes is None:
        query = query.bypass_vector_index()
    else:
        query = query.nprobes(probes).refine_factor(refine)
    got = query.select(["number", "_distance"]).to_arrow()
    number = got["number"].to_numpy()
    of = got["query_index"].to_numpy() if len(queries) > 1 else np.zeros(len(number), int)
    return [set(number[of == query].tolist()) for query in range(len(queries))]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def faiss_flat(rows: np.ndarray):
    """A faiss index of the rows, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index


def measure(n: int, seed: int) -> dict:
    """All contestants on one index of n rows, for every batch of queries."""
    rows, queries = rows_like_embeddings(n, seed, max(BATCHES))
    tensor = torch.from_numpy(rows)
    numbers: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "index"
        write = partial(search.build, place, Items(rows, [str(row) for row in range(n)]))
        numbers["write_seconds"] = seconds(write)
        index = search.open(place)
        numbers["ivfpq_seconds"] = seconds(lambda: index.rebuild(approximate=True))
        del write
        told = index.info().approximate
        assert told is not None
        numbers["approximate"], numbers["bytes"] = told, index.info().bytes
        numbers["first_search_seconds"] = seconds(lambda: index.search(queries[:1], K, exact=True))
        table = store.open_table(place, store.read_pointer(place))
        peer = faiss_flat(rows)
        for batch, repetitions in BATCHES.items():
            asked = queries[:batch]
            scale = max(1, batch / LANCE_AT_MOST)
            runs: dict[str, Callable[[], object]] = {
                "bare product + topk": partial(floor, tensor, asked),
                "Tupelo exact": partial(index.search, asked, K, exact=True),
                "tupelo.evaluation.nearest": partial(nearest, asked, rows, K, normalize=False),
                "Tupelo approximate": partial(index.search, asked, K, exact=False),
                "LanceDB flat": partial(lance, table, asked[:LANCE_AT_MOST], None, 1),
                "LanceDB IVF-PQ": partial(lance, table, asked, told["probes"], told["refine"]),
            }
            if peer is not None:
                runs["faiss IndexFlatIP"] = partial(peer.search, asked, K)
            times: dict[str, list[float]] = {name: [] for name in runs}
            for run in runs.values():
                run()  # compiles, reads, warms up
            for _ in range(repetitions):
                for name, run in runs.items():
                    spent = seconds(run) * (scale if name == "LanceDB flat" else 1)
                    times[name].append(spent)
            numbers[f"queries {batch}"] = times
        numbers["recall"] = recalls(index, table, queries[:LANCE_AT_MOST], told)
        numbers["faiss"] = peer is not None
    return numbers


def recalls(index: search.Index, table, queries: np.ndarray, told: dict) -> dict[str, float]:
    """The share of the exact result that each finds, by row."""
    truth = [set(map(int, found.paths)) for found in index.search(queries, K, exact=True)]
    found = {
        "Tupelo exact": truth,
        "Tupelo approximate": [set(map(int, f.paths)) for f in index.search(queries, K)],
        "LanceDB flat": lance(table, queries, None, 1),
        "LanceDB IVF-PQ": lance(table, queries, told["probes"], told["refine"]),
    }
    return {
        name: float(np.mean([len(t & f) / K for t, f in zip(truth, each, strict=True)]))
        for name, each in found.items()
    }


def report(page: Page, n: int, cell: dict) -> None:
    """One table of milliseconds a batch."""
    header = ["search", *(f"ms, queries: {batch:,} | x floor" for batch in BATCHES), "recall@10"]
    header = [part for each in header for part in each.split(" | ")]
    rows = []
    names = list(cell[f"queries {next(iter(BATCHES))}"])
    for name in names:
        line: list[str] = [name]
        for batch in BATCHES:
            times = cell[f"queries {batch}"]
            base = times["bare product + topk"]
            ratio = statistics.median(t / b for t, b in zip(times[name], base, strict=True))
            line += [f"{1e3 * statistics.median(times[name]):,.1f}", f"{ratio:.2f}"]
        recall = cell["recall"].get(name)
        rows.append([*line, "-" if recall is None else f"{recall:.4f}"])
    told = cell["approximate"]
    peers = "" if cell["faiss"] else " faiss is not installed here and was not run."
    page.table(
        f"{n:,} rows of {WIDTH} numbers",
        f"Written in {cell['write_seconds']:.1f} s, {cell['bytes'] / 1e6:,.0f} MB; written again "
        f"with IVF-PQ in {cell['ivfpq_seconds']:.1f} s ({told['partitions']} partitions, "
        f"{told['probes']} looked into, {told['sub_vectors']} bytes a row, {told['refine']} x k "
        f"compared in full): recall@10 {told['recall']:.4f} on {told['queries']} of its rows. The "
        f"first exact search, which reads all rows, took {cell['first_search_seconds']:.2f} s. "
        f"LanceDB's flat search was timed with at most {LANCE_AT_MOST} queries, larger batches "
        f"scaled.{peers}",
        header,
        rows,
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows; print only")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        place = {"folder": Path(folder)} if quick else {}
        page = Page("search-speed", "Speed of searching an index", **place)
        page.text(
            "What is compared",
            f"The floor is the float32 product with all rows and the {K} best of each part, in "
            f"PyTorch on {torch.get_num_threads()} threads. Tupelo's index is open and has been "
            "searched before; its time includes normalising the queries and naming what was "
            "found, and its exact result is that of `tupelo.evaluation.nearest`, which prepares "
            "its gallery anew for every call. Rows lie around 1,000 centres; queries are drawn "
            "like them and are not in the index. Medians over "
            f"{', '.join(map(str, BATCHES.values()))} repetitions.",
        )
        for n in (20_000,) if quick else SIZES:
            report(page, n, page.once(f"{n} rows", partial(measure, n, 0)))
        page.write("python benchmarks/search.py" + " --quick" * quick, [0])
        if quick:
            print(page.path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
