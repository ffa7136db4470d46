"""Blocks in one pass against the layers of PyTorch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tupelo.fewshot import blocks, conv4
from tupelo.fewshot.blocks import block

PICTURES = {"pictures": (1, 9), "colour": (2, 16), "maps": (6, 5), "maps of pictures": (3, 4)}


def layers(images, conv, norm, slope):
    return F.leaky_relu(F.max_pool2d(norm(conv(images)), 2), slope)


def made(channels, width, *, bias=True, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
        norm = nn.BatchNorm2d(width, **options)
        nn.init.normal_(norm.weight)  # also negative: then the maximum is that of the smallest
        nn.init.normal_(norm.bias)
    return conv.double(), norm.double()


def images(channels, *, n=5, size=(8, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (3, 3), (2, 2)])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", PICTURES)
def test_value_gradients_and_statistics_are_those_of_the_layers(name, bias, slope, size):
    channels, width = PICTURES[name]
    ours = made(channels, width, bias=bias)
    theirs = copy.deepcopy(ours)
    given = images(channels, size=size).requires_grad_(name == "maps")
    twin = given.detach().clone().requires_grad_(name == "maps")
    weight = images(width, size=(size[0] // 2, size[1] // 2), seed=1)
    for _ in range(2):  # running statistics twice
        value, expected = block(given, *ours, slope=slope), layers(twin, *theirs, slope)
        torch.testing.assert_close(value, expected)
        (value * weight).sum().backward()
        (expected * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        for parameter, same in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, same.grad, atol=1e-9, rtol=1e-9)
        for buffer, same in zip(mine.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(buffer, same)
    if name == "maps":
        torch.testing.assert_close(given.grad, twin.grad)


@pytest.mark.parametrize("name", PICTURES)
def test_running_statistics_in_evaluation(name):
    channels, width = PICTURES[name]
    conv, norm = made(channels, width)
    norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    before = copy.deepcopy(norm.state_dict())
    norm.eval()
    with torch.no_grad():
        value, expected = (f(images(channels), conv, norm, slope=0.1) for f in (block, layers_of))
    torch.testing.assert_close(value, expected)
    learning = block(images(channels), conv, norm, slope=0.1)
    torch.testing.assert_close(learning, expected)
    learning.sum().backward()
    assert conv.weight.grad is not None
    assert all(torch.equal(before[key], kept) for key, kept in norm.state_dict().items())


def layers_of(images, conv, norm, *, slope):
    return layers(images, conv, norm, slope)


@pytest.mark.parametrize(
    "options", [{"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}]
)
@pytest.mark.parametrize("name", PICTURES)
def test_kinds_of_running_statistics(name, options):
    channels, width = PICTURES[name]
    ours = made(channels, width, **options)
    theirs = copy.deepcopy(ours)
    for seed in range(3):
        block(images(channels, seed=seed), *ours)
        layers(images(channels, seed=seed), *theirs, 0.0)
    for buffer, same in zip(ours[1].buffers(), theirs[1].buffers(), strict=True):
        torch.testing.assert_close(buffer, same)
    if "track_running_stats" in options:  # it normalises by the batch in evaluation too
        for modules in (ours, theirs):
            modules[1].eval()
        expected = layers(images(channels), *theirs, 0.0)
        torch.testing.assert_close(block(images(channels), *ours), expected)


@pytest.mark.parametrize("name", ["pictures", "maps"])
def test_gradients(name):
    channels, width = PICTURES[name]
    conv, norm = made(channels, width)
    given = images(channels, n=2, size=(4, 5)).requires_grad_(name == "maps")

    def value(weight, gain, offset):
        new = {"weight": weight, "bias": conv.bias}
        around = torch.func.functional_call
        return around(
            _Block(conv, norm),
            {f"conv.{key}": each for key, each in new.items()}
            | {"norm.weight": gain, "norm.bias": offset},
            (given,),
        )

    parameters = [
        each.detach().clone().requires_grad_() for each in (conv.weight, norm.weight, norm.bias)
    ]
    assert torch.autograd.gradcheck(value, parameters, fast_mode=True)


class _Block(nn.Module):
    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, given):
        return block(given, self.conv, self.norm, slope=0.1)


def test_through_a_function_transform():
    """Under `torch.func.grad` the layers run, which it understands."""
    conv, norm = made(1, 9, track_running_stats=False)

    def loss(weight):
        parameters = {"conv.weight": weight}
        return torch.func.functional_call(_Block(conv, norm), parameters, (images(1),)).sum()

    found = torch.func.grad(loss)(conv.weight.detach())
    layers(images(1), conv, norm, 0.1).sum().backward()
    torch.testing.assert_close(found, conv.weight.grad)


@pytest.mark.parametrize("name", ["pictures", "maps"])
def test_threads_change_nothing_but_rounding(name, monkeypatch):
    channels, width = PICTURES[name]
    results = []
    for threads, worth in ((1, 64), (3, 1)):
        monkeypatch.setattr(blocks, "WORTH_THREADS", worth)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        conv, norm = made(channels, width)
        value = block(images(channels, n=8).requires_grad_(name == "maps"), conv, norm)
        value.square().sum().backward()
        results.append([value, conv.weight.grad, norm.weight.grad, norm.running_var])
    torch.testing.assert_close(*results)


def test_float32_is_as_exact_as_the_layers():
    """Against float64, on many pictures: sums over 100,000 places must not lose bits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # with some weights a maximum is so close that rounding chooses it
        encoder = conv4(width=16)
    exact = copy.deepcopy(encoder).double()
    theirs = copy.deepcopy(encoder)
    pictures = (
        torch.rand(150, 1, 28, 28, generator=torch.Generator().manual_seed(0)) > 0.8
    ).float()
    weight = torch.randn(150, 16, generator=torch.Generator().manual_seed(1))
    encoder(pictures).mul(weight).sum().backward()
    exact(pictures.double()).mul(weight).sum().backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_is_plain", lambda *_: False)
        theirs(pictures).mul(weight).sum().backward()
    for ours, other, true in zip(
        encoder.parameters(), theirs.parameters(), exact.parameters(), strict=True
    ):
        scale = true.grad.abs().max() + 1
        error, usual = ((p.grad - true.grad).abs().max() / scale for p in (ours, other))
        assert error < max(2 * usual, 2e-6)


def test_other_layers_are_run_as_they_are():
    for conv in (
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.Conv2d(2, 4, 3),
    ):
        norm, given = nn.BatchNorm2d(4), images(2, size=(12, 12)).float()
        twin = copy.deepcopy(norm)
        assert torch.equal(block(given, conv, norm), layers(given, conv, twin, 0.0))


def test_lower_precision_is_left_to_the_layers():
    encoder, pictures = conv4(width=16), torch.rand(4, 1, 28, 28)
    exact = encoder(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(pictures)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_bias_in_front_of_a_normalisation_learns_nothing():
    encoder = conv4(width=16)
    encoder(torch.rand(4, 1, 28, 28)).sum().backward()
    for stage in encoder.blocks:
        assert (stage[0].bias.grad == 0).all()
