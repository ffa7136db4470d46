import json

import pytest
import torch
from torch import nn

from tupelo.errors import InputError
from tupelo.fewshot import GraphEncoder, graph_encoder


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_encoders():
    # convolutions 64 (9 c + 3 * 9 * 64), four norms of 64, 576 x 64, a norm of 64
    assert count(graph_encoder()) == 64 * 9 + 3 * 64 * 64 * 9 + 4 * 128 + 576 * 64 + 128
    convolutions = 9 * (3 * 64 + 64 * 96 + 96 * 128 + 128 * 256)
    norms = 2 * (64 + 96 + 128 + 256)
    assert count(graph_encoder(84)) == convolutions + norms + 6400 * 128 + 128 + 256


@pytest.mark.parametrize(
    ("size", "sides"), [(28, [14, 7, 5, 3]), (84, [42, 20, 10, 5])], ids=["28", "84"]
)
def test_sides_of_the_maps(size, sides):
    encoder, seen = graph_encoder(size, width=4), []
    for block in encoder.blocks:
        if isinstance(block, nn.Sequential):
            block.register_forward_hook(lambda *call: seen.append(call[2].shape[2]))
    encoder(torch.rand(2, encoder.channels, size, size))
    assert seen == sides


def test_the_maximum_comes_before_the_activation_and_what_stands_at_the_end():
    small, large = graph_encoder(), graph_encoder(84)
    for encoder, slope in ((small, 0.1), (large, 0.2)):
        names = [type(module).__name__ for module in encoder.blocks[0]]
        assert names == ["Conv2d", "BatchNorm2d", "MaxPool2d", "LeakyReLU"]
        assert encoder.blocks[0][3].negative_slope == slope
        assert all(m.bias is None for m in encoder.modules() if isinstance(m, nn.Conv2d))
    names = [type(module).__name__ for module in small.head]
    assert names == ["Linear", "BatchNorm1d", "LeakyReLU"]
    assert small.head[0].bias is None
    assert small.head[2].negative_slope == 0.01
    assert [type(module).__name__ for module in large.head] == ["Linear", "BatchNorm1d"]
    dropped = [m.p for m in large.modules() if isinstance(m, nn.Dropout2d)]
    assert dropped == [0.4, 0.5]


def test_the_last_layers_keep_their_type_under_autocast():
    encoder = graph_encoder(width=8, dim=6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoder(torch.rand(3, 1, 28, 28))
    assert out.dtype == torch.float32
    assert out.shape == (3, 6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: graph_encoder(64), "size must be 28 or 84, .* got 64; read the data set in one"),
        (lambda: graph_encoder(width=0), "must be at least 1, got channels=1, width=0, dim=64"),
        (lambda: graph_encoder(84, dropout=(0.4, 1.0)), r"two shares in \[0, 1\).* \(0.4, 1.0\)"),
        (lambda: graph_encoder(28, dropout=(0.4, 0.5)), r"0 at 28 pixels, got \(0.4, 0.5\) at 28"),
        (lambda: graph_encoder()(torch.rand(2, 1, 32, 32)), r"takes pictures \(1, 28, 28\), got"),
        (lambda: graph_encoder(84)(torch.rand(2, 1, 84, 84)), r"takes pictures \(3, 84, 84\)"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_width_and_channels_are_free_and_options_build_it_again():
    encoder = graph_encoder(84, channels=1, width=8, dim=5, dropout=(0.0, 0.5))
    assert encoder(torch.rand(2, 1, 84, 84)).shape == (2, 5)
    again = GraphEncoder(**json.loads(json.dumps(encoder.options())))
    again.load_state_dict(encoder.state_dict())
    assert again.options() == encoder.options()
