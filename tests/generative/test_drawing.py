"""What an autoencoder draws, and the sections of the report made of it."""

import pytest
import torch

from tupelo.errors import InputError
from tupelo.generative import Squared, TripletVAE, reconstructions, samples, sections, traversals
from tupelo.generative.drawing import latent_map, most_used
from tupelo.models import embedder
from tupelo.sections import Shown, from_json, to_json


@pytest.fixture
def shown(pictures) -> Shown:
    batch = pictures.batch(range(20))
    return Shown(batch.images, batch.labels, pictures.class_names, pictures.class_names)


def test_everything_drawn_is_a_picture_and_repeats(model):
    images = torch.rand(4, 1, 8, 8)
    before, modes = torch.get_rng_state(), model.training
    for drawn, again in (
        (reconstructions(model, images), reconstructions(model, images)),
        (samples(model, 5), samples(model, 5)),
        (traversals(model, images[0], [0, 2]), traversals(model, images[0], [0, 2])),
    ):
        assert torch.equal(drawn, again)
        assert drawn.shape[-3:] == (1, 8, 8)
        assert drawn.min() >= 0
        assert drawn.max() <= 1
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training == modes
    assert not torch.equal(samples(model, 5), samples(model, 5, seed=1))


def test_what_is_drawn_is_of_samples_in_the_precision_of_the_model(model):
    images = torch.rand(4, 1, 8, 8)
    model.double()
    drawn = reconstructions(model, images.double())
    output = model.eval()(images.double(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, output.reconstruction.detach().sigmoid())
    mean = model.decode(model.encode(images.double()).mean.raw).sigmoid()
    assert not torch.allclose(drawn, mean)
    assert samples(model, 2).dtype == torch.float64


def test_a_traversal_moves_one_dimension_and_passes_the_mean(model):
    image = torch.rand(1, 8, 8)
    mean = model.encode(image[None]).mean.raw[0].detach()
    row = traversals(model, image, [1], steps=3, span=2.0)[0]
    for place, value in enumerate((-2.0, 0.0, 2.0)):
        code = mean.clone()
        code[1] = value
        wanted = model.pixels(model.decode(code[None]))[0].detach()
        torch.testing.assert_close(row[place], wanted)


def test_the_dimensions_used_most_come_first(model):
    with torch.no_grad():
        model.mean.weight.zero_()
        model.mean.weight[2] = 1.0
        model.mean.weight[0] = 0.5
    assert most_used(model, torch.rand(9, 1, 8, 8)).tolist() == [2, 0, 1]


@pytest.mark.parametrize(("dimensions", "steps"), [([3], 5), ([-1], 5), ([0], 1)])
def test_impossible_walks_are_refused(model, dimensions, steps):
    with pytest.raises(InputError, match=r"dimensions must be in \[0, 3\) and steps at least 2"):
        traversals(model, torch.rand(1, 8, 8), dimensions, steps=steps)


def test_no_samples_are_refused(model):
    with pytest.raises(InputError, match="count must be at least 1 sample, got 0"):
        samples(model, 0)


def test_sections_show_reconstructions_beside_originals(model, shown):
    found = from_json(to_json(sections(model, shown)))
    assert [section.title for section in found] == [
        "Reconstructions",
        "Samples from the prior",
        "Latent traversals",
    ]
    beside, drawn, walked = (section.parts[0] for section in found)
    assert beside.heads == ["original", "reconstructed"]
    assert [len(row) for row in beside.rows] == [10, 10]
    assert sum(len(row) for row in drawn.rows) == 30
    assert [len(row) for row in walked.rows] == [9, 9, 9]
    assert TripletVAE().sections(model, shown)
    assert TripletVAE().sections(embedder(dim=4, channels=1), shown) == ()
    with pytest.raises(InputError, match="Squared takes pixels, and the decoder gives logits"):
        TripletVAE(reconstruction=Squared()).sections(model, shown)


def test_a_latent_map_has_a_point_and_class_each(model):
    section = latent_map(torch.randn(7, 3), list("aabbccc"))
    assert len(section.parts[0].x) == 7
    assert list(section.parts[0].kinds) == list("aabbccc")
