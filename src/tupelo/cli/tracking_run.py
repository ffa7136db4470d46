"""Tracking: `tupelo track SEQUENCE`, `tupelo track ablation` and `tupelo track scene`."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import AllowBad, Debug, told_of_tracks
from tupelo.cli.track import track
from tupelo.errors import DataError, InputError
from tupelo.tracking import TrackerSettings
from tupelo.tracking.scenes import Scene

if TYPE_CHECKING:
    from tupelo.recipes.crop_embedding import OpenedEmbedder
    from tupelo.recipes.footage import Footage
    from tupelo.recipes.tracking import Cost, Step

USES = {"1": 1, "2": 2, "3": 3}
VIDEOS = ("mp4", "gif", "webp")
Embedder = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN", help="what tupelo reid train (or tupelo train) wrote", show_default=False
    ),
]
Frames = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="the first N frames only", show_default=False)
]
Distance = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="cosine distance up to which two looks are one object \\[of the run's calibration, "
        "else 0.25; after an occlusion and for proposals 0.8 of it]",
        show_default=False,
        rich_help_panel="Tracker",
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="any other setting of the tracker, such as max_age=60 or min_confidence=0.2",
        show_default=False,
        rich_help_panel="Tracker",
    ),
]


@track.command(
    "run",
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo track scenes/one --embedder runs/reid\n\n"
    "tupelo track MOT17-02/ --uses none\n\n"
    "tupelo track street.mp4 --detections street.txt --embedder runs/reid --video\n\n"
    "tupelo track MOT17-02/ --embedder runs/reid --uses 1,2 --contact-sheet\n\n"
    "SEQUENCE is a folder in MOTChallenge's layout (img1/, det/det.txt, seqinfo.ini, and gt/gt.txt "
    "for scores), or a video file with --detections. OUT/NAME.txt is MOTChallenge's result format.",
)
def run(
    sequence: Annotated[
        Path,
        typer.Argument(
            metavar="SEQUENCE", help="a MOTChallenge folder or a video file", show_default=False
        ),
    ],
    embedder: Embedder = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="of a video, in the format of det.txt", show_default=False
        ),
    ] = None,
    uses: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,3|none",
            help="of the appearance: 1 against identity switches, 2 through occlusion, 3 proposals "
            "where the detector fails \\[1,2,3 with --embedder, else none]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="results go there")] = Path("tracks"),
    video: Annotated[bool, typer.Option("--video", help="write a video with the tracks")] = False,
    video_as: Annotated[
        str, typer.Option(metavar="|".join(VIDEOS), help="mp4 needs OpenCV, gif and webp are short")
    ] = "mp4",
    contact_sheet: Annotated[
        bool, typer.Option("--contact-sheet", help="write a picture with a row for each track")
    ] = False,
    frames: Frames = None,
    distance: Distance = None,
    setting: Setting = None,
    debug: Debug = False,
) -> None:
    """Follow objects through a sequence."""
    with told_of_tracks(debug, again="nothing was written") as screen:
        settings = _settings(uses, embedder is not None, setting)
        if video_as not in VIDEOS:
            raise InputError(f"--video-as must be {', '.join(VIDEOS)}, got {video_as}")
        from tupelo.recipes import tracking as job

        footage = _footage(sequence, detections)
        if footage.pictures is None and (video or contact_sheet):
            raise InputError(
                f"--video and --contact-sheet need the pictures of {footage.name}, and there are "
                "none"
            )
        opened = _opened(embedder, settings)
        settings, why = _thresholds(settings, opened, distance, setting)
        embed = None if opened is None else opened.embed
        job.check_needs(footage, settings, embed)
        total = footage.length if frames is None else min(frames, footage.length)
        screen.begins(footage, settings, why, total)
        clip = out / f"{footage.name}.{video_as}" if video else None
        sheet = out / f"{footage.name}.png" if contact_sheet else None
        with _pictured(clip, sheet, footage.frame_rate) as watch:
            result = job.run(
                footage,
                settings,
                embed,
                frames=frames,
                watch=[lambda step, cost: screen.tracking(step, cost, total), *watch],
            )
        path = job.write(result, out)
        screen.result(result)
        written = [("result", path), ("summary", path.with_suffix(".json"))]
        written += [("video", clip)] if clip is not None else []
        written += [("sheet", sheet)] if sheet is not None and sheet.exists() else []
        screen.written(written)


@track.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo track ablation scenes/one --embedder runs/reid\n\n"
    "tupelo track ablation MOT17/train/*-FRCNN --embedder runs/reid --out mot17\n\n"
    "Sequences need their truth (gt/gt.txt). Scores are pooled: counts are added first.",
)
def ablation(
    sequences: Annotated[
        list[Path],
        typer.Argument(
            metavar="SEQUENCE...", help="folders in MOTChallenge's layout", show_default=False
        ),
    ],
    embedder: Embedder = None,
    out: Annotated[
        Path, typer.Option(metavar="NAME", help="NAME.json and NAME.md are written")
    ] = Path("ablation"),
    frames: Frames = None,
    distance: Distance = None,
    setting: Setting = None,
    debug: Debug = False,
) -> None:
    """Compare what each use of the appearance is worth: none, each, pairs, all."""
    with told_of_tracks(debug, again="nothing was written") as screen:
        if embedder is None:
            raise InputError("ablation compares the uses of a network: give --embedder RUN")
        settings = _settings("1,2,3", True, setting)
        from tupelo.recipes import tracking_ablation as job
        from tupelo.recipes.footage import of_folder
        from tupelo.recipes.places import write_text

        opened = _opened(embedder, settings)
        settings, _ = _thresholds(settings, opened, distance, setting)
        embed = None if opened is None else opened.embed
        footages = [of_folder(folder) for folder in sequences]
        found = job.ablation(footages, settings, embed, frames=frames, progress=screen.comparing)
        screen.ablation(found)
        out.parent.mkdir(parents=True, exist_ok=True)
        paths = [("table", _named(out, ".md")), ("numbers", _named(out, ".json"))]
        write_text(paths[0][1], found.markdown())
        write_text(paths[1][1], json.dumps(found.as_json(), indent=1) + "\n")
        screen.written(paths)


@track.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo track scene crops/ --out scenes/one\n\n"
    "tupelo track scene crops/ --crossing --walkers 12 --seed 3 --out scenes/crossing\n\n"
    "tupelo track scene known:lfw --unseen-by runs/faces --out scenes/faces\n\n"
    "Objects that look like the crops walk over a background, hide each other, and are reported by "
    "a detector that fails in bursts; the folder is a sequence with truth.",
)
def scene(
    crops: Annotated[
        str,
        typer.Argument(
            metavar="CROPS",
            help="a folder with a sub-folder of pictures for each identity, or what tupelo train "
            "reads",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="a new folder, the sequence")],
    unseen_by: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="only identities that did not train in this run", show_default=False
        ),
    ] = None,
    walkers: Annotated[int, typer.Option(metavar="N", help="objects")] = Scene.walkers,
    frames: Annotated[int, typer.Option(metavar="N", help="of the sequence")] = Scene.frames,
    width: Annotated[int, typer.Option(metavar="N", help="of a frame, pixels")] = Scene.width,
    height: Annotated[int, typer.Option(metavar="N", help="of a frame, pixels")] = Scene.height,
    crossing: Annotated[
        bool, typer.Option("--crossing", help="on two lanes at similar speeds, and turning back")
    ] = False,
    drop_out: Annotated[
        float, typer.Option(metavar="X", help="how often a frame the detector loses an object")
    ] = Scene.drop_out,
    false_positives: Annotated[
        float, typer.Option(metavar="X", help="of the detector, mean number in a frame")
    ] = Scene.false_positives,
    seed: Annotated[int, typer.Option(metavar="N", help="of everything")] = 0,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Render a sequence with truth from crops of identities, to try the tracker on."""
    with told_of_tracks(debug, again="nothing was written") as screen:
        wanted = Scene(
            width=width,
            height=height,
            walkers=walkers,
            frames=frames,
            crossing=crossing,
            drop_out=drop_out,
            false_positives=false_positives,
            seed=seed,
        )
        from tupelo.recipes.tracking_scenes import read_crops
        from tupelo.tracking.scene_files import check_new, write_scene
        from tupelo.tracking.scenes import render

        check_new(out)
        shown = read_crops(
            crops,
            walkers,
            seed=seed,
            unseen_by=unseen_by,
            allow_bad=allow_bad,
            progress=screen.reading,
        )
        rendered = render(shown, wanted)
        write_scene(rendered, out, progress=screen.rendering)
        hidden = (rendered.visibility < 1 - wanted.covered).mean()
        screen.line(
            f"{frames:,} frames of {width} x {height}: {walkers} objects, "
            f"{len(rendered.detections):,} detections, {100 * hidden:.0f} % of boxes hidden"
        )
        screen.written([("sequence", out)])
        screen.line(f"next  tupelo track run {out} --embedder RUN")


def _footage(sequence: Path, detections: Path | None) -> "Footage":
    from tupelo.recipes.footage import of_folder, of_video

    if not sequence.exists():
        raise DataError(f"{sequence} is not there; give a MOTChallenge folder or a video file")
    if sequence.is_dir():
        if detections is not None:
            raise InputError(
                f"--detections belongs to a video file; {sequence} is a folder, whose detections "
                "are det/det.txt"
            )
        return of_folder(sequence)
    if detections is None:
        raise InputError(f"{sequence} is a file: give its detections with --detections FILE")
    return of_video(sequence, detections)


def _settings(uses: str | None, network: bool, stated: list[str] | None) -> TrackerSettings:
    """The settings as stated, still without the distances of a network."""
    chosen = uses if uses is not None else "1,2,3" if network else "none"
    names = [] if chosen == "none" else [each.strip() for each in chosen.split(",")]
    if not set(names) <= set(USES) or (not names and chosen != "none"):
        raise InputError(f"--uses must be of 1,2,3, or none, got {chosen}")
    settings = replace(TrackerSettings(), **_stated(stated))
    return settings.with_uses(*(USES[name] for name in names))


def _stated(values: list[str] | None) -> dict[str, Any]:
    """Values of --set by name, in the type of the setting."""
    known = {
        name: value
        for name, value in vars(TrackerSettings()).items()
        if not isinstance(value, bool) or name == "cascade"
    }
    given: dict[str, Any] = {}
    for text in values or []:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"--set must be NAME=VALUE, of {', '.join(known)}; got {text}")
        given[name] = _value(name, value, type(known[name]))
    return given


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        if kind is not bool:
            return kind(text)
    except ValueError:
        pass
    what = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    raise InputError(f"--set {name} must be {what}, got {text}")


def _opened(run: Path | None, settings: TrackerSettings) -> "OpenedEmbedder | None":
    if run is None or not settings.needs_embeddings:
        return None
    from tupelo.recipes.crop_embedding import open_embedder

    return open_embedder(run)


def _thresholds(
    settings: TrackerSettings,
    opened: "OpenedEmbedder | None",
    distance: float | None,
    stated: list[str] | None,
) -> tuple[TrackerSettings, str]:
    """Settings with the distances of the network, and where these come from."""
    of_run = None if opened is None else opened.far_distance
    far = of_run if distance is None else distance
    why = "as given" if distance is not None else "where 1 % of strangers pass, as the run measured"
    if far is None:
        return settings, "usual ones; the run holds no calibration, which tupelo reid train makes"
    if not 0 < far <= 2:
        raise InputError(f"--distance must be in (0, 2], got {far:g}")
    own = _stated(stated)
    same = 0.0 if opened is None or distance is not None else opened.same_distance or 0.0
    made = TrackerSettings.calibrated(far, same)
    names = [n for n in ("appearance", "reidentify", "proposal") if n not in own]
    return replace(settings, **{name: getattr(made, name) for name in names}), why


@contextmanager
def _pictured(
    clip: Path | None, sheet: Path | None, frame_rate: float
) -> "Iterator[list[Callable[[Step, Cost], None]]]":
    """What is drawn while frames pass; files are there when the context ends well."""
    from PIL import Image

    from tupelo.tracking.drawing import ContactSheet, draw_tracks
    from tupelo.tracking.video import VideoWriter

    watch: list[Callable[[Step, Cost], None]] = []
    with ExitStack() as stack:
        if clip is not None:
            video = stack.enter_context(VideoWriter(clip, frame_rate))

            def film(step: "Step", cost: "Cost") -> None:
                seen = step.tracked
                if step.picture is not None:
                    video.write(draw_tracks(step.picture, seen.ids, seen.boxes, seen.proposed))

            watch.append(film)
        rows = ContactSheet()

        def keep(step: "Step", cost: "Cost") -> None:
            if step.picture is not None:
                rows.add(step.picture, step.tracked.ids, step.tracked.boxes, step.tracked.proposed)

        if sheet is not None:
            watch.append(keep)
        yield watch
    if sheet is not None and len(rows):
        sheet.parent.mkdir(parents=True, exist_ok=True)
        unfinished = sheet.with_name(f".{sheet.stem}.writing.png")
        Image.fromarray(rows.draw()).save(unfinished)
        unfinished.replace(sheet)


def _named(path: Path, ending: str) -> Path:
    return path if path.suffix == ending else path.with_name(path.name + ending)
