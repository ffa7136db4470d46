import copy

import pytest
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.models import ConvNet, embedder
from tupelo.models.cutting import attention_trunk, cut, mixes_rows


def parts_of(name, cut_at=None, size=32, channels=3):
    model = embedder(name, dim=8, size=size, channels=channels).eval()
    return model, cut(model.backbone, model.architecture, cut_at)


@pytest.mark.parametrize(
    ("name", "expected", "channels", "attended"),
    [
        ("convnet", "blocks.2", 128, 256),
        ("resnet18", "layer2", 128, 256),
        ("mobilenetv3_small_050", "blocks.3", 24, 288),
        ("googlenet", "maxpool3", 480, 832),
    ],
)
def test_the_parts_are_the_whole_and_the_trunk_keeps_its_size(name, expected, channels, attended):
    model, parts = parts_of(name, size=64)
    trunk, width = attention_trunk(parts)
    assert (parts.name, parts.shapes[0][1], width) == (expected, channels, attended)
    images = torch.rand(2, 3, 64, 64)
    maps = parts.spatial(images)
    torch.testing.assert_close(parts.deep(maps), model(images).features, rtol=1e-4, atol=1e-5)
    assert trunk.eval()(maps).shape == (2, attended, *maps.shape[2:])


def test_the_trunk_of_googlenet_is_inception_4a_to_4e_as_a_separate_copy():
    model, parts = parts_of("googlenet", size=64)
    trunk, _ = attention_trunk(parts)
    blocks = [getattr(model.backbone, f"inception4{letter}") for letter in "abcde"]
    assert len(trunk) == 5
    for copied, block in zip(trunk, blocks, strict=True):
        own, given = copied.state_dict(), block.state_dict()
        assert all(torch.equal(own[name], given[name]) for name in given)
    theirs = {id(p) for p in model.parameters()}
    assert not theirs & {id(p) for p in trunk.parameters()}
    assert {id(p) for p in parts.deep.parameters()} <= theirs


def test_the_trunk_has_no_pooling_and_no_strides_but_the_weights_of_what_follows():
    model, parts = parts_of("resnet18")
    trunk, _ = attention_trunk(parts)
    block = model.backbone.layer3[0]
    assert trunk[0].conv1.stride == trunk[0].downsample[0].stride == (1, 1)
    assert block.conv1.stride == (2, 2)
    assert torch.equal(trunk[0].conv1.weight, block.conv1.weight)
    trunk, _ = attention_trunk(parts_of("convnet", "blocks.0.2")[1])
    assert not any(isinstance(module, nn.MaxPool2d) for module in trunk.modules())


def test_a_pair_of_modules_of_the_user_is_cut_between_them():
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    second = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model = embedder(nn.Sequential(first, second), features=6, dim=4, channels=1).eval()
    parts = cut(model.backbone, model.architecture, "0")
    images = torch.rand(2, 1, 9, 9)
    assert attention_trunk(parts)[0](parts.spatial(images)).shape == (2, 6, 9, 9)
    assert torch.equal(parts.deep(parts.spatial(images)), model(images).features)


@pytest.mark.parametrize(
    "first", [[], [nn.MaxPool2d(2)], [nn.Dropout(), nn.Identity()]], ids=("none", "pool", "same")
)
def test_what_follows_does_not_change_the_shared_map_in_place(first):
    """Pools are left out of the trunk, so what stands behind one sees the map itself."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        *first,
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
    ).eval()
    model = embedder(net, features=4, dim=4, channels=1)
    parts = cut(net, model.architecture, "0")
    trunk, _ = attention_trunk(parts)
    maps = parts.spatial(torch.rand(2, 1, 9, 9)).detach()
    before = maps.clone()
    trunk(maps)
    parts.deep(maps)
    assert torch.equal(maps, before)
    assert net[-2].inplace  # what stands behind a convolution may


def test_a_module_that_stands_twice_in_a_chain():
    act = nn.ReLU()
    behind = [nn.Conv2d(4, 5, 3), act, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(nn.Conv2d(1, 4, 3), act, *behind)
    model = embedder(net, features=5, dim=4, channels=1)
    parts = cut(net, model.architecture, "1")
    assert list(parts.deep.layers) == behind
    images = torch.rand(2, 1, 9, 9)
    assert torch.equal(parts.deep(parts.spatial(images)), model(images).features)


def test_cutting_draws_no_random_numbers():
    model = embedder("convnet", dim=4, channels=1)
    before = torch.get_rng_state()
    attention_trunk(cut(model.backbone, model.architecture))
    assert torch.equal(torch.get_rng_state(), before)


def test_cutting_leaves_modes_and_statistics_alone():
    model = embedder("convnet", dim=4, channels=1)
    model.backbone.blocks[1].eval()
    before = copy.deepcopy(model.state_dict())
    cut(model.backbone, model.architecture)
    assert not model.backbone.blocks[1].training
    assert model.backbone.blocks[0].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_rows_mix_where_batch_normalisation_is_at_work():
    norm = nn.BatchNorm2d(3)
    assert mixes_rows(nn.Sequential(norm))
    assert not mixes_rows(nn.Sequential(norm).eval())
    assert mixes_rows(nn.BatchNorm2d(3, track_running_stats=False).eval())
    assert not mixes_rows(nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(3), nn.GroupNorm(1, 3))


@pytest.mark.parametrize(
    ("name", "cut_at", "message"),
    [
        ("convnet", "layer2", "cut must name a module of the backbone, got 'layer2'; it has "),
        ("convnet", "blocks.3", "with more modules behind it, got 'blocks.3'"),
        ("vit_tiny_patch16_224", None, "VisionTransformer cannot be cut, since it is not a chain"),
    ],
)
def test_cuts_that_cannot_be(name, cut_at, message):
    with pytest.raises(InputError, match=message):
        parts_of(name, cut_at)


def test_a_network_for_pictures_of_one_size_is_refused_without_that_size():
    model = embedder("vit_tiny_patch16_224", dim=4)
    with pytest.raises(InputError, match="VisionTransformer cannot be cut, since it is not a"):
        cut(model.backbone, model.architecture)


@pytest.mark.parametrize(
    ("name", "cut_at", "message"),
    [
        ("convnext_atto", "stages.1", "masks must have the shape of the map they multiply"),
        ("resnet18", "layer4", "leaves no convolutions of maps behind it for attention"),
        ("convnet", "blocks.3.2", "leaves no convolutions of maps behind it for attention"),
    ],
)
def test_cuts_that_leave_nothing_for_attention(name, cut_at, message):
    _, parts = parts_of(name, cut_at)
    with pytest.raises(InputError, match=message):
        attention_trunk(parts)


def test_a_cut_has_to_be_given_where_maps_keep_their_size():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = embedder(net, features=4, dim=4)
    with pytest.raises(InputError, match="cut must be given for this backbone"):
        cut(net, model.architecture)


def test_a_picture_of_other_channels_is_refused():
    parts = cut(ConvNet(), embedder("convnet").architecture)
    with pytest.raises(InputError, match=r"takes pictures of 3 channel\(s\), got 1"):
        parts.spatial(torch.rand(2, 1, 28, 28))
