"""Confused classes and scores by class, against loops."""

from collections import Counter

import numpy as np
import pytest

from tupelo.evaluation import retrieval
from tupelo.report.confusions import class_scores, worst_confusions
from tupelo.report.searched import search


@pytest.fixture
def found(grey, embedded, around_classes):
    labels = np.array(["ant"] * 9 + ["bee"] * 5 + ["cat"] * 7 + ["dog"] * 4 + ["emu"])
    pictures = grey(labels)
    return search(pictures, embedded(pictures, around_classes(pictures.labels, 1.5, dim=4)))


def test_the_worst_confusions_agree_with_a_loop(found):
    z, labels = found.z.astype(np.float64), found.names
    totals = Counter(label for label in labels if label != "emu")  # a single emu finds none
    wrong: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for row in range(len(z)):
        cosine = z @ z[row]
        cosine[row] = -2
        first = int(cosine.argmax())
        if labels[first] != labels[row] and labels[row] != "emu":
            wrong.setdefault((labels[row], labels[first]), []).append((cosine[first], row, first))
    expected = sorted(
        ((len(seen), len(seen) / totals[of], of, taken) for (of, taken), seen in wrong.items()),
        key=lambda one: (-one[0], -one[1], one[2], one[3]),
    )
    assert len(expected) > 4
    pairs = worst_confusions(found, at_most=100)
    assert [(p.errors, p.share, p.of, p.taken_for) for p in pairs] == expected
    assert worst_confusions(found, at_most=3) == pairs[:3]
    for pair in pairs:
        seen = wrong[pair.of, pair.taken_for]
        assert pair.queries == totals[pair.of]
        assert pair.similarity == pytest.approx(np.mean([cosine for cosine, _, _ in seen]))
        assert (pair.query, pair.neighbour) == max(seen)[1:]


def test_classes_are_scored_the_worst_first(found):
    scores = class_scores(found)
    assert [score.name for score in scores] != sorted(score.name for score in scores)
    assert {score.name for score in scores} == {"ant", "bee", "cat", "dog"}
    precisions = [score.average_precision for score in scores]
    assert precisions == sorted(precisions)
    whole = retrieval(found.z, found.pictures.labels)
    for score in scores:
        members = np.array(found.names) == score.name
        assert score.queries == members.sum()
        assert score.recall == pytest.approx((whole.first_rank[members] == 1).mean())
        assert score.average_precision == pytest.approx(whole.average_precisions[members].mean())
