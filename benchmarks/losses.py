"""Forward and backward of every loss against the bare product and against the peer.

    python benchmarks/losses.py            # up to 10 minutes; writes docs/results/losses-speed.*
    python benchmarks/losses.py --quick    # half a minute; prints only

The floor is `S = z @ z.T; S.backward(G)`, for class losses `z @ W.T` with 1000 class rows. Floor
and losses take turns in one process and the smallest time of each counts, so that other work on
the machine cancels: one thread in processor time, two threads in wall time. Memory is the
high-water mark of the process over its size just before the call. The peer is
pytorch-metric-learning, where it has the loss; it is left out, and that is said, where it would
take more than `PEER_SECONDS` or more memory than is allowed.
"""

import argparse
import ctypes
import gc
import json
import resource
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

from results import FOLDER, machine
from tupelo import losses
from tupelo.objectives import OnClasses, OnPairs, OnTuples
from tupelo.selection import PerAnchor
from tupelo.types import Embedded, Objective

CLASS_ROWS = 1000
PEER_SECONDS = 12.0
PEER_GIGABYTES = 8.0
AIMS = {128: 6.0, 512: 4.0}  # multiples of the floor by width, from a batch of 512
AIM_MEGABYTES = 64  # at 1024
AIM_FASTER = ("all triplets", "margin, distance-weighted", "NT-Xent")  # 15 times, at 1024
LIBC = ctypes.CDLL(None)


class Setting(NamedTuple):
    """One size of batch, embedding and classes."""

    batch: int
    width: int
    members: int  # items a class

    @property
    def name(self) -> str:
        return f"{self.batch} x {self.width}"


def tuples(positive: str, negative: str, loss, *, negatives: int = 1, normalize: bool = True):
    """A tuple loss on one tuple per anchor."""
    return OnTuples(PerAnchor(positive, negative, negatives=negatives), loss, normalize=normalize)


OURS: dict[str, Callable[[int, int], Objective]] = {
    "contrastive": lambda c, d: OnPairs(losses.Contrastive()),
    "cosine contrastive": lambda c, d: OnPairs(losses.CosineContrastive()),
    "multi-similarity, mined": lambda c, d: OnPairs(losses.MultiSimilarity()),
    "multi-similarity, mined, EPS": lambda c, d: OnPairs(
        losses.MultiSimilarity(), positives="easiest"
    ),
    "binomial deviance": lambda c, d: OnPairs(losses.BinomialDeviance()),
    "NT-Xent": lambda c, d: OnPairs(losses.NTXent()),
    "N-pairs, all pairs": lambda c, d: OnPairs(losses.NPairs(), normalize=False),
    "lifted structure": lambda c, d: OnPairs(losses.LiftedStructure()),
    "all triplets": lambda c, d: OnPairs(losses.AllTriplets()),
    "triplet, random": lambda c, d: tuples("random", "random", losses.Triplet()),
    "triplet, EPS, semi-hard": lambda c, d: tuples("easiest", "semi-hard", losses.Triplet()),
    "triplet, hardest": lambda c, d: tuples("hardest", "hardest", losses.Triplet()),
    "margin, distance-weighted": lambda c, d: tuples(
        "random", "distance-weighted", losses.Margin(c)
    ),
    "N-pair, 8 negatives": lambda c, d: tuples(
        "random", "random", losses.NPair(), negatives=8, normalize=False
    ),
    "proxy-NCA": lambda c, d: OnClasses(losses.ProxyNCA(CLASS_ROWS, d)),
    "proxy-anchor": lambda c, d: OnClasses(losses.ProxyAnchor(CLASS_ROWS, d)),
    "normalised softmax": lambda c, d: OnClasses(losses.NormalizedSoftmax(CLASS_ROWS, d)),
    "CosFace": lambda c, d: OnClasses(losses.CosFace(CLASS_ROWS, d)),
    "ArcFace": lambda c, d: OnClasses(losses.ArcFace(CLASS_ROWS, d)),
}


def peers() -> dict[str, Callable[[int, int], tuple]]:
    """`(classes, width) -> (loss, miner or None)` of the peer, by the name of ours."""
    try:
        from pytorch_metric_learning import losses as peer
        from pytorch_metric_learning import miners
    except ImportError:
        return {}
    return {
        "contrastive": lambda c, d: (peer.ContrastiveLoss(), None),
        "multi-similarity, mined": lambda c, d: (
            peer.MultiSimilarityLoss(2, 40, 0.5),
            miners.MultiSimilarityMiner(0.1),
        ),
        "NT-Xent": lambda c, d: (peer.NTXentLoss(0.07), None),
        "lifted structure": lambda c, d: (peer.LiftedStructureLoss(), None),
        "all triplets": lambda c, d: (peer.TripletMarginLoss(0.2), None),
        "triplet, EPS, semi-hard": lambda c, d: (
            peer.TripletMarginLoss(0.2),
            miners.BatchEasyHardMiner("easy", "semihard"),
        ),
        "triplet, hardest": lambda c, d: (peer.TripletMarginLoss(0.2), miners.BatchHardMiner()),
        "margin, distance-weighted": lambda c, d: (
            peer.MarginLoss(learn_beta=True, num_classes=c),
            miners.DistanceWeightedMiner(),
        ),
        "proxy-NCA": lambda c, d: (peer.ProxyNCALoss(CLASS_ROWS, d, softmax_scale=9), None),
        "proxy-anchor": lambda c, d: (peer.ProxyAnchorLoss(CLASS_ROWS, d), None),
        "normalised softmax": lambda c, d: (peer.NormalizedSoftmaxLoss(CLASS_ROWS, d), None),
        "CosFace": lambda c, d: (peer.CosFaceLoss(CLASS_ROWS, d), None),
        "ArcFace": lambda c, d: (peer.ArcFaceLoss(CLASS_ROWS, d), None),
    }


class Workload:
    """One batch of unit rows around class centres, and what runs on it."""

    def __init__(self, setting: Setting):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        classes = min(setting.batch // setting.members, CLASS_ROWS)
        self.setting, self.classes = setting, classes
        self.labels = torch.arange(setting.batch) // setting.members % classes
        noisy = draw(classes, setting.width)[self.labels] + draw(setting.batch, setting.width)
        self.z = torch.nn.functional.normalize(noisy, dim=1).requires_grad_()
        self.w = torch.nn.functional.normalize(draw(CLASS_ROWS, setting.width)).requires_grad_()
        self.by_rows = draw(setting.batch, setting.batch)
        self.by_classes = draw(setting.batch, CLASS_ROWS)
        self.generator = generator

    def floor(self) -> None:
        (self.z @ self.z.T).backward(self.by_rows)
        self.z.grad = None

    def class_floor(self) -> None:
        (self.z @ self.w.T).backward(self.by_classes)
        self.z.grad = self.w.grad = None

    def ours(self, name: str) -> Callable[[], None]:
        objective = OURS[name](self.classes, self.setting.width)

        def step():
            output = Embedded(self.z, self.z, self.z)
            objective(output, self.labels, generator=self.generator).total.backward()
            self.z.grad = None
            objective.zero_grad()

        return step

    def theirs(self, build) -> Callable[[], None]:
        loss, miner = build(self.classes, self.setting.width)

        def step():
            chosen = None if miner is None else miner(self.z, self.labels)
            loss(self.z, self.labels, chosen).backward()
            self.z.grad = None
            loss.zero_grad()

        return step

    def floor_of(self, name: str) -> str:
        return "class floor" if "Class" in type(OURS[name](2, 2)).__name__ else "floor"


def status(field: str) -> int:
    """A size of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_megabytes(step: Callable[[], None]) -> float:
    """High-water mark of the process during the step, over its size before."""
    gc.collect()
    LIBC.malloc_trim(0)  # otherwise memory freed earlier would hide what this call takes
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    step()
    return max(status("VmHWM") - before, 0) / 1e6


def take_turns(
    steps: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """The shortest time in milliseconds of each step over all rounds."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            step()
            best[name] = min(best[name], (clock() - start) * 1e3)
    return best


def measure_ours(setting: Setting, *, threads: int, rounds: int) -> dict[str, dict]:
    """Every loss of ours and both floors, in turns."""
    torch.set_num_threads(threads)
    work = Workload(setting)
    steps = {"floor": work.floor, "class floor": work.class_floor}
    steps |= {name: work.ours(name) for name in OURS}
    for step in steps.values():  # compiles, and touches every library page once
        step()
    memory = {name: peak_megabytes(step) for name, step in steps.items()}
    clock = time.process_time if threads == 1 else time.perf_counter
    times = take_turns(steps, rounds, clock)
    return {
        name: {
            "ms": round(times[name], 3),
            "ratio": round(times[name] / times[work.floor_of(name)], 2),
            "megabytes": round(memory[name], 1),
        }
        for name in OURS
    } | {name: {"ms": round(times[name], 3)} for name in ("floor", "class floor")}


def measure_peers(setting: Setting, floors: dict, earlier: dict[str, dict]) -> dict[str, dict]:
    """One thread, processor time; `earlier` holds the results of the next smaller batch."""
    torch.set_num_threads(1)
    work, found = Workload(setting), {}
    for name, build in peers().items():
        previous = earlier.get(name, {})
        if "left out" in previous:
            found[name] = {"left out": previous["left out"]}
            continue
        growth = (setting.batch / previous.get("batch", setting.batch)) ** 3
        if previous.get("ms", 0) * growth > PEER_SECONDS * 1e3:
            found[name] = {"left out": f"> {PEER_SECONDS:g} s expected"}
            continue
        found[name] = with_limits(work.theirs(build)) | {"batch": setting.batch}
        if "ms" in found[name]:
            floor = floors[work.floor_of(name)]["ms"]
            found[name]["ratio"] = round(found[name]["ms"] / floor, 2)
    return found


def with_limits(step: Callable[[], None]) -> dict:
    """Time and memory under a limit of the address space."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = status("VmSize") + int(PEER_GIGABYTES * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    times = []
    try:
        memory = peak_megabytes(lambda: times.append(timed(step)))
        while len(times) < 3 and min(times) < 1500:
            times.append(timed(step))
    except (RuntimeError, MemoryError):
        return {"left out": f"> {PEER_GIGABYTES:g} GB"}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        gc.collect()
    return {"ms": round(min(times), 3), "megabytes": round(memory, 1)}


def timed(step: Callable[[], None]) -> float:
    """Processor time of one step in milliseconds."""
    start = time.process_time()
    step()
    return (time.process_time() - start) * 1e3


def table(rows: Iterable[tuple[str, list[str]]], header: list[str]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(entry: dict) -> str:
    """One measurement as text."""
    if "left out" in entry:
        return entry["left out"]
    return f"{entry['ms']:.3g} ms / {entry['ratio']:.1f}x / {entry['megabytes']:.0f} MB"


def verdict(results: dict[str, dict]) -> list[str]:
    """What misses the aims, and how much faster than the peer."""
    lines = []
    for key, by_loss in results.items():
        kind, batch, width, _ = key.split("/")
        if kind != "one thread" or int(batch) < 512:
            continue
        for name in OURS:
            entry = by_loss[name]
            if entry["ratio"] > AIMS[int(width)]:
                lines.append(f"- misses {AIMS[int(width)]:g}x: {name} at {key}: {cell(entry)}")
            if int(batch) == 1024 and entry["megabytes"] > AIM_MEGABYTES:
                lines.append(f"- misses {AIM_MEGABYTES} MB: {name} at {key}: {cell(entry)}")
            theirs = results.get(key.replace("one thread", "peer"), {}).get(name)
            if int(batch) == 1024 and name in AIM_FASTER and theirs:
                factor = theirs["ms"] / entry["ms"] if "ms" in theirs else None
                text = f"{factor:.0f} times faster" if factor else f"peer: {theirs['left out']}"
                lines.append(f"- against the peer: {name} at {key}: {text}")
    return lines


def page(results: dict[str, dict], command: str, peer: str) -> str:
    """The result page."""
    sections = [
        "# Speed and memory of the losses",
        f"Made by `{command}` on {date.today().isoformat()}; {machine()}, {peer}. "
        "Cells: time of forward and backward / multiple of the bare product "
        "`S = z @ z.T; S.backward(G)` (class losses: `z @ W.T`, 1000 classes) / peak memory over "
        "the inputs. Smallest of several rounds in which floor and losses took turns.",
        "## Aims",
        "\n".join(verdict(results)) or "All reached.",
    ]
    titles = {
        "one thread": "One thread, processor time",
        "two threads": "Two threads, wall time",
        "peer": "pytorch-metric-learning, one thread, processor time",
    }
    for kind, title in titles.items():
        for members in (4, 32):
            columns = {
                key: " x ".join(key.split("/")[1:3])
                for key in results
                if key.startswith(f"{kind}/") and key.endswith(f"/{members}")
            }
            if columns:
                names = [n for n in OURS if any(n in results[key] for key in columns)]
                rows = [(n, [cell(results[key][n]) for key in columns]) for n in names]
                if kind != "peer":
                    for floor in ("floor", "class floor"):
                        cells = [f"{results[key][floor]['ms']:.3g} ms" for key in columns]
                        rows.append((f"*{floor}*", cells))
                sections.append(f"## {title}, {members} a class")
                sections.append(table(rows, ["batch x width", *columns.values()]))
    return "\n\n".join(sections) + "\n"


def peer_version() -> str:
    """The peer with its version, or that it is missing."""
    try:
        import pytorch_metric_learning
    except ImportError:
        return "pytorch-metric-learning not installed"
    return f"pytorch-metric-learning {pytorch_metric_learning.__version__}"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two batch sizes, one width, no page")
    quick = parser.parse_args().quick
    results: dict[str, dict] = {}
    batches, widths = ((128, 512), (128,)) if quick else ((128, 512, 1024, 4096), (128, 512))
    for width in widths:
        for members in (4,) if quick else (4, 32):
            earlier: dict[str, dict] = {}
            for batch in batches:
                setting = Setting(batch, width, members)
                key = f"{batch}/{width}/{members}"
                rounds = {128: 30, 512: 12, 1024: 6, 4096: 2}[batch] // (4 if quick else 1)
                ours = measure_ours(setting, threads=1, rounds=rounds)
                results[f"one thread/{key}"] = ours
                for name in OURS:
                    print(key, name, cell(ours[name]), flush=True)
                if members == 4 and not quick:
                    rounds = max(rounds // 2, 1)
                    results[f"two threads/{key}"] = measure_ours(setting, threads=2, rounds=rounds)
                if (members == 4 or width == 128) and not (quick and batch > 128):
                    earlier = measure_peers(setting, ours, earlier)
                    results[f"peer/{key}"] = earlier
                    for name, entry in earlier.items():
                        print(key, "peer", name, cell(entry), flush=True)
    print("\n".join(verdict(results)) or "All aims reached.")
    if not quick:
        made = {"command": "python benchmarks/losses.py", "date": date.today().isoformat()}
        made |= {"machine": machine(), "peer": peer_version()}
        FOLDER.mkdir(parents=True, exist_ok=True)
        numbers = json.dumps({"made": made, "results": results}, indent=1, sort_keys=True)
        (FOLDER / "losses-speed.json").write_text(numbers + "\n")
        text = page(results, made["command"], made["peer"])
        (FOLDER / "losses-speed.md").write_text(text)


if __name__ == "__main__":
    main()
