import base64
import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tupelo.ensembles import attention_based
from tupelo.errors import InputError
from tupelo.inference import rows_of
from tupelo.losses import SquaredContrastive
from tupelo.models import (
    Attentive,
    ConvNet,
    attention,
    attentive,
    embedder,
    load,
    many_heads,
    save,
)
from tupelo.models.attention import Range
from tupelo.objectives import OnPairs
from tupelo.sections import Shown, ask

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
SIDE = 16


class Ones(nn.Module):
    """A mask that lets all through."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, maps):
        return torch.ones(len(maps), self.channels, *maps.shape[2:])


def build(make=attentive, learners=3, seed=0, freeze_batchnorm=False, **options):
    torch.manual_seed(seed)
    network = embedder(
        ConvNet(channels=1, widths=(4, 6, 8, 8)),
        dim=12,
        channels=1,
        size=SIDE,
        freeze_batchnorm=freeze_batchnorm,
    )
    return make(network, learners, **options)


@pytest.fixture
def images():
    return torch.rand(6, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "activation"),
    [("convnet", "sigmoid"), ("convnet", "relu"), ("convnet", "range"), ("resnet18", "sigmoid")],
)
def test_the_equation(name, activation):
    torch.manual_seed(0)
    model = attentive(embedder(name, dim=12, size=32), 3, activation=activation).eval()
    images = torch.rand(2, 3, 32, 32)
    shared = model.spatial.layers((images - model.spatial.mean) / model.spatial.std)
    for output, mask in zip(model(images), model.masks, strict=True):
        features = model.deep.layers(shared * mask(model.trunk(shared))).flatten(1)
        torch.testing.assert_close(output.features, features)
        torch.testing.assert_close(output.raw, model.head(features), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.z.norm(dim=1), torch.ones(2))


def test_masks_of_each_activation(images):
    sigmoid, relu, scaled = (
        build(activation=name).masks_of(images) for name in ("sigmoid", "relu", "range")
    )
    assert ((sigmoid > 0) & (sigmoid < 1)).all()
    assert (relu >= 0).all()
    assert (relu > 1).any()
    assert torch.equal(scaled.amin((3, 4)), torch.zeros(3, 6, 6))
    assert torch.equal(scaled.amax((3, 4)), torch.ones(3, 6, 6))
    assert torch.equal(Range()(torch.full((1, 1, 2, 2), 7.0)), torch.zeros(1, 1, 2, 2))


def test_one_batch_of_all_learners_equals_a_loop_over_them(images):
    model = build().eval()
    calls = []
    model.deep.register_forward_hook(lambda _module, given, _out: calls.append(len(given[0])))
    together = model(images)
    model.deep.layers[1].train()  # batch normalisation at work: one after the other
    assert isinstance(model.deep.layers[1], nn.BatchNorm2d)
    model.deep.layers[1].momentum = 0.0
    model(images)
    assert calls == [18, 6, 6, 6]
    model.eval()
    shared = model.spatial(images)
    for one, mask in zip(together, model.masks, strict=True):
        alone = model.embed(model.deep(shared * mask(model.trunk(shared))))
        for got, expected in zip(one, alone, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)], ids=str
)
def test_gradients_of_the_batch_equal_those_of_the_loop(images, monkeypatch, dtype, tolerance):
    """With frozen normalisation both ways are the same function, gradients included."""
    model = build(freeze_batchnorm=True).to(dtype).train()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    objective = attention_based(OnPairs(SquaredContrastive()), 3, divergence=2.0)
    batches, found = [], []
    model.deep.register_forward_hook(lambda _module, given, _out: batches.append(len(given[0])))
    for looped in (False, True):
        if looped:
            monkeypatch.setattr(attention, "mixes_rows", lambda *_: True)
        model.zero_grad()
        objective(model(images.to(dtype)), LABELS).total.backward()
        found.append([p.grad.clone() for p in model.parameters()])
    assert batches == [18, 6, 6, 6]
    for together, alone in zip(*found, strict=True):
        assert (together - alone).abs().max() <= tolerance * alone.abs().max().clamp(min=1e-3)


def test_every_part_learns_from_each_loss(images):
    """Nothing is detached: the divergence reaches S, A and G too."""
    for weights in ({"divergence": 0.0}, {"divergence": 1.0}):
        model = build()
        objective = attention_based(OnPairs(SquaredContrastive()), 3, **weights)
        value = objective(model(images), LABELS)
        value.total.backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim > 1
        )
    model = build()
    objective = attention_based(OnPairs(SquaredContrastive()), 3)
    objective.objectives["divergence"](model(images), LABELS).total.backward()
    for part in (model.spatial, model.trunk, model.masks, model.deep, model.head):
        assert max(p.grad.abs().max() for p in part.parameters() if p.ndim > 1) > 0


def test_masks_of_ones_make_all_learners_one(images):
    """A5: the divergence is the margin for each pair of learners, exactly."""
    model = build(learners=4).eval()
    model.masks = nn.ModuleList(Ones(6) for _ in range(4))
    first, *others = model(images)
    assert all(torch.equal(first.z, other.z) for other in others)
    value = attention_based(OnPairs(SquaredContrastive()), 4)(model(images), LABELS)
    assert value.parts["divergence/loss"] == 6.0


def test_permuted_learners_permute_blocks_and_change_nothing_else(images):
    """A4."""
    model = build().eval()
    twin = copy.deepcopy(model)
    order = [2, 0, 1]
    twin.masks = nn.ModuleList(model.masks[i] for i in order)
    z, permuted = rows_of(model(images)), rows_of(twin(images))
    blocks = torch.cat([z.split(4, dim=1)[i] for i in order], dim=1)
    torch.testing.assert_close(permuted, blocks)
    torch.testing.assert_close(permuted @ permuted.T, z @ z.T)
    objective = attention_based(OnPairs(SquaredContrastive()), 3)
    value, other = (objective(each(images), LABELS) for each in (model, twin))
    torch.testing.assert_close(value.total, other.total)


def test_one_learner_without_divergence_is_the_plain_loss(images):
    """A3."""
    model = build(learners=1)
    plain = OnPairs(SquaredContrastive())
    (one,) = model(images)
    expected = plain(one, LABELS).total
    got = attention_based(plain, 1, divergence=0.0)((one,), LABELS).total
    assert torch.equal(got, expected)


def test_without_divergence_the_loss_is_the_sum_of_the_plain_one(images):
    """A3."""
    plain, output = OnPairs(SquaredContrastive()), build()(images)
    expected = sum(plain(one, LABELS).total for one in output)
    got = attention_based(plain, 3, divergence=0.0)(output, LABELS).total
    torch.testing.assert_close(got, expected)


def test_weights_of_the_backbone_start_both_trunk_and_deep_part():
    network = embedder("convnet", dim=12, channels=1)
    weight = network.backbone.blocks[2][0].weight.detach().clone()
    model = attentive(network, 3)
    assert torch.equal(model.trunk[0].weight, weight)
    assert torch.equal(model.deep.layers[0].weight, weight)
    with torch.no_grad():
        model.trunk[0].weight.zero_()
    assert torch.equal(model.deep.layers[0].weight, weight)


def test_masks_start_glorot_uniform_and_cost_little():
    model = attentive(embedder("convnet", dim=12, channels=1, size=SIDE), 6)
    bound = (6 / (128 + 64)) ** 0.5
    for mask in model.masks:
        assert mask[0].weight.abs().max() <= bound * 1.0001
        assert float(mask[0].weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not mask[0].bias.any()
    assert sum(p.numel() for p in model.masks[0].parameters()) == 128 * 64 + 64


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (attentive, {"learners": 1}),
        (attentive, {"activation": "relu"}),
        (attentive, {"cut": "blocks.0"}),
        (many_heads, {}),
        (many_heads, {"cut": "blocks.2"}),
    ],
)
def test_a_model_comes_back_bit_equal(tmp_path, images, make, options):
    options = {"learners": 3} | options
    model = make(embedder("convnet", dim=12, channels=1, size=SIDE), **options)
    model(images)  # moves the statistics of batch normalisation
    twin = load(save(model, tmp_path))
    assert twin.architecture == model.architecture
    assert twin.learners.cut == options.get("cut", "blocks.1")
    for one, other in zip(model.eval()(images), twin(images), strict=True):
        assert torch.equal(one.z, other.z)


@pytest.mark.parametrize("make", [attentive, many_heads])
def test_a_backbone_of_the_user_comes_back_around_the_same_kind_of_module(tmp_path, make):
    def net():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.Conv2d(4, 5, 3, stride=2, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    model = make(embedder(net(), features=5, dim=6, channels=1), 2, cut="0").eval()
    images = torch.rand(2, 1, 9, 9)
    twin = load(save(model, tmp_path), backbone=net())
    assert torch.equal(rows_of(twin(images)), rows_of(model(images)))


@pytest.mark.parametrize("make", [attentive, many_heads])
def test_frozen_batch_normalisation_stays_frozen(make):
    model = build(make, freeze_batchnorm=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.training


def test_new_normalisation_of_masks_is_not_frozen():
    model = build(freeze_batchnorm=True, activation="relu").train()
    assert all(mask[1].training for mask in model.masks)


@pytest.mark.parametrize("make", [attentive, many_heads])
def test_new_parts_are_where_the_embedder_is(make, monkeypatch):
    network = embedder(ConvNet(channels=1, widths=(4, 6, 8)), dim=4, channels=1, size=SIDE)
    network.to("meta")  # a device that every machine has, whose values cannot be compared
    monkeypatch.setattr(torch, "allclose", lambda *_args, **_options: True)
    model = make(network, 2, cut="blocks.0")
    kept = (*model.parameters(), *model.buffers())
    assert {tensor.device.type for tensor in kept} == {"meta"}


@pytest.mark.parametrize("make", [attentive, many_heads])
def test_autocast_and_channels_last(images, make):
    model = build(make)
    wide = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images.contiguous(memory_format=torch.channels_last))
    for one, other in zip(output, wide, strict=True):
        assert one.z.dtype == one.raw.dtype == one.features.dtype == torch.float32
        torch.testing.assert_close(one.z, other.z, rtol=0, atol=0.1)


def test_the_section_shows_a_row_a_picture_and_a_column_a_learner():
    model = build().eval()
    images = torch.rand(12, 1, SIDE, SIDE)
    shown = Shown(images, torch.arange(12) // 4, ["a", "b", "c"], [])
    with torch.no_grad():
        (section,) = ask([model], model, shown)
    assert section.title == "Attention masks"
    (pictures,) = section.parts
    assert len(pictures.rows) == 10
    assert {len(row) for row in pictures.rows} == {4}
    assert pictures.heads[0] == "a"
    assert pictures.heads[-1] == "c"
    decoded = Image.open(io.BytesIO(base64.b64decode(pictures.rows[0][1])))
    assert decoded.size == (SIDE, SIDE)
    # red where the mask is highest, blue where it is lowest
    pixels = np.asarray(decoded).astype(float)
    heat = model.masks_of(images[:1])[0, 0].mean(0)
    highest = [int((int(i) + 0.5) * 4) for i in divmod(int(heat.argmax()), heat.shape[1])]
    lowest = [int((int(i) + 0.5) * 4) for i in divmod(int(heat.argmin()), heat.shape[1])]
    reddest, bluest = pixels[tuple(highest)], pixels[tuple(lowest)]
    assert reddest[0] > reddest[2]
    assert bluest[2] > bluest[0]


def parts(model):
    return [model.spatial, model.trunk, list(model.masks), model.deep, model.head]


def test_a_mask_of_another_shape_is_refused(images):
    model = build()
    spatial, trunk, masks, deep, head = parts(model)
    model = Attentive(spatial, trunk, [Ones(3), *masks[1:]], deep, head, model.architecture)
    with pytest.raises(InputError, match=r"a mask must have the shape of the map it multiplies"):
        model(images)


def test_other_numbers_of_masks_are_refused():
    model = build()
    spatial, trunk, masks, deep, head = parts(model)
    with pytest.raises(InputError, match="one mask a learner and learners of one width, got 2"):
        Attentive(spatial, trunk, masks[:2], deep, head, model.architecture)


@pytest.mark.parametrize("make", [attentive, many_heads])
def test_learners_that_cannot_share_the_dimensions(make):
    with pytest.raises(InputError, match="learners must be >= 1, got 0"):
        build(make, learners=0)
    with pytest.raises(InputError, match=r"got dim=12 for 5 learners; take dim=15"):
        build(make, learners=5)


def test_an_unknown_activation():
    with pytest.raises(InputError, match="activation must be one of sigmoid, relu, range"):
        build(activation="softmax")
