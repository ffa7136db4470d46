"""The commands: each reads its options, calls a recipe and writes on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import tupelo
from tupelo.cli.options import as_columns, merged, with_recipe_options
from tupelo.errors import InputError, TupeloError
from tupelo.recipes.recipe import RetrievalRecipe, recipe_from

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen

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
        "or a known data set",
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
def _told(debug: bool, *, again: str = "") -> "Iterator[Screen]":
    """A screen; errors raised on purpose become one panel, and Ctrl-C says how to go on."""
    with Console(stderr=True).status("Loading"):
        from tupelo.cli.screen import Screen  # loads torch, which --help need not wait for
    screen = Screen()
    try:
        with screen, screen.logging():
            yield screen
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


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo train photos/ --out runs/photos\n\n"
    "tupelo train photos.csv --column path=file --size 128 --out runs/photos\n\n"
    "tupelo train photos/ --backbone resnet50 --pretrained --loss arcface --out runs/faces\n\n"
    "tupelo train other/ --recipe runs/photos/recipe.yaml --epochs 40 --out runs/other\n\n"
    "Repeat a command to resume it. What is not given is chosen from the pictures \\[so], said "
    "on the screen and written into RUN/recipe.yaml."
)
@with_recipe_options
def train(
    source: Source,
    out: Annotated[
        Path,
        typer.Option(metavar="RUN", help="folder of the run; resumed if it is there"),
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file of options; options given here override it"),
    ] = None,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Train an embedding, measured before and after on classes it never saw."""
    with _told(debug, again=f"repeat the command to resume {out}") as screen:
        _train(recipe_from(merged(recipe, source, options)), out, screen)


def _train(recipe: RetrievalRecipe, out: Path, screen: "Screen") -> None:
    from tupelo.recipes import retrieval

    screen.result(retrieval.run(recipe, out, screen))


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo evaluate runs/photos other-photos/\n\n"
    "tupelo evaluate runs/photos queries/ --gallery shop/\n\n"
    "tupelo evaluate runs/photos photos/ --part test"
)
def evaluate(
    run: RunFolder,
    source: Source,
    gallery: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="search these pictures instead of SOURCE itself"),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            metavar="all|train|validation|test",
            help="of SOURCE as the run divides it; all: every picture",
        ),
    ] = "all",
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Measure retrieval on pictures: Recall@K, R-precision, MAP@R, and clustering."""
    with _told(debug) as screen:
        if part not in ("all", "train", "validation", "test"):
            raise InputError(f"--part must be all, train, validation or test, got {part}")
        from tupelo.recipes import using

        options = {
            "columns": as_columns(column or []),
            "allow_bad": allow_bad,
            "progress": screen.reading,
        }
        trained = using.open_run(run)
        pictures = using.part_of(
            using.read_like(trained, source, whole=part == "all", **options), part
        )
        searched = None if gallery is None else using.read_like(trained, gallery, **options).train
        report = using.measure(trained.model, pictures, searched, screen.embedding)
        screen.report(report, pictures, using.seen_in_training(trained, source, part))


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo embed runs/photos photos/ --out photos.npz\n\n"
    "tupelo embed runs/photos photos/ --out photos.parquet"
)
def embed(
    run: RunFolder,
    source: Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help="ends in .npz or .parquet")],
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Write the embedding of every picture, with its label and path, into one file."""
    with _told(debug) as screen:
        from tupelo.recipes.using import check_target

        check_target(out)
        from tupelo import inference
        from tupelo.recipes import using

        trained = using.open_run(run)
        data = using.read_like(
            trained,
            source,
            columns=as_columns(column or []),
            allow_bad=allow_bad,
            progress=screen.reading,
        )
        embedded = inference.embed(trained.model, data.train, progress=screen.embedding)
        using.write_embeddings(out, embedded, data.train.class_names)
        screen.written(out, embedded, data.bad)


@app.command(epilog="[bold]Example[/bold]\n\ntupelo demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="folder of the run")] = Path("runs/demo"),
    debug: Debug = False,
) -> None:
    """Train on handwritten digits and measure on digits never seen; nothing is downloaded."""
    with _told(debug, again=f"repeat the command to resume {out}") as screen:
        from tupelo.recipes import digits

        folder = digits.write(out.with_name(f"{out.name}-digits"))
        flags = " ".join(f"--{name} {value}" for name, value in digits.OPTIONS.items())
        screen.line(
            f"Five digits train, five others test. The same as\n\n"
            f"    [bold]tupelo train {folder} {flags} --out {out}[/bold]\n"
        )
        _train(recipe_from({"source": str(folder), **digits.OPTIONS}), out, screen)
