"""Result pages: every number of a grid in JSON beside the Markdown made from it, resumable."""

import datetime
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

FOLDER = Path(__file__).parents[1] / "docs" / "results"


class Page:
    """A page `docs/results/NAME.md` and its numbers `NAME.json`.

    Every cell is stored as soon as it is measured, so a killed grid continues where it stopped.
    Delete the JSON file to measure anew.

    Args:
        name: file name without ending.
        title: heading of the page.
        folder: where both are written.
    """

    def __init__(self, name: str, title: str, folder: Path = FOLDER):
        self.title = title
        self.path = folder / f"{name}.json"
        self.numbers = json.loads(self.path.read_text()) if self.path.exists() else {"cells": {}}
        self.sections: list[str] = []

    def once(self, key: str, measure: Callable[[], dict]) -> dict:
        """The cell of that name, measured if it is not there yet."""
        cells = self.numbers["cells"]
        if key not in cells:
            cells[key] = _timed(measure)
            self._store()
            print(key, {k: _short(v) for k, v in cells[key].items()}, flush=True)
        return cells[key]

    def all(
        self,
        cells: Mapping[str, tuple],
        workers: int,
        *,
        engine: str = "processes",
        address: str | None = None,
    ) -> None:
        """Measure the missing ones of these cells, `key: (function, *arguments)`.

        Args:
            cells: functions of modules, which other processes can import.
            workers: cells at once.
            engine: "processes" of this machine, or "ray".
            address: of a Ray cluster; None starts one here.
        """
        missing = {key: cell for key, cell in cells.items() if key not in self.numbers["cells"]}
        if not missing:
            return
        if engine == "ray":
            self._all_on_ray(missing, workers, address)
            return
        if engine != "processes":
            raise ValueError(f"engine must be 'processes' or 'ray', got {engine!r}")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            running = {pool.submit(_timed, *cell): key for key, cell in missing.items()}
            for done, future in enumerate(as_completed(running), 1):
                result = future.result()
                self.once(running[future], lambda found=result: found)
                print(f"{done} of {len(missing)}", flush=True)

    def _all_on_ray(self, missing: Mapping[str, tuple], workers: int, address: str | None) -> None:
        """Each cell is stored as soon as it comes back; one whose worker dies is measured again."""
        import ray

        begun = not ray.is_initialized()
        if begun:
            here = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
            ray.init(address=address or "local", log_to_driver=False, **here)
        try:
            # the modules of the cells lie beside this file, on every machine
            known = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}}
            cell = ray.remote(num_cpus=1, max_retries=2, runtime_env=known)(_alone)
            waiting, running = list(missing), {}
            while waiting or running:
                while waiting and len(running) < workers:
                    key = waiting.pop(0)
                    running[cell.remote(*missing[key])] = key
                (first,), _ = ray.wait(list(running), num_returns=1)
                result = ray.get(first)
                self.once(running.pop(first), lambda found=result: found)
        finally:
            if begun:
                ray.shutdown()

    def summary(self, keys: Iterable[str], names: Sequence[str]) -> list[str]:
        """Mean and spread over these cells (the seeds of one setting) of each number."""
        cells = [self.numbers["cells"][key] for key in keys]
        return [seeds_summary([cell[name] for cell in cells]) for name in names]

    def table(self, title: str, text: str, header: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a section with one table."""
        lines = [f"## {title}", "", text, "", _row(header), _row(["---"] * len(header))]
        self.sections.append("\n".join([*lines, *map(_row, rows)]))

    def text(self, title: str, text: str) -> None:
        """Add a section of text."""
        self.sections.append(f"## {title}\n\n{text}")

    def write(self, command: str, seeds: Sequence[int] | str, *, data: str = "") -> None:
        """Write the page with how it was made; seeds as numbers or as text such as "0 to 29"."""
        if not isinstance(seeds, str):
            seeds = ", ".join(map(str, seeds))
        made = {
            "command": command,
            "seeds": seeds,
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
        }
        self.numbers["made"] = made
        self._store()
        head = [
            f"# {self.title}",
            "",
            f"Made by `{command}` on {made['date']}, seeds {seeds} (mean ± "
            f"standard deviation over seeds); {made['machine']}.{' ' + data if data else ''} Every "
            f"number: [{self.path.name}]({self.path.name}).",
            "",
        ]
        body = "\n".join(head) + "\n" + "\n\n".join(self.sections) + "\n"
        self.path.with_suffix(".md").write_text(body)

    def _store(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".json.new")
        new.write_text(json.dumps(self.numbers, indent=1, sort_keys=True) + "\n")
        new.replace(self.path)


def machine() -> str:
    """What was measured on: processor, cores and torch, no names."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    torch_version = torch.__version__.split("+")[0]
    return f"{model}, {os.cpu_count()} cores, torch {torch_version}"


def seeds_summary(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds, as text; of one seed its number alone."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS: two cells at once otherwise wait for each other's threads


def _alone(measure: Callable[..., dict], *arguments) -> dict:
    """On one thread, as in the processes of this machine."""
    _one_thread()
    return _timed(measure, *arguments)


def _timed(measure: Callable[..., dict], *arguments) -> dict:
    started = time.perf_counter()
    result = measure(*arguments)
    return {"seconds": round(time.perf_counter() - started, 2)} | result


def _row(cells: Sequence) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _short(value):
    return round(value, 4) if isinstance(value, float) else value
