"""What the commands write: summaries, a live line, tables; plain lines where no terminal is."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tupelo.cli.data_lines import show_data
from tupelo.cli.lines import Lines
from tupelo.data import BadItem, ImageData, ImageSet
from tupelo.data.listing import count_kinds
from tupelo.inference import Embeddings, Evaluation
from tupelo.models import Embedder, Ensemble
from tupelo.recipes.engines import MembersProgress
from tupelo.recipes.recipe import RetrievalRecipe
from tupelo.recipes.retrieval import Found, Result, Watcher
from tupelo.training import Progress as Trained
from tupelo.training import Run

SCORES = {
    "recall@1": "Recall@1",
    "recall@2": "Recall@2",
    "recall@4": "Recall@4",
    "recall@8": "Recall@8",
    "r_precision": "R-precision",
    "map@r": "MAP@R",
    "nmi": "NMI",
    "ami": "AMI",
}
ALIKE = {
    "correlation": "mean absolute correlation",
    "self_cosine": "cosine of two learners on one picture",
}
LEARNERS_SHOWN = 12  # of more, the two weakest and the two best
Scores = Mapping[str, float | int]
PLAIN_EVERY = 20  # seconds between lines of progress, where no line can be redrawn


class Screen(Lines, Watcher):
    """A watcher that writes; used as a context, which ends its live line.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._data: ImageData | None = None
        self._batch = 0
        self._steps = 0
        self._members_done = 0
        self._told_rows: set[float] = set()
        self._clock = time.monotonic()
        self._taken: list[tuple[float, int]] = []

    @property
    def data(self) -> str:
        """What the commands for pictures read."""
        return "these pictures"

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""
        self._move(f"{stage.capitalize()} pictures", done, total)

    def working(self, stage: str, done: int, total: int) -> None:
        """Files are fetched, compared, unpacked or looked at."""
        self._move(stage[:1].upper() + stage[1:], done, total)

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be measured are embedded."""
        self._move("Embedding", done, total)

    def drawing(self, done: int, total: int) -> None:
        """The report is drawn."""
        self._move("Drawing the report", done, total)

    def read(self, data: ImageData, listed: Path) -> None:
        """The parts with their classes, and what was left out."""
        self._data = data
        show_data(self, data, listed)

    def chosen(self, recipe: RetrievalRecipe, model: Embedder | Ensemble, resumed: bool) -> None:
        """What will be trained how."""
        weights = sum(p.numel() for p in model.parameters()) / 1e6
        start = "published weights" if recipe.pretrained else recipe.weights or "random weights"
        self.line(
            f"model      {recipe.backbone}, {weights:.1f} M weights, from {escape(start)}, to "
            f"{recipe.dim} dimensions"
        )
        pulled = f", positives {recipe.positives}" if recipe.positives else ""
        pushed = f", negatives {recipe.negatives}" if recipe.negatives else ""
        kept = f", memory of {recipe.memory:,}" if recipe.memory else ""
        drawn = ", tuples as they are drawn" if recipe.batches != "classes" else ""
        if _classifies(recipe):
            self.line("objective  classification of meta-classes, merged at random")
        else:
            self.line(f"objective  {recipe.loss}{pulled}{pushed}{drawn}{kept}")
        if recipe.ensemble != "none":
            self.line(f"ensemble   {_ensemble(recipe)}")
        if recipe.synthesis != "none":
            self.line(f"synthesis  {_synthesis(recipe)}")
        length = f"{recipe.epochs} epochs" if recipe.steps is None else f"{recipe.steps} steps"
        self._batch = recipe.batch_size
        self._steps = recipe.steps or 0
        self._clock = time.monotonic()
        drawn = f"{recipe.classes} classes x {recipe.per_class}"
        if _classifies(recipe):
            drawn = f"{recipe.ensemble_options.get('batch', 128)}, for each learner"
        if recipe.batches == "pairs":
            drawn = f"{recipe.classes} pairs"
        if recipe.batches == "triplets":
            drawn = f"{recipe.batch_size // 3} triplets of {recipe.classes} classes"
        self.line(
            f"training   {length} of batches of {drawn}, {recipe.optimizer} from rate {recipe.lr:g}"
        )
        if not (recipe.pretrained or recipe.weights) and recipe.backbone != "convnet":
            self.line("[dim]--pretrained would start from published weights (a download)[/dim]")
        for advice in recipe.advice:
            self.line(f"[yellow]note[/yellow] {escape(advice)}")
        if resumed:
            self.line("the run is there: continuing from its last checkpoint")
        self.line()

    def training(self, progress: Trained) -> None:
        """A live line, and a lasting one for every evaluation."""
        now = time.monotonic()
        row = progress.row
        step = self._steps_done(progress)
        self._taken = [*self._taken[-50:], (now, step)]
        (then, earlier), rate = self._taken[0], 0.0
        if now > then:
            rate = (step - earlier) * self._batch / (now - then)
        total = progress.epochs * progress.batches or self._steps
        of = f" of {progress.epochs}" if progress.epochs else ""
        loss = f"loss {row['loss']:.4f}  " if "loss" in row else ""
        self._move(f"Epoch {progress.epoch}{of}", step, total, f"{loss}{rate:,.0f} images/s")
        if "val/map@r" in row:
            self._evaluated(row)
        if not self.console.is_terminal and rate and now - self._clock > PLAIN_EVERY:
            self._clock = now
            left = (total - step) * (now - then) / max(1, step - earlier)
            self.line(
                f"epoch {progress.epoch}{of}, step {step} of {total}  {loss}{rate:,.0f} images/s, "
                f"{left:,.0f} s left"
            )

    def members(self, progress: MembersProgress) -> None:
        """A live line of the member that trains here; a lasting one for each that is finished."""
        if progress.training is not None:
            self._move(
                f"Learner {(progress.member or 0) + 1} of {progress.total}",
                self._steps_done(progress.training),
                progress.training.epochs * progress.training.batches or self._steps,
            )
        elif progress.done > self._members_done:
            self._members_done = progress.done
            self.line(f"{progress.done} of {progress.total} learners are trained")

    def trained(self, run: Run) -> None:
        """The last evaluation, which no further step reports."""
        for row in run.history[-1:]:
            if "val/map@r" in row:
                self._evaluated(row)
        why = " (validation no longer improved)" if run.stopped == "patience" else ""
        best = f", best validation MAP@R {run.best['map@r']:.4f}" if run.best else ""
        self.line(f"trained {run.steps:,} steps in {run.seconds:,.0f} s{why}{best}\n")

    def _steps_done(self, progress: Trained) -> int:
        return (progress.epoch - 1) * progress.batches + progress.batch

    def _evaluated(self, row: Scores) -> None:
        if row["step"] in self._told_rows:
            return
        self._told_rows.add(row["step"])
        loss = f"loss {row['loss']:.4f}   " if "loss" in row else ""
        self.line(
            f"epoch {row['epoch']:>3.0f}   {loss}validation MAP@R {row['val/map@r']:.4f}   "
            f"Recall@1 {row['val/recall@1']:.4f}"
        )

    def result(self, result: Result) -> None:
        """The table before and after, neighbours, and what to do next."""
        if result.repeated:
            self.line("this run was finished before; these are its results\n")
        judged = self._data and (self._data.test or self._data.validation)
        if self._data and judged:
            new = set(judged.class_names).isdisjoint(self._data.train.class_names)
            kind = "none of which trained" if new else "which also trained"
            gallery = self._data.gallery if self._data.test else None
            whom = "all others" if gallery is None else f"the {len(gallery):,} of the gallery"
            self.line(
                f"[bold]{result.part}[/bold]: {len(judged):,} pictures of {judged.n_classes:,} "
                f"classes, {kind}; each picture searches {whom}"
            )
            self.console.print(_before_and_after(result.before, result.after))
            without = result.after.get("n_unmatched", 0)
            if without:
                self.line(f"{without:,} without a match are left out")
            self._learners(result.learners)
            self._warn_collapse(result.after)
        if result.found:
            self.line("nearest neighbours after training, with cosine similarity")
            self.console.print(self._neighbours(result.found))
        folder = escape(str(result.folder))
        self.line(
            f"run directory [bold]{folder}[/bold]: recipe.yaml, results.json, metrics.csv, model/"
        )
        self.line(f"next  tupelo embed {folder} PICTURES --out embeddings.npz")
        self.line(f"      tupelo evaluate {folder} OTHER_PICTURES")

    def report(self, report: Evaluation, pictures: ImageSet, note: str) -> None:
        """Scores of one evaluation."""
        scores = report.as_dict()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("score")
        table.add_column("", justify="right")
        for k, recall in report.retrieval.recall.items():
            table.add_row(f"Recall@{k}", f"{recall:.4f}")
        for name, shown in SCORES.items():
            if name in scores and not name.startswith("recall@"):
                table.add_row(shown, f"{scores[name]:.4f}")
        self.line(f"{len(pictures):,} pictures of {pictures.n_classes:,} classes")
        self.console.print(table)
        self._learners({} if report.learners is None else report.learners.as_dict())
        counts = f"{scores['n_queries']:,} queries in a gallery of {scores['n_gallery']:,}"
        without = scores["n_unmatched"]
        self.line(counts + (f"; {without:,} without a match are left out" if without else ""))
        self._warn_collapse(scores)
        if note:
            self.line(f"[yellow]note[/yellow] {escape(note)}")

    def _learners(self, measured: Mapping[str, Any]) -> None:
        """The learners of an ensemble, of many the weakest and the best."""
        if not measured:
            return
        self.line(f"the {len(measured['alone'])} learners by themselves")
        self.console.print(_of_learners(measured))
        alike = [
            f"{shown} {measured[name]:.4f}" for name, shown in ALIKE.items() if name in measured
        ]
        if alike:
            self.line(f"how alike they are: {', '.join(alike)}")

    def written(self, out: Path, embedded: Embeddings, bad: tuple[BadItem, ...]) -> None:
        """What `tupelo embed` wrote."""
        n, dim = embedded.z.shape
        left = f", left out {len(bad):,} ({count_kinds(bad)})" if bad else ""
        self.line(
            f"[bold]{escape(str(out))}[/bold]: {n:,} unit rows of {dim} numbers{escape(left)}"
        )

    def _warn_collapse(self, scores: Scores) -> None:
        if scores.get("collapsed"):
            self.line(
                "[red]the embedding has collapsed: all pictures are mapped to one point[/red]"
            )

    def _neighbours(self, found: list[Found]) -> Table:
        utf = self.console.encoding.lower().startswith("utf")
        signs = {True: "✓" if utf else "+", False: "✗" if utf else "-"}
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
        table.add_column("query", overflow="fold")
        for place in range(max(len(one.paths) for one in found)):
            table.add_column(str(place + 1), overflow="fold")
        for one in found:
            cells = [
                f"{'[green]' if right else '[red]'}{signs[right]}[/] {escape(label)} "
                f"{similarity:.3f}\n[dim]{escape(Path(path).name)}[/dim]"
                for path, label, similarity, right in zip(
                    one.paths, one.labels, one.similarity, one.right, strict=True
                )
            ]
            table.add_row(f"{escape(one.label)}\n[dim]{escape(Path(one.query).name)}[/dim]", *cells)
        return table


def _of_learners(measured: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("learner")
    for column in ("width", "Recall@1", "MAP@R"):
        table.add_column(column, justify="right")

    def row(name: str, width: str, recall: float, map_at_r: float, style: str = "") -> None:
        table.add_row(name, width, f"{recall:.4f}", f"{map_at_r:.4f}", style=style)

    alone = list(enumerate(measured["alone"], 1))
    if len(alone) > LEARNERS_SHOWN:
        ordered = sorted(alone, key=lambda one: one[1]["recall@1"])
        alone = sorted([*ordered[:2], *ordered[-2:]], key=lambda one: one[0])
    for number, one in alone:
        row(str(number), str(one["width"]), one["recall@1"], one["map@r"])
    row("mean", "", measured["mean_recall@1"], measured["mean_map@r"], "dim")
    whole = sum(one["width"] for one in measured["alone"])
    row("together", str(whole), measured["recall@1"], measured["map@r"], "bold")
    return table


def _classifies(recipe: RetrievalRecipe) -> bool:
    """Whether learners train apart on meta-classes, without the loss of the recipe."""
    return recipe.ensemble == "dreml" and recipe.ensemble_options.get("learns") != "recipe"


def _ensemble(recipe: RetrievalRecipe) -> str:
    """How many learners of which kind, with which options."""
    kinds = {
        "abe": "with attention masks of their own",
        "heads": "with heads of their own",
        "bier": "boosted, each some of the dimensions",
        "dreml": "that are networks of their own, on random meta-classes",
    }
    text = f"{recipe.ensemble}, {recipe.learners} learners {kinds[recipe.ensemble]}"
    more = ", ".join(f"{name}={value}" for name, value in recipe.ensemble_options.items())
    return escape(f"{text}; {more}" if more else text)


def _synthesis(recipe: RetrievalRecipe) -> str:
    """What is made, from when on, and with which options."""
    options = dict(recipe.synthesis_options)
    if recipe.synthesis == "iaa":
        begun = options.pop("start_after", 0)
        text = f"iaa, further members of each class, after epoch {begun}"
    else:
        text = "hdml, harder negatives"
        if steps := options.pop("calibrate", 0):
            text += f", alpha and beta found in {steps} steps"
        if recipe.batch_norm:
            text += ", batch normalisation before the last layer"
    more = ", ".join(f"{name}={value}" for name, value in options.items())
    return escape(f"{text}; {more}" if more else text)


def _before_and_after(before: Scores, after: Scores) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("score")
    for column in ("before training", "after", "change"):
        table.add_column(column, justify="right")
    for name, shown in SCORES.items():
        if name in before and name in after:
            change = after[name] - before[name]
            style = "green" if change > 0 else "red" if change < 0 else ""
            table.add_row(
                shown,
                f"{before[name]:.4f}",
                f"{after[name]:.4f}",
                f"[{style}]{change:+.4f}[/]" if style else f"{change:+.4f}",
            )
    return table
