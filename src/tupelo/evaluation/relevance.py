"""Which gallery rows are relevant for which query, from labels of any kind.

Everything becomes one thing: for a block of queries, the ascending gallery rows
`members[start[i]:stop[i]]` of query `i`. Single labels share one list per class; tags, relations
and pairs are laid out block by block, so no (queries x gallery) matrix ever exists. Queries and
gallery are always numbered together: two data sets that each count their own classes from 0 in
order of appearance would otherwise be compared wrongly.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

from tupelo.errors import InputError

Labels = np.ndarray | Tensor | Sequence[Any]
Relation = Callable[[Any, Any], np.ndarray | Tensor]
Lists = tuple[np.ndarray, np.ndarray, np.ndarray]
Relevance = Callable[[slice], Lists]


def by_labels(query: Labels, gallery: Labels, n_queries: int, n_gallery: int) -> Relevance:
    """Relevant: an equal label, or a shared tag.

    Args:
        query: labels of the queries: integers of any size or strings `(n,)`, or tuples of them,
            each tuple one label; sets of tags, one per item; or a boolean multi-hot matrix
            `(n, tags)`.
        gallery: labels of the gallery, of the same kind.
        n_queries, n_gallery: how many of each there must be.

    Raises:
        InputError: a wrong number of labels; labels of two kinds; labels that are neither
            integers, strings nor tuples; lists as labels; multi-hot matrices of different
            widths.
    """
    queries, galleries = as_items(query, "query_labels"), as_items(gallery, "gallery_labels")
    _check_length(queries, n_queries, "query_labels")
    _check_length(galleries, n_gallery, "gallery_labels")
    if _is_matrix(queries) or _is_matrix(galleries):
        if not (_is_matrix(queries) and _is_matrix(galleries)) or (
            np.shape(queries)[1] != np.shape(galleries)[1]
        ):
            raise InputError(
                "query_labels and gallery_labels must both be multi-hot with one column per tag; "
                f"got shapes {np.shape(queries)} and {np.shape(galleries)}"
            )
        return _shared_tags(sparse.csr_matrix(queries), sparse.csr_matrix(galleries))
    if _holds_tags(queries) or _holds_tags(galleries):
        if not all(isinstance(label, set | frozenset) for label in (*queries, *galleries)):
            raise InputError(
                "query_labels and gallery_labels must both hold sets of tags, or both "
                "single labels; wrap single labels: [{'red'}, {'blue'}]"
            )
        flat_q, row_q = _flatten(queries)
        flat_g, row_g = _flatten(galleries)
        code_q, code_g = number_together(flat_q, flat_g, "tags")
        n_tags = 1 + int(max(code_q.max(initial=0), code_g.max(initial=0)))
        return _shared_tags(
            _incidence(row_q, code_q, (n_queries, n_tags)),
            _incidence(row_g, code_g, (n_gallery, n_tags)),
        )
    code_q, code_g = number_together(queries, galleries, "labels")
    return _same_class(code_q, code_g)


def by_relation(relation: Relation, query: Any, gallery: Any, n_queries: int, n_gallery: int):
    """Relevant: where `relation(labels of a block of queries, gallery labels)` is true.

    The relation returns booleans `(block, n_gallery)`; labels may be anything that can be sliced.

    Raises:
        InputError: a result of another shape or type.
    """
    _check_length(query, n_queries, "query_labels")
    _check_length(gallery, n_gallery, "gallery_labels")

    def lists(block: slice) -> Lists:
        labels = query[block]
        result = relation(labels, gallery)
        truth = result.detach().cpu().numpy() if isinstance(result, Tensor) else np.asarray(result)
        expected = (len(range(*block.indices(n_queries))), n_gallery)
        if truth.shape != expected or truth.dtype != np.bool_:
            raise InputError(
                f"relation must return booleans of shape {expected} (queries, gallery); got "
                f"{truth.dtype} of shape {truth.shape}"
            )
        return _from_csr(sparse.csr_matrix(truth))

    return lists


def by_pairs(pairs: np.ndarray | Tensor, n_queries: int, n_gallery: int) -> Relevance:
    """Relevant: the given pairs `(m, 2)` of query row and gallery row.

    Raises:
        InputError: not integers of shape `(m, 2)`; a row out of range.
    """
    array = np.asarray(pairs)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"pairs must be integers of shape (m, 2): query row, gallery row; got {array.dtype} "
            f"of shape {array.shape}"
        )
    if len(array) and (array.min() < 0 or (array.max(axis=0) >= (n_queries, n_gallery)).any()):
        raise InputError(
            f"pairs must name rows below {n_queries} (queries) and {n_gallery} (gallery); got "
            f"rows from {array.min(axis=0).tolist()} to {array.max(axis=0).tolist()}"
        )
    matrix = _incidence(array[:, 0], array[:, 1], (n_queries, n_gallery))
    return lambda block: _from_csr(matrix[block])


def as_items(labels: Labels, name: str) -> np.ndarray | list[Any]:
    """Labels as an array of integers or strings, a boolean matrix, or a list of labels or sets.

    Lists of Python objects are not given to NumPy, which rounds mixed large integers to float.

    Raises:
        InputError: an array of floats or of more dimensions.
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    if not isinstance(labels, np.ndarray) or labels.dtype.kind == "O":
        return list(labels)
    if labels.dtype.kind == "b" and labels.ndim == 2:
        return labels
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise InputError(
            f"{name} must be integers or strings of shape (n,), sets of tags, or a boolean "
            f"multi-hot matrix (n, tags); got {labels.dtype} of shape {labels.shape}"
        )
    return labels


def number_together(
    query: np.ndarray | list[Any], gallery: np.ndarray | list[Any], what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Codes 0 .. n-1 of two sets of labels in one numbering, exact for integers of any size.

    Raises:
        InputError: integers on one side and strings on the other, or any type but integers,
            strings and tuples.
    """
    kinds = {_kind(query, what), _kind(gallery, what)} - {"none"}
    if len(kinds) > 1:
        raise InputError(
            f"{what} of queries and gallery must be of one kind; got {' and '.join(sorted(kinds))};"
            " give both as integers or both as strings"
        )
    if isinstance(query, np.ndarray) and isinstance(gallery, np.ndarray):
        both = np.concatenate([query, gallery])
        if both.dtype.kind in "iubUS":  # signed with unsigned 64-bit integers would become float
            codes = np.unique(both, return_inverse=True)[1].astype(np.int64)
            return codes[: len(query)], codes[len(query) :]
    numbers: dict[Hashable, int] = {}
    query_codes, gallery_codes = (
        np.array([numbers.setdefault(label, len(numbers)) for label in _plain(side)], np.int64)
        for side in (query, gallery)
    )
    return query_codes, gallery_codes


def _plain(labels: np.ndarray | list[Any]) -> Iterable[Hashable]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


def _kind(labels: np.ndarray | list[Any], what: str) -> str:
    if isinstance(labels, np.ndarray):
        return {"U": "strings", "S": "bytes"}.get(labels.dtype.kind, "integers")
    found = {_kind_of_one(label, what) for label in labels}
    if len(found) > 1:
        raise InputError(f"{what} must be of one kind; got {' and '.join(sorted(found))}")
    return found.pop() if found else "none"


def _kind_of_one(label: Any, what: str) -> str:
    if isinstance(label, str):
        return "strings"
    if isinstance(label, bytes):
        return "bytes"
    if isinstance(label, int | np.integer | np.bool_):
        return "integers"
    if isinstance(label, tuple):
        return "tuples"
    if isinstance(label, list):
        raise InputError(
            f"{what} must be integers, strings or tuples, or sets of tags; got list {label!r}; "
            "make it a set if it holds tags, a tuple if it is one label"
        )
    raise InputError(
        f"{what} must be integers or strings; got {type(label).__name__} {label!r}; "
        "floats cannot tell large integers apart, so convert them first"
    )


def _holds_tags(labels: np.ndarray | list[Any]) -> bool:
    return any(isinstance(label, set | frozenset) for label in labels)


def _is_matrix(labels: np.ndarray | list[Any]) -> bool:
    return isinstance(labels, np.ndarray) and labels.ndim == 2


def _check_length(labels: Any, n: int, name: str) -> None:
    if len(labels) != n:
        raise InputError(f"{name} must hold one label per row; got {len(labels)} for {n} rows")


def _flatten(items: Iterable[AbstractSet[Any]]) -> tuple[list[Any], np.ndarray]:
    tags = list(items)
    rows = np.repeat(np.arange(len(tags)), [len(tag) for tag in tags])
    return [tag for group in tags for tag in group], rows


def _incidence(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _same_class(query: np.ndarray, gallery: np.ndarray) -> Relevance:
    members = np.argsort(gallery, kind="stable").astype(np.int64)
    ordered = gallery[members]
    start = np.searchsorted(ordered, query, side="left").astype(np.int64)
    stop = np.searchsorted(ordered, query, side="right").astype(np.int64)
    return lambda block: (start[block], stop[block], members)


def _shared_tags(query: sparse.csr_matrix, gallery: sparse.csr_matrix) -> Relevance:
    has_tag = gallery.T.tocsr()
    return lambda block: _from_csr(query[block] @ has_tag)


def _from_csr(matrix: sparse.csr_matrix) -> Lists:
    matrix.sort_indices()
    edges = matrix.indptr.astype(np.int64)
    return edges[:-1], edges[1:], matrix.indices.astype(np.int64)
