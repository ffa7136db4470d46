"""ODML and MIO on tables: the published protocol, every UCI set beside peers, ablations.

    make peers-tabular                                 # once: metric-learn, in its own environment
    TUPELO_DATA=... python benchmarks/tabular.py           # about 40 minutes, 2 idle cores
    TUPELO_DATA=... python benchmarks/tabular.py --quick   # two splits of two sets, no page
    TUPELO_DATA=... python benchmarks/tabular.py --write   # only write the page anew

Metrics see training halves only; gamma is chosen by cross-validation on them. Resumable; writes
docs/results/tabular.md, tabular.json and tabular-ranks.svg.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

import tabular_ablations as ablations
import tabular_cells as measured
import tabular_data as data
from results import Page
from tabular_tables import write

WORKERS = 2
TITLE = "Tables: ODML and MIO"
QUICK_PROTOCOL, QUICK_SETS = ("iris", "balance"), ("zoo", "wine")


def protocol(sets: Iterable[str], splits: int | None = None) -> dict[str, tuple]:
    """Cells of the published protocol."""
    return {
        f"protocol/{name}/{method}": (measured.protocol, name, options, splits)
        for name in sets
        for method, options in measured.LAYERS.items()
    }


def grid(sets: Iterable[str], splits: int | None = None) -> dict[str, tuple]:
    """Cells of all methods on all tables, and of Model E on small samples."""
    found: dict[str, tuple] = {}
    for name in sets:
        for method in measured.METHODS:
            found[f"grid/{name}/{method}"] = (measured.grid, name, method, splits)
        if data.width_of(name) <= measured.COUNT_WIDTH:
            found[f"count/{name}"] = (measured.count, name)
    return found


def ablation(sets: Iterable[str], splits: int | None = None) -> dict[str, tuple]:
    """Cells of what parts of ODML do."""
    found: dict[str, tuple] = {}
    for name in sets:
        found[f"depth/{name}"] = (ablations.depth, name, splits)
        for kind in ablations.ACTIVATIONS:
            found[f"activation/{name}/{kind}"] = (ablations.activation, name, kind, splits)
        for kind in ablations.STRATEGIES:
            found[f"strategy/{name}/{kind}"] = (ablations.strategy, name, kind, splits)
        for n in ablations.SCANS:
            found[f"scans/{name}/{n}"] = (ablations.scans, name, n, splits)
    for name in ablations.ROOTED if splits is None else sets:
        for kind in ablations.ROOTS:
            found[f"root/{name}/{kind}"] = (ablations.root, name, kind, splits)
    for name in (*sets, "breast", "pima"):
        for sort in (False, True):
            found[f"order/{name}/{sort}"] = (ablations.order, name, sort, splits)
    return found


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two splits of two sets, no page")
    parser.add_argument("--write", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    if options.quick:
        page = Page("tabular", TITLE, Path(mkdtemp()))
        page.all(protocol(QUICK_PROTOCOL, 2), WORKERS)
        page.all(grid(QUICK_SETS, 2), WORKERS)
        page.all(ablation(("balance",), 2), WORKERS)
        write(page, QUICK_PROTOCOL, QUICK_SETS, ("balance",), page.path.parent)
        print(page.path.with_suffix(".md"))
        return
    page = Page("tabular", TITLE)
    sets = data.names()
    if not options.write:
        page.all(protocol(data.PROTOCOL), WORKERS)
        page.all(ablation(ablations.SETS), WORKERS)
        page.all(grid(sets), WORKERS)
    write(page, data.PROTOCOL, sets, ablations.SETS, page.path.parent)


if __name__ == "__main__":
    main()
