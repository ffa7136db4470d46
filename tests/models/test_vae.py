"""Variational autoencoders: shapes, noise, saving, and use as any embedder."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tupelo as tp
from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.inference import embed, rows_of
from tupelo.models import VAE, Posterior, conv_vae, load, mlp_vae, save
from tupelo.models.vae import HIGHEST, LOWEST
from tupelo.types import Embedded

MODELS = {
    "mlp": lambda: mlp_vae(dim=3, hidden=8, size=16),
    "conv logits": lambda: conv_vae(dim=3, channels=1, size=16),
    "conv pixels": lambda: conv_vae(dim=3, channels=1, size=16, output="pixels"),
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())


def pictures(count: int = 12) -> ImageSet:
    pixels = np.random.default_rng(0).integers(256, size=(count, 16, 16), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, np.arange(count) % 3)


def test_the_mnist_model_is_that_of_the_authors():
    shapes = {name: tuple(p.shape) for name, p in mlp_vae().named_parameters()}
    assert shapes == {
        "encoder.1.weight": (400, 784), "encoder.1.bias": (400,),
        "mean.weight": (20, 400), "mean.bias": (20,),
        "log_variance.weight": (20, 400), "log_variance.bias": (20,),
        "decoder.0.weight": (400, 20), "decoder.0.bias": (400,),
        "decoder.2.weight": (784, 400), "decoder.2.bias": (784,),
    }  # fmt: skip


def test_the_mnist_model_computes_what_its_equations_say():
    torch.manual_seed(0)
    model, images = mlp_vae(), torch.rand(5, 1, 28, 28)
    output = model(images, torch.Generator().manual_seed(7))
    noise = torch.randn(5, 20, generator=torch.Generator().manual_seed(7))
    hidden = (images.flatten(1) @ model.encoder[1].weight.T + model.encoder[1].bias).relu()
    mean = hidden @ model.mean.weight.T + model.mean.bias
    log_variance = hidden @ model.log_variance.weight.T + model.log_variance.bias
    code = mean + torch.exp(0.5 * log_variance) * noise
    back = (code @ model.decoder[0].weight.T + model.decoder[0].bias).relu()
    logits = back @ model.decoder[2].weight.T + model.decoder[2].bias
    torch.testing.assert_close(output.raw, mean)
    torch.testing.assert_close(output.log_variance, log_variance)
    torch.testing.assert_close(output.reconstruction, logits.view(5, 1, 28, 28))
    assert output.images is images


def test_the_convolutional_model_is_that_of_the_authors():
    torch.manual_seed(0)
    model = conv_vae()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions]
    assert shapes == [
        (3, 32, 4, 2), (32, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2),
        (256, 128, 3, 1), (128, 64, 3, 1), (64, 32, 3, 1), (32, 32, 3, 1), (32, 3, 3, 1),
    ]  # fmt: skip
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.eps for m in norms] == [1e-5] * 4 + [1e-3] * 4
    weights = torch.cat([m.weight.detach() for m in norms])
    assert abs(float(weights.std(correction=0)) - 0.015) < 0.002
    assert abs(float(weights.mean())) < 0.002
    assert all((m.bias == 0).all() for m in [*norms, *convolutions])
    fan = 128 * 16
    assert float(convolutions[3].weight.detach().std()) == pytest.approx(
        (2 / (1 + 0.01**2) / fan) ** 0.5, rel=0.02
    )
    assert (model.mean.in_features, model.dim) == (256 * 14 * 14, 64)


@pytest.mark.parametrize("training", [False, True])
def test_the_convolutional_model_computes_what_its_description_says(training):
    torch.manual_seed(0)
    model, images = conv_vae(size=32, dim=5), torch.rand(4, 3, 32, 32)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.uniform_(norm.bias, -1, 1)
        norm.running_var.mul_(0.5)
    weights = iter(model.state_dict().values())

    def convolved(x, stride, padding):
        return F.conv2d(x, next(weights), next(weights), stride=stride, padding=padding)

    def normed(x, eps):
        scale, shift, mean, variance, _ = (next(weights).clone() for _ in range(5))
        return F.leaky_relu(F.batch_norm(x, mean, variance, scale, shift, training, eps=eps), 0.2)

    x = images
    for _ in range(4):
        x = normed(convolved(x, 2, 1), 1e-5)
    x = x.flatten(1)
    mean = F.linear(x, next(weights), next(weights))
    log_variance = F.linear(x, next(weights), next(weights))
    noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(7))
    x = F.linear(mean + (0.5 * log_variance).exp() * noise, next(weights), next(weights)).relu()
    x = x.view(4, 256, 2, 2)
    for _ in range(4):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = normed(convolved(x, 1, 1), 1e-3)
    x = convolved(x, 1, 1)
    model.train(training)
    with torch.no_grad():
        output = model(images, torch.Generator().manual_seed(7))
    torch.testing.assert_close(output.raw, mean)
    torch.testing.assert_close(output.reconstruction, x)


@every_model
def test_every_model_reconstructs_pictures_of_its_form(build):
    model, images = build(), torch.rand(4, 1, 16, 16)
    output = model(images)
    assert output.reconstruction.shape == images.shape
    assert output.raw.shape == output.log_variance.shape == (4, 3)
    assert torch.allclose(output.z.norm(dim=1), torch.ones(4))
    shown = model.pixels(output.reconstruction)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_wild_log_variances_are_clamped_and_stay_finite():
    model = mlp_vae(dim=2, hidden=4, size=16)
    with torch.no_grad():
        model.log_variance.bias.copy_(torch.tensor([1e4, -1e4]))
    output = model(torch.rand(3, 1, 16, 16))
    assert output.log_variance[0].tolist() == [HIGHEST, LOWEST] == [20, -30]
    assert torch.isfinite(output.reconstruction).all()


def test_both_heads_are_in_single_precision_under_autocast():
    model, images = mlp_vae(dim=3, hidden=8, size=16), torch.rand(2, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = model(images)
        features = model.encoder(images)
    assert features.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(output.raw, model.mean(features.float()))
        assert torch.equal(output.log_variance, model.log_variance(features.float()))
    assert output.reconstruction.dtype == torch.float32


def test_noise_in_training_is_torchs_own_and_in_evaluation_its_own():
    model, images = mlp_vae(size=16), torch.rand(2, 1, 16, 16)
    torch.manual_seed(0)
    first, second = model(images).reconstruction, model(images).reconstruction
    torch.manual_seed(0)
    assert torch.equal(model(images).reconstruction, first)
    assert not torch.equal(first, second)
    model.eval()
    before = torch.get_rng_state()
    assert torch.equal(model(images).reconstruction, model(images).reconstruction)
    assert torch.equal(torch.get_rng_state(), before)
    mean = model.encode(images).mean.raw
    assert not torch.equal(model(images).reconstruction, model.decode(mean))  # there is noise too


def test_samples_of_a_posterior_have_its_moments():
    mean = torch.tensor([[1.0, -2.0]]).expand(20_000, 2)
    log_variance = torch.tensor([[0.0, -2.0]]).expand(20_000, 2)
    model = mlp_vae(dim=2, size=16).eval()
    drawn = model.sample(Posterior(Embedded.of(mean), log_variance))
    assert torch.allclose(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.03)
    assert torch.allclose(drawn.var(0).log(), torch.tensor([0.0, -2.0]), atol=0.05)


@every_model
def test_a_saved_model_comes_back_with_the_same_rows_and_pictures(build, tmp_path):
    model, images = build().eval(), torch.rand(3, 1, 16, 16)
    twin = load(save(model, tmp_path))
    assert isinstance(twin, VAE)
    assert twin.architecture == model.architecture
    assert twin.output == model.output
    for one, other in zip(model(images), twin(images), strict=True):
        assert torch.equal(one, other)


def test_embedding_gives_unit_means_without_noise_or_moving_random_numbers():
    model, data = mlp_vae(dim=3, size=16), pictures()
    before = torch.get_rng_state()
    rows = embed(model, data, precision="32-true").z
    assert torch.equal(torch.get_rng_state(), before)
    images = data.batch(np.arange(12)).images
    torch.testing.assert_close(rows, model.encode(images).mean.z.detach())
    torch.testing.assert_close(rows, rows_of(model(images)).detach())


def test_evaluation_reads_an_autoencoder_as_any_model():
    report = tp.evaluate(mlp_vae(dim=3, size=16), pictures(), clustering=False)
    assert report.retrieval.as_dict()["n_queries"] == 12


def test_a_saved_model_is_loaded_with_its_frame_and_identity(tmp_path):
    model, data = mlp_vae(dim=3, size=16).eval(), pictures()
    folder = save(model, tmp_path, about={"pictures": data.frame._asdict()})
    trained = tp.load(folder)
    assert trained.embed(np.zeros((20, 16), np.uint8)).shape == (1, 3)
    assert trained.identity == tp.load(folder).identity


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: mlp_vae(dim=0), "dim must be at least 1, got 0"),
        (lambda: mlp_vae(hidden=0), "features must be at least 1, got 0"),
        (lambda: mlp_vae(size=0), "size must be at least 1, got 0"),
        (lambda: conv_vae(dim=0), "dim must be at least 1, got 0"),
        (lambda: conv_vae(size=40), "size must be a multiple of 16, .* got 40"),
        (lambda: conv_vae(size=0), "size must be a multiple of 16, .* got 0"),
        (lambda: conv_vae(output="sound"), "output must be 'logits' or 'pixels', got 'sound'"),
    ],
)
def test_impossible_models_are_refused(build, text):
    with pytest.raises(InputError, match=text):
        build()


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (2, 1, 28, 14)])
def test_pictures_of_another_form_are_refused(shape):
    with pytest.raises(InputError, match=r"takes pictures of 1 x 28 x 28, got a batch .*size=28"):
        mlp_vae()(torch.rand(shape))
