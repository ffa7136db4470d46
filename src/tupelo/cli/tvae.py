"""Triplet variational autoencoders: `tupelo tvae train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import Debug, app, told_of_codes
from tupelo.cli.options import as_columns, with_options_of
from tupelo.recipes.reading import checked, read_recipe
from tupelo.recipes.tvae_recipe import TvaeRecipe

if TYPE_CHECKING:
    from tupelo.cli.tvae_screen import TvaeScreen
    from tupelo.recipes.tvae import Result

tvae = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn an embedding that can also draw: an autoencoder whose codes obey triplets.",
)
app.add_typer(tvae, name="tvae")

OF_METHOD = {"weight_vae", "weight_triplet", "weight_regulariser"}
OF_MODEL = {"dim", "hidden"}


@tvae.callback()
def main() -> None:
    """Learn an embedding that can also draw: an autoencoder whose codes obey triplets."""


@tvae.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo tvae train photos/ --epochs 2 --out runs/tvae\n\n"
    "tupelo tvae train photos/ --method vae --epochs 2 --out runs/vae\n\n"
    "tupelo tvae train photos/ --labelled 0.5 --epochs 2 --out runs/half\n\n"
    "tupelo tvae train photos/ --size 32 --model conv --epochs 2 --out runs/conv\n\n"
    "tupelo tvae train other/ --recipe runs/tvae/recipe.yaml --seed 1 --out runs/again\n\n"
    "Repeat a command to resume it. What is not given is chosen from the pictures \\[so], said on "
    "the screen and written into RUN/recipe.yaml. tupelo evaluate, index, search and embed use "
    "the run as any other: the embedding of a picture is the mean of its posterior."
)
@with_options_of(TvaeRecipe)
def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="a folder with a sub-folder per class, a CSV or Parquet manifest, a zip of "
            "either, or the name of a known data set, such as mnist",
            show_default=False,
        ),
    ],
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
    """Train a triplet autoencoder, judged by test triplets, the ELBO and what it draws."""
    with told_of_codes(debug, again=f"repeat the command to resume {out}") as screen:
        asked = checked(TvaeRecipe, merged(recipe, source, options))
        from tupelo.recipes import tvae as job

        result = job.run(asked, out, screen)
        screen.result(result)
        _draw(result, screen)


def merged(file: Path | None, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe file, overridden by the options that were given.

    Another method than that of the file drops its weights, another model its widths, unless these
    are given too.

    Raises:
        InputError: as `read_recipe`, or a column is not given as NAME=VALUE.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    stated = {} if file is None else read_recipe(file)
    for of, dropped in (("method", OF_METHOD), ("model", OF_MODEL)):
        usual = TvaeRecipe.model_fields[of].default
        if of in given and given[of] != stated.get(of, usual):
            stated = {name: value for name, value in stated.items() if name not in dropped}
    if "columns" in given:
        given["columns"] = as_columns(given["columns"])
    return {**stated, **given, "source": source}


def _draw(result: "Result", screen: "TvaeScreen") -> None:
    """Write the page of a run that has just ended; whatever fails, the run is finished."""
    from tupelo.cli.reporting import drawn_or_told
    from tupelo.report import page

    path = result.folder / page.NAME
    if result.repeated and path.exists():
        screen.path("report", path)
        return

    def draw() -> Path:
        shown = result.judged if result.embedded is not None else None
        return page.write(result.folder, shown, result.embedded, progress=screen.drawing)

    drawn_or_told(result.folder, draw, screen)
