"""Results of a tracker against the truth, by the rules of MOTChallenge.

    tupelo track evaluate results/ --truth MOT17/train

Expected time: a second for each sequence of a thousand frames.
Expected result: CLEAR MOT, IDF1 and HOTA of each sequence and of all together.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.errors import DataError, InputError
from tupelo.evaluation import (
    DISTRACTORS,
    MOT20_DISTRACTORS,
    TRACKEVAL,
    ClearRules,
    TrackingScores,
    Tracks,
    pooled,
    preprocess_mot,
    score_tracks,
)
from tupelo.tracking.mot_files import (
    MotRows,
    check_length,
    either,
    find_sequences,
    read_info,
    read_results,
    read_truth,
)

BENCHMARKS: dict[str, tuple[int, ...] | None] = {
    "mot16": DISTRACTORS,
    "mot17": DISTRACTORS,
    "mot20": MOT20_DISTRACTORS,
    "mot15": None,
    "plain": None,
}
"""Classes that excuse a result; None: classes do not matter, all true boxes with a flag count."""
ENDINGS = (".txt.gz", ".txt")


@dataclass(frozen=True)
class Truth:
    """Where the truth of a sequence is.

    Attributes:
        path: of its file.
        info: its `seqinfo.ini`; None where there is none.
    """

    path: Path
    info: Path | None


@dataclass(frozen=True, eq=False)
class TracksJudged:
    """What results came to.

    Attributes:
        benchmark: whose rules were followed in each sequence.
        sequences: scores by name.
        unused: results without a truth.
    """

    benchmark: dict[str, str]
    sequences: dict[str, TrackingScores]
    unused: tuple[str, ...]

    @property
    def together(self) -> TrackingScores:
        """Scores of all sequences, from their counts."""
        return pooled(list(self.sequences.values()))

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain values."""
        return {
            "pooled": self.together.as_json(),
            "sequences": {
                name: {"benchmark": self.benchmark[name], **scores.as_json()}
                for name, scores in self.sequences.items()
            },
            "unused": list(self.unused),
        }


def judge_folder(
    results: Path,
    truth: Path,
    *,
    benchmark: str | None = None,
    only: Collection[str] = (),
    rules: ClearRules = TRACKEVAL,
    progress: Callable[[str, int, int], None] | None = None,
) -> TracksJudged:
    """Score files of results.

    Args:
        results: a file SEQ.txt, or a folder of such files.
        truth: a folder in MOTChallenge's layout, a folder of files SEQ.txt, or one such file.
        benchmark: one of `BENCHMARKS`; None: mot20 where a name says so, mot17 where the truth has
            classes, mot15 where it has none.
        only: names of sequences; none: all that the truth has, or that of the one file.
        rules: of CLEAR MOT.
        progress: called with (name, sequences done, sequences in all).

    Raises:
        InputError: an unknown benchmark or name; a sequence without results.
        DataError: a file cannot be read, or does not belong to its sequence.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise InputError(f"--benchmark must be {', '.join(BENCHMARKS)}, got {benchmark}")
    found, known = find_results(results), find_truth(truth)
    if results.is_file() and truth.is_file():
        known = {next(iter(found)): next(iter(known.values()))}
    wanted = list(only) or list(found if results.is_file() else known)
    for names, what in ((known, f"--truth {truth}"), (found, str(results))):
        if missing := [name for name in wanted if name not in names]:
            raise InputError(
                f"{what} has nothing for {_few(missing)}; it has {_few(list(names))}. A sequence "
                "that is left out is not scored as found: name those to score with --only"
            )
    scores: dict[str, TrackingScores] = {}
    rule: dict[str, str] = {}
    for done, name in enumerate(wanted):
        if progress is not None:
            progress(name, done, len(wanted))
        rows = read_truth(known[name].path)
        rule[name] = benchmark or usual_benchmark(name, rows)
        result = read_results(found[name])
        info = known[name].info
        length = None if info is None else read_info(info).length
        if length is not None:
            check_length(known[name].path, rows, length)
            check_length(found[name], result, length)
        try:
            scores[name] = score_rows(rows, result, rule[name], length=length, rules=rules)
        except InputError as error:
            raise DataError(f"{found[name]} against {known[name].path}: {error}") from error
    return TracksJudged(rule, scores, tuple(name for name in found if name not in known))


def score_rows(
    truth: MotRows,
    result: MotRows,
    benchmark: str,
    *,
    length: int | None = None,
    rules: ClearRules = TRACKEVAL,
) -> TrackingScores:
    """Score one sequence.

    Args:
        truth: of all classes.
        result: of a tracker.
        benchmark: one of `BENCHMARKS`.
        length: frames of the sequence; None: not checked.
        rules: of CLEAR MOT.

    Raises:
        InputError: a result of another class than pedestrians; see also
            `tupelo.evaluation.preprocess_mot`.
    """
    others = np.flatnonzero(result.classes > 1)
    if len(others):
        raise InputError(
            "results must be pedestrians (class 1 or -1), frame "
            f"{result.frames[others[0]]} has class {result.classes[others[0]]}; leave others out"
        )
    distractors = BENCHMARKS[benchmark]
    scored, kept = preprocess_mot(
        Tracks(truth.frames, truth.ids, truth.boxes),
        (truth.confidence != 0).astype(np.int64),
        None if distractors is None else truth.classes,
        Tracks(result.frames, result.ids, result.boxes),
        distractors=distractors or (),
        length=length,
    )
    return score_tracks(scored, kept, rules)


def usual_benchmark(name: str, truth: MotRows) -> str:
    """The benchmark whose files look so."""
    if (truth.classes < 0).all():
        return "mot15"
    return "mot20" if name.upper().startswith("MOT20") else "mot17"


def find_truth(path: Path) -> dict[str, Truth]:
    """Truth by name of the sequence.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return {_stem(path): _beside(path)}
    if found := _files(path):
        return {name: _beside(file) for name, file in found.items()}
    folders = {folder: either(folder / "gt" / "gt.txt") for folder in find_sequences(path)}
    known = {
        folder.name: Truth(file, folder / "seqinfo.ini")
        for folder, file in folders.items()
        if file.is_file()
    }
    if not known:
        raise DataError(f"{path} has sequences and no truth: none holds gt/gt.txt")
    return known


def find_results(path: Path) -> Mapping[str, Path]:
    """Files of results by name of the sequence.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return {_stem(path): path}
    found = _files(path)
    if not found:
        raise InputError(f"{path} must be a file of results, or a folder of them: SEQUENCE.txt")
    return found


def _files(folder: Path) -> dict[str, Path]:
    return {_stem(path): path for path in sorted(folder.glob("*")) if path.name.endswith(ENDINGS)}


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".txt")


def _beside(path: Path) -> Truth:
    info = path.with_name(f"{_stem(path)}.seqinfo.ini")
    return Truth(path, info if info.is_file() else None)


def _few(names: Collection[str]) -> str:
    shown = list(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
