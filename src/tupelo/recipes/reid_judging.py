"""Measure an embedding by re-identification: CMC and mAP with the same-camera rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from torch import nn

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.evaluation import ReidReport, Roc, nearest, reid, single_shot_cmc
from tupelo.inference import Precision, embed
from tupelo.recipes.reid_building import Cameras, crossing
from tupelo.recipes.reid_calibration import pairs_of
from tupelo.recipes.using import label_names

Progress = Callable[[int, int], None]
NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Judged:
    """What queries came to.

    Attributes:
        report: CMC and mAP, by the mean of precisions.
        trapezoid: mAP as the code published with Market-1501 computes it.
        pairs: cosines of pairs of all these pictures, of one identity and of two; None without
            any.
        query: the pictures.
        gallery: what they searched; None: each other.
        query_rows: their unit rows.
        gallery_rows: of what they searched.
        query_cameras: of each; None where the rule is off.
        gallery_cameras: of each.
    """

    report: ReidReport
    trapezoid: float
    pairs: Roc | None
    query: ImageSet
    gallery: ImageSet | None
    query_rows: Float[np.ndarray, "q d"]
    gallery_rows: Float[np.ndarray, "g d"]
    query_cameras: Cameras
    gallery_cameras: Cameras

    def as_dict(self) -> dict[str, float | int]:
        """All scores under flat names."""
        known = {**self.report.as_dict(), "map_trapezoid": self.trapezoid}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Found:
    """A query and the nearest of its candidates.

    Attributes:
        query: its row.
        rows: of the gallery, the nearest first.
        right: whether each is of the query's identity.
        similarity: cosines.
        precision: average precision of the query.
    """

    query: int
    rows: list[int]
    right: list[bool]
    similarity: list[float]
    precision: float


def judge(
    model: nn.Module,
    query: ImageSet,
    gallery: ImageSet | None = None,
    *,
    query_cameras: Cameras = None,
    gallery_cameras: Cameras = None,
    precision: Literal["auto"] | Precision = "auto",
    progress: Progress | None = None,
) -> Judged:
    """Embed queries and gallery, and measure.

    Args:
        model: the network.
        query: the pictures that search.
        gallery: what they search, identities being matched by name; None: each other.
        query_cameras: of each query; None: the rule is off.
        gallery_cameras: of each of the gallery; needed with `query_cameras` and a gallery.
        precision: of the network.
        progress: called while pictures are embedded.

    Raises:
        InputError: see `evaluation.reid`; `query_cameras` without `gallery_cameras`.
    """
    rows = embed(model, query, precision=precision, progress=progress).z.numpy()
    others = rows
    asked: dict[str, Any]
    if gallery is None:
        query_cameras = crossing(query.labels, query_cameras)
        asked = {"query_cameras": query_cameras}
    else:
        others = embed(model, gallery, precision=precision, progress=progress).z.numpy()
        asked = {
            "gallery": others,
            "gallery_ids": label_names(gallery.labels, gallery.class_names),
            "query_cameras": query_cameras,
            "gallery_cameras": gallery_cameras,
        }
    ids = label_names(query.labels, query.class_names)
    report = reid(rows, ids, **asked)
    area = reid(rows, ids, **asked, average="trapezoid", max_rank=1).map
    both, names = rows, ids
    if gallery is not None:
        both, names = np.concatenate([rows, others]), [*ids, *asked["gallery_ids"]]
    try:
        pairs = pairs_of(both, np.unique(names, return_inverse=True)[1])
    except InputError:  # one crop of each, or one identity
        pairs = None
    return Judged(report, area, pairs, query, gallery, rows, others, query_cameras, gallery_cameras)


def best_and_worst(judged: Judged, count: int = 5) -> tuple[list[Found], list[Found]]:
    """Queries with the highest and the lowest average precision, each with its nearest.

    Args:
        judged: what was measured.
        count: of each, at most.
    """
    averages = judged.report.average_precisions
    order = np.argsort(averages, kind="stable")
    order = order[np.isfinite(averages[order])]
    worst = order[:count]
    best = order[::-1][: min(count, len(order) - len(worst))]
    return _found(judged, best), _found(judged, worst)


def _found(judged: Judged, queries: Int64[np.ndarray, " q"]) -> list[Found]:
    if not len(queries):
        return []
    searched = judged.query if judged.gallery is None else judged.gallery
    names = np.array(label_names(searched.labels, searched.class_names))
    own = label_names(judged.query.labels, judged.query.class_names)
    # as many more as the rule may pass over
    most = NEIGHBOURS + int(np.unique(searched.labels, return_counts=True)[1].max())
    close = nearest(
        judged.query_rows[queries], judged.gallery_rows, min(most, len(judged.gallery_rows))
    )
    found = []
    for query, rows, similarity in zip(
        queries.tolist(), close.indices, close.similarity, strict=True
    ):
        right = names[rows] == own[query]
        kept = ~right | _elsewhere(judged, query, rows)
        if judged.gallery is None:
            kept &= rows != query
        kept = np.flatnonzero(kept)[:NEIGHBOURS]
        found.append(
            Found(
                query,
                rows[kept].tolist(),
                right[kept].tolist(),
                similarity[kept].astype(float).tolist(),
                float(judged.report.average_precisions[query]),
            )
        )
    return found


def _elsewhere(judged: Judged, query: int, rows: np.ndarray) -> np.ndarray:
    """Whether each was seen by another camera than the query; all, where the rule is off."""
    cameras = judged.query_cameras
    there = cameras if judged.gallery is None else judged.gallery_cameras
    if cameras is None or there is None:
        return np.ones(len(rows), bool)
    return there[rows] != cameras[query]


class ByReid:
    """Measures a model in training on held-out identities: for `training.Judge`.

    Its numbers are "map", of all crops searching each other, and "rank-1", of single-shot
    galleries as CUHK03 had them.

    Args:
        pictures: of identities that do not train.
        cameras: of each, or None.
    """

    def __init__(self, pictures: ImageSet, cameras: Cameras) -> None:
        self._pictures = pictures
        self._cameras = crossing(pictures.labels, cameras)
        self.crops = len(pictures)
        self.identities = pictures.n_classes
        self.rule = self._cameras is not None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The numbers, by name."""
        rows, labels = embed(model, self._pictures).z.numpy(), self._pictures.labels
        found = reid(rows, labels, query_cameras=self._cameras, max_rank=1)
        single = single_shot_cmc(rows, labels, self._cameras, max_rank=1)
        return {"map": found.map, "rank-1": float(single[0])}


def told(judged: Judged) -> dict[str, Any]:
    """What a file of results keeps: scores, and the CMC curve."""
    return {**judged.as_dict(), "cmc": judged.report.cmc.round(6).tolist()}
