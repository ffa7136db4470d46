"""`tupelo track evaluate`: files of results against the truth."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tupelo.cli.app import Debug, told_of_scores
from tupelo.cli.track import track


@track.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo track evaluate results/ --truth MOT17/train\n\n"
    "tupelo track evaluate results/ --truth MOT17/train --only MOT17-02 --only MOT17-04\n\n"
    "tupelo track evaluate results/MOT17-02.txt --truth MOT17/train/MOT17-02/gt/gt.txt --json\n\n"
    "A result is MOTChallenge's: frame, id, x, y, w, h, confidence, -1, -1, -1. Numbers are those "
    "of TrackEval; --convention motmetrics for those of py-motmetrics."
)
def evaluate(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="a file SEQUENCE.txt, or a folder of such files",
            show_default=False,
        ),
    ],
    truth: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="sequences in MOTChallenge's layout (SEQUENCE/gt/gt.txt), a folder of files "
            "SEQUENCE.txt, or one file",
            show_default=False,
        ),
    ],
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="mot17|mot20|mot15|plain",
            help="whose rules say which boxes count \\[by the truth: with classes mot17 or mot20, "
            "without mot15]",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SEQUENCE", help="score this one; may be repeated \\[all]"),
    ] = None,
    convention: Annotated[
        str, typer.Option(metavar="trackeval|motmetrics", help="what CLEAR MOT leaves open")
    ] = "trackeval",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="for all numbers, JSON \\[scores.json beside the results]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the numbers as JSON and nothing else")
    ] = False,
    debug: Debug = False,
) -> None:
    """Score results of a tracker: CLEAR MOT, IDF1 and HOTA, of each sequence and pooled."""
    with told_of_scores(debug, aside=as_json) as screen:
        from tupelo.errors import InputError
        from tupelo.evaluation import MOTMETRICS, TRACKEVAL
        from tupelo.recipes.places import write_text
        from tupelo.recipes.tracks_evaluating import judge_folder

        conventions = {"trackeval": TRACKEVAL, "motmetrics": MOTMETRICS}
        if convention not in conventions:
            raise InputError(f"--convention must be {' or '.join(conventions)}, got {convention}")
        place = out or (results.parent if results.is_file() else results) / "scores.json"
        if not place.parent.is_dir():
            raise InputError(f"--out {place} must be in a folder that is there")
        judged = judge_folder(
            results,
            truth,
            benchmark=benchmark,
            only=tuple(only or ()),
            rules=conventions[convention],
            progress=screen.scoring,
        )
        numbers = {"convention": convention, **judged.as_json()}
        write_text(place, json.dumps(numbers, indent=2) + "\n")
        screen.judged(judged, convention, place)
        if as_json:
            typer.echo(json.dumps(numbers, indent=1))
