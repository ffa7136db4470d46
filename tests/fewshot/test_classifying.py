"""What a user's support makes of a picture: against loops, in any order, and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tupelo.errors import InputError
from tupelo.fewshot import Prototypical
from tupelo.fewshot.classifying import classify


def task(counts: list[int], queries: int = 7, d: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return (
        torch.randn(len(labels), d, generator=generator),
        labels,
        torch.randn(queries, d, generator=generator),
    )


@pytest.mark.parametrize("counts", [[1, 1], [3, 1, 5], [2] * 11])
def test_probabilities_of_a_loop(counts):
    support, labels, queries = task(counts)
    found = classify(Prototypical(), support, labels, queries, temperature=2.5)
    for row, query in zip(found.probabilities, queries, strict=True):
        logits = [
            -float((query - support[labels == each].mean(0)).square().sum()) / 2.5
            for each in range(len(counts))
        ]
        torch.testing.assert_close(row, torch.softmax(torch.tensor(logits), 0))


def test_nearest_of_a_loop_by_euclidean_distance():
    support, labels, queries = task([3, 1, 5])
    found = classify(Prototypical(), support, labels, queries, neighbours=4)
    assert found.measure == "distance"
    for query, rows, shown in zip(queries, found.nearest, found.closeness, strict=True):
        distances = [float((query - each).norm()) for each in support]
        expected = np.argsort(distances)[:4]
        assert rows.tolist() == expected.tolist()
        np.testing.assert_allclose(shown, np.array(distances)[expected], rtol=1e-4)


def test_nearest_by_cosine_where_the_head_compares_directions():
    support, labels, queries = task([3, 1, 5])
    found = classify(Prototypical("cosine"), support, labels, queries, neighbours=9)
    assert found.measure == "cosine similarity"
    cosine = torch.nn.functional.cosine_similarity(queries[:, None], support[None], dim=2)
    torch.testing.assert_close(found.closeness, cosine.sort(1, descending=True).values)
    torch.testing.assert_close(found.closeness, cosine.gather(1, found.nearest))


def test_the_order_of_the_support_changes_nothing():
    support, labels, queries = task([3, 1, 5])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    first = classify(Prototypical(), support, labels, queries)
    other = classify(Prototypical(), support[order], labels[order], queries)
    torch.testing.assert_close(first.probabilities, other.probabilities)
    assert torch.equal(first.nearest, order[other.nearest])


def test_other_names_of_the_classes_permute_the_columns():
    support, labels, queries = task([3, 1, 5])
    renamed = torch.tensor([2, 0, 1])
    first = classify(Prototypical(), support, labels, queries).probabilities
    other = classify(Prototypical(), support, renamed[labels], queries).probabilities
    torch.testing.assert_close(first, other[:, renamed])


def test_each_query_is_answered_by_itself():
    support, labels, queries = task([3, 1, 5], queries=700)
    together = classify(Prototypical(), support, labels, queries)
    alone = classify(Prototypical(), support, labels, queries[650:651])
    torch.testing.assert_close(together.probabilities[650:651], alone.probabilities)
    assert torch.equal(together.nearest[650:651], alone.nearest)


def test_temperature_changes_confidence_and_not_the_answer():
    support, labels, queries = task([2, 2, 2])
    sharp, soft = (
        classify(Prototypical(), support, labels, queries, temperature=t) for t in (0.5, 20.0)
    )
    assert torch.equal(sharp.probabilities.argmax(1), soft.probabilities.argmax(1))
    assert (sharp.probabilities.amax(1) > soft.probabilities.amax(1)).all()
    torch.testing.assert_close(soft.probabilities.sum(1), torch.ones(7))


def test_more_neighbours_than_pictures_are_all_of_them():
    support, labels, queries = task([2, 1])
    assert classify(Prototypical(), support, labels, queries).nearest.shape == (7, 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"support": torch.zeros(0, 6), "labels": torch.zeros(0).long()}, "support must hold at l"),
        ({"labels": torch.tensor([0, 0, 0])}, "at least 2 classes"),
        ({"labels": torch.tensor([0, 0, 2])}, r"got none of \[1\]"),
        ({"labels": torch.tensor([0, 1])}, "one entry for each of 3, got 2"),
        ({"queries": torch.zeros(0, 6)}, "queries must hold at least one"),
        ({"queries": torch.zeros(2, 5)}, "rows of 6 numbers as the support, got 5"),
        ({"temperature": 0.0}, "temperature must be a number > 0"),
        ({"temperature": float("nan")}, "temperature must be a number > 0"),
        ({"neighbours": 0}, "neighbours must be at least 1"),
    ],
)
def test_what_cannot_be_classified(change, text):
    support, labels, queries = task([2, 1])
    given = {"support": support, "labels": labels, "queries": queries} | change
    with pytest.raises(InputError, match=text):
        classify(Prototypical(), **given)


def test_the_head_is_left_in_its_mode():
    head = Prototypical().train()
    classify(head, *task([2, 1]))
    assert head.training
