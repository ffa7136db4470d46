"""Selection against loops over plain numbers; drawn choices against their distribution."""

import logging
import math

import numpy as np
import pytest
import torch
from scipy import stats

from tupelo import data, selection
from tupelo.comparison import Comparison
from tupelo.errors import InputError
from tupelo.losses import NTXent, Triplet
from tupelo.objectives import OnPairs, OnTuples
from tupelo.selection import (
    AllTuples,
    AsDrawn,
    DistanceWeighted,
    PerAnchor,
    SemiHard,
    WithPositives,
    balanced,
    easy_positive_indices,
    one_positive,
)
from tupelo.types import Embedded


def batch(seed, n=14, classes=4, grid=False):
    """Rows (on a coarse grid, for ties), labels with noise, items with duplicates."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, generator=generator)
    z = (z * 1.5).round() if grid else torch.nn.functional.normalize(z, dim=1)
    labels = torch.randint(0, classes, (n,), generator=generator)
    labels[0] = classes  # occurs once: an anchor without a positive
    items = torch.arange(n)
    items[2] = items[1]
    labels[1:6] = 0
    return z, labels, items


def sides(labels, items, i):
    """Positives and negatives of anchor i, by loops."""
    others = [j for j in range(len(labels)) if j != i and items[j] != items[i]]
    positives = [j for j in others if labels[j] == labels[i]]
    return positives, [j for j in others if labels[j] != labels[i]]


def first(candidates, key):
    """The candidate with the smallest key; of equals the lowest index."""
    best = candidates[0]
    for j in candidates[1:]:
        if key(j) < key(best):
            best = j
    return best


def tuples_by_loops(distance, labels, items, pick_positive, pick_negatives):
    """Anchor, positive and the set of admissible negatives for every anchor that has both."""
    for i in range(len(labels)):
        positives, negatives = sides(labels, items, i)
        if positives and negatives:
            j = pick_positive(positives, distance[i])
            yield i, j, pick_negatives(negatives, distance[i], distance[i][j])


POSITIVE = {
    "easiest": lambda positives, d: first(positives, lambda j: d[j]),
    "hardest": lambda positives, d: first(positives, lambda j: -d[j]),
}


def semi_hard(negatives, d, reference):
    return [k for k in negatives if reference < d[k] < reference + 0.2] or negatives


def semi_hard_nearest(negatives, d, reference):
    beyond = [k for k in negatives if d[k] >= reference]
    if beyond:
        return [first(beyond, lambda k: d[k])]
    return [first(negatives, lambda k: -d[k])]


NEGATIVE = {
    "easiest": lambda negatives, d, _: [first(negatives, lambda k: -d[k])],
    "hardest": lambda negatives, d, _: [first(negatives, lambda k: d[k])],
    "random": lambda negatives, d, _: negatives,
    "semi-hard": semi_hard,
    "semi-hard-nearest": semi_hard_nearest,
}


@pytest.mark.parametrize("positive", POSITIVE)
@pytest.mark.parametrize("negative", NEGATIVE)
@pytest.mark.parametrize("grid", [False, True], ids=["distinct", "ties"])
def test_rules_against_loops(positive, negative, grid):
    for seed in range(10):
        z, labels, items = batch(seed, grid=grid)
        comparison = Comparison.within(z, labels, items=items)
        chosen = PerAnchor(positive, negative)(comparison, torch.Generator().manual_seed(seed))
        want = list(
            tuples_by_loops(
                comparison.distance.tolist(),
                labels.tolist(),
                items.tolist(),
                POSITIVE[positive],
                NEGATIVE[negative],
            )
        )
        assert chosen.anchor.tolist() == [i for i, _, _ in want]
        assert 0 not in chosen.anchor  # its class occurs once
        assert chosen.positive.tolist() == [j for _, j, _ in want]
        assert chosen.negative.shape == (len(want), 1)
        for picked, (_, _, admissible) in zip(chosen.negative[:, 0].tolist(), want, strict=True):
            assert picked in admissible


@pytest.mark.parametrize("negative", ["hardest", "easiest", "semi-hard-nearest"])
def test_several_negatives_are_distinct_and_extreme(negative):
    z, labels, _ = batch(0)
    comparison = Comparison.within(z, labels)
    chosen = PerAnchor("easiest", negative, negatives=3)(comparison)
    for i, j, picked in zip(*(part.tolist() for part in chosen), strict=True):
        d = comparison.distance[i].tolist()
        ranked = sorted(sides(labels.tolist(), list(range(len(labels))), i)[1], key=lambda k: d[k])
        beyond = [k for k in ranked if d[k] >= d[j]]
        want = {
            "hardest": ranked[:3],
            "easiest": ranked[::-1][:3],
            "semi-hard-nearest": beyond[:3] if len(beyond) >= 3 else ranked[::-1][:3],
        }
        assert sorted(picked) == sorted(want[negative])


def test_with_two_a_class_easy_positives_are_random_positives_exactly(caplog):
    selection._warn_single_positives.cache_clear()
    labels = torch.arange(40) // 2
    comparison = Comparison.within(torch.randn(40, 3), labels)
    seeded = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    with caplog.at_level(logging.WARNING, "tupelo.selection"):
        easy = PerAnchor("easiest", "hardest")(comparison, seeded())
        again = PerAnchor("easiest", "hardest")(comparison, seeded())
    drawn = PerAnchor("random", "hardest")(comparison, seeded())
    for left, middle, right in zip(easy, again, drawn, strict=True):
        assert torch.equal(left, right)
        assert torch.equal(middle, right)
    assert [r.message for r in caplog.records] == [
        "easy positive sampling has no effect: no anchor has more than one positive in the batch; "
        "draw P x K batches with K >= 3"
    ]


def test_three_a_class_do_not_warn(caplog):
    selection._warn_single_positives.cache_clear()
    PerAnchor("easiest")(Comparison.within(torch.randn(6, 3), torch.arange(6) // 3))
    assert not caplog.records


def test_selection_carries_no_gradient_and_does_not_cut_that_of_the_loss():
    z, labels, _ = batch(1)
    z.requires_grad_()
    comparison = Comparison.within(z, labels)
    for part in PerAnchor("easiest", "semi-hard")(comparison):
        assert part.dtype == torch.int64
        assert not part.requires_grad
    # as if the indices had been given: gradient into anchor, positive and negative alone
    selector = PerAnchor("easiest", "hardest")
    anchor, positive, negative = selector(comparison)
    OnTuples(selector, Triplet(), normalize=False)(Embedded.of(z), labels).total.backward()
    given = z.detach().clone().requires_grad_()
    Triplet()(given[anchor], given[positive], given[negative]).mean().backward()
    assert torch.allclose(z.grad, given.grad)


def chi_square_passes(counts, probabilities) -> bool:
    counts = torch.tensor(counts).double()
    probabilities = torch.tensor(probabilities).double()
    assert counts[probabilities == 0].sum() == 0
    kept = probabilities > 0
    expected = probabilities[kept] / probabilities.sum() * counts.sum()
    few = expected < 5
    observed = counts[kept]
    if few.any():  # the rare ones together, as the test needs at least about 5 expected
        observed = torch.cat([observed[~few], observed[few].sum()[None]])
        expected = torch.cat([expected[~few], expected[few].sum()[None]])
    if len(expected) == 1:
        return True  # nothing else got a draw, as asserted above
    return stats.chisquare(observed.tolist(), expected.tolist()).pvalue > 1e-4


def drawn_counts(rule, comparison, allowed, draws=4000):
    picked = rule(comparison, allowed, None, torch.Generator().manual_seed(0), draws)
    return [torch.bincount(row, minlength=allowed.shape[1]).tolist() for row in picked]


def test_random_is_uniform_over_the_allowed():
    comparison = Comparison.within(torch.randn(10, 3), torch.arange(10) // 5)
    allowed = torch.rand(10, 10, generator=torch.Generator().manual_seed(1)) < 0.4
    allowed[:, 3] = True
    for row, counts in zip(
        allowed.tolist(), drawn_counts(selection.random, comparison, allowed), strict=True
    ):
        assert chi_square_passes(counts, [float(a) for a in row])


def unit_rows(n, d, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(1, d, generator=generator)
    return torch.nn.functional.normalize(
        centre + spread * torch.randn(n, d, generator=generator), dim=1
    )


def weights_by_loops(distances, allowed, dim, cutoff=0.5, below=1.4):
    """The density formula in float64, in log space, as probabilities of one row."""
    logs = {}
    for k, d in enumerate(distances):
        if allowed[k] and d < below:
            x = max(d, cutoff)
            logs[k] = (2 - dim) * math.log(x) - (dim - 3) / 2 * math.log(1 - x * x / 4)
    if not logs:
        logs = dict.fromkeys((k for k, a in enumerate(allowed) if a), 0.0)
    top = max(logs.values())
    total = sum(math.exp(v - top) for v in logs.values())
    return [math.exp(logs[k] - top) / total if k in logs else 0.0 for k in range(len(distances))]


@pytest.mark.parametrize("dim", [4, 8, 64, 512])
def test_distance_weights_against_loops_in_log_space(dim):
    z = unit_rows(30, dim, spread=0.8).double()
    comparison = Comparison.within(z, torch.arange(30) // 3)
    weights = DistanceWeighted().weights(comparison, comparison.negative)
    assert torch.isfinite(weights).all()
    assert torch.equal(weights.amax(1), torch.ones(30).double())
    for i in range(30):
        want = weights_by_loops(
            comparison.distance[i].tolist(), comparison.negative[i].tolist(), dim
        )
        got = (weights[i] / weights[i].sum()).tolist()
        assert got == pytest.approx(want, rel=1e-6, abs=1e-12)


def test_distance_weighted_draws_follow_the_weights():
    z = unit_rows(12, 5)
    comparison = Comparison.within(z, torch.arange(12) // 3)
    for i, counts in enumerate(drawn_counts(DistanceWeighted(), comparison, comparison.negative)):
        want = weights_by_loops(comparison.distance[i].tolist(), comparison.negative[i].tolist(), 5)
        assert chi_square_passes(counts, want)


def test_rows_without_any_weight_fall_back_to_uniform():
    # orthogonal rows: all distances are 1.414, beyond the upper bound 1.4
    comparison = Comparison.within(torch.eye(9), torch.arange(9) // 3)
    for i, counts in enumerate(drawn_counts(DistanceWeighted(), comparison, comparison.negative)):
        assert chi_square_passes(counts, comparison.negative[i].double().tolist())
    kept = DistanceWeighted(nonzero_below=None).weights(comparison, comparison.negative)
    assert torch.equal(kept, comparison.negative.float())


def test_opposite_rows_stay_finite():
    z = torch.nn.functional.normalize(torch.randn(4, 8), dim=1)
    comparison = Comparison.within(torch.cat([z, -z]), torch.arange(8) % 4)
    weights = DistanceWeighted(nonzero_below=None).weights(comparison, comparison.negative)
    assert torch.isfinite(weights).all()


def test_the_generator_decides():
    comparison = Comparison.within(unit_rows(40, 8), torch.arange(40) // 4)
    for rule in ("random", "semi-hard", "distance-weighted"):
        select = lambda seed, rule=rule: PerAnchor("random", rule)(  # noqa: E731
            comparison, torch.Generator().manual_seed(seed)
        )
        assert torch.equal(select(0).negative, select(0).negative)
        assert not torch.equal(select(0).negative, select(1).negative)


def test_all_tuples_lists_every_triple_once():
    z, labels, items = batch(2, n=9)
    comparison = Comparison.within(z, labels, items=items)
    got = list(zip(*(part.flatten().tolist() for part in AllTuples()(comparison)), strict=True))
    want = [
        (i, j, k)
        for i in range(9)
        for j in sides(labels.tolist(), items.tolist(), i)[0]
        for k in sides(labels.tolist(), items.tolist(), i)[1]
    ]
    assert got == want
    with pytest.raises(InputError, match=rf"has {len(want)} triples, more than limit=3; use"):
        AllTuples(limit=3)(comparison)


def test_with_positives_replaces_only_the_positives():
    z, labels, _ = batch(3)
    comparison = Comparison.within(z, labels)
    plain, easy = AllTuples()(comparison), WithPositives(AllTuples())(comparison)
    assert torch.equal(plain.anchor, easy.anchor)
    assert torch.equal(plain.negative, easy.negative)
    nearest = dict(zip(*(x.tolist() for x in easy_positive_indices(z, labels)), strict=True))
    assert easy.positive.tolist() == [nearest[i] for i in easy.anchor.tolist()]


def test_one_positive_keeps_the_chosen_and_forgets_nothing_else():
    z, labels, items = batch(4)
    comparison = Comparison.within(z, labels, items=items)
    kept = one_positive(comparison, "easiest")
    rows, positives = easy_positive_indices(z, labels, items, normalize=False)
    assert kept.positive.nonzero().tolist() == torch.stack([rows, positives], 1).tolist()
    assert torch.equal(kept.negative, comparison.negative)
    assert torch.equal(kept.labelled_positive, comparison.positive)


@pytest.mark.parametrize("normalize", [True, False])
def test_easy_positive_indices_against_loops(normalize):
    for seed in range(8):
        z, labels, items = batch(seed)
        z = z * torch.arange(1, len(z) + 1)[:, None]  # so that lengths matter
        compared = torch.nn.functional.normalize(z, dim=1) if normalize else z
        d = Comparison.within(compared, labels).distance.tolist()
        want = []
        for i in range(len(z)):
            positives, _ = sides(labels.tolist(), items.tolist(), i)
            if positives:
                want.append((i, first(positives, d[i].__getitem__)))
        got = easy_positive_indices(z.requires_grad_(), labels, items, normalize=normalize)
        assert list(zip(*(x.tolist() for x in got), strict=True)) == want
        assert not any(x.requires_grad for x in got)


def test_duplicates_of_an_item_are_never_its_easy_positive():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    labels, items = torch.tensor([0, 0, 0, 1]), torch.tensor([5, 5, 6, 7])
    assert easy_positive_indices(z, labels)[1].tolist() == [1, 0, 0]
    assert easy_positive_indices(z, labels, items)[1].tolist() == [2, 2, 0]


SELECTING = {
    "per anchor": PerAnchor(),
    "all": AllTuples(),
    "replaced": WithPositives(PerAnchor()),
    "one positive": lambda c: one_positive(c, "easiest"),
    "pair objective": OnPairs(NTXent()).on,
}


@pytest.mark.parametrize("select", SELECTING.values(), ids=SELECTING)
def test_batches_without_positives_or_negatives_are_refused(select):
    z = torch.randn(4, 3)
    with pytest.raises(InputError, match=r"every class occurs once among the 4 .* K >= 2 \(K >= 3"):
        select(Comparison.within(z, [0, 1, 2, 3]))
    with pytest.raises(InputError, match=r"both a positive and 1 negative.* at least 2 classes"):
        select(Comparison.within(z, [0, 0, 0, 0]))


def test_too_few_negatives_are_refused():
    with pytest.raises(InputError, match=r"3 negative.* and more than 3 items of other classes"):
        PerAnchor(negatives=3)(Comparison.within(torch.randn(4, 3), [0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PerAnchor(negatives=0), "negatives must be >= 1, got 0"),
        (lambda: PerAnchor("nearest"), "rule must be one of random, easiest, .* got 'nearest'"),
        (lambda: WithPositives(AllTuples(), "x"), "rule must be one of"),
        (lambda: OnPairs(NTXent(), positives="x"), "rule must be one of"),
        (lambda: SemiHard(0.0), "margin must be > 0, in distance units, got 0.0"),
        (lambda: DistanceWeighted(cutoff=2.0), r"cutoff must be in \(0, 2\)"),
        (lambda: DistanceWeighted(cutoff=0.0), r"cutoff must be in \(0, 2\)"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("rule", ["semi-hard", "semi-hard-nearest"])
def test_semi_hard_rules_are_for_negatives(rule):
    with pytest.raises(InputError, match="needs the positive chosen first"):
        PerAnchor(rule)(Comparison.within(torch.randn(4, 3), [0, 0, 1, 1]))


def test_distance_weighted_refuses_rows_it_has_no_density_for(caplog):
    draw = lambda z: DistanceWeighted().weights(  # noqa: E731
        Comparison.within(z, [0, 0, 1, 1]), ~torch.eye(4, dtype=torch.bool)
    )
    with pytest.raises(InputError, match="rows of unit length, got norms off by up to 1;"):
        draw(2 * unit_rows(4, 8))
    with pytest.raises(InputError, match="embeddings of width >= 2, got 1"):
        draw(torch.ones(4, 1))
    assert not caplog.records
    draw(unit_rows(4, 3))
    assert [r.message for r in caplog.records] == [
        "distance-weighted sampling in width 3: the density changes shape"
    ]


def test_as_drawn_lists_the_tuples_of_the_samplers():
    labels = np.repeat(np.arange(6), 4)
    z = torch.randn(len(labels), 4)
    (rows, *_) = data.NPair(labels, 5).epoch(0)
    tuples = AsDrawn("n-pair")(Comparison.within(z[rows], labels[rows]))
    assert tuples.negative.shape == (5, 4)
    for anchor, positive, negatives in zip(*map(torch.Tensor.tolist, tuples), strict=True):
        assert positive == anchor + 5
        assert sorted([positive, *negatives]) == [5, 6, 7, 8, 9]
    (rows, *_) = data.Triplets(labels, 3).epoch(0)
    tuples = AsDrawn("triplets")(Comparison.within(z[rows], labels[rows]))
    assert [t.flatten().tolist() for t in tuples] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_as_drawn_refuses_batches_drawn_otherwise():
    z, labels = torch.eye(6), torch.tensor([0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="layout must be 'triplets' or 'n-pair', got 'pairs'"):
        AsDrawn("pairs")
    with pytest.raises(InputError, match="must hold 2 rows a tuple, of 2 tuples or more, got 5"):
        AsDrawn("n-pair")(Comparison.within(z[:5], labels[:5]))
    with pytest.raises(InputError, match="must hold 3 rows a tuple, got 4 rows"):
        AsDrawn("triplets")(Comparison.within(z[:4], labels[:4]))
    with pytest.raises(InputError, match="must have the label of its positive"):
        AsDrawn("triplets")(Comparison.within(z, labels))
    same = torch.tensor([0, 1, 0, 1, 0, 2])  # the first negative has the label of its anchor
    with pytest.raises(InputError, match="another than its negatives, which 1 of 2 tuples break"):
        AsDrawn("triplets")(Comparison.within(z, same))


def test_one_positive_and_one_negative_for_pair_losses():
    z = torch.tensor([[0.0], [1.0], [1.5], [9.0], [20.0], [20.4]])
    comparison = Comparison.within(z, torch.tensor([0, 0, 0, 1, 1, 1]))
    kept = one_positive(comparison, "easiest", negative="hardest")
    assert kept.positive.nonzero()[:, 1].tolist() == [1, 2, 1, 4, 5, 4]
    assert kept.negative.nonzero()[:, 1].tolist() == [3, 3, 3, 2, 2, 2]
    assert torch.equal(kept.labelled_positive, comparison.positive)
    with pytest.raises(InputError, match=r"both a positive and 4 negative\(s\)"):
        one_positive(comparison, "easiest", negative="hardest", negatives=4)


@pytest.mark.parametrize("seed", range(4))
def test_balanced_keeps_the_nearest_negatives_of_the_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(12, 3, generator=generator)
    whole = Comparison.within(z, torch.arange(12) % 4)
    kept = balanced(whole)
    assert kept.positive.equal(whole.positive)
    count = int(whole.positive.sum())
    every = sorted(float(d) for d in whole.distance[whole.negative])
    assert sorted(float(d) for d in whole.distance[kept.negative]) == every[:count]
    drawn = balanced(whole, generator, hardest=False)
    assert int(drawn.negative.sum()) == count
    assert not (drawn.negative & ~whole.negative).any()
    assert not drawn.negative.equal(balanced(whole, generator, hardest=False).negative)


def test_balanced_keeps_few_negatives_and_refuses_none():
    few = Comparison.within(torch.eye(4), torch.tensor([0, 0, 0, 1]))
    assert balanced(few) is few
    with pytest.raises(InputError, match="no anchor has both a positive"):
        balanced(Comparison.within(torch.eye(3), torch.zeros(3).long()))
