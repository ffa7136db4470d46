import numpy as np
import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import (
    ByEpisodes,
    FewShot,
    Layout,
    Prototypical,
    conv4,
    draw_episodes,
    embed_once,
    evaluate,
    score,
)

LAYOUT = Layout(3, 2, 2)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FewShot(conv4(width=4), Prototypical(), mean=(1.0,), std=(-1.0,))


def naive(model, data, episodes):
    """Every picture anew in every episode, one episode after the other."""
    model.eval()
    found = []
    with torch.no_grad():
        for rows in episodes:
            z = model(data.batch(rows).images).raw
            prototypes = z[:6].view(3, 2, -1).mean(1)
            nearest = torch.cdist(z[6:], prototypes).argmin(1)
            found.append(float((nearest == torch.tensor([0, 0, 1, 1, 2, 2])).double().mean()))
    model.train()
    return np.array(found)


@pytest.mark.parametrize("at_once", [None, 1, 7])
def test_embedding_once_changes_nothing(model, characters, at_once):
    data = characters()
    found = evaluate(model, data, LAYOUT, episodes=20, seed=4, at_once=at_once)
    expected = naive(model, data, draw_episodes(data.labels, LAYOUT, 20, seed=4))
    assert np.array_equal(found.of_episodes, expected)
    assert found.mean == pytest.approx(expected.mean())
    assert found.interval == pytest.approx(1.96 * expected.std() / np.sqrt(20))
    assert str(found).endswith("% (95 % interval over 20 episodes)")


def test_modes_and_statistics_stay(model, characters):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.encoder.eval()
    evaluate(model, characters(), LAYOUT, episodes=3)
    assert model.training
    assert not model.encoder.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_progress_tells_a_running_interval(model, characters):
    told = []
    found = evaluate(model, characters(), LAYOUT, episodes=10, at_once=4, progress=told.append)
    assert [running.episodes for running in told] == [4, 8, 10]
    assert told[-1] == (10, 10, found.mean, found.interval)
    assert told[0].mean == pytest.approx(found.of_episodes[:4].mean())


def test_embeddings_are_those_of_the_model(model, characters):
    data = characters(classes=40)  # more than a batch
    model.eval()
    with torch.no_grad():
        whole = model(data.batch(np.arange(len(data))).images).raw
    torch.testing.assert_close(embed_once(model, data), whole)


def test_an_encoder_without_weights(characters):
    pixels = FewShot(torch.nn.Flatten(), Prototypical())
    assert evaluate(pixels, characters(), LAYOUT, episodes=5).mean > 0.5


def test_the_judge_measures_the_same_episodes_each_time(model, characters):
    judge = ByEpisodes(characters(), LAYOUT, episodes=15, seed=2)
    first = judge(model)
    assert first == judge(model)
    assert first == {
        "accuracy": evaluate(model, characters(), LAYOUT, episodes=15, seed=2).mean,
        "interval": first["interval"],
    }


def test_refusals(model, characters):
    data = characters()
    with pytest.raises(InputError, match="at_once must be at least 1 episode, got 0"):
        evaluate(model, data, LAYOUT, episodes=2, at_once=0)
    with pytest.raises(InputError, match="must hold at least one picture, got none"):
        embed_once(model, data.subset([]))
    episodes = draw_episodes(data.labels, LAYOUT, 2)
    episodes[1, 6] = episodes[1, 0]  # a query that is its own support
    with pytest.raises(InputError, match="an item must occur once in an episode"):
        score(model.head, torch.rand(len(data), 4), data.labels, episodes, LAYOUT)
