"""Networks for people: the published table, any size, and everything a model is used for."""

import numpy as np
import pytest
import torch
from torch import nn

from tupelo import models
from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.errors import InputError
from tupelo.models import ReidNet, divided, embedder, many_heads, small_reid_net
from tupelo.models.reid import Residual
from tupelo.trained import load


def test_the_weights_are_those_of_the_table():
    def residual(before, after, *, first=False):
        convolutions = 9 * before * after + 9 * after * after + after
        shortcut = before * after if before != after else 0
        return (0 if first else 2 * before) + convolutions + 2 * after + shortcut

    stem = 27 * 32 + 64 + 9 * 32 * 32 + 64
    blocks = residual(32, 32, first=True) + residual(32, 32) + residual(32, 64) + residual(64, 64)
    blocks += residual(64, 128) + residual(128, 128)
    head = 16_384 * 128 + 2 * 128
    counted = sum(p.numel() for p in embedder("reid").parameters())
    assert counted == stem + blocks + head == 2_801_824


def test_maps_are_those_of_the_table():
    net, shapes = ReidNet().eval(), []
    for module in net:
        module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    net(torch.zeros(1, 3, 128, 64))
    assert shapes[5] == (32, 128, 64)
    assert shapes[6:] == [
        (32, 64, 32), (32, 64, 32), (32, 64, 32), (64, 32, 16), (64, 32, 16),
        (128, 16, 8), (128, 16, 8), (16_384,),
    ]  # fmt: skip


def test_a_block_normalises_its_input_and_not_its_shortcut():
    x = torch.randn(3, 4, 6, 5)
    block = Residual(4, 4, dropout=0.0)
    bn, conv = block.before[0], block.branch
    y = nn.functional.elu(nn.functional.batch_norm(x, None, None, bn.weight, bn.bias, True))
    y = nn.functional.conv2d(y, conv[0].weight, padding=1)
    y = nn.functional.elu(nn.functional.batch_norm(y, None, None, training=True))
    y = nn.functional.conv2d(y, conv[4].weight, conv[4].bias, padding=1)
    torch.testing.assert_close(block(x), x + y)
    first = Residual(4, 8, stride=2, first=True, dropout=0.0)
    assert isinstance(first.before, nn.Identity)
    assert first.shortcut.bias is None
    nn.init.zeros_(first.branch[4].weight)
    nn.init.zeros_(first.branch[4].bias)
    expected = torch.einsum("bchw,ec->behw", x[:, :, ::2, ::2], first.shortcut.weight[..., 0, 0])
    torch.testing.assert_close(first(x), expected)


def test_the_head_ends_in_normalisation_and_elu():
    model = embedder("reid", size=(16, 8))
    kinds = [type(layer).__name__ for layer in model.head]
    assert kinds == ["Dropout", "Linear", "BatchNorm1d", "ELU"]
    assert model.head[0].p == 0.4
    assert model.head[1].bias is None
    torch.testing.assert_close(model.eval()(torch.rand(2, 3, 16, 8)).z.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("size", [(64, 32), (33, 17), 24, (8, 8)])
def test_any_size_through_the_flattened_width(size):
    height, width = (size, size) if isinstance(size, int) else size
    model = embedder("reid", size=size, dim=8).eval()
    images = torch.rand(2, 3, height, width)
    assert model.features(images).shape[1] == model.architecture.features
    assert model(images).z.shape == (2, 8)


def test_the_small_one_averages_three_pooled_blocks():
    model = embedder("reid-small", dim=64).eval()
    assert model.architecture.size == (64, 32)
    assert sum(p.numel() for p in model.parameters()) == (
        27 * 16 + 32 + 9 * 16 * 32 + 64 + 9 * 32 * 64 + 128 + 64 * 64 + 64
    )
    x = torch.rand(2, 3, 64, 32)
    by_hand = x
    for place in (0, 4, 8):
        conv, bn = model.backbone[place], model.backbone[place + 1]
        by_hand = nn.functional.max_pool2d(bn(conv(by_hand)).relu(), 2)
    torch.testing.assert_close(model.features(x), by_hand.mean((2, 3)))


@pytest.mark.parametrize("name", ["reid", "reid-small"])
def test_saved_and_loaded_with_its_shape(name, tmp_path):
    model = embedder(name, size=(32, 16), dim=8).eval()
    for module in model.modules():  # statistics other than those of a fresh model
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    twin = models.load(models.save(model, tmp_path))
    assert twin.architecture == model.architecture
    x = torch.rand(2, 3, 32, 16)
    torch.testing.assert_close(twin(x).z, model(x).z, rtol=0, atol=0)
    trained = load(tmp_path)
    assert trained.frame == Frame(32, 16, 3)
    assert trained.embed(np.zeros((50, 40, 3), np.uint8)).shape == (1, 8)


def test_a_batch_of_an_image_set_in_its_shape():
    pictures = ImageSet.from_arrays(np.zeros((4, 32, 16, 3), np.uint8), [0, 0, 1, 1])
    model = embedder("reid-small", size=pictures.size, dim=8)
    assert model(pictures.batch([0, 3]).images).z.shape == (2, 8)


@pytest.mark.parametrize("name", ["reid", "reid-small"])
def test_heads_share_the_first_layers(name):
    model = many_heads(embedder(name, size=(32, 16), dim=8), learners=2).eval()
    assert [one.z.shape for one in model(torch.rand(2, 3, 32, 16))] == [(2, 4)] * 2


def test_refusals():
    with pytest.raises(InputError, match=r"8 pixels or more each way, got 7 x 64"):
        ReidNet(size=(7, 64))
    with pytest.raises(InputError, match=r"dropout must be in \[0, 1\), got 1"):
        ReidNet(dropout=1.0)
    with pytest.raises(InputError, match=r"takes pictures of 128 x 64 pixels, got 64 x 128"):
        ReidNet()(torch.zeros(1, 3, 64, 128))
    with pytest.raises(InputError, match=r"cannot be divided; 'reid' ends in 'elu'"):
        divided(embedder("reid", size=16), learners=2)
    with pytest.raises(InputError, match="pretrained=True needs a timm backbone"):
        embedder("reid", pretrained=True)
    with pytest.raises(
        InputError, match="needs a timm backbone such as 'resnet50', got 'reid-small'"
    ):
        embedder("reid-small", pooling="avgmax")
    assert small_reid_net(1)(torch.zeros(1, 1, 8, 8)).shape == (1, 64)
