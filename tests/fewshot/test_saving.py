import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tupelo.errors import CheckpointError, InputError
from tupelo.fewshot import (
    EpisodeHead,
    FewShot,
    FullContext,
    Matching,
    Prototypical,
    about,
    conv4,
    load,
    save,
)
from tupelo.models import embedder

HEADS = {
    "euclidean": lambda: Prototypical(scale=2.0),
    "cosine": lambda: Prototypical("cosine"),
    "matching": lambda: Matching("cosine", scale=5.0, class_reduce="mean"),
    "fce": lambda: Matching(fce=FullContext(4, steps=2, start="query")),
}


def answers(model):
    generator = torch.Generator().manual_seed(0)
    z = model.eval()(torch.rand(6, 1, 28, 28, generator=generator)).raw[None]
    return model.head(z[:, :3], torch.tensor([[0, 1, 1]]), z[:, 3:], ways=2)


@pytest.mark.parametrize("name", HEADS)
def test_a_learner_comes_back_whole(name, tmp_path):
    torch.manual_seed(0)  # of some starts, four filters are dead
    model = FewShot(conv4(width=4), HEADS[name](), mean=(1.0,), std=(-1.0,))
    model(torch.rand(8, 1, 28, 28))  # statistics of its own
    twin = load(save(model, tmp_path / "new", about={"data": "characters"}))
    assert torch.equal(answers(model), answers(twin))
    assert twin.head.options() == model.head.options()
    assert not twin.training
    assert about(tmp_path / "new") == {"data": "characters"}
    assert json.loads((tmp_path / "new" / "fewshot.json").read_text())["format"] == 1


def test_an_embedder_as_encoder(tmp_path):
    model = FewShot(embedder("convnet", dim=4, channels=1), Prototypical())
    twin = load(model.save(tmp_path))
    assert torch.equal(answers(model), answers(twin))


class Own(EpisodeHead):
    def forward(self, support, labels, queries, *, ways):
        return Prototypical()(support, labels, queries, ways=ways)

    def options(self):
        return {}


def test_modules_of_the_user_are_given_again(tmp_path):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    model = FewShot(encoder, Own())
    model.save(tmp_path)
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    assert torch.equal(answers(model), answers(load(tmp_path, encoder=fresh, head=Own())))
    with pytest.raises(InputError, match=r"encoder= must be given exactly .* 'torch.*Sequential'"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"head= must be given exactly .* saved with '.*Own'"):
        load(tmp_path, encoder=fresh)
    own_backbone = embedder(encoder, features=3, dim=2, channels=1)
    FewShot(own_backbone, Prototypical()).save(tmp_path)
    with pytest.raises(InputError, match="encoder= must be given exactly"):
        load(tmp_path)


def test_a_module_too_many_is_refused(tmp_path):
    FewShot(conv4(width=4), Prototypical()).save(tmp_path)
    with pytest.raises(InputError, match=r"encoder= must be given exactly .* saved with 'conv4'"):
        load(tmp_path, encoder=conv4(width=4))


def rewritten(folder, **changed):
    path = folder / "fewshot.safetensors"
    header = json.loads((folder / "fewshot.json").read_text()) | changed
    save_file(load_file(path), path, metadata={"tupelo": json.dumps(header)})


def test_damage_is_told(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no few-shot learner in .*fewshot.safetensors is mi"
    ):
        load(tmp_path)
    path = FewShot(conv4(width=4), Prototypical()).save(tmp_path) / "fewshot.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match="is damaged or cut short"):
        load(tmp_path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds weights but no few-shot learner"):
        load(tmp_path)
    path.write_bytes(whole)
    rewritten(tmp_path, format=99)
    with pytest.raises(
        CheckpointError, match="has format 99, this version of Tupelo reads up to 1"
    ):
        load(tmp_path)
    rewritten(tmp_path, head={"kind": "oracle", "options": {}})
    with pytest.raises(CheckpointError, match="knows no head 'oracle', only prototypical"):
        load(tmp_path)
    rewritten(
        tmp_path, encoder={"kind": "conv4", "options": {"channels": 1, "width": 8, "size": 28}}
    )
    with pytest.raises(CheckpointError, match="does not fit what it describes"):
        load(tmp_path)


def test_an_interrupted_write_leaves_the_old_model(tmp_path, monkeypatch):
    model = FewShot(conv4(width=4), Prototypical())
    model.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            FewShot(conv4(width=8), Prototypical()).save(tmp_path)
    assert torch.equal(answers(load(tmp_path)), answers(model))
    assert {path.name for path in tmp_path.iterdir()} == {"fewshot.safetensors", "fewshot.json"}


def test_what_is_no_json_is_refused(tmp_path):
    with pytest.raises(InputError, match="about must be plain JSON values"):
        FewShot(conv4(width=4), Prototypical()).save(tmp_path, about={"x": object()})
