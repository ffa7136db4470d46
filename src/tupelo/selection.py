"""Who an anchor is compared with: rules that pick candidates, and selectors that make tuples.

A *rule* picks candidates for every anchor of a comparison; a *selector* turns a `Comparison` into
`Tuples`. Both work on detached values: selection never carries gradient.

Easy positive sampling (EPS) is the rule `easiest` for positives: Levi, Xiao, Wang, Darrell,
"Rethinking preventing class-collapsing in metric learning with margin-based losses", ICCV 2021.
"""

import logging
import math
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.types import Tuples

_log = logging.getLogger(__name__)

Rule = Callable[
    [Comparison, Bool[Tensor, "b c"], Tensor | None, torch.Generator | None, int],
    Int[Tensor, "b k"],
]
"""`(comparison, allowed, distance of the chosen positive, generator, k) -> candidates (b, k)`.

The distance of the positive is None while positives are picked. Rows with fewer than k allowed
candidates may hold anything: selectors drop them.
"""

Selector = Callable[[Comparison, torch.Generator | None], Tuples]


def random(
    comparison: Comparison,
    allowed: Bool[Tensor, "b c"],
    positive_distance: Float[Tensor, " b"] | None = None,
    generator: torch.Generator | None = None,
    k: int = 1,
) -> Int[Tensor, "b k"]:
    """Uniformly among the allowed; with replacement when k > 1."""
    # the j-th allowed candidate of a row stands where the running count of its mask reaches j
    count = allowed.cumsum(1, dtype=torch.int32)
    total = count[:, -1:]
    u = _uniform(len(allowed), k, generator, allowed.device)
    wanted = torch.minimum((u * total).to(torch.int32), (total - 1).clamp(min=0)) + 1
    return torch.searchsorted(count, wanted).clamp_(max=allowed.shape[1] - 1)


def easiest(
    comparison: Comparison,
    allowed: Bool[Tensor, "b c"],
    positive_distance: Float[Tensor, " b"] | None = None,
    generator: torch.Generator | None = None,
    k: int = 1,
) -> Int[Tensor, "b k"]:
    """As positive the nearest (easy positive sampling), as negative the farthest.

    Ties go to the lowest index (for k = 1). Where no anchor has two positives to choose from,
    easy positive sampling is the same as random positives: logged once.
    """
    if positive_distance is None and not (allowed.sum(1) > 1).any():
        _warn_single_positives()
    return _extreme(comparison, allowed, k, nearest=positive_distance is None)


def hardest(
    comparison: Comparison,
    allowed: Bool[Tensor, "b c"],
    positive_distance: Float[Tensor, " b"] | None = None,
    generator: torch.Generator | None = None,
    k: int = 1,
) -> Int[Tensor, "b k"]:
    """As positive the farthest, as negative the nearest; ties go to the lowest index (k = 1)."""
    return _extreme(comparison, allowed, k, nearest=positive_distance is not None)


class SemiHard:
    """As negative: uniformly among those farther than the positive by less than `margin`.

    Where none is, uniformly among all negatives. Source: Schroff, Kalenichenko, Philbin,
    "FaceNet", CVPR 2015, with the random choice of Roth et al., ICML 2020.

    Args:
        margin: width of the window in distance units, > 0.

    Raises:
        InputError: `margin` is not > 0, or (when called) no positive was chosen before.
    """

    def __init__(self, margin: float = 0.2):
        if not margin > 0:
            raise InputError(f"margin must be > 0, in distance units, got {margin}")
        self.margin = margin

    def __call__(
        self,
        comparison: Comparison,
        allowed: Bool[Tensor, "b c"],
        positive_distance: Float[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
        k: int = 1,
    ) -> Int[Tensor, "b k"]:
        """Pick k negatives for each anchor."""
        reference = _after_positive(positive_distance, "semi-hard")
        distance = comparison.distance.detach()
        window = (distance > reference) & (distance < reference + self.margin) & allowed
        window |= allowed & ~window.any(1, keepdim=True)
        return random(comparison, window, None, generator, k)


def semi_hard_nearest(
    comparison: Comparison,
    allowed: Bool[Tensor, "b c"],
    positive_distance: Float[Tensor, " b"] | None = None,
    generator: torch.Generator | None = None,
    k: int = 1,
) -> Int[Tensor, "b k"]:
    """As negative: the k nearest that are not nearer than the positive; else the farthest k."""
    reference = _after_positive(positive_distance, "semi-hard-nearest")
    beyond = allowed & (comparison.distance.detach() >= reference)
    nearest = _extreme(comparison, beyond, k, nearest=True)
    farthest = _extreme(comparison, allowed, k, nearest=False)
    return torch.where(beyond.sum(1, keepdim=True) >= k, nearest, farthest)


class DistanceWeighted:
    """As negative: drawn with probability inverse to how common its distance is on the sphere.

    With D the distance, clamped from below at `cutoff`, and d the embedding width,
    log w = (2 - d) log D - (d - 3)/2 log(1 - D^2/4); weight 0 from `nonzero_below` on; a row
    without any weight falls back to uniform. Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling
    Matters in Deep Embedding Learning", ICCV 2017, section 4.1.

    Args:
        cutoff: smallest distance used in the weights, in (0, 2).
        nonzero_below: distances from here on get weight 0; None keeps them (as Roth et al., 2020).

    Raises:
        InputError: `cutoff` is outside (0, 2); when called: d < 2, or rows not of unit length.
    """

    def __init__(self, *, cutoff: float = 0.5, nonzero_below: float | None = 1.4):
        if not 0 < cutoff < 2:
            raise InputError(f"cutoff must be in (0, 2), a distance of unit rows, got {cutoff}")
        self.cutoff = cutoff
        self.nonzero_below = math.inf if nonzero_below is None else nonzero_below
        self._warned = False

    def weights(self, comparison: Comparison, allowed: Bool[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Unnormalised probabilities (b, c), the largest of each row 1."""
        dim = comparison.anchors.shape[1]
        self._check(comparison, dim)
        distance = comparison.distance.detach()
        usable = allowed & (distance < self.nonzero_below)
        # rounding can put a pair beyond the 2 that unit rows allow
        squared = distance.clamp(self.cutoff, 2 - 1e-4).square_()
        log_w = torch.log(squared).mul_((2 - dim) / 2)
        log_w.add_(squared.mul_(-0.25).log1p_(), alpha=-(dim - 3) / 2)
        unusable = ~usable
        top = log_w.masked_fill_(unusable, -math.inf).amax(1, keepdim=True)
        # below e^-80 float32 becomes subnormal, where exp and sums are 30 times slower
        weights = log_w.sub_(top.clamp(min=-1e30)).clamp_(min=-80).exp_()
        weights.masked_fill_(unusable, 0)
        return torch.where(top.isfinite(), weights, allowed.to(weights.dtype))

    def _check(self, comparison: Comparison, dim: int) -> None:
        if dim < 2:
            raise InputError(
                f"distance-weighted sampling needs embeddings of width >= 2, got {dim}"
            )
        if dim < 4 and not self._warned:
            self._warned = True
            _log.warning("distance-weighted sampling in width %d: the density changes shape", dim)
        sides = (comparison.anchors, comparison.candidates)
        off = max((rows.detach().norm(dim=1) - 1).abs().max() for rows in sides)
        if off > 1e-3:
            raise InputError(
                "distance-weighted sampling needs rows of unit length, got norms off by up to "
                f"{off:.3g}; normalise the embeddings (normalize=True) or choose another rule"
            )

    def __call__(
        self,
        comparison: Comparison,
        allowed: Bool[Tensor, "b c"],
        positive_distance: Float[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
        k: int = 1,
    ) -> Int[Tensor, "b k"]:
        """Pick k negatives for each anchor, with replacement."""
        running = self.weights(comparison, allowed).cumsum(1)
        u = _uniform(len(running), k, generator, running.device).to(running.dtype)
        # a threshold of 0 would fall on a candidate without weight
        picked = torch.searchsorted(running, (1 - u).clamp_(min=1e-7) * running[:, -1:])
        return picked.clamp_(max=allowed.shape[1] - 1)


RULES: dict[str, Rule] = {
    "random": random,
    "easiest": easiest,
    "hardest": hardest,
    "semi-hard": SemiHard(),
    "semi-hard-nearest": semi_hard_nearest,
    "distance-weighted": DistanceWeighted(),
}
"""The rules with their usual settings, by the names of the field."""


def as_rule(rule: str | Rule) -> Rule:
    """The rule itself, or the one of that name.

    Raises:
        InputError: no rule has that name.
    """
    if callable(rule):
        return rule
    if rule not in RULES:
        raise InputError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    return RULES[rule]


class PerAnchor:
    """One tuple for every anchor that has a positive and enough negatives.

    Args:
        positive: rule for the positive; "easiest" is easy positive sampling.
        negative: rule for the negatives, chosen after the positive.
        negatives: number k of negatives a tuple; anchors with fewer are dropped.

    Raises:
        InputError: an unknown rule, `negatives` < 1; when called: no anchor has a positive, or
            none has enough negatives.

    >>> z = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    >>> c = Comparison.within(z, torch.tensor([0, 0, 0, 1]))
    >>> PerAnchor(positive="easiest", negative="hardest")(c).positive
    tensor([1, 0, 1])
    """

    def __init__(
        self,
        positive: str | Rule = "random",
        negative: str | Rule = "random",
        *,
        negatives: int = 1,
    ):
        if negatives < 1:
            raise InputError(f"negatives must be >= 1, got {negatives}")
        self.positive = as_rule(positive)
        self.negative = as_rule(negative)
        self.negatives = negatives

    @torch.no_grad()
    def __call__(self, comparison: Comparison, generator: torch.Generator | None = None) -> Tuples:
        """Choose the tuples of one comparison."""
        rows = usable_rows(comparison, self.negatives)
        positive = self.positive(comparison, comparison.positive, None, generator, 1)
        reference = comparison.distance.detach().gather(1, positive)[:, 0]
        negative = self.negative(
            comparison, comparison.negative, reference, generator, self.negatives
        )
        return Tuples(rows, positive[rows, 0], negative[rows])


class AllTuples:
    """Every (anchor, positive, negative) triple: for small batches, oracles and counting.

    The loss on all triples needs no list of them: use `losses.AllTriplets`.

    Args:
        limit: most triples to list.

    Raises:
        InputError: when called: there are more than `limit`, or none.
    """

    def __init__(self, *, limit: int = 2_000_000):
        self.limit = limit

    @torch.no_grad()
    def __call__(self, comparison: Comparison, generator: torch.Generator | None = None) -> Tuples:
        """List the triples of one comparison, ordered by anchor, positive, negative."""
        count = int((comparison.positive.sum(1) * comparison.negative.sum(1)).sum())
        if count == 0:
            usable_rows(comparison)
        if count > self.limit:
            raise InputError(
                f"the batch has {count:,} triples, more than limit={self.limit:,}; use "
                "losses.AllTriplets, which needs no list of them"
            )
        anchor, positive = comparison.positive.nonzero(as_tuple=True)
        pair, negative = comparison.negative[anchor].nonzero(as_tuple=True)
        return Tuples(anchor[pair], positive[pair], negative[:, None])


class AsDrawn:
    """The tuples that a batch was drawn as, by the place of each row.

    * "triplets": rows [anchors, positives, negatives], as `data.Triplets` draws them.
    * "n-pair": rows [anchors, positives], as `data.NPair` draws them; the negatives of an anchor
      are the positives of all others.

    Args:
        layout: of the rows.

    Raises:
        InputError: another layout; when called: the number of rows does not fit it, or a positive
            has another label than its anchor, or a negative the same.

    >>> c = Comparison.within(torch.eye(4), torch.tensor([0, 1, 0, 1]))
    >>> AsDrawn("n-pair")(c)
    Tuples(anchor=tensor([0, 1]), positive=tensor([2, 3]), negative=tensor([[3],
            [2]]))
    """

    def __init__(self, layout: str):
        if layout not in ("triplets", "n-pair"):
            raise InputError(f"layout must be 'triplets' or 'n-pair', got {layout!r}")
        self.layout = layout

    @torch.no_grad()
    def __call__(self, comparison: Comparison, generator: torch.Generator | None = None) -> Tuples:
        """List the tuples of one comparison of a batch with itself."""
        b = len(comparison.anchors)
        parts = 3 if self.layout == "triplets" else 2
        n = b // parts
        if b % parts or n < (1 if parts == 3 else 2):
            raise InputError(
                f"a batch of {self.layout} must hold {parts} rows a tuple"
                f"{'' if parts == 3 else ', of 2 tuples or more'}, got {b} rows; draw it with "
                f"data.{'Triplets' if parts == 3 else 'NPair'}"
            )
        anchor = torch.arange(n, device=comparison.anchors.device)
        if parts == 3:
            tuples = Tuples(anchor, anchor + n, anchor[:, None] + 2 * n)
        else:
            others = (anchor + torch.arange(1, n, device=anchor.device)[:, None]) % n
            tuples = Tuples(anchor, anchor + n, others.T.sort(dim=1).values + n)
        wrong = ~comparison.positive[tuples.anchor, tuples.positive]
        wrong |= ~comparison.negative[tuples.anchor[:, None], tuples.negative].all(1)
        if wrong.any():
            raise InputError(
                f"row {int(wrong.nonzero()[0])} of the batch must have the label of its positive "
                f"and another than its negatives, which {int(wrong.sum())} of {n} tuples break; "
                f"draw the batch with data.{'Triplets' if parts == 3 else 'NPair'}"
            )
        return tuples


class WithPositives:
    """Any selector with its positives replaced by those of a rule: EPS for any tuple loss.

    The negatives stay those the selector chose for its own positive; where they depend on it
    (semi-hard), give both rules to `PerAnchor` instead, which chooses the positive first.

    Args:
        selector: makes the tuples.
        positive: rule that then chooses the positive of each tuple's anchor.
    """

    def __init__(self, selector: Selector, positive: str | Rule = "easiest"):
        self.selector = selector
        self.positive = as_rule(positive)

    @torch.no_grad()
    def __call__(self, comparison: Comparison, generator: torch.Generator | None = None) -> Tuples:
        """Choose the tuples of one comparison."""
        anchor, _, negative = self.selector(comparison, generator)
        chosen = self.positive(comparison, comparison.positive, None, generator, 1)
        return Tuples(anchor, chosen[anchor, 0], negative)


@torch.no_grad()
def balanced(
    comparison: Comparison,
    generator: torch.Generator | None = None,
    *,
    hardest: bool = True,
) -> Comparison:
    """The comparison with as many negative pairs as positive ones.

    Args:
        comparison: of all pairs; all positives stay.
        generator: of the random choice.
        hardest: keep the nearest negatives of the whole batch, the first of equals; else draw
            them. Where there are fewer, all stay.

    Raises:
        InputError: no anchor has both a positive and a negative.

    >>> z = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    >>> kept = balanced(Comparison.within(z, torch.tensor([0, 0, 1, 2])))
    >>> kept.negative.nonzero().tolist()
    [[1, 2], [2, 1]]
    """
    usable_rows(comparison)
    count, allowed = int(comparison.positive.sum()), comparison.negative
    if int(allowed.sum()) <= count:
        return comparison
    if hardest:
        value = comparison.distance.detach()
    else:
        rows, columns = allowed.shape
        value = _uniform(rows, columns, generator, allowed.device)
    order = value.masked_fill(~allowed, math.inf).flatten().argsort(stable=True)
    kept = torch.zeros_like(allowed).flatten()
    kept[order[:count]] = True
    return comparison.with_pairs(comparison.positive, kept.view_as(allowed))


@torch.no_grad()
def one_positive(
    comparison: Comparison,
    rule: str | Rule,
    generator: torch.Generator | None = None,
    *,
    negative: str | Rule | None = None,
    negatives: int = 1,
) -> Comparison:
    """The comparison with a single positive per anchor: EPS (`easiest`) for pair losses.

    Args:
        comparison: of all pairs.
        rule: for the positive.
        generator: of random choices.
        negative: rule that then keeps only some negatives of each anchor; None keeps all.
        negatives: how many of them, >= 1; with fewer (or drawn twice) fewer are kept.

    Raises:
        InputError: no anchor has a positive, or no anchor with one has enough negatives.
    """
    usable_rows(comparison, 1 if negative is None else negatives)
    chosen = as_rule(rule)(comparison, comparison.positive, None, generator, 1)
    kept = torch.zeros_like(comparison.positive).scatter_(1, chosen, True) & comparison.positive
    if negative is None:
        return comparison.with_pairs(kept)
    reference = comparison.distance.detach().gather(1, chosen)[:, 0]
    drawn = as_rule(negative)(comparison, comparison.negative, reference, generator, negatives)
    pushed = torch.zeros_like(comparison.negative).scatter_(1, drawn, True) & comparison.negative
    return comparison.with_pairs(kept, pushed)


def easy_positive_indices(
    z: Float[Tensor, "b d"], labels, items: Tensor | None = None, *, normalize: bool = True
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Each anchor with its nearest positive; anchors without any are left out.

    Args:
        z: embeddings (b, d).
        labels: one per row, of any kind.
        items: identities (b,); the same item is never its own positive.
        normalize: compare unit rows.

    Raises:
        InputError: see `Comparison.within`; or no anchor has a positive.

    >>> z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> [i.tolist() for i in easy_positive_indices(z, ["a", "a", "a", "b"])]
    [[0, 1, 2], [1, 0, 1]]
    """
    z = torch.nn.functional.normalize(z.detach(), dim=1) if normalize else z.detach()
    comparison = Comparison.within(z, labels, items=items)
    rows = usable_rows(comparison, 0)
    return rows, easiest(comparison, comparison.positive)[rows, 0]


def usable_rows(comparison: Comparison, negatives: int = 1) -> Int[Tensor, " m"]:
    """Anchors with a positive and at least so many negatives.

    Raises:
        InputError: no anchor has a positive, or none of those has enough negatives.
    """
    has_positive = comparison.positive.any(1)
    if not has_positive.any():
        raise InputError(
            f"no anchor has a positive: every class occurs once among the {len(has_positive)} "
            "items of the batch; draw P x K batches with K >= 2 (K >= 3 for easy positive "
            "sampling to have an effect)"
        )
    enough = comparison.negative.sum(1) >= negatives
    if not (has_positive & enough).any():
        raise InputError(
            f"no anchor has both a positive and {negatives} negative(s) among "
            f"{comparison.negative.shape[1]} candidates; draw batches with at least 2 classes"
            + (f" and more than {negatives} items of other classes" if negatives > 1 else "")
        )
    return (has_positive & enough).nonzero()[:, 0]


@cache
def _warn_single_positives() -> None:
    _log.warning(
        "easy positive sampling has no effect: no anchor has more than one positive in the batch; "
        "draw P x K batches with K >= 3"
    )


def _after_positive(positive_distance: Tensor | None, name: str) -> Tensor:
    if positive_distance is None:
        raise InputError(f"{name} is a rule for negatives and needs the positive chosen first")
    return positive_distance[:, None]


def _extreme(comparison: Comparison, allowed: Tensor, k: int, *, nearest: bool) -> Tensor:
    masked = comparison.distance.detach().masked_fill(~allowed, math.inf if nearest else -math.inf)
    if k == 1:  # argmin and argmax promise the first of equals, topk does not
        return (masked.argmin(1) if nearest else masked.argmax(1))[:, None]
    return masked.topk(min(k, masked.shape[1]), dim=1, largest=not nearest).indices


def _uniform(rows: int, k: int, generator: torch.Generator | None, device) -> Tensor:
    # drawn on the generator's device in float64, so the choice does not depend on where rows live
    source = "cpu" if generator is None else generator.device
    return torch.rand(rows, k, generator=generator, dtype=torch.float64, device=source).to(device)
