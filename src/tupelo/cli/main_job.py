"""The main job: `tupelo train | evaluate | embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import AllowBad, Column, Debug, RunFolder, Source, app, told
from tupelo.cli.options import as_columns, as_ks, merged, with_options_of
from tupelo.errors import InputError
from tupelo.recipes.reading import recipe_from
from tupelo.recipes.recipe import RetrievalRecipe

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo train photos/ --out runs/photos\n\n"
    "tupelo train photos.csv --column path=file --size 32 --out runs/table\n\n"
    "tupelo train photos/ --backbone resnet18 --loss arcface --out runs/arcface\n\n"
    "tupelo train photos/ --loss triplet --synthesis hdml --out runs/hdml\n\n"
    "tupelo train photos/ --ensemble abe --learners 8 --loss contrastive --out runs/abe\n\n"
    "tupelo train photos/ --ensemble dreml --engine processes --jobs 2 --out runs/dreml\n\n"
    "tupelo train other/ --recipe runs/photos/recipe.yaml --epochs 40 --out runs/other\n\n"
    "Repeat a command to resume it. What is not given is chosen from the pictures \\[so], said "
    "on the screen and written into RUN/recipe.yaml. --pretrained starts from published weights "
    "and does far better on photographs; it downloads them unless they are here."
)
@with_options_of(RetrievalRecipe)
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
    with told(debug, again=f"repeat the command to resume {out}") as screen:
        train_and_show(recipe_from(merged(recipe, source, options)), out, screen)


def train_and_show(recipe: RetrievalRecipe, out: Path, screen: "Screen") -> None:
    """Train, write on the screen what came out, and draw the report."""
    from tupelo.cli.reporting import draw_after_training
    from tupelo.recipes import retrieval

    result = retrieval.run(recipe, out, screen)
    screen.result(result)
    draw_after_training(result, screen)


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo evaluate runs/photos other-photos/\n\n"
    "tupelo evaluate runs/photos queries/ --gallery shop/\n\n"
    "tupelo evaluate runs/photos photos/ --part test --ks 1,10,100"
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
    ks: Annotated[
        str, typer.Option(metavar="K,K,...", help="the K of Recall@K: numbers of neighbours")
    ] = "1,2,4,8",
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Measure retrieval on pictures: Recall@K, R-precision, MAP@R, and clustering."""
    with told(debug) as screen:
        if part not in ("all", "train", "validation", "test"):
            raise InputError(f"--part must be all, train, validation or test, got {part}")
        neighbours = as_ks(ks)
        from tupelo.recipes import using

        options = {
            "columns": as_columns(column or []),
            "allow_bad": allow_bad,
            "progress": screen.reading,
        }
        opened = using.open_run(run)
        data = using.read_like(opened, source, whole=part == "all", **options)
        pictures = using.part_of(data, part)
        searched = data.gallery if part == "test" else None
        if gallery is not None:
            searched = using.read_like(opened, gallery, **options).train
        report = using.measure(opened.model, pictures, searched, screen.embedding, ks=neighbours)
        screen.report(report, pictures, using.seen_in_training(opened, source, part))


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
    with told(debug) as screen:
        from tupelo.recipes.using import check_target

        check_target(out)
        from tupelo import inference
        from tupelo.recipes import using

        opened = using.open_run(run)
        data = using.read_like(
            opened,
            source,
            labelled=False,
            columns=as_columns(column or []),
            allow_bad=allow_bad,
            progress=screen.reading,
        )
        embedded = inference.embed(opened.model, data.train, progress=screen.embedding)
        using.write_embeddings(out, embedded, data.train.class_names)
        screen.written(out, embedded, data.bad)
