import logging
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tupelo import inference
from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.models import Divided, divided, embedder, load, save
from tupelo.models.divided import boosted_shares, group_widths


def build(dim=12, *, widths=None, learners=3, scale="sqrt", **options):
    torch.manual_seed(0)
    made = embedder("convnet", dim=dim, channels=1, **options)
    return divided(made, widths, learners=learners, scale=scale)


def test_learners_are_slices_of_the_one_embedding():
    model = build(layer_norm=True).eval()
    x = torch.rand(5, 1, 16, 16)
    whole, parts = model.embedder(x), model(x)
    assert torch.equal(torch.cat([part.raw for part in parts], 1), whole.raw)
    assert [part.raw.shape[1] for part in parts] == list(model.learners.widths) == [2, 4, 6]
    for part, weight in zip(parts, model.weights, strict=True):
        torch.testing.assert_close(part.z, F.normalize(part.raw))
        torch.testing.assert_close(
            part.raw - part.features @ weight.T, part.raw.new_zeros(part.raw.shape)
        )


def test_shares_of_the_boosted_similarity():
    assert boosted_shares(2) == pytest.approx((1 / 3, 2 / 3))
    assert boosted_shares(3) == pytest.approx((1 / 6, 1 / 3, 1 / 2))
    assert boosted_shares(4) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    for m in range(1, 6):  # by the recursion
        shares = [0.0] * m
        for i in range(1, m + 1):
            eta = 2 / (i + 1)
            shares = [(1 - eta) * share for share in shares]
            shares[i - 1] += eta
        assert boosted_shares(m) == pytest.approx(shares)


def test_widths():
    assert group_widths(512, 3) == (96, 160, 256)
    assert group_widths(48, 3) == (8, 16, 24)
    assert group_widths(3, 2) == (1, 2)
    for dim, m in ((512, 2), (512, 4), (100, 5), (1024, 7)):
        widths = group_widths(dim, m)
        assert sum(widths) == dim
        assert list(widths) == sorted(widths)
        shares = boosted_shares(m)
        assert all(abs(w - dim * a) < 1 for w, a in zip(widths, shares, strict=True))


@pytest.mark.parametrize("scale", ["sqrt", "official"])
def test_scores_of_retrieval(scale):
    """Cosines .8, .6, .4 with widths 96, 160, 256: 0.187 and 0.533 before normalisation."""
    model = build(512, scale=scale)
    widths = model.learners.widths
    cosines = torch.tensor([0.8, 0.6, 0.4])
    squares = torch.tensor(model.scales).square()
    alphas = torch.tensor(boosted_shares(3))
    expected = (
        float((alphas * cosines).sum())
        if scale == "sqrt"
        else sum((w / 512) ** 2 * float(c) for w, c in zip(widths, cosines, strict=True))
    )
    assert float((squares * cosines).sum()) == pytest.approx(expected)
    if scale == "official":
        assert expected == pytest.approx(0.187, abs=5e-4)
    x = torch.rand(2, 1, 16, 16)
    model.eval()
    joined, parts = inference.rows_of(model(x), model.scales), model(x)
    own = torch.stack([part.z[0] @ part.z[1] for part in parts]).detach()
    score = float((squares * own).sum() / squares.sum())
    assert float((joined[0] @ joined[1]).detach()) == pytest.approx(score, abs=1e-5)


def test_it_is_used_like_any_model(tmp_path):
    model = build(scale="official", batch_norm=True, dropout=0.2)
    model(torch.rand(4, 1, 16, 16))
    model.eval()
    twin = load(save(model, tmp_path))
    assert isinstance(twin, Divided)
    assert twin.architecture == model.architecture
    images = np.random.default_rng(0).integers(256, size=(6, 16, 16), dtype=np.uint8)
    data = ImageSet.from_arrays(images, np.arange(6) // 2)
    one, other = (inference.embed(each, data) for each in (model, twin))
    assert torch.equal(one.z, other.z)
    assert one.z.shape == (6, 12)
    assert inference.evaluate(model, data, clustering=False).retrieval.n_queries == 6


def test_rows_without_length_stay_finite():
    model = build(batch_norm=False)
    with torch.no_grad():
        model.linear.weight.zero_()
    parts = model(torch.rand(2, 1, 16, 16))
    sum(part.z.sum() for part in parts).backward()
    assert all(part.z.abs().sum() == 0 for part in parts)
    assert torch.isfinite(model.linear.weight.grad).all()


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((), "widths must be one or more numbers >= 1 that add up to the 12 dimensions"),
        ((0, 12), "widths must be one or more numbers >= 1"),
        ((-4, 16), "widths must be one or more numbers >= 1"),
        ((4, 4), "which add up to 8; build it with dim=sum"),
    ],
)
def test_widths_that_do_not_fit(widths, message):
    with pytest.raises(InputError, match=message):
        build(widths=widths)


def test_refusals():
    with pytest.raises(InputError, match="scale must be 'sqrt' or 'official', got 'alpha'"):
        build(scale="alpha")
    with pytest.raises(InputError, match="learners must be >= 1, got 0"):
        build(learners=0)
    with pytest.raises(InputError, match="dim must be larger for 9 learners, got 12"):
        build(learners=9)
    with pytest.raises(InputError, match="takes pictures of 1 channel"):
        build()(torch.rand(2, 3, 16, 16))


def test_decreasing_widths_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        build(widths=(4, 8))
        assert not caplog.records
        build(widths=(8, 4))
    assert "decrease: the later learners" in caplog.text


def test_a_backbone_of_the_user(tmp_path):
    def backbone():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5))

    model = divided(embedder(backbone(), features=5, dim=6, channels=1), (2, 4)).eval()
    twin = load(save(model, tmp_path), backbone=backbone())
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(twin(x)[1].z, model(x)[1].z)
    assert math.isclose(sum(scale**2 for scale in model.scales), 1)
