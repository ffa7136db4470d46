import logging

import numpy as np
import pytest
import torch
from torch import nn

from tupelo import evaluation
from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.inference import Evaluation, embed, evaluate, evaluating, fast_precision
from tupelo.models import embedder
from tupelo.types import Embedded


def pictures(n_classes=4, per_class=5, size=16, seed=0, names=None):
    """Pictures of one brightness a class, with a little noise."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(n_classes), per_class)
    level = 40 + 170 * numbers / max(1, n_classes - 1)
    pixels = level[:, None, None] + rng.normal(0, 4, (len(numbers), size, size))
    labels = numbers if names is None else [names[number] for number in numbers]
    return ImageSet.from_arrays(pixels.clip(0, 255).astype(np.uint8), labels)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return embedder("convnet", dim=8, channels=1)


class Brightness(nn.Module):
    """Rows that turn with the brightness of the picture."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        angle = images.mean(dim=(1, 2, 3)) * self.scale
        return Embedded.of(torch.stack([angle.cos(), angle.sin()], dim=1))


@pytest.mark.parametrize("batch_size", [None, 1, 7, 20, 100])
def test_every_item_in_order_whatever_the_batches(model, batch_size):
    data = pictures()
    out = embed(model, data, batch_size=batch_size, precision="32-true")
    with torch.no_grad():
        expected = model.eval()(data.batch(np.arange(20)).images).z
    torch.testing.assert_close(out.z, expected, rtol=0, atol=1e-5)
    assert out.z.dtype == torch.float32
    assert out.items.tolist() == data.items.tolist()
    assert list(out.labels) == list(data.labels)
    assert out.paths == data.paths


def test_bf16_stays_near_float32_and_is_really_used(model):
    data = pictures()
    seen = []
    model.backbone.register_forward_hook(lambda _module, _input, output: seen.append(output.dtype))
    exact = embed(model, data, precision="32-true")
    half = embed(model, data, precision="bf16-mixed")
    assert seen == [torch.float32, torch.bfloat16]
    torch.testing.assert_close(half.z, exact.z, rtol=0, atol=0.05)
    assert half.z.dtype == torch.float32


def test_auto_asks_the_rule(model, monkeypatch):
    seen = []
    model.backbone.register_forward_hook(lambda _module, _input, output: seen.append(output.dtype))
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        embed(model, pictures())
    assert seen == [torch.bfloat16, torch.float32]


def test_depthwise_networks_stay_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert fast_precision(embedder("mobilenetv3_small_050")) == "32-true"
    assert fast_precision(embedder("convnet")) == "bf16-mixed"
    assert fast_precision(embedder("convnet"), "meta") == "32-true"


def test_modes_are_restored_module_by_module(model):
    model.train()
    model.backbone.blocks[0].eval()
    before = [module.training for module in model.modules()]
    statistics = model.backbone.blocks[1][1].running_mean.clone()
    embed(model, pictures())
    assert [module.training for module in model.modules()] == before
    assert torch.equal(model.backbone.blocks[1][1].running_mean, statistics)


def test_modes_are_restored_after_an_error(model):
    model.train()

    def fail():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("inside")

    before = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [module.training for module in model.modules()] == before


def test_rows_may_take_part_in_autograd_afterwards(model):
    z = embed(model, pictures()).z
    weight = torch.ones(8, requires_grad=True)
    (z * weight).sum().backward()
    torch.testing.assert_close(weight.grad, z.sum(dim=0))


def test_progress_counts_items(model):
    calls = []
    embed(model, pictures(), batch_size=8, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(8, 20), (16, 20), (20, 20)]


def test_learners_of_an_ensemble_are_joined(model):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = model, embedder("convnet", dim=4, channels=1)

        def forward(self, images):
            return self.one(images), self.other(images)

    data, two = pictures(), Two()
    joined = embed(two, data, precision="32-true").z
    parts = [embed(part, data, precision="32-true").z for part in (two.one, two.other)]
    torch.testing.assert_close(joined, torch.cat(parts, dim=1) / 2**0.5)


def test_an_error_while_reading_reaches_the_caller(model):
    class Broken(ImageSet):
        def batch(self, indices, **_):
            raise OSError("disk gone")

    data = pictures()
    data.__class__ = Broken
    model.train()
    with pytest.raises(OSError, match="disk gone"):
        embed(model, data, batch_size=4)
    assert model.training


def test_the_report_is_that_of_the_rows():
    data = pictures(per_class=6)
    result = evaluate(Brightness(), data, ks=(1, 3))
    z = embed(Brightness(), data).z
    report = evaluation.retrieval(z, data.labels, ks=(1, 3))
    assert result.retrieval.as_dict() == report.as_dict()
    assert result.clustering == evaluation.clustering(z.numpy(), data.labels)
    assert result.retrieval.recall[1] == 1.0
    assert result.as_dict()["n_queries"] == 24
    assert result.as_dict()["nmi"] == pytest.approx(1.0, abs=0.3)
    text = str(result)
    assert all(word in text for word in ("recall@k", "NMI", "AMI", "4 clusters, 24 items"))


def test_clustering_can_be_left_out():
    result = evaluate(Brightness(), pictures(), clustering=False)
    assert result.clustering is None
    assert "nmi" not in result.as_dict()
    assert "NMI" not in str(result)
    assert isinstance(result, Evaluation)


def test_query_and_gallery_agree_by_class_name():
    queries = pictures(2, names=["dark", "light"])
    # the same brightness levels, numbered the other way round
    gallery = pictures(2, seed=1, names=["dark", "light"])
    gallery = gallery.subset(np.arange(9, -1, -1))
    extra = pictures(2, seed=2, names=["bright things", "light"])
    result = evaluate(Brightness(), queries, gallery=gallery, clustering=False)
    assert result.retrieval.recall[1] == 1.0
    # "bright things" sorts first as "dark" does, and holds the dark pictures: no match by number
    result = evaluate(Brightness(), queries, gallery=extra, clustering=False)
    assert result.retrieval.n_unmatched == 5


def test_shared_items_are_no_candidates_for_themselves():
    data = pictures()
    alone = evaluate(Brightness(), data, gallery=data, shared_items=True, clustering=False)
    assert alone.retrieval.as_dict()["map@r"] == pytest.approx(
        evaluate(Brightness(), data, clustering=False).retrieval.map_at_r
    )
    both = evaluate(Brightness(), data, gallery=data, clustering=False)
    assert (both.retrieval.first_rank == 1).all()


def test_tags_are_matched_by_name():
    pixels = np.zeros((3, 8, 8), dtype=np.uint8)
    pixels[1:] = 200
    queries = ImageSet.from_arrays(pixels, [{"red", "big"}, {"small"}, {"red"}])
    gallery = ImageSet.from_arrays(pixels, [{"big"}, {"red", "small"}, {"zebra"}])
    result = evaluate(Brightness(), queries, gallery=gallery, clustering=False, ks=(1,))
    assert result.retrieval.recall[1] == 1.0


def test_a_collapsed_model_is_reported(caplog):
    class Constant(Brightness):
        def forward(self, images):
            return Embedded.of(torch.ones(len(images), 3) * self.scale)

    with caplog.at_level(logging.WARNING):
        result = evaluate(Constant(), pictures(), clustering=False)
    assert result.retrieval.collapsed
    assert "collapsed" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
    ids=str,
)
def test_bad_options_are_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        embed(model, pictures(), **options)


def test_an_empty_set_is_refused(model):
    with pytest.raises(InputError, match="at least one item, got 0"):
        embed(model, pictures().subset(np.arange(0)))
