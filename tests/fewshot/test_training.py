"""Few-shot learners in the loop that trains everything."""

import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import (
    ByEpisodes,
    Episodes,
    FewShot,
    FullContext,
    LargeMargin,
    Layout,
    Matching,
    OnEpisodes,
    Prototypical,
    conv4,
    evaluate,
    load,
    prototype_triplets,
)
from tupelo.training import Judge, Settings, fit

LAYOUT = Layout(3, 1, 2)


def learner(head, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FewShot(conv4(width=4), head(), mean=(1.0,), std=(-1.0,))


HEADS = {
    "euclidean": Prototypical,
    "cosine": lambda: Prototypical("cosine"),
    "matching": lambda: Matching("cosine"),
    "fce": lambda: Matching("cosine", fce=FullContext(4)),
}


def trained(model, data, *, steps, margin=False, **more):
    objective = OnEpisodes(
        model.head,
        LAYOUT,
        margin=LargeMargin(prototype_triplets(LAYOUT)) if margin else None,
        warmup_steps=6 if margin else 0,
    )
    settings = Settings(
        steps=steps,
        lr=1e-2,
        weight_decay=0.0,
        optimizer="adam",
        schedule="constant",
        precision="float32",
        checkpoint_every=2,
        tensorboard=False,
    )
    batches = Episodes(data.labels, LAYOUT, per_epoch=5)
    return fit(model, objective, data, settings=settings, batches=batches, **more), objective


@pytest.mark.parametrize("head", HEADS)
def test_training_teaches(characters, head):
    data, other = characters(classes=12), characters(classes=6, seed=1)
    model = learner(HEADS[head])
    before = evaluate(model, other, LAYOUT, episodes=100).mean
    trained(model, data, steps=40)
    assert evaluate(model, other, LAYOUT, episodes=100).mean > before + 0.05


def test_an_interrupted_run_goes_on_bit_for_bit(characters, tmp_path):
    data = characters()
    whole, parts = learner(HEADS["fce"]), learner(HEADS["fce"])
    _, first = trained(whole, data, steps=13, margin=True)

    def interrupt(progress):
        if (progress.epoch, progress.batch) == (2, 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(parts, data, steps=13, margin=True, out=tmp_path, progress=interrupt)
    again = learner(HEADS["fce"], seed=5)  # other weights, which the checkpoint replaces
    _, second = trained(again, data, steps=13, margin=True, out=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert torch.equal(first.margin.present_margin, second.margin.present_margin)
    assert int(second.steps) == 13


def test_the_run_keeps_a_learner_that_loads(characters, tmp_path):
    model = learner(Prototypical)
    trained(model, characters(), steps=3, out=tmp_path)
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(load(tmp_path / "model")(images).raw, model.eval()(images).raw)


def test_the_judge_chooses_the_best_weights(characters, tmp_path):
    model = learner(Prototypical)
    judge = ByEpisodes(characters(seed=1), LAYOUT, episodes=30)
    run, _ = trained(model, characters(), steps=20, out=tmp_path, judge=Judge(judge, "accuracy"))
    told = [row["val/accuracy"] for row in run.history if "val/accuracy" in row]
    assert len(told) == 4  # once an epoch
    assert run.best["accuracy"] == max(told)
    assert judge(model)["accuracy"] == max(told)
    again, _ = trained(
        learner(Prototypical), characters(), steps=20, out=tmp_path, judge=Judge(judge, "accuracy")
    )
    assert again.best == run.best


def test_judges_are_checked(characters):
    model, data = learner(Prototypical), characters()
    with pytest.raises(InputError, match="give validate or judge, not both"):
        trained(model, data, steps=1, validate=data, judge=Judge(lambda _: {}, "accuracy"))
    with pytest.raises(InputError, match=r"judge.best must be .* got 'accuracy'; it measures loss"):
        trained(model, data, steps=1, judge=Judge(lambda _: {"loss": 1.0}, "accuracy"))
