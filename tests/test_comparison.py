import itertools
import math

import numpy as np
import pytest
import torch

from tupelo.comparison import Comparison, GivenPairs, encode_labels, relate
from tupelo.errors import InputError

Z = torch.eye(4)


def masks(labels, **settings):
    c = Comparison.within(torch.randn(len(labels), 2), labels, **settings)
    return c.positive.tolist(), c.negative.tolist()


def by_loops(related):
    n = range(len(related))
    return (
        [[i != j and related[i][j] for j in n] for i in n],
        [[i != j and not related[i][j] for j in n] for i in n],
    )


KINDS = {
    "integers": [3, 3, -1, 5, 3],
    "large integers": [2**62, 2**62, 2**62 + 1, 2**24, 2**62],
    "neighbours beyond float32": [16_777_216, 16_777_216, 16_777_217, 16_777_218, 16_777_216],
    "beyond 64 bits": [2**80, 2**80, 2**80 + 1, 0, 2**80],
    "strings": ["a", "a", "b", "c", "a"],
    "tuples": [(1, "x"), (1, "x"), (1, "y"), (2, "x"), (1, "x")],
    "numbers and strings": [1, 1, "1", None, 1],
}


@pytest.mark.parametrize("labels", KINDS.values(), ids=KINDS)
def test_labels_of_any_kind_are_compared_exactly(labels):
    want = by_loops([[a == b for b in labels] for a in labels])
    assert masks(labels) == want
    if all(isinstance(label, int) and label < 2**63 for label in labels):
        assert masks(torch.tensor(labels)) == want
        assert masks(np.array(labels)) == want
    if isinstance(labels[0], str):
        assert masks(np.array(labels)) == want


def test_items_with_tags_are_positive_when_they_share_one():
    tags = [{"red", "big"}, {"red"}, {"small"}, set(), {"big", "small"}]
    want = by_loops([[bool(a & b) for b in tags] for a in tags])
    assert masks(tags) == want
    assert masks([frozenset(t) for t in tags]) == want
    names = sorted(set().union(*tags))
    assert masks(torch.tensor([[name in t for name in names] for t in tags])) == want


def test_given_pairs_leave_the_rest_unrelated():
    pairs = GivenPairs(similar=[(7, 8)], dissimilar=[(9, 7)])
    positive, negative = masks(torch.tensor([7, 8, 9, 1]), relation=pairs)
    assert positive == [[i + j == 1 for j in range(4)] for i in range(4)]
    assert negative == [[{i, j} == {0, 2} for j in range(4)] for i in range(4)]
    assert not GivenPairs([], [])(torch.tensor([1, 2]), torch.tensor([1]))[0].any()


def test_a_relation_may_name_both_sides_or_positives_only():
    near = lambda a, c: (a[:, None] - c[None, :]).abs() <= 1  # noqa: E731
    positive, negative = masks(torch.tensor([0, 1, 5]), relation=near)
    assert positive == [[False, True, False], [True, False, False], [False] * 3]
    assert negative == [[False, False, True], [False, False, True], [True, True, False]]
    both = lambda a, c: (near(a, c), (a[:, None] - c[None, :]).abs() > 4)  # noqa: E731
    assert masks(torch.tensor([0, 1, 5]), relation=both)[1][1] == [False] * 3


def test_the_same_item_is_no_candidate():
    positive, negative = masks(torch.tensor([0, 0, 0, 1]), items=torch.tensor([4, 4, 5, 5]))
    assert positive == [
        [False, False, True, False],
        [False, False, True, False],
        [True, True, False, False],
        [False] * 4,
    ]
    assert negative[2] == [False] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_similarity_and_distance_against_loops(dtype):
    a, c = torch.randn(4, 3).to(dtype), torch.randn(6, 3).to(dtype)
    none = torch.zeros(4, 6, dtype=torch.bool)
    comparison = Comparison(a, c, none, none)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert comparison.similarity.dtype == comparison.distance.dtype == wide
    for i, j in itertools.product(range(4), range(6)):
        x, y = a[i].double().tolist(), c[j].double().tolist()
        dot = sum(p * q for p, q in zip(x, y, strict=True))
        assert comparison.similarity[i, j].item() == pytest.approx(dot, abs=1e-5)
        assert comparison.distance[i, j].item() == pytest.approx(math.dist(x, y), abs=1e-4)


@pytest.mark.parametrize("offset", [100.0, 1000.0])
def test_rows_far_from_the_origin_keep_their_distances(offset):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(24, 2, generator=generator) * 0.5 + offset
    comparison = Comparison.within(z.requires_grad_(), torch.arange(24) % 3)
    exact = torch.cdist(z.double(), z.double()).float()
    off_diagonal = ~torch.eye(24, dtype=torch.bool)
    assert torch.allclose(comparison.distance[off_diagonal], exact[off_diagonal], rtol=1e-3)
    (found,) = torch.autograd.grad(comparison.distance.sum(), z)
    plain = (z[:, None] - z[None, :]).square().sum(-1).add(1e-8).sqrt().sum()
    assert torch.allclose(found, torch.autograd.grad(plain, z)[0], atol=1e-2)


def test_ties_of_plain_coordinates_stay_ties():
    z = torch.tensor([[0.0, 0.0], [0.0, 3.0], [3.0, 0.0], [-3.0, 0.0], [5.0, 1.0]])
    distance = Comparison.within(z, [0, 0, 0, 0, 1]).distance
    assert distance[0, 1] == distance[0, 2] == distance[0, 3]


def test_items_of_any_kind_mark_the_same_item():
    z = torch.eye(3)
    for items in ([7, 7, 8], np.array([7, 7, 8]), torch.tensor([7, 7, 8])):
        comparison = Comparison.between(
            z, [0, 0, 0], z, [0, 0, 0], items=items, candidate_items=items
        )
        assert comparison.positive.dtype == torch.bool
        assert not comparison.positive[0, 1]


def test_distance_has_the_gradient_of_its_formula_even_at_coincident_rows():
    a = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    c = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(3, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda a, c: Comparison(a, c, none, none).distance, (a, c))
    same = torch.ones(3, 2, requires_grad=True)
    Comparison.within(same, torch.tensor([0, 0, 1])).distance.sum().backward()
    assert torch.equal(same.grad, torch.zeros(3, 2))


def test_asking_without_gradient_first_does_not_cut_it():
    z = torch.randn(3, 2, requires_grad=True)
    comparison = Comparison.within(z, torch.tensor([0, 0, 1]))
    with torch.no_grad():
        _ = comparison.distance
    comparison.distance.sum().backward()
    assert z.grad.abs().sum() > 0


def test_more_candidates_and_other_positives():
    z = torch.randn(3, 2)
    first = Comparison.within(z, torch.tensor([0, 0, 1]))
    more = torch.randn(2, 2)
    yes = torch.tensor([[True, False]] * 3)
    second = first.with_candidates(more, yes, ~yes)
    assert torch.allclose(second.similarity, z @ torch.cat([z, more]).T)
    assert second.positive[:, 3:].equal(yes)
    assert second.negative[:, :3].equal(first.negative)
    fewer = second.with_pairs(torch.zeros(3, 5, dtype=torch.bool))
    assert fewer.similarity is second.similarity
    assert fewer.labelled_positive.equal(second.positive)
    assert not fewer.positive.any()


REFUSED = {
    "one axis": (torch.zeros(3), [0, 0, 1], r"z must be rows \(n, d\), got shape \(3,\)"),
    "integers": (torch.zeros(3, 2).long(), [0, 0, 1], "z must be floating point, got torch.int64"),
    "NaN": (torch.tensor([[0.0], [math.nan]]), [0, 0], "NaN or infinity in 1 of 2 rows; lower"),
    "infinity": (torch.tensor([[-math.inf], [1.0]]), [0, 0], "must be finite"),
    "one row": (torch.zeros(1, 2), [0], "at least 2 rows to compare, got 1; enlarge the batch"),
    "short labels": (Z, [0, 1, 1], "one entry per row: 4 anchors and 4 candidates, .* relate"),
    "float labels": (Z, torch.zeros(4), "got torch.float32; floating point labels merge"),
    "float array": (Z, np.zeros(4), "floating point labels merge large class numbers"),
    "3 axes": (Z, torch.zeros(4, 1, 1).long(), r"must be \(n,\) class indices or \(n, tags\)"),
    "tag counts": (
        Z,
        torch.zeros(4, 2).long(),
        "must be boolean, got torch.int64; use labels.bool",
    ),
}


@pytest.mark.parametrize(("z", "labels", "message"), REFUSED.values(), ids=REFUSED)
def test_batches_that_cannot_be_compared_are_refused(z, labels, message):
    with pytest.raises(InputError, match=message):
        Comparison.within(z, labels)


def test_infinities_that_cancel_are_found():
    with pytest.raises(InputError, match="in 1 of 2 rows"):
        Comparison.within(torch.tensor([[math.inf, -math.inf], [1.0, 1.0]]), [0, 0])


def test_large_finite_rows_are_not_mistaken_for_infinite():
    Comparison.within(torch.full((4, 4), 3e38), [0, 0, 1, 1])


def test_items_of_another_length_are_refused():
    with pytest.raises(InputError, match="one identity per row, got 2 for 4 anchors"):
        Comparison.within(Z, [0, 0, 1, 1], items=torch.arange(2))


def test_labels_of_two_kinds_are_refused():
    with pytest.raises(InputError, match="both sides must be of one kind"):
        relate(torch.tensor([0, 1]), torch.tensor([[True, False]]))


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (torch.tensor([0, 1]), ["a", "b"], "of one kind, got int and str"),
        ([0, 1], ["0", "1"], "of one kind, got int and str"),
        (["a"], [b"a"], "of one kind, got str and bytes"),
        ([{"red"}], ["red"], "sets of tags for every item, got set {'red'}"),
        ([["red", "big"], ["red"]], ["red"], r"other hashables, .* got list \['red', 'big'\]"),
        (np.array(["a", 0.5], object), ["a"], "got float 0.5"),
        (torch.eye(2).bool(), torch.eye(3).bool(), r"of one kind, .* \[\(2, 2\), \(3, 3\)\]"),
    ],
)
def test_labels_that_could_never_be_equal_are_refused(left, right, message):
    with pytest.raises(InputError, match=message):
        relate(left, right)


def test_tensors_and_arrays_are_compared_with_lists_by_value():
    for side in (torch.tensor([1, 2]), np.array([1, 2]), np.array([1, 2], object), [1, 2]):
        assert relate(side, [1, 2**70])[0].tolist() == [[True, False], [False, False]]
        assert relate(side, [])[0].shape == (2, 0)
    words = list(np.array(["a", "b"]))  # of type np.str_
    assert relate(words, ["a", "c"])[0].tolist() == [[True, False], [False, False]]


def test_relations_that_contradict_themselves_are_refused():
    yes = torch.ones(4, 4, dtype=torch.bool)
    with pytest.raises(InputError, match="not call a pair both positive and negative"):
        Comparison.within(Z, [0, 0, 1, 1], relation=lambda a, c: (yes, yes))
    with pytest.raises(InputError, match=r"must return boolean masks .* got torch.float32"):
        Comparison.within(Z, [0, 0, 1, 1], relation=lambda a, c: (yes.float(), yes.float()))
    with pytest.raises(InputError, match=r"not both: \(1, 2\) is listed as both"):
        GivenPairs(similar=[(1, 2)], dissimilar=[(2, 1)])


def test_both_sides_are_numbered_in_common():
    left, right = encode_labels(["x", "y"], ["y", "z"])
    assert left.tolist() == [0, 1]
    assert right.tolist() == [1, 2]
    left, right = encode_labels([{"x"}], [{"y", "x"}])
    assert (left.tolist(), right.tolist()) == ([[True, False]], [[True, True]])
