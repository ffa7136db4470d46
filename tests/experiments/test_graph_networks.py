"""GNN and L-GNN on five alphabets of Omniglot: what a short run can and cannot show.

Half the published width, one picture a class, 24 episodes a step, 600 steps; 2,000 episodes of one
query from three other alphabets. Which of the two is better after so short a run means nothing, so
nothing is asserted of it; docs/graph-few-shot.md has the numbers, and those of long runs.
"""

import copy
import os
from functools import cache

import numpy as np
import pytest
import torch

from tupelo.data import known, rotated
from tupelo.fewshot import (
    Episodes,
    FewShot,
    GraphHead,
    LargeMargin,
    Layout,
    OnEpisodes,
    evaluate,
    graph_encoder,
    graph_triplets,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="Omniglot is read from TUPELO_DATA"),
]
TRAIN = ("Korean", "Latin", "Greek", "Balinese", "Early_Aramaic")
TEST = ("Japanese_(katakana)", "Sanskrit", "Tagalog")
LAYOUT = Layout(5, 1, 1, per_batch=24, query_ways=1)
STEPS = 600


@cache
def parts():
    """136 characters in four turns each, and 106 others."""
    data = known("omniglot", size=28, channels=1, validation=0)
    found = []
    for alphabets in (TRAIN, TEST):
        for part in (data.train, data.test):
            names = np.array([name.split("/")[0] for name in part.class_names])
            rows = np.flatnonzero(np.isin(names[part.labels], alphabets))
            if len(rows):
                found.append(part.subset(rows))
    return found


def ratio(model, batch):
    """Mean squared distance of nodes of different slots over that of the same, in one batch."""
    model = copy.deepcopy(model).train()
    with torch.no_grad():
        support, queries = LAYOUT.split(model(batch.images).raw)
        slots = LAYOUT.slots(batch.labels)[0]
        nodes = model.head.nodes(support, slots, queries, ways=5)[:, 1:].flatten(0, 1)
    squares, slots = torch.cdist(nodes, nodes).square(), slots.flatten()
    same = slots[:, None] == slots
    own = torch.eye(len(slots), dtype=torch.bool)
    return float(squares[~same].mean() / squares[same & ~own].mean())


@cache
def trained(weight, embed="concat", seed=0):
    """Accuracy, the margin loss of every step, and the ratio before and after."""
    train, test = parts()
    train = rotated(train)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = GraphHead(32, 5, variant="miniimagenet", growth=24, embed=embed)
        model = FewShot(graph_encoder(width=32, dim=32), head, mean=(1.0,), std=(-1.0,))
        margin = LargeMargin(graph_triplets(LAYOUT)) if weight else None
        objective = OnEpisodes(head, LAYOUT, margin=margin, weight=weight)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        plan = Episodes(train.labels, LAYOUT, per_epoch=STEPS, seed=seed).epoch(0)
        probe = train.batch(plan[0])
        before, losses = ratio(model, probe), []
        for rows in plan:
            batch = train.batch(rows)
            value = objective(model(batch.images), batch.labels)
            optimizer.zero_grad()
            value.total.backward()
            optimizer.step()
            losses.append(float(value.parts.get("margin", 0.0)))
    judged = Layout(5, 1, 1, query_ways=1)
    accuracy = evaluate(model, test, judged, episodes=2000).mean
    return accuracy, losses, (before, ratio(model, probe))


def test_both_are_far_above_chance():
    assert trained(0.0)[0] > 0.2 + 0.25
    assert trained(1.0)[0] > 0.2 + 0.25


def test_the_margin_is_learned():
    _, losses, (before, after) = trained(1.0)
    assert np.mean(losses[-50:]) < 0.8 * np.mean(losses[:50])
    assert after > before
