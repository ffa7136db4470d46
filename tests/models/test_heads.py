import pytest
import torch

from tupelo.errors import InputError
from tupelo.models import ManyHeads, embedder, many_heads


def test_learners_share_the_first_part_alone():
    torch.manual_seed(0)
    network = embedder("convnet", dim=12, channels=1)
    weight = network.backbone.blocks[2][0].weight.detach().clone()
    model = many_heads(network, 3).eval()
    images = torch.rand(2, 1, 28, 28)
    shared = model.spatial(images)
    for one, deep, head in zip(model(images), model.deep, model.heads, strict=True):
        assert torch.equal(deep.layers[0].weight, weight)
        torch.testing.assert_close(one.raw, head(deep(shared)))
    weights = [deep.layers[0].weight for deep in model.deep]
    assert len({w.data_ptr() for w in weights}) == 3
    assert not torch.equal(model.heads[0][-1].weight, model.heads[1][-1].weight)


def test_one_learners_loss_leaves_the_others_alone():
    model = many_heads(embedder("convnet", dim=12, channels=1), 3)
    model(torch.rand(4, 1, 28, 28))[1].raw.square().sum().backward()
    reached = [deep.layers[0].weight.grad is not None for deep in model.deep]
    assert reached == [False, True, False]


def test_as_many_parts_as_learners():
    model = many_heads(embedder("convnet", dim=12, channels=1), 3)
    with pytest.raises(InputError, match="3 learners need as many deep parts and heads, got 2"):
        ManyHeads(model.spatial, list(model.deep)[:2], list(model.heads), model.architecture)
