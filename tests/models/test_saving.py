import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tupelo.errors import CheckpointError, InputError
from tupelo.models import ConvNet, attentive, divided, embedder, load, save, saving


@pytest.fixture
def model():
    torch.manual_seed(0)
    return embedder(
        "convnet", dim=8, channels=1, layer_norm=True, batch_norm=True, dropout=0.1, size=28
    ).eval()


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "convnet", "channels": 1, "bias": False},
        {"backbone": "resnet18", "freeze_batchnorm": True},
        {"backbone": "vit_tiny_patch16_224", "size": 32},
        {"backbone": "resnet18", "pooling": "avgmax"},
        {"backbone": "googlenet"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_model_comes_back_bit_equal(tmp_path, options):
    model = embedder(dim=6, **options)
    x = torch.rand(3, model.architecture.channels, 32, 32)
    model(x)  # moves the statistics of batch normalisation
    twin = load(save(model, tmp_path / "new" / "folder"))
    assert twin.architecture == model.architecture
    assert not twin.training
    assert torch.equal(twin(x).z, model.eval()(x).z)


def test_the_description_is_plain_json(tmp_path, model):
    save(model, tmp_path, about={"data": "omniglot", "epochs": 3})
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["architecture"]["backbone"] == "convnet"
    assert described["architecture"]["size"] == 28
    assert described["format"] == 1
    assert saving.about(tmp_path) == {"data": "omniglot", "epochs": 3}


def test_the_weights_file_alone_is_the_model(tmp_path, model):
    save(model, tmp_path)
    (tmp_path / "model.json").unlink()
    x = torch.rand(1, 1, 28, 28)
    assert torch.equal(load(tmp_path)(x).z, model(x).z)


def test_a_module_of_the_user_is_noted_and_asked_for(tmp_path):
    model = embedder(ConvNet(widths=(8, 16)), dim=4).eval()
    save(model, tmp_path)
    assert "ConvNet" in json.loads((tmp_path / "model.json").read_text())["note"]
    with pytest.raises(InputError, match="backbone= must be given"):
        load(tmp_path)
    twin = load(tmp_path, backbone=ConvNet(widths=(8, 16)))
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(twin(x).z, model(x).z)
    with pytest.raises(CheckpointError, match="does not fit its architecture"):
        load(tmp_path, backbone=ConvNet(widths=(16, 16)))


@pytest.mark.parametrize(
    ("make", "named"), [(divided, "user, tupelo.models.backbones.ConvNet: "), (attentive, "user: ")]
)
def test_the_note_names_the_users_module_where_an_ensemble_has_it_whole(tmp_path, make, named):
    model = make(embedder(ConvNet(widths=(8, 8, 16)), dim=4), learners=2)
    save(model, tmp_path)
    note = json.loads((tmp_path / "model.json").read_text())["note"]
    assert f"the backbone is a module of the {named}build it and pass it to load(" in note


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_former_model(tmp_path, model, monkeypatch, moment):
    save(model, tmp_path, about={"run": 1})
    other = embedder("convnet", dim=8, channels=1)

    def fail(*_):
        raise OSError("no space left on device")

    owner = os if moment == "fsync" else saving.Path
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, fail)
        with pytest.raises(OSError, match="no space left"):
            save(other, tmp_path, about={"run": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert saving.about(tmp_path) == {"run": 1}
    x = torch.rand(1, 1, 28, 28)
    assert torch.equal(load(tmp_path)(x).z, model(x).z)


def test_a_missing_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        saving.about(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 500, -10])
def test_a_truncated_model(tmp_path, model, keep):
    save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load(tmp_path)


def test_weights_of_something_else(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds weights but no model of Tupelo"):
        load(tmp_path)


def test_a_model_saved_before_its_architecture_had_more_fields(tmp_path):
    model = embedder("resnet18", dim=4).eval()
    save(model, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    for name in ("batch_norm", "pooling"):
        del described["architecture"][name]
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    header = {"tupelo": json.dumps(described)}
    save_file(state, tmp_path / "model.safetensors", metadata=header)
    twin = load(tmp_path)
    assert twin.architecture == model.architecture
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(twin(x).z, model(x).z)


def test_a_newer_format(tmp_path, model, monkeypatch):
    monkeypatch.setattr(saving, "FORMAT", 2)
    save(model, tmp_path)
    monkeypatch.setattr(saving, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="has format 2, this version of Tupelo reads up to 1"):
        load(tmp_path)


def test_tensors_that_do_not_fit(tmp_path, model):
    save(model, tmp_path)
    header = json.dumps(json.loads((tmp_path / "model.json").read_text()))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    del state["head.3.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"tupelo": header})
    with pytest.raises(CheckpointError, match=r"does not fit its architecture.*head\.3\.weight"):
        load(tmp_path)


def test_notes_that_are_not_json(tmp_path, model):
    with pytest.raises(InputError, match="about must be plain JSON values"):
        save(model, tmp_path, about={"when": object()})
    assert not (tmp_path / "model.safetensors").exists()
