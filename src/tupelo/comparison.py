"""Anchors against candidates: who is positive, who is negative, and how similar they are."""

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tupelo.errors import InputError
from tupelo.types import Relation

# squared distance of the mean row from the origin over the mean squared distance of rows from it
FAR_FROM_ORIGIN = 10.0
DISTANCE_EPSILON = 1e-8  # keeps the gradient of the square root finite at coincident points


class Comparison:
    """One set of anchors compared with one set of candidates.

    Rows are kept in float32 or wider. The similarity (inner product) and the Euclidean distance
    are computed at most once, when first asked for. Everything that adds candidates (memory,
    synthetic rows) returns a new comparison; losses and selections need not know.

    Args:
        anchors: rows (b, d).
        candidates: rows (c, d).
        positive: True where candidate and anchor belong together, (b, c).
        negative: True where they do not, (b, c); never both.
        anchor_labels: labels of the anchors, kept for losses that learn something per class.
        labelled_positive: the positives before any filter; defaults to `positive`.
    """

    def __init__(
        self,
        anchors: Float[Tensor, "b d"],
        candidates: Float[Tensor, "c d"],
        positive: Bool[Tensor, "b c"],
        negative: Bool[Tensor, "b c"],
        *,
        anchor_labels=None,
        labelled_positive: Bool[Tensor, "b c"] | None = None,
    ):
        self.anchors = _wide(anchors)
        self.candidates = _wide(candidates)
        self.positive = positive
        self.negative = negative
        self.anchor_labels = anchor_labels
        self.labelled_positive = positive if labelled_positive is None else labelled_positive

    @classmethod
    def within(
        cls,
        z: Tensor,
        labels,
        *,
        items: Tensor | None = None,
        relation: Relation | None = None,
    ) -> "Comparison":
        """Compare a batch with itself; an item is never its own candidate.

        Args:
            z: embeddings (b, d), floating, finite, b >= 2.
            labels: integers (b,), strings, sets of tags, a boolean tag matrix (b, tags), or
                anything a given `relation` understands.
            items: identities (b,); rows of the same item are neither positive nor negative.
            relation: see `relate`.

        Raises:
            InputError: `z` is not (b, d), not floating, not finite, or b < 2; `labels` or
                `items` do not have one entry per row.

        >>> c = Comparison.within(torch.eye(3), torch.tensor([0, 0, 1]))
        >>> c.positive.int().tolist(), c.negative.int().tolist()
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
        """
        check_rows(z, "z")
        if len(z) < 2:
            raise InputError(
                f"z must hold at least 2 rows to compare, got {len(z)}; enlarge the batch"
            )
        return cls.between(
            z, labels, z, labels, items=items, candidate_items=items, relation=relation, own=True
        )

    @classmethod
    def between(
        cls,
        anchors: Tensor,
        anchor_labels,
        candidates: Tensor,
        candidate_labels,
        *,
        items: Tensor | Sequence[int] | np.ndarray | None = None,
        candidate_items: Tensor | Sequence[int] | np.ndarray | None = None,
        relation: Relation | None = None,
        own: bool = False,
    ) -> "Comparison":
        """Compare anchors with any candidates.

        Args:
            anchors: rows (b, d).
            anchor_labels: their labels.
            candidates: rows (c, d).
            candidate_labels: their labels, of the same kind.
            items: identities of the anchors (b,).
            candidate_items: identities of the candidates (c,).
            relation: see `relate`.
            own: the first b candidates are the anchors themselves and are left out.
        """
        check_rows(anchors, "anchors")
        check_rows(candidates, "candidates")
        positive, negative = relate(anchor_labels, candidate_labels, relation)
        positive, negative = positive.to(anchors.device), negative.to(anchors.device)
        if positive.shape != (len(anchors), len(candidates)):
            raise InputError(
                "labels must have one entry per row: "
                f"{len(anchors)} anchors and {len(candidates)} candidates, but the labels relate "
                f"{tuple(positive.shape)}"
            )
        if own:
            positive = positive.clone().fill_diagonal_(False)
            negative = negative.clone().fill_diagonal_(False)
        if items is not None and candidate_items is not None:
            if len(items) != len(anchors) or len(candidate_items) != len(candidates):
                raise InputError(
                    f"items must have one identity per row, got {len(items)} for {len(anchors)} "
                    f"anchors and {len(candidate_items)} for {len(candidates)} candidates"
                )
            items, candidate_items = torch.as_tensor(items), torch.as_tensor(candidate_items)
            other = (items[:, None] != candidate_items[None, :]).to(anchors.device)
            positive, negative = positive & other, negative & other
        return cls(anchors, candidates, positive, negative, anchor_labels=anchor_labels)

    @cached_property
    def similarity(self) -> Float[Tensor, "b c"]:
        """Inner products, (b, c); cosines for unit rows."""
        # a selection may ask first, without gradient; the loss that shares the result needs one
        with torch.enable_grad(), torch.autocast(self.anchors.device.type, enabled=False):
            return self.anchors @ self.candidates.T

    @cached_property
    def distance(self) -> Float[Tensor, "b c"]:
        """Euclidean distances sqrt(max(|a - c|^2, 0) + 1e-8), (b, c).

        Computed from inner products, so in float32 they resolve about 3e-4 of the length of the
        rows; rows that all lie far from the origin are moved there first.
        """
        with torch.enable_grad(), torch.autocast(self.anchors.device.type, enabled=False):
            anchors, candidates, products = self.anchors, self.candidates, None
            centre = candidates.detach().mean(0)
            spread = (candidates.detach() - centre).square().sum(1).mean()
            if centre.square().sum() > FAR_FROM_ORIGIN * spread:
                anchors, candidates = anchors - centre, candidates - centre
                products = anchors @ candidates.T
            squares = anchors.square().sum(1), candidates.square().sum(1)
            return _Distance.apply(self.similarity if products is None else products, *squares)

    def with_pairs(
        self, positive: Bool[Tensor, "b c"], negative: Bool[Tensor, "b c"] | None = None
    ) -> "Comparison":
        """The same comparison with other positives (and negatives); what was computed is kept."""
        other = Comparison(
            self.anchors,
            self.candidates,
            positive,
            self.negative if negative is None else negative,
            anchor_labels=self.anchor_labels,
            labelled_positive=self.labelled_positive,
        )
        for name in ("similarity", "distance"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def with_candidates(
        self,
        candidates: Float[Tensor, "e d"],
        positive: Bool[Tensor, "b e"],
        negative: Bool[Tensor, "b e"],
    ) -> "Comparison":
        """The same anchors with e more candidates behind the present ones.

        Raises:
            InputError: the masks are not (b, e).
        """
        if not positive.shape == negative.shape == (len(self.anchors), len(candidates)):
            raise InputError(
                f"positive and negative must be ({len(self.anchors)}, {len(candidates)}), anchors "
                f"by candidates, got {tuple(positive.shape)} and {tuple(negative.shape)}; a memory "
                "cannot go around synthesis with all_anchors=True"
            )
        return Comparison(
            self.anchors,
            torch.cat([self.candidates, candidates.to(self.candidates)]),
            torch.cat([self.positive, positive], dim=1),
            torch.cat([self.negative, negative], dim=1),
            anchor_labels=self.anchor_labels,
        )


class GivenPairs:
    """A relation of listed pairs instead of classes; pass item identities as the labels.

    Args:
        similar: pairs of identities that belong together; order within a pair does not matter.
        dissimilar: pairs that do not; everything unlisted is neither.

    Raises:
        InputError: a pair is listed as both similar and dissimilar.

    >>> pairs = GivenPairs(similar=[(10, 11)], dissimilar=[(10, 12)])
    >>> positive, negative = pairs(torch.tensor([10, 11, 12]), torch.tensor([10, 11, 12]))
    >>> positive.nonzero().tolist(), negative.nonzero().tolist()
    ([[0, 1], [1, 0]], [[0, 2], [2, 0]])
    """

    def __init__(self, similar: Iterable[tuple[int, int]], dissimilar: Iterable[tuple[int, int]]):
        similar, dissimilar = list(similar), list(dissimilar)
        known = sorted({int(i) for pair in (*similar, *dissimilar) for i in pair})
        self._rank = {identity: rank for rank, identity in enumerate(known)}
        self._similar, self._dissimilar = self._keys(similar), self._keys(dissimilar)
        both = torch.isin(self._similar, self._dissimilar)
        if both.any():
            first, second = divmod(int(self._similar[both][0]), max(len(known), 1))
            raise InputError(
                "a pair may be similar or dissimilar, not both: "
                f"({known[first]}, {known[second]}) is listed as both"
            )

    def _keys(self, pairs: list[tuple[int, int]]) -> Int[Tensor, " n"]:
        n = len(self._rank)
        ranks = [(self._rank[int(i)], self._rank[int(j)]) for i, j in pairs]
        return torch.tensor([i * n + j for a, b in ranks for i, j in ((a, b), (b, a))]).long()

    def __call__(self, anchors, candidates) -> tuple[Tensor, Tensor]:
        """Masks (b, c) of the similar and of the dissimilar pairs."""
        n = len(self._rank)
        a = torch.tensor([self._rank.get(int(i), -1) for i in anchors])[:, None]
        c = torch.tensor([self._rank.get(int(i), -1) for i in candidates])[None, :]
        keys = torch.where((a < 0) | (c < 0), -1, a * n + c)
        return torch.isin(keys, self._similar), torch.isin(keys, self._dissimilar)


def relate(
    anchor_labels, candidate_labels, relation: Relation | None = None
) -> tuple[Bool[Tensor, "b c"], Bool[Tensor, "b c"]]:
    """Masks (b, c) of positives and negatives from labels of any kind: the one place for it.

    Args:
        anchor_labels: integers as a tensor, array or list (compared exactly, in 64 bits, never as
            floats), strings or other hashables, sets of tags, or a boolean tag matrix (b, tags).
            Items with tags are positive when they share at least one.
        candidate_labels: of the same kind.
        relation: instead of the rule above, a callable of both labels that returns the positives
            (b, c), everything else being negative, or a pair `(positive, negative)`.

    Raises:
        InputError: labels are floating point, kinds differ, or the relation returns overlapping
            or non-boolean masks.

    >>> relate(["cat", "dog"], ["dog"])[0].tolist()
    [[False], [True]]
    >>> relate([{"red", "big"}], [{"red"}, {"small"}])[0].tolist()
    [[True, False]]
    """
    if relation is not None:
        result = relation(anchor_labels, candidate_labels)
        positive, negative = result if isinstance(result, tuple) else (result, ~result)
        if positive.dtype != torch.bool or negative.dtype != torch.bool:
            raise InputError(
                "a relation must return boolean masks (b, c), got "
                f"{positive.dtype} and {negative.dtype}"
            )
        if (positive & negative).any():
            raise InputError("a relation must not call a pair both positive and negative")
        return positive, negative
    a, c = encode_labels(anchor_labels, candidate_labels)
    positive = a.float() @ c.float().T > 0 if a.ndim == 2 else a[:, None] == c[None, :]
    return positive, ~positive


def encode_labels(*sides) -> tuple[Tensor, ...]:
    """Bring labels of any kind to int64 (n,) or boolean tags (n, tags), numbered in common.

    >>> encode_labels(["b", "a"], ["a", "c"])
    (tensor([0, 1]), tensor([1, 2]))
    """
    tensors = [t for t in map(label_tensor, sides) if t is not None]
    if len(tensors) == len(sides):
        kinds = {t.shape[1:] for t in tensors}
        if len(kinds) > 1:
            raise InputError(
                "labels of both sides must be of one kind, integers (n,) or boolean tags "
                f"(n, tags), got shapes {[tuple(t.shape) for t in tensors]}"
            )
        return tuple(tensors)
    number: dict = {}
    listed = [
        side.tolist() if isinstance(side, Tensor | np.ndarray) else list(side) for side in sides
    ]
    if all(isinstance(label, set | frozenset) for side in listed for label in side):
        for side in listed:
            for tags in side:
                for tag in sorted(tags, key=repr):
                    number.setdefault(tag, len(number))
        return tuple(_multi_hot(side, number) for side in listed)
    _check_kinds(listed)
    for side in listed:
        for label in side:
            number.setdefault(label, len(number))
    return tuple(torch.tensor([number[label] for label in side]).long() for side in listed)


def _check_kinds(listed: list[list]) -> None:
    """Refuse labels of which no two could ever be equal, and those that cannot be compared."""
    kinds = [{_kind(label) for label in side} for side in listed]
    if all(kinds) and not set.intersection(*kinds):
        raise InputError(
            "labels of both sides must be of one kind, got "
            + " and ".join("/".join(sorted(side)) for side in kinds)
        )


def _kind(label) -> str:
    if isinstance(label, float | np.floating) or not isinstance(label, Hashable):
        raise InputError(
            f"labels must be integers, strings or other hashables, or sets of tags for every item, "
            f"got {type(label).__name__} {label!r}"
        )
    # NumPy's own kinds are equal to those of Python
    kinds = {"int": int | np.integer | np.bool_, "str": str, "bytes": bytes}
    same = (name for name, kind in kinds.items() if isinstance(label, kind))
    return next(same, type(label).__name__)


def label_tensor(labels) -> Tensor | None:
    """Integers as int64 (n,), tags as booleans (n, tags); None where labels need numbering first.

    Raises:
        InputError: labels are floating point, or an array of another shape.

    >>> label_tensor([3, 1]), label_tensor(["a", "b"])
    (tensor([3, 1]), None)
    """
    if not isinstance(labels, Tensor):
        if isinstance(labels, Sequence) and not len(labels):
            return torch.zeros(0).long()
        first = labels[0] if isinstance(labels, Sequence) else None
        if isinstance(first, str | set | frozenset | tuple) or _is_text_array(labels):
            return None
        try:
            labels = torch.as_tensor(labels)
        except (OverflowError, RuntimeError, TypeError, ValueError):
            return None  # beyond 64 bits, or mixed kinds: number them as they are
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(
            f"labels must be integers, strings or tags, got {labels.dtype}; floating point labels "
            "merge large class numbers, so convert them to integers first"
        )
    if labels.ndim == 2:
        if labels.dtype != torch.bool:
            raise InputError(
                f"labels (n, tags) must be boolean, got {labels.dtype}; use labels.bool()"
            )
        return labels
    if labels.ndim != 1:
        raise InputError(
            f"labels must be (n,) class indices or (n, tags) booleans, got {tuple(labels.shape)}"
        )
    return labels.long()


def _is_text_array(labels) -> bool:
    return getattr(getattr(labels, "dtype", None), "kind", "") in ("U", "S", "O", "T")


def _multi_hot(side: list, number: dict) -> Bool[Tensor, "n tags"]:
    hot = torch.zeros(len(side), len(number), dtype=torch.bool)
    for row, tags in enumerate(side):
        hot[row, [number[tag] for tag in tags]] = True
    return hot


def check_rows(z: Tensor, name: str) -> None:
    """Refuse embeddings that are not finite floating rows (n, d).

    Raises:
        InputError: not 2-D, not floating, or holding NaN or infinity.
    """
    if z.ndim != 2:
        raise InputError(f"{name} must be rows (n, d), got shape {tuple(z.shape)}")
    if not z.is_floating_point():
        raise InputError(f"{name} must be floating point, got {z.dtype}")
    if not torch.isfinite(z.detach().sum()) and not torch.isfinite(z).all():
        bad = int((~torch.isfinite(z)).any(dim=1).sum())
        raise InputError(
            f"{name} must be finite, got NaN or infinity in {bad} of {len(z)} rows; "
            "lower the learning rate or clip gradients"
        )


def _wide(rows: Tensor) -> Tensor:
    return rows if rows.dtype == torch.float64 else rows.float()


class _Distance(torch.autograd.Function):
    """Distances from inner products and squared norms, keeping one (b, c) matrix for backward."""

    @staticmethod
    def forward(ctx, similarity, anchor_squares, candidate_squares):
        squares = torch.sub(candidate_squares, similarity, alpha=2).add_(anchor_squares[:, None])
        distance = squares.clamp_(min=0).add_(DISTANCE_EPSILON).sqrt_()
        ctx.save_for_backward(distance)
        return distance

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,), (distance,) = grad_outputs, ctx.saved_tensors
        ratio = gradient / distance
        return -ratio, ratio.sum(1).mul_(0.5), ratio.sum(0).mul_(0.5)
