import copy
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


def plain(encoder):
    """The published layers, in the published order, with the weights of an encoder."""
    dropout = iter(encoder.dropout)
    if encoder.size == 28:  # padding, maximum, slope, dropout behind
        kinds = [(1, True, 0.1, False)] * 2 + [(0, False, 0.1, False)] * 2
    else:
        kinds = [(1, True, 0.2, False), (0, True, 0.2, False)] + [(1, True, 0.2, True)] * 2
    blocks = [module for module in encoder.blocks if not isinstance(module, nn.Dropout2d)]
    layers = []
    for block, (padding, pool, slope, drops) in zip(blocks, kinds, strict=True):
        after, before = block.conv.weight.shape[:2]
        conv = nn.Conv2d(before, after, 3, padding=padding, bias=False)
        conv.weight = block.conv.weight
        layers += [conv, copy.deepcopy(block.norm)]
        layers += [nn.MaxPool2d(2)] if pool else []
        layers += [nn.LeakyReLU(slope)]
        layers += [nn.Dropout2d(next(dropout))] if drops else []
    first = encoder.head[0]
    last = nn.Linear(first.in_features, first.out_features, bias=encoder.size == 84)
    last.weight = first.weight
    if encoder.size == 84:
        last.bias = first.bias
    layers += [nn.Flatten(), last, copy.deepcopy(encoder.head[1])]
    return nn.Sequential(*layers, *([nn.LeakyReLU(0.01)] if encoder.size == 28 else []))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("size", "sides"), [(28, [14, 7, 5, 3]), (84, [42, 20, 10, 5])])
def test_published_layers_in_the_published_order(size, sides, training):
    torch.manual_seed(0)
    encoder = graph_encoder(size, width=8, dim=6, dropout=None if size == 28 else (0.4, 0.5))
    encoder = encoder.double().train(training)
    for module in encoder.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):  # as training may leave them
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images, expected, seen = (
        torch.rand(5, encoder.channels, size, size).double(),
        plain(encoder),
        [],
    )
    for module in expected:
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(lambda *call: seen.append(call[2].shape[2:]))
    torch.manual_seed(1)  # of dropout
    reference = expected.train(training)(images)
    torch.manual_seed(1)
    torch.testing.assert_close(encoder(images), reference)
    assert [tuple(shape) for shape in seen[:4]] == [(side, side) for side in sides]


def test_published_dropout():
    assert graph_encoder(84).dropout == (0.4, 0.5)
    assert [m.p for m in graph_encoder(84).modules() if isinstance(m, nn.Dropout2d)] == [0.4, 0.5]
    assert not [m for m in graph_encoder().modules() if isinstance(m, nn.Dropout2d)]


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
