"""YouTube Faces: PERSON/VIDEO folders of frames, and ten folds of pairs of videos."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int

from tupelo.data.official.layout import read_text
from tupelo.data.official.protocol import PairList, check_folds, pair_list
from tupelo.errors import DataError


def folds(path: Path) -> PairList:
    """The pairs of videos of `splits.txt`, or of the published `meta_and_splits.mat`.

    A line of `splits.txt` is the number of the fold, two videos as PERSON/NUMBER, and whether both
    show one person (1) or not (0), with commas between; a heading is passed over. In a `.mat`
    file, `video_names` holds the videos and `Splits` (pairs, 3, folds) two numbers of videos, from
    1, and 1 for one person.

    Raises:
        DataError: the file is missing, damaged or of another format, or its folds differ in size
            or hold unequal numbers of both kinds.
    """
    rows = _of_mat(path) if path.suffix == ".mat" else _of_text(path)
    if not rows:
        raise DataError(f"{path} holds no pairs; get it again")
    listed = pair_list([row[1:] for row in rows], [row[0] for row in rows])
    sizes = np.unique(listed.folds, return_counts=True)[1]
    half = int(sizes.max()) // 2
    return check_folds(listed, path, half, half)


def frames(
    names: Sequence[str], videos: Sequence[str], where: str, *, most: int | None = None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Which names are frames of which video: those that lie in a folder PERSON/VIDEO.

    Args:
        names: of pictures, perhaps below other folders.
        videos: PERSON/NUMBER of each.
        where: the names come from, for a message.
        most: frames of a video, evenly spread over it; None: all.

    Returns:
        Places in `names`, frames of a video in the order of their numbers, and their videos.

    Raises:
        DataError: a video has no frame.

    >>> found = frames(["a/1/0.10.jpg", "a/1/0.9.jpg", "b/1/0.1.jpg"], ["a/1"], "here")
    >>> [each.tolist() for each in found]
    [[1, 0], [0, 0]]
    """
    number = {video: place for place, video in enumerate(videos)}
    members: list[list[int]] = [[] for _ in videos]
    for place, name in enumerate(names):
        video = number.get("/".join(PurePosixPath(name).parts[-3:-1]))
        if video is not None:
            members[video].append(place)
    lost = [video for video, found in zip(videos, members, strict=True) if not found]
    if lost:
        raise DataError(
            f"{where} lacks the frames of {len(lost)} of {len(videos)} videos, first {lost[0]}; "
            "frames must lie in a folder of that name"
        )
    for video, found in enumerate(members):
        found.sort(key=lambda place: _natural(names[place]))
        if most is not None and len(found) > most:
            spread = (np.arange(most) * len(found)) // most
            members[video] = [found[place] for place in spread]
    counts = [len(found) for found in members]
    return (
        np.array([place for found in members for place in found], np.int64),
        np.repeat(np.arange(len(videos)), counts),
    )


def _of_text(path: Path) -> list[tuple[int, str, str, bool]]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = [field.strip() for field in line.split(",")]
        if not line.strip() or (number == 1 and not fields[0].isdecimal()):
            continue
        videos = [field for field in fields[1:-1] if re.fullmatch(r"[^/]+/\d+", field)]
        if not fields[0].isdecimal() or len(videos) != 2 or fields[-1] not in ("0", "1"):
            raise DataError(
                f"{path}, line {number} must be FOLD, PERSON/VIDEO, PERSON/VIDEO, 0 or 1, it is "
                f"{line!r}; get the list again"
            )
        rows.append((int(fields[0]), *videos, fields[-1] == "1"))
    return rows


def _of_mat(path: Path) -> list[tuple[int, str, str, bool]]:
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the archive it is part of again")
    try:
        held = loadmat(path, variable_names=("video_names", "Splits"))
        names = [str(cell).strip() for cell in np.array(held["video_names"]).reshape(-1)]
        if names and names[0].startswith("["):  # a cell array: each a one-element array
            names = [str(cell.reshape(-1)[0]) for cell in held["video_names"].reshape(-1)]
        splits = np.array(held["Splits"], np.int64)
        return [
            (fold + 1, names[one - 1], names[other - 1], same == 1)
            for fold in range(splits.shape[2])
            for one, other, same in splits[:, :3, fold].tolist()
        ]
    except Exception as error:  # its reader raises anything on damaged bytes
        raise DataError(
            f"{path} is no meta_and_splits.mat of YouTube Faces: {error!r}; get it again"
        ) from error


def _natural(name: str) -> list[tuple[int, str]]:
    """Digits by their value, so that frame 10 comes after frame 9."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
