"""A rendered scene as a folder in MOTChallenge's layout."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tupelo.errors import InputError
from tupelo.tracking.scenes import RenderedScene

QUALITY = 92  # of JPEG
FRAME_RATE = 30


def write_scene(
    rendered: RenderedScene,
    folder: str | Path,
    *,
    frame_rate: int = FRAME_RATE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a scene: `img1/000001.jpg` and on, `det/det.txt`, `gt/gt.txt`, `seqinfo.ini`.

    The name of the folder is the name of the sequence. Coordinates in files count from 1. It is
    written whole or not at all.

    Args:
        rendered: what `render` made.
        folder: must not be there, or be empty.
        frame_rate: told to whoever plays it, frames a second.
        progress: called with (frames done, frames in all).

    Raises:
        InputError: the folder holds something.
    """
    folder = Path(folder)
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.writing", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        for name in ("img1", "det", "gt"):
            (unfinished / name).mkdir()
        scene = rendered.scene
        for number, picture in enumerate(rendered.pictures(), 1):
            Image.fromarray(picture).save(
                unfinished / "img1" / f"{number:06d}.jpg", quality=QUALITY
            )
            if progress is not None:
                progress(number, scene.frames)
        (unfinished / "det" / "det.txt").write_text("".join(_detection_lines(rendered)))
        (unfinished / "gt" / "gt.txt").write_text("".join(_truth_lines(rendered)))
        (unfinished / "seqinfo.ini").write_text(
            f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={frame_rate}\n"
            f"seqLength={scene.frames}\nimWidth={scene.width}\nimHeight={scene.height}\n"
            "imExt=.jpg\n"
        )
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def check_new(folder: Path) -> None:
    """Refuse a folder in use.

    Raises:
        InputError: see `write_scene`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} must be a new or empty folder, and something is there")


def _detection_lines(rendered: RenderedScene) -> Iterable[str]:
    rows = zip(
        rendered.detection_frames,
        rendered.detections + np.array([1.0, 1.0, 0.0, 0.0]),
        rendered.confidence,
        strict=True,
    )
    for frame, (x, y, w, h), confidence in rows:
        yield f"{frame},-1,{x:.2f},{y:.2f},{w:.2f},{h:.2f},{confidence:.4f},-1,-1,-1\n"


def _truth_lines(rendered: RenderedScene) -> Iterable[str]:
    """By frame; each object a pedestrian (class 1) that counts (flag 1)."""
    for frame, (boxes, visibility) in enumerate(
        zip(rendered.boxes, rendered.visibility, strict=True), 1
    ):
        for walker, ((x, y, w, h), seen) in enumerate(zip(boxes, visibility, strict=True), 1):
            yield f"{frame},{walker},{x + 1:.0f},{y + 1:.0f},{w:.0f},{h:.0f},1,1,{seen:.4f}\n"
