"""The application: what every command shares, from its arguments to how errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import tupelo
from tupelo.errors import TupeloError

if TYPE_CHECKING:
    from tupelo.cli.fewshot_screen import FewShotScreen
    from tupelo.cli.lines import Lines
    from tupelo.cli.reid_screen import ReidScreen
    from tupelo.cli.scores_screen import ScoresScreen
    from tupelo.cli.screen import Screen
    from tupelo.cli.table_screen import TableScreen
    from tupelo.cli.tracking_screen import TrackingScreen
    from tupelo.cli.tvae_screen import TvaeScreen

app = typer.Typer(
    name="tupelo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train an embedding from labelled pictures, measure it honestly, use it.",
)

Debug = Annotated[bool, typer.Option("--debug", help="show where an error came from")]
Source = Annotated[
    str,
    typer.Argument(
        help="a folder with a sub-folder per class, a CSV or Parquet manifest, a zip of either, "
        "or a known data set (known:cub200)",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="what tupelo train wrote", show_default=False)
]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=YOURS", help="your name of a manifest column: path=file"),
]
AllowBad = Annotated[
    float, typer.Option(metavar="X", help="share of pictures that may be unusable")
]
BAD_REQUEST, INTERRUPTED = 2, 130


@contextmanager
def told(debug: bool, *, again: str = "", aside: bool = False) -> "Iterator[Screen]":
    """A screen; errors raised on purpose become one panel, and Ctrl-C says how to go on.

    Args:
        debug: let errors through.
        again: what Ctrl-C says.
        aside: all that is said goes to standard error: the output is for a program.
    """
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.screen import Screen  # loads torch, which --help need not wait for
    screen = Screen(Console(stderr=True, highlight=False) if aside else None)
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def told_of_tables(debug: bool, *, again: str = "") -> "Iterator[TableScreen]":
    """As `told`, for commands that need no network: torch is not loaded.

    Args:
        debug: let errors through.
        again: what Ctrl-C says.
    """
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.table_screen import TableScreen  # loads scikit-learn
    screen = TableScreen()
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def told_of_episodes(
    debug: bool, *, again: str = "", aside: bool = False
) -> "Iterator[FewShotScreen]":
    """As `told`, for few-shot commands."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.fewshot_screen import FewShotScreen  # loads torch
    screen = FewShotScreen(Console(stderr=True, highlight=False) if aside else None)
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def told_of_codes(debug: bool, *, again: str = "") -> "Iterator[TvaeScreen]":
    """As `told`, for autoencoders."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.tvae_screen import TvaeScreen  # loads torch
    screen = TvaeScreen()
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def told_of_tracks(debug: bool, *, again: str = "") -> "Iterator[TrackingScreen]":
    """As `told`, for tracking."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.tracking_screen import TrackingScreen
    screen = TrackingScreen()
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def told_of_scores(debug: bool, *, aside: bool = False) -> "Iterator[ScoresScreen]":
    """As `told`, for scores of trackers."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.scores_screen import ScoresScreen
    screen = ScoresScreen(Console(stderr=True, highlight=False) if aside else None)
    with _telling(screen, debug, ""):
        yield screen


@contextmanager
def told_of_people(debug: bool, *, again: str = "", aside: bool = False) -> "Iterator[ReidScreen]":
    """As `told`, for re-identification."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.reid_screen import ReidScreen  # loads torch
    screen = ReidScreen(Console(stderr=True, highlight=False) if aside else None)
    with _telling(screen, debug, again):
        yield screen


@contextmanager
def _telling(screen: "Lines", debug: bool, again: str) -> Iterator[None]:
    try:
        with screen, screen.logging():
            yield
    except TupeloError as error:
        if debug:
            raise
        screen.error(error)
        raise typer.Exit(BAD_REQUEST) from None
    except KeyboardInterrupt:
        screen.interrupted(again)
        raise typer.Exit(INTERRUPTED) from None


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"tupelo {tupelo.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Train an embedding from labelled pictures, measure it honestly, use it."""
