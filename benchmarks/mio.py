"""Exact metrics: brute force, presolve and trust region, solvers, and the alternating program.

    TUPELO_DATA=... python benchmarks/mio.py            # about 20 minutes, 2 idle cores
    TUPELO_DATA=... python benchmarks/mio.py --quick    # a minute, smallest sizes, no page

Two cells at a time, each on one thread; every exact solve has 30 seconds. Resumable; writes
docs/results/mio.md and mio.json.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from mio_cells import alternating, alternating_in_full, exact, rounds, theorem
from results import Page

WORKERS = 2
LIMIT = 30.0
SEEDS = (0, 1)
SIZES = {"iris": (75,), "wine": (89,), "wdbc": (100, 284)}
KAPPAS = (1.5, 2.0, 4.0, None)
ROUNDS = {"iris": 8, "wine": 8, "wdbc": 4}
COMPARED = (  # name, n, k, kappa: what several solvers and ways of writing are tried on
    ("iris", 75, 1, 4.0),
    ("iris", 75, 3, 2.0),
    ("iris", 75, 3, 4.0),
    ("wine", 89, 1, 1.5),
    ("wine", 89, 1, 2.0),
    ("wine", 89, 3, 1.5),
    ("wdbc", 100, 1, 1.5),
)
SOLVERS = ("highs", "scipy", "scip")
WRITTEN = {"radius": 0.0, "mixed": 2.0, "pairs": 1e9}  # pairs a row of a radius
SCALED = (
    ("waveform", (250, 500, 1000, 2000)),
    ("wdbc", (284, 569)),
    ("segment", (500, 2000)),
    ("satimage", (2000,)),
)
FULL_UP_TO = 300
FULL_LIMIT = 120.0


def cells(quick: bool) -> dict[str, tuple]:
    """Every cell, by key."""
    limit = 2.0 if quick else LIMIT
    sizes = {"iris": (40,)} if quick else SIZES
    seeds = SEEDS[:1] if quick else SEEDS
    found: dict[str, tuple] = {"theorem": (theorem, 2 if quick else 12, 14 if quick else 30)}
    for name, numbers in sizes.items():
        for n in numbers:
            for seed in seeds if n < 200 else seeds[:1]:
                for k in (1, 3):
                    for kappa in KAPPAS:
                        key = f"size/{name}-{n}/{k}/{kappa}/{seed}"
                        found[key] = (exact, name, n, seed, k, kappa, limit)
                    key = f"rounds/{name}-{n}/{k}/{seed}"
                    found[key] = (rounds, name, n, seed, k, limit, ROUNDS[name])
            if n < 200:
                for kappa in (1.5, None):
                    key = f"raw/{name}-{n}/{kappa}"
                    found[key] = (exact, name, n, 0, 1, kappa, limit, False)
    for name, n, k, kappa in COMPARED[:1] if quick else COMPARED:
        setting = f"{name}-{n}/{k}/{kappa}"
        for solver in SOLVERS:
            found[f"solver/{setting}/{solver}"] = (
                exact, name, n, 0, k, kappa, limit, True, solver,
            )  # fmt: skip
        for way, pairs in WRITTEN.items():
            found[f"written/{setting}/{way}"] = (
                exact, name, n, 0, k, kappa, limit, True, "highs", pairs,
            )  # fmt: skip
    for name, numbers in (("waveform", (100,)),) if quick else SCALED:
        for n in numbers:
            found[f"linear/{name}-{n}"] = (alternating, name, n, 0, 3)
            if n <= FULL_UP_TO:
                found[f"full/{name}-{n}"] = (alternating_in_full, name, n, 0, 3, FULL_LIMIT)
    return found


def write(page: Page, planned: Mapping[str, tuple]) -> None:
    """All tables of what is measured."""
    measured = {key: page.numbers["cells"][key] for key in planned}
    _write_theorem(page, measured["theorem"])
    _write_raw(page, measured)
    _write_sizes(page, measured)
    _write_rounds(page, measured)
    _write_solvers(page, measured)
    _write_ways(page, measured)
    _write_linear(page, measured)


def _write_theorem(page: Page, cell: Mapping) -> None:
    kinds = ("all k nearest", "majority")
    page.table(
        "Against brute force",
        "Random overlapping classes in the plane, two weights: the fewest errors of any weights by "
        "looking at every interval, against the optimum of Model E (k = 1 and 2; majority k = 1 "
        "and 3).",
        ["objective", "problems", "optima equal"],
        [[kind, cell[f"{kind}, problems"], cell[f"{kind}, equal"]] for kind in kinds],
    )


def _write_raw(page: Page, measured: Mapping) -> None:
    table = []
    for key in _keys(measured, "raw/"):
        _, name, kappa = key.split("/")
        if kappa != "None":
            continue
        for title, other in (
            ("neither", f"raw/{name}/None"),
            ("presolve", f"size/{name}/1/None/0"),
            ("trust region", f"raw/{name}/1.5"),
            ("both", f"size/{name}/1/1.5/0"),
        ):
            cell = measured[other]
            table.append([name, title, *_model(cell), *_answer(cell)])
    page.table(
        "Presolve and trust region against the raw model",
        "Model E with k = 1 around the Euclidean metric, HiGHS, the same limit for all. The trust "
        "region is a factor 1.5; it bounds what is looked for, so its optimum can be worse than "
        "that of the whole simplex, where that is found.",
        ["data", "with", "free points", "rows", "binaries", "seconds", "errors", "gap, points"],
        table,
    )


def _write_sizes(page: Page, measured: Mapping) -> None:
    table = []
    names = dict.fromkeys(tuple(key.split("/")[1:3]) for key in _keys(measured, "size/"))
    for name, k in names:
        row = [name, k]
        for kappa in KAPPAS:
            here = [measured[key] for key in _keys(measured, f"size/{name}/{k}/{kappa}/")]
            row += [
                " / ".join(_seconds(cell) for cell in here),
                " / ".join(_gap(cell) for cell in here),
            ]
        table.append([*row, measured[_keys(measured, f"size/{name}/{k}/")[0]]["d"]])
    header = [f"{'whole' if kappa is None else kappa}" for kappa in KAPPAS]
    page.table(
        "Size, factor of the region, time and gap",
        "One solve around the Euclidean metric, HiGHS, by factor kappa of the region and seed of "
        "the sample. Seconds with presolve, > where the limit was hit; gap: errors (points) that "
        "may still be saved by other weights of the region, 0 where it is proven that none are.",
        ["data", "k", *(f"{kappa}: {what}" for kappa in header for what in ("s", "gap")), "d"],
        table,
    )


def _write_rounds(page: Page, measured: Mapping) -> None:
    table = []
    for key in _keys(measured, "rounds/"):
        _, name, k, seed = key.split("/")
        cell = measured[key]
        table.append(
            [
                name,
                k,
                seed,
                " → ".join(map(str, cell["errors"])),
                f"{cell['objective']:.4f}",
                f"{cell['bound']:.4f}",
                cell["status"],
                cell["certificate"] or "none",
                f"{cell['proven rounds']} of {cell['rounds']}",
                f"{cell['time of LP']:.1f}",
                f"{cell['time']:.1f}",
            ]
        )
    page.table(
        "The whole method",
        "Errors of the Euclidean metric, of the alternating linear program, and of exact solves "
        "within a factor 1.5 (at most 8; wdbc 4). The certificate is the factor within which it "
        "is proven that no weights are better; without one the solves ended before.",
        [
            "data", "k", "seed", "errors", "objective", "bound", "status", "certificate",
            "rounds proven", "LP, s", "all, s",
        ],
        table,
    )  # fmt: skip


def _write_solvers(page: Page, measured: Mapping) -> None:
    table = []
    for setting in _settings(measured, "solver/"):
        here = [measured[f"solver/{setting}/{solver}"] for solver in SOLVERS]
        table.append(
            [
                *setting.split("/"),
                *(f"{_seconds(cell)}{_open(cell)}" for cell in here),
                *(f"{cell['objective']:.4f}" for cell in here),
            ]
        )
    page.table(
        "Solvers",
        "The same programs, seconds (in brackets the gap in points at the limit) and objective of "
        "the weights found.",
        ["data", "k", "kappa", *SOLVERS, *(f"objective, {solver}" for solver in SOLVERS)],
        table,
    )


def _write_ways(page: Page, measured: Mapping) -> None:
    table = []
    for setting in _settings(measured, "written/"):
        here = [measured[f"written/{setting}/{way}"] for way in WRITTEN]
        table.append(
            [
                *setting.split("/"),
                *(f"{_seconds(cell)}{_open(cell)}" for cell in here),
                *(cell["rows"] for cell in here),
            ]
        )
    page.table(
        "With a radius or in pairs",
        "HiGHS, seconds (in brackets the gap in points at the limit) where every point is written "
        "with a radius as in the specification, mixed as Tupelo does it, and all in pairs.",
        ["data", "k", "kappa", *WRITTEN, *(f"rows, {way}" for way in WRITTEN)],
        table,
    )


def _write_linear(page: Page, measured: Mapping) -> None:
    table = []
    for key in _keys(measured, "linear/"):
        name = key.split("/")[1]
        cell, full = measured[key], measured.get(f"full/{name}")
        row = [name, cell["d"], f"{cell['time']:.1f}", cell["rounds"], cell["rows"]]
        row += [f"{cell['objective euclid']:.5f}", f"{cell['objective']:.5f}", cell["status"]]
        if full is None:
            table.append([*row, "", "", "", ""])
            continue
        ended = "" if full["status"] == "converged" else f", {full['status']}"
        row += [f"{full['objective']:.5f}{ended}", full["rows"], f"{full['time']:.1f}"]
        firsts = [one["first program"] for one in (cell, full)]
        row.append(", ".join("none" if first is None else f"{first:.6f}" for first in firsts))
        table.append(row)
    page.table(
        "Alternating linear programs",
        "The soft model, k = 3, margin 1, diagonal atoms, one thread; beside it the same rounds "
        "with every row in every program, at sizes where that runs. Programs have several optimal "
        "vertices, from which rounds go on to different neighbours; the first program is the same "
        "for both.",
        [
            "data", "d", "seconds", "rounds", "rows", "Euclid", "objective", "status",
            "full: objective", "rows", "seconds", "optima of the first program",
        ],
        table,
    )  # fmt: skip


def _keys(measured: Mapping, prefix: str) -> list[str]:
    return [key for key in measured if key.startswith(prefix)]


def _settings(measured: Mapping, prefix: str) -> list[str]:
    """Of cells `prefix/data/k/kappa/variant`."""
    found = (key.removeprefix(prefix).rpartition("/")[0] for key in _keys(measured, prefix))
    return list(dict.fromkeys(found))


def _model(cell: Mapping) -> list:
    return [cell["free"], cell["rows"], cell["binaries"]]


def _answer(cell: Mapping) -> list[str]:
    return [_seconds(cell), f"{cell['errors euclid']} → {cell['errors']}", _gap(cell)]


def _seconds(cell: Mapping) -> str:
    limited = "> " if cell["status"] == "time_limit" else ""
    other = "" if cell["status"] in ("optimal", "time_limit") else f" {cell['status']}"
    return f"{limited}{cell['time']:.2g}{other}"


def _gap(cell: Mapping) -> str:
    """The gap in points: relative to the mean cost of a point."""
    if cell["status"] == "optimal":
        return "0"
    share = cell["objective"] - cell["bound"]
    return f"{share * cell['n']:.1f}"


def _open(cell: Mapping) -> str:
    return "" if cell["status"] == "optimal" else f" ({_gap(cell)})"


def main() -> None:
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="smallest sizes, no page")
    parser.add_argument("--only", default="", help="cells whose key begins so; no page is written")
    args = parser.parse_args()
    folder = {"folder": Path(mkdtemp())} if args.quick or args.only else {}
    page = Page("mio", "Exact metrics by mixed-integer optimisation", **folder)
    planned = cells(args.quick)
    page.all({k: v for k, v in planned.items() if k.startswith(args.only)}, WORKERS)
    if args.only:
        return
    write(page, planned)
    page.write("python benchmarks/mio.py", (0,) if args.quick else SEEDS)
    if args.quick:
        print(page.path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
