"""The protocols of IJB-A, on features of any origin: templates compared, and searched for.

    tupelo faces evaluate ijba --features faces.npz --tables ijba/

Expected time: that of embedding the pictures; ten splits take a minute.
Expected result: TAR at FAR, ranks of mates, TPIR at FPIR, each with its spread over splits; a page.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tupelo import evaluation
from tupelo.data.decode import Box
from tupelo.data.features import match
from tupelo.data.official import ijba
from tupelo.errors import DataError, InputError
from tupelo.evaluation import Identified, Pooled, Roc, Spread
from tupelo.evaluation.verification import is_constant
from tupelo.recipes.face_features import Faces
from tupelo.recipes.faces_evaluating import COLLAPSED, FARS

FPIRS = (0.1, 0.01)
RANKS = (1, 5, 10)
TemplateScore = Callable[[Pooled, Int[np.ndarray, "n 2"]], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class TemplatesJudged:
    """What IJB-A came to.

    Attributes:
        about: what was compared, and how.
        rocs: of 1:1, by split.
        searches: of 1:N, by split.
        max_rank: length of the list of candidates in the open set.
        open_set: whether the open set was measured.
        failures: templates without a face, by split, in both parts together.
        notes: to be read beside the numbers.
    """

    about: dict[str, Any]
    rocs: dict[int, Roc]
    searches: dict[int, Identified]
    max_rank: int
    open_set: bool
    failures: dict[int, int]
    notes: tuple[str, ...]

    def tar(self, far: float) -> Spread:
        """True accepts at a rate of false ones, over splits."""
        return evaluation.over_splits([each.tar_at(far) for each in self.rocs.values()])

    def cmc(self, rank: int) -> Spread:
        """Mates among the first `rank`, over splits."""
        return evaluation.over_splits([each.cmc(rank) for each in self.searches.values()])

    def tpir(self, fpir: float) -> Spread:
        """Mates found at a rate of false alarms, over splits."""
        found = [each.tpir_at(fpir, max_rank=self.max_rank) for each in self.searches.values()]
        return evaluation.over_splits(found)

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain values: mean, std (ddof 1) and n_splits of each."""
        found: dict[str, Any] = {"protocol": "IJB-A", **self.about, "failures": self.failures}
        if self.rocs:
            rocs = self.rocs.values()
            found["verification"] = {
                "splits": len(self.rocs),
                "genuine": [len(each.genuine) for each in rocs],
                "impostor": [len(each.impostor) for each in rocs],
                "tar_at_far": {f"{far:g}": vars(self.tar(far)) for far in FARS},
                "auc": vars(evaluation.over_splits([each.auc for each in rocs])),
                "eer": vars(evaluation.over_splits([each.eer for each in rocs])),
            }
        if self.searches:
            searches = self.searches.values()
            found["identification"] = {
                "splits": len(self.searches),
                "gallery": [each.n_gallery for each in searches],
                "mated_probes": [len(each.ranks) for each in searches],
                "other_probes": [len(each.highest) for each in searches],
                "cmc": {str(rank): vars(self.cmc(rank)) for rank in RANKS},
            }
            if self.open_set:
                found["identification"] |= {
                    "max_rank": self.max_rank,
                    "tpir_at_fpir": {f"{fpir:g}": vars(self.tpir(fpir)) for fpir in FPIRS},
                }
        return found | {"notes": list(self.notes)}


def judge_ijba(
    faces: Faces,
    comparing: Sequence[ijba.Comparing],
    searching: Sequence[ijba.Searching],
    *,
    score: TemplateScore = evaluation.template_scores,
    by_sighting: bool = False,
    crop: bool = False,
    undetected: Sequence[str] = (),
    max_rank: int = 20,
    open_set: bool = True,
    about: dict[str, Any] | None = None,
) -> TemplatesJudged:
    """Templates, compared and searched for, split by split.

    Args:
        faces: features of pictures and frames.
        comparing: 1:1.
        searching: 1:N.
        score: of pairs of templates.
        by_sighting: pictures are named by SIGHTING_ID instead of FILE.
        crop: cut pictures to the faces of the tables.
        undetected: names of pictures in which no face was found; a template of such alone scores
            lowest, and stays.
        max_rank: length of the list of candidates in the open set.
        open_set: whether probes without a mate are measured.
        about: what else is to stand in the results.

    Raises:
        DataError: a picture is missing, or a file of two subjects is named by FILE uncropped.
        InputError: a split without genuine or impostor pairs, without mated probes, or, for the
            open set, without others.
    """
    tables = [each.table for each in comparing]
    tables += [table for each in searching for table in (each.gallery, each.probes)]
    if not by_sighting and not crop:
        _check_owners(tables)
    rows = _Rows.of(faces, tables, by_sighting, crop, undetected)
    rocs: dict[int, Roc] = {}
    searches: dict[int, Identified] = {}
    failures: dict[int, int] = {}
    notes: list[str] = []
    for each in comparing:
        with _naming(f"1:1 split {each.split}"):
            pooled = rows.pooled(each.table)
            same = each.table.subjects_of(each.pairs[:, 0]) == each.table.subjects_of(
                each.pairs[:, 1]
            )
            scores = score(pooled, each.pairs)
            rocs[each.split] = evaluation.roc(scores, same)
            failures[each.split] = int((~pooled.enrolled).sum())
            if is_constant(scores):
                notes.append(f"1:1 split {each.split}: {COLLAPSED}")
    for each in searching:
        with _naming(f"1:N split {each.split}"):
            found, failed = _searched(each, rows, score)
            searches[each.split] = found
            failures[each.split] = failures.get(each.split, 0) + failed
            if open_set:
                found.threshold_at(FPIRS[0])
                notes += [
                    f"1:N split {each.split}: FPIR {fpir:g} of {len(found.highest)} probes without "
                    "a mate allows no alarm at all, so it is TPIR at no false alarm"
                    for fpir in FPIRS
                    if fpir * len(found.highest) < 1
                ]
    told = {**faces.told, "by_sighting": by_sighting, "crop": crop, **(about or {})}
    return TemplatesJudged(told, rocs, searches, max_rank, open_set, failures, tuple(notes))


def read_undetected(path: Path) -> list[str]:
    """Names of pictures without a face, one a line.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be text, a name of a picture a line: {error}") from error
    return [line.strip() for line in lines if line.strip()]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Features of all pictures of all tables, each embedded once."""

    number: dict[tuple[str, Box | None], int]
    rows: Float[np.ndarray, "n d"]
    found: Bool[np.ndarray, " n"]
    by_sighting: bool
    crop: bool

    @classmethod
    def of(
        cls,
        faces: Faces,
        tables: Sequence[ijba.Table],
        by_sighting: bool,
        crop: bool,
        undetected: Sequence[str],
    ) -> "_Rows":
        keys = list(
            dict.fromkeys(key for table in tables for key in _keys(table, by_sighting, crop))
        )
        lost = set(undetected)
        unknown = sorted(lost - {name for name, _ in keys})
        if unknown:
            raise DataError(
                f"{len(unknown)} names of pictures without a face are not in the tables, first "
                f"{unknown[0]}; write them as the tables do"
            )
        found = np.array([name not in lost for name, _ in keys], bool)
        kept = [key for key, there in zip(keys, found, strict=True) if there]
        if not kept:
            raise DataError("no picture is left with a face; look at --undetected")
        places = match([name for name, _ in kept], faces.names, faces.where)
        embedded = faces.rows(places, [box for _, box in kept] if crop else None)
        rows = np.zeros((len(keys), embedded.shape[1]))
        rows[found] = embedded
        return cls({key: row for row, key in enumerate(keys)}, rows, found, by_sighting, crop)

    def pooled(self, table: ijba.Table) -> Pooled:
        places = np.array([self.number[key] for key in _keys(table, self.by_sighting, self.crop)])
        return evaluation.pool(
            self.rows[places], table.templates, table.media, found=self.found[places]
        )


@contextmanager
def _naming(split: str) -> Iterator[None]:
    """Says which split an error is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{split}: {error}") from error


def _searched(each: ijba.Searching, rows: _Rows, score: TemplateScore) -> tuple[Identified, int]:
    gallery, probes = rows.pooled(each.gallery), rows.pooled(each.probes)
    both = _joined(gallery, probes)
    offset = len(gallery.templates)
    pairs = np.stack(
        np.meshgrid(offset + np.arange(len(probes.templates)), np.arange(offset), indexing="ij"),
        axis=-1,
    ).reshape(-1, 2)
    scores = score(both, pairs).reshape(len(probes.templates), offset)
    found = evaluation.identify(
        scores,
        each.probes.subjects_of(probes.templates),
        each.gallery.subjects_of(gallery.templates),
    )
    return found, int((~gallery.enrolled).sum() + (~probes.enrolled).sum())


def _joined(one: Pooled, other: Pooled) -> Pooled:
    """Templates of both under new numbers: those of the gallery and of probes may be the same."""
    return Pooled(
        np.arange(len(one.templates) + len(other.templates)),
        np.concatenate([one.z, other.z]),
        np.concatenate([one.enrolled, other.enrolled]),
        np.concatenate([one.media, other.media]),
        np.concatenate([one.starts, len(one.media) + other.starts]),
    )


def _keys(table: ijba.Table, by_sighting: bool, crop: bool) -> list[tuple[str, Box | None]]:
    names = table.sightings if by_sighting else table.files
    if by_sighting and not all(names):
        raise DataError(
            "a table has no column SIGHTING_ID, by which pictures are to be named; leave out "
            "--sightings"
        )
    return list(zip(names, table.faces if crop else [None] * len(names), strict=True))


def _check_owners(tables: Sequence[ijba.Table]) -> None:
    owner: dict[str, int] = {}
    for table in tables:
        for file, subject in zip(table.files, table.subjects.tolist(), strict=True):
            if owner.setdefault(file, subject) != subject:
                raise DataError(
                    f"{file} shows subjects {owner[file]} and {subject}, so one feature cannot "
                    "stand for both; give features by SIGHTING_ID with --sightings, or pictures "
                    "with --crop"
                )
