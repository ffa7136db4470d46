import pytest
import torch

from tupelo.errors import InputError
from tupelo.models import ConvNet, ManyHeads, embedder, many_heads


def small():
    torch.manual_seed(0)
    return embedder(ConvNet(channels=1, widths=(4, 6, 8, 8)), dim=12, channels=1, size=16)


def test_learners_share_the_first_part_alone():
    network = small()
    weight = network.backbone.blocks[2][0].weight.detach().clone()
    model = many_heads(network, 3).eval()
    images = torch.rand(2, 1, 16, 16)
    shared = model.spatial(images)
    for one, deep, head in zip(model(images), model.deep, model.heads, strict=True):
        assert torch.equal(deep.layers[0].weight, weight)
        torch.testing.assert_close(one.raw, head(deep(shared)))
    weights = [deep.layers[0].weight for deep in model.deep]
    assert len({w.data_ptr() for w in weights}) == 3
    assert not torch.equal(model.heads[0][-1].weight, model.heads[1][-1].weight)


def test_one_learners_loss_leaves_the_others_alone():
    model = many_heads(small(), 3)
    model(torch.rand(4, 1, 16, 16))[1].raw.square().sum().backward()
    reached = [deep.layers[0].weight.grad is not None for deep in model.deep]
    assert reached == [False, True, False]


def test_heads_need_nothing_for_attention_behind_the_cut():
    """What `attentive` refuses: a trunk that cannot keep the size of the map."""
    network = embedder("convnext_atto", dim=4, channels=1, size=32)
    output = many_heads(network, 2, cut="stages.1").eval()(torch.rand(2, 1, 32, 32))
    assert [tuple(one.z.shape) for one in output] == [(2, 2), (2, 2)]


def test_as_many_parts_as_learners():
    model = many_heads(small(), 3)
    with pytest.raises(InputError, match="3 learners need as many deep parts and heads, got 2"):
        ManyHeads(model.spatial, list(model.deep)[:2], list(model.heads), model.architecture)
