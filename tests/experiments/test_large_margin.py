"""What a large margin does for prototypes, in minutes: eight alphabets, a narrow encoder.

    TUPELO_DATA=... pytest -m slow tests/experiments/test_large_margin.py    # about 6 minutes

Setting as in docs/large-margin-few-shot.md: Conv4-32, 400 training episodes of 20 ways, 1 shot and
5 queries from five alphabets in four turns; tested on three others.
"""

import os

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet, known, rotated
from tupelo.fewshot import (
    Episodes,
    FewShot,
    LargeMargin,
    Layout,
    OnEpisodes,
    Prototypical,
    conv4,
    evaluate,
    prototype_triplets,
)
from tupelo.training import Settings, fit

TRAIN = ("Korean", "Latin", "Greek", "Balinese", "Early_Aramaic")
TEST = ("Japanese_(katakana)", "Sanskrit", "Tagalog")
LAYOUT = Layout(ways=20, shots=1, queries=5)
TASKS = {"5w1s": (5, 1), "20w1s": (20, 1), "5w5s": (5, 5)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set"),
]


@pytest.fixture(scope="module")
def pictures() -> tuple[ImageSet, ImageSet]:
    background = known("omniglot", size=28, channels=1, validation=0).train
    names = np.array([name.split("/")[0] for name in background.class_names])
    parts = [
        background.subset(np.flatnonzero(np.isin(names[background.labels], alphabets)))
        for alphabets in (TRAIN, TEST)
    ]
    train, test = rotated(parts[0]), parts[1]
    assert (train.n_classes, test.n_classes) == (544, 106)
    return train, test


@pytest.fixture(scope="module")
def accuracy(pictures):
    """Accuracy of a distance, with and without a large margin, in each task."""
    train, test = pictures
    found = {}
    for distance in ("euclidean", "cosine"):
        for margin in (False, True):
            torch.manual_seed(0)
            model = FewShot(conv4(width=32), Prototypical(distance), mean=(1.0,), std=(-1.0,))
            loss = LargeMargin(prototype_triplets(LAYOUT)) if margin else None
            fit(
                model,
                OnEpisodes(model.head, LAYOUT, margin=loss),
                train,
                settings=Settings(steps=400, lr=1e-3, weight_decay=0.0, optimizer="adam"),
                batches=Episodes(train.labels, LAYOUT),
            )
            found[distance, margin] = {
                name: evaluate(model, test, Layout(*task, 10), episodes=600).mean
                for name, task in TASKS.items()
            }
    return found


@pytest.mark.parametrize("task", TASKS)
def test_euclidean_distances_are_far_above_cosines_without_a_scale(accuracy, task):
    assert accuracy["euclidean", False][task] > accuracy["cosine", False][task] + 0.10


@pytest.mark.parametrize("task", TASKS)
def test_a_large_margin_repairs_cosines(accuracy, task):
    assert accuracy["cosine", True][task] > accuracy["cosine", False][task] + 0.10


@pytest.mark.parametrize("task", TASKS)
def test_a_large_margin_changes_little_with_euclidean_distances(accuracy, task):
    assert abs(accuracy["euclidean", True][task] - accuracy["euclidean", False][task]) < 0.02
