import numpy as np
import pytest
import torch
from tests.fewshot.meta_cases import domain, network, task

from tupelo.errors import InputError
from tupelo.fewshot import (
    Episode,
    EpisodicModel,
    MetaSettings,
    Tasks,
    Transfer,
    fit_each,
    retrieve,
    transfers,
)
from tupelo.fewshot.auxiliary import _held_out


class Stub(EpisodicModel):
    """Is right about the first so many queries of each task."""

    def __init__(self, right):
        super().__init__()
        self.right = right
        self.seen = []

    def loss(self, task, generator):
        raise NotImplementedError

    def solve(self, task, generator, *, auxiliary=()):
        self.seen.append(task)
        answers = torch.nn.functional.one_hot(task.query_labels, task.n_classes).float()
        answers[self.right :] = 1 - answers[self.right :]
        return answers.log_softmax(1)


def test_domains_are_ranked_by_accuracy_on_labelled_tasks_without_the_target():
    models = {name: Stub(right) for name, right in (("a", 1), ("b", 6), ("own", 6), ("c", 3))}
    found = transfers(models, labelled=[task(), task(seed=3)], exclude="own")
    assert [each.domain for each in found] == ["b", "c", "a"]
    assert found[0] == Transfer("b", 1.0)
    assert found[1].accuracy == pytest.approx(0.5)
    assert not models["own"].seen
    assert retrieve(found, 2) == ["b", "c"]
    assert len(retrieve(found)) == 3


def test_without_labelled_tasks_the_support_is_held_out_in_turn():
    given = task((2, 3))
    model = Stub(9)
    assert transfers({"a": model}, given) == [Transfer("a", 1.0)]
    assert len(model.seen) == 2
    asked = torch.cat([each.queries for each in model.seen])
    assert len(asked.unique(dim=0)) == 4
    for each in model.seen:
        assert each.query_labels.tolist() == [0, 1]
        assert each.counts.tolist() == [1, 2]
        assert not any((each.support == query).all((1, 2, 3)).any() for query in each.queries)


def test_queries_of_the_target_are_not_looked_at():
    given = task((2, 2))
    queries = given.queries
    for each in _held_out(given):
        for rows in (each.support, each.queries):
            assert not any((queries == row).all((1, 2, 3)).any() for row in rows)


def test_retrieval_without_labelled_items_is_refused():
    for given in (None, task((1, 2))):
        with pytest.raises(InputError, match="retrieval needs labelled items of the target: give"):
            transfers({"a": Stub(1)}, given)
    with pytest.raises(InputError, match="models must hold a domain other than the target"):
        transfers({"own": Stub(1)}, task(), exclude="own")
    with pytest.raises(InputError, match="count must be at least 1 domain, got 0"):
        retrieve([], 0)


def test_a_learner_is_trained_for_each_domain(tmp_path):
    domains = [domain("a"), domain("b", first=50, seed=1)]
    one = network()
    before = [p.clone() for p in one.parameters()]
    settings = MetaSettings(episodes=4, checkpoint_every=2)
    options = {"shots": 2, "queries": 2, "settings": settings}
    found = fit_each(one, domains, **options, out=tmp_path)
    assert list(found) == ["a", "b"]
    assert all(torch.equal(p, q) for p, q in zip(before, one.parameters(), strict=True))
    weights = [next(model.parameters()) for model in found.values()]
    assert not torch.equal(*weights)
    again = fit_each(one, domains, **options, out=tmp_path)
    assert torch.equal(next(again["b"].parameters()), weights[1])
    tasks = Tasks(domains[:1], shots=2, queries=2)
    ranked = transfers(found, labelled=[tasks.task(0)], exclude="a")
    assert [each.domain for each in ranked] == ["b"]


def test_episodes_of_held_out_items_are_sound():
    for each in _held_out(task((3, 4, 3))):
        assert isinstance(each, Episode)
        assert np.all(each.counts.numpy() >= 2)
