from dataclasses import replace

import pytest
import torch
from tests.fewshot.meta_cases import SIDE, seeded, task
from torch import nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot import MetaCell, MetaLSTM, conv4


def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return conv4(width=3, size=SIDE)


def test_more_classes_than_outputs_are_refused():
    model = MetaLSTM(encoder(), 3, steps=1)
    for call in (model.loss, model.solve):
        with pytest.raises(InputError, match=r"task has 4 classes, but .* trained with 3 outputs"):
            call(task((2, 2, 2, 2)), seeded())


def test_fewer_classes_have_dummy_labels():
    model = MetaLSTM(encoder(), 6, steps=1)
    given = task((2, 2))
    answers = model.solve(given, seeded())
    assert answers.shape == (4, 2)
    torch.testing.assert_close(answers.exp().sum(1), torch.ones(4))
    model.loss(given, seeded()).total.backward()
    assert model.start.grad.abs().max() > 0
    last = model.classifier.weights(model.start.grad)["last.weight"]
    assert last[2:].abs().max() > 0  # dummy outputs take part in the softmax


def test_with_closed_gates_the_updates_are_gradient_descent():
    model = MetaLSTM(encoder(), 2, steps=3, cell=MetaCell(2))
    model.cell.as_descent(0.05)
    given = task((2, 3))
    way, _ = model._descend(given, seeded())
    plain = nn.Sequential(encoder(), nn.Linear(3, 2)).train()
    begin = model.classifier.weights(model.start.detach())
    with torch.no_grad():
        plain[1].weight.copy_(begin["last.weight"])
        plain[1].bias.copy_(begin["last.bias"])
    descent = torch.optim.SGD(plain.parameters(), lr=0.05)
    for _ in range(3):
        descent.zero_grad()
        F.cross_entropy(plain(given.support), given.support_labels).backward()
        descent.step()
    found = model.classifier.weights(way.end)
    torch.testing.assert_close(found["last.weight"], plain[1].weight.detach(), rtol=0, atol=1e-5)
    for name, parameter in plain[0].named_parameters():
        torch.testing.assert_close(found[f"encoder.{name}"], parameter.detach(), rtol=0, atol=1e-5)


def test_published_number_of_parameters():
    """The learner of Ravi and Larochelle: Conv4-32 on 84 x 84 x 3, and 5 outputs."""
    assert MetaLSTM(conv4(3, width=32, size=84), 5).classifier.size == 32_901


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((conv4(width=2, size=SIDE), 1), "n_classes must be at least 2, got 1"),
        ((nn.Linear(2, 2), 3), "encoder must tell the width of its rows as num_features.*Linear"),
    ],
    ids=["one class", "no width"],
)
def test_refusals(arguments, message):
    with pytest.raises(InputError, match=message):
        MetaLSTM(*arguments)


def test_batches_are_of_the_support_and_gradients_divided_once_more_if_asked():
    options = {}, {"legacy_grad_scale": True}, {"batch": 3}
    models = [MetaLSTM(encoder(), 2, steps=1, **each) for each in options]
    for other in models[1:]:
        other.load_state_dict(models[0].state_dict())
    whole, legacy, part = (each._descend(task((4, 4)), seeded())[0].gradients for each in models)
    torch.testing.assert_close(legacy, whole / 8)
    assert not torch.allclose(part, whole)


def test_queries_are_normalised_as_asked():
    given = task((4, 4))
    for mode, alone in (("inner_running", True), ("transductive", False)):
        model = MetaLSTM(encoder(), 2, steps=2, bn_mode=mode)
        part = replace(given, queries=given.queries[:1], query_labels=given.query_labels[:1])
        whole, one = model.solve(given, seeded()), model.solve(part, seeded())
        assert torch.allclose(whole[:1], one, rtol=1e-4, atol=1e-5) == alone


def test_auxiliary_tasks_and_options_are_refused():
    with pytest.raises(InputError, match="auxiliary tasks have other classes"):
        MetaLSTM(encoder(), 3).solve(task(), seeded(), auxiliary=[task()])
    with pytest.raises(InputError, match="steps must be at least 1 update, got 0"):
        MetaLSTM(encoder(), 3, steps=0)
