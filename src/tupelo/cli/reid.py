"""Re-identification: `tupelo reid train | evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import AllowBad, Column, Debug, app, told_of_people
from tupelo.cli.options import as_columns, as_options, with_options_of
from tupelo.errors import InputError
from tupelo.recipes.reading import FLAGS, checked, read_recipe
from tupelo.recipes.reid_recipe import ReidRecipe

if TYPE_CHECKING:
    from tupelo.cli.reid_screen import ReidScreen
    from tupelo.recipes.reid import Result

reid = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find a person again in another picture: the appearance metric of a tracker.",
)
app.add_typer(reid, name="reid")

Crops = Annotated[
    str,
    typer.Argument(
        metavar="CROPS",
        help="Market-1501 as it was published, a folder with a sub-folder per identity, a CSV or "
        "Parquet manifest, a zip of either, or the name of a known data set, such as lfw",
        show_default=False,
    ),
]
OF_NETWORK = {"dim", "size"}
OF_LOSS = {"shifted", "loss_options"}


@reid.callback()
def main() -> None:
    """Find a person again in another picture: the appearance metric of a tracker."""


@reid.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo reid train crops/ --epochs 2 --out runs/reid\n\n"
    "tupelo reid train crops/ --loss triplet --epochs 2 --out runs/triplet\n\n"
    "tupelo reid train crops/ --recipe runs/reid/recipe.yaml --seed 1 --out runs/again\n\n"
    "Repeat a command to resume it. What is not given is chosen from the crops \\[so], said on the "
    "screen and written into RUN/recipe.yaml. tupelo track --embedder RUN follows people by it; "
    "tupelo index, search, embed and export use the run as any other."
)
@with_options_of(ReidRecipe)
def train(
    source: Crops,
    out: Annotated[
        Path, typer.Option(metavar="RUN", help="folder of the run; resumed if it is there")
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file of options; options given here override it"),
    ] = None,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Train on crops by identity, judged and calibrated on identities that were held out."""
    with told_of_people(debug, again=f"repeat the command to resume {out}") as screen:
        asked = checked(ReidRecipe, merged(recipe, source, options))
        from tupelo.recipes import reid as job

        result = job.run(asked, out, screen)
        screen.result(result)
        _draw(result, screen)


def merged(file: Path | None, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe file, overridden by the options that were given.

    Another network than that of the file drops its size and width, another loss what belongs to
    that, unless these are given too.

    Raises:
        InputError: as `read_recipe`, or a column or an option is not given as NAME=VALUE.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    stated = {} if file is None else read_recipe(file)
    for of, dropped in (("network", OF_NETWORK), ("loss", OF_LOSS)):
        usual = ReidRecipe.model_fields[of].default
        if of in given and given[of] != stated.get(of, usual):
            stated = {name: value for name, value in stated.items() if name not in dropped}
    if "columns" in given:
        given["columns"] = as_columns(given["columns"])
    if "loss_options" in given:
        added = as_options(given["loss_options"], FLAGS["loss_options"])
        given["loss_options"] = {**(stated.get("loss_options") or {}), **added}
    return {**stated, **given, "source": source}


@reid.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo reid evaluate runs/reid crops/\n\n"
    "tupelo reid evaluate runs/reid queries/ --gallery gallery/\n\n"
    "tupelo reid evaluate runs/reid crops/ --json --out scores.json\n\n"
    "Of Market-1501 the queries search the published gallery; other crops search each other, "
    "unless --gallery is given. RUN may be any run of tupelo train, too."
)
def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="what tupelo reid train wrote", show_default=False)
    ],
    source: Crops,
    gallery: Annotated[
        str | None,
        typer.Option(metavar="CROPS", help="search these instead of CROPS itself"),
    ] = None,
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="for the numbers, JSON \\[RUN/evaluated/reid.json]",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="for the page \\[beside the numbers, .html]", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the numbers as JSON and nothing else")
    ] = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """CMC and mAP with the same-camera rule, where file names tell cameras as Market-1501's do."""
    with told_of_people(debug, aside=as_json) as screen:
        target, page = _targets(run, out, html)
        from tupelo.recipes import reid as job
        from tupelo.recipes.places import write_text
        from tupelo.recipes.reid_judging import told
        from tupelo.recipes.using import open_run, seen_in_training

        opened = open_run(run)
        judged = job.evaluate(
            opened,
            source,
            gallery,
            columns=as_columns(column or []),
            allow_bad=allow_bad,
            watcher=screen,
        )
        seen = "" if judged.gallery is not None else seen_in_training(opened, source, "all")
        seen = seen.partition("; --part")[0]
        screen.judged(judged)
        notes = [seen] if seen else []
        for note in notes:
            screen.note(note)
        numbers = {"run": str(run), "crops": source, **told(judged), "notes": notes}
        text = json.dumps(numbers, indent=2)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text + "\n")
        screen.path("numbers", target)
        _page(judged, page, run, source, notes, screen)
        if as_json:
            typer.echo(text)


def _targets(run: Path, out: Path | None, html: Path | None) -> tuple[Path, Path]:
    """Where numbers and page go."""
    out = run / "evaluated" / "reid.json" if out is None else out
    page = out.with_suffix(".html") if html is None else html
    for flag, path in (("--out", out), ("--html", page)):
        if path.is_dir():
            raise InputError(f"{flag} must be a file, got the folder {path}")
    if page == out:
        raise InputError(f"--out and --html must be two files, got {out} for both")
    return out, page


def _page(
    judged: Any, page: Path, run: Path, source: str, notes: list[str], screen: "ReidScreen"
) -> None:
    from tupelo.cli.reporting import drawn_or_told
    from tupelo.errors import CheckpointError
    from tupelo.recipes.reid_calibration import calibration_of
    from tupelo.report import reid as pages
    from tupelo.trained import load

    try:
        known = calibration_of(load(run))
    except CheckpointError:
        known = None  # a run of tupelo train has none
    about = {"run": str(run), "crops": source}
    drawn_or_told(
        run, lambda: pages.write(judged, page, calibration=known, about=about, notes=notes), screen
    )


def _draw(result: "Result", screen: "ReidScreen") -> None:
    """Write the page of a run that has just ended; whatever fails, the run is finished."""
    from tupelo.cli.reporting import drawn_or_told
    from tupelo.report import reid as pages

    path, judged = result.folder / pages.NAME, result.judged
    if judged is None:
        if path.exists():
            screen.path("report", path)
        return
    recipe = result.recipe
    about = {
        "crops": recipe.source,
        "part": result.part,
        "network": recipe.network,
        "loss": recipe.title,
        "steps": result.training["steps"],
        "seed": recipe.seed,
    }
    drawn_or_told(
        result.folder,
        lambda: pages.write(
            judged, path, title=result.folder.name, calibration=result.calibration, about=about
        ),
        screen,
    )
