"""Re-identification: a person must be found again in another camera than that of the query.

Protocol of Zheng et al., "Scalable Person Re-identification: A Benchmark" (Market-1501), ICCV
2015. Gallery items of the query's identity and camera are no candidates; items of no identity of
interest (distractors) stay. Ranks are counted as in `retrieval`, exactly, but ties count against
the query: an item of another identity with the same similarity comes first.
"""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tupelo.errors import InputError
from tupelo.evaluation import products, relevance
from tupelo.evaluation.products import Array, Precision
from tupelo.evaluation.retrieval import candidates_of, empty_ranks, is_collapsed

_log = logging.getLogger(__name__)
AVERAGES = ("standard", "trapezoid")
NEVER = np.iinfo(np.int64).max  # no gallery row lies behind it, so every tie is lost


@dataclass(frozen=True, eq=False)
class ReidReport:
    """What `reid` measured. Shares are means over the queries that have a match.

    Attributes:
        cmc: `(max_rank,)` share of queries with a match among the k nearest, k = 1, 2, ...
        map: mean over queries of the average precision.
        n_queries: all queries given.
        n_gallery: gallery items, without those ignored.
        n_ignored: gallery items of ignored identities.
        n_unmatched: queries without any valid match; they are not counted.
        cameras: the same-camera rule was applied.
        collapsed: all rows lie within 1e-6 of each other; every match was ranked last.
        first_rank: `(n_queries,)` rank of the nearest match from 1; 0 if unmatched.
        average_precisions: `(n_queries,)` of each query; NaN if unmatched.
    """

    cmc: Float64[np.ndarray, " k"]
    map: float
    n_queries: int
    n_gallery: int
    n_ignored: int
    n_unmatched: int
    cameras: bool
    collapsed: bool
    first_rank: Int64[np.ndarray, " q"]
    average_precisions: Float64[np.ndarray, " q"]

    def rank(self, k: int) -> float:
        """Share of queries with a match among the k nearest.

        Raises:
            InputError: k is not within what was measured.
        """
        if not 1 <= k <= len(self.cmc):
            raise InputError(f"k must be 1 to max_rank={len(self.cmc)}, got {k}")
        return float(self.cmc[k - 1])

    def as_dict(self) -> dict[str, float | int]:
        """Shares and counts under flat names such as `rank-1` and `map`."""
        shown = [k for k in (1, 5, 10, 20) if k <= len(self.cmc)]
        return {
            **{f"rank-{k}": self.rank(k) for k in shown},
            "map": self.map,
            "n_queries": self.n_queries,
            "n_gallery": self.n_gallery,
            "n_ignored": self.n_ignored,
            "n_unmatched": self.n_unmatched,
            "cameras": self.cameras,
            "collapsed": self.collapsed,
        }


def reid(
    queries: Array,
    query_ids: relevance.Labels,
    gallery: Array | None = None,
    gallery_ids: relevance.Labels | None = None,
    *,
    query_cameras: relevance.Labels | None = None,
    gallery_cameras: relevance.Labels | None = None,
    ignored: tuple[int | str, ...] = (),
    max_rank: int = 50,
    average: str = "standard",
    precision: Precision = "auto",
) -> ReidReport:
    """CMC and mean average precision with the same-camera rule, exactly.

    Similarity is that of `retrieval`: the dot product of unit rows in float64. Memory does not
    grow with queries times gallery.

    Args:
        queries: `(q, d)` embeddings, NumPy or torch, floating.
        query_ids: who is on each: integers or strings `(q,)`.
        gallery: `(g, d)` embeddings to search. None: the queries search each other.
        gallery_ids: who is on each. Distractors bear an identity that no query has.
        query_cameras: `(q,)`; a gallery item of the query's identity from the same camera is
            passed over. None: the rule is off, and only the picture itself is passed over.
        gallery_cameras: `(g,)`; needed with `query_cameras` and a gallery.
        ignored: identities of the gallery that are no candidates at all, as the boxes marked -1
            of Market-1501.
        max_rank: length of the CMC curve, >= 1.
        average: "standard" is the mean of the precisions at the matches. "trapezoid" is the area
            that the code published with Market-1501 computes: between two matches it takes the
            mean of the precisions at the match and just before it, which is up to some points
            less.
        precision: of the fast product; never of the result.

    Raises:
        InputError: embeddings as in `retrieval`; identities or cameras of wrong length or kind;
            only one side has cameras; another `average`; max_rank < 1; no gallery item is left;
            no query has a valid match.

    Example:
        >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.8, 0.6], [0.0, 1.0]])
        >>> found = reid(z[:1], [7], z[1:], [7, 7, 9], query_cameras=[1], gallery_cameras=[1, 2, 2])
        >>> found.rank(1), found.map  # the first is passed over: the same camera
        (1.0, 1.0)
    """
    if max_rank < 1:
        raise InputError(f"max_rank must be at least 1, got {max_rank}")
    if average not in AVERAGES:
        raise InputError(f"average must be 'standard' or 'trapezoid', got {average!r}")
    rows = products.float32_rows(queries, "queries", normalize=True)
    ids = _column(query_ids, len(rows), "query_ids")
    cameras = None if query_cameras is None else _column(query_cameras, len(rows), "query_cameras")
    n_ignored = 0
    if gallery is None:
        if gallery_ids is not None or gallery_cameras is not None or ignored:
            raise InputError(
                "gallery_ids, gallery_cameras and ignored belong to a gallery, which is None; "
                "leave these identities out of the queries"
            )
        others, other_ids = rows, ids
        own = np.arange(len(rows))
        query_item, gallery_item = own, own
        if cameras is not None:
            query_item = gallery_item = _joint(ids, cameras, ids, cameras)[0]
    else:
        if gallery_ids is None:
            raise InputError("gallery_ids must be given with a gallery, got None")
        if (query_cameras is None) != (gallery_cameras is None):
            raise InputError(
                "query_cameras and gallery_cameras must be given together, got only "
                f"{'gallery' if query_cameras is None else 'query'}_cameras; leave both out where "
                "cameras are not known"
            )
        others = products.float32_rows(gallery, "gallery", normalize=True)
        other_ids = _column(gallery_ids, len(others), "gallery_ids")
        kept = np.array([each not in ignored for each in other_ids.tolist()])
        n_ignored = int((~kept).sum())
        if not kept.any():
            raise InputError(f"ignored leaves nothing of a gallery of {len(others)}")
        others, other_ids = others[kept], other_ids[kept]
        query_item, gallery_item = np.full(len(rows), -1), np.arange(len(others))
        if cameras is not None and gallery_cameras is not None:
            there = _column(gallery_cameras, len(kept), "gallery_cameras")[kept]
            query_item, gallery_item = _joint(ids, cameras, other_ids, there)
    products.check_widths(rows, others)
    products.check_precision(precision, rows.shape[1])
    lists = relevance.by_labels(ids, other_ids, len(rows), len(others))
    first, averages, collapsed = _count(
        rows, others, query_item, gallery_item, lists, average, precision
    )
    matched = first > 0
    if not matched.any():
        rule = " in another camera" * (cameras is not None)
        raise InputError(
            f"no query has a match{rule} ({len(rows)} queries, {len(others)} gallery items); check "
            "that identities are written alike on both sides"
        )
    within = np.bincount(np.minimum(first[matched], max_rank + 1), minlength=max_rank + 2)
    return ReidReport(
        cmc=within[1 : max_rank + 1].cumsum() / matched.sum(),
        map=float(averages[matched].mean()),
        n_queries=len(rows),
        n_gallery=len(others),
        n_ignored=n_ignored,
        n_unmatched=int((~matched).sum()),
        cameras=cameras is not None,
        collapsed=collapsed,
        first_rank=first,
        average_precisions=np.where(matched, averages, np.nan),
    )


def single_shot_cmc(
    rows: Array,
    ids: relevance.Labels,
    cameras: relevance.Labels | None = None,
    *,
    galleries: int = 10,
    max_rank: int = 50,
    seed: int = 0,
) -> Float64[np.ndarray, " k"]:
    """CMC over random galleries of one picture of each identity, as CUHK03 was first measured.

    Source: Li, Zhao, Xiao, Wang, "DeepReID", CVPR 2014. Each draw takes one picture of every
    identity as gallery; all other pictures are queries, but for those from the camera of their
    identity's picture. The mean over draws is returned.

    Args:
        rows: `(n, d)` embeddings.
        ids: who is on each.
        cameras: `(n,)`; None: the rule is off.
        galleries: how many are drawn, >= 1.
        max_rank: length of the curve.
        seed: of the draws.

    Raises:
        InputError: as `reid`; `galleries` < 1; or no draw leaves a query with a match.

    Example:
        >>> z = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> single_shot_cmc(z, [1, 1, 2, 2], max_rank=2)
        array([1., 1.])
    """
    if galleries < 1:
        raise InputError(f"galleries must be at least 1, got {galleries}")
    table = products.float32_rows(rows, "rows", normalize=True)
    people = _column(ids, len(table), "ids")
    seen = None if cameras is None else _column(cameras, len(table), "cameras")
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(galleries):
        order = rng.permutation(len(table))
        picked = np.zeros(len(table), bool)
        picked[order[np.unique(people[order], return_index=True)[1]]] = True
        if not _has_match(people, seen, picked):
            continue
        found = reid(
            table[~picked],
            people[~picked],
            table[picked],
            people[picked],
            query_cameras=None if seen is None else seen[~picked],
            gallery_cameras=None if seen is None else seen[picked],
            max_rank=max_rank,
        )
        curves.append(found.cmc)
    if not curves:
        raise InputError(
            f"no identity among {len(np.unique(people))} has two pictures"
            f"{'' if seen is None else ' from two cameras'}, so there is nothing to find"
        )
    return np.mean(curves, axis=0)


def _has_match(people: np.ndarray, seen: np.ndarray | None, picked: np.ndarray) -> bool:
    place = np.searchsorted(np.sort(people[picked]), people[~picked])
    if seen is None:
        return len(place) > 0
    there = seen[picked][np.argsort(people[picked])]
    return bool((there[place] != seen[~picked]).any())


def _count(
    rows: np.ndarray,
    others: np.ndarray,
    query_item: np.ndarray,
    gallery_item: np.ndarray,
    lists: relevance.Relevance,
    average: str,
    precision: Precision,
) -> tuple[Int64[np.ndarray, " q"], Float64[np.ndarray, " q"], bool]:
    """Rank of the nearest match and average precision of each query; 0 where there is none."""
    from tupelo.evaluation import kernels, tiles  # compiled code: loaded when first needed

    first, averages = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    collapsed = is_collapsed(rows, others)
    if collapsed:
        _log.warning("all embeddings coincide: the model has collapsed, every match is ranked last")
    candidates = candidates_of(query_item, gallery_item)

    def work(search: tiles.Search, block: slice) -> None:
        start, stop, members = lists(block)
        wanted, ranks = kernels.Wanted(start, stop, members), empty_ranks(stop - start)
        # with the whole gallery as largest k no match is given up before its rank is known
        kernels.score_relevant(search.queries(block), search.gallery, wanted, ranks, len(others))
        ranks.index[:] = NEVER
        if not collapsed:
            search.count(block, wanted, ranks)
        for i, query in enumerate(range(block.start, block.stop)):
            n, base = int(ranks.count[i]), int(ranks.offset[i])
            if n == 0:
                continue
            beaten = ranks.beaten[base : base + n].cumsum()
            if collapsed:
                beaten = np.full(n, candidates[query] - n)
            first[query], averages[query] = _summary(beaten, average)

    search = tiles.prepare(rows, others, query_item, gallery_item, precision, work)
    tiles.over_blocks(len(rows), lambda block: work(search, block))
    return first, averages, collapsed


def _summary(beaten: np.ndarray, average: str) -> tuple[int, float]:
    """From how many wrong items come before each match, best first."""
    found = np.arange(1, len(beaten) + 1)
    rank = found + beaten
    at = found / rank
    if average == "trapezoid":
        # where the first comes first, the precision before it is 1
        before = np.where(rank > 1, (found - 1) / np.maximum(rank - 1, 1), 1.0)
        at = (at + before) / 2
    return int(rank[0]), float(at.mean())


def _column(values: relevance.Labels, n: int, name: str) -> np.ndarray:
    """Integers or strings (n,), as an array.

    Raises:
        InputError: of another length or kind.
    """
    items = relevance.as_items(values, name)
    array = items if isinstance(items, np.ndarray) else np.asarray(items)
    if array.ndim != 1 or array.dtype.kind not in "iuUS" or len(array) != n:
        raise InputError(
            f"{name} must be integers or strings, one for each of {n} rows, got {array.dtype} of "
            f"shape {array.shape}"
        )
    return array


def _joint(
    ids: np.ndarray, cameras: np.ndarray, other_ids: np.ndarray, other_cameras: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One number for identity and camera together, the same on both sides."""
    person = relevance.number_together(ids, other_ids, "identities")
    camera = relevance.number_together(cameras, other_cameras, "cameras")
    n = 1 + int(max(camera[0].max(), camera[1].max()))
    return person[0] * n + camera[0], person[1] * n + camera[1]
