import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fewshot.meta_cases import learner, network, seeded, task

from tupelo.errors import CheckpointError, InputError
from tupelo.fewshot import (
    Episode,
    FullContext,
    Matching,
    MetaCell,
    MetaMetricLearner,
    TextCNN,
    TextFewShot,
    Vocabulary,
    load_meta,
    save_meta,
)


@pytest.mark.parametrize(
    "options", [{}, {"bn_mode": "transductive", "batch": 2, "eval_support": "all"}], ids=str
)
def test_a_learner_comes_back_as_it_was(tmp_path, options):
    head = Matching("cosine", fce=FullContext(3))
    cell = MetaCell(2, gate_feedback="activation", p=7.0)
    model = learner(head, cell=cell, bn_momentum=0.5, **options)
    twin = load_meta(save_meta(model, tmp_path, about={"run": 3}))
    given = task((4, 4))
    assert torch.equal(twin.solve(given, seeded()), model.solve(given, seeded()))
    assert (twin.cell.p, twin.cell.gate_feedback) == (7.0, "activation")
    assert twin.matcher.order == model.matcher.order
    assert twin.matcher.bn_momentum == 0.5
    assert json.loads((tmp_path / "meta.json").read_text())["about"] == {"run": 3}


@pytest.mark.parametrize("learns", [False, True])
def test_texts_come_back_with_their_vocabulary(tmp_path, learns):
    vocabulary = Vocabulary(["a", "b", "c"])
    encoder = TextCNN(len(vocabulary), dim=4, filters=2, learn_vectors=learns)
    model = MetaMetricLearner(
        TextFewShot(encoder, Matching(), vocabulary=vocabulary),
        steps=1,
        shared=lambda name: name == "encoder.vectors",
    )
    with torch.no_grad():
        for parameter in model.matcher.parameters():
            parameter.add_(1)
    twin = load_meta(save_meta(model, tmp_path))
    tokens = vocabulary.encode(["a b", "b c", "c c a", "a"])
    labels = torch.tensor([0, 0, 1, 1])
    given = Episode(tokens, labels, tokens.flip(0), labels.flip(0), 2)
    assert torch.equal(twin.solve(given, seeded()), model.solve(given, seeded()))
    assert twin.matcher.network.network.vocabulary.known == ("a", "b", "c")


def test_another_number_of_parameters_is_refused(tmp_path):
    save_meta(learner(), tmp_path)
    path = tmp_path / "meta.safetensors"
    header = json.loads((tmp_path / "meta.json").read_text())
    tensors = load_file(path)
    tensors["start"] = tensors["start"][:-1].clone()
    save_file(tensors, path, metadata={"tupelo": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"holds \d+ parameters of c_0 in its own order, the"):
        load_meta(tmp_path)
    header["order"] = header["order"][::-1]
    save_file(load_file(path), path, metadata={"tupelo": json.dumps(header)})
    with pytest.raises(CheckpointError, match="parameters of c_0 in its own order"):
        load_meta(tmp_path)


def test_missing_damaged_and_newer_files_are_told(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no meta metric learner in .*meta.safetensors is mis"
    ):
        load_meta(tmp_path)
    save_meta(learner(), tmp_path)
    path = tmp_path / "meta.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is damaged, or no meta metric learner"):
        load_meta(tmp_path)
    path.write_bytes(whole)
    header = json.loads((tmp_path / "meta.json").read_text()) | {"format": 99}
    save_file(load_file(path), path, metadata={"tupelo": json.dumps(header)})
    with pytest.raises(
        CheckpointError, match="has format 99, this version of Tupelo reads up to 1"
    ) as caught:
        load_meta(tmp_path)
    assert "upgrade" in str(caught.value)


def test_modules_of_ones_own_are_refused(tmp_path):
    class Own(torch.nn.Module):
        head = Matching()

        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(InputError, match="network must be FewShot, or TextFewShot of a TextCNN"):
        save_meta(MetaMetricLearner(Own()), tmp_path)
    with pytest.raises(InputError, match="about must be plain JSON values"):
        save_meta(learner(), tmp_path, about={"x": object()})
