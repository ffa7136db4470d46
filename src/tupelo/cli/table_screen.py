"""What the commands for tables write; no network is needed for it, so torch is not loaded."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from tupelo.cli.lines import Lines
from tupelo.recipes.asking import Asked
from tupelo.recipes.comparing import BASE, Compared, CompareProgress
from tupelo.recipes.tabular import Fitted

SOLVING = "tupelo.tabular.optimal"
WEIGHTS = 8  # features shown, the heaviest first
QUESTIONS = 20


class TableScreen(Lines):
    """Written by `tupelo tabular`."""

    @property
    def data(self) -> str:
        """What the commands for tables read."""
        return "this table"

    def stage(self, what: str) -> None:
        """Something without a known length begins."""
        self._live.update(
            self._task, description=what.capitalize(), total=None, more="", visible=True
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """What a solver logs while it works is shown on the live line."""
        logger = logging.getLogger(SOLVING)
        level, handler = logger.level, _OnLine(self._tell)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _tell(self, text: str) -> None:
        self._live.update(self._task, more=text)

    def at_rest(self) -> None:
        """Nothing is at work."""
        self._live.update(self._task, visible=False)

    def comparing(self, progress: CompareProgress) -> None:
        """A split was measured."""
        self._move("Comparing", progress.done, progress.total, progress.method)

    def notes(self, notes: Sequence[str]) -> None:
        """Sentences to mind."""
        for each in notes:
            self.note(each)

    def fitted(self, fitted: Fitted, out: Path, weights: Sequence[tuple[str, float]]) -> None:
        """Accuracy before and after, the heaviest features, what to do next."""
        self.at_rest()
        metric, about = fitted.metric, fitted.metric.about
        n, d = len(fitted.y), fitted.X.shape[1] - bool(metric.columns.constant)
        self.line(
            f"[bold]{escape(str(about['table']))}[/bold]: {n:,} rows, {d:,} features, "
            f"{len(metric.classes)} classes in column {escape(metric.target)}"
        )
        self.notes(fitted.notes)
        if fitted.before is not None and fitted.after is not None:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            table.add_column(f"{about['k']} nearest neighbours, {fitted.held_out:,} held-out rows")
            for column in ("Euclidean", str(about["method"]), "change"):
                table.add_column(column, justify="right")
            change = fitted.after - fitted.before
            style = "green" if change > 0 else "red" if change < 0 else "dim"
            table.add_row(
                "classified right",
                f"{fitted.before:.4f}",
                f"{fitted.after:.4f}",
                f"[{style}]{change:+.4f}[/]",
            )
            self.console.print(table)
        self.line(f"fitted to {fitted.rows:,} rows in {fitted.seconds:.2f} s")
        if fitted.told:
            self.line(f"[dim]{escape(fitted.told)}[/dim]")
        if weights:
            total = sum(weight for _, weight in weights) or 1.0
            shown = ", ".join(f"{name} {weight / total:.0%}" for name, weight in weights[:WEIGHTS])
            self.line(f"weights  {escape(shown)}{', ...' * (len(weights) > WEIGHTS)}")
        folder = escape(str(out))
        self.line(f"metric   [bold]{folder}[/bold]: tabular.json and its arrays")
        self.line(f"next  tupelo tabular embed {folder} OTHER.csv --out embedded.csv")
        self.line("      tupelo tabular compare  tells how sure the difference is")

    def compared(self, compared: Compared, out: Path) -> None:
        """One line a method, the best first."""
        self.at_rest()
        if not compared.measured:
            self.line("every split was measured before; these are the results\n")
        self.line(
            f"{compared.rows:,} rows, {compared.features:,} features, {len(compared.classes)} "
            f"classes; {compared.folds} folds, {compared.repeats} times, {compared.k} nearest "
            "neighbours"
        )
        self.notes(compared.notes)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("method", "right", "±", f"less {BASE}", "95 %", "fit, s"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for score in compared.scores:
            if score.accuracy is None:
                continue
            gap, width = score.difference, score.interval
            sure = gap is not None and width is not None and abs(gap) > width
            style = ("green" if (gap or 0) > 0 else "red") if sure else "dim"
            table.add_row(
                score.method,
                f"{score.accuracy:.4f}",
                f"{score.spread:.4f}",
                "" if gap is None else f"[{style}]{gap:+.4f}[/]",
                "" if width is None else f"± {width:.4f}",
                f"{score.seconds:.2f}",
            )
        self.console.print(table)
        for score in compared.scores:
            if score.failed:
                self.line(f"[yellow]{score.method}[/yellow] not measured: {escape(score.failed)}")
        self.line(
            "±: standard deviation over splits; 95 %: of the difference, corrected for training "
            "parts that overlap"
        )
        self.path("written", out)

    def asked(self, asked: Asked, out: Path, target: str) -> None:
        """Rows to label with reasons, and how to go on."""
        self.at_rest()
        told = f", {asked.answered:,} of them answered in {out.name}" if asked.answered else ""
        self.line(
            f"{len(asked.y):,} labelled rows{escape(told)}, {len(asked.pool):,} without {target}"
        )
        self.notes(asked.notes)
        if not asked.questions:
            self.line("there is nothing to ask: no row and no region is in doubt")
            return
        regions = asked.questions[0].row is None
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("region" if regions else "row", justify="right")
        table.add_column("uncertainty", justify="right")
        table.add_column("why")
        for place, one in enumerate(asked.questions[:QUESTIONS], 1):
            table.add_row(
                str(place if one.row is None else one.row),
                f"{one.uncertainty:.2f}",
                escape(one.reason),
            )
        self.console.print(table)
        more = len(asked.questions) - QUESTIONS
        if more > 0:
            self.line(f"and {more:,} more")
        self.path("written", out)
        if regions:
            self.line("measure new rows there, add them to the table and repeat the command")
        else:
            self.line(
                f"next  fill in {escape(target)} in {escape(str(out))} and repeat the command"
            )


class _OnLine(logging.Handler):
    """Hands on what is logged.

    Args:
        tell: takes the text.
    """

    def __init__(self, tell: Callable[[str], None]):
        super().__init__()
        self._say = tell

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self._say(record.getMessage())
