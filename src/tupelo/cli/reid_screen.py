"""What `tupelo reid` writes: crops by identity, training, CMC and mAP before and after."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tupelo.cli.lines import Lines
from tupelo.data.listing import count_kinds
from tupelo.models import Embedder
from tupelo.recipes.reid import Result, Watcher
from tupelo.recipes.reid_building import ReidData
from tupelo.recipes.reid_judging import Judged
from tupelo.recipes.reid_recipe import ReidRecipe
from tupelo.training import Progress, Run

PLAIN_EVERY = 20  # seconds between lines of progress, where no line can be redrawn
SCORES = {
    "rank-1": "rank-1",
    "rank-5": "rank-5",
    "rank-10": "rank-10",
    "map": "mAP",
    "map_trapezoid": "mAP, trapezoid",
}
RULE_OFF = (
    "cameras are not known, so the same-camera rule is off: a query may be answered by the picture "
    "taken just before it"
)


class ReidScreen(Lines, Watcher):
    """A watcher that writes; used as a context, which ends its live line.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._told_steps: set[float] = set()
        self._clock = time.monotonic()

    @property
    def data(self) -> str:
        """What the command reads."""
        return "these crops"

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""
        self._move(f"{stage.capitalize()} crops", done, total)

    def read(self, data: ReidData, listed: Path) -> None:
        """The parts with their identities, and what was left out."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("part", "crops", "identities"):
            table.add_column(column, justify="left" if column == "part" else "right")
        parts = {
            "train": data.train,
            "validation": data.validation,
            "query": data.query,
            "gallery": data.gallery,
        }
        for name, side in parts.items():
            if side is not None:
                table.add_row(name, f"{len(side):,}", f"{side.n_classes:,}")
        self.console.print(table)
        height, width = data.train.size
        self.line(f"crops squeezed to {height} x {width} pixels")
        if data.skipped:
            self.note(
                f"skipped {data.skipped:,} identities of the training part with a single crop, "
                "which has no pair"
            )
        if data.bad:
            self.line(
                f"[yellow]left out {len(data.bad):,}[/yellow] ({escape(count_kinds(data.bad))}), "
                f"listed in {escape(str(listed))}"
            )
        for note in data.notes:
            self.note(note)
        if data.cameras["train"] is None:
            self.note(RULE_OFF)

    def chosen(self, recipe: ReidRecipe, model: Embedder, resumed: bool) -> None:
        """What will be trained how."""
        weights = sum(p.numel() for p in model.parameters()) / 1e6
        self.line(f"model     {recipe.network}, rows of {recipe.dim}; {weights:.2f} M weights")
        self.line(f"loss      {recipe.title}")
        again = ""
        if recipe.shifted:
            again = f", and {100 * recipe.shifted:g} % of them again off their object"
        self.line(
            f"training  {recipe.epochs} epochs, {recipe.identities} identities x "
            f"{recipe.per_identity} crops a step{again}; Adam at rate {recipe.lr:g}, "
            f"{recipe.schedule}"
        )
        if resumed:
            self.line("the run is there: continuing from its last checkpoint")
        self.line()
        self._clock = time.monotonic()

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""
        self._move("Embedding", done, total)

    def training(self, progress: Progress) -> None:
        """A live line, and a lasting one for every validation."""
        row = progress.row
        step = (progress.epoch - 1) * progress.batches + progress.batch
        total = progress.epochs * progress.batches
        loss = f"loss {row['loss']:.4f}" if "loss" in row else ""
        self._move(f"Epoch {progress.epoch} of {progress.epochs}", step, total, loss)
        if "val/map" in row:
            self._validated(row)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._clock > PLAIN_EVERY:
            self._clock = now
            self.line(f"step {step:,} of {total:,}  {loss}")

    def trained(self, run: Run) -> None:
        """The last validation, which no further step reports."""
        for row in run.history[-1:]:
            if "val/map" in row:
                self._validated(row)
        why = " (validation no longer improved)" if run.stopped == "patience" else ""
        best = ""
        if "map" in run.best:
            best = f", best validation mAP {100 * run.best['map']:.2f} %"
        self.line(f"trained {run.steps:,} steps in {run.seconds:,.0f} s{why}{best}\n")

    def _validated(self, row: Mapping[str, float | int]) -> None:
        if row["step"] in self._told_steps:
            return
        self._told_steps.add(row["step"])
        loss = f"loss {row['loss']:.4f}   " if "loss" in row else ""
        self.line(
            f"epoch {row['epoch']:>3.0f}   {loss}validation mAP {100 * row['val/map']:.2f} %   "
            f"single-shot rank-1 {100 * row['val/rank-1']:.2f} %"
        )

    def result(self, result: Result) -> None:
        """Scores before and after, distances, and what to do next."""
        if result.repeated:
            self.line("this run was finished before; these are its results\n")
        after = result.after
        self.line(
            f"[bold]{result.part}[/bold]: {after['n_queries']:,} queries, "
            f"{after['n_gallery']:,} pictures to search{_unmatched(after)}"
        )
        self.console.print(_table(result.before, after))
        known = result.calibration
        self.line(
            f"distances  of one identity 95 % within {known.same_distance:.3f}, of two 1 % within "
            f"{known.far_distance:.3f} (held out: {known.genuine:,} and {known.impostor:,} pairs)"
        )
        folder = escape(str(result.folder))
        self.line(
            f"run directory [bold]{folder}[/bold]: recipe.yaml, results.json, metrics.csv, "
            "calibration.json, model/"
        )
        self.line(f"next  tupelo track SEQUENCE --embedder {folder}")

    def judged(self, judged: Judged) -> None:
        """Scores of other crops."""
        found = judged.as_dict()
        self.line(
            f"{found['n_queries']:,} queries, {found['n_gallery']:,} pictures to search"
            f"{_unmatched(found)}"
        )
        if not judged.report.cameras:
            self.note(RULE_OFF)
        if judged.report.collapsed:
            self.note("the embedding has collapsed: these numbers mean nothing")
        for name, shown in SCORES.items():
            if name in found:
                self.line(f"{shown:<15} {100 * found[name]:6.2f} %")


def _unmatched(scores: Mapping[str, Any]) -> str:
    n = scores["n_unmatched"]
    return f"; {n:,} queries without a match are not counted" if n else ""


def _table(before: Mapping[str, float | int], after: Mapping[str, float | int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("%")
    for column in ("before training", "after", "change"):
        table.add_column(column, justify="right")
    for name, shown in SCORES.items():
        if name in before and name in after:
            change = 100 * (after[name] - before[name])
            style = "green" if change > 0 else "red"
            told = f"[{style}]{change:+.2f}[/]" if change else f"{change:+.2f}"
            table.add_row(shown, f"{100 * before[name]:.2f}", f"{100 * after[name]:.2f}", told)
    return table
