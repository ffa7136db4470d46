import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import FewShot, Prototypical, conv4
from tupelo.models import embedder


def test_ink_is_one():
    seen = []
    encoder = conv4(width=4)
    encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    FewShot(encoder, Prototypical(), mean=(1.0,), std=(-1.0,))(torch.full((1, 1, 28, 28), 0.25))
    assert (seen[0] == 0.75).all()


def test_the_embedding_is_what_the_encoder_gives():
    encoder = conv4(width=4).eval()
    model, images = FewShot(encoder, Prototypical()).eval(), torch.rand(3, 1, 28, 28)
    assert torch.equal(model(images).raw, encoder(images))
    whole = embedder("convnet", dim=4, channels=1).eval()
    assert torch.equal(FewShot(whole, Prototypical()).eval()(images).raw, whole(images).raw)


def test_refusals():
    for mean, std in (((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((), ())):
        with pytest.raises(InputError, match="one value a channel, or one for all, and std none"):
            FewShot(conv4(), Prototypical(), mean=mean, std=std)
    model = FewShot(conv4(), Prototypical(), mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(InputError, match="takes pictures of 3 channels, got a batch"):
        model(torch.rand(2, 1, 28, 28))
