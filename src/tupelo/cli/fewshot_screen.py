"""What the few-shot commands write: tasks, episodes per second, intervals, answers."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tupelo.cli.data_lines import show_data
from tupelo.cli.lines import Lines
from tupelo.data import BadItem, ImageData
from tupelo.data.listing import count_kinds
from tupelo.fewshot import FewShot, Running
from tupelo.recipes.fewshot import Result, Watcher
from tupelo.recipes.fewshot_classifying import Answers
from tupelo.recipes.fewshot_measuring import Scores
from tupelo.recipes.fewshot_recipe import GRAPHS, WITH_MARGIN, FewShotRecipe
from tupelo.training import Progress, Run

PLAIN_EVERY = 20  # seconds between lines of progress, where no line can be redrawn
RATED = 50  # steps over which episodes per second are taken
SHOWN_BAD = 5
SHOWN_QUERIES = 40
SHOWN_CLASSES = 3  # beside the answer
UNSURE = 0.5  # an answer with less is marked


class FewShotScreen(Lines, Watcher):
    """A watcher that writes; used as a context, which ends its live line.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._recipe: FewShotRecipe | None = None
        self._told_steps: set[float] = set()
        self._clock = time.monotonic()
        self._taken: list[tuple[float, int]] = []
        self._scored: tuple[float, int] | None = None

    @property
    def data(self) -> str:
        """What the commands read."""
        return "these pictures"

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""
        self._move(f"{stage.capitalize()} pictures", done, total)

    def read(self, data: ImageData, listed: Path) -> None:
        """The parts with their classes, and what was left out."""
        show_data(self, data, listed)

    def chosen(self, recipe: FewShotRecipe, model: FewShot, resumed: bool) -> None:
        """What will be trained how."""
        self._recipe = recipe
        weights = sum(p.numel() for p in model.parameters()) / 1e6
        self.line(f"method    {_method(recipe)}")
        self.line(f"encoder   {recipe.encoder}, {recipe.width} channels; {weights:.2f} M weights")
        queries = _count(recipe.queries or 1, "query", "queries")
        self.line(
            f"tasks     {recipe.layout}, {queries} a class; {recipe.validation_episodes:,} "
            f"episodes choose, {recipe.test_episodes:,} judge"
        )
        episodes = _count(recipe.per_batch or 1, "episode", "episodes")
        asked = "1 query" if recipe.method in GRAPHS else f"{recipe.train_queries} queries a class"
        self.line(
            f"training  {recipe.steps:,} steps of {episodes}, {recipe.train_ways}-way "
            f"{recipe.train_shots}-shot, {asked}; Adam from rate {recipe.lr:g}, halved every "
            f"{recipe.halve_every:,} steps"
        )
        if resumed:
            self.line("the run is there: continuing from its last checkpoint")
        self.line()
        self._clock = time.monotonic()

    def embedding(self, done: int, total: int) -> None:
        """Pictures to be judged by are embedded."""
        self._scored = None
        self._move("Embedding", done, total)

    def scoring(self, running: Running) -> None:
        """A live line with the interval so far."""
        now = time.monotonic()
        if self._scored is None:
            self._scored = (now, running.episodes)
        (then, earlier), rate = self._scored, ""
        if now > then and running.episodes > earlier:
            rate = f"   {(running.episodes - earlier) / (now - then):,.0f} episodes/s"
        told = f"{_percent(running.mean, running.interval)}{rate}"
        self._move("Episodes", running.episodes, running.planned, told)
        if running.episodes >= running.planned:
            self._scored = None
        elif not self.console.is_terminal and now - self._clock > PLAIN_EVERY:
            self._clock = now
            self.line(f"{running.episodes:,} of {running.planned:,} episodes  {told}")

    def training(self, progress: Progress) -> None:
        """A live line with episodes per second, and a lasting one for every validation."""
        recipe = self._recipe
        if recipe is None:
            return
        now, row = time.monotonic(), progress.row
        step, total = (
            (progress.epoch - 1) * recipe.evaluate_every + progress.batch,
            recipe.steps or 0,
        )
        self._taken = [*self._taken[-RATED:], (now, step)]
        (then, earlier), rate = self._taken[0], 0.0
        if now > then:
            rate = (step - earlier) * (recipe.per_batch or 1) / (now - then)
        loss = f"loss {row['loss']:.4f}  " if "loss" in row else ""
        speed = f"{rate:,.1f} episodes/s"
        self._move(f"Step {step:,} of {total:,}", step, total, f"{loss}{speed}")
        if "val/accuracy" in row:
            self._validated(row, speed if rate else "")
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
            best = f", best validation {_percent(run.best['accuracy'], run.best['interval'])}"
        self.line(f"trained {run.steps:,} steps in {run.seconds:,.0f} s{why}{best}\n")

    def _validated(self, row: Mapping[str, float | int], speed: str = "") -> None:
        if row["step"] in self._told_steps:
            return
        self._told_steps.add(row["step"])
        loss = f"loss {row['loss']:.4f}   " if "loss" in row else ""
        accuracy = _percent(row["val/accuracy"], row["val/interval"])
        self.line(f"step {row['step']:>7,.0f}   {loss}validation {accuracy}   {speed}".rstrip())

    def calibrating(self, done: int, total: int) -> None:
        """Temperatures are fitted."""
        self._move("Calibrating", done, total)

    def drawing(self, done: int, total: int) -> None:
        """A page is drawn."""
        self._move("Drawing the page", done, total)

    def result(self, result: Result) -> None:
        """Accuracy before and after, calibration, and what to do next."""
        if result.repeated:
            self.line("this run was finished before; these are its results\n")
        if result.after:
            after, before = result.after, result.before
            new = (
                "of classes that did not train"
                if result.part == "test"
                else "of validation classes"
            )
            self.line(
                f"[bold]{result.part}[/bold]: {after['episodes']:,} episodes {new}, "
                f"{result.recipe.layout}, with 95 % intervals"
            )
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            table.add_column("")
            for column in ("before training", "after", "change"):
                table.add_column(column, justify="right")
            change = 100 * (after["accuracy"] - before["accuracy"])
            style = "green" if change > 0 else "red"
            table.add_row(
                "accuracy",
                _percent(before["accuracy"], before["interval"]),
                _percent(after["accuracy"], after["interval"]),
                f"[{style}]{change:+.2f}[/]",
            )
            self.console.print(table)
            self._calibration(after)
        if result.calibration is None:
            self.line("no validation classes: probabilities are not calibrated")
        folder = escape(str(result.folder))
        self.line(
            f"run directory [bold]{folder}[/bold]: recipe.yaml, results.json, calibration.json, "
            "metrics.csv, model/"
        )
        self.line(f"next  tupelo fewshot classify {folder} --support FOLDER PICTURE...")
        self.line(f"      tupelo fewshot evaluate {folder} OTHER_PICTURES")

    def _calibration(self, scores: Scores) -> None:
        if "reliability" not in scores:
            return
        told = scores["reliability"]
        self.line(
            f"probabilities are off by {100 * told['after']['error']:.1f} % on average at "
            f"temperature {scores['temperature']:.3g}, which validation classes gave; without it "
            f"by {100 * told['before']['error']:.1f} % (expected calibration error)"
        )

    def judged(self, scores: Scores, out: Path, note: str) -> None:
        """What `tupelo fewshot evaluate` measured."""
        hidden = f", {scores['unlabelled']} of them without class" * bool(scores["unlabelled"])
        queries = _count(scores["queries"], "query", "queries")
        self.line(f"{scores['pictures']:,} pictures of {scores['classes']:,} classes")
        self.line(
            f"{scores['ways']}-way {scores['shots']}-shot{hidden}, {queries} a class: "
            f"[bold]{_percent(scores['accuracy'], scores['interval'])}[/bold] "
            f"(95 % interval over {scores['episodes']:,} episodes)"
        )
        self.line(
            f"{scores['episodes_per_second']:,.0f} episodes/s, after "
            f"{scores['embedding_seconds']:,.1f} s in which every picture was embedded once"
        )
        self._calibration(scores)
        if note:
            self.note(note)
        self.path("written", out)

    def answers(self, found: Answers) -> None:
        """An answer a picture, with its probability and the nearest support pictures."""
        support, queries = found.support, found.queries
        self._left_out("of the support", support.bad)
        self._left_out("of the pictures to classify", queries.bad)
        counts = sorted(support.counts.values())
        spread = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        self.line(
            f"support   {len(support.pictures):,} pictures of {len(counts)} classes, {spread} each"
        )
        self._temperature(found)
        known = [right for right in found.right if right is not None]
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        table.add_column(overflow="fold")
        signs = self._signs()
        for place, path in enumerate(queries.pictures.paths[:SHOWN_QUERIES]):
            (answer, p), *others = found.ranked(place)
            style = "bold" if p >= UNSURE else "yellow"
            sign = signs[found.right[place]]
            table.add_row(
                f"{sign}[{style}]{p:.2f}[/]", f"[{style}]{escape(answer)}[/]  {escape(path)}"
            )
            more = [f"{escape(name)} {q:.2f}" for name, q in others[:SHOWN_CLASSES] if q >= 0.005]
            if more:
                table.add_row("", f"[dim]else {', '.join(more)}[/dim]")
            near = [support.pictures.paths[row] for row, _ in found.near(place)]
            table.add_row("", f"[dim]near {escape(', '.join(near))}[/dim]")
        self.line()
        self.console.print(table)
        self.line()
        if len(queries.labels) > SHOWN_QUERIES:
            self.line(f"and {len(queries.labels) - SHOWN_QUERIES:,} more; --json prints all")
        if known:
            self.line(
                f"{sum(known):,} of {len(known):,} right "
                f"({100 * sum(known) / len(known):.1f} %), by the names of their folders"
            )
        for path, copy in zip(queries.pictures.paths, found.copies, strict=True):
            if copy:
                self.note(f"{path} is a copy of {copy} of the support, so its answer was known")

    def _temperature(self, found: Answers) -> None:
        fitted = found.fitted
        if fitted is None:
            self.line(
                f"temperature {found.temperature:g}, given"
                if found.given
                else "[yellow]probabilities are not calibrated[/yellow]: the run has no "
                "temperatures, which validation classes give"
            )
            return
        shots = _count(fitted.shots, "picture", "pictures")
        self.line(
            f"expect    {100 * fitted.accuracy:.0f} % right answers: so many were among "
            f"{fitted.ways} validation classes with {shots} each"
        )
        self.line(
            f"          probabilities were off by {100 * fitted.after:.1f} % there, before "
            f"calibration by {100 * fitted.before:.1f} %; temperature {found.temperature:.3g}"
        )

    def _left_out(self, which: str, bad: tuple[BadItem, ...]) -> None:
        if not bad:
            return
        self.line(f"[yellow]left out {len(bad):,} {which}[/yellow] ({escape(count_kinds(bad))})")
        for each in bad[:SHOWN_BAD]:
            self.line(f"  {escape(each.path)}: {escape(each.reason)}")
        if len(bad) > SHOWN_BAD:
            self.line(f"  and {len(bad) - SHOWN_BAD:,} more")

    def _signs(self) -> dict[bool | None, str]:
        utf = self.console.encoding.lower().startswith("utf")
        return {
            True: "[green]✓[/] " if utf else "+ ",
            False: "[red]✗[/] " if utf else "- ",
            None: "",
        }


def _method(recipe: FewShotRecipe) -> str:
    told = recipe.title
    if recipe.similarity:
        told += f", {recipe.similarity}"
    if recipe.scale:
        told += f" times {recipe.scale:g}"
    if recipe.context:
        told += ", full context embeddings"
    if recipe.method in WITH_MARGIN:
        told += f"; {recipe.margin_loss} margin {recipe.margin}, weight {recipe.margin_weight:g}"
    if recipe.answer_loss != "softmax":
        told += f", {recipe.answer_loss}"
    if recipe.unlabelled:
        told += f"; {recipe.unlabelled} of {recipe.shots} shots without class"
    return told


def _count(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _percent(mean: float, interval: float) -> str:
    """
    >>> _percent(0.9876, 0.0012)
    '98.76 ± 0.12 %'
    """
    return f"{100 * mean:.2f} ± {100 * interval:.2f} %"
