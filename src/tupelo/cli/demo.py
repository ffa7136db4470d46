"""`tupelo demo`: all of the main job at once, on digits that come with scikit-learn."""

from pathlib import Path
from typing import Annotated

import typer

from tupelo.cli.app import Debug, app, told
from tupelo.cli.main_job import train_and_show
from tupelo.cli.searching import index, search
from tupelo.errors import MissingExtra
from tupelo.recipes.reading import recipe_from

NEIGHBOURS = 8


@app.command(epilog="[bold]Example[/bold]\n\ntupelo demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="folder of the run")] = Path("runs/demo"),
    debug: Debug = False,
) -> None:
    """Train on handwritten digits, measure, index and search digits never seen, draw a report."""
    with told(debug, again=f"repeat the command to resume {out}") as screen:
        from tupelo.recipes import digits

        folder = digits.write(out.with_name(f"{out.name}-digits"))
        flags = " ".join(f"--{name} {value}" for name, value in digits.OPTIONS.items())
        screen.line("Five digits train, five others test. The same as\n")
        screen.line(f"    [bold]tupelo train {folder} {flags} --out {out}[/bold]\n")
        train_and_show(recipe_from({"source": str(folder), **digits.OPTIONS}), out, screen)

        screen.line("\nThe digits that did not train, as an index, and what is like one of them\n")
        shown = folder / "test"
        query = min(shown.glob("9/*.png")).as_posix()
        screen.line(f"    [bold]tupelo index {out} {shown}[/bold]")
        screen.line(f"    [bold]tupelo search {out} --item {query} -k {NEIGHBOURS}[/bold]\n")
    try:
        index(out, str(shown), rebuild=(out / "index").exists(), debug=True)
        search(out, item=[query], k=NEIGHBOURS, debug=True)
    except MissingExtra as error:  # the demonstration goes on without what is not installed
        with told(debug) as screen:
            screen.note(str(error))
    with told(debug) as screen:
        report = out / "report.html"
        if report.exists():
            screen.line(f"\nopen  [bold]{report.resolve()}[/bold]")
