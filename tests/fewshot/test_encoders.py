import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import conv4


@pytest.mark.parametrize(("channels", "count"), [(1, 111_936), (3, 113_088)])
def test_published_numbers_of_parameters(channels, count):
    assert sum(p.numel() for p in conv4(channels).parameters()) == count


@pytest.mark.parametrize(("size", "width"), [(28, 64), (84, 1600), (64, 1024)])
def test_width_of_the_features(size, width):
    encoder = conv4(3, size=size)
    assert encoder.num_features == width
    assert encoder(torch.zeros(2, 3, size, size)).shape == (2, width)


def test_refusals():
    with pytest.raises(InputError, match="size must be at least 16 pixels"):
        conv4(size=15)
    with pytest.raises(InputError, match="channels and width must be at least 1, got channels=0"):
        conv4(0)
    with pytest.raises(InputError, match=r"takes pictures \(1, 28, 28\), got a batch \(2, 1, 32"):
        conv4()(torch.zeros(2, 1, 32, 32))
