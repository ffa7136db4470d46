import pytest
import torch
from tests.fewshot.meta_cases import domain, learner, network, seeded, task

from tupelo.errors import InputError, TrainingDiverged
from tupelo.fewshot import Direct, EpisodicModel, Tasks, meta_evaluate, transfers
from tupelo.fewshot.meta_testing import derived_generator


def test_accuracy_is_that_of_the_answers():
    tasks = [task((2, 3), seed=seed) for seed in range(3)]
    model, told = learner(), []
    found = meta_evaluate(model, tasks, seed=5, planned=3, progress=told.append)
    for number, given in enumerate(tasks):
        answers = model.solve(given, derived_generator(5, number)).argmax(1)
        assert found.of_episodes[number] == (answers == given.query_labels).double().mean().item()
    assert [each.episodes for each in told] == [1, 2, 3]
    assert (told[-1].mean, told[-1].planned) == (found.mean, 3)


def test_auxiliary_tasks_may_differ_by_task():
    seen = []
    model = learner()
    inner = model.adapt

    def watched(given, generator, *, auxiliary=()):
        seen.append(len(auxiliary))
        return inner(given, generator, auxiliary=auxiliary)

    model.adapt = watched
    others = [task((2, 2), seed=8)] * 3
    meta_evaluate(model, [task(), task()], auxiliary=lambda number: others[: number + 1])
    meta_evaluate(model, [task()], auxiliary=others)
    assert seen == [1, 2, 3]


def test_a_task_that_diverges_is_named():
    bad = task()
    object.__setattr__(bad, "support", bad.support * float("nan"))
    with pytest.raises(TrainingDiverged, match="task 1: the loss became nan at update 1 of 2"):
        meta_evaluate(learner(), [task(), bad])


def test_no_task_is_refused():
    with pytest.raises(InputError, match="tasks must hold at least one task, got none"):
        meta_evaluate(learner(), [])


def test_tasks_of_a_domain():
    tasks = Tasks([domain()], shots=2, queries=2)
    found = meta_evaluate(Direct(network()), (tasks.of(0, n) for n in range(4)))
    assert len(found.of_episodes) == 4


def test_tasks_are_placed_where_the_model_is():
    class Elsewhere(EpisodicModel):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))
            self.seen = []

        def loss(self, task, generator):
            raise NotImplementedError

        def solve(self, task, generator, *, auxiliary=()):
            self.seen += [task, *auxiliary]
            raise InputError("seen")

    model = Elsewhere()
    for call in (
        lambda: meta_evaluate(model, [task()], auxiliary=[task(seed=1)]),
        lambda: transfers({"a": model}, task()),
    ):
        with pytest.raises(InputError, match="seen"):
            call()
    assert len(model.seen) == 3
    for each in model.seen:
        assert {each.support.device.type, each.query_labels.device.type} == {"meta"}


def test_generators_follow_from_their_numbers():
    draws = [
        torch.rand(2, generator=derived_generator(*words)) for words in ((1, 2), (1, 2), (1, 3))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert seeded(1).initial_seed() == 1
