import pytest
import timm
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.models import Architecture, embedder
from tupelo.models.rebuilding import rebuild


class Flat(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.num_features = width
        self.linear = nn.Linear(3 * 8 * 8, width)

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("convnet", 1, None),
        ("resnet18", 3, None),
        ("resnet18", 1, None),
        ("mobilenetv3_small_050", 3, None),
        ("vit_tiny_patch16_224", 3, 32),
    ],
)
def test_any_backbone_returns_the_record(name, channels, size):
    model = embedder(name, dim=16, channels=channels, size=size)
    out = model(torch.rand(2, channels, 32, 32))
    assert out.raw.shape == out.z.shape == (2, 16)
    assert out.features.shape == (2, model.architecture.features)
    torch.testing.assert_close(out.z.norm(dim=1), torch.ones(2))
    assert model.dim == 16


def test_head_and_unit_rows_stay_float32_under_autocast(images):
    model = embedder("convnet", dim=8).eval()
    seen = []
    model.backbone.register_forward_hook(lambda _module, _input, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
    assert seen == [torch.bfloat16]
    assert out.raw.dtype == out.z.dtype == out.features.dtype == torch.float32
    torch.testing.assert_close(out.raw, model.head(out.features), rtol=0, atol=0)
    torch.testing.assert_close(out.z, model(images).z, rtol=0, atol=0.05)


def test_pictures_are_normalised_with_the_configuration_of_the_backbone(images):
    model = embedder("resnet18", dim=4).eval()
    config = timm.get_pretrained_cfg("resnet18")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.mean, config.std))
    torch.testing.assert_close(model(images).features, model.backbone((images - mean) / std))
    assert embedder("resnet18", channels=1).architecture.mean == pytest.approx((0.449,), abs=1e-3)
    assert embedder("convnet").architecture.std == (0.5, 0.5, 0.5)


def test_the_head_alone_equals_the_whole_from_its_features(images):
    model = embedder("convnet", dim=8).eval()
    whole = model(images)
    torch.testing.assert_close(model.embed(whole.features).z, whole.z, rtol=0, atol=0)


def test_head_options(images):
    model = embedder("convnet", dim=8, bias=False, layer_norm=True, dropout=0.5)
    norm, dropout, linear = model.head
    assert linear.bias is None
    assert dropout.p == 0.5
    normed = norm(model(images).features)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(4), rtol=0, atol=1e-5)
    assert not torch.equal(model(images).z, model(images).z)
    assert torch.equal(model.eval()(images).z, model(images).z)


def test_batch_normalisation_before_the_head_is_never_frozen(images):
    model = embedder("convnet", dim=8, batch_norm=True, freeze_batchnorm=True).train()
    norm, linear = model.head
    features = model(images).features
    normed = (features - features.mean(0)) / (features.var(0, unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(model.embed(features).raw, linear(normed), rtol=0, atol=1e-4)
    assert int(norm.num_batches_tracked) == 2
    assert not torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))


def test_frozen_batchnorm_keeps_its_statistics_and_learns_its_scale(images):
    model = embedder("resnet18", dim=4, freeze_batchnorm=True).train()
    before = model.backbone.bn1.running_mean.clone()
    model(images).raw.sum().backward()
    assert torch.equal(model.backbone.bn1.running_mean, before)
    assert model.backbone.bn1.weight.grad is not None
    assert model.training
    assert model.backbone.layer1.training

    free = embedder("resnet18", dim=4).train()
    before = free.backbone.bn1.running_mean.clone()
    free(images)
    assert not torch.equal(free.backbone.bn1.running_mean, before)


def test_weights_freeze_batchnorm_unless_told_otherwise(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    assert embedder("resnet18", weights=path).architecture.freeze_batchnorm
    free = embedder("resnet18", weights=path, freeze_batchnorm=False)
    assert not free.architecture.freeze_batchnorm
    assert not embedder("resnet18").architecture.freeze_batchnorm


def test_float64_all_the_way():
    out = embedder("convnet", dim=4).double()(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    assert out.z.dtype == out.raw.dtype == torch.float64


def test_the_convnet_is_deeper_for_larger_pictures():
    assert len(embedder("convnet", size=28).backbone.blocks) == 4
    deep = embedder("convnet", size=64)
    assert len(deep.backbone.blocks) == 5
    assert deep(torch.rand(2, 3, 64, 64)).features.shape == (2, 256)
    assert len(rebuild(deep.architecture).backbone.blocks) == 5


def test_a_module_of_the_user():
    images = torch.rand(2, 3, 8, 8)
    model = embedder(Flat(), dim=5)
    assert model.architecture.backbone == "custom"
    torch.testing.assert_close(model(images).features, model.backbone((images - 0.5) / 0.5))
    assert embedder(nn.Sequential(Flat()), dim=5, features=12)(images).z.shape == (2, 5)
    with pytest.raises(InputError, match="features must be given"):
        embedder(nn.Sequential(Flat()), dim=5)


@pytest.mark.parametrize(
    ("name", "guess"),
    [("resnet81", "resnet18"), ("resnet18.a1_in", "resnet18.a1_in1k"), ("convnett", "convnet")],
)
def test_unknown_names_list_close_matches(name, guess):
    with pytest.raises(InputError, match="did you mean") as caught:
        embedder(name)
    assert guess in str(caught.value)


def test_an_unknown_name_close_to_nothing():
    with pytest.raises(
        InputError, match="'googlenet', 'reid', 'reid-small' or a timm model, got 'zzzz'"
    ):
        embedder("zzzz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"pretrained": True}, "pretrained=True needs a timm backbone"),
        ({"pretrained": True, "weights": "x"}, "not both"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        embedder("convnet", **options)


def test_pictures_of_other_channels_are_refused():
    with pytest.raises(InputError, match=r"takes pictures of 3 channel\(s\), got 1"):
        embedder("convnet")(torch.rand(2, 1, 28, 28))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "one value a channel"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be positive"),
        ({"features": 0}, "features must be at least 1"),
    ],
    ids=str,
)
def test_an_impossible_architecture_is_refused(change, message):
    fields = {
        "backbone": "convnet", "features": 256, "dim": 4, "channels": 3, "size": None,
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        Architecture(**(fields | change))


def test_rebuild_needs_the_module_exactly_when_it_is_the_users():
    with pytest.raises(InputError, match="backbone= must be given exactly"):
        rebuild(embedder(Flat(), dim=5).architecture)
    with pytest.raises(InputError, match="backbone= must be given exactly"):
        rebuild(embedder("convnet").architecture, Flat())


def test_pooling_is_the_mean_of_average_and_maximum():
    torch.manual_seed(0)
    usual = embedder("resnet18", dim=4).eval().backbone
    both = embedder("resnet18", dim=4, pooling="avgmax").eval().backbone
    both.load_state_dict(usual.state_dict())
    pictures = torch.rand(2, 3, 64, 64)
    maps = usual.forward_features(pictures)
    expected = (maps.mean((2, 3)) + maps.amax((2, 3))) / 2
    torch.testing.assert_close(both(pictures), expected)


@pytest.mark.parametrize(
    ("backbone", "pooling", "reason"),
    [
        (
            "convnet",
            "avgmax",
            "pooling='avgmax' needs a timm backbone such as 'resnet50', got 'con",
        ),
        ("resnet18", "max", "pooling must be 'usual' or 'avgmax', got 'max'"),
        ("vit_tiny_patch16_224", "avgmax", "pooling='avgmax' needs a convolutional network, which"),
    ],
)
def test_other_pooling_is_refused(backbone, pooling, reason):
    with pytest.raises(InputError, match=reason):
        embedder(backbone, pooling=pooling)
