"""Published protocols of face verification: `tupelo faces evaluate lfw | ytf | ijba`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import Debug, told
from tupelo.cli.faces import faces
from tupelo.cli.faces_lines import pairs_told, templates_told
from tupelo.errors import DataError, InputError

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen
    from tupelo.recipes.face_features import Faces

evaluate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure by a published protocol, on a run and its pictures or on a file of features.",
)
faces.add_typer(evaluate, name="evaluate")

Run = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]", help="what tupelo train wrote; or give --features", show_default=False
    ),
]
FeatureFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="features in place of a run: .npz of tupelo embed, .parquet or .csv",
        show_default=False,
    ),
]
Pictures = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="or zip, of pictures", show_default=False)
]
Flip = Annotated[
    bool, typer.Option("--flip/--no-flip", help="join features of a picture and its mirror image")
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="for the numbers, JSON \\[in RUN/evaluated, or beside the features]",
        show_default=False,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="for the page \\[beside the numbers, .html]", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the numbers as JSON and nothing else")]
LISTS = ("pairs.txt", "../pairs.txt")
SPLITS = ("splits.txt", "../splits.txt", "meta_data/meta_and_splits.mat",
          "../meta_data/meta_and_splits.mat")  # fmt: skip


@evaluate.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces evaluate lfw --features faces.npz --pairs pairs.txt\n\n"
    "tupelo faces evaluate lfw runs/faces\n\n"
    "tupelo faces evaluate lfw runs/faces --pictures lfw/ --pairs pairsDevTest.txt "
    "--threshold-pairs pairsDevTrain.txt\n\n"
    "Without --pictures, lfw/ below TUPELO_DATA. Without --pairs, pairs.txt beside the pictures: "
    "ten folds, the threshold of each chosen on the nine others."
)
def lfw(
    run: Run = None,
    features: FeatureFile = None,
    pictures: Pictures = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="list of pairs \\[pairs.txt]", show_default=False),
    ] = None,
    threshold_pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="for a list of one fold: pairs to choose the threshold on",
            show_default=False,
        ),
    ] = None,
    center: Annotated[
        bool, typer.Option("--center", help="subtract the mean feature of the other folds")
    ] = False,
    flip: Flip = True,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Labeled Faces in the Wild: accuracy over ten folds of pairs of pictures."""
    with told(debug, aside=as_json) as screen:
        target, page = _targets(run, features, "lfw", out, html)
        from tupelo.data.official import lfw as lists
        from tupelo.recipes import faces_evaluating as job

        if pictures is None and (run is not None or pairs is None):
            pictures = _known("lfw", "--pictures" if run is not None else "--pairs")
        listed = _beside(pairs, pictures, LISTS, "--pairs")
        found = _opened(run, features, pictures, flip, screen)
        judged = job.judge_lfw(
            found,
            lists.folds(listed),
            center=center,
            choose_on=None if threshold_pairs is None else lists.folds(threshold_pairs),
            about={"list": str(listed)},
        )
        pairs_told(judged, screen, target, page, as_json)


@evaluate.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces evaluate ytf --features frames.npz --splits splits.txt\n\n"
    "tupelo faces evaluate ytf runs/faces --pictures aligned_images_DB/ --frames 50\n\n"
    "Frames lie in folders PERSON/VIDEO. Without --splits, splits.txt or "
    "meta_data/meta_and_splits.mat beside the pictures."
)
def ytf(
    run: Run = None,
    features: FeatureFile = None,
    pictures: Pictures = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="list of pairs \\[splits.txt, or .mat]", show_default=False
        ),
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            metavar="mean|pairs",
            help="of two videos: cosine of their mean features, or mean cosine of 100 random "
            "pairs of frames",
        ),
    ] = "mean",
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="of each video, evenly spread \\[all]", min=1, show_default=False
        ),
    ] = None,
    flip: Flip = True,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """YouTube Faces: accuracy over ten folds of pairs of videos."""
    with told(debug, aside=as_json) as screen:
        target, page = _targets(run, features, "ytf", out, html)
        from tupelo import evaluation
        from tupelo.data.official import ytf as lists
        from tupelo.recipes import faces_evaluating as job

        scores = {"mean": evaluation.video_scores, "pairs": evaluation.frame_pair_scores}
        _check_choice("--score", score, scores)
        listed = _beside(splits, pictures, SPLITS, "--splits")
        judged = job.judge_ytf(
            _opened(run, features, pictures, flip, screen),
            lists.folds(listed),
            score=scores[score],
            frames=frames,
            about={"list": str(listed), "score": score},
        )
        pairs_told(judged, screen, target, page, as_json)


@evaluate.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo faces evaluate ijba --features templates.npz --tables ijba/\n\n"
    "tupelo faces evaluate ijba runs/faces --pictures images/ --tables ijba/ --undetected none.txt"
    "\n\nTABLES holds split1/verify_metadata_1.csv with verify_comparisons_1.csv, and "
    "search_gallery_1.csv with search_probe_1.csv, in folders as they were published."
)
def ijba(
    tables: Annotated[Path, typer.Option(metavar="FOLDER", help="of the tables of all splits")],
    run: Run = None,
    features: FeatureFile = None,
    pictures: Pictures = None,
    score: Annotated[
        str,
        typer.Option(
            metavar="mean|softmax",
            help="of two templates: cosine of their means over media, or softmax over cosines of "
            "all media",
        ),
    ] = "mean",
    sightings: Annotated[
        bool, typer.Option("--sightings", help="pictures are named by SIGHTING_ID, not by FILE")
    ] = False,
    crop: Annotated[
        bool, typer.Option("--crop", help="cut pictures to FACE_X, FACE_Y, ... of the tables")
    ] = False,
    undetected: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="names of pictures without a face, one a line",
            show_default=False,
        ),
    ] = None,
    max_rank: Annotated[
        int, typer.Option(metavar="N", help="candidates in the open set", min=1)
    ] = 20,
    open_set: Annotated[
        bool, typer.Option("--open-set/--closed-set", help="measure probes without a mate too")
    ] = True,
    flip: Flip = True,
    out: Out = None,
    html: Html = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """IJB-A: templates of pictures and frames, compared 1:1 and searched for 1:N."""
    with told(debug, aside=as_json) as screen:
        target, page = _targets(run, features, "ijba", out, html)
        if crop and (features is not None or sightings):
            raise InputError("--crop cuts whole pictures, so it needs RUN, without --sightings")
        from tupelo import evaluation
        from tupelo.data.official import ijba as protocol
        from tupelo.recipes import faces_templates as job

        scores = {"mean": evaluation.template_scores, "softmax": evaluation.softmax_scores}
        _check_choice("--score", score, scores)
        comparing, searching = protocol.read(tables)
        judged = job.judge_ijba(
            _opened(run, features, pictures, flip, screen),
            comparing,
            searching,
            score=scores[score],
            by_sighting=sightings,
            crop=crop,
            undetected=() if undetected is None else job.read_undetected(undetected),
            max_rank=max_rank,
            open_set=open_set,
            about={"tables": str(tables), "score": score},
        )
        templates_told(judged, screen, target, page, as_json)


def _opened(
    run: Path | None, features: Path | None, pictures: Path | None, flip: bool, screen: "Screen"
) -> "Faces":
    from tupelo.recipes import face_features
    from tupelo.trained import load

    if features is not None:
        return face_features.faces_from_file(features)
    if run is None or pictures is None:
        raise InputError("RUN needs --pictures, the folder or zip of the protocol's pictures")
    return face_features.faces_from_pictures(
        load(run), pictures, flip=flip, progress=screen.embedding
    )


def _targets(
    run: Path | None, features: Path | None, name: str, out: Path | None, html: Path | None
) -> tuple[Path, Path]:
    """Where numbers and page go; options that do not go together are refused before the work."""
    if (run is None) == (features is None):
        raise InputError("give RUN or --features FILE, one of them")
    if out is None:
        place = run / "evaluated" if run is not None else Path()
        if features is not None:
            out = features.with_name(f"{features.stem}-{name}.json")
        else:
            out = place / f"{name}.json"
    page = out.with_suffix(".html") if html is None else html
    for flag, path in (("--out", out), ("--html", page)):
        if path.is_dir():
            raise InputError(f"{flag} must be a file, got the folder {path}")
    if page == out:
        raise InputError(f"--out and --html must be two files, got {out} for both")
    return out, page


def _check_choice(flag: str, given: str, choices: dict[str, Any]) -> None:
    if given not in choices:
        raise InputError(f"{flag} must be {' or '.join(choices)}, got {given}")


def _known(name: str, flag: str) -> Path:
    from tupelo.data.official.places import root_folder

    try:
        folder = root_folder(None, name) / name
    except DataError as error:
        raise DataError(
            f"give {flag}, or set TUPELO_DATA to the folder that holds {name}/"
        ) from error
    if not folder.is_dir():
        raise DataError(f"{folder} is not there; give {flag}")
    return folder


def _beside(given: Path | None, pictures: Path | None, names: tuple[str, ...], flag: str) -> Path:
    """The list that was given, or the first that lies by the pictures."""
    if given is not None:
        return given
    if pictures is None:
        raise InputError(
            f"give {flag}, the list of pairs, or --pictures, the folder beside which it lies"
        )
    folder = pictures if pictures.is_dir() else pictures.parent
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"no {names[0]} lies beside {pictures}; give {flag}")
