"""What `tupelo tvae train` writes: the model, triplets and ELBO before and after."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tupelo.cli.data_lines import show_data
from tupelo.cli.lines import Lines
from tupelo.data import ImageData
from tupelo.models import VAE
from tupelo.recipes.tvae import Result, Watcher
from tupelo.recipes.tvae_recipe import TvaeRecipe
from tupelo.training import Progress, Run

PLAIN_EVERY = 20  # seconds between lines of progress, where no line can be redrawn
RATED = 50  # steps over which triplets per second are taken
SCORES = {  # name, whether lower is better
    "triplet_accuracy": ("triplet accuracy", False),
    "negative_elbo": ("-ELBO, nats", True),
    "reconstruction": ("  reconstruction", True),
    "kl": ("  divergence", None),
    "recall@1": ("Recall@1", False),
    "map@r": ("MAP@R", False),
}


class TvaeScreen(Lines, Watcher):
    """A watcher that writes; used as a context, which ends its live line.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._per_step = 1
        self._told_steps: set[float] = set()
        self._clock = time.monotonic()
        self._taken: list[tuple[float, int]] = []

    @property
    def data(self) -> str:
        """What the command reads."""
        return "these pictures"

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""
        self._move(f"{stage.capitalize()} pictures", done, total)

    def read(self, data: ImageData, listed: Path) -> None:
        """The parts with their classes, and what was left out."""
        show_data(self, data, listed)

    def chosen(self, recipe: TvaeRecipe, model: VAE, resumed: bool) -> None:
        """What will be trained how."""
        weights = sum(p.numel() for p in model.parameters()) / 1e6
        hidden = f", {recipe.hidden} hidden units" if recipe.hidden else ""
        self.line(f"method    {recipe.title}")
        self.line(
            f"model     {recipe.model}{hidden}, codes of {recipe.dim}; {weights:.2f} M weights"
        )
        self.line(
            f"loss      {recipe.weight_vae:g} ELBO ({recipe.reconstruction}) + "
            f"{recipe.weight_triplet:g} triplets, margin {recipe.margin:g} + "
            f"{recipe.weight_regulariser:g} norms"
        )
        anew = "drawn anew for every epoch" if recipe.fresh else "drawn once"
        known = f", of {100 * recipe.labelled:g} % of the pictures" if recipe.labelled < 1 else ""
        self.line(
            f"training  {recipe.epochs} epochs of {recipe.triplets:,} triplets {anew}{known}, "
            f"{recipe.batch} a step; Adam at rate {recipe.lr:g}, {recipe.schedule}"
        )
        if resumed:
            self.line("the run is there: continuing from its last checkpoint")
        self.line()
        self._per_step = recipe.batch
        self._clock = time.monotonic()

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""
        self._move("Embedding", done, total)

    def drawing(self, done: int, total: int) -> None:
        """The report is drawn."""
        self._move("Drawing the report", done, total)

    def training(self, progress: Progress) -> None:
        """A live line with triplets per second, and a lasting one for every validation."""
        now, row = time.monotonic(), progress.row
        step = (progress.epoch - 1) * progress.batches + progress.batch
        total = progress.epochs * progress.batches
        self._taken = [*self._taken[-RATED:], (now, step)]
        (then, earlier), rate = self._taken[0], 0.0
        if now > then:
            rate = (step - earlier) * self._per_step / (now - then)
        loss = f"loss {row['loss']:.4f}  " if "loss" in row else ""
        speed = f"{rate:,.0f} triplets/s"
        self._move(f"Epoch {progress.epoch} of {progress.epochs}", step, total, f"{loss}{speed}")
        if "val/accuracy" in row:
            self._validated(row)
        if not self.console.is_terminal and rate and now - self._clock > PLAIN_EVERY:
            self._clock = now
            left = (total - step) * (now - then) / max(1, step - earlier)
            self.line(f"step {step:,} of {total:,}  {loss}{speed}, {left:,.0f} s left")

    def trained(self, run: Run) -> None:
        """The last validation, which no further step reports."""
        for row in run.history[-1:]:
            if "val/accuracy" in row:
                self._validated(row)
        why = " (validation no longer improved)" if run.stopped == "patience" else ""
        best = ""
        if "accuracy" in run.best:
            best = (
                f"; the best weights are kept: validation triplet accuracy "
                f"{100 * run.best['accuracy']:.2f} %, -ELBO {run.best['negative_elbo']:.2f}"
            )
        self.line(f"trained {run.steps:,} steps in {run.seconds:,.0f} s{why}{best}\n")

    def _validated(self, row: Mapping[str, float | int]) -> None:
        if row["step"] in self._told_steps:
            return
        self._told_steps.add(row["step"])
        loss = f"loss {row['loss']:.4f}   " if "loss" in row else ""
        self.line(
            f"epoch {row['epoch']:>3.0f}   {loss}validation triplet accuracy "
            f"{100 * row['val/accuracy']:.2f} %   -ELBO {row['val/negative_elbo']:.2f}"
        )

    def result(self, result: Result) -> None:
        """Scores before and after, and what to do next."""
        if result.repeated:
            self.line("this run was finished before; these are its results\n")
        if result.after:
            after, before = result.after, result.before
            error = 100 * float(after["triplet_accuracy_error"])
            self.line(
                f"[bold]{result.part}[/bold]: {after['n_triplets']:,} triplets of "
                f"{after['n_queries']:,} pictures, standard error {error:.2f} points; nearest "
                "neighbours by the cosine of means"
            )
            self.console.print(_table(before, after))
        folder = escape(str(result.folder))
        self.line(
            f"run directory [bold]{folder}[/bold]: recipe.yaml, triplets.csv, results.json, "
            "metrics.csv, model/"
        )
        self.line(f"next  tupelo embed {folder} PICTURES --out embeddings.npz")
        self.line(f"      tupelo index {folder} PICTURES && tupelo search {folder} QUERY")


def _table(before: Mapping[str, float | int], after: Mapping[str, float | int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("score")
    for column in ("before training", "after", "change"):
        table.add_column(column, justify="right")
    for name, (shown, lower) in SCORES.items():
        if name not in before or name not in after:
            continue
        change = after[name] - before[name]
        style = ""
        if lower is not None and change:
            style = "green" if (change < 0) == lower else "red"
        digits = 2 if name in ("negative_elbo", "reconstruction", "kl") else 4
        told = f"{change:+.{digits}f}"
        table.add_row(
            shown,
            f"{before[name]:.{digits}f}",
            f"{after[name]:.{digits}f}",
            f"[{style}]{told}[/]" if style else told,
        )
    return table
