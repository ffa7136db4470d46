"""Graph networks in the loop that trains everything."""

import pytest
import torch

from tupelo.fewshot import (
    Episodes,
    FewShot,
    GraphHead,
    LargeMargin,
    Layout,
    NormalisedContrastive,
    OnEpisodes,
    arc_face,
    cos_face,
    evaluate,
    graph_encoder,
    graph_triplets,
    load,
    norm_face,
)
from tupelo.training import Settings, fit

LAYOUT = Layout(3, 2, 1, per_batch=4, query_ways=1)
SEMI = Layout(3, 2, 1, per_batch=4, query_ways=1, unlabelled=1)
LOSSES = {"norm_face": norm_face, "cos_face": cos_face, "arc_face": arc_face}
MARGINS = {
    "raw": LargeMargin,
    "unit": lambda table: LargeMargin(table, margin=0.2, normalised=True),
    "contrastive": NormalisedContrastive,
}


def learner(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = GraphHead(8, 3, growth=4, **options)
        return FewShot(graph_encoder(width=4, dim=8), head, mean=(0.5,), std=(0.5,))


def trained(model, data, *, steps, layout=LAYOUT, margin=None, weight=1.0, loss=None, **more):
    objective = OnEpisodes(
        model.head,
        layout,
        margin=margin and MARGINS[margin](graph_triplets(layout)),
        weight=weight,
        loss=loss and LOSSES[loss](model.head),
    )
    settings = Settings(
        steps=steps,
        lr=1e-2,
        weight_decay=1e-6,
        optimizer="adam",
        schedule="halving",
        halve_every=10_000,
        precision="float32",
        checkpoint_every=2,
        tensorboard=False,
    )
    batches = Episodes(data.labels, layout, per_epoch=5)
    return fit(model, objective, data, settings=settings, batches=batches, **more), objective


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def test_episodes_of_one_query_are_right_or_wrong(characters):
    model = learner()
    run, _ = trained(model, characters(), steps=3)
    assert run.history[-1]["episodes"] == run.history[-1]["loss"]
    found = evaluate(model, characters(seed=1), LAYOUT, episodes=300)
    assert set(found.of_episodes) == {0.0, 1.0}


@pytest.mark.parametrize("margin", MARGINS)
def test_a_margin_without_weight_trains_the_baseline_bit_for_bit(characters, margin):
    plain, weightless, weighted = learner(), learner(), learner()
    trained(plain, characters(), steps=3)
    trained(weightless, characters(), steps=3, margin=margin, weight=0.0)
    trained(weighted, characters(), steps=3, margin=margin)
    assert all(map(torch.equal, weights(plain), weights(weightless)))
    assert not all(map(torch.equal, weights(plain), weights(weighted)))


@pytest.mark.parametrize("loss", LOSSES)
def test_angular_losses_train(characters, loss):
    model = learner(scale=10.0)
    run, _ = trained(model, characters(), steps=3, loss=loss)
    assert 0 < run.history[-1]["episodes"] < 2 * 10 + 3  # of cosines that all are wrong
    assert all(value.isfinite().all() for value in weights(model))


def test_semi_supervised_training_with_a_margin(characters):
    """Anchors, positives and negatives are labelled items; unlabelled ones are nodes."""
    model = learner(variant="miniimagenet")
    _, objective = trained(model, characters(), steps=3, layout=SEMI, margin="raw")
    table = objective.margin.table
    assert {int(node) % 7 for node in table.triplets.ravel()} == {2, 4, 6}
    assert evaluate(model, characters(seed=1), SEMI, episodes=20).mean >= 0


def test_an_interrupted_run_goes_on_bit_for_bit(characters, tmp_path):
    data, whole = characters(), learner()
    _, first = trained(whole, data, steps=8, margin="raw")

    def interrupt(progress):
        if (progress.epoch, progress.batch) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(learner(), data, steps=8, margin="raw", out=tmp_path, progress=interrupt)
    again = learner(seed=5)  # other weights, which the checkpoint replaces
    _, second = trained(again, data, steps=8, margin="raw", out=tmp_path)
    assert all(map(torch.equal, weights(again), weights(whole)))
    assert torch.equal(first.margin.present_margin, second.margin.present_margin)
    images = torch.rand(2, 1, 28, 28)
    loaded = load(tmp_path / "model")
    assert torch.equal(loaded(images).raw, again.eval()(images).raw)
    assert loaded.head.options() == again.head.options()
    task = torch.rand(1, 6, 8), torch.arange(3).repeat_interleave(2)[None], torch.rand(1, 2, 8)
    assert torch.equal(loaded.head(*task, ways=3), again.head.eval()(*task, ways=3))


def test_the_rule_is_half_the_mean_length_of_the_nodes_at_the_start(characters):
    data, model, untouched = characters(), learner(dropout=0.0), learner(dropout=0.0)
    _, objective = trained(model, data, steps=1, margin="raw")
    batch = data.batch(Episodes(data.labels, LAYOUT, per_epoch=5).epoch(0)[0])
    support, queries = LAYOUT.split(untouched(batch.images).raw)
    nodes = untouched.head.nodes(support, LAYOUT.slots(batch.labels)[0], queries, ways=3)
    expected = nodes.detach().norm(dim=2).mean() / 2
    assert float(objective.margin.present_margin) == pytest.approx(float(expected), rel=1e-5)
