"""TVAE in the training loop: learns, resumes bit for bit, names what diverges, mixes no meters."""

import copy

import pytest
import torch

import tupelo as tp
from tupelo.errors import CheckpointError, TrainingDiverged
from tupelo.generative import (
    Bernoulli,
    ByTriplets,
    FreshTriplets,
    TripletBatches,
    TripletVAE,
    means,
    random_triplets,
    triplet_accuracy,
)
from tupelo.models import Autoencoded, load, mlp_vae
from tupelo.training import Judge, Settings, fit

SETTINGS = Settings(
    epochs=2, lr=1e-2, weight_decay=0.0, optimizer="adam", schedule="constant", log_every=1,
    precision="float32", tensorboard=False,
)  # fmt: skip


def batches(pictures, seed=0) -> TripletBatches:
    return TripletBatches(random_triplets(pictures.labels, 60, seed=seed), per_batch=20)


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_training_separates_classes_and_reconstructs(model, pictures):
    triplets = random_triplets(pictures.labels, 500, seed=9)
    settings = Settings(**{**SETTINGS.as_dict(), "epochs": 30, "step_at": (0.5,)})
    run = fit(model, TripletVAE(), pictures, batches=batches(pictures), settings=settings)
    assert triplet_accuracy(means(model, pictures), triplets).accuracy > 0.99
    column = [row["negative_elbo"] for row in run.history if "negative_elbo" in row]
    assert column[-1] < column[0]
    assert {"reconstruction", "kl", "triplet", "regulariser"} <= set(run.history[0])


@pytest.mark.parametrize("fresh", [False, True])
def test_an_interrupted_run_goes_on_bit_for_bit(model, pictures, tmp_path, fresh):
    maker = FreshTriplets(pictures.labels, 60, per_batch=20) if fresh else batches(pictures)
    whole, broken = copy.deepcopy(model), copy.deepcopy(model)
    settings = Settings(**{**SETTINGS.as_dict(), "checkpoint_every": 1, "step_at": (0.5,)})
    options = {"batches": maker, "settings": settings}
    fit(whole, TripletVAE(), pictures, out=tmp_path / "whole", **options)

    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.epoch == 2 and progress.batch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(broken, TripletVAE(), pictures, out=tmp_path / "broken", progress=kill, **options)
    resumed = copy.deepcopy(model)
    fit(resumed, TripletVAE(), pictures, out=tmp_path / "broken", **options)
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    saved = load(tmp_path / "whole" / "model")
    assert all(map(torch.equal, weights(whole), weights(saved)))
    assert tp.load(tmp_path / "whole").frame == pictures.frame


def test_another_list_of_triplets_is_another_run(model, pictures, tmp_path):
    fit(model, TripletVAE(), pictures, batches=batches(pictures), out=tmp_path, settings=SETTINGS)
    with pytest.raises(CheckpointError, match=r"belongs to another run: batches.digest was"):
        fit(model, TripletVAE(), pictures, batches=batches(pictures, 1), out=tmp_path,
            settings=SETTINGS)  # fmt: skip


def test_test_triplets_never_enter_the_means_of_training(model, pictures):
    """In the notebook of the published number one running mean took both."""
    plain, judged = copy.deepcopy(model), copy.deepcopy(model)
    options = {"batches": batches(pictures), "settings": SETTINGS}
    alone = fit(plain, TripletVAE(), pictures, **options)
    held_out = pictures.subset(range(30))
    judge = Judge(ByTriplets(held_out, random_triplets(held_out.labels, 300)), best="choice")
    both = fit(judged, TripletVAE(), pictures, judge=judge, **options)
    for one, other in zip(alone.history, both.history, strict=True):
        assert one.get("triplet_accuracy") == other.get("triplet_accuracy")
    assert "val/accuracy" in both.history[-1]


class Broken(Bernoulli):
    def forward(self, reconstruction, images):
        return super().forward(reconstruction, images) * float("nan")


@pytest.mark.parametrize(
    ("objective", "term"),
    [
        (TripletVAE(reconstruction=Broken()), "reconstruction"),
        (TripletVAE(weight_vae=0.0, weight_regulariser=3e38), "regulariser"),
    ],
)
def test_a_loss_that_is_nan_or_infinite_stops_with_its_term(model, pictures, objective, term):
    with torch.no_grad():
        model.mean.bias += 1e3
    with pytest.raises(TrainingDiverged, match=rf"\b{term}\b"):
        fit(model, objective, pictures, batches=batches(pictures), settings=SETTINGS)


def test_training_in_chunks_has_the_same_gradients(pictures):
    """Distances, norms and the ELBO of a batch that is embedded in pieces."""
    torch.manual_seed(0)
    model = mlp_vae(dim=3, hidden=8, size=8)
    with torch.no_grad():
        model.log_variance.weight.zero_()
        model.log_variance.bias.fill_(-30.0)  # no noise, which differs between the two
    found = []
    for chunk in (None, 20):
        twin = copy.deepcopy(model)
        settings = Settings(
            **{**SETTINGS.as_dict(), "epochs": 1, "chunk": chunk, "step_at": (0.5,)}
        )
        fit(twin, TripletVAE(), pictures, batches=batches(pictures), settings=settings)
        found.append(weights(twin))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-2)


def test_the_record_keeps_its_type_through_the_loop(model, pictures):
    seen = []

    class Looking(TripletVAE):
        def begin_epoch(self, embed_train):
            seen.extend(type(output) for output, _ in embed_train())

    fit(model, Looking(), pictures, batches=batches(pictures), settings=SETTINGS)
    assert set(seen) == {Autoencoded}
