import pytest
import torch
import torchvision

from tupelo.errors import InputError
from tupelo.models import ConvNet
from tupelo.models.backbones import googlenet


@pytest.mark.parametrize("size", [(28, 28), (33, 47), (96, 64), (1, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_channels_give_features(size, channels):
    net = ConvNet(channels=channels).eval()
    features = net(torch.rand(2, channels, *size))
    assert features.shape == (2, net.num_features)
    assert torch.isfinite(features).all()


def test_features_see_every_part_of_the_picture():
    images = torch.rand(1, 1, 32, 32, requires_grad=True)
    ConvNet(channels=1).eval()(images).sum().backward()
    parts = images.grad.abs().reshape(4, 8, 4, 8).sum(dim=(1, 3))
    assert (parts > 0).all()


def test_every_parameter_gets_a_gradient():
    net = ConvNet(channels=3)
    net(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_channels_last_computes_the_same():
    torch.manual_seed(0)
    net = ConvNet(channels=3).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = net(images)
    last = net.to(memory_format=torch.channels_last)(
        images.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"channels": 0}, {"widths": ()}, {"widths": (32, 0)}], ids=str)
def test_useless_shapes_are_refused(options):
    with pytest.raises(InputError, match="channels >= 1 and one or more widths >= 1"):
        ConvNet(**options)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return googlenet().eval()


def test_googlenet_gives_the_features_of_torchvisions(net):
    torch.manual_seed(1)
    whole = torchvision.models.googlenet(
        weights=None, aux_logits=True, transform_input=True, init_weights=False
    ).eval()
    missing = net.load_state_dict(whole.state_dict(), strict=False).missing_keys
    assert not missing
    seen = []
    whole.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 96, 96)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406),
                                                            (0.229, 0.224, 0.225)))  # fmt: skip
    whole((images - mean) / std)
    # the normalisation that torchvision undoes is not done in the first place
    torch.testing.assert_close(net((images - 0.5) / 0.5), seen[0], rtol=1e-4, atol=1e-5)


def test_googlenet_takes_grey_pictures_and_any_size():
    assert googlenet(channels=1).eval()(torch.rand(1, 1, 70, 45)).shape == (1, 1024)
