"""What random meta-classes must show: the paper's claims that a processor can check.

Six members learn from 136 Omniglot characters for 255 steps each; Recall@1 is of 78 characters of
other alphabets. Members are two layers on the output of a random frozen convolution, so that one
takes seconds. The numbers stand in docs/dreml.md.
"""

import os
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from tupelo import evaluation
from tupelo.data import Shuffled, known
from tupelo.ensembles import MetaClassification, joined, meta_classes
from tupelo.objectives import OnClasses
from tupelo.types import Embedded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="Omniglot is read from TUPELO_DATA"),
]
TRAIN, TEST, MEMBERS, STEPS, BATCH = 136, 78, 6, 255, 128


class Scores(NamedTuple):
    """Recall@1 in percent: of the first 1, 2, ... members together, and of each alone."""

    together: list[float]
    alone: list[float]


@pytest.fixture(scope="module")
def features():
    """Features (n, 576) and labels of both parts, centred, of one scale."""
    data = known("omniglot", size=14, channels=1, validation=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
    parts = []
    for part, classes in ((data.train, TRAIN), (data.test, TEST)):
        rows = np.flatnonzero(np.isin(part.labels, np.unique(part.labels)[:classes]))
        labels = np.unique(part.labels[rows], return_inverse=True)[1]
        with torch.no_grad():
            parts.append((network(2 * part.batch(rows).images - 1), labels))
    mean, scale = parts[0][0].mean(0), parts[0][0].std()
    return [((rows - mean) / scale, labels) for rows, labels in parts]


def member(features, column, seed, **options):
    """Outputs of one member for the unseen characters."""
    (rows, labels), (unseen, _) = features
    meta = torch.as_tensor(column[labels])
    n_meta = int(column.max()) + 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, n_meta))
    objective = OnClasses(MetaClassification(n_meta, **options))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    batches = Shuffled(len(rows), BATCH, seed=seed)
    order = [batch for epoch in range(12) for batch in batches.epoch(epoch)]
    for batch in order[:STEPS]:
        value = objective(Embedded.of(model(rows[batch])), meta[batch])
        optimizer.zero_grad()
        value.total.backward()
        optimizer.step()
    with torch.no_grad():
        return model(unseen).numpy()


def scores(features, bags, **options):
    outputs = [member(features, column, seed, **options) for seed, column in enumerate(bags.T)]
    return Scores(
        [recall(outputs[: i + 1], features) for i in range(len(outputs))],
        [recall([output], features) for output in outputs],
    )


def recall(outputs, features):
    z = joined(outputs) / np.float32(np.sqrt(len(outputs)))
    report = evaluation.retrieval(z, features[1][1], ks=(1,))
    return round(100 * report.as_dict()["recall@1"], 1)


@pytest.fixture(scope="module")
def scored(features):
    """Scores by name of the setting, each trained once."""
    shared = np.repeat(meta_classes(TRAIN, 12, 1), MEMBERS, axis=1)
    found = {str(d): scores(features, meta_classes(TRAIN, d, MEMBERS)) for d in (4, 12, TRAIN)}
    found["shared"] = scores(features, shared)
    found["normalize"] = scores(features, meta_classes(TRAIN, 12, MEMBERS), normalize=True)
    return found


@pytest.mark.parametrize("name", ["4", "12"])
def test_an_ensemble_is_far_above_its_members_and_grows_with_them(scored, name):
    """Claim (a)."""
    together, alone = scored[name]
    assert together[-1] > max(alone) + 10
    assert together[0] < together[1] < together[3] < together[5]


def test_bags_of_their_own_are_clearly_above_one_shared_bag(scored):
    """Claim (b): without bags of their own only the start and the order of pictures differ."""
    assert scored["12"].together[-1] > scored["shared"].together[-1] + 3


def test_more_meta_classes_make_members_better_and_leave_less_to_gain(scored):
    """Claim (c)."""
    settings = [scored[name] for name in ("4", "12", "136")]
    single = [np.mean(alone) for _, alone in settings]
    gain = [together[-1] - np.mean(alone) for together, alone in settings]
    assert single[0] < single[1] < single[2]
    assert gain[0] > gain[2]
    assert gain[1] > gain[2]


def test_many_small_bags_beat_one_large_classifier(scored):
    """Claim (d): 6 members of 12 dimensions against one of 136."""
    assert scored["12"].together[-1] > scored["136"].together[0]
