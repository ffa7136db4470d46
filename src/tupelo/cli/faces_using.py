"""Faces: `tupelo faces train | verify | identify`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tupelo.cli.app import AllowBad, Column, Debug, Source, told
from tupelo.cli.faces import faces
from tupelo.cli.main_job import train_and_show
from tupelo.cli.options import OF_LOSS, as_columns, merged, with_options_of
from tupelo.errors import CheckpointError, InputError
from tupelo.recipes.faces import VARIANTS, with_variant
from tupelo.recipes.reading import recipe_from
from tupelo.recipes.recipe import RetrievalRecipe

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen
    from tupelo.recipes.face_thresholds import Setting, Thresholds
    from tupelo.recipes.faces_deciding import Identified
    from tupelo.trained import Trained

FaceRun = Annotated[
    Path, typer.Argument(metavar="RUN", help="what tupelo faces train wrote", show_default=False)
]
Far = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="false-accept rate at which the threshold was set: 0.1, 0.01, 0.001, 0.0001 \\[0.001, "
        "or the lowest the run could measure]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON and nothing else")]


@faces.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces train people/ --out runs/faces\n\n"
    "tupelo faces train people/ --variant exponential --epochs 40 --out runs/exponential\n\n"
    "tupelo faces train people/ --variant basic --loss-option margin=0.8 --out runs/basic\n\n"
    "tupelo faces train people/ --backbone resnet18 --weights faces.safetensors --out runs/mine\n\n"
    f"Variants: {', '.join(VARIANTS)}. Those of the angular-discriminative loss are reconstructed "
    "from the abstract of their paper. All options of tupelo train may be given. People who train, "
    "set thresholds (validation) and judge (test) are different ones. Repeat a command to resume."
)
@with_options_of(RetrievalRecipe)
def train(
    source: Source,
    out: Annotated[
        Path, typer.Option(metavar="RUN", help="folder of the run; resumed if it is there")
    ],
    variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="of the loss \\[normalised]", show_default=False),
    ] = None,
    flip: Annotated[
        bool,
        typer.Option("--flip/--no-flip", help="compare a picture together with its mirror image"),
    ] = True,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file of options; options given here override it"),
    ] = None,
    debug: Debug = False,
    **options: Any,
) -> None:
    """Train an embedding of faces, and set thresholds at false-accept rates."""
    with told(debug, again=f"repeat the command to resume {out}") as screen:
        asked = recipe_from(_values(variant, recipe, source, options))
        if asked.validation == 0 and asked.split != "given":
            raise InputError(
                "--validation must be above 0: its people, who do not train, set the thresholds"
            )
        if asked.split == "items":
            raise InputError(
                "--split items divides the pictures of each person, and thresholds need people "
                "who do not train; give --split classes"
            )
        train_and_show(asked, out, screen)
        from tupelo.recipes import face_thresholds as thresholds
        from tupelo.recipes import using

        opened = using.open_run(out)
        known = _known(opened.trained)
        if known is not None and known.flip == flip:
            _show(known, screen)
            return
        data = using.read_like(
            opened, source, whole=False, allow_bad=asked.allow_bad, progress=screen.reading
        )
        if data.validation is None:
            raise InputError(
                f"{source} comes without a validation part, whose people set the thresholds; give "
                "--split classes"
            )
        for name, part in (("validation", data.validation), ("test", data.test)):
            shared = set(data.train.class_names) & set(() if part is None else part.class_names)
            if shared:
                raise InputError(
                    f"{len(shared)} people of the {name} part also train, first {min(shared)}, and "
                    "thresholds need others; give --split classes"
                )
        found = thresholds.set_thresholds(
            opened.trained, data.validation, data.test, flip=flip, progress=screen.embedding
        )
        _show(found, screen)
        screen.path("thresholds", out / thresholds.NAME)


@faces.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces verify runs/faces one.jpg other.jpg\n\n"
    "tupelo faces verify runs/faces one.jpg other.jpg --far 0.0001 --json\n\n"
    "Give crops as those of the training. The command ends with 0 where it is the same person, "
    "with 1 where it is not, and with 2 on an error."
)
def verify(
    run: FaceRun,
    one: Annotated[Path, typer.Argument(metavar="A", help="a picture", show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="B", help="a picture", show_default=False)],
    far: Far = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Decide whether two pictures show the same person."""
    with told(debug, aside=as_json) as screen:
        from tupelo import trained
        from tupelo.recipes import faces_deciding as job

        found = job.verify(trained.load(run), one, other, far=far)
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=1))
        else:
            answer = "the same person" if found.same else "different people"
            screen.line(f"[bold]{answer}[/bold]")
            screen.line(
                f"similarity {found.similarity:.4f}, threshold {found.setting.threshold:.4f} "
                f"{_meaning(found.setting)}"
            )
    raise typer.Exit(0 if found.same else 1)


@faces.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces identify runs/faces probe.jpg --gallery people/\n\n"
    "tupelo faces identify runs/faces probes/*.jpg --gallery people/ -k 3 --json\n\n"
    "The gallery has a sub-folder for each person with any number of pictures, none of whom need "
    "have trained. For large galleries: tupelo index and tupelo search."
)
def identify(
    run: FaceRun,
    probe: Annotated[
        list[Path],
        typer.Argument(metavar="PROBE...", help="pictures of one person each", show_default=False),
    ],
    gallery: Annotated[
        str, typer.Option(metavar="SOURCE", help="known people: a sub-folder of pictures for each")
    ],
    far: Far = None,
    most: Annotated[
        int, typer.Option("--people", "-k", metavar="N", help="people shown for each probe")
    ] = 5,
    as_json: AsJson = False,
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Name the person in each picture, or nobody, from a gallery of known people."""
    with told(debug, aside=as_json) as screen:
        from tupelo.recipes import faces_deciding as job
        from tupelo.recipes import using

        opened = using.open_run(run)
        known = using.read_like(
            opened,
            gallery,
            columns=as_columns(column or []) or None,
            allow_bad=allow_bad,
            progress=screen.reading,
        ).train
        found, setting = job.identify(
            opened.trained, probe, known, far=far, most=most, progress=screen.embedding
        )
        if as_json:
            told_ = {"setting": asdict(setting), "people": known.n_classes}
            typer.echo(json.dumps(told_ | {"probes": [asdict(each) for each in found]}, indent=1))
            return
        _show_people(found, screen)
        screen.line(
            f"threshold {setting.threshold:.4f} {_meaning(setting)}; a stranger is compared with "
            f"{known.n_classes:,} people here, each time at that rate"
        )


def _values(
    variant: str | None, recipe: Path | None, source: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Values of the recipe file, the variant and the options, the last counting most."""
    values = merged(recipe, source, options)
    if variant is not None:  # takes the place of the loss that the file names
        given = merged(None, source, options)
        of_loss = {"loss", *OF_LOSS}
        values = {name: value for name, value in values.items() if name not in of_loss}
        values |= {name: given[name] for name in of_loss if name in given}
    return with_variant(variant, values)


def _known(trained: "Trained") -> "Thresholds | None":
    """The thresholds of the run, where they are there and of these weights."""
    from tupelo.recipes.face_thresholds import thresholds_of

    try:
        return thresholds_of(trained)
    except CheckpointError:
        return None


def _show(found: "Thresholds", screen: "Screen") -> None:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("false accepts", "threshold", "true accepts", "on test: false", "true"):
        table.add_column(name, justify="right")
    for each in found.settings:
        tested = ("", "")
        if each.test_far is not None and each.test_tar is not None:
            tested = (f"{100 * each.test_far:.3g} %", f"{100 * each.test_tar:.1f} %")
        row = (f"{100 * each.far:g} %", f"{each.threshold:.4f}", f"{100 * each.tar:.1f} %")
        table.add_row(*row, *tested)
    screen.line()
    screen.line("Verification, thresholds set on people of validation")
    screen.console.print(table)
    pairs = {name: f"{count:,}" for name, count in found.pairs.items()}
    part = "test" if "test genuine" in pairs else "validation"
    screen.line(
        f"AUC {found.auc:.4f}, EER {100 * found.eer:.2f} % on {part}: {pairs[f'{part} genuine']} "
        f"genuine and {pairs[f'{part} impostor']} impostor pairs"
    )


def _show_people(found: "list[Identified]", screen: "Screen") -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for each in found:
        name = "nobody of the gallery" if each.person is None else each.person
        table.add_row("", f"[bold]{escape(name)}[/bold]  {escape(each.probe)}")
        for match in each.matches:
            told_ = f"{escape(match.person)}  [dim]{escape(match.path)}[/dim]"
            table.add_row(f"{match.similarity:.4f}", told_)
    screen.console.print(table)


def _meaning(setting: "Setting") -> str:
    tested = ""
    if setting.test_far is not None and setting.test_tar is not None:
        tested = (
            f"; on people it had not seen: {100 * setting.test_far:.3g} % false and "
            f"{100 * setting.test_tar:.1f} % true accepts"
        )
    return f"(set at a false-accept rate of {100 * setting.far:g} %{tested})"
