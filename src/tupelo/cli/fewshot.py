"""Few-shot learning: `tupelo fewshot train | evaluate | classify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import AllowBad, Column, Debug, app, told_of_episodes
from tupelo.cli.options import as_columns, as_options, with_options_of
from tupelo.errors import InputError
from tupelo.recipes.fewshot_recipe import FewShotRecipe
from tupelo.recipes.reading import checked, read_recipe

if TYPE_CHECKING:
    from tupelo.cli.fewshot_screen import FewShotScreen
    from tupelo.recipes.fewshot import Result

fewshot = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn to classify from a few pictures of classes that were never trained.",
)
app.add_typer(fewshot, name="fewshot")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="a folder with a sub-folder per class, a CSV or Parquet manifest, a zip of either, "
        "or the name of a known data set, such as omniglot",
        show_default=False,
    ),
]
FewShotRun = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="what tupelo fewshot train wrote", show_default=False),
]
OF_METHOD = {
    "similarity",
    "scale",
    "context",
    "head_options",
    "margin_loss",
    "margin",
    "margin_weight",
    "margin_warmup",
    "answer_loss",
    "answer_margin",
    "encoder",
    "train_ways",
    "train_queries",
    "per_batch",
    "steps",
    "halve_every",
    "weight_decay",
    "queries",
}
OF_TASKS = {"queries", "train_ways", "train_shots", "train_queries", "per_batch"}


@fewshot.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo fewshot train photos/ --ways 2 --steps 4 --evaluate-every 2 --out runs/few\n\n"
    "tupelo fewshot train omniglot --ways 5 --shots 1 --rotations --out runs/omniglot\n\n"
    "tupelo fewshot train omniglot --method l-pn --similarity cosine --shots 5 --out runs/l-pn\n\n"
    "tupelo fewshot train omniglot --method gnn --per-batch 40 --steps 20000 --out runs/gnn\n\n"
    "tupelo fewshot train photos/ --recipe runs/few/recipe.yaml --seed 1 --out runs/again\n\n"
    "Methods: pn prototypical networks, l-pn with a large margin, matching networks, gnn graph "
    "networks, l-gnn with a large margin. Classes that train, choose and judge are different "
    "ones. Repeat a command to resume it. What is not given is chosen as published, or from the "
    "pictures \\[so], said on the screen and written into RUN/recipe.yaml."
)
@with_options_of(FewShotRecipe)
def train(
    source: Data,
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
    """Train a few-shot learner, judged on episodes of classes it never saw, and calibrate it."""
    with told_of_episodes(debug, again=f"repeat the command to resume {out}") as screen:
        asked = checked(FewShotRecipe, merged(recipe, source, options))
        from tupelo.recipes import fewshot as job

        result = job.run(asked, out, screen)
        screen.result(result)
        _draw(result, screen)


@fewshot.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo fewshot evaluate runs/few other-photos/ --episodes 20\n\n"
    "tupelo fewshot evaluate runs/omniglot omniglot --ways 20 --shots 5\n\n"
    "The table of a paper is a few of these; each writes its numbers as JSON beside the run."
)
def evaluate(
    run: FewShotRun,
    source: Data,
    ways: Annotated[
        int | None,
        typer.Option(metavar="N", help="classes of an episode \\[as trained]", show_default=False),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="support pictures of each \\[as trained]", show_default=False
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(metavar="N", help="asked of each class \\[as trained]", show_default=False),
    ] = None,
    episodes: Annotated[int, typer.Option(metavar="N", help="how many")] = 1000,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="all|train|validation|test",
            help="of DATA as the run divides it \\[test where it is the run's, else all]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="of the episodes")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="for the numbers, JSON \\[in RUN/evaluated]", show_default=False
        ),
    ] = None,
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Measure accuracy on episodes, with its 95 % interval and the calibration of answers."""
    with told_of_episodes(debug) as screen:
        if part not in (None, "all", "train", "validation", "test"):
            raise InputError(f"--part must be all, train, validation or test, got {part}")
        from tupelo.recipes import fewshot_using as using
        from tupelo.recipes.places import write_text

        opened = using.open_run(run)
        if ways is not None:
            using.check_ways(opened, ways, f"--ways {ways}")
        chosen = part or using.usual_part(opened, source)
        data = using.read_like(
            opened,
            source,
            whole=chosen == "all",
            columns=as_columns(column or []) or None,
            allow_bad=allow_bad,
            progress=screen.reading,
        )
        pictures, note = using.part_of(opened, data, chosen, source)
        layout = using.layout_for(opened, pictures, ways=ways, shots=shots, queries=queries)
        scores = using.judged(
            opened,
            pictures,
            layout,
            episodes=episodes,
            seed=seed,
            watcher=screen,
            part=chosen,
        )
        name = f"{layout.ways}-way-{layout.shots}-shot-{chosen}.json"
        place = run / "evaluated" / name if out is None else out
        place.parent.mkdir(parents=True, exist_ok=True)
        told = {"run": str(run), "source": source, "part": chosen, **scores}
        write_text(place, json.dumps(told, indent=2) + "\n")
        screen.judged(scores, place, note)


@fewshot.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo fewshot classify runs/few --support shop/ query.jpg\n\n"
    "tupelo fewshot classify runs/few --support shop/ queries/ --html answers.html\n\n"
    "tupelo fewshot classify runs/few --support shop/ query.jpg --json\n\n"
    "FOLDER has a sub-folder for each class with some pictures in it: any number of classes, of "
    "pictures of each, and none of them need have trained. (A graph network answers among as many "
    "classes as it was trained for, from as many pictures of each.)"
)
def classify(
    run: FewShotRun,
    support: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="pictures of known class, in a sub-folder for each class"
        ),
    ],
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="pictures, or folders of them; where these have sub-folders of the same names, "
            "each answer is marked right or wrong",
            show_default=False,
        ),
    ],
    neighbours: Annotated[
        int, typer.Option("--neighbours", "-k", metavar="N", help="support pictures shown for each")
    ] = 5,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="of the probabilities: higher is less sure \\[as calibrated]",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="also write a page with the pictures"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON and nothing else; a page only with --html")
    ] = False,
    debug: Debug = False,
) -> None:
    """Classify pictures by your own few of each class: probabilities, and the nearest of them."""
    with told_of_episodes(debug, aside=as_json) as screen:
        if html is not None:
            from tupelo.report import fewshot as pages

            pages.check_extra()
            if html.is_dir():
                raise InputError(f"--html must be a file, got the folder {html}")
        from tupelo.recipes import fewshot_classifying as job
        from tupelo.recipes.fewshot_using import open_run

        opened = open_run(run)
        options = {"reading": screen.reading, "embedding": screen.embedding}
        known = job.read_support(opened, support, **options)
        found = job.classified(
            opened,
            known,
            job.read_queries(opened, query, **options),
            neighbours=neighbours,
            temperature=temperature,
        )
        if as_json:
            typer.echo(json.dumps({"run": str(run), **found.as_json()}, indent=1))
        else:
            screen.answers(found)
        if html is not None:
            from tupelo.report import fewshot as pages

            page = pages.of_answers(found, html, run=run.name)
            if not as_json:
                screen.path("page", page)


def merged(file: Path | None, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe file, overridden by the options that were given.

    Another method than that of the file drops what belongs to the method, other ways or shots what
    follows from them, unless these are given too; options of the head are overridden one by one.

    Raises:
        InputError: as `read_recipe`, or a column or an option is not given as NAME=VALUE.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    stated = {} if file is None else read_recipe(file)
    usual = FewShotRecipe.model_fields["method"].default
    dropped: set[str] = set()
    if given.get("method", stated.get("method", usual)) != stated.get("method", usual):
        dropped |= OF_METHOD
    if any(given.get(name, stated.get(name)) != stated.get(name) for name in ("ways", "shots")):
        dropped |= OF_TASKS
    stated = {name: value for name, value in stated.items() if name not in dropped}
    if "columns" in given:
        given["columns"] = as_columns(given["columns"])
    if "head_options" in given:
        asked = as_options(given["head_options"], "--head-option")
        given["head_options"] = {**(stated.get("head_options") or {}), **asked}
    return {**stated, **given, "source": source}


def _draw(result: "Result", screen: "FewShotScreen") -> None:
    """Write the page of a run that has just ended; whatever fails, the run is finished."""
    from tupelo.cli.reporting import drawn_or_told
    from tupelo.report import fewshot as pages

    path = result.folder / pages.NAME
    if result.repeated and path.exists():
        screen.path("report", path)
        return
    drawn_or_told(
        result.folder, lambda: pages.of_run(result.folder, result.judged, result.tasks), screen
    )
