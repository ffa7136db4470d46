import time
from urllib.error import HTTPError, URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tupelo.errors import InputError
from tupelo.models import ConvNet, embedder, weights
from tupelo.models.backbones import googlenet_weights


@pytest.fixture
def offline(monkeypatch):
    def refuse(request, timeout):
        raise URLError("no route")

    monkeypatch.setattr(weights, "urlopen", refuse)


@pytest.fixture
def resnet():
    torch.manual_seed(1)
    return timm.create_model("resnet18")


def test_missing_pretrained_weights_are_named_at_once(offline, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "_cached", lambda repository, names: None)
    start = time.perf_counter()
    with pytest.raises(InputError, match="not on this machine") as caught:
        embedder("resnet18", pretrained=True)
    assert time.perf_counter() - start < 5
    for hint in ("timm/resnet18.a1_in1k", "weights=", "pretrained=False", "model.safetensors"):
        assert hint in str(caught.value)


def test_without_a_network_the_cache_is_used(offline, monkeypatch, tmp_path, resnet):
    path = tmp_path / "model.safetensors"
    save_file(resnet.state_dict(), path)
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    model = embedder("resnet18", pretrained=True)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, resnet.layer1[0].conv1.weight)
    assert model.architecture.freeze_batchnorm


def test_where_the_hub_answers_timm_loads_as_always(monkeypatch):
    monkeypatch.setattr(weights, "_answers", lambda url: True)
    assert weights.pretrained_source("resnet18") == {}


@pytest.mark.parametrize(
    ("failure", "answers"),
    [
        (HTTPError("u", 403, "forbidden", {}, None), True),
        (URLError(weights.ssl.SSLError("self-signed")), True),
        (URLError("no route"), False),
        (TimeoutError(), False),
    ],
    ids=repr,
)
def test_what_counts_as_an_answer(monkeypatch, failure, answers):
    def fail(request, timeout):
        raise failure

    monkeypatch.setattr(weights, "urlopen", fail)
    assert weights._answers("https://hub.invalid") is answers


def test_offline_mode_of_the_hub_asks_nobody(monkeypatch):
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    assert not weights._answers("https://hub.invalid")


def test_backbones_without_published_weights_say_so():
    with pytest.raises(InputError, match="timm publishes no weights for 'botnet50ts_256'"):
        embedder("botnet50ts_256", pretrained=True)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped", "parallel"])
def test_a_local_file_of_a_whole_classifier_loads(tmp_path, resnet, kind):
    state = resnet.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif kind == "parallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    loaded = embedder("resnet18", weights=path).backbone.state_dict()
    assert "fc.weight" not in loaded
    for key, value in loaded.items():
        assert torch.equal(value, state[key]), key


def test_first_convolution_is_summed_for_grey(tmp_path, resnet):
    path = tmp_path / "w.safetensors"
    save_file(resnet.state_dict(), path)
    grey = embedder("resnet18", weights=path, channels=1).backbone.conv1.weight
    torch.testing.assert_close(grey, resnet.conv1.weight.sum(dim=1, keepdim=True))


def test_weights_of_the_small_convnet(tmp_path):
    net = ConvNet(channels=1)
    path = tmp_path / "w.safetensors"
    save_file(net.state_dict(), path)
    model = embedder("convnet", channels=1, weights=path)
    assert torch.equal(model.backbone.blocks[0][0].weight, net.blocks[0][0].weight)


def test_weights_of_another_network_change_nothing(tmp_path, resnet):
    path = tmp_path / "w.pth"
    torch.save(resnet.state_dict(), path)
    net = ConvNet()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(
        InputError, match=r"must be those of the backbone, but w\.pth has"
    ) as caught:
        weights.load_weights(net, path)
    assert "missing" in str(caught.value)
    assert "unknown" in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_weights_of_another_shape(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(ConvNet(widths=(16, 32, 64, 256)).state_dict(), path)
    with pytest.raises(InputError, match="of another shape"):
        weights.load_weights(ConvNet(), path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        embedder("convnet", weights=tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"], ids=["empty", "text"])
def test_damaged_files(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        embedder("convnet", weights=path)


def test_a_truncated_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(ConvNet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        embedder("convnet", weights=path)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="a torch file of tensors alone"):
        embedder("convnet", weights=path)


def test_a_file_of_other_things(tmp_path):
    path = tmp_path / "w.pth"
    torch.save([torch.zeros(2)], path)
    with pytest.raises(InputError, match="must hold named tensors"):
        embedder("convnet", weights=path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """torch's cache with a file as torchvision publishes its GoogLeNet: with its classifiers."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.manual_seed(1)
    whole = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    path = tmp_path / "checkpoints" / googlenet_weights().rpartition("/")[2]
    path.parent.mkdir()
    torch.save(whole.state_dict(), path)
    return path, whole


def test_googlenet_loads_what_torchvision_publishes(offline, published):
    path, whole = published
    for model in (
        embedder("googlenet", pretrained=True, dim=4),
        embedder("googlenet", weights=path, dim=4),
    ):
        assert torch.equal(model.backbone.conv1.conv.weight, whole.conv1.conv.weight)
        assert torch.equal(
            model.backbone.inception5b.branch1.bn.bias, whole.inception5b.branch1.bn.bias
        )
        assert model.architecture.freeze_batchnorm
        assert model.architecture.mean == (0.5, 0.5, 0.5)


def test_googlenet_for_grey_pictures_sums_the_colours(offline, published):
    model = embedder("googlenet", pretrained=True, channels=1, dim=4)
    expected = published[1].conv1.conv.weight.sum(1, keepdim=True)
    torch.testing.assert_close(model.backbone.conv1.conv.weight, expected)


def test_missing_weights_of_googlenet_are_named_at_once(offline, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"googlenet-\w+\.pth are not on this machine and .*weigh"):
        embedder("googlenet", pretrained=True)


def test_weights_are_downloaded_into_the_cache_of_torch(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights, "_answers", lambda url: True)
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda url, path, **options: asked.append((path, options)),
    )
    path = weights.published_file("https://hub.invalid/net-1378be20.pth")
    assert path == tmp_path / "checkpoints/net-1378be20.pth"
    assert path.parent.is_dir()
    assert asked == [(str(path), {"hash_prefix": "1378be20", "progress": False})]


@pytest.mark.parametrize(
    "error", [URLError("certificate verify failed"), RuntimeError("invalid hash value")]
)
def test_a_download_that_fails_is_told(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights, "_answers", lambda url: True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError, match=r"net-1378be20\.pth could not be fetched from .*\(.*\); "):
        weights.published_file("https://hub.invalid/net-1378be20.pth")
