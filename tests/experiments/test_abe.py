"""A1 and A2: what the divergence does to learners, on Omniglot from scratch.

A small ConvNet on 136 characters at 14 x 14 pixels, 32 dimensions of 4 learners, 16 x 4 batches,
300 steps; Recall@1 on 78 characters of other alphabets. docs/abe.md has the numbers.
"""

import os
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch

from tupelo import evaluation
from tupelo.data import ClassBalanced, known
from tupelo.ensembles import attention_based
from tupelo.inference import rows_of
from tupelo.losses import SquaredContrastive
from tupelo.models import ConvNet, attentive, embedder, many_heads
from tupelo.objectives import OnPairs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="Omniglot is read from TUPELO_DATA"),
]
STEPS, TRAIN, TEST = 300, 136, 78
WIDTHS = (16, 32, 64, 64)
MODELS = {"attention": attentive, "heads": many_heads}


@cache
def parts():
    """Pictures and labels of both parts."""
    data = known("omniglot", size=14, channels=1, validation=0)
    found = []
    for part, classes in ((data.train, TRAIN), (data.test, TEST)):
        rows = np.flatnonzero(np.isin(part.labels, np.unique(part.labels)[:classes]))
        labels = np.unique(part.labels[rows], return_inverse=True)[1]
        found.append((part.batch(rows).images, labels))
    return found


def recall(z, labels):
    return evaluation.retrieval(z.numpy(), labels, ks=(1,)).as_dict()["recall@1"]


@cache
def trained(kind, learners, divergence, seed):
    """Recall@1 of the ensemble, the mean of its learners, and the cosine of self pairs."""
    (images, labels), (unseen, classes) = parts()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ConvNet(channels=1, widths=WIDTHS)
        model = MODELS[kind](embedder(network, dim=32, channels=1, size=14), learners)
        objective = attention_based(OnPairs(SquaredContrastive()), learners, divergence=divergence)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        batches, step, epoch = ClassBalanced(labels, classes=16, per_class=4, seed=seed), 0, 0
        while step < STEPS:
            for batch in batches.epoch(epoch)[: STEPS - step]:
                value = objective(model(images[batch]), torch.as_tensor(labels[batch]))
                optimizer.zero_grad()
                value.total.backward()
                optimizer.step()
                step += 1
            epoch += 1
        model.eval()
        with torch.no_grad():
            output = model(unseen)
    alone = np.mean([recall(one.z, classes) for one in output])
    cosines = [float((a.z * b.z).sum(1).mean()) for a, b in combinations(output, 2)]
    return recall(rows_of(output), classes), alone, np.mean(cosines) if cosines else 1.0


@pytest.mark.parametrize("seed", range(2))
def test_divergence_makes_learners_differ(seed):
    """A1: without it masks alone leave learners alike; heads of their own differ anyway."""
    assert trained("attention", 4, 0.0, seed)[2] > 0.85
    assert trained("attention", 4, 1.0, seed)[2] < 0.5
    assert abs(trained("heads", 4, 0.0, seed)[2]) < 0.3
    assert abs(trained("heads", 4, 1.0, seed)[2]) < 0.3


@pytest.mark.parametrize("seed", range(2))
def test_learners_that_differ_gain_more_together(seed):
    """A2: the ensemble's lead over the mean of its learners."""
    gain = {
        weight: np.subtract(*trained("attention", 4, weight, seed)[:2]) for weight in (0.0, 1.0)
    }
    assert gain[1.0] > gain[0.0] + 0.05
