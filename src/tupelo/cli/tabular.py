"""Metrics for tables: `tupelo tabular fit | compare | ask | embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import Debug, app, told_of_tables
from tupelo.errors import InputError

if TYPE_CHECKING:
    from tupelo.cli.table_screen import TableScreen
    from tupelo.recipes.tables import Labelled

tabular = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn a metric from a table of numbers and text, compare metrics, ask what to label.",
)
app.add_typer(tabular, name="tabular")

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="a table: .csv, .tsv, .txt, one of these with .gz, or .parquet",
        show_default=False,
    ),
]
Target = Annotated[str, typer.Option(metavar="COLUMN", help="holds the class of each row")]
Drop = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="leave out a column, such as an identifier; repeatable"),
]
Category = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="a column of numbers that are names; repeatable"),
]
Neighbours = Annotated[
    int, typer.Option("--neighbours", "-k", metavar="K", help="nearest neighbours that classify")
]
Rows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="a fit takes so many rows at most \\[all, or what the method bears]",
        show_default=False,
    ),
]
NoScale = Annotated[
    bool,
    typer.Option(
        "--no-scale", help="take features as they are; else divided by their standard deviation"
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="of the learner, such as gamma=0.1; repeatable"
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="of everything that is drawn")]
Html = Annotated[bool, typer.Option("--html", help="also write a page with pictures")]


@tabular.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo tabular fit table.csv --target class --out runs/table\n\n"
    "tupelo tabular fit table.csv --target class --method mio --out runs/mio --html\n\n"
    "tupelo tabular fit table.csv --target class --option gamma=0.1 --no-scale --out runs/raw\n\n"
    "Text becomes one feature a text, and missing values the median or the most frequent text of "
    "their column; what was done is said. The metric is measured on a quarter of the rows, then "
    "fitted to all. tupelo.tabular.load reads it."
)
def fit(
    data: Data,
    target: Target,
    out: Annotated[Path, typer.Option(metavar="RUN", help="folder of the metric")],
    method: Annotated[
        str, typer.Option(metavar="odml|opml|mio|nca", help="see tupelo tabular compare")
    ] = "odml",
    option: Options = None,
    drop: Drop = None,
    category: Category = None,
    no_scale: NoScale = False,
    rows: Rows = None,
    neighbours: Neighbours = 5,
    held_out: Annotated[
        float, typer.Option(metavar="X", help="share of rows to measure on; 0: do not measure")
    ] = 0.25,
    seed: Seed = 0,
    html: Html = False,
    debug: Debug = False,
) -> None:
    """Learn a metric from a table, measured on rows it did not see."""
    with told_of_tables(debug) as screen:
        from tupelo.recipes import tabular as recipe

        _check_page(html)
        recipe.check_place(out)
        rows_with_class = _read(data, target, drop, category)
        with screen.following():
            fitted = recipe.fit(
                rows_with_class,
                method,
                options=_options(option),
                standardize=not no_scale,
                rows=rows,
                k=neighbours,
                held_out=held_out,
                seed=seed,
                stage=screen.stage,
            )
        recipe.keep(fitted, out)
        screen.fitted(fitted, out, recipe.weights(fitted.metric))
        if html:
            from tupelo.report import tabular as pages

            _page(screen, pages.of_fit(fitted, out / "report.html"))


@tabular.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo tabular compare table.csv --target class --out runs/compared\n\n"
    "tupelo tabular compare table.csv --target class --method opml --method nca --folds 2 "
    "--out runs/two --html\n\n"
    "Methods: euclidean, opml, odml, mio, nca, and metric-learn's lmnn, itml, scml and lfda where "
    "it is installed and works. Repeat a command to measure what is missing. The folder gets "
    "compared.csv, compared.json and every split."
)
def compare(
    data: Data,
    target: Target,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="of the results")],
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="compare only these; repeatable \\[all]"),
    ] = None,
    folds: Annotated[int, typer.Option(metavar="N", help="parts of the cross-validation")] = 5,
    repeats: Annotated[int, typer.Option(metavar="N", help="of it, divided anew")] = 3,
    drop: Drop = None,
    category: Category = None,
    no_scale: NoScale = False,
    rows: Rows = None,
    neighbours: Neighbours = 5,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="processes; with several, fits take longer each")
    ] = 1,
    seed: Seed = 0,
    html: Html = False,
    debug: Debug = False,
) -> None:
    """Compare metrics on a table by repeated cross-validation, with times."""
    again = f"what is measured is kept; repeat the command to go on in {out}"
    with told_of_tables(debug, again=again) as screen:
        from tupelo.recipes import comparing

        _check_page(html)
        compared = comparing.compare(
            _read(data, target, drop, category),
            method or (),
            out=out,
            folds=folds,
            repeats=repeats,
            k=neighbours,
            rows=rows,
            standardize=not no_scale,
            seed=seed,
            jobs=jobs,
            progress=screen.comparing,
        )
        screen.compared(compared, out)
        if html:
            from tupelo.report import tabular as pages

            _page(screen, pages.of_comparison(compared, data.name, out / "report.html"))


@tabular.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo tabular ask partly.csv --target class --out ask.csv\n\n"
    "tupelo tabular ask partly.csv --target class --n 3 --regions --out regions.csv --html\n\n"
    "Rows whose target is empty are candidates. Fill in the target in ask.csv, or in the table, "
    "and repeat the command: answers are read from both. Where no row is without a class, or with "
    "--regions, the file names regions in which to measure new rows."
)
def ask(
    data: Data,
    target: Target,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="questions, and your answers; ends in .csv")
    ],
    n: Annotated[int, typer.Option("--n", metavar="N", help="how many questions")] = 10,
    regions: Annotated[
        bool, typer.Option("--regions", help="ask for regions even where rows wait for a class")
    ] = False,
    option: Options = None,
    drop: Drop = None,
    category: Category = None,
    rows: Rows = None,
    seed: Seed = 0,
    html: Html = False,
    debug: Debug = False,
) -> None:
    """Say which rows to label next, and why, by a metric learned from the labelled ones."""
    with told_of_tables(debug) as screen:
        from tupelo.recipes import asking, tables

        _check_page(html)
        if out.suffix != ".csv":
            raise InputError(f"--out {out} must end in .csv")
        table = tables.read(data)
        screen.stage("fitting")
        with screen.following():
            asked = asking.ask(
                table,
                target,
                out,
                n=n,
                drop=drop or (),
                categories=category or (),
                regions=regions,
                rows=rows,
                options=_options(option),
                seed=seed,
            )
        asking.write(asked, table, target, out)
        screen.asked(asked, out, target)
        if html:
            from tupelo.report import tabular as pages

            _page(screen, pages.of_questions(asked, data.name, target, out.with_suffix(".html")))


@tabular.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo tabular embed runs/table table.csv --out embedded.csv\n\n"
    "tupelo tabular embed runs/table table.csv --out embedded.npz\n\n"
    "Euclidean distance of the rows is the learned distance."
)
def embed(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="what tupelo tabular fit wrote", show_default=False),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="ends in .csv, .npz or .parquet")],
    debug: Debug = False,
) -> None:
    """Write the embedding of every row, with its class where the table has it."""
    with told_of_tables(debug) as screen:
        from tupelo.recipes import table_writing, tables
        from tupelo.tabular import saving

        table_writing.check_embedding(out)
        metric = saving.load(run)
        n, width = table_writing.write_embedding(metric, tables.read(data), out)
        screen.path(f"{n:,} rows of {width} numbers", out)


def _read(
    data: Path, target: str, drop: list[str] | None, category: list[str] | None
) -> "Labelled":
    from tupelo.recipes import tables

    return tables.labelled(tables.read(data), target, drop=drop or (), categories=category or ())


def _options(given: list[str] | None) -> dict[str, Any]:
    from tupelo.cli.options import as_options

    return as_options(given or [], "--option")


def _check_page(wanted: bool) -> None:
    """What draws is there before the work is done."""
    if wanted:
        from tupelo.report import tabular as pages

        pages.check_extra()


def _page(screen: "TableScreen", path: Path) -> None:
    screen.path("page   ", path)
