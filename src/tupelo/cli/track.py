"""Tracking: `tupelo track ...`; `tracking_run` and `track_evaluating` add the commands."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tupelo.cli.app import app

DEFAULT = "run"


class OrRun(TyperGroup):
    """A group whose command `run` need not be named: `tupelo track SEQUENCE`.

    A misspelt command that is no file or folder is still told as one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before what is neither a command nor an option of the group."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            misspelt = get_close_matches(args[0], list(self.commands))
            if not misspelt or Path(args[0]).exists():
                args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


track = typer.Typer(
    cls=OrRun,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="SEQUENCE | COMMAND [ARGS]...",
    help="Follow objects through a sequence, and measure trackers.\n\n"
    "tupelo track SEQUENCE is short for tupelo track run SEQUENCE.",
)
app.add_typer(track, name="track")
