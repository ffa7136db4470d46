"""The report of a run: `tupelo report`, and what `tupelo train` draws at its end."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import Column, Debug, RunFolder, app, told
from tupelo.cli.options import as_columns
from tupelo.errors import DataError, InputError, MissingExtra

if TYPE_CHECKING:
    from tupelo.cli.lines import Lines
    from tupelo.cli.screen import Screen
    from tupelo.recipes.retrieval import Result

logger = logging.getLogger(__name__)


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo report runs/photos\n\n"
    "tupelo report runs/photos --source moved/photos --out photos.html\n\n"
    "tupelo report runs/photos --part validation"
)
def report(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the page \\[RUN/report.html]")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="where the pictures of the run are now \\[as then]"),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="train|validation|test", help="pictures that are shown \\[those measured]"
        ),
    ] = None,
    column: Column = None,
    debug: Debug = False,
) -> None:
    """Write one HTML page that shows a run: scores, curves, neighbours, confusions, a map."""
    with told(debug, again="repeat the command") as screen:
        if part not in (None, "train", "validation", "test"):
            raise InputError(f"--part must be train, validation or test, got {part}")
        _check_target(out)
        _draw(run, out, source, part, as_columns(column or []), screen)


def draw_after_training(result: "Result", screen: "Screen") -> None:
    """Write the report of a run that has just ended; whatever fails, the run is finished."""
    from tupelo.report import page

    path = result.folder / page.NAME
    if result.repeated:
        if path.exists():
            screen.path("report", path)
        else:
            screen.line(f"report  tupelo report {result.folder} draws it")
        return
    embedded, *others = [*result.embedded, None]

    def draw() -> Path:
        return page.write(
            result.folder,
            result.judged if embedded is not None else None,
            embedded,
            result.gallery,
            others[0] if others else None,
            progress=screen.drawing,
        )

    drawn_or_told(result.folder, draw, screen)


def drawn_or_told(folder: Path, draw: Callable[[], Path], screen: "Lines") -> None:
    """Draw the page of a run that has just ended; whatever fails, the run is finished."""
    try:
        screen.path("report", draw())
    except MissingExtra as error:
        screen.note(f"no report: {error}")
    except Exception as error:
        logger.debug("the report could not be drawn", exc_info=True)
        screen.note(
            f"the report could not be drawn ({type(error).__name__}: {error}); the run itself is "
            f"complete, and tupelo report {folder} --debug shows more"
        )


def _draw(
    run: Path,
    out: Path | None,
    source: str | None,
    part: str | None,
    columns: dict[str, str],
    screen: "Screen",
) -> None:
    from tupelo import report as reports
    from tupelo.data.official.places import is_named
    from tupelo.inference import embed
    from tupelo.recipes import using
    from tupelo.recipes.retrieval import PRECISION
    from tupelo.report.reading import read

    known = read(run)
    if known.results.get("kind") == "fewshot":
        _draw_few_shot(run, out, source, part, columns, screen)
        return
    if known.results.get("kind") == "reid":
        raise InputError(
            f"tupelo reid train drew the page of this run, {run / 'reid.html'}; tupelo reid "
            f"evaluate {run} CROPS draws it anew, of any crops"
        )
    opened = using.open_run(run)
    chosen = part or str(known.results.get("part") or "")
    given = source or (None if opened.recipe is None else opened.recipe.source)
    if given is None or not chosen:
        why = "no recipe names its pictures" if given is None else "no part was measured"
        screen.note(f"without pictures: {why}; give --source and --part to show some")
        screen.path("report", reports.write(run, out=out, progress=screen.drawing))
        return
    if source is None and not is_named(given) and not Path(given).exists():
        raise DataError(
            f"the pictures of the run are no longer at {given}; give --source, the place where "
            "they are now"
        )
    data = using.read_like(
        opened,
        given,
        whole=False,
        columns=columns,
        allow_bad=0.01 if opened.recipe is None else opened.recipe.allow_bad,
        progress=screen.reading,
    )
    pictures = using.part_of(data, chosen)
    gallery = data.gallery if chosen == "test" else None
    precision = "auto" if opened.recipe is None else PRECISION[opened.recipe.precision]
    options: dict[str, Any] = {"precision": precision, "progress": screen.embedding}
    embedded = embed(opened.model, pictures, **options)
    searched = None if gallery is None else embed(opened.model, gallery, **options)
    written = reports.write(
        run, pictures, embedded, gallery, searched, part=chosen, out=out, progress=screen.drawing
    )
    screen.path("report", written)


def _draw_few_shot(
    run: Path,
    out: Path | None,
    source: str | None,
    part: str | None,
    columns: dict[str, str],
    screen: "Screen",
) -> None:
    from tupelo.recipes import fewshot_using as using
    from tupelo.report import fewshot as pages

    opened = using.open_run(run)
    pictures, tasks = using.tasks_of(
        opened, source, part, columns=columns, reading=screen.reading, embedding=screen.embedding
    )
    screen.path("report", pages.of_run(run, pictures, tasks, out=out))


def _check_target(out: Path | None) -> None:
    """Refuse a name of the page before the work is done."""
    if out is not None and out.is_dir():
        raise InputError(f"--out must be a file, got the folder {out}")
