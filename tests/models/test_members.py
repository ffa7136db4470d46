"""Members as one model: what they embed, how they are kept and exported."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tupelo.data import ImageSet
from tupelo.ensembles import joined
from tupelo.errors import InputError
from tupelo.inference import embed, rows_of
from tupelo.models import Members, embedder, load, members, save


@pytest.fixture
def model():
    torch.manual_seed(0)
    return members([embedder("convnet", dim=d, channels=1, size=16) for d in (4, 3, 5)]).eval()


def test_the_joined_row_is_that_of_the_members_apart(model):
    pixels = np.random.default_rng(0).integers(256, size=(6, 16, 16), dtype=np.uint8)
    pictures = ImageSet.from_arrays(pixels, [0, 0, 1, 1, 2, 2])
    apart = [embed(one, pictures, precision="32-true").z.numpy() for one in model.members]
    together = embed(model, pictures, precision="32-true").z.numpy()
    assert model.dim == 12
    np.testing.assert_allclose(together, joined(apart) / np.sqrt(3), atol=1e-6)


def test_members_share_nothing(model):
    x = torch.rand(3, 1, 16, 16)
    before = [one.z for one in model(x)]
    with torch.no_grad():
        for parameter in model.members[1].parameters():
            parameter.add_(0.1)
    after = [one.z for one in model(x)]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert torch.equal(before[2], after[2])


def test_saved_and_loaded(model, tmp_path):
    again = load(save(model, tmp_path))
    x = torch.rand(2, 1, 16, 16)
    assert isinstance(again, Members)
    assert again.architecture == model.architecture
    assert torch.equal(rows_of(again(x), again.scales), rows_of(model(x), model.scales))


def test_a_backbone_of_the_user_is_copied_for_each_member(tmp_path):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
    made = [
        embedder(copy.deepcopy(backbone), features=6, dim=2, channels=1, size=4) for _ in range(2)
    ]
    with torch.no_grad():
        made[1].backbone[1].weight.add_(1)
    model = members(made).eval()
    again = load(save(model, tmp_path), backbone=backbone)
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(again(x)[1].z, model(x)[1].z)


def test_one_graph_for_other_runtimes(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs tupelo[export]")
    pytest.importorskip("onnxscript", reason="ONNX needs tupelo[export]")
    from tupelo.export import onnx
    from tupelo.trained import load as load_run

    run = save(model, tmp_path / "run", about={"pictures": {
        "height": 16, "width": 16, "channels": 1, "resize": "crop"}})  # fmt: skip
    written = onnx(load_run(run), tmp_path / "model.onnx")
    assert written is not None
    assert onnxruntime.InferenceSession(tmp_path / "model.onnx").get_outputs()[0].shape[-1] == 12


def test_refused(model):
    with pytest.raises(InputError, match="needs one or more embedders, got none"):
        members([])
    one = embedder("convnet", dim=4, channels=1)
    with pytest.raises(InputError, match="got one of them twice"):
        members([one, one])
    with pytest.raises(InputError, match="of member 1 channels is 3, of member 0 1"):
        members([one, embedder("convnet", dim=4, channels=3)])


def test_a_picture_without_a_direction_is_named(model):
    with torch.no_grad():
        model.members[2].head[-1].weight.zero_()
        model.members[2].head[-1].bias.zero_()
    with pytest.raises(InputError, match=r"member 2 gives rows without a direction .* for 2 of 2"):
        model(torch.rand(2, 1, 16, 16))
    model.train()(torch.rand(2, 1, 16, 16))  # in training the loss says what it needs
