"""What every screen has: lines, notes, one live line of progress, panels of errors."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_WIDTH = 100  # columns, where no terminal tells its own


class Lines(ABC):
    """Used as a context, which ends its live line.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(highlight=False)
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        self.console = console
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[more]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("", more="", total=None, visible=False)

    @property
    @abstractmethod
    def data(self) -> str:
        """What cannot be used where data are at fault, such as "these pictures"."""

    def __enter__(self) -> "Lines":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Warnings of the library are written here; what the screen says itself is not."""
        handler = RichHandler(
            level=logging.WARNING, console=self.console, show_time=False, show_path=False
        )
        quiet = {
            "tupelo": logging.WARNING,
            "tupelo.data": logging.ERROR,
            "tupelo.synthesis.iaa": logging.ERROR,
        }
        loggers = {name: logging.getLogger(name) for name in [*quiet, "lightning_fabric"]}
        levels = {name: logger.level for name, logger in loggers.items()}
        for name, logger in loggers.items():
            logger.setLevel(quiet.get(name, logging.WARNING))
        loggers["tupelo"].addHandler(handler)
        try:
            yield
        finally:
            loggers["tupelo"].removeHandler(handler)
            for name, level in levels.items():
                loggers[name].setLevel(level)

    def line(self, text: str = "") -> None:
        """A line of text with rich's markup."""
        self.console.print(text)

    def note(self, text: str) -> None:
        """A sentence to mind, as it is."""
        self.line(f"[yellow]note[/yellow] {escape(text)}")

    def path(self, what: str, path: Path) -> None:
        """Where something was written."""
        self.line(f"{what}  [bold]{escape(str(path))}[/bold]")

    def error(self, error: Exception) -> None:
        """One red panel."""
        self._live.stop()
        name = {
            "InputError": "Cannot do this",
            "DataError": f"Cannot use {self.data}",
            "MissingExtra": "Something is not installed",
            "CheckpointError": "Cannot use what was saved",
            "TrainingDiverged": "Training stopped",
        }
        title = name.get(type(error).__name__, type(error).__name__)
        self.console.print(Panel(escape(str(error)), title=title, style="red", box=box.ROUNDED))

    def interrupted(self, again: str) -> None:
        """After Ctrl-C."""
        self._live.stop()
        self.console.print(f"[yellow]Interrupted.[/yellow] {escape(again)}".rstrip())

    def _move(self, what: str, done: int, total: int, more: str = "") -> None:
        self._live.update(
            self._task, description=what, completed=done, total=total, more=more, visible=True
        )
        if done >= total:
            self._live.update(self._task, visible=False)
