"""Seven sequences of MOT17 as plain files: truth, public detections, results, a few frames.

The layout is `gt/SEQ.txt.gz` with `SEQ.seqinfo.ini`, `det_frcnn/SEQ.txt.gz`,
`tracker_mpntrack_frcnn/SEQ.txt.gz` and `frames_half/SEQ/000001.jpg` of reduced size.
"""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from tupelo.errors import DataError
from tupelo.tracking.mot_files import (
    MotRows,
    Sequence,
    check_length,
    read_detections,
    read_info,
    read_results,
    read_truth,
)

MOT17 = tuple(f"MOT17-{number}" for number in ("02", "04", "05", "09", "10", "11", "13"))
"""The sequences that have a truth."""


def full_sequence(root: str | Path, name: str) -> Sequence:
    """All frames of a sequence, without pictures: truth and public detections.

    Args:
        root: holds `gt/` and `det_frcnn/`.
        name: one of `MOT17`.

    Raises:
        DataError: a file is missing or damaged.
    """
    root = Path(root)
    info = replace(read_info(root / "gt" / f"{name}.seqinfo.ini"), name=name)
    detections = read_detections(root / "det_frcnn" / f"{name}.txt.gz")
    truth = read_truth(root / "gt" / f"{name}.txt.gz")
    for kind, rows in (("det_frcnn", detections), ("gt", truth)):
        check_length(root / kind / f"{name}.txt.gz", rows, info.length)
    return Sequence(info, detections, truth, root / "frames_half" / name)


def first_frames(root: str | Path, name: str) -> Sequence:
    """The frames whose pictures are there, with truth and detections in the pixels of these.

    Args:
        root: as for `full_sequence`, and `frames_half/`.
        name: one of `MOT17`.

    Raises:
        DataError: a file is missing or damaged, or pictures are of other proportions.
    """
    sequence = full_sequence(root, name)
    info = sequence.info
    pictures = sorted(sequence.pictures.glob(f"*{info.extension}"))
    if not pictures:
        raise DataError(f"{sequence.pictures} holds no pictures")
    with Image.open(pictures[0]) as opened:
        width, height = opened.size
    if width * info.height != height * info.width:
        raise DataError(
            f"{pictures[0]} is of {width} x {height} pixels, which is no reduction of "
            f"{info.width} x {info.height}"
        )
    last, share = len(pictures), width / info.width
    return Sequence(
        replace(info, length=last, width=width, height=height),
        _reduced(sequence.detections, last, share),
        None if sequence.truth is None else _reduced(sequence.truth, last, share),
        sequence.pictures,
    )


def mpntrack(root: str | Path, name: str) -> MotRows:
    """What the tracker MPNTrack made of a sequence.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_results(Path(root) / "tracker_mpntrack_frcnn" / f"{name}.txt.gz")


def _reduced(rows: MotRows, last: int, share: float) -> MotRows:
    kept = rows.take(rows.frames <= last)
    return replace(kept, boxes=kept.boxes * share)
